"""A whole state, handed over in chunks that each prove themselves, and built again from its keys in order.

A chunk is the tree's nodes in the order of their keys, from the key after the one that the chunk before ended with:
those on the way there again, then each that follows. Whoever knows the root's hash knows which node must come next, so
that nothing can be forged, left out or put in; a chunk ends with a key, or with the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.merkle import (
    EMPTY_ROOT,
    KEY_BYTES_MAX,
    NodeReader,
    ProofError,
    Root,
    child_place,
    encode_node,
    is_node,
    nibbles_of,
    parse_node,
)

# What a node's place in a list counts, so that however small the nodes are, there are not too many of them.
NODE_PLACE_BYTES: Final = 8
_NIBBLES: Final = "0123456789abcdef"


class _Met(NamedTuple):
    """A node on the way: as its hash covers it, and its key and value if they come after those of earlier chunks."""

    node: bytes
    entry: tuple[str, bytes] | None


class Chunk(NamedTuple):
    """Keys with their values, ascending; `is_last` when no key comes after them."""

    entries: list[tuple[bytes, bytes]]
    is_last: bool


def prove_chunk(reader: NodeReader, root: Root | None, after: bytes | None, bytes_max: int) -> list[bytes]:
    """Return the nodes of the keys after `after`: up to `bytes_max` bytes of them, of one key at least."""
    nodes: list[bytes] = []
    size = ends = 0
    if root is not None:
        for met in _visit(lambda place: reader.node(place.id), root, after):
            size += len(met.node) + NODE_PLACE_BYTES
            if size > bytes_max and ends:
                return nodes[:ends]
            nodes.append(met.node)
            if met.entry is not None:
                ends = len(nodes)
    return nodes


def verify_chunk(root_hash: Hash, after: bytes | None, nodes: Sequence[bytes]) -> Chunk:
    """Return what a chunk shows of the state under a root hash: all keys after `after`, up to its last.

    Raises ProofError for whatever `prove_chunk` would not return, for some number of bytes.
    """
    if root_hash == EMPTY_ROOT:
        if nodes:
            raise ProofError(f"expected no node of an empty state, got {len(nodes)}")
        return Chunk([], True)
    rest = iter(nodes)

    def read(place: Root) -> bytes:
        node = next(rest, None)
        if node is None:
            raise _Ended
        if blake2_256(node) != place.hash:
            raise ProofError(f"expected node {place.hash.hex()} of the state, got another")
        if not is_node(node):
            raise ProofError(f"expected a tree node of hash {place.hash.hex()}, got {node[:64].hex()}")
        return node

    entries: list[tuple[bytes, bytes]] = []
    is_end = False  # Whether the last node has the last key.
    try:
        for met in _visit(read, Root(0, root_hash), after):
            is_end = met.entry is not None
            if met.entry is not None:
                path, value = met.entry
                if len(path) % 2 or len(path) > 2 * KEY_BYTES_MAX:
                    raise ProofError(f"expected a key of whole bytes, {KEY_BYTES_MAX} at most, got {path[:64]}")
                entries.append((bytes.fromhex(path), value))
    except _Ended:
        if not is_end:
            raise ProofError(f"expected a chunk that ends with a key, got one of {len(nodes)} nodes") from None
        return Chunk(entries, False)
    if next(rest, None) is not None:
        raise ProofError(f"expected the last nodes of the state, got {len(nodes)} nodes and more than these")
    return Chunk(entries, True)


class _Ended(Exception):
    """There are no more nodes in the chunk."""


def _visit(read: Callable[[Root], bytes], top: Root, after: bytes | None) -> Iterator[_Met]:
    """Meet the nodes in the order of their keys, but for those that have all their keys before or at `after`."""
    beyond = None if after is None else after.hex()
    pending = [(top, "")]
    while pending:
        place, above = pending.pop()
        if beyond is not None and above < beyond[: len(above)]:
            continue
        node = read(place)
        own, value, bitmap, hashes = parse_node(node)
        path = above + own
        encoded = node[: hashes + 32 * bitmap.bit_count()]
        if beyond is not None and path < beyond[: len(path)]:
            yield _Met(encoded, None)
            continue
        is_new = value is not None and (beyond is None or path > beyond)
        numbers = nibbles_of(bitmap)
        pending += [
            (child_place(node, bitmap, hashes, rank), path + _NIBBLES[numbers[rank]])
            for rank in range(len(numbers) - 1, -1, -1)
        ]
        yield _Met(encoded, (path, value) if is_new and value is not None else None)


@dataclass(slots=True)
class _Open:
    """A node whose keys are still coming: its full path, and the children that are whole."""

    path: str
    value: bytes | None
    bitmap: int = 0
    hashes: bytearray = field(default_factory=bytearray)
    ids: bytearray = field(default_factory=bytearray)


class TreeBuilder:
    """Builds the tree of keys that come in ascending order, in memory for one path of it.

    `nodes` are those that are whole, by ascending id: the caller takes them away to store them.
    """

    def __init__(self, first_id: int) -> None:
        self.nodes: list[tuple[int, bytes]] = []
        self.next_id = first_id
        self._open: list[_Open] = []
        self._last = ""

    def add(self, key: bytes, value: bytes) -> None:
        """Put the next key; ValueError unless it comes after the one before."""
        path, stack = key.hex(), self._open
        if len(key) > KEY_BYTES_MAX or (stack and path <= self._last):
            raise ValueError(f"expected ascending keys of at most {KEY_BYTES_MAX} bytes, got {path} after {self._last}")
        self._last = path
        while stack and not path.startswith(stack[-1].path):
            top = stack.pop()
            shared = _shared(path, top.path)
            if not stack or len(stack[-1].path) < shared:
                stack.append(_Open(top.path[:shared], None))
            self._close(top, stack[-1])
        stack.append(_Open(path, value))

    def finish(self) -> Root | None:
        """Where the whole tree is, None for an empty one."""
        stack = self._open
        while len(stack) > 1:
            top = stack.pop()
            self._close(top, stack[-1])
        return self._write(stack.pop(), 0) if stack else None

    def _close(self, node: _Open, parent: _Open) -> None:
        """Make a node that is whole its parent's child."""
        at = len(parent.path)
        place = self._write(node, at + 1)
        parent.bitmap |= 1 << _NIBBLES.index(node.path[at])
        parent.hashes += place.hash
        parent.ids += place.id.to_bytes(8, "little")

    def _write(self, node: _Open, start: int) -> Root:
        encoded = encode_node(node.path[start:], node.value, node.bitmap, node.hashes)
        place = Root(self.next_id, blake2_256(encoded))
        self.nodes.append((place.id, encoded + node.ids))
        self.next_id += 1
        return place


def _shared(one: str, other: str) -> int:
    """How many nibbles two paths begin with in common."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
