"""Within a tenure a slot stays with its worker, since that alone remembers what the slot has not said yet."""

from __future__ import annotations

from dataclasses import replace

from runtime.modules.training_policy import TopKFeedback
from runtime.testing import BOB, EVE, FERDIE
from tests.runtime.training_kit import POLICY, Story

TENURE = 3
TENURED = replace(POLICY, codec=TopKFeedback(share_ppm=10_000, warmup_rounds=0, momentum=0, tenure=TENURE))


def workers_of(story: Story) -> list[bytes]:
    return [slot.worker for slot in story.state().slots]


def test_slots_stay_with_their_workers_for_a_tenure_and_are_drawn_anew_after_it() -> None:
    story = Story(policy=TENURED, rounds=40)
    seen = []
    for _ in range(30):
        seen.append(workers_of(story))
        story.play()
    tenures = [seen[first : first + TENURE] for first in range(0, len(seen), TENURE)]
    assert all(tenure == [tenure[0]] * TENURE for tenure in tenures)
    # Of the six ways to give two slots each, so many draws leave more than one.
    assert len({tuple(tenure[0]) for tenure in tenures}) > 1


def test_without_a_tenure_slots_are_drawn_in_every_round() -> None:
    story = Story(rounds=40)
    seen = set()
    for _ in range(12):
        seen.add(tuple(workers_of(story)))
        story.play()
    assert len(seen) > 1


def test_a_slot_that_came_to_nothing_is_drawn_anew_and_the_others_stay() -> None:
    story = Story(policy=TENURED, rounds=40, capacity=4)
    before = workers_of(story)
    lost = story.slots_of(EVE)[0]
    story.commit(without=[lost])
    story.next(TENURED.commit_blocks)
    story.reveal()
    story.attest()
    story.next()
    # Eve is paused for the task, so that both of her slots go to Ferdie, who has seats left.
    assert before.count(EVE.public) == 2
    assert workers_of(story) == [FERDIE.public] * 4


def test_the_next_attempt_at_a_round_keeps_those_who_had_its_slots_in_the_round_before() -> None:
    story = Story(policy=TENURED, rounds=40)
    first = workers_of(story)
    story.play()
    assert story.state().round == 1
    story.next(TENURED.commit_blocks)  # Nobody commits: all are paused, and the round waits for them.
    for worker in (EVE, FERDIE):
        story.chain.call(worker, "training.resume", task=0)
    story.next(2)
    assert (story.state().round, story.state().attempt) == (1, 1)
    assert workers_of(story) == first


def test_a_worker_whose_update_was_rejected_keeps_no_slot() -> None:
    story = Story(policy=TENURED, rounds=40)
    slots = story.slots_of(EVE)
    story.to_audit()
    for slot in slots:
        story.challenge(BOB, slot)
    story.attest(without=slots)
    story.next(2)
    assert story.state().round == 1
    # Two slashes leave Eve without the bond that her seats need.
    assert workers_of(story) == [FERDIE.public] * len(workers_of(story))
