"""What keeping a task's blobs costs its owner, until when they are kept, and that no more is sold than there is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.modules import training_storage
from runtime.modules.training import Training
from runtime.modules.training_genesis import read_tasks
from runtime.modules.training_policy import Adam, Descent, Int8, Int16, Nesterov, Sgd, TopK
from runtime.modules.training_sizes import (
    AFTER_BLOCKS,
    DAY_BLOCKS,
    MIB,
    MODEL_BLOCKS,
    SPARE_BLOCKS,
    STORAGE_BLOCKS_MAX,
    Claim,
    charged,
    cost,
    deposit_of,
    model_bytes,
    optimizer_bytes_max,
    running_bytes,
    update_bytes_max,
)
from runtime.modules.training_types import Phase, TaskStatus, Terms
from runtime.testing import ALICE, BOB, ENDOWMENT, EVE, POT, TestChain
from tests.runtime.training_kit import ADAM, CLAIM, POLICY, Story, terms
from trainer import optimizers
from trainer.codecs import INT8, INT16
from trainer.codecs.topk import TopK as TrainerTopK

PRICE = POT // 10
CHUNK = 65_536
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets are kept for four blocks after the end, and models for six more."""
    monkeypatch.setattr(training_storage, "AFTER_BLOCKS", 4)
    monkeypatch.setattr(training_storage, "MODEL_BLOCKS", 6)


def last_until(story: Story, until: int) -> None:
    """Let the deposit of task 0 last until this block."""
    story.training.storage[0] = replace(story.training.storage[0], until=until)


def test_a_mebibyte_for_a_day_costs_the_price_and_a_byte_for_a_block_costs_something() -> None:
    assert cost(MIB, DAY_BLOCKS, PRICE) == PRICE
    assert cost(3 * MIB, 10 * DAY_BLOCKS, PRICE) == 30 * PRICE
    assert cost(1, 1, PRICE) == 2  # 1.1 planck
    assert cost(0, DAY_BLOCKS, PRICE) == 0


def test_the_bytes_of_a_task_are_added_up_blob_by_blob() -> None:
    # 80,000 bytes of parameters are two chunks, two moments of them three, an update one.
    round_ = 4 * CHUNK + 2 * CHUNK + 3 * CHUNK
    assert running_bytes(CLAIM, ADAM, POLICY) == CHUNK + (2 + 4) * CHUNK + 2 * CHUNK + 6 * round_
    assert model_bytes(CLAIM) == 3 * CHUNK


@pytest.mark.parametrize("length", [1, 255, 256, 257, 20_000, 1_000_000])
def test_no_blob_that_a_round_may_leave_is_longer_than_the_chain_counts(length: int) -> None:
    claim = Claim(1, 1, length)
    for codec, dense in ((Int8(), INT8), (Int16(), INT16)):
        assert update_bytes_max(claim, replace(POLICY, codec=codec)) == dense.bytes_max(length, 0)
    for share in (1, 1_000, 10_000, 300_000, 1_000_000):
        for warmup in (0, 1, 10):
            counted = update_bytes_max(claim, replace(POLICY, codec=TopK(share, warmup)))
            theirs_most = max(
                TrainerTopK(share, warmup_rounds=warmup).bytes_max(length, round_) for round_ in range(12)
            )
            assert theirs_most <= counted
    for rule, trainers in (
        (Sgd(1, 0), optimizers.Sgd(1, 0)),
        (Sgd(1, 1), optimizers.Sgd(1, 1)),
        (Nesterov(1, 1), optimizers.Nesterov(1, 1)),
        (Adam(1, 1, 1, 1), optimizers.Adam(1, 1, 1, 1)),
    ):
        assert optimizer_bytes_max(claim, Descent(rule)) == optimizers.state_bytes_max(trainers, length)


def test_the_deposit_is_reserved_with_the_escrow_and_lasts_as_long_as_the_rounds_may() -> None:
    story = Story(workers=())
    held = story.training.storage[0]
    assert held.deposit == deposit_of(CLAIM, ADAM, POLICY, 2, PRICE)
    assert held.until == held.since + 2 * (5 + 10 + 10) + SPARE_BLOCKS
    assert (held.claim, held.params_root) == (CLAIM, story.task().params_root)
    assert held.bytes == story.training.stored_bytes.get() == running_bytes(CLAIM, ADAM, POLICY)
    reserved = Training.StorageReserved(0, held.bytes, held.deposit, held.until)
    assert story.chain.events_of(Training.StorageReserved) == [reserved]
    story.next()


def test_who_cannot_pay_for_the_blobs_creates_no_task() -> None:
    chain = TestChain()
    large = Claim(1_000_000, 1 << 30, 1_000_000)
    assert deposit_of(large, ADAM, POLICY, 2, PRICE) < chain.free(BOB)
    chain.call(BOB, "balances.transfer_keep_alive", dest=ALICE.public, value=ENDOWMENT - 50 * POT)
    with chain.unchanged(type(chain.modules.balances).InsufficientBalance):
        chain.call(BOB, "training.create_task", **terms(storage=large))
    chain.call(BOB, "training.create_task", **terms())


@pytest.mark.parametrize("field", ["program_bytes", "dataset_bytes", "parameters"])
def test_a_claim_of_nothing_or_of_too_much_is_refused(field: str) -> None:
    chain = TestChain()
    for value in (0, (1 << 32) - 1 if field != "dataset_bytes" else (1 << 64) - 1):
        with chain.unchanged(Training.InvalidStorage):
            chain.call(ALICE, "training.create_task", **terms(storage=replace(CLAIM, **{field: value})))


@pytest.mark.usefixtures("short")
def test_no_more_is_sold_than_nodes_keep() -> None:
    chain = TestChain()
    half = replace(CLAIM, dataset_bytes=3 << 29)
    chain.call(ALICE, "training.create_task", **terms(storage=half))
    with chain.unchanged(Training.StorageFull):
        chain.call(ALICE, "training.create_task", **terms(storage=half))
    chain.call(ALICE, "training.create_task", **terms())
    # A cancelled task leaves its room a while later.
    chain.call(ALICE, "training.cancel_task", task=0)
    with chain.unchanged(Training.StorageFull):
        chain.call(ALICE, "training.create_task", **terms(storage=half))
    chain.run_blocks(4)
    chain.call(ALICE, "training.create_task", **terms(storage=half))
    chain.run_blocks(1)


def test_a_task_that_is_over_pays_for_its_time_and_its_model_and_gets_the_rest_back() -> None:
    story = Story()
    deposit = story.training.storage[0].deposit
    story.play()
    assert story.chain.modules.balances.reserved(ALICE.public) >= deposit
    story.play()
    held = story.training.storage[0]
    assert held.ended_at is not None
    used = cost(held.bytes, held.ended_at - held.since + AFTER_BLOCKS, PRICE) + cost(3 * CHUNK, MODEL_BLOCKS, PRICE)
    assert 0 < used < deposit
    assert story.chain.events_of(Training.StoragePaid) == [Training.StoragePaid(0, used, held.until)]
    assert held.until == held.ended_at + AFTER_BLOCKS + MODEL_BLOCKS
    assert held.deposit == 0
    story.next()


@pytest.mark.usefixtures("short")
def test_of_a_finished_task_the_model_is_left_after_a_while_and_then_nothing() -> None:
    story = Story()
    story.play()
    story.play()
    held = story.training.storage[0]
    seen = [held.bytes]
    while story.chain.height <= held.until:
        story.next()
        seen.append(story.training.stored_bytes.get())
    assert (held.ended_at, held.until) == (story.chain.height - 11, story.chain.height - 1)
    assert seen == [held.bytes] * 3 + [model_bytes(CLAIM)] * 6 + [0] * 2
    assert story.chain.events_of(Training.StorageExpired) == [Training.StorageExpired(0)]
    with story.chain.unchanged(Training.StorageOver):
        story.chain.call(BOB, "training.extend_storage", task=0, blocks=1)
    story.next()


def test_anybody_keeps_a_finished_model_longer_and_what_it_costs_is_burned() -> None:
    story = Story()
    story.play()
    story.play()
    until = story.training.storage[0].until
    issued, free = story.chain.modules.balances.total_issuance.get(), story.chain.free(EVE)
    story.chain.call(EVE, "training.extend_storage", task=0, blocks=30 * DAY_BLOCKS)
    paid = cost(3 * CHUNK, 30 * DAY_BLOCKS, PRICE)
    assert story.training.storage[0].until == until + 30 * DAY_BLOCKS
    assert story.chain.free(EVE) == free - paid
    assert story.chain.modules.balances.total_issuance.get() == issued - paid
    extended = Training.StorageExtended(0, EVE.public, paid, until + 30 * DAY_BLOCKS)
    assert story.chain.events_of(Training.StorageExtended) == [extended]
    for blocks in (0, STORAGE_BLOCKS_MAX):
        with story.chain.unchanged(Training.InvalidExtension):
            story.chain.call(EVE, "training.extend_storage", task=0, blocks=blocks)
    with story.chain.unchanged(Training.UnknownTask):
        story.chain.call(EVE, "training.extend_storage", task=1, blocks=1)
    story.next()


def test_a_task_whose_deposit_is_used_up_ends_with_its_running_round() -> None:
    story = Story()
    held = story.training.storage[0]
    last_until(story, story.chain.height)
    story.next()
    assert story.task().status is TaskStatus.CANCELLED
    while story.training.active_tasks.get():
        story.next()
    # The round that ran on was not paid for: all of the deposit is gone, and no more than that.
    assert story.training.storage[0].deposit == 0
    (paid,) = story.chain.events_of(Training.StoragePaid)
    assert 0 < paid.burned <= held.deposit


def test_an_owner_lets_a_running_task_take_longer_and_nobody_else_does() -> None:
    story = Story(workers=())
    held = story.training.storage[0]
    with story.chain.unchanged(Training.NotOwner):
        story.chain.call(BOB, "training.extend_storage", task=0, blocks=100)
    story.chain.call(ALICE, "training.extend_storage", task=0, blocks=100)
    more = cost(held.bytes, 100, PRICE)
    assert story.training.storage[0] == replace(held, until=held.until + 100, deposit=held.deposit + more)
    last_until(story, story.chain.height + 2)
    story.next()
    assert story.training.rounds[0].phase is Phase.IDLE
    story.next()
    assert story.training.active_tasks.get() == ()


def test_what_is_kept_of_many_rounds_is_what_was_kept_of_the_first() -> None:
    story = Story(policy=replace(POLICY, slots=1, auditors_per_slot=1), rounds=300)
    before = story.training.stored_bytes.get()
    for _ in range(8):
        story.play()
        assert story.training.stored_bytes.get() == before
    assert story.task().round == 8


@pytest.mark.usefixtures("short")
def test_many_finished_tasks_are_looked_at_a_few_in_a_block() -> None:
    story = Story(tasks=16, workers=())
    for task in range(16):
        story.chain.call(ALICE, "training.cancel_task", task=task)
    story.next()
    assert story.training.stored_count.get() == 16
    story.next(2)
    left = []
    while story.training.stored_count.get():
        story.next()
        left.append(story.training.stored_count.get())
    assert left == [12, 8, 4, 0]
    assert story.training.stored_bytes.get() == 0


def test_the_figures_of_the_testnet_s_task_are_those_in_the_docs() -> None:
    with (ROOT / "genesis" / "testnet.json").open() as file:
        (terms_,) = read_tasks("training", json.load(file)["genesis"]["training"])
    task = terms_[1]
    kept = running_bytes(task.storage, task.optimizer, task.policy)
    figures = {
        "kept while it runs": f"{kept / MIB:.1f} MiB",
        "reserved": f"{deposit_of(task.storage, task.optimizer, task.policy, 200, PRICE) / POT:.2f} POT, beside",
        "burned, if a round takes 10 blocks": f"{_burned(task, 2_000) / POT:.2f} POT, of which",
    }
    page = (ROOT / "docs" / "incentives.md").read_text()
    for what, figure in figures.items():
        assert f"| {what} | {figure}" in page
    assert f"{cost(model_bytes(task.storage), MODEL_BLOCKS, PRICE) / POT:.2f} POT |" in page
    assert f"To take all of it costs {cost(3 << 30, DAY_BLOCKS, PRICE) // POT} POT a day" in page


def _burned(task: Terms, blocks: int) -> int:
    running = cost(running_bytes(task.storage, task.optimizer, task.policy), blocks + AFTER_BLOCKS, PRICE)
    return running + cost(model_bytes(task.storage), MODEL_BLOCKS, PRICE)


def test_a_chunk_is_the_least_that_a_blob_is_counted_with() -> None:
    assert [charged(length) for length in (0, 1, CHUNK, CHUNK + 1)] == [CHUNK, CHUNK, CHUNK, 2 * CHUNK]
