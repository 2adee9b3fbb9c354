"""Storage queries of the JSON-RPC interface specification: `chainHead` and `archive` ask for them, in pages.

A page is bounded in items and bytes, so that no query, whatever it asks for, holds a thread or memory for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chain.ledger import LedgerState
from chain.primitives.hashing import blake2_256
from chain.primitives.merkle import KEY_BYTES_MAX
from chain.rpc.context import hexed
from chain.rpc.params import Hex, WrongParameter

# Reading one key of an older state climbs a tree: a page takes some ten milliseconds of a thread.
PAGE_ITEMS_MAX = 256
# As hex and JSON about half a megabyte: less than a page of keys of the older methods. One item alone always fits.
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


def read_page(state: LedgerState, queries: Sequence[Query]) -> tuple[list[Item], list[Query]]:
    """As many items as a page takes, and the queries, or parts of them, that are left for the next; for threads."""
    items: list[Item] = []
    size = 0
    for position, query in enumerate(queries):
        after = query.after
        for key, field, data in _answers(state, query):
            size += len(key) + len(data)
            if items and (len(items) >= PAGE_ITEMS_MAX or size > PAGE_BYTES_MAX):
                return items, [replace(query, after=after), *queries[position + 1 :]]
            items.append({"key": hexed(key), field: hexed(data)})
            after = key
    return items, []


def _answers(state: LedgerState, query: Query) -> Iterator[tuple[bytes, str, bytes]]:
    """Keys, each with the name and the bytes of what is said about it."""
    if query.kind is Kind.CLOSEST_DESCENDANT_MERKLE_VALUE:
        found = state.closest_hash(query.key)
        if found is not None:
            yield query.key, query.kind, found
        return
    hashes = query.kind in (Kind.HASH, Kind.DESCENDANTS_HASHES)
    for key in state.keys(query.key, query.after) if query.iterates else (query.key,):
        value = state.get(key)
        if value is not None:
            yield key, "hash" if hashes else "value", blake2_256(value) if hashes else value


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
        if not isinstance(entry, dict):
            raise WrongParameter("objects with a key and a type as storage queries")
        name = entry.get("type")
        kind = KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise WrongParameter(f"storage queries of a type among {', '.join(KINDS)}")
        start = entry.get("paginationStartKey") if self.starts else None
        if start is not None and kind not in ITERATING:
            raise WrongParameter("paginationStartKey only in storage queries of descendants")
        query = Query(Hex()(entry.get("key")), kind, None if start is None else Hex()(start))
        if len(query.key) > KEY_BYTES_MAX or len(query.after or b"") > KEY_BYTES_MAX:
            raise WrongParameter(f"storage keys of at most {KEY_BYTES_MAX} bytes")
        return query


@dataclass(frozen=True, slots=True)
class Queries:
    """What was asked for: the queries that are looked at, and how many there were."""

    asked: tuple[Query, ...]
    count: int
