"""Storage queries of the JSON-RPC interface specification: `chainHead` and `archive` ask for them, in pages.

A page is bounded in items and bytes, so that no query, whatever it asks for, holds a thread or memory for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chain.ledger_state import LedgerState
from chain.primitives.hashing import blake2_256
from chain.rpc.context import hexed
from chain.rpc.params import WrongParameter, decode_key

# Reading one key of an older state climbs a tree: a page takes some ten milliseconds of a thread.
PAGE_ITEMS_MAX = 256
# Of keys and values that are read. As hex, half a megabyte; one item alone always fits.
PAGE_BYTES_MAX = 256 * 1024

Item = dict[str, str]


class Kind(StrEnum):
    """What a query asks for."""

    VALUE = "value"
    HASH = "hash"
    CLOSEST_DESCENDANT_MERKLE_VALUE = "closestDescendantMerkleValue"
    DESCENDANTS_VALUES = "descendantsValues"
    DESCENDANTS_HASHES = "descendantsHashes"


KINDS = {kind.value: kind for kind in Kind}
ITERATING = frozenset({Kind.DESCENDANTS_VALUES, Kind.DESCENDANTS_HASHES})


@dataclass(frozen=True, slots=True)
class Query:
    """One thing to look up; one that iterates gives the keys that start with `key` and come after `after`."""

    key: bytes
    kind: Kind
    after: bytes | None = None

    @property
    def iterates(self) -> bool:
        """Whether it may give more than one item."""
        return self.kind in ITERATING

    def told(self, value: bytes) -> Item:
        """What it wants to know of a value: that itself, or its hash."""
        if self.kind in (Kind.HASH, Kind.DESCENDANTS_HASHES):
            return {"hash": hexed(blake2_256(value))}
        return {"value": hexed(value)}


# Keys in ascending order, each with what is said about it and how many bytes were read to say it.
Answers = Callable[[Query], Iterator[tuple[bytes, Item, int]]]


def read_page(answers: Answers, queries: Sequence[Query]) -> tuple[list[Item], list[Query]]:
    """As many items as a page takes, and the queries, or parts of them, that are left for the next; for threads."""
    items: list[Item] = []
    size = 0
    for position, query in enumerate(queries):
        after = query.after
        for key, item, read in answers(query):
            size += read
            if items and (len(items) >= PAGE_ITEMS_MAX or size > PAGE_BYTES_MAX):
                return items, [replace(query, after=after), *queries[position + 1 :]]
            items.append(item)
            after = key
    return items, []


def in_state(state: LedgerState) -> Answers:
    """What is found in a state."""

    def answers(query: Query) -> Iterator[tuple[bytes, Item, int]]:
        if query.kind is Kind.CLOSEST_DESCENDANT_MERKLE_VALUE:
            found = state.closest_hash(query.key)
            if found is not None:
                yield query.key, {"key": hexed(query.key), query.kind: hexed(found)}, len(found)
            return
        for key in state.keys(query.key, query.after) if query.iterates else (query.key,):
            value = state.get(key)
            if value is not None:
                yield key, {"key": hexed(key), **query.told(value)}, len(key) + len(value)

    return answers


def between_states(old: LedgerState, new: LedgerState) -> Answers:
    """What differs between two states; of a value that is gone, what it was."""

    def answers(query: Query) -> Iterator[tuple[bytes, Item, int]]:
        for key, before, now in new.changes_since(old, query.key, query.after):
            value = before if now is None else now
            assert value is not None, "a key that is in neither state does not differ"
            how = "deleted" if now is None else "added" if before is None else "modified"
            read = len(key) + len(before or b"") + len(now or b"")
            yield key, {"key": hexed(key), **query.told(value), "type": how}, read

    return answers


@dataclass(frozen=True, slots=True)
class Queries:
    """What was asked for: the queries that are looked at, and how many there were."""

    asked: tuple[Query, ...]
    count: int


@dataclass(frozen=True, slots=True)
class QueriesDecoder:
    """A list of queries as JSON. Of those after the first `most`, only the number is read if `counts_rest`, else they
    are refused; `starts` allows `paginationStartKey`."""

    most: int
    counts_rest: bool = False
    starts: bool = False

    def __call__(self, value: object) -> Queries:
        if not isinstance(value, list) or (len(value) > self.most and not self.counts_rest):
            raise WrongParameter(f"a list of storage queries, at most {self.most}")
        return Queries(tuple(self._query(entry) for entry in value[: self.most]), len(value))

    def _query(self, entry: object) -> Query:
        kind = _choice(entry, "type", KINDS)
        query = Query(_key(entry, "key"), kind)
        if self.starts and isinstance(entry, dict) and entry.get("paginationStartKey") is not None:
            if not query.iterates:
                raise WrongParameter("paginationStartKey only in storage queries of descendants")
            return replace(query, after=_key(entry, "paginationStartKey"))
        return query


# How the items of `archive_v1_storageDiff` name what they want, and what is wanted where there are none.
RETURN_TYPES = {"value": Kind.DESCENDANTS_VALUES, "hash": Kind.DESCENDANTS_HASHES}
ALL_CHANGES = (Query(b"", Kind.DESCENDANTS_HASHES),)


@dataclass(frozen=True, slots=True)
class ChangesDecoder:
    """A list of at most `most` items of `archive_v1_storageDiff`; those of child tries, which are empty, drop out."""

    most: int

    def __call__(self, value: object) -> tuple[Query, ...]:
        if not isinstance(value, list) or len(value) > self.most:
            raise WrongParameter(f"a list of at most {self.most} objects with a returnType")
        queries = []
        for entry in value:
            kind = _choice(entry, "returnType", RETURN_TYPES)
            assert isinstance(entry, dict)
            prefix = b"" if entry.get("key") is None else _key(entry, "key")
            if entry.get("childTrieKey") is None:
                queries.append(Query(prefix, kind))
            else:
                _key(entry, "childTrieKey")
        return tuple(queries)


def _choice(entry: object, field: str, choices: Mapping[str, Kind]) -> Kind:
    name = entry.get(field) if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in choices:
        raise WrongParameter(f"objects whose {field} is one of {', '.join(choices)}")
    return choices[name]


def _key(entry: object, field: str) -> bytes:
    return decode_key(entry.get(field) if isinstance(entry, dict) else None)
