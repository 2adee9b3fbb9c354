"""Terms in people's words become what the chain takes, exactly, and what cannot be is said in the same words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest

from chain.terms import NAMES, ROWS, Choice, Number, Terms, TermsError, by_flag, by_name, resolve
from runtime.modules import training_policy as chain
from runtime.modules.training_policy import (
    BOUNDS,
    PICO,
    SAMPLES_MAX,
    Adam,
    ClipNorm,
    Cosine,
    Descent,
    Int8,
    LocalSteps,
    Median,
    Nesterov,
    Policy,
    Schedule,
    Scored,
    Sgd,
    Staircase,
    TopK,
    TrimmedMean,
)

TENTH = PICO // 10
ADAM = Adam(PICO // 1000, 9 * TENTH, 999 * PICO // 1000, 10_000)


def terms(**values: Any) -> Terms:
    return resolve(by_name(values))


def test_what_nobody_says_is_adam_int8_and_the_least_tolerance() -> None:
    policy = Policy(4, 120, 20, 120, 1, 100_000, 510_000, 20, 5)
    assert terms() == Terms(100, "0.4", Descent(ADAM), policy, tolerance_said=False, audited_said=False)


def test_every_number_of_the_chain_has_a_row_and_every_row_one_of_the_chain() -> None:
    """What is added to a policy is added to the table, or this says so."""
    slots = (*chain.CODECS, *chain.AGGREGATIONS, *chain.VERIFICATIONS, *chain.CHECKS)
    kinds = (*chain.OPTIMIZERS, *chain.DECAYS, *chain.CLIPS, *slots)
    for prefix in ("", "inner_"):
        rows = [row for row in ROWS if row.name.startswith("inner_") == bool(prefix)]
        found = {(kind, row.field) for row in rows if isinstance(row, Number) for kind in row.records}
        found |= {(kind, "") for row in rows if isinstance(row, Choice) for kind in row.kinds.values() if kind}
        records = (Descent, Schedule, *chain.OPTIMIZERS, *chain.DECAYS, *chain.CLIPS)
        outer = (Policy, LocalSteps, *slots)
        expected = {(kind, name) for kind in records + outer * (not prefix) for name in BOUNDS[kind]}
        expected |= {(kind, "") for kind in kinds if not prefix or kind in records}
        assert {pair for pair in found if pair[1] != "rounds"} == expected
    records_of_a_policy = {"codec", "local_steps", "aggregation", "verification", "checks"}
    assert {field.name for field in fields(Policy)} == {*BOUNDS[Policy]} | records_of_a_policy
    assert set(get_args(chain.Optimizer)[0].__args__) == set(chain.OPTIMIZERS)


def test_a_number_is_exactly_what_was_written() -> None:
    assert terms(learning_rate=0.1) == terms(learning_rate="0.1") == terms(learning_rate="1e-1")
    assert terms(learning_rate=0.1).optimizer.rule == Adam(TENTH, ADAM.beta1, ADAM.beta2, ADAM.epsilon)


def test_everything_may_be_chosen() -> None:
    found = terms(
        rounds=60,
        price="2.5",
        slots=8,
        optimizer="nesterov",
        local_steps=32,
        inner_optimizer="sgd",
        inner_learning_rate=0.3,
        inner_weight_decay=0.1,
        inner_clip="norm",
        inner_warmup_steps=20,
        inner_schedule="cosine",
        codec="top-k",
        share=0.1,
        share_warmup=5,
        tolerance=0.6,
        outliers=0.001,
        auditors=3,
        audited=0.25,
        evaluate_rounds=3,
        commit_blocks=1,
        reveal_blocks=10,
        audit_blocks=11,
    )
    inner = Descent(
        Sgd(3 * TENTH, 9 * TENTH), Schedule(20, Cosine(60 * 32 - 20, 0)), ClipNorm(PICO), weight_decay=TENTH
    )
    assert found == Terms(
        60,
        "2.5",
        Descent(Nesterov(7 * TENTH, 9 * TENTH)),
        Policy(8, 1, 10, 11, 3, 250_000, 600_000, 1_000, 3, TopK(100_000, 5), LocalSteps(32, inner)),
        tolerance_said=True,
        audited_said=True,
    )


def test_a_task_is_evaluated_some_twenty_times_unless_its_owner_says_how_often() -> None:
    assert [terms(rounds=rounds).policy.evaluate_rounds for rounds in (1, 39, 40, 1_000_000)] == [1, 1, 2, 50_000]
    assert terms(rounds=1_000, evaluate_rounds=1).policy.evaluate_rounds == 1


def test_a_schedule_takes_what_is_left_of_the_rounds_and_local_steps_are_averaged() -> None:
    assert terms(schedule="cosine", warmup_steps=10).optimizer.schedule == Schedule(10, Cosine(90, 0))
    assert terms(schedule="staircase").optimizer.schedule == Schedule(0, Staircase(33, TENTH))
    assert terms(schedule="cosine", decay_steps=7).optimizer.schedule == Schedule(0, Cosine(7, 0))
    found = terms(local_steps=8)
    assert (found.optimizer, found.policy.local_steps) == (Descent(Sgd(PICO, 0)), LocalSteps(8, Descent(ADAM)))
    assert terms(aggregation="trimmed-mean").policy.aggregation == TrimmedMean(250_000)


def test_contributions_that_are_scored_forgive_two_hundredths_and_weigh_as_many_samples_as_there_are() -> None:
    assert terms(verification="scored").policy.verification == Scored(20_000, PICO, SAMPLES_MAX, 2)
    found = terms(
        verification="scored", harm=0.2, forfeit=2.5, weight_max=1, slots=9, silos_min=7, aggregation="median"
    ).policy
    assert (found.verification, found.aggregation) == (Scored(200_000, 5 * PICO // 2, 1, 7), Median())


def test_an_option_counts_before_the_file_and_makes_what_belonged_to_its_choice_mean_nothing() -> None:
    file = by_name({"codec": "top-k", "share": 0.1, "rounds": 7, "slots": 2}, "mine: ")
    assert resolve(by_flag({"codec": "int8", "rounds": "9", "slots": None}), file) == terms(rounds=9, slots=2)
    assert resolve(by_flag({}), file).policy.codec == TopK(100_000, 0)
    assert resolve(by_flag({"local_steps": "0"}), by_name({"local_steps": 8, "inner_learning_rate": 1})) == terms()
    assert resolve(by_flag({"share": "0.2"}), file).policy.codec == TopK(200_000, 0)
    assert terms().policy.codec == Int8()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slots": 0}, "slots: expected 1 to 64, got '0'"),
        ({"slots": 2.5}, "slots: expected a whole number, got 2.5"),
        ({"slots": True}, "slots: expected 1 to 64, got 'True'"),
        ({"slots": None}, "slots: expected 1 to 64, got 'None'"),
        ({"rounds": "1e999999999"}, "rounds: expected 1 to 1,000,000, got '1e999999999'"),
        ({"rounds": "٣"}, "rounds: expected 1 to 1,000,000, got '٣'"),
        ({"rounds": "nan"}, "rounds: expected 1 to 1,000,000, got 'nan'"),
        ({"learning_rate": "fast"}, "learning_rate: expected 1e-12 to 1,000, got 'fast'"),
        ({"learning_rate": "1.0000000000001"}, "expected a multiple of 1e-12, in which the chain counts, got 1.00"),
        ({"tolerance": 0.5}, "tolerance: expected 0.51 to 4, got '0.5'"),
        ({"optimizer": "lion"}, "optimizer: expected adam, sgd, nesterov, got 'lion'"),
        ({"momentum": 0.5}, "momentum is for optimizer sgd or nesterov, got adam: leave it out, or choose that"),
        ({"share": 0.1}, "share is for codec top-k or top-k-feedback, got int8"),
        ({"clip_limit": 1}, "clip_limit is for clip norm or value, got none"),
        ({"inner_momentum": 0.5}, "inner_momentum is for local_steps of 1 or more, got none"),
        ({"local_steps": 2, "inner_momentum": 0.5}, "inner_momentum is for inner_optimizer sgd or nesterov, got adam"),
        (
            {"codec": "top-k", "aggregation": "median"},
            "there is no median; expected a codec that sends them all",
        ),
        ({"harm": 0.1}, "harm is for verification scored, got recompute"),
        (
            {"verification": "scored", "aggregation": "krum"},
            "expected silos_min of at most slots, audited 1, a codec that",
        ),
        ({"verification": "scored", "codec": "top-k-feedback"}, "got 1, top-k-feedback and mean"),
        ({"checks": "slices", "codec": "top-k"}, "got top-k, mean, none and recompute"),
        ({"checks": "slices", "clip": "norm"}, "got int8, mean, norm and recompute"),
        ({"slice_chunks": 4}, "slice_chunks is for checks slices, got whole"),
        ({"verification": "scored", "audited": 0.5}, "got 0.5, int8 and mean"),
        ({"lerning_rate": 1}, "'lerning_rate' is no term of a task; did you mean 'learning_rate'?"),
        ({"zzz": 1}, f"'zzz' is no term of a task; there are {', '.join(NAMES)}"),
    ],
)
def test_what_cannot_be_is_said_with_what_was_expected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TermsError) as refused:
        terms(**values)
    assert message in str(refused.value)


def test_an_error_calls_a_term_as_whoever_gave_it_does() -> None:
    with pytest.raises(TermsError, match=r"^--inner-clip: expected none, norm, value, got 'yes'"):
        resolve(by_flag({"local_steps": "2", "inner_clip": "yes"}))
    with pytest.raises(TermsError, match=r"^terms of mine: slots: expected 1 to 64, got '99'"):
        resolve(by_flag({"rounds": "2"}), by_name({"slots": 99}, "terms of mine: "))
    with pytest.raises(TermsError, match="expected a dictionary such as dict"):
        by_name([("rounds", 60)])
