"""What a task's owner chooses: how the model steps, how workers say what they found, how rounds run and are audited.

Rule: numbers alone, each with bounds that `BOUNDS` names once; what they mean in arithmetic is the workers' affair
(docs/training-numerics.md). Shares and rates are integers in units of 1e-12 or of 1e-6 (ppm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Final

from chain.primitives.scale import Enum, scale_path, u8, u16, u32, u64, variant, variant_of

# A round's state is decoded and written by every commit and reveal of it: these two keep its slots under 24 kB.
SLOTS_MAX: Final = 64
AUDITORS_PER_SLOT_MAX: Final = 8
# Four hours of one-second blocks: longer phases would only hide a network that is not working.
PHASE_BLOCKS_MAX: Final = 14_400
# Bonds are at stake for who does not reveal in time: a worker that is killed between commitment and reveal starts
# again, and a view change passes, within ten one-second blocks. No owner can make a trap of shorter phases.
REVEAL_BLOCKS_MIN: Final = 10
# The same for who has to be found: half of an audit passes before an update that nobody can fetch is given up.
AUDIT_BLOCKS_MIN: Final = 10
# Half a step is what rounding alone costs, and honest machines differ by a hundredth: a tolerance below would get
# honest workers slashed. Beyond four steps the mildest cheats pass.
TOLERANCE_MICRO_STEPS_MIN: Final = 510_000
TOLERANCE_MICRO_STEPS_MAX: Final = 4_000_000
# Honest results have up to two values in 100,000 out of tolerance. The mildest cheats push 18 % of a gradient's
# integers there; forgiving 10 % still catches them.
OUTLIERS_PPM_MIN: Final = 20
OUTLIERS_PPM_MAX: Final = 100_000
PICO: Final = 10**12
PPM: Final = 10**6
# A learning rate of a thousand; every real one is below ten.
LEARNING_RATE_PICO_MAX: Final = 1000 * PICO
# A clip at a norm of a thousand; one beyond what a model ever reaches is no clip.
CLIP_PICO_MAX: Final = 1000 * PICO
STEPS_MAX: Final = (1 << 32) - 1
# An audit of a slot takes as long as its steps did: hours, beyond this.
LOCAL_STEPS_MAX: Final = 4096
# A share falls to what it stays at within a task's rounds.
WARMUP_ROUNDS_MAX: Final = 1_000_000
# Within a tenure an audit recomputes every round of a slot: half as many on average.
TENURE_MAX: Final = 64
# A radius of a thousand times the median distance clips nothing.
RADIUS_PPM_MAX: Final = 1000 * PPM
# Honest machines measure a loss alike to a millionth: a sixteenth of the least harm that counts is sixty times that.
HARM_PPM_MIN: Final = 1_000
# A model that is a thousand times worse is ruined: what is beyond is no limit.
HARM_PPM_MAX: Final = 1000 * PPM
# What a commitment without a reveal costs (SlashNotRevealed): odd data are no worse than a crash.
FORFEIT_PLANCK_MAX: Final = 5 * 10**12
# As many rows as one data set may have.
SAMPLES_MAX: Final = 1 << 24
# As many rounds as a task may have: it is evaluated after its first and its last.
EVALUATE_ROUNDS_MAX: Final = 1_000_000
# A slice of 256 MiB of parameters: a model has no more.
SLICE_CHUNKS_MAX: Final = 4096
# Each costs as much as the first, and the centre has hardly moved for long.
ITERATIONS_MAX: Final = 100


@variant(0)
@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent with Polyak's momentum; both in units of 1e-12."""

    learning_rate: u64
    momentum: u64


@variant(1)
@dataclass(frozen=True, slots=True)
class Adam:
    """Adam (Kingma and Ba 2015); all in units of 1e-12."""

    learning_rate: u64
    beta1: u64
    beta2: u64
    epsilon: u64


@variant(2)
@dataclass(frozen=True, slots=True)
class Nesterov:
    """Nesterov's momentum, DiLoCo's outer optimiser (Douillard et al. 2023); both in units of 1e-12."""

    learning_rate: u64
    momentum: u64


OPTIMIZERS: Final = (Sgd, Adam, Nesterov)
Optimizer = Annotated[Sgd | Adam | Nesterov, Enum("potchain_training::Optimizer", *OPTIMIZERS)]


@variant(0)
@dataclass(frozen=True, slots=True)
class Constant:
    """The rate stays."""


@variant(1)
@dataclass(frozen=True, slots=True)
class Linear:
    """Along a line to the share `final` (1e-12) of the rate, within `steps`."""

    steps: u32
    final: u64


@variant(2)
@dataclass(frozen=True, slots=True)
class Cosine:
    """Along half a wave to the share `final` (1e-12) of the rate, within `steps`."""

    steps: u32
    final: u64


@variant(3)
@dataclass(frozen=True, slots=True)
class Staircase:
    """Times `factor` (1e-12) after every so many steps."""

    every: u32
    factor: u64


DECAYS: Final = (Constant, Linear, Cosine, Staircase)
Decay = Annotated[Constant | Linear | Cosine | Staircase, Enum("potchain_training::Decay", *DECAYS)]


@scale_path("potchain_training::Schedule")
@dataclass(frozen=True, slots=True)
class Schedule:
    """How the learning rate changes: a line up to it in so many steps, then a decay."""

    warmup_steps: u32 = 0
    decay: Decay = Constant()


@variant(0, "Value")
@dataclass(frozen=True, slots=True)
class ClipValue:
    """No value of a gradient beyond `limit` (1e-12) on either side."""

    limit: u64


@variant(1, "Norm")
@dataclass(frozen=True, slots=True)
class ClipNorm:
    """A gradient no longer than `limit` (1e-12)."""

    limit: u64


CLIPS: Final = (ClipValue, ClipNorm)
Clip = Annotated[ClipValue | ClipNorm, Enum("potchain_training::Clip", *CLIPS)]


@scale_path("potchain_training::Descent")
@dataclass(frozen=True, slots=True)
class Descent:
    """What makes a step of a gradient. `weight_decay` (1e-12) is decoupled: with Adam it is AdamW."""

    rule: Optimizer
    schedule: Schedule = Schedule()
    clip: Clip | None = None
    weight_decay: u64 = 0


@variant(0)
@dataclass(frozen=True, slots=True)
class Int8:
    """Every parameter in eight bits, with a step for 256 of them."""


@variant(1)
@dataclass(frozen=True, slots=True)
class Int16:
    """Every parameter in sixteen bits, with a step for 256 of them."""


@variant(2)
@dataclass(frozen=True, slots=True)
class TopK:
    """The largest values alone, in eight bits; the share of them falls by halves within a warm-up.

    What is not sent is forgotten: whoever has a slot next, and whoever audits it, knows nothing of it.
    """

    share_ppm: u32
    warmup_rounds: u32


@variant(3)
@dataclass(frozen=True, slots=True)
class TopKFeedback:
    """The largest values alone; what is not sent is remembered, and added to what the slot says next.

    A slot stays with its worker for `tenure` rounds, and so long the memory lasts. `momentum` (1e-12) is taken before
    the largest are chosen (Deep Gradient Compression, Lin et al. 2018).
    """

    share_ppm: u32
    warmup_rounds: u32
    momentum: u64
    tenure: u16


@variant(4)
@dataclass(frozen=True, slots=True)
class Int8Momentum:
    """Every parameter of a slot's momentum, in eight bits: what robust aggregations need (Karimireddy et al. 2021).

    A slot stays with its worker for `tenure` rounds; its momentum (1e-12) begins at nothing in the first of them.
    """

    momentum: u64
    tenure: u16


CODECS: Final = (Int8, Int16, TopK, TopKFeedback, Int8Momentum)
Codec = Annotated[Int8 | Int16 | TopK | TopKFeedback | Int8Momentum, Enum("potchain_training::Codec", *CODECS)]


@scale_path("potchain_training::LocalSteps")
@dataclass(frozen=True, slots=True)
class LocalSteps:
    """So many steps of a worker, each on a batch of its own, before it says how far they led."""

    count: u16
    inner: Descent


@variant(0)
@dataclass(frozen=True, slots=True)
class Mean:
    """All alike: right where updates are audited."""


@variant(1)
@dataclass(frozen=True, slots=True)
class Median:
    """The middle of each coordinate (Yin et al. 2018)."""


@variant(2)
@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """The mean of each coordinate without a share of the lowest and of the highest (Yin et al. 2018)."""

    byzantine_ppm: u32


@variant(3)
@dataclass(frozen=True, slots=True)
class Krum:
    """The update with the nearest neighbours, where up to a share of all may be wrong (Blanchard et al. 2017)."""

    byzantine_ppm: u32


@variant(4)
@dataclass(frozen=True, slots=True)
class MultiKrum:
    """The mean without the share that is farthest from its neighbours (Blanchard et al. 2017)."""

    byzantine_ppm: u32


@variant(5)
@dataclass(frozen=True, slots=True)
class CenteredClip:
    """Where the pulls of all cancel, none longer than a share of the median distance (Karimireddy et al. 2021)."""

    radius_ppm: u32
    iterations: u8


AGGREGATIONS: Final = (Mean, Median, TrimmedMean, Krum, MultiKrum, CenteredClip)
Aggregation = Annotated[
    Mean | Median | TrimmedMean | Krum | MultiKrum | CenteredClip, Enum("potchain_training::Aggregation", *AGGREGATIONS)
]


@variant(0)
@dataclass(frozen=True, slots=True)
class Recompute:
    """Auditors compute a contribution again, of the same data, and compare: what is wrong is proven."""


@variant(1)
@dataclass(frozen=True, slots=True)
class Scored:
    """Federated: the data stay with silos, and auditors measure on held-out rows what a contribution does to the model.

    It is rejected where the model would be better without it by more than `harm_ppm` of the loss that the round began
    with, which costs its silo `forfeit` planck. A silo weighs as many samples as it has, and no more than `weight_max`.
    A round waits for `silos_min` of them: what few have taught a model pulls it away from all the others.
    """

    harm_ppm: u32
    forfeit: u64
    weight_max: u32
    silos_min: u16


VERIFICATIONS: Final = (Recompute, Scored)
Verification = Annotated[Recompute | Scored, Enum("potchain_training::Verification", *VERIFICATIONS)]


@variant(0)
@dataclass(frozen=True, slots=True)
class Whole:
    """Every validator adds up all of every update, and believes nobody."""


@variant(1)
@dataclass(frozen=True, slots=True)
class Slices:
    """Validators check what an aggregator has added up, each some slices of it, and f + 1 of them every slice.

    A slice is so many `chunks` of 64 KiB of the parameters' blob, which are 16,384 parameters each.
    """

    chunks: u16


CHECKS: Final = (Whole, Slices)
Checks = Annotated[Whole | Slices, Enum("potchain_training::Checks", *CHECKS)]


@scale_path("potchain_training::Policy")
@dataclass(frozen=True, slots=True)
class Policy:
    """How a task's rounds run: how many contributions, how long each phase takes, how strict an audit is, what is said.

    A contribution is a gradient, or with local steps the way from where they end back to the round's parameters.
    """

    slots: u16  # of a round, where so many seats are free
    commit_blocks: u32
    reveal_blocks: u32
    audit_blocks: u32
    auditors_per_slot: u8  # of each slot that is audited
    audited_ppm: u32  # the share of slots that are audited at all
    tolerance_micro_steps: u32
    outliers_ppm: u32
    evaluate_rounds: u32  # from one evaluation on the held-out rows to the next
    codec: Codec = Int8()
    local_steps: LocalSteps | None = None
    aggregation: Aggregation = Mean()
    verification: Verification = Recompute()
    checks: Checks = Whole()

    @property
    def batches(self) -> int:
        """How many batches a slot takes."""
        return 1 if self.local_steps is None else self.local_steps.count

    @property
    def is_federated(self) -> bool:
        """Whether the data to train on stay with silos."""
        return isinstance(self.verification, Scored)

    @property
    def tenure(self) -> int:
        """For how many rounds a slot stays with its worker, if nothing goes wrong."""
        return self.codec.tenure if isinstance(self.codec, TopKFeedback | Int8Momentum) else 1

    def is_evaluated(self, round_: int, rounds: int) -> bool:
        """Whether validators say how good the model is that a round makes; after the last one they always do."""
        return round_ % self.evaluate_rounds == 0 or round_ + 1 == rounds


# The least and the most that each number may be.
BOUNDS: Final[Mapping[type, Mapping[str, tuple[int, int]]]] = {
    Sgd: {"learning_rate": (1, LEARNING_RATE_PICO_MAX), "momentum": (0, PICO - 1)},
    Nesterov: {"learning_rate": (1, LEARNING_RATE_PICO_MAX), "momentum": (0, PICO - 1)},
    # An epsilon of zero would divide zero by zero where a gradient has always been zero.
    Adam: {
        "learning_rate": (1, LEARNING_RATE_PICO_MAX),
        "beta1": (0, PICO - 1),
        "beta2": (0, PICO - 1),
        "epsilon": (1, PICO),
    },
    Constant: {},
    Linear: {"steps": (1, STEPS_MAX), "final": (0, PICO)},
    Cosine: {"steps": (1, STEPS_MAX), "final": (0, PICO)},
    Staircase: {"every": (1, STEPS_MAX), "factor": (0, PICO)},
    Schedule: {"warmup_steps": (0, STEPS_MAX)},
    ClipValue: {"limit": (1, CLIP_PICO_MAX)},
    ClipNorm: {"limit": (1, CLIP_PICO_MAX)},
    Descent: {"weight_decay": (0, PICO)},
    Int8: {},
    Int16: {},
    TopK: {"share_ppm": (1, PPM), "warmup_rounds": (0, WARMUP_ROUNDS_MAX)},
    TopKFeedback: {
        "share_ppm": (1, PPM),
        "warmup_rounds": (0, WARMUP_ROUNDS_MAX),
        "momentum": (0, PICO - 1),
        # A tenure of one round remembers nothing: that is TopK.
        "tenure": (2, TENURE_MAX),
    },
    # No momentum is Int8.
    Int8Momentum: {"momentum": (1, PICO - 1), "tenure": (2, TENURE_MAX)},
    LocalSteps: {"count": (1, LOCAL_STEPS_MAX)},
    Mean: {},
    Median: {},
    TrimmedMean: {"byzantine_ppm": (0, PPM // 2)},
    Krum: {"byzantine_ppm": (0, PPM // 2)},
    MultiKrum: {"byzantine_ppm": (0, PPM // 2)},
    CenteredClip: {"radius_ppm": (1, RADIUS_PPM_MAX), "iterations": (1, ITERATIONS_MAX)},
    Recompute: {},
    Scored: {
        "harm_ppm": (HARM_PPM_MIN, HARM_PPM_MAX),
        "forfeit": (0, FORFEIT_PLANCK_MAX),
        "weight_max": (1, SAMPLES_MAX),
        "silos_min": (1, SLOTS_MAX),
    },
    Whole: {},
    Slices: {"chunks": (1, SLICE_CHUNKS_MAX)},
    Policy: {
        "slots": (1, SLOTS_MAX),
        "commit_blocks": (1, PHASE_BLOCKS_MAX),
        "reveal_blocks": (REVEAL_BLOCKS_MIN, PHASE_BLOCKS_MAX),
        "audit_blocks": (AUDIT_BLOCKS_MIN, PHASE_BLOCKS_MAX),
        "auditors_per_slot": (1, AUDITORS_PER_SLOT_MAX),
        "audited_ppm": (1, PPM),
        "tolerance_micro_steps": (TOLERANCE_MICRO_STEPS_MIN, TOLERANCE_MICRO_STEPS_MAX),
        "outliers_ppm": (OUTLIERS_PPM_MIN, OUTLIERS_PPM_MAX),
        "evaluate_rounds": (1, EVALUATE_ROUNDS_MAX),
    },
}


def is_variant(kind: type) -> bool:
    """Whether a record is one of several that there may be in its place."""
    return kind in (*OPTIMIZERS, *DECAYS, *CLIPS, *CODECS, *AGGREGATIONS, *VERIFICATIONS, *CHECKS)


def json_name(kind: type) -> str:
    """A variant as the JSON of genesis files and answers names it: `topK`."""
    name = variant_of(kind)[1]
    return name[0].lower() + name[1:]


def descent_is_valid(descent: Descent) -> bool:
    """Whether every coefficient lies where the arithmetic of a step is defined."""
    clips = () if descent.clip is None else (descent.clip,)
    return _in_bounds(descent, descent.rule, descent.schedule, descent.schedule.decay, *clips)


def codec_is_valid(codec: Int8 | Int16 | TopK | TopKFeedback | Int8Momentum) -> bool:
    """Whether a codec sends something, and its warm-up ends."""
    return _in_bounds(codec)


def local_steps_are_valid(local_steps: LocalSteps | None) -> bool:
    """Whether there are steps, not too many, each of which is defined."""
    return local_steps is None or (_in_bounds(local_steps) and descent_is_valid(local_steps.inner))


def aggregation_is_valid(policy: Policy) -> bool:
    """Whether an aggregation keeps its bounds and can take what the codec sends.

    Of a coordinate that most workers leave out there is no middle: robust aggregations take dense codecs.
    """
    takes_codec = isinstance(policy.aggregation, Mean) or not isinstance(policy.codec, TopK | TopKFeedback)
    return takes_codec and _in_bounds(policy.aggregation)


def verification_is_valid(policy: Policy) -> bool:
    """Whether scores keep their bounds, and fit what is chosen beside them.

    Weights are defined for the mean alone. A slot's memory lasts while it keeps its worker, which silos' slots do not.
    And every slot is looked at: what its harm costs is too little to rely on a draw.
    """
    verification = policy.verification
    if isinstance(verification, Scored):
        weighs = verification.weight_max > 1 and not isinstance(policy.aggregation, Mean)
        is_fit = policy.audited_ppm == PPM and verification.silos_min <= policy.slots
        if weighs or policy.tenure > 1 or not is_fit:
            return False
    return _in_bounds(verification)


def checks_are_valid(policy: Policy, descent: Descent) -> bool:
    """Whether what is chosen can be computed slice by slice, if it is to be checked so.

    Of a dense update a slice has its place in the blob, where a sparse one has to be read from its beginning. A norm,
    Krum and a centered clip need all of the vector, and so does a model that is measured.
    """
    if isinstance(policy.checks, Slices):
        is_dense = isinstance(policy.codec, Int8 | Int16 | Int8Momentum)
        by_coordinate = isinstance(policy.aggregation, Mean | Median | TrimmedMean)
        if not is_dense or not by_coordinate or policy.is_federated or isinstance(descent.clip, ClipNorm):
            return False
    return _in_bounds(policy.checks)


def policy_is_valid(policy: Policy, validators: int) -> bool:
    """Whether a policy's own numbers keep their bounds, and it asks for no more auditors than there are validators."""
    return _in_bounds(policy) and policy.auditors_per_slot <= validators


def _in_bounds(*records: object) -> bool:
    """Whether the numbers of each record lie in their bounds; records within it are looked at by themselves."""
    for record in records:
        numbers = asdict(record)  # type: ignore[call-overload]
        if not all(low <= numbers[name] <= high for name, (low, high) in BOUNDS[type(record)].items()):
            return False
    return True
