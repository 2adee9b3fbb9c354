"""What blocks cost as more workers are registered: with rounds of 64 slots, who trains them drawn among all.

Real blocks of signed transactions on a ledger, whose signatures are known when a block is timed. Workers compute
nothing and say everything in time; validators agree. Where the runtime takes no more workers, the curve ends.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from curves import Column, Curve, Form, Growth, Rows
from grow_chain import commit, proposed
from sync import trusting

from chain.ledger import Ledger
from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from chain.primitives.types import sign_extrinsic
from runtime.executive import Executive
from runtime.modules.training_types import SEATS_MAX, Phase, RoundState, commitment_of
from runtime.potchain import RUNTIME
from runtime.testing import ENDOWMENT, genesis_config
from tests.runtime.training_kit import EVALUATION, POLICY, SALT, VALIDATORS, root, terms

SHORT = Form((8, 16), 1)
USUAL = Form((10, 100, 1_000, 5_000), 5)
SLOTS = 64
# Ten workers have seats for a round's slots and, while it is audited, for those of the next.
CAPACITY = 16
# A round takes six; one that takes more than this is stuck.
BLOCKS_A_ROUND_MAX = 40

IDLE = Column("a block while workers compute", "ms", Growth.FLAT)
ROUND = Column("all blocks of a round of 64 slots", "ms", Growth.FLAT)
REGISTER = Column("a block with a registration", "ms", Growth.FLAT)
CURVE = Curve("workers", "Workers that are registered", "workers", (IDLE, ROUND, REGISTER))


def measure(form: Form) -> None:
    """Make a chain of each number of workers, and rounds on it."""
    rows = Rows(CURVE)
    for size in form.sizes:
        if size * CAPACITY <= SEATS_MAX:
            with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder, trusting():
                rows.add(size, _measure(Path(folder), size, form.samples))
    rows.end()
    print(f"  the runtime registers {SEATS_MAX:,} seats at most")


def _measure(folder: Path, size: int, samples: int) -> dict[str, Sequence[float]]:
    workers = [Keypair.from_seed(hashlib.sha256(b"worker %d" % number).digest()) for number in range(size)]
    with _opened(folder, workers) as ledger:
        market = Market(ledger, workers)
        market.register(size - samples)
        # Each in a block of its own; the others come together.
        registering = [market.register(1) for _ in range(samples)]
        # The first round waits for a beacon, and the last begins another one.
        task = terms(policy=replace(POLICY, slots=SLOTS), rounds=samples + 2)
        market.block([market.signed(VALIDATORS[0], "training.create_task", **task)])
        idle, rounds = list[float](), list[float]()
        market.play()
        for _ in range(samples):
            took, waiting = market.play()
            rounds.append(took)
            idle.append(waiting)
    return {IDLE.name: idle, ROUND.name: rounds, REGISTER.name: registering}


@contextmanager
def _opened(folder: Path, workers: Sequence[Keypair]) -> Iterator[Ledger]:
    executive = Executive(RUNTIME)
    balances = {each.public: ENDOWMENT for each in (*VALIDATORS, *workers)}
    genesis = executive.genesis(genesis_config(balances=balances))
    ledger = Ledger.open(folder / "chain", executive=executive, genesis_state=genesis, genesis_name="bench")
    try:
        yield ledger
    finally:
        ledger.close()


class Market:
    """A chain with a task, and all who take part in it. What it returns is processor milliseconds of execution."""

    def __init__(self, ledger: Ledger, workers: Sequence[Keypair]) -> None:
        self._ledger = ledger
        self._people = {each.public: each for each in (*VALIDATORS, *workers)}
        self._unregistered = list(workers)
        self._nonces: Counter[bytes] = Counter()

    def register(self, count: int) -> float:
        """Register so many more workers, in as few blocks as take them."""
        coming = [self._unregistered.pop() for _ in range(count)]
        raws = [self.signed(worker, "training.register_worker", capacity=CAPACITY) for worker in coming]
        took = 0.0
        while raws:
            took += self.block(raws, whole=False)
            raws = raws[self._taken :]
        return took

    def signed(self, who: Keypair, path: str, **arguments: object) -> bytes:
        """A transaction with the next nonce."""
        self._nonces[who.public] += 1
        return sign_extrinsic(
            who,
            RUNTIME.encode_call(RUNTIME.call(path, **arguments)),
            nonce=self._nonces[who.public] - 1,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self._ledger.genesis_hash,
        )

    def block(self, raws: Sequence[bytes] = (), *, whole: bool = True) -> float:
        """Build a block of what it has room for, which has to be all unless told otherwise; execute and commit it."""
        block = proposed(self._ledger, raws).block
        self._taken = len(set(raws) & set(block.extrinsics))
        assert self._taken == len(raws) or not whole
        began = time.process_time()
        executed = self._ledger.execute(block)
        took = 1000 * (time.process_time() - began)
        commit(self._ledger, executed)
        return took

    def play(self) -> tuple[float, float]:
        """A round from its first block to the next one's: all of its blocks, and one in which nobody says anything."""
        number, took, idle = self._round().round, 0.0, 0.0
        for _ in range(BLOCKS_A_ROUND_MAX):
            state = self._round()
            if state.round != number:
                return took, idle
            if state.phase is Phase.COMMIT and not idle:
                idle = self.block()
                took += idle
            else:
                took += self.block(list(self._said(state)))
        raise AssertionError(f"expected round {number} to be over after {BLOCKS_A_ROUND_MAX} blocks")

    def _round(self) -> RoundState:
        with self._ledger.state() as state:
            return RUNTIME.at(state).training.rounds[0]

    def _said(self, state: RoundState) -> Iterator[bytes]:
        """What the round waits for."""
        where = {"task": 0, "round": state.round, "attempt": state.attempt}
        for index, slot in enumerate(state.slots):
            update = root("update", state.round, index)
            if state.phase is Phase.COMMIT:
                made = commitment_of(slot.worker, 0, state.round, state.attempt, index, SALT, update)
                yield self.signed(self._people[slot.worker], "training.commit", **where, slot=index, commitment=made)
            elif state.phase is Phase.REVEAL and slot.update_root is None:
                shown = {"slot": index, "salt": SALT, "update_root": update}
                yield self.signed(self._people[slot.worker], "training.reveal", **where, **shown)
        if state.phase is Phase.AUDIT:
            word = {
                "accepted": bitmap(range(len(state.slots)), len(state.slots)),
                "params_root": root("params", state.round),
                "optimizer_root": root("optimizer", state.round),
                "evaluation": EVALUATION,
            }
            for validator in VALIDATORS:
                yield self.signed(validator, "training.attest", **where, **word)
