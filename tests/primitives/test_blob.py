"""A blob's root names one blob, and a chunk can be proven alone."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.blob import (
    CHUNK_BYTES,
    BlobHasher,
    ChunkError,
    answer_bytes_max,
    blob_root,
    blob_tree,
    chunk_count,
    decode_chunks,
    encode_chunks,
    proof_count,
    verify_chunk,
)

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5 * CHUNK_BYTES + 7]


def blob(size: int) -> bytes:
    return (b"%07d" % size * (size // 7 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
def test_every_chunk_is_proven_and_nothing_else(size: int) -> None:
    data = blob(size)
    root, tree = blob_root(data), blob_tree(data)
    assert (tree.root, tree.length) == (root, size)
    for index in range(chunk_count(size)):
        chunk = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        proof = tree.proof(index)
        assert tree.holds(index, chunk)
        assert not tree.holds(index, chunk + b"x")
        assert not tree.holds(index + 1, chunk)
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
    assert blob_root(b"".join(blob_tree(data).proof(index)[0] for index in (1, 0))) != blob_root(data)


@given(st.sampled_from(SIZES), st.lists(st.integers(0, 2 * CHUNK_BYTES), max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_blob_that_comes_in_pieces_has_the_same_tree(size: int, pieces: list[int]) -> None:
    data, whole = blob(size), blob_tree(blob(size))
    hasher, start = BlobHasher(), 0
    for piece in [*pieces, size]:
        hasher.update(data[start : start + piece])
        start += piece
    tree = hasher.tree()
    assert (tree.root, tree.length) == (whole.root, size)
    assert [tree.proof(index) for index in range(chunk_count(size))] == [
        whole.proof(index) for index in range(chunk_count(size))
    ]


def plain_root(data: bytes) -> bytes:
    """The root as the definition says it, one hash after the other."""

    def hashed(person: bytes, content: bytes) -> bytes:
        return blake2b(content, digest_size=32, person=person).digest()

    level = [hashed(b"potchain.leaf", data[at : at + CHUNK_BYTES]) for at in range(0, max(len(data), 1), CHUNK_BYTES)]
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [hashed(b"potchain.branch", b"".join(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
    return hashed(b"potchain.blob", len(data).to_bytes(8, "little") + level[0])


@pytest.mark.parametrize("size", SIZES)
def test_a_root_is_what_the_definition_says(size: int) -> None:
    assert blob_root(blob(size)) == plain_root(blob(size))


@given(st.integers(-5, 1 << 70), st.integers(-5, 1 << 70), st.binary(max_size=40), st.lists(st.binary(max_size=33)))
@settings(max_examples=60, deadline=None)
def test_a_forged_proof_is_false_and_never_raises(length: int, index: int, chunk: bytes, proof: list[bytes]) -> None:
    assert not verify_chunk(blob_root(b"something else"), length, index, chunk, proof)


def test_there_is_no_proof_beyond_the_last_chunk() -> None:
    with pytest.raises(IndexError, match="1 chunks, got index 1"):
        blob_tree(b"short").proof(1)


def answer(data: bytes, first: int, count: int) -> bytes:
    tree = blob_tree(data)
    indices = range(first, min(first + count, chunk_count(len(data))))
    return encode_chunks(
        len(data), [(data[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES], tree.proof(at)) for at in indices]
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_range_of_chunks_is_read_back_from_an_answer(size: int) -> None:
    data = blob(size)
    width = chunk_count(size)
    for first in range(width):
        assert proof_count(size, first) == len(blob_tree(data).proof(first))
        for count in (1, 2, width):
            found = answer(data, first, count)
            assert len(found) <= answer_bytes_max(count)
            expected = data[first * CHUNK_BYTES : (first + count) * CHUNK_BYTES]
            assert decode_chunks(blob_root(data), first, count, found) == (size, expected)


def test_an_answer_with_any_other_byte_length_or_place_is_refused() -> None:
    data = blob(5 * CHUNK_BYTES + 7)
    root, right = blob_root(data), answer(data, 2, 2)
    wrong = [b"", right[:7], right[:8], right[:-1], right + b"x", answer(data, 1, 2), answer(data, 2, 1)]
    wrong += [right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :] for at in (0, 7, 8, 39, 8 + 3 * 32, len(right) - 1)]
    for each in wrong:
        with pytest.raises(ChunkError):
            decode_chunks(root, 2, 2, each)
    with pytest.raises(ChunkError):
        decode_chunks(bytes(32), 2, 2, right)
    with pytest.raises(ChunkError):
        decode_chunks(root, 6, 1, answer(data, 5, 1))
