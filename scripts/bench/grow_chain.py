"""What blocks cost as the chain grows: to append, to read, to keep, and to start a node on.

Every block is proposed, executed and committed by a ledger, without transactions. What they are not is signed: whoever
makes a chain need not verify its own signatures, and most of them are not flushed one by one. What is measured is.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lmdb
from curves import Column, Curve, Form, Growth, Rows
from ports import free_run
from processes import seconds_of
from sync import BLOCK_TIME_MS, GENESIS_TIME_MS, SESSION_BLOCKS, served, trusting, write_spec

from chain.ledger import ExecutedBlock, Ledger, open_store
from chain.node_life import open_ledger
from chain.primitives.seal import Seal, bitmap
from genesis.spec import GenesisSpec
from runtime.executive import Executive
from runtime.types import InherentData

# Beyond the states that are kept, all of them.
SHORT = Form((280, 300), 1)
USUAL = Form((1_000, 10_000, 100_000), 3)
FULL = Form((*USUAL.sizes, 1_000_000), 3)
VALIDATORS = 4
SIGNATURE = bytes(96)
# How many blocks are appended, and read, for each sample of what takes longer.
APPENDED = 15
READ = 150
SEED = 7

MAKE = Column("make a block", "ms", Growth.FLAT)
APPEND = Column("execute and commit a block", "ms", Growth.FLAT)
READING = Column("read a block and its seal by height", "ms", Growth.LOGARITHMIC)
OPEN = Column("open the ledger", "ms", Growth.FLAT)
START = Column("start a node", "ms", Growth.FLAT)
MEMORY = Column("memory of the node", "MB", Growth.FLAT)
NODES = Column("nodes of the state's tree", "", Growth.FLAT)
DISK = Column("disk", "MB", Growth.LINEAR)
CURVE = Curve("chain", "The chain, in blocks", "blocks", (MAKE, APPEND, READING, OPEN, START, MEMORY, NODES, DISK))


def measure(form: Form) -> None:
    """Make one chain longer and longer, and measure it at each of the lengths."""
    rows = Rows(CURVE)
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name, trusting():
        folder = Path(name)
        spec = write_spec(folder, SESSION_BLOCKS)
        for size in form.sizes:
            appended = APPENDED * form.samples
            found = dict[str, Sequence[float]]()
            with _unflushed(), _opened(spec, folder) as ledger:
                found[MAKE.name] = [_make(ledger, size - appended - ledger.head.height)]
            with _opened(spec, folder) as ledger:
                found[APPEND.name] = _append(ledger, appended)
                found[READING.name] = _read(ledger, size, READ * form.samples)
                found[DISK.name] = [ledger.size_bytes / 1e6]
            found[OPEN.name] = [_open(spec, folder) for _ in range(form.samples)]
            found[NODES.name] = [_nodes(spec, folder)]
            starts = [_start(folder) for _ in range(form.samples)]
            found[START.name], found[MEMORY.name] = zip(*starts, strict=True)
            rows.add(size, found)
    rows.end()


@contextmanager
def _unflushed() -> Iterator[None]:
    """Leave it to the system when what ledgers that are opened here commit gets to the disk."""
    real = lmdb.open
    lmdb.open = partial(real, sync=False)  # type: ignore[assignment]
    try:
        yield
    finally:
        lmdb.open = real


@contextmanager
def _opened(spec: GenesisSpec, folder: Path) -> Iterator[Ledger]:
    ledger = open_ledger(spec, folder / "source", Executive(spec.runtime))
    try:
        yield ledger
    finally:
        ledger.close()


def proposed(ledger: Ledger, raws: Sequence[bytes] = ()) -> ExecutedBlock:
    """The next block, with the votes of all validators for its parent and what it has room for of the transactions."""
    height = ledger.head.height + 1
    parent_seal = None if height == 1 else _seal(height - 1, ledger.head_hash)
    inherent = InherentData(GENESIS_TIME_MS + height * BLOCK_TIME_MS, parent_seal)
    executed, rejected = ledger.propose(height, 0, SIGNATURE, inherent, raws)
    assert not rejected, rejected
    return executed


def commit(ledger: Ledger, executed: ExecutedBlock) -> None:
    """Make it the head, with the votes of all validators."""
    assert ledger.commit(executed, _seal(executed.height, executed.hash))


def _seal(height: int, block_hash: bytes) -> Seal:
    return Seal(height, 0, 0, block_hash, bitmap(range(VALIDATORS), VALIDATORS), SIGNATURE)


def _make(ledger: Ledger, count: int) -> float:
    """Milliseconds of a block in the mean."""
    began = time.process_time()
    for _ in range(count):
        commit(ledger, proposed(ledger))
    return 1000 * (time.process_time() - began) / count


def _append(ledger: Ledger, count: int) -> list[float]:
    """Milliseconds of a block that somebody else has made, flushed to the disk."""
    spent = list[float]()
    for _ in range(count):
        block = proposed(ledger).block
        began = time.process_time()
        commit(ledger, ledger.execute(block))
        spent.append(1000 * (time.process_time() - began))
    return spent


def _read(ledger: Ledger, size: int, count: int) -> list[float]:
    """Milliseconds of processor time, at heights all over the chain, decoded."""
    chance, spent = random.Random(SEED), list[float]()
    for _ in range(count):
        height = chance.randint(1, size)
        began = time.process_time()
        block_hash = ledger.hash_at(height)
        assert block_hash is not None
        block, seal = ledger.block(block_hash), ledger.seal(block_hash)
        spent.append(1000 * (time.process_time() - began))
        assert block is not None
        assert seal is not None
        assert (block.header.height, seal.height) == (height, height)
    return spent


def _open(spec: GenesisSpec, folder: Path) -> float:
    began = time.process_time()
    with _opened(spec, folder):
        return 1000 * (time.process_time() - began)


def _nodes(spec: GenesisSpec, folder: Path) -> int:
    """Of all states that are kept, once each."""
    store = open_store(folder / "source" / "chain", Executive(spec.runtime).genesis(spec.genesis), spec.name)
    try:
        with store.read() as snapshot:
            return snapshot.counts()["nodes"]
    finally:
        store.close()


def _start(folder: Path) -> tuple[float, float]:
    """Processor milliseconds of a node's process until it is ready, and its megabytes then."""
    with served(folder, free_run(2)) as pid:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return 1000 * seconds_of(pid), 1024 * resident / 1e6
