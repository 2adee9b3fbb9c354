"""Computes the state roots of blocks that touch 2,000 of 1,000,000 accounts in a database on disk, and times them.

    taskset -c 1 .venv/bin/python scripts/bench/state_root.py [--keys 1000000] [--profile]

Every block is committed before the next, so that the tree's nodes get scattered over the file as a live chain's are. In
half of the blocks all the accounts exist before and after; in the others a tenth is new and a tenth goes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
import time
from pathlib import Path

from figures import Figures, heading, machine, profiled, show

from chain.primitives import merkle
from chain.primitives.hashing import blake2_128_concat, storage_prefix
from chain.primitives.merkle import MemoryTree, Update
from chain.primitives.scale import encode
from chain.store import Batch, Head, Store
from runtime.types import AccountData, AccountInfo

GOAL_MS = 150.0
GENESIS_HASH = bytes(32)
# How many keys are written at once while the state is built: the memory that they take.
BUILT_AT_ONCE = 50_000
SEED = 7

KINDS = ("accounts changed", "some made, some removed")

Changes = dict[bytes, bytes | None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000, help="how many the state has")
    parser.add_argument("--touched", type=int, default=2_000, help="how many a block changes")
    parser.add_argument("--blocks", type=int, default=15, help="how many samples of each figure")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("--short", action="store_true", help="a small state, whose root is checked, too")
    options = parser.parse_args()
    if options.short:
        options.keys, options.touched, options.blocks = 3_000, 100, 2
    print(machine())
    # A tuple of bytes is no work for Python's garbage collector, as the node's state on disk is none.
    keys = tuple(sorted(account_key(index) for index in range(options.keys)))
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        state = State(Path(folder) / "chain")
        started = time.perf_counter()
        for first in range(0, len(keys), BUILT_AT_ONCE):
            changes: Changes = dict.fromkeys(keys[first : first + BUILT_AT_ONCE], account_value(0))
            state.commit(changes, state.update(changes))
        print(
            f"built {len(keys):,} accounts in {time.perf_counter() - started:.1f} s: {state.megabytes:.0f} MB on disk"
        )
        _measure(state, keys, options.touched, options.blocks, options.profile)
        if options.short:
            state.check()
        state.store.close()


def _measure(state: State, keys: tuple[bytes, ...], touched: int, blocks: int, profile: bool) -> None:
    figures, chance = Figures(), random.Random(SEED)
    for block in range(blocks + 1):
        taken = figures if block else Figures()  # the first one warms up
        for kind in KINDS:
            changes: Changes = dict.fromkeys(chance.sample(keys, touched), account_value(block + 1))
            if kind is KINDS[1]:
                _replace(changes, touched // 10, len(keys) + block * touched)
            with taken.sample(kind):
                update = state.update(changes)
            with taken.sample(f"{kind}, commit"):
                state.commit(changes, update)
    heading(f"{touched:,} of {len(keys):,} keys, {blocks} blocks of each kind")
    for kind in KINDS:
        show(f"state root, {kind}", figures[kind], GOAL_MS)
        show(f"  {kind}, then commit to LMDB", figures[f"{kind}, commit"])
    changes = dict.fromkeys(chance.sample(keys, touched), account_value(blocks + 2))
    state.reopen_from_disk()
    with figures.sample("cold"):
        state.update(changes)
    show("state root, nothing in memory", figures["cold"], GOAL_MS)
    if profile:
        with profiled("a state root"):
            state.update(changes)


def _replace(changes: Changes, count: int, fresh: int) -> None:
    """Have so many of the changed accounts go, and as many new ones come in the place of others."""
    touched = list(changes)
    for index in range(count):
        changes[touched[index]] = None
        del changes[touched[-1 - index]]
        changes[account_key(fresh + index)] = account_value(0)


class State:
    """A state in a store, as the ledger keeps it, without blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = self._open()

    def _open(self) -> Store:
        def write_genesis(batch: Batch) -> None:
            batch.put_tree(0, None, [], [])
            batch.put_head(Head(0, GENESIS_HASH, 0, 0))

        return Store.open(self._path, GENESIS_HASH, "bench", write_genesis)

    def update(self, changes: Changes) -> Update:
        """The tree after the changes: what the goal is for."""
        with self.store.read() as snapshot:
            place = snapshot.head()
            return merkle.update(snapshot, snapshot.root_at(place.height), changes, place.next_node)

    def commit(self, changes: Changes, update: Update) -> None:
        """Write the changes as the next block's, and keep no older state."""

        def write(batch: Batch) -> None:
            place = batch.head()
            height = place.height + 1
            batch.put_state(changes)
            batch.put_tree(height, update.root, update.new_nodes, update.stale)
            batch.forget_state(place.height)
            batch.put_head(Head(height, GENESIS_HASH, place.next_node + len(update.new_nodes), height))

        self.store.write(write)

    @property
    def megabytes(self) -> float:
        """What it takes of the disk."""
        return self.store.size_bytes / 1e6

    def reopen_from_disk(self) -> None:
        """Open the store again, with nothing of it in the system's cache."""
        self.store.close()
        file = os.open(self._path / "data.mdb", os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
        self.store = self._open()

    def check(self) -> None:
        """AssertionError unless the root is the one of a tree that is made from the values afresh."""
        with self.store.read() as snapshot:
            values: Changes = {key: snapshot.value(key) for key in snapshot.keys(b"")}
            root = snapshot.root_at(snapshot.head().height)
            assert merkle.root_hash(root) == MemoryTree(values).root_hash


def account(index: int) -> bytes:
    """One of as many accounts as somebody likes."""
    return hashlib.sha256(b"account %d" % index).digest()


def account_key(index: int) -> bytes:
    """Where the state has it."""
    return storage_prefix("System", "Account") + blake2_128_concat(account(index))


def account_value(nonce: int) -> bytes:
    """What the state has there."""
    return encode(AccountInfo, AccountInfo(nonce=nonce, providers=1, data=AccountData(free=10**15 - nonce)))


if __name__ == "__main__":
    main()
