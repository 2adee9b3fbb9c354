"""What older releases wrote, made into what this one reads: one step for each schema, all in one transaction.

A database has the number of its schema in its `meta` table, and since schema 2 the release that laid it out. A change
of what the tables hold raises the number and adds a step; whatever kills a migration leaves the database as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from chain import __version__

SCHEMA: Final = 2

SCHEMA_KEY: Final = b"schema"
RELEASE_KEY: Final = b"release"
LOWEST_KEY: Final = b"lowest"


class Meta(Protocol):
    """The `meta` table in the transaction of a migration."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """From one schema to the next: what it does, as operators are told, and how."""

    what: str
    run: Callable[[Meta], None]


def _note_lowest(meta: Meta) -> None:
    if meta.get(LOWEST_KEY) is None:
        meta.put(LOWEST_KEY, bytes(4))


# The step from schema n to n + 1 is at n.
STEPS: Final[dict[int, Step]] = {
    1: Step("notes the release that laid out the tables, and from which height on there are blocks", _note_lowest),
}


def first_marks() -> dict[bytes, bytes]:
    """What a new database says of its own layout."""
    return {SCHEMA_KEY: SCHEMA.to_bytes(4, "little"), RELEASE_KEY: __version__.encode(), LOWEST_KEY: bytes(4)}


def migrate(meta: Meta, found: int) -> str:
    """Run all steps from a schema on, in the caller's transaction; what was done, for the operator."""
    done = [STEPS[schema] for schema in range(found, SCHEMA)]
    for step in done:
        step.run(meta)
    meta.put(SCHEMA_KEY, SCHEMA.to_bytes(4, "little"))
    meta.put(RELEASE_KEY, __version__.encode())
    return f"the database had schema {found} and has {SCHEMA} now: it {', and '.join(step.what for step in done)}"


def newer(found: int, release: str) -> str:
    """Why a database of a later release is not opened, and what to do."""
    by = f"potchain {release} or newer" if release else "a newer release"
    return (
        f"has schema {found}, and potchain {__version__} knows schemas up to {SCHEMA}: run {by}, or choose another "
        "folder with --base-path"
    )
