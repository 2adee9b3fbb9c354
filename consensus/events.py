"""What goes into the replica and what comes out: events are verified facts, effects run first to last.

[P4] A vote is durable before it is sent: `Persist` always precedes the effect that sends what it records.
"""

from dataclasses import dataclass

from chain.primitives.seal import Phase
from consensus.messages import Certificate, NewView, ViewChange
from consensus.records import Record

# --- events: facts that the gadget has verified ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The replica may act: right after it was made or restored."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """The primary of (height, view) proposed; its signature and those inside `new_view` are genuine."""

    height: int
    view: int
    digest: bytes
    payload: bytes | None
    new_view: NewView | None


@dataclass(frozen=True, slots=True)
class Built:
    """The host built and checked a payload to propose at (height, view)."""

    height: int
    view: int
    digest: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """The host's verdict on the payload that was claimed to have `digest`."""

    height: int
    digest: bytes
    payload: bytes
    valid: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """A payload came that had been asked for; whether it is the right one is for `Check` to find."""

    height: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A quorum prepared the certificate's digest in its view."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Committed:
    """A quorum committed to the certificate's digest."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Changed:
    """A validator (maybe this one) asks for a view; its signature and lock are genuine."""

    change: ViewChange


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The timer of (height, view) ran out."""

    height: int
    view: int


@dataclass(frozen=True, slots=True)
class ResendDue:
    """Nothing moved for a while: what was sent may have been lost."""


Event = Started | Proposed | Built | Checked | Fetched | Prepared | Committed | Changed | TimedOut | ResendDue

# --- effects: run first to last -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the record durable before anything after it runs."""

    record: Record


@dataclass(frozen=True, slots=True)
class CastVote:
    """Sign this vote, send it to everyone, and count it."""

    height: int
    view: int
    phase: Phase
    digest: bytes


@dataclass(frozen=True, slots=True)
class Propose:
    """Sign the prepare vote for the digest and send it with the payload to everyone (without, if sent before)."""

    height: int
    view: int
    digest: bytes
    payload: bytes | None
    new_view: NewView | None


@dataclass(frozen=True, slots=True)
class CastViewChange:
    """Sign this view change, send it to everyone, and report it back as `Changed`."""

    height: int
    view: int
    lock: Certificate | None


@dataclass(frozen=True, slots=True)
class Build:
    """Have the host build a payload; answer with `Built`."""

    height: int
    view: int


@dataclass(frozen=True, slots=True)
class Check:
    """Have the host check the payload against the digest; answer with `Checked`."""

    height: int
    view: int
    digest: bytes
    payload: bytes
    decided: bool  # Whether a quorum has committed to the digest.


@dataclass(frozen=True, slots=True)
class RequestPayload:
    """Ask peers for the payload of a digest; answer with `Fetched`."""

    height: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Answer with `TimedOut` after so long; replaces the timer that runs."""

    height: int
    view: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class StopTimer:
    """Forget the timer that runs."""


@dataclass(frozen=True, slots=True)
class Decide:
    """The payload is final: have the host commit it, and go on to the next height. A late vote may follow."""

    certificate: Certificate
    payload: bytes


Effect = Persist | CastVote | Propose | CastViewChange | Build | Check | RequestPayload | SetTimer | StopTimer | Decide
