"""The arithmetic of attestations, against the plainest possible counting."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.seal import bitmap, read_bitmap
from runtime.modules.training_rounds import (
    Outcome,
    agreement_is_impossible,
    idle,
    opened,
    outcome,
    refilled,
    silent_auditors,
    unchallenged,
    upheld,
)
from runtime.modules.training_types import Attestation, ChallengeCount, Evaluation, Phase, RoundState, SlotState

VALIDATORS = tuple(bytes((index,)) * 32 for index in range(1, 5))
STRANGER = bytes((99,)) * 32
WORKER = bytes((50,)) * 32
QUORUM = 3


def root(number: int) -> bytes:
    return bytes((number,)) * 32


def attestation(validator: bytes, word: int = 0, loss: int = 0, accuracy: int = 0) -> Attestation:
    return Attestation(validator, bitmap([0], 1), root(word), root(word + 100), Evaluation(loss, accuracy))


def audited(*attestations: Attestation, auditors: tuple[bytes, ...] = ()) -> RoundState:
    slot = SlotState(WORKER, commitment=root(1), update_root=root(2), auditors=auditors, challenger=None)
    return replace(idle(0, 0, 1), phase=Phase.AUDIT, slots=(slot,), attestations=attestations)


def test_a_quorum_that_says_the_same_decides() -> None:
    state = audited(*[attestation(validator, loss=7, accuracy=8) for validator in VALIDATORS[1:]])
    assert outcome(state, VALIDATORS, QUORUM) == Outcome(
        accepted=(0,),
        params_root=root(0),
        optimizer_root=root(100),
        evaluation=Evaluation(7, 8),
        attesters=tuple(sorted(VALIDATORS[1:])),
    )


def test_one_below_a_quorum_decides_nothing() -> None:
    state = audited(attestation(VALIDATORS[0]), attestation(VALIDATORS[1]), attestation(VALIDATORS[2], word=1))
    assert outcome(state, VALIDATORS, QUORUM) is None


def test_who_is_no_validator_any_more_does_not_count() -> None:
    state = audited(attestation(VALIDATORS[0]), attestation(VALIDATORS[1]), attestation(STRANGER))
    assert outcome(state, VALIDATORS, QUORUM) is None


def test_one_liar_cannot_move_loss_or_accuracy_beyond_what_the_honest_measured() -> None:
    honest = [
        attestation(validator, loss=loss, accuracy=500_000)
        for validator, loss in zip(VALIDATORS, (10, 12), strict=False)
    ]
    for lie in (0, 1 << 63):
        state = audited(*honest, attestation(VALIDATORS[2], loss=lie, accuracy=min(lie, 1_000_000)))
        agreed = outcome(state, VALIDATORS, QUORUM)
        assert agreed is not None
        assert agreed.evaluation is not None
        assert 10 <= agreed.evaluation.loss_micro <= 12
        assert agreed.evaluation.accuracy_ppm == 500_000


@given(words=st.lists(st.none() | st.integers(0, 2), min_size=4, max_size=4))
@settings(max_examples=100, deadline=None)
def test_agreement_is_impossible_exactly_when_no_way_to_go_on_reaches_it(words: list[int | None]) -> None:
    state = audited(*[attestation(who, word) for who, word in zip(VALIDATORS, words, strict=True) if word is not None])
    silent = words.count(None)
    said = Counter(word for word in words if word is not None)
    reachable = any(said[word] + silent >= QUORUM for word in range(3))
    assert agreement_is_impossible(state, VALIDATORS, QUORUM) is not reachable
    if outcome(state, VALIDATORS, QUORUM) is not None:
        assert reachable


def test_every_drawn_auditor_is_waited_for_unless_it_left_the_set() -> None:
    state = audited(*[attestation(who) for who in VALIDATORS[:3]], auditors=(VALIDATORS[0], VALIDATORS[3], STRANGER))
    assert silent_auditors(state, [0], VALIDATORS) == [VALIDATORS[3]]
    assert silent_auditors(state, [], VALIDATORS) == []
    heard = replace(state, attestations=(*state.attestations, attestation(VALIDATORS[3], word=9)))
    assert silent_auditors(heard, [0], VALIDATORS) == []


def test_a_slot_must_be_accepted_when_it_is_revealed_and_nobody_challenged_it() -> None:
    silent = opened(idle(0, 0, 1), [WORKER], 1, 9).slots[0]
    good = replace(silent, commitment=root(1), update_root=root(2))
    state = replace(audited(), slots=(silent, good, replace(good, challenger=VALIDATORS[0])))
    assert unchallenged(state) == [1]


def test_challenges_come_back_with_time_and_with_being_right() -> None:
    spent = ChallengeCount(upheld=0, refuted=1024, left=0, height=1000)
    assert refilled(spent, 1099) == spent
    # Asking in between loses nothing of a hundred blocks that have begun.
    assert refilled(refilled(spent, 1199), 1200) == replace(spent, left=2, height=1200)
    assert refilled(spent, 10**6).left == 1024
    assert upheld(spent, 1000) == replace(spent, upheld=1, left=1)


def test_a_bitmap_has_one_form_for_each_group() -> None:
    forms = {bitmap(group, 9) for size in range(10) for group in combinations(range(9), size)}
    assert len(forms) == 2**9
    assert all(bitmap(read_bitmap(form, 9), 9) == form for form in forms)
