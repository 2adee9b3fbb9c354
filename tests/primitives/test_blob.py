"""A blob's root names one blob, and a chunk can be proven alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.blob import CHUNK_BYTES, blob_root, chunk_count, chunk_proof, verify_chunk

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5 * CHUNK_BYTES + 7]


def blob(size: int) -> bytes:
    return (b"%07d" % size * (size // 7 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_every_chunk_is_proven_and_nothing_else(size: int) -> None:
    data = blob(size)
    root = blob_root(data)
    for index in range(chunk_count(size)):
        chunk = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        proof = chunk_proof(data, index)
        assert verify_chunk(root, size, index, chunk, proof)
        assert not verify_chunk(root, size + 1, index, chunk, proof)
        assert not verify_chunk(root, size, index + 1, chunk, proof)
        assert not verify_chunk(root, size, index, chunk, [*proof, bytes(32)])
        assert not verify_chunk(root, size, index, chunk, proof[:-1]) or not proof
        assert not verify_chunk(root, size, index, b"x" + chunk[1:], proof) or chunk[:1] in (b"x", b"")
        assert not verify_chunk(root, size, index, chunk + b"x", proof)
        assert not verify_chunk(bytes(32), size, index, chunk, proof)


def test_different_blobs_have_different_roots() -> None:
    blobs = [blob(size) for size in SIZES] + [b"\0", b"\0" * 2, blob_root(b"")]
    assert len({blob_root(data) for data in blobs}) == len(blobs)
    # Two chunks' hashes as a blob of their own are not the branch above them.
    data = blob(2 * CHUNK_BYTES)
    assert blob_root(b"".join(chunk_proof(data, index)[0] for index in (1, 0))) != blob_root(data)


@given(st.integers(-5, 1 << 70), st.integers(-5, 1 << 70), st.binary(max_size=40), st.lists(st.binary(max_size=33)))
@settings(max_examples=60, deadline=None)
def test_a_forged_proof_is_false_and_never_raises(length: int, index: int, chunk: bytes, proof: list[bytes]) -> None:
    assert not verify_chunk(blob_root(b"something else"), length, index, chunk, proof)


def test_there_is_no_proof_beyond_the_last_chunk() -> None:
    with pytest.raises(IndexError, match="1 chunks, got index 1"):
        chunk_proof(b"short", 1)
