"""What a block of transfers costs as the state has more keys: nearly all of them are accounts.

A state is loaded as one that peers have sent is, its keys in order, and blocks go on from there: all keys are on the
disk, and those of the senders and receivers are all over it.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from curves import Column, Curve, Form, Growth, Rows
from execute import propose, sealed, transfer
from figures import Figure, Figures
from state_root import account, account_key, account_value

from chain.ledger import Ledger, open_store
from chain.primitives.keys import Keypair
from chain.primitives.merkle import ordered_root, verify_proof
from chain.primitives.merkle_chunks import TreeBuilder
from chain.store import Batch, Head, Store
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, ENDOWMENT, genesis_config

SHORT = Form((500, 1_000), 1)
USUAL = Form((1_000, 10_000, 100_000, 1_000_000), 7)
FULL = Form((*USUAL.sizes, 10_000_000), 7)
TRANSFERS = 100
# How many balances are proven for each block.
PROOFS = 10
# How many keys are written in one transaction while the state is loaded: some megabytes.
LOADED_AT_ONCE = 20_000
# Address space: ten million keys take seven gigabytes.
MAP_BYTES = 1 << 35
SEED = 7

RUN = Column("execute 100 transfers", "ms", Growth.FLAT)
ROOT = Column("root of the state", "ms", Growth.LOGARITHMIC)
COMMIT = Column("commit", "ms", Growth.LOGARITHMIC)
COLD = Column("read from the disk to open it and execute them", "kB", Growth.LOGARITHMIC)
PROVE = Column("prove and check a balance", "ms", Growth.LOGARITHMIC)
PROOF = Column("proof of a balance", "bytes", Growth.LOGARITHMIC)
OPEN = Column("open the ledger", "ms", Growth.FLAT)
DISK = Column("disk", "MB", Growth.LINEAR)
CURVE = Curve("keys", "The state, in keys", "keys", (RUN, ROOT, COMMIT, COLD, PROVE, PROOF, OPEN, DISK))


def measure(form: Form) -> None:
    """Make a state of each size, and blocks on it."""
    rows = Rows(CURVE)
    for size in form.sizes:
        with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
            rows.add(size, _measure(Path(folder) / "chain", size, form.samples))
    rows.end()


def _measure(path: Path, size: int, blocks: int) -> dict[str, Sequence[float]]:
    senders = [Keypair.from_seed(hashlib.sha256(b"sender %d" % number).digest()) for number in range(TRANSFERS)]
    endowed = {each.public: ENDOWMENT for each in (ALICE, *senders)}
    genesis = Executive(RUNTIME).genesis(genesis_config(validators=[ALICE], balances=endowed))
    accounts = size - len(genesis)
    store = open_store(path, genesis, "bench", map_bytes=MAP_BYTES)
    try:
        _load(store, genesis, accounts)
    finally:
        store.close()
    figures, chance = Figures(), random.Random(SEED)
    with _opened(path, genesis) as (ledger, executive):
        disk = ledger.size_bytes / 1e6
        for number in range(blocks + 1):
            raws = _transfers(ledger, senders, chance, accounts)
            _block(ledger, executive, raws, figures if number else Figures())  # the first one warms up
        proofs = [_prove(ledger, number, figures) for number in chance.sample(range(accounts), PROOFS * blocks)]
        made = propose(ledger, _transfers(ledger, senders, chance, accounts))
    _drop_from_memory(path)
    before, began = _read_bytes(), time.process_time()
    with _opened(path, genesis) as (ledger, _):
        figures["open"].cpu.append(time.process_time() - began)
        ledger.execute(made.block)
    return {
        RUN.name: _milliseconds(figures["runtime"]),
        ROOT.name: _milliseconds(figures["execute"] - figures["runtime"] - figures["extrinsics root"]),
        COMMIT.name: _milliseconds(figures["commit"]),
        COLD.name: [(_read_bytes() - before) / 1000],
        PROVE.name: _milliseconds(figures["prove"]),
        PROOF.name: proofs,
        OPEN.name: _milliseconds(figures["open"]),
        DISK.name: [disk],
    }


def _milliseconds(figure: Figure) -> list[float]:
    return [1000 * each for each in figure.cpu]


@contextmanager
def _opened(path: Path, genesis: dict[bytes, bytes]) -> Iterator[tuple[Ledger, Executive]]:
    executive = Executive(RUNTIME)
    ledger = Ledger.open(path, executive=executive, genesis_state=genesis, genesis_name="bench", map_bytes=MAP_BYTES)
    try:
        yield ledger, executive
    finally:
        ledger.close()


def _load(store: Store, genesis: dict[bytes, bytes], accounts: int) -> None:
    """Put so many accounts beside what is there, as the state after genesis.

    The header of genesis does not have its root; nobody asks for that, since a block's root is made of the tree.
    """
    value = account_value(0)
    keys = sorted(account_key(number) for number in range(accounts))
    entries = heapq.merge(sorted(genesis.items()), ((key, value) for key in keys))
    builder = TreeBuilder(0)
    with store.read() as snapshot:
        genesis_hash = snapshot.head().hash
    store.write(Batch.clear_states)
    while part := list(islice(entries, LOADED_AT_ONCE)):
        for entry in part:
            builder.add(*entry)
        _write(store, part, builder)
    root = builder.finish()
    _write(store, [], builder)

    def finish(batch: Batch) -> None:
        batch.put_tree(0, root, [], [])
        batch.put_head(Head(0, genesis_hash, builder.next_id, 0))

    store.write(finish)


def _write(store: Store, part: Sequence[tuple[bytes, bytes]], builder: TreeBuilder) -> None:
    def change(batch: Batch) -> None:
        batch.append_state(part)
        batch.put_nodes(builder.nodes)

    store.write(change)
    builder.nodes.clear()


def _transfers(ledger: Ledger, senders: Sequence[Keypair], chance: random.Random, accounts: int) -> list[bytes]:
    """One of each sender, to accounts all over the state."""
    receivers = chance.sample(range(accounts), len(senders))
    nonce = ledger.head.height
    return [
        transfer(ledger.genesis_hash, sender, account(number), nonce)
        for sender, number in zip(senders, receivers, strict=True)
    ]


def _block(ledger: Ledger, executive: Executive, raws: Sequence[bytes], figures: Figures) -> None:
    """Execute and commit a block of which all signatures are known; a sample of each figure."""
    block = propose(ledger, raws).block
    with figures.sample("execute"):
        executed = ledger.execute(block)
    with figures.sample("extrinsics root"):
        ordered_root(block.extrinsics)
    with ledger.state() as state, figures.sample("runtime"):
        executive.execute(state, block.header, block.extrinsics)
    seal = sealed(ledger, executed)
    with figures.sample("commit"):
        ledger.commit(executed, seal)


def _prove(ledger: Ledger, number: int, figures: Figures) -> int:
    """Prove an account's balance and check it; the proof's bytes."""
    key = account_key(number)
    with ledger.state() as state, figures.sample("prove"):
        proof = state.prove([key])
        found = verify_proof(state.header.state_root, [key], proof)
    assert found[key] is not None
    return sum(map(len, proof))


def _drop_from_memory(path: Path) -> None:
    """Have the system forget what it keeps of the file, so that what is read of it is read from the disk."""
    file = os.open(path / "data.mdb", os.O_RDONLY)
    os.fdatasync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def _read_bytes() -> int:
    """What this process has had read from disks so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))
