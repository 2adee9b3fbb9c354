"""What nodes keep of a task: what its rounds need, no more than is paid for, and nothing once the time is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import msgpack
import pytest

from chain import blob_terms
from chain.blob_keeper import BlobKeeper
from chain.blob_terms import Kept, kept_of
from chain.blobs import BlobStore
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from runtime.modules import training_storage
from runtime.modules.training import Training
from runtime.modules.training_sizes import MIB, RETAINED_ROUNDS, Claim, charged, running_bytes
from runtime.modules.training_types import Phase
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE
from tests.chain.story import StoryLedger
from tests.runtime.training_kit import ADAM, CLAIM, POLICY, Story, root

SMALL = replace(POLICY, slots=1, auditors_per_slot=1)
# Blobs of the lengths that a claim of 300 parameters gives.
TINY = Claim(program_bytes=500, dataset_bytes=3_000, parameters=300)


class RealBlobs(Story):
    """A story whose updates and models are blobs, put into a node's store as they are said on chain."""

    def __init__(self, path: Path, rounds: int = 2) -> None:
        self.store = BlobStore(path, 64 * MIB)
        self._rng = Random(1)
        self._made: dict[object, Hash] = {}
        self.program, self.dataset, self.params = self._put(500), self._put(1_000), self._put(1_200)
        super().__init__(
            policy=SMALL,
            storage=TINY,
            program_root=self.program,
            dataset_root=self.dataset,
            params_root=self.params,
            rounds=rounds,
        )
        self.keeper = BlobKeeper(cast(Any, StoryLedger(self)), self.store)

    def _put(self, size: int) -> Hash:
        return self.store.put(self._rng.randbytes(size))

    def update_root(self, slot: int, task: int = 0) -> bytes:
        key = ("update", task, self.state(task).round, self.state(task).attempt, slot)
        if key not in self._made:
            self._made[key] = self._put(400)
        return self._made[key]

    def round_trip(self) -> tuple[Hash, Hash, Hash]:
        """A whole round, with a look of the keeper after every block; update, parameters and optimiser state."""
        update = self.update_root(0)
        self.commit()
        self.keeper.keep()
        self.reveal()
        self.keeper.keep()
        params, optimizer = self._put(1_200), self._put(2_500)
        self.attest(params_root=params, optimizer_root=optimizer)
        self.next()
        self.keeper.keep()
        return update, params, optimizer

    def here(self, *roots: Hash) -> list[bool]:
        return [self.store.has(each) for each in roots]


def kept(story: Story) -> Kept:
    with StoryLedger(story).state() as state:
        return kept_of(story.chain.runtime.at(state).training, 0, state.header.height)


@pytest.mark.slow
def test_the_disk_that_hundreds_of_rounds_take_is_that_of_the_last_few(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Invariants look at every round that ever was, after every block: hundreds of rounds would wait for them alone.
    monkeypatch.setattr(Training, "check", lambda _: None)
    story = RealBlobs(tmp_path, rounds=10_000)
    rounds, used = [], []
    for _ in range(1_000 if request.config.getoption("--sweep") else 100):
        rounds.append(story.round_trip())
        used.append(story.store.bytes_used)
    assert len(set(used[RETAINED_ROUNDS + 1 :])) == 1
    assert used[-1] <= running_bytes(TINY, ADAM, SMALL) < 5 * MIB
    assert all(story.here(*blobs) == [True] * 3 for blobs in rounds[-RETAINED_ROUNDS:])
    assert not any(any(story.here(*blobs)) for blobs in rounds[:-RETAINED_ROUNDS])
    assert story.here(story.program, story.dataset, story.params) == [True] * 3


def test_a_restart_drops_nothing_that_is_needed_and_forgets_nothing_that_has_expired(tmp_path: Path) -> None:
    story = RealBlobs(tmp_path, rounds=1_000)
    rounds = [story.round_trip() for _ in range(RETAINED_ROUNDS)]
    # The node is down while the chain goes on.
    story.to_audit()
    update = story.update_root(0)
    params, optimizer = story._put(1_200), story._put(2_500)
    story.attest(params_root=params, optimizer_root=optimizer)
    story.next()
    again = BlobStore(tmp_path, 64 * MIB)
    keeper = BlobKeeper(cast(Any, StoryLedger(story)), again)
    keeper.keep()
    assert [again.has(each) for each in rounds[0]] == [False] * 3
    assert all(again.has(each) for blobs in (*rounds[1:], (update, params, optimizer)) for each in blobs)
    assert all(again.has(each) for each in (story.program, story.dataset, story.params))


def test_of_a_finished_task_the_model_outlives_the_data_set_and_both_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (training_storage, blob_terms):
        monkeypatch.setattr(module, "AFTER_BLOCKS", 4)
    monkeypatch.setattr(training_storage, "MODEL_BLOCKS", 6)
    story = RealBlobs(tmp_path, rounds=2)
    _, first, _ = story.round_trip()
    update, model, optimizer = story.round_trip()
    assert story.training.active_tasks.get() == ()
    seen = []
    for _ in range(12):
        seen.append(story.here(story.program, model, story.dataset, first, update, optimizer))
        story.next()
        story.keeper.keep()
    assert seen == [[True] * 6] * 4 + [[True, True, False, False, False, False]] * 6 + [[False] * 6] * 2
    assert story.store.bytes_used == 0


def test_a_model_that_somebody_pays_for_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (training_storage, blob_terms):
        monkeypatch.setattr(module, "AFTER_BLOCKS", 2)
    monkeypatch.setattr(training_storage, "MODEL_BLOCKS", 4)
    story = RealBlobs(tmp_path, rounds=1)
    _, model, _ = story.round_trip()
    story.chain.call(EVE, "training.extend_storage", task=0, blocks=5)
    for _ in range(10):
        story.next()
        story.keeper.keep()
    assert story.here(model, story.program, story.dataset) == [True, True, False]
    story.next(2)
    story.keeper.keep()
    assert story.here(model, story.program) == [False, False]


def test_a_program_that_is_longer_than_its_owner_claimed_is_kept_as_a_stranger_s_is(tmp_path: Path) -> None:
    story = RealBlobs(tmp_path)
    held = story.training.storage[0]
    story.training.storage[0] = replace(held, claim=replace(TINY, program_bytes=499))
    story.next()
    story.keeper.keep()
    incoming = {path.name for path in (tmp_path / "incoming").iterdir()}
    assert (story.program.hex() in incoming, story.dataset.hex() in incoming) == (True, False)


def test_arrays_that_together_exceed_the_claim_are_not_kept(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 64 * MIB)
    arrays = [store.put(bytes([number]) * 700) for number in range(4)]
    manifest = store.put(msgpack.packb({str(number): each for number, each in enumerate(arrays)}))
    length = store.length(manifest)
    assert length is not None
    for claimed, wanted in ((2_800 + length, True), (2_799 + length, False)):
        story = Story(dataset_root=manifest, storage=replace(CLAIM, dataset_bytes=claimed))
        keeper = BlobKeeper(cast(Any, StoryLedger(story)), store)
        keeper.keep()
        assert [store.wants(each) for each in (manifest, *arrays)] == [True, *[wanted] * 4]


def test_models_that_liars_name_take_the_room_of_old_rounds_and_never_that_of_the_running_one() -> None:
    story = Story(rounds=10)
    for _ in range(RETAINED_ROUNDS + 1):
        story.play()
    story.to_audit()
    slots = range(len(story.state().slots))
    needed = {story.task().program_root, story.training.storage[0].params_root, story.task().params_root}
    needed |= {story.task().optimizer_root, *(story.update_root(slot) for slot in slots)}
    liars: tuple[Keypair, ...] = (EVE, FERDIE)
    for aggregator in liars:
        story.chain.call(aggregator, "training.register_aggregator")
        story.aggregate(aggregator, word=aggregator.public)
    for validator in (ALICE, BOB, CHARLIE, DAVE):
        story.attest(validator, params_root=root("lie", validator), optimizer_root=root("state", validator))
    story.next()
    assert story.state().phase is Phase.AUDIT
    found = kept(story)
    assert needed <= {blob.root for blob in found.others}
    room = story.training.storage[0].bytes - charged(CLAIM.dataset_bytes) - 4 * charged(1)
    assert sum(charged(blob.bytes_max) for blob in found.others) <= room
    assert {root("lie", each) for each in (ALICE, BOB, CHARLIE, DAVE)} <= {blob.root for blob in found.others}


def test_a_model_that_most_said_comes_before_one_that_a_liar_said_first() -> None:
    story = Story()
    story.to_audit()
    story.attest(ALICE, params_root=root("lie"), optimizer_root=root("lie's state"))
    story.attest(BOB, CHARLIE, params_root=root("true"), optimizer_root=root("state"))
    story.next()
    said = [blob.root for blob in kept(story).others]
    assert said.index(root("true")) < said.index(root("lie"))


def test_what_a_round_ahead_began_from_and_reveals_is_needed_as_the_running_one_s_is() -> None:
    story = Story(rounds=10)
    story.to_audit()
    story.confirm()
    story.next()
    updates = [story.training.rounds[0].slots[slot].update_root for slot in range(4)]
    story.commit()
    story.reveal()
    model = story.training.provisional[0]
    updates += [story.ahead().slots[slot].update_root for slot in range(4)]
    for validator in (ALICE, BOB, CHARLIE, DAVE):
        story.attest(validator, params_root=root("lie", validator), optimizer_root=root("state", validator))
    story.next()
    said = [blob.root for blob in kept(story).others]
    first_lie = min(said.index(root("lie", each)) for each in (ALICE, BOB, CHARLIE, DAVE))
    assert len(set(updates)) == 8
    assert {model.params_root, model.optimizer_root, *updates} <= set(said[:first_lie])
