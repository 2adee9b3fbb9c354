"""Content addresses of blobs: the Merkle root of their chunks, so that a piece can be fetched and proven alone.

The root binds the length, and leaves and branches are hashed in domains of their own: one root names one blob.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from chain.primitives.hashing import Hash

CHUNK_BYTES = 65536
HASH_BYTES = 32
# 2^40 bytes are 2^24 chunks: proofs have at most 24 hashes.
BLOB_BYTES_MAX = 1 << 40
# What nodes fetch from one another, in memory: 16 million parameters, or eight with Adam's two moments.
FETCHED_BYTES_MAX = 64 << 20
PROOF_HASHES_MAX = 24
# Chunks in one answer: a mebibyte, which is in memory while it is sent. Peers give as many at once.
RANGE_CHUNKS_MAX = 16
# How an answer with chunks begins: the blob's length.
LENGTH_BYTES = 8

_LEAF = b"potchain.leaf"  # BLAKE2b personalisations (at most 16 bytes)
_BRANCH = b"potchain.branch"
_ROOT = b"potchain.blob"


class ChunkError(ValueError):
    """An answer with chunks is not what the root proves."""


def chunk_count(length: int) -> int:
    """How many chunks a blob of `length` bytes has; the empty blob has one, empty."""
    return max(1, -(-length // CHUNK_BYTES))


def chunk_length(length: int, index: int) -> int:
    """How many bytes chunk `index` of a blob of `length` bytes has."""
    return min(CHUNK_BYTES, length - index * CHUNK_BYTES)


class BlobTree:
    """The hashes above a blob's chunks: made once, 64 bytes a chunk, it proves each of them."""

    __slots__ = ("_levels", "length", "root")

    def __init__(self, length: int, leaves: Sequence[Hash]) -> None:
        self.length = length
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))
        self.root = _root(length, self._levels[-1][0])

    def proof(self, index: int) -> list[Hash]:
        """The sibling hashes from chunk `index` up to the root; a node without a sibling moves up as it is."""
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"the blob has {len(self._levels[0])} chunks, got index {index}")
        levels = enumerate(self._levels[:-1])
        return [level[index >> up ^ 1] for up, level in levels if index >> up ^ 1 < len(level)]

    def holds(self, index: int, chunk: bytes) -> bool:
        """Whether `chunk` is the blob's chunk `index`."""
        return 0 <= index < len(self._levels[0]) and self._levels[0][index] == _leaf(chunk)


class BlobHasher:
    """Makes the tree of a blob that comes piece by piece; it holds less than a chunk of it."""

    def __init__(self) -> None:
        self._leaves: list[Hash] = []
        self._rest = bytearray()
        self._length = 0

    def update(self, piece: bytes | bytearray) -> None:
        """Take the next bytes."""
        self._length += len(piece)
        self._rest += piece
        whole = len(self._rest) - len(self._rest) % CHUNK_BYTES
        if whole:
            with memoryview(self._rest) as view:
                self._leaves += [_leaf(view[start : start + CHUNK_BYTES]) for start in range(0, whole, CHUNK_BYTES)]
            del self._rest[:whole]

    def tree(self) -> BlobTree:
        """The tree of all that was taken."""
        rest = [_leaf(self._rest)] if self._rest or not self._leaves else []
        return BlobTree(self._length, self._leaves + rest)


def blob_tree(data: bytes) -> BlobTree:
    """The tree of a blob that is in memory."""
    view = memoryview(data)
    leaves = [_leaf(view[start : start + CHUNK_BYTES]) for start in range(0, len(data), CHUNK_BYTES)]
    return BlobTree(len(data), leaves or [_leaf(b"")])


def blob_root(data: bytes) -> Hash:
    """The 32-byte address of a blob."""
    return blob_tree(data).root


def verify_chunk(root: Hash, total_length: int, index: int, chunk: bytes, proof: Sequence[Hash]) -> bool:
    """Whether `chunk` is the chunk `index` of the blob with this root and length; never an exception."""
    if not 0 <= total_length <= BLOB_BYTES_MAX:
        return False
    width = chunk_count(total_length)
    if not 0 <= index < width or len(chunk) != chunk_length(total_length, index):
        return False
    node, siblings = _leaf(chunk), iter(proof)
    while width > 1:
        if index ^ 1 < width:
            sibling = next(siblings, b"")
            if len(sibling) != HASH_BYTES:
                return False
            node = _branch(sibling, node) if index & 1 else _branch(node, sibling)
        index, width = index >> 1, (width + 1) >> 1
    return next(siblings, None) is None and _root(total_length, node) == root


def proof_count(total_length: int, index: int) -> int:
    """How many hashes prove chunk `index` of a blob of `total_length` bytes."""
    width, count = chunk_count(total_length), 0
    while width > 1:
        count += index ^ 1 < width
        index, width = index >> 1, (width + 1) >> 1
    return count


def encode_chunks(total_length: int, chunks: Iterable[tuple[bytes, Sequence[Hash]]]) -> bytes:
    """Consecutive chunks with their proofs as one answer: the blob's length, then each proof before its chunk."""
    parts = [total_length.to_bytes(LENGTH_BYTES, "little")]
    for chunk, proof in chunks:
        parts += [*proof, chunk]
    return b"".join(parts)


def answer_bytes_max(count: int) -> int:
    """The most bytes of an answer with `count` chunks."""
    return LENGTH_BYTES + count * (CHUNK_BYTES + PROOF_HASHES_MAX * HASH_BYTES)


def decode_chunks(root: Hash, first: int, count: int, data: bytes) -> tuple[int, bytes]:
    """The blob's length, and its bytes from chunk `first` on, as far as they go and `count` chunks at most.

    All places in an answer follow from the length, which the root binds. ChunkError where anything is not as proven.
    """
    total_length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or total_length > BLOB_BYTES_MAX or first >= chunk_count(total_length):
        raise ChunkError(f"expected chunks of a blob from {first} on, got {len(data)} bytes that say {total_length}")
    place, chunks = LENGTH_BYTES, []
    for index in range(first, min(first + count, chunk_count(total_length))):
        hashes = place + HASH_BYTES * proof_count(total_length, index)
        end = hashes + chunk_length(total_length, index)
        proof = [data[at : at + HASH_BYTES] for at in range(place, hashes, HASH_BYTES)]
        chunk = data[hashes:end]
        if not verify_chunk(root, total_length, index, chunk, proof):
            raise ChunkError(f"chunk {index} is not proven to be of blob 0x{root.hex()}")
        chunks.append(chunk)
        place = end
    if place != len(data):
        raise ChunkError(f"expected {place} bytes of chunks and proofs, got {len(data)}")
    return total_length, b"".join(chunks)


def _parents(level: list[Hash]) -> list[Hash]:
    paired = [_branch(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[-1:] if len(level) & 1 else paired


def _leaf(chunk: bytes | bytearray | memoryview) -> Hash:
    return blake2b(chunk, digest_size=HASH_BYTES, person=_LEAF).digest()


def _branch(left: Hash, right: Hash) -> Hash:
    return blake2b(left + right, digest_size=HASH_BYTES, person=_BRANCH).digest()


def _root(length: int, top: Hash) -> Hash:
    return blake2b(length.to_bytes(8, "little") + top, digest_size=HASH_BYTES, person=_ROOT).digest()
