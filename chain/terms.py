"""The terms of a task in the words and units of people: for the command line, for a file's `terms` and for Python.

Rule: every choice and every number has one row in this file, and its bounds are those of the chain (`BOUNDS`). What is
new in a policy is added here as a row, and has its option, its place in files and its errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from chain.rpc.plain import plain
from runtime.modules import training_policy
from runtime.modules.training_policy import (
    BOUNDS,
    PICO,
    PPM,
    SAMPLES_MAX,
    Adam,
    CenteredClip,
    ClipNorm,
    ClipValue,
    Constant,
    Cosine,
    Descent,
    Int8,
    Int8Momentum,
    Int16,
    Krum,
    Linear,
    LocalSteps,
    Mean,
    Median,
    MultiKrum,
    Nesterov,
    Policy,
    Recompute,
    Schedule,
    Scored,
    Sgd,
    Slices,
    Staircase,
    TopK,
    TopKFeedback,
    TrimmedMean,
    Whole,
)
from runtime.modules.training_types import ROUNDS_MAX

INNER: Final = "inner_"
# What a slot earns and how many are audited, so that checking costs an eighth of training: a tenth protects this price.
PRICE: Final = "0.4"
AUDITED_PPM: Final = PPM // 10
# How often a task is evaluated, about: so many points make a curve, whose cost does not grow with the rounds.
EVALUATIONS: Final = 20
# No number of a policy needs more; an exponent of a thousand digits would be computed with before it is refused.
NUMBER_CHARACTERS_MAX = 40


class TermsError(ValueError):
    """Terms that cannot be; the message says which, what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a record on chain: its name for people, its field, and how many of its units make one of people's."""

    name: str
    records: tuple[type, ...]
    field: str
    unit: int
    # One default, or one for each record; none where it follows from other terms.
    default: str | Mapping[type, str] | None
    help: str

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the most, in the chain's units."""
        lows, highs = zip(*(_BOUNDS[record][self.field] for record in self.records), strict=True)
        return min(lows), max(highs)

    @property
    def metavar(self) -> str:
        return "NUMBER" if self.unit > 1 else "COUNT"

    @property
    def described(self) -> str:
        """What it is, its bounds and its default."""
        match self.default:
            case None:
                default = ""
            case str(number):
                default = f"; {number} by default"
            case each:
                default = "; by default " + ", ".join(
                    f"{number} of {kind.__name__.lower()}" for kind, number in each.items()
                )
        low, high = self.bounds
        return f"{self.help}: {_shown(low, self.unit)} to {_shown(high, self.unit)}{default}."


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several records on chain, by its name for people."""

    name: str
    kinds: Mapping[str, type | None]
    default: str
    help: str

    @property
    def metavar(self) -> str:
        return "|".join(self.kinds)

    @property
    def described(self) -> str:
        """What it is and its default."""
        return f"{self.help}; {self.default} by default."


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of tokens: only the node knows how many decimals they have."""

    name: str
    default: str
    help: str
    metavar: str = "AMOUNT"

    @property
    def described(self) -> str:
        """What it is and its default."""
        return f"{self.help}; {self.default} by default."


Row = Number | Choice | Amount


@dataclass(frozen=True, slots=True)
class Deal:
    """What of the terms is neither learning nor policy."""

    rounds: int


# As the chain's, and what is beside a policy; no local steps are none.
_BOUNDS: Final[Mapping[type, Mapping[str, tuple[int, int]]]] = {
    **BOUNDS,
    Deal: {"rounds": (1, ROUNDS_MAX)},
    LocalSteps: {"count": (0, BOUNDS[LocalSteps]["count"][1])},
}


def option(name: str) -> str:
    """A term as an option of the command line."""
    return "--" + name.replace("_", "-")


_DECAYS: Final = (Linear, Cosine)
_RATES: Final = (Sgd, Adam, Nesterov)
_LEARNING: Final[tuple[Number | Choice, ...]] = (
    Choice(
        "optimizer",
        {"adam": Adam, "sgd": Sgd, "nesterov": Nesterov},
        "adam",
        "What takes the aggregate of a round; with local steps sgd at rate 1 is FedAvg, nesterov is DiLoCo",
    ),
    Number("learning_rate", _RATES, "learning_rate", PICO, {Adam: "0.001", Sgd: "0.01", Nesterov: "0.01"}, "Rate"),
    Number("momentum", (Sgd, Nesterov), "momentum", PICO, "0.9", "Of sgd and nesterov"),
    Number("beta1", (Adam,), "beta1", PICO, "0.9", "Of adam"),
    Number("beta2", (Adam,), "beta2", PICO, "0.999", "Of adam"),
    Number("epsilon", (Adam,), "epsilon", PICO, "1e-8", "Of adam"),
    Number("weight_decay", (Descent,), "weight_decay", PICO, "0", "Decoupled from the gradient, as in AdamW"),
    Choice(
        "clip",
        {"none": None, "norm": ClipNorm, "value": ClipValue},
        "none",
        "Shorten gradients by their norm, or each value of them",
    ),
    Number("clip_limit", (ClipNorm, ClipValue), "limit", PICO, "1", "Of a clip"),
    Number("warmup_steps", (Schedule,), "warmup_steps", 1, "0", "Steps in which the rate rises to its peak"),
    Choice(
        "schedule",
        {"constant": Constant, "linear": Linear, "cosine": Cosine, "staircase": Staircase},
        "constant",
        "How the rate falls after the warm-up",
    ),
    Number("decay_steps", _DECAYS, "steps", 1, None, "Steps in which it falls; all that are left by default"),
    Number("decay_final", _DECAYS, "final", PICO, "0", "The share of the peak that it falls to"),
    Number("stair_steps", (Staircase,), "every", 1, None, "Steps of a stair; a third of all by default"),
    Number("stair_factor", (Staircase,), "factor", PICO, "0.1", "What each stair multiplies the rate by"),
)


def _inner(row: Number | Choice) -> Number | Choice:
    """The same of a worker's own steps."""
    return replace(row, name=INNER + row.name, help=f"As {option(row.name)}, of a worker's own steps")


_SPARSE: Final = (TopK, TopKFeedback)
_REMEMBERING: Final = (TopKFeedback, Int8Momentum)

ROWS: Final[tuple[Row, ...]] = (
    Number("rounds", (Deal,), "rounds", 1, "100", "How many rounds to train"),
    Amount("price", PRICE, "What an accepted slot earns, in tokens"),
    Number("slots", (Policy,), "slots", 1, "4", "Contributions a round, each by one worker"),
    *_LEARNING,
    Number(
        "local_steps",
        (LocalSteps,),
        "count",
        1,
        "0",
        "Steps that a worker takes before it speaks, by the options above with --inner- before them; 0: its gradient",
    ),
    *map(_inner, _LEARNING),
    Choice(
        "codec",
        {
            "int8": Int8,
            "int16": Int16,
            "top-k": TopK,
            "top-k-feedback": TopKFeedback,
            "int8-momentum": Int8Momentum,
        },
        "int8",
        "How workers say what they found; with feedback and momentum a slot remembers what it found before",
    ),
    Number("share", _SPARSE, "share_ppm", PPM, "0.01", "Of the values, the largest of which top-k sends"),
    Number("share_warmup", _SPARSE, "warmup_rounds", 1, "0", "Rounds in which the share falls to that"),
    Number("tenure", _REMEMBERING, "tenure", 1, "16", "Rounds for which a slot has its worker, and remembers"),
    Number(
        "slot_momentum",
        _REMEMBERING,
        "momentum",
        PICO,
        {TopKFeedback: "0", Int8Momentum: "0.9"},
        "Momentum of a slot, taken by its worker",
    ),
    Choice(
        "aggregation",
        {
            "mean": Mean,
            "median": Median,
            "trimmed-mean": TrimmedMean,
            "krum": Krum,
            "multi-krum": MultiKrum,
            "centered-clip": CenteredClip,
        },
        "mean",
        "How one update is made of a round's; all but the mean take int8, int16 or int8-momentum",
    ),
    Number("byzantine", (TrimmedMean, Krum, MultiKrum), "byzantine_ppm", PPM, "0.25", "The share that may be wrong"),
    Number("radius", (CenteredClip,), "radius_ppm", PPM, "1", "Of the clip, in median distances"),
    Number("iterations", (CenteredClip,), "iterations", 1, "3", "Of the clip"),
    Choice(
        "verification",
        {"recompute": Recompute, "scored": Scored},
        "recompute",
        "How contributions are verified; scored ones are of silos, whose data stay with them (docs/federated.md)",
    ),
    Number("harm", (Scored,), "harm_ppm", PPM, "0.02", "Of the held-out loss, that a contribution may add to it"),
    Number("forfeit", (Scored,), "forfeit", PICO, "1", "Tokens that a silo loses when it adds more"),
    Number("weight_max", (Scored,), "weight_max", 1, str(SAMPLES_MAX), "Samples that a silo weighs at most"),
    Number("silos_min", (Scored,), "silos_min", 1, None, "Silos that a round waits for; half of its slots by default"),
    Choice(
        "checks",
        {"whole": Whole, "slices": Slices},
        "whole",
        "How sums are checked: each validator adds up all of every update, or its slices of an aggregator's result",
    ),
    Number("slice_chunks", (Slices,), "chunks", 1, "16", "Of 16,384 parameters, in a slice"),
    Number("auditors", (Policy,), "auditors_per_slot", 1, "1", "Validators that recompute each slot that is audited"),
    Number(
        "audited",
        (Policy,),
        "audited_ppm",
        PPM,
        None,
        "The share of slots that are audited; a tenth by default, or what the price needs",
    ),
    Number(
        "tolerance",
        (Policy,),
        "tolerance_micro_steps",
        PPM,
        None,
        "Steps that an honest integer may be off; measured here by default",
    ),
    Number("outliers", (Policy,), "outliers_ppm", PPM, "0.00002", "The share of integers that may be farther"),
    Number(
        "evaluate_rounds",
        (Policy,),
        "evaluate_rounds",
        1,
        None,
        "Rounds from one evaluation on held-out rows to the next; a twentieth of all by default",
    ),
    Number("commit_blocks", (Policy,), "commit_blocks", 1, "120", "How long workers have to compute"),
    Number("reveal_blocks", (Policy,), "reveal_blocks", 1, "20", "How long they have to upload"),
    Number("audit_blocks", (Policy,), "audit_blocks", 1, "120", "How long auditors are waited for"),
)

NAMES: Final = tuple(row.name for row in ROWS)
# Where workers take steps of their own, the outer optimiser steps to the mean of where they ended (FedAvg), or, with
# Nesterov's momentum, beyond (DiLoCo, with the rate of its authors).
_OUTER: Final[Mapping[str, Mapping[str, str]]] = {
    "sgd": {"learning_rate": "1", "momentum": "0"},
    "nesterov": {"learning_rate": "0.7"},
}

# A term as somebody gave it, and how to call it in an error.
Said = Mapping[str, tuple[object, str]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner asks for, in the chain's units but for the price, which is an amount of tokens."""

    rounds: int
    price: str
    optimizer: Descent
    policy: Policy
    # Whether the owner said how far an honest integer may be off; otherwise it is measured.
    tolerance_said: bool
    # Whether the owner said how many slots are audited; otherwise as many as the price needs.
    audited_said: bool

    @property
    def json(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Optimiser and policy as `training_task` will tell them."""
        return plain(self.optimizer), plain(self.policy)


def learning_line(optimizer: Descent, policy: Policy) -> str:
    """How a task learns by its terms: what takes a step, at which rate, and what a worker says."""
    parts = [", ".join(_descent_words(optimizer, ""))]
    if (local := policy.local_steps) is not None:
        parts.append(f"local steps: {local.count:,}, by {', '.join(_descent_words(local.inner, INNER))}")
    parts.append(f"codec {_named('codec', policy.codec)}, aggregation {_named('aggregation', policy.aggregation)}")
    return "; ".join(parts)


def _descent_words(descent: Descent, prefix: str) -> Iterator[str]:
    yield f"{_named(prefix + 'optimizer', descent.rule)} at rate {_shown(descent.rule.learning_rate, PICO)}"
    if descent.schedule.warmup_steps:
        yield f"warm-up {descent.schedule.warmup_steps:,}"
    yield f"{_named(prefix + 'schedule', descent.schedule.decay)} schedule"
    if descent.clip is not None:
        yield f"clip by {_named(prefix + 'clip', descent.clip)} at {_shown(descent.clip.limit, PICO)}"
    if descent.weight_decay:
        yield f"weight decay {_shown(descent.weight_decay, PICO)}"


def _named(name: str, record: object) -> str:
    """What people call the record that was chosen."""
    row = _row(name)
    assert isinstance(row, Choice)
    return next(word for word, kind in row.kinds.items() if kind is type(record))


def by_flag(values: Mapping[str, object]) -> Said:
    """Options of a command line, those that were not given left out."""
    return {name: (value, option(name)) for name, value in values.items() if value is not None}


def by_name(values: object, place: str = "") -> Said:
    """A file's `terms`, or the arguments of a call; TermsError for a name that there is not."""
    if not isinstance(values, Mapping):
        raise TermsError(f"{place}terms: expected a dictionary such as dict(rounds=60), got {type(values).__name__}")
    for name in values:
        if name not in NAMES:
            near = difflib.get_close_matches(str(name), NAMES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
            raise TermsError(f"{place}{str(name)[:NUMBER_CHARACTERS_MAX]!r} is no term of a task; {hint}")
    return {name: (value, place + name) for name, value in values.items()}


def resolve(*said: Said) -> Terms:
    """The terms of several sources, the first one that says something counts; TermsError where any of it is wrong.

    What is given and means nothing beside the choices made is refused, unless a choice of an earlier source made it so.
    """
    return _Resolution(said).terms()


class _Resolution:
    """Terms that are being put together from what was said."""

    def __init__(self, said: tuple[Said, ...]) -> None:
        self._said: dict[str, tuple[object, str]] = {}
        self._rank: dict[str, int] = {}
        for rank, source in reversed(list(enumerate(said))):
            self._said.update(source)
            self._rank.update(dict.fromkeys(source, rank))
        self._used: set[str] = set()
        self._defaults: dict[str, str] = {}

    def terms(self) -> Terms:
        rounds = Deal(**self._numbers(Deal)).rounds
        steps = self._number(_row("local_steps"))
        if steps:
            self._defaults["optimizer"] = "sgd"
            self._defaults.update(_OUTER.get(self._name("optimizer"), {}))
        policy = self._policy(rounds, LocalSteps(steps, self._descent(INNER, rounds * steps)) if steps else None)
        price = str(self._said.get("price", (PRICE, ""))[0])
        descent = self._descent("", rounds)
        terms = Terms(rounds, price, descent, policy, "tolerance" in self._said, "audited" in self._said)
        self._refuse_the_useless(bool(steps))
        if not training_policy.aggregation_is_valid(policy):
            raise TermsError(
                f"{self._called('aggregation')}: of values that most leave out there is no "
                f"{self._name('aggregation')}; expected a codec that sends them all beside it, got top-k"
            )
        if not training_policy.verification_is_valid(policy):
            raise TermsError(
                f"{self._called('verification')}: expected silos_min of at most slots, audited 1, a codec that "
                f"remembers nothing, and weight_max 1 "
                f"where the aggregation is not the mean; got {policy.audited_ppm / PPM:g}, {self._name('codec')} and "
                f"{self._name('aggregation')}"
            )
        if not training_policy.checks_are_valid(policy, descent):
            raise TermsError(
                f"{self._called('checks')}: a slice is what has its place in every update; expected the codec int8, "
                f"int16 or int8-momentum, the aggregation mean, median or trimmed-mean, no clip by norm and the "
                f"verification recompute; got {self._name('codec')}, {self._name('aggregation')}, "
                f"{self._name('clip')} and {self._name('verification')}"
            )
        return terms

    def _descent(self, prefix: str, steps: int) -> Descent:
        """An optimiser that takes so many steps in all."""
        schedule = Schedule(**self._numbers(Schedule, prefix))
        left = max(1, steps - schedule.warmup_steps)
        decay = self._chosen(prefix + "schedule", prefix, steps=left, every=max(1, left // 3))
        rule, clip = self._chosen(prefix + "optimizer", prefix), self._chosen(prefix + "clip", prefix)
        return Descent(rule, replace(schedule, decay=decay), clip, **self._numbers(Descent, prefix))

    def _policy(self, rounds: int, local_steps: LocalSteps | None) -> Policy:
        chosen = {name: self._chosen(name) for name in ("codec", "aggregation", "checks")}
        half = (self._number(_row("slots")) + 1) // 2
        chosen["verification"] = self._chosen("verification", silos_min=half)
        # What a contribution does to a model is only known of those that are scored.
        audited_ppm = PPM if isinstance(chosen["verification"], Scored) else AUDITED_PPM
        derived = {
            "tolerance_micro_steps": training_policy.TOLERANCE_MICRO_STEPS_MIN,
            "audited_ppm": audited_ppm,
            "evaluate_rounds": max(1, rounds // EVALUATIONS),
        }
        numbers = self._numbers(Policy, "", derived)
        return Policy(local_steps=local_steps, **chosen, **numbers)

    def _chosen(self, name: str, prefix: str = "", **derived: int) -> Any:
        """The record that a choice names, with its numbers."""
        row = _row(name)
        assert isinstance(row, Choice)
        if self._name(name) not in row.kinds:
            raise TermsError(f"{self._called(name)}: expected {', '.join(row.kinds)}, got {self._name(name)!r}")
        self._used.add(name)
        kind = row.kinds[self._name(name)]
        return None if kind is None else kind(**self._numbers(kind, prefix, derived))

    def _numbers(self, kind: type, prefix: str = "", derived: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Every number that the table has of a record; those without a default are `derived` unless they were said."""
        found = {}
        for row in _numbers(prefix):
            if kind in row.records:
                self._used.add(row.name)
                is_open = row.default is None and row.name not in self._said
                found[row.field] = (derived or {})[row.field] if is_open else self._number(row, kind)
        return found

    def _number(self, row: Row, kind: type | None = None) -> int:
        """A number in the chain's units, within its bounds."""
        assert isinstance(row, Number)
        default = self._defaults.get(row.name, row.default)
        if isinstance(default, Mapping):
            default = default[kind or row.records[0]]
        value = self._said[row.name][0] if row.name in self._said else default
        low, high = row.bounds
        scaled = _decimal(value)
        expected = f"expected {_shown(low, row.unit)} to {_shown(high, row.unit)}"
        if scaled is None or not low <= scaled * row.unit <= high:
            raise TermsError(f"{self._called(row.name)}: {expected}, got {str(value)[:NUMBER_CHARACTERS_MAX]!r}")
        if scaled * row.unit % 1:
            step = _shown(1, row.unit)
            what = "a whole number" if row.unit == 1 else f"a multiple of {step}, in which the chain counts"
            raise TermsError(f"{self._called(row.name)}: expected {what}, got {str(value)[:NUMBER_CHARACTERS_MAX]}")
        return int(scaled * row.unit)

    def _name(self, name: str) -> str:
        row = _row(name)
        assert isinstance(row, Choice)
        value = self._said[name][0] if name in self._said else self._defaults.get(name, row.default)
        return str(value)[:NUMBER_CHARACTERS_MAX]

    def _called(self, name: str) -> str:
        """A term as whoever gave it calls it."""
        return self._said[name][1] if name in self._said else option(name)

    def _refuse_the_useless(self, has_steps: bool) -> None:
        for name in self._said:
            row = _row(name)
            if name in self._used or isinstance(row, Amount) or name == "local_steps":
                continue
            if name.startswith(INNER) and not has_steps:
                governor, wanted = "local_steps", "local_steps of 1 or more"
            else:
                governor, wanted = _governor(row)
            if self._rank.get(governor, len(NAMES)) >= self._rank[name]:
                came = self._name(governor) if isinstance(_row(governor), Choice) else "none"
                raise TermsError(f"{self._called(name)} is for {wanted}, got {came}: leave it out, or choose that")


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def _numbers(prefix: str) -> Iterator[Number]:
    """The numbers of a worker's own steps, or all others."""
    for row in ROWS:
        if isinstance(row, Number) and row.name.startswith(INNER) == (prefix == INNER):
            yield row


def _governor(row: Row) -> tuple[str, str]:
    """The choice on which it depends whether a number means anything, and what has to be chosen."""
    assert isinstance(row, Number)
    prefix = INNER if row.name.startswith(INNER) else ""
    for choice in ROWS:
        if isinstance(choice, Choice) and choice.name.startswith(INNER) == bool(prefix):
            fitting = [name for name, kind in choice.kinds.items() if kind in row.records]
            if fitting:
                return choice.name, f"{choice.name} {' or '.join(fitting)}"
    raise AssertionError(f"{row.name} belongs to no choice")


def _decimal(value: object) -> Decimal | None:
    """A number as a person or a program writes it, exactly as written: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    try:
        plain = len(text) <= NUMBER_CHARACTERS_MAX and text.isascii() and "_" not in text
        number = Decimal(text) if plain else None
    except InvalidOperation:
        return None
    # Beyond that an exponent is a mistake, and arithmetic with it takes for ever.
    return number if number is not None and number.is_finite() and abs(number.adjusted()) <= 30 else None


def _shown(value: int, unit: int) -> str:
    number = (Decimal(value) / unit).normalize()
    return f"{number:e}" if number and number < Decimal("1e-6") else f"{number:,f}"
