"""The blob store on a real disk: what it returns hashes to its root, whatever happened to the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.blobs import BlobStore, BlobStoreFull
from chain.primitives.blob import CHUNK_BYTES, blob_root, verify_chunk

KIB = 1024


def blob(seed: int, size: int = 10 * KIB) -> bytes:
    return bytes([seed]) * size


def only_file(path: Path, root: bytes) -> Path:
    (file,) = path.glob(f"??/{root.hex()}")
    return file


def test_a_blob_is_found_under_its_root_also_after_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 100 * KIB)
    root = store.put(blob(1))
    assert root == blob_root(blob(1))
    for again in (store, BlobStore(tmp_path, 100 * KIB)):
        assert again.get(root) == blob(1)
        assert again.has(root)
        assert again.bytes_used == 10 * KIB
    assert store.get(blob_root(b"other")) is None
    assert not store.has(blob_root(b"other"))


def test_the_same_blob_is_stored_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 100 * KIB)
    assert store.put(blob(1)) == store.put(blob(1))
    assert store.bytes_used == 10 * KIB


def test_what_was_used_longest_ago_makes_room_and_pinned_blobs_never_do(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 30 * KIB)
    first, second, third = (store.put(blob(i)) for i in (1, 2, 3))
    store.pin(second)
    assert store.get(first) is not None
    fourth = store.put(blob(4))
    assert [store.has(root) for root in (first, second, third, fourth)] == [True, True, False, True]
    fifth, sixth = store.put(blob(5)), store.put(blob(6))
    assert [store.has(root) for root in (first, second, fifth, sixth)] == [False, True, True, True]
    store.unpin(second)
    store.put(blob(7))
    assert not store.has(second)
    assert store.bytes_used == 30 * KIB


def test_a_blob_that_cannot_fit_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 30 * KIB)
    pinned, other = store.put(blob(1)), store.put(blob(2))
    store.pin(pinned)
    with pytest.raises(BlobStoreFull, match="a blob of 25600 bytes does not fit: 10240 of 30720 bytes are pinned"):
        store.put(blob(3, 25 * KIB))
    assert store.has(pinned)
    assert store.has(other)


def test_a_damaged_file_counts_as_missing_and_can_be_stored_anew(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 100 * KIB)
    root = store.put(blob(1))
    only_file(tmp_path, root).write_bytes(blob(2))
    assert store.get(root) is None
    assert not store.has(root)
    assert store.bytes_used == 0
    store.put(blob(1))
    assert store.get(root) == blob(1)
    only_file(tmp_path, root).unlink()
    assert store.get(root) is None


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    root = BlobStore(tmp_path, 100 * KIB).put(blob(1))
    part = only_file(tmp_path, root).with_suffix(".part")
    part.write_bytes(b"half")
    store = BlobStore(tmp_path, 100 * KIB)
    assert not part.exists()
    assert store.bytes_used == 10 * KIB


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    foreign = tmp_path / "no" / "blob"
    foreign.write_text("keep me")
    assert BlobStore(tmp_path, KIB).bytes_used == 0
    assert foreign.exists()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES])
def test_every_chunk_comes_with_its_proof(tmp_path: Path, size: int) -> None:
    store = BlobStore(tmp_path, 10 * CHUNK_BYTES)
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    root = store.put(data)
    for start in (0, 2):
        found = store.chunks(root, start, 3)
        assert found is not None
        assert found.total_length == size
        for index, (chunk, proof) in enumerate(found.chunks, start):
            assert verify_chunk(root, size, index, chunk, proof)
    whole = store.chunks(root, 0, 16)
    assert whole is not None
    assert b"".join(chunk for chunk, _ in whole.chunks) == data
    assert store.chunks(blob_root(b"other"), 0, 1) is None
