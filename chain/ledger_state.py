"""A state of the chain as the database holds it: read flat where it is the head's, else through the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chain.primitives import merkle
from chain.primitives.hashing import Hash
from chain.primitives.merkle import Root
from chain.primitives.types import Header
from chain.store import Snapshot


class LedgerState:
    """The state after one block: values, keys in order, and proofs of either. For one thread at a time."""

    __slots__ = ("_root", "_snapshot", "get", "header", "keys")

    def __init__(self, snapshot: Snapshot, header: Header, root: Root | None, is_head: bool) -> None:
        self.header = header
        self._snapshot = snapshot
        self._root = root
        # The head's state is stored flat, too: one look-up a key instead of one a level of the tree.
        self.get: Callable[[bytes], bytes | None] = snapshot.value if is_head else self._past_value
        self.keys: Callable[..., Iterator[bytes]] = snapshot.keys if is_head else self._past_keys

    def prove(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return the tree nodes that prove each key's value, or absence, under the header's state root."""
        return merkle.prove(self._snapshot, self._root, keys)

    def closest_hash(self, prefix: bytes) -> Hash | None:
        """Return a hash of all that is stored under a prefix, None if nothing is; it changes when any of it does."""
        return merkle.closest_hash(self._snapshot, self._root, prefix)

    def changes_since(self, other: LedgerState, prefix: bytes, after: bytes | None) -> Iterator[merkle.Change]:
        """Yield in ascending order what differs from another state: of the keys with a prefix, those after `after`."""
        return merkle.differences((other._snapshot, other._root), (self._snapshot, self._root), prefix, after)

    def _past_value(self, key: bytes) -> bytes | None:
        return merkle.get(self._snapshot, self._root, key)

    def _past_keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        return merkle.iterate(self._snapshot, self._root, prefix, after)
