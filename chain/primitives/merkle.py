"""The state tree: a radix-16 Patricia tree over storage keys, whose root commits to every key and value.

A node's hash covers its path, its value and its children's hashes and nothing about where it is stored, so one state
has one root whatever the order of its changes. Nodes are stored under numbers that only grow: a store appends them, and
pruning deletes exactly the numbers that an update names as stale.

    leaf    00 ++ path ++ value
    branch  01 ++ path ++ bitmap (u16) ++ child hashes
    branch  02 ++ path ++ bitmap (u16) ++ value length (u32) ++ value ++ child hashes
    path    nibbles (u16) ++ nibbles, two a byte, the last padded with zero

What is stored is the above followed by the children's ids (u64 each). Integers are little-endian. The children of a
branch are in nibble order; a branch without a value has at least two. In memory a path is a hexadecimal string.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from chain.primitives.hashing import Hash, blake2_256

EMPTY_ROOT: Final[Hash] = blake2_256(b"")

# Storage keys are a 32-byte prefix, hashes and a few short fields; an LMDB key may have 511 bytes, and the depth of the
# tree (two levels a byte) has to stay within Python's stack.
KEY_BYTES_MAX: Final = 256

_LEAF, _BRANCH, _VALUED_BRANCH = 0, 1, 2
_NIBBLES: Final = "0123456789abcdef"
_NUMBER: Final = {nibble: number for number, nibble in enumerate(_NIBBLES)}


class Root(NamedTuple):
    """The topmost node of a tree that is not empty: where it is stored, and its hash."""

    id: int
    hash: Hash


class NodeReader(Protocol):
    def node(self, node_id: int) -> bytes:
        """Return a node as it was stored; KeyError when there is none under this id."""


@dataclass(frozen=True, slots=True)
class Update:
    """A changed tree: `new_nodes` to store, in ascending id, and the ids that only the tree before still uses."""

    root: Root | None
    new_nodes: list[tuple[int, bytes]]
    stale: list[int]

    @property
    def root_hash(self) -> Hash:
        return root_hash(self.root)


class ProofError(ValueError):
    """A proof does not lead from the root to the key."""


def root_hash(root: Root | None) -> Hash:
    return EMPTY_ROOT if root is None else root.hash


class _Children:
    """The children of a branch in memory: the bits of `bitmap`, with their hashes and ids in the order of nibbles, as
    the tree has stored them.

    `loaded` are those that somebody has looked into, or that are new: `write` brings their bytes up to date. Few of the
    sixteen are ever looked into, so the others are never taken apart.
    """

    __slots__ = ("bitmap", "hashes", "ids", "loaded")

    def __init__(self, bitmap: int, hashes: bytes, ids: bytes) -> None:
        self.bitmap = bitmap
        self.hashes = bytearray(hashes)
        self.ids = bytearray(ids)
        self.loaded: dict[int, _Node] = {}

    def rank(self, number: int) -> int:
        """How many children come before the one of a nibble."""
        return (self.bitmap & (1 << number) - 1).bit_count()

    def add(self, number: int, child: _Node) -> None:
        """Take in a child where there was none."""
        rank = self.rank(number)
        self.hashes[32 * rank : 32 * rank] = bytes(32)
        self.ids[8 * rank : 8 * rank] = bytes(8)
        self.bitmap |= 1 << number
        self.loaded[number] = child

    def remove(self, number: int) -> None:
        """Be without a child that was loaded."""
        rank = self.rank(number)
        del self.hashes[32 * rank : 32 * rank + 32], self.ids[8 * rank : 8 * rank + 8], self.loaded[number]
        self.bitmap &= ~(1 << number)

    def place(self, number: int, place: Root) -> None:
        """Note where a child is now."""
        rank = self.rank(number)
        self.hashes[32 * rank : 32 * rank + 32] = place[1]
        self.ids[8 * rank : 8 * rank + 8] = place[0].to_bytes(8, "little")


class _Node:
    """A node in memory, being changed; `stored_id` is None for one that the tree has never stored."""

    __slots__ = ("children", "dirty", "path", "stored_id", "value")

    def __init__(self, path: str, value: bytes | None, stored_id: int | None) -> None:
        self.path = path
        self.value = value
        self.children: _Children | None = None
        self.stored_id = stored_id
        self.dirty = stored_id is None

    def add(self, number: int, child: _Node) -> None:
        """Take in a child where there was none."""
        if self.children is None:
            self.children = _Children(0, b"", b"")
        self.children.add(number, child)


@lru_cache(maxsize=65536)  # One entry a possible bitmap.
def nibbles_of(bitmap: int) -> tuple[int, ...]:
    return tuple(index for index in range(16) if bitmap >> index & 1)


def encode_node(path: str, value: bytes | None, bitmap: int, hashes: bytes | bytearray) -> bytes:
    """Return what a node's hash covers; it is stored with its children's ids behind."""
    length = len(path)
    head = length.to_bytes(2, "little") + bytes.fromhex(path if length % 2 == 0 else path + "0")
    if not bitmap:
        assert value is not None
        return b"\x00" + head + value
    children = bitmap.to_bytes(2, "little")
    if value is None:
        return b"".join((b"\x01", head, children, hashes))
    return b"".join((b"\x02", head, children, len(value).to_bytes(4, "little"), value, hashes))


def parse_node(node: bytes) -> tuple[str, bytes | None, int, int]:
    """Return a node's path, its value, its bitmap of children and where their hashes start."""
    length = node[1] | node[2] << 8
    position = 3 + (length + 1) // 2
    path = node[3:position].hex()[:length]
    kind = node[0]
    if kind == _LEAF:
        return path, node[position:], 0, len(node)
    bitmap = node[position] | node[position + 1] << 8
    position += 2
    if kind == _BRANCH:
        return path, None, bitmap, position
    start = position + 4
    position = start + int.from_bytes(node[start - 4 : start], "little")
    return path, node[start:position], bitmap, position


def child_place(node: bytes, bitmap: int, hashes: int, rank: int) -> Root:
    """Return where the child of a stored branch is that comes after `rank` others."""
    at = hashes + 32 * rank
    id_at = hashes + 32 * bitmap.bit_count() + 8 * rank
    return Root(int.from_bytes(node[id_at : id_at + 8], "little"), node[at : at + 32])


def _load(reader: NodeReader, node_id: int) -> _Node:
    node = reader.node(node_id)
    path, value, bitmap, hashes = parse_node(node)
    loaded = _Node(path, value, node_id)
    if bitmap:
        ids = hashes + 32 * bitmap.bit_count()
        loaded.children = _Children(bitmap, node[hashes:ids], node[ids:])
    return loaded


class _Step(NamedTuple):
    """How a search for a key goes on below a node: the child after `rank` others, or nowhere when `rank` is None."""

    value: bytes | None
    at: int
    rank: int | None
    bitmap: int
    hashes: int


def _step(node: bytes, path: str, at: int) -> _Step:
    own, value, bitmap, hashes = parse_node(node)
    if not path.startswith(own, at):
        return _Step(None, at, None, bitmap, hashes)
    at += len(own)
    if at == len(path):
        return _Step(value, at, None, bitmap, hashes)
    number = _NUMBER[path[at]]
    if not bitmap >> number & 1:
        return _Step(None, at, None, bitmap, hashes)
    return _Step(None, at + 1, (bitmap & (1 << number) - 1).bit_count(), bitmap, hashes)


def _walk(reader: NodeReader, root: Root, key: bytes) -> Iterator[tuple[bytes, _Step]]:
    """Yield the stored nodes from the root down to the key, or to where the tree shows that the key is absent."""
    path, at, place = key.hex(), 0, root
    while True:
        node = reader.node(place.id)
        step = _step(node, path, at)
        yield node, step
        if step.rank is None:
            return
        at = step.at
        place = child_place(node, step.bitmap, step.hashes, step.rank)


class _Writer:
    """One update: loads what the changes touch, applies them in memory, then writes every touched node once."""

    def __init__(self, reader: NodeReader, root: Root | None, next_id: int) -> None:
        self.reader = reader
        self.top = None if root is None else _load(reader, root.id)
        self.next_id = next_id
        self.new_nodes: list[tuple[int, bytes]] = []
        self.stale: list[int] = []

    def put(self, path: str, value: bytes) -> None:
        node = self.top
        if node is None:
            self.top = _Node(path, value, None)
            return
        above: list[_Node] = []
        at = 0
        while True:
            if not path.startswith(node.path, at):
                self._replace(above, path, at, _split(node, path[at:], value))
                break
            at += len(node.path)
            above.append(node)
            if at == len(path):
                if node.value == value:
                    return
                node.value = value
                break
            number = _NUMBER[path[at]]
            at += 1
            child = self._child(node, number)
            if child is None:
                node.add(number, _Node(path[at:], value, None))
                break
            node = child
        _soil(above)

    def remove(self, path: str) -> bool:
        """Take a value out and say whether there was one; `reduce` then removes what has no reason to exist."""
        node = self.top
        above: list[_Node] = []
        at = 0
        while node is not None and path.startswith(node.path, at):
            at += len(node.path)
            above.append(node)
            if at == len(path):
                if node.value is None:
                    return False
                node.value = None
                _soil(above)
                return True
            node = self._child(node, _NUMBER[path[at]])
            at += 1
        return False

    def reduce(self, node: _Node) -> _Node | None:
        """Drop nodes that hold nothing, and join a branch that holds one child with that child."""
        children = node.children
        if children is not None:
            for number, child in list(children.loaded.items()):
                if child.dirty:
                    reduced = self.reduce(child)
                    if reduced is None:
                        children.remove(number)
                    else:
                        children.loaded[number] = reduced
            if node.value is None and children.bitmap.bit_count() == 1:
                number = children.bitmap.bit_length() - 1
                only = self._child(node, number)
                assert only is not None
                only.path = node.path + _NIBBLES[number] + only.path
                only.dirty = True
                self._forget(node)
                return only
            if children.bitmap:
                return node
            node.children = None
        if node.value is not None:
            return node
        self._forget(node)
        return None

    def write(self, node: _Node) -> Root:
        """Encode a changed node after its changed children, and return where it will be."""
        children = node.children
        if children is None:
            encoded = stored = encode_node(node.path, node.value, 0, b"")
        else:
            for number, child in children.loaded.items():
                if child.dirty:
                    children.place(number, self.write(child))
            encoded = encode_node(node.path, node.value, children.bitmap, children.hashes)
            stored = encoded + children.ids
        self._forget(node)
        node_id = self.next_id
        self.next_id += 1
        self.new_nodes.append((node_id, stored))
        return Root(node_id, blake2_256(encoded))

    def _child(self, node: _Node, number: int) -> _Node | None:
        children = node.children
        if children is None:
            return None
        child = children.loaded.get(number)
        if child is None and children.bitmap >> number & 1:
            at = 8 * children.rank(number)
            child = _load(self.reader, int.from_bytes(children.ids[at : at + 8], "little"))
            children.loaded[number] = child
        return child

    def _replace(self, above: list[_Node], path: str, at: int, node: _Node) -> None:
        if not above:
            self.top = node
            return
        siblings = above[-1].children
        assert siblings is not None
        siblings.loaded[_NUMBER[path[at - 1]]] = node

    def _forget(self, node: _Node) -> None:
        if node.stored_id is not None:
            self.stale.append(node.stored_id)


def _split(node: _Node, rest: str, value: bytes) -> _Node:
    """Put a branch where the node's own path and the rest of a key's part ways, and the value below or into it."""
    own = node.path
    shared = 0
    while shared < len(rest) and own[shared] == rest[shared]:
        shared += 1
    branch = _Node(own[:shared], None, None)
    branch.add(_NUMBER[own[shared]], node)
    node.path = own[shared + 1 :]
    node.dirty = True
    if shared == len(rest):
        branch.value = value
    else:
        branch.add(_NUMBER[rest[shared]], _Node(rest[shared + 1 :], value, None))
    return branch


def _soil(above: list[_Node]) -> None:
    """Mark a path of nodes as changed, from the lowest; above a changed node every node is marked already."""
    for node in reversed(above):
        if node.dirty:
            return
        node.dirty = True


def update(reader: NodeReader, root: Root | None, changes: Mapping[bytes, bytes | None], next_id: int) -> Update:
    """Return the tree after setting each key to its value, or removing it where the value is None.

    `next_id` is the first id that no stored node has. Nothing is stored here: the caller stores the update's nodes.
    """
    writer = _Writer(reader, root, next_id)
    removed = False
    for key in sorted(changes):
        if len(key) > KEY_BYTES_MAX:
            raise ValueError(f"expected a storage key of at most {KEY_BYTES_MAX} bytes, got {len(key)}")
        value = changes[key]
        if value is None:
            removed = writer.remove(key.hex()) or removed
        else:
            writer.put(key.hex(), value)
    top = writer.top
    if top is None or not top.dirty:
        return Update(root, [], [])
    if removed:
        top = writer.reduce(top)
    return Update(None if top is None else writer.write(top), writer.new_nodes, writer.stale)


def get(reader: NodeReader, root: Root | None, key: bytes) -> bytes | None:
    """Return a key's value in the tree under a root."""
    if root is None:
        return None
    value = None
    for _, step in _walk(reader, root, key):
        value = step.value
    return value


def iterate(reader: NodeReader, root: Root | None, prefix: bytes = b"", after: bytes | None = None) -> Iterator[bytes]:
    """Yield in ascending order the keys that start with a prefix and, if `after` is given, come after it."""
    wanted = prefix.hex()
    beyond = None if after is None else after.hex()
    pending: list[tuple[Root, str]] = [] if root is None else [(root, "")]
    while pending:
        place, above = pending.pop()
        node = reader.node(place.id)
        own, value, bitmap, hashes = parse_node(node)
        path = above + own
        if not path.startswith(wanted[: len(path)]) or (beyond is not None and path < beyond[: len(path)]):
            continue
        if value is not None and path.startswith(wanted) and (beyond is None or path > beyond):
            yield bytes.fromhex(path)
        members = nibbles_of(bitmap)
        pending.extend(
            (child_place(node, bitmap, hashes, rank), path + _NIBBLES[members[rank]])
            for rank in range(len(members) - 1, -1, -1)
        )


class _Subtree(NamedTuple):
    """A node of a tree, and the path of the place where it hangs."""

    reader: NodeReader
    place: Root
    above: str


class _Opened(NamedTuple):
    """What a subtree turns out to be: the full path of its topmost node, its value, and what hangs below by nibble."""

    path: str
    value: bytes | None
    children: dict[str, _Subtree]


def _open(subtree: _Subtree) -> _Opened:
    node = subtree.reader.node(subtree.place.id)
    own, value, bitmap, hashes = parse_node(node)
    path = subtree.above + own
    children = {
        _NIBBLES[member]: _Subtree(subtree.reader, child_place(node, bitmap, hashes, rank), path + _NIBBLES[member])
        for rank, member in enumerate(nibbles_of(bitmap))
    }
    return _Opened(path, value, children)


class Change(NamedTuple):
    """A key whose value in one tree is not that in another; None is no value."""

    key: bytes
    old: bytes | None
    new: bytes | None


def differences(
    old: tuple[NodeReader, Root | None],
    new: tuple[NodeReader, Root | None],
    prefix: bytes = b"",
    after: bytes | None = None,
) -> Iterator[Change]:
    """Yield in ascending order the keys whose values differ between two trees, of those that `iterate` would yield.

    What the trees share is not looked at: the work grows with what differs.
    """
    wanted = prefix.hex()
    beyond = "" if after is None else after.hex()
    roots = [None if root is None else _Subtree(reader, root, "") for reader, root in (old, new)]
    pending: list[list[_Subtree | None]] = [roots]
    while pending:
        pair = pending.pop()
        left, right = pair
        if left is not None and right is not None and (left.place.hash, left.above) == (right.place.hash, right.above):
            continue
        sides = [None if subtree is None else _open(subtree) for subtree in pair]
        for number, side in enumerate(sides):
            if side is not None:
                reach = len(side.path)
                if not side.path.startswith(wanted[:reach]) or side.path < beyond[:reach]:
                    sides[number] = None
        path = min((side.path for side in sides if side is not None), default=None)
        if path is None:
            continue
        values: list[bytes | None] = [None, None]
        below: dict[str, list[_Subtree | None]] = {}
        for number, side in enumerate(sides):
            if side is None:
                continue
            if side.path == path:
                values[number] = side.value
                for nibble, child in side.children.items():
                    below.setdefault(nibble, [None, None])[number] = child
            elif side.path.startswith(path):  # One tree branches where the other goes straight on.
                below.setdefault(side.path[len(path)], [None, None])[number] = pair[number]
            else:
                alone: list[_Subtree | None] = [None, None]
                alone[number] = pair[number]
                pending.append(alone)
        pending.extend(below[nibble] for nibble in sorted(below, reverse=True))
        if values[0] != values[1] and path.startswith(wanted) and (after is None or path > beyond):
            yield Change(bytes.fromhex(path), values[0], values[1])


def closest_hash(reader: NodeReader, root: Root | None, prefix: bytes) -> Hash | None:
    """Return the hash of the topmost node at or below a prefix: of all keys that start with it. None if none does.

    It changes when any of them does, and may when a neighbour comes or goes: a node's hash covers the path to it from
    the branch above.
    """
    wanted, at, place = prefix.hex(), 0, root
    while place is not None:
        node = reader.node(place.id)
        own, _, bitmap, hashes = parse_node(node)
        rest = wanted[at:]
        if own.startswith(rest):
            return place.hash
        at += len(own)
        if not rest.startswith(own) or not bitmap >> _NUMBER[wanted[at]] & 1:
            return None
        place = child_place(node, bitmap, hashes, (bitmap & (1 << _NUMBER[wanted[at]]) - 1).bit_count())
        at += 1
    return None


def prove(reader: NodeReader, root: Root | None, keys: Iterable[bytes]) -> list[bytes]:
    """Return the nodes that show, to who knows the root's hash, what each key's value is or that it has none."""
    proof: dict[bytes, None] = {}
    if root is not None:
        for key in keys:
            for node, step in _walk(reader, root, key):
                proof[node[: len(node) - 8 * step.bitmap.bit_count()]] = None
    return list(proof)


def verify_proof(root_hash: Hash, keys: Sequence[bytes], proof: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """Return what a proof shows of each key under a root hash: its value, or None where the tree has none.

    Some keys in some order have one proof, that of `prove`: the nodes from the root to each key in turn, each where it
    is first met. Raises ProofError for any other: with a node that is forged, missing, out of place or not needed.
    """
    rest = iter(proof)
    known: dict[Hash, bytes] = {}
    found = {key: None if root_hash == EMPTY_ROOT else _follow(root_hash, key, known, rest) for key in keys}
    if next(rest, None) is not None:
        raise ProofError(f"expected a proof of {len(known)} nodes for these keys, got {len(proof)}")
    return found


def _follow(root_hash: Hash, key: bytes, known: dict[Hash, bytes], rest: Iterator[bytes]) -> bytes | None:
    """A key's value, by the nodes that were met before and those that follow."""
    path, at, wanted = key.hex(), 0, root_hash
    while True:
        node = known.get(wanted)
        if node is None:
            node = next(rest, b"")
            if blake2_256(node) != wanted:
                raise ProofError(
                    f"expected node {wanted.hex()} of the proof on the way to key {key.hex()}, got another"
                )
            if not is_node(node):
                raise ProofError(f"expected a tree node of hash {wanted.hex()}, got {node[:64].hex()}")
            known[wanted] = node
        step = _step(node, path, at)
        if step.rank is None:
            return step.value
        at = step.at
        start = step.hashes + 32 * step.rank
        wanted = node[start : start + 32]


def is_node(node: bytes) -> bool:
    """Whether a tree has such a node: the hash alone says so only to who knows that the root is a tree's."""
    try:
        path, _, bitmap, end = parse_node(node)
    except IndexError:
        return False
    kind, length = node[0], node[1] | node[2] << 8
    if len(path) != length or (length % 2 and node[2 + (length + 1) // 2] & 0x0F):
        return False
    children = bitmap.bit_count()
    children_min = {_LEAF: 0, _BRANCH: 2, _VALUED_BRANCH: 1}.get(kind)
    return children_min is not None and children >= children_min and len(node) == end + 32 * children


class MemoryTree:
    """A tree in memory: for genesis, tests, and anything too small to store."""

    def __init__(self, changes: Mapping[bytes, bytes | None] | None = None) -> None:
        self.nodes: dict[int, bytes] = {}
        self.root: Root | None = None
        self.next_id = 0
        if changes:
            self.apply(changes)

    @property
    def root_hash(self) -> Hash:
        return root_hash(self.root)

    def node(self, node_id: int) -> bytes:
        return self.nodes[node_id]

    def apply(self, changes: Mapping[bytes, bytes | None]) -> Update:
        """Change the tree, forget the nodes that it no longer uses, and return what changed."""
        change = update(self, self.root, changes, self.next_id)
        self.nodes.update(change.new_nodes)
        for node_id in change.stale:
            del self.nodes[node_id]
        self.next_id += len(change.new_nodes)
        self.root = change.root
        return change

    def get(self, key: bytes) -> bytes | None:
        return get(self, self.root, key)

    def keys(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[bytes]:
        return iterate(self, self.root, prefix, after)

    def prove(self, keys: Iterable[bytes]) -> list[bytes]:
        return prove(self, self.root, keys)


def ordered_root(items: Sequence[bytes]) -> Hash:
    """Return the root of a list: of the tree that has each item under its position, four bytes, highest first.

    Positions prove like keys, so an item and the length of the list can be shown to who knows the root.
    """
    return MemoryTree({index.to_bytes(4, "big"): item for index, item in enumerate(items)}).root_hash
