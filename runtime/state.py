"""The state as modules see it: keys and values in bytes, over any reader, with nested transactions.

Nothing is written to the reader: an overlay collects what changed, and `changes()` is the same whatever the order in
which the keys were touched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

from chain.primitives.types import Header


class StateFailed(Exception):
    """The disk's fault: a state could not be read. It blames no module, and goes through everything that does."""


class StateReader(Protocol):
    """A committed state: what the ledger, a test's tree or a light client's proof offers.

    What a reader raises because of its disk is a StateFailed.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        """The keys that begin with `prefix`, ascending, from the first one greater than `after`."""


class BlockState(StateReader, Protocol):
    """A committed state that knows the block it is the state after."""

    @property
    def header(self) -> Header:
        """The block's header."""


class State(StateReader, Protocol):
    """A state that can be written."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""

    def remove(self, key: bytes) -> None:
        """Forget `key`; nothing happens if it is absent."""

    def begin(self) -> None:
        """Open a transaction inside whatever is open."""

    def commit(self) -> None:
        """Keep what the innermost transaction wrote; an enclosing one can still roll it back."""

    def rollback(self) -> None:
        """Undo what the innermost transaction wrote."""


class _Absent:
    """Marks a key that an overlay had not written before a transaction wrote it."""


_ABSENT: Final = _Absent()


class Overlay:
    """Changes on top of a reader. Transactions nest: `begin`, then either `commit` or `rollback`."""

    __slots__ = ("_journal", "_marks", "_read", "_reader", "_writes")

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self._read: dict[bytes, bytes | None] = {}  # what the reader answered; a block's weight bounds it
        self._writes: dict[bytes, bytes | None] = {}
        self._journal: list[tuple[bytes, bytes | _Absent | None]] = []  # what each write replaced, oldest first
        self._marks: list[int] = []  # where each open transaction's part of the journal starts

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` with every change so far, or None."""
        writes = self._writes
        if key in writes:
            return writes[key]
        read = self._read
        if key in read:
            return read[key]
        value = read[key] = self._reader.get(key)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        if self._marks:
            self._journal.append((key, self._writes.get(key, _ABSENT)))
        self._writes[key] = value

    def remove(self, key: bytes) -> None:
        """Forget `key`; nothing happens if it is absent."""
        if self._marks:
            self._journal.append((key, self._writes.get(key, _ABSENT)))
        self._writes[key] = None

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        """The present keys that begin with `prefix`, ascending, from the first one greater than `after`.

        Keys removed while iterating are skipped; keys added while iterating are not seen.
        """
        written = sorted(key for key in self._writes if key.startswith(prefix))
        position = 0 if after is None else bisect_right(written, after)
        for key in self._reader.keys(prefix, after):
            while position < len(written) and written[position] < key:
                if self._writes.get(written[position]) is not None:
                    yield written[position]
                position += 1
            if position < len(written) and written[position] == key:
                position += 1
            if key not in self._writes or self._writes[key] is not None:
                yield key
        for key in written[position:]:
            if self._writes.get(key) is not None:
                yield key

    def begin(self) -> None:
        """Open a transaction inside whatever is open."""
        self._marks.append(len(self._journal))

    def commit(self) -> None:
        """Keep what the innermost transaction wrote; an enclosing one can still roll it back."""
        self._marks.pop()
        if not self._marks:
            self._journal.clear()

    def rollback(self) -> None:
        """Undo what the innermost transaction wrote."""
        mark = self._marks.pop()
        journal, writes = self._journal, self._writes
        for key, previous in reversed(journal[mark:]):
            if isinstance(previous, _Absent):
                del writes[key]
            else:
                writes[key] = previous
        del journal[mark:]

    def changes(self) -> dict[bytes, bytes | None]:
        """What differs from the reader, by ascending key; None for a removed key."""
        if self._marks:
            raise AssertionError("changes are asked for while a transaction is open")
        read, reader = self._read, self._reader
        changed = {}
        for key, value in sorted(self._writes.items(), key=_key):
            before = read[key] if key in read else reader.get(key)
            if value != before:
                changed[key] = value
        return changed


class Snapshot:
    """A state that refuses writes: what `RUNTIME.at` puts under the modules of a past or present block."""

    __slots__ = ("_reader", "get", "keys")

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self.get = reader.get
        self.keys = reader.keys

    def put(self, key: bytes, value: bytes) -> None:
        """Refuse: a view reads."""
        raise AssertionError(f"a view is read-only, but {len(value)} bytes were to be written at 0x{key.hex()}")

    def remove(self, key: bytes) -> None:
        """Refuse: a view reads."""
        raise AssertionError(f"a view is read-only, but 0x{key.hex()} was to be removed")

    def begin(self) -> None:
        """Refuse: nothing is called through a view that reads."""
        raise AssertionError("a view is read-only, but a call was to be made through it")

    def commit(self) -> None:
        """Refuse, as `begin` has."""
        raise AssertionError("a view is read-only, and no transaction is open")

    rollback = commit


class DictState:
    """A reader over a dictionary: genesis states and tests."""

    __slots__ = ("entries",)

    def __init__(self, entries: dict[bytes, bytes] | None = None) -> None:
        self.entries = entries if entries is not None else {}

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        return self.entries.get(key)

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        """The keys that begin with `prefix`, ascending, from the first one greater than `after`."""
        yield from sorted(key for key in self.entries if key.startswith(prefix) and (after is None or key > after))


def _key(item: tuple[bytes, bytes | None]) -> bytes:
    return item[0]
