"""Databases of other releases: older ones are brought up to date, whole or not at all, newer ones are left alone."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from chain import __version__, migrations
from chain.migrations import SCHEMA, STEPS, Meta, Step
from chain.store import DataFolderError, Store
from tests.chain.test_store import GENESIS, check_whole, contents, open_store, write_block


def marks(path: Path) -> dict[bytes, bytes]:
    """The `meta` table of a database that nobody has open."""
    with (
        lmdb.open(str(path), max_dbs=16, readonly=True, lock=False) as environment,
        environment.begin() as txn,
        txn.cursor(environment.open_db(b"meta", txn=txn, create=False)) as cursor,
    ):
        return dict(cursor)


def mark(path: Path, **changes: bytes | None) -> None:
    with lmdb.open(str(path), max_dbs=16) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as txn:
            for name, value in changes.items():
                if value is None:
                    txn.delete(name.encode(), db=meta)
                else:
                    txn.put(name.encode(), value, db=meta)


@pytest.fixture
def schema_1(tmp_path: Path) -> Path:
    """Six blocks as release 0.1.0 left them before schema 2: its `meta` table had four rows."""
    path = tmp_path / "db"
    with open_store(path) as store:
        for height in range(1, 7):
            store.write(lambda batch, height=height: write_block(batch, height))  # type: ignore[misc]
    mark(path, schema=(1).to_bytes(4, "little"), release=None, lowest=None)
    assert sorted(marks(path)) == [b"genesis", b"genesis name", b"head", b"schema"]
    return path


def test_a_database_of_schema_1_is_brought_up_to_date_when_it_is_opened_and_says_so_once(schema_1: Path) -> None:
    with open_store(schema_1) as store:
        assert store.migrated is not None
        assert store.migrated.startswith(f"the database had schema 1 and has {SCHEMA} now: it notes the release")
        check_whole(store, 6)
    found = marks(schema_1)
    assert found[b"schema"] == SCHEMA.to_bytes(4, "little")
    assert (found[b"release"], found[b"lowest"]) == (__version__.encode(), bytes(4))
    with open_store(schema_1) as store:
        assert store.migrated is None
        check_whole(store, 6)


def test_a_migration_that_ends_in_the_middle_leaves_the_database_as_it_was(
    schema_1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = marks(schema_1)

    def broken(meta: Meta) -> None:
        meta.put(b"half", b"done")
        raise RuntimeError("a kill would do the same")

    monkeypatch.setitem(STEPS, 1, Step("breaks", broken))
    with pytest.raises(RuntimeError, match="a kill"), open_store(schema_1):
        pass
    assert marks(schema_1) == before
    monkeypatch.undo()
    with open_store(schema_1) as store:
        check_whole(store, 6)


def test_steps_are_run_in_turn_from_the_schema_that_is_found(schema_1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "SCHEMA", 3)
    monkeypatch.setattr("chain.store.SCHEMA", 3)
    monkeypatch.setitem(STEPS, 2, Step("does more", lambda meta: meta.put(b"more", meta.get(b"lowest") or b"none")))
    with open_store(schema_1) as store:
        assert store.migrated is not None
        assert store.migrated.endswith(", and does more")
    assert marks(schema_1)[b"more"] == bytes(4), "the second step sees what the first has done"


@pytest.mark.parametrize(
    ("release", "message"),
    [(b"9.1.0", f"knows schemas up to {SCHEMA}: run potchain 9.1.0 or newer, or"), (None, "run a newer release, or")],
)
def test_a_database_of_a_newer_release_is_refused_untouched(
    tmp_path: Path, release: bytes | None, message: str
) -> None:
    with open_store(tmp_path / "db"):
        pass
    mark(tmp_path / "db", schema=(99).to_bytes(4, "little"), release=release)
    before = contents(tmp_path / "db")
    with pytest.raises(DataFolderError, match="has schema 99, and potchain") as caught:
        Store.open(tmp_path / "db", GENESIS, "test", lambda batch: write_block(batch, 0))
    assert message in str(caught.value)
    assert contents(tmp_path / "db") == before


def test_there_is_a_step_from_every_schema_that_was_ever_released() -> None:
    assert sorted(STEPS) == list(range(1, SCHEMA))
