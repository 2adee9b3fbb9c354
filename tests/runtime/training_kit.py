"""What honest workers and validators do in each phase of a round, for tests that tell stories about the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from runtime.modules import training_invariants, validators_invariants
from runtime.modules.training import Training
from runtime.modules.training_policy import Adam, Descent, Policy
from runtime.modules.training_sizes import AFTER_BLOCKS, MODEL_BLOCKS, Claim, cost, model_bytes, running_bytes
from runtime.modules.training_types import CAPACITY_MAX, Phase, RoundState, Task, Worker, commitment_of
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE, POT, TestChain

VALIDATORS = (ALICE, BOB, CHARLIE, DAVE)
PEOPLE = {keypair.public: keypair for keypair in (*VALIDATORS, EVE, FERDIE)}
PRICE = 2 * POT
ADAM = Descent(Adam(learning_rate=20_000_000_000, beta1=900_000_000_000, beta2=999_000_000_000, epsilon=10_000))
POLICY = Policy(
    slots=4,
    commit_blocks=5,
    reveal_blocks=10,
    audit_blocks=10,
    auditors_per_slot=2,
    audited_ppm=1_000_000,
    tolerance_micro_steps=510_000,
    outliers_ppm=20,
    evaluate_rounds=1,
)
CLAIM = Claim(program_bytes=7_000, dataset_bytes=120_000, parameters=20_000)
EVALUATION = (1_234_567, 912_000)


def root(*words: object) -> bytes:
    """A root that stands for some blob."""
    return blake2_256(repr(words).encode())


SALT = root("salt")


def terms(**changes: object) -> dict[str, object]:
    """The arguments of `create_task`."""
    return {
        "name": b"digits",
        "program_root": root("program"),
        "dataset_root": root("dataset"),
        "params_root": root("params"),
        "optimizer": ADAM,
        "policy": POLICY,
        "rounds": 2,
        "price_per_slot": PRICE,
        "storage": CLAIM,
        **changes,
    }


class Story:
    """A chain with one task of ALICE's and the workers EVE and FERDIE, at the first block of round 0.

    Unless told otherwise the workers have seats for all slots of all tasks, which are two for each.
    """

    def __init__(
        self,
        *,
        workers: Iterable[Keypair] = (EVE, FERDIE),
        capacity: int | None = None,
        tasks: int = 1,
        sessions: Mapping[str, int] | None = None,
        **changes: object,
    ) -> None:
        self.chain = TestChain(sessions=sessions)
        for _ in range(tasks):
            self.chain.call(ALICE, "training.create_task", **terms(**changes))
        slots = sum(task.policy.slots for task in self.training.tasks.values())
        for worker in (workers := tuple(workers)):
            seats = min(CAPACITY_MAX, max(1, -(-slots // len(workers)))) if capacity is None else capacity
            self.chain.call(worker, "training.register_worker", capacity=seats)
        self.next()

    @property
    def training(self) -> Training:
        return self.chain.modules.training

    def task(self, task: int = 0) -> Task:
        return self.training.tasks[task]

    def state(self, task: int = 0) -> RoundState:
        return self.training.rounds[task]

    def ahead(self, task: int = 0) -> RoundState:
        """The round that has begun while the one before is audited."""
        return self.training.rounds_ahead[task]

    def newest(self, task: int = 0) -> RoundState:
        """The round that takes commitments and reveals: the one ahead where there is one."""
        return self.training.rounds_ahead.get(task) or self.state(task)

    def attempt(self, task: int = 0, state: RoundState | None = None) -> dict[str, int]:
        """The arguments that say which attempt at which round of a task a call is about: by default the running one."""
        state = state or self.state(task)
        return {"task": task, "round": state.round, "attempt": state.attempt}

    def worker(self, keypair: Keypair) -> Worker:
        return self.training.workers[keypair.public]

    def paused(self, task: int = 0) -> set[bytes]:
        """Who is not drawn for a task until it resumes."""
        return {account for account, seats in self.training.seats.items() if task in seats.paused}

    def seats(self) -> dict[bytes, tuple[int, int]]:
        """Who can be drawn: how many seats each has, and how many slots."""
        found = self.training.seats.items()
        return {account: (len(seats.places), seats.taken) for account, seats in found if seats.places}

    def storage(self, task: int = 0) -> int:
        """What a task's blobs have taken from its owner: the deposit while it runs, then what they cost."""
        held = self.training.storage[task]
        if held.ended_at is None:
            return held.deposit
        size, price = running_bytes(CLAIM, self.task(task).optimizer, self.task(task).policy), POT // 10
        running = cost(size, held.ended_at - held.since + AFTER_BLOCKS, price)
        return running + cost(model_bytes(CLAIM), MODEL_BLOCKS if self.task(task).round else 0, price)

    def next(self, count: int = 1) -> None:
        """Close this many blocks. Nothing else reserves here: every reserve is a task's, a bond or a stake."""
        self.chain.run_blocks(count)
        reserved = {who: info.data.reserved for who, info in self.chain.modules.system.account.items()}
        expected = training_invariants.bound(self.training)
        for who, amount in validators_invariants.bound(self.chain.modules.validators).items():
            expected[who] = expected.get(who, 0) + amount
        assert {who: amount for who, amount in reserved.items() if amount} == {
            who: amount for who, amount in expected.items() if amount
        }

    def wait_until_free(self, keypair: Keypair) -> None:
        """Skip the time that a bond waits for, which no block of a test has to be made for."""
        worker = self.worker(keypair)
        assert worker.free_at > self.chain.height
        self.training.workers[keypair.public] = replace(worker, free_at=self.chain.height)

    def slots_of(self, keypair: Keypair, task: int = 0) -> list[int]:
        return [index for index, slot in enumerate(self.state(task).slots) if slot.worker == keypair.public]

    def owner_of(self, slot: int, task: int = 0) -> Keypair:
        return PEOPLE[self.newest(task).slots[slot].worker]

    def update_root(self, slot: int, task: int = 0) -> bytes:
        return root("update", task, self.newest(task).round, slot)

    def commit(self, *, without: Collection[int] = (), task: int = 0) -> None:
        """Every slot's worker commits, but for some slots; then the block is closed."""
        self.commit_all(without=without, task=task)
        self.next()

    def commit_all(self, *, without: Collection[int] = (), task: int = 0) -> None:
        """The same, in a block that stays open."""
        state = self.newest(task)
        for index, slot in enumerate(state.slots):
            if index not in without:
                update_root = self.update_root(index, task)
                commitment = commitment_of(slot.worker, task, state.round, state.attempt, index, SALT, update_root)
                self.chain.call(
                    PEOPLE[slot.worker],
                    "training.commit",
                    task=task,
                    round=state.round,
                    attempt=state.attempt,
                    slot=index,
                    commitment=commitment,
                )

    def reveal(self, *, without: Collection[int] = (), task: int = 0) -> None:
        """Every committed slot's worker reveals, but for some slots; then the block is closed."""
        state = self.newest(task)
        assert state.phase is Phase.REVEAL
        for index, slot in enumerate(state.slots):
            if slot.commitment is not None and index not in without:
                self.reveal_one(index, task)
        self.next()
        # Audits are drawn from the beacons of two blocks.
        if task in self.training.first_beacons:
            self.next()

    def reveal_one(self, slot: int, task: int = 0, **changes: object) -> None:
        arguments = {"salt": SALT, "update_root": self.update_root(slot, task), **changes}
        attempt = self.attempt(task, self.newest(task))
        self.chain.call(self.owner_of(slot, task), "training.reveal", **attempt, slot=slot, **arguments)

    def to_audit(self, *, task: int = 0) -> None:
        """Commit and reveal everything."""
        self.commit(task=task)
        self.reveal(task=task)
        assert self.state(task).phase is Phase.AUDIT

    def aggregate(
        self, aggregator: Keypair, *, without: Collection[int] = (), task: int = 0, word: object = ""
    ) -> None:
        """Say of every revealed slot but some what `attest` says of them, unless `word` differs."""
        accepted, params_root, optimizer_root = self._model(task, without, word)
        self.chain.call(
            aggregator,
            "training.aggregate",
            **self.attempt(task),
            accepted=bitmap(accepted, len(self.state(task).slots)),
            params_root=params_root,
            optimizer_root=optimizer_root,
        )

    def _model(self, task: int, without: Collection[int], word: object) -> tuple[list[int], bytes, bytes]:
        """The slots that count, and what they make of the model."""
        state, before = self.state(task), self.task(task)
        accepted = [
            index for index, slot in enumerate(state.slots) if slot.update_root is not None and index not in without
        ]
        if not accepted:
            return accepted, before.params_root, before.optimizer_root
        return (
            accepted,
            root("params", task, state.round, accepted, word),
            root("optimizer", task, state.round, accepted),
        )

    def attest(
        self, *by: Keypair, without: Collection[int] = (), task: int = 0, word: object = "", **changes: object
    ) -> None:
        """Validators (by default all) accept every revealed slot but for some, and agree unless `word` differs."""
        for validator in by or VALIDATORS:
            accepted, params_root, optimizer_root = self._model(task, without, word)
            arguments = {
                "accepted": bitmap(accepted, len(self.state(task).slots)),
                "params_root": params_root,
                "optimizer_root": optimizer_root,
                "evaluation": EVALUATION if self.task(task).is_evaluated(self.state(task).round) else None,
                **changes,
            }
            self.chain.call(validator, "training.attest", **self.attempt(task), **arguments)

    def confirm(self, *by: Keypair, task: int = 0, word: object = "") -> None:
        """Validators (by default all) say what all revealed slots make, and agree unless `word` differs."""
        for validator in by or VALIDATORS:
            _, params_root, optimizer_root = self._model(task, (), word)
            model = {"params_root": params_root, "optimizer_root": optimizer_root}
            self.chain.call(validator, "training.confirm", **self.attempt(task), **model)

    def challenge(self, validator: Keypair, slot: int, task: int = 0) -> None:
        self.chain.call(validator, "training.challenge", **self.attempt(task), slot=slot)

    def play(self, *, task: int = 0) -> None:
        """A whole round in which everybody is honest and quick."""
        self.to_audit(task=task)
        self.attest(task=task)
        self.next()
