"""What consensus asks of the node around it: to build, check and keep payloads, to sign, and to carry frames.

Consensus sees heights, digests and payload bytes only; what a payload holds is the host's affair.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from chain.primitives.seal import Seal, ValidatorSet

T = TypeVar("T")


class InvalidProposal(Exception):
    """A payload that may not be agreed on; the message says what was expected and what came."""


class Premature(InvalidProposal):
    """A payload from the future, as this node's clock has it: whose clock is wrong, nobody can tell from here."""


class Superseded(Exception):
    """The ledger has moved past the height asked about: the answer is of no use any more, and nothing is wrong."""


class Host(Protocol):
    """The ledger and block author, as consensus sees them."""

    @property
    def genesis_hash(self) -> bytes:
        """The 32-byte hash that binds every vote to this chain."""

    def validators(self, height: int) -> ValidatorSet:
        """Return who decides `height`. Called only for heights whose parent the ledger has."""

    async def build(self, height: int, view: int, parent_seal: Seal | None) -> bytes:
        """Return a payload to propose at (height, view). May raise Superseded.

        `parent_seal` is the parent's with the votes that came after its decision, genuine; None where this node did
        not decide the parent, so that the ledger's seal is all there is.
        """

    async def check(self, height: int, view: int, payload: bytes, *, decided: bool) -> bytes:
        """Return the payload's 32-byte digest if it may be agreed on at `height`, in `view` or an earlier view.

        Raises InvalidProposal, or Superseded; and Premature, but not when a quorum has `decided` for the digest.
        Consensus also checks what it built itself, and checks one payload again when it is proposed in a later view:
        remember the last few answers.
        """

    async def commit(self, height: int, payload: bytes, seal: Seal) -> None:
        """Make the sealed payload durable; it is when this returns. Committing what is there already is no error."""


class Signer(Protocol):
    """The validator's BLS keys: one, or the new one beside those whose place it takes."""

    @property
    def name(self) -> bytes:
        """What the vote log knows the validator by: the 48-byte key that it had first."""

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """The 48-byte keys, of which a validator set names one at most: the chain has one for each validator."""

    async def sign(self, message: bytes, public_key: bytes) -> bytes:
        """Return the 96-byte signature by one of them."""


class RunInThread(Protocol):
    """Runs CPU-bound work off the event loop. Tests on a virtual clock run it inline."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Transport(Protocol):
    """The way to other validators. Neither call waits; a frame may be lost, doubled, delayed or reordered."""

    def broadcast(self, frame: bytes) -> None:
        """Send to every peer."""

    def send(self, peer: bytes, frame: bytes) -> None:
        """Send to one peer, if it is connected."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast consensus goes, in milliseconds."""

    block_time_ms: int = 1_000  # From a parent's commit to the next proposal.
    timeout_ms: int = 2_000  # What view 0 is given after that; doubles with each view.
    timeout_ms_max: int = 16_000  # The cap: an uncapped timeout outgrows any fault that caused it.
    resend_ms: int = 500  # How often unanswered messages are sent again.

    def __post_init__(self) -> None:
        if self.block_time_ms < 0 or self.timeout_ms < 1 or self.resend_ms < 1:
            raise ValueError(f"expected positive times, got {self}")
        if self.timeout_ms_max < self.timeout_ms:
            raise ValueError(f"expected timeout_ms_max of at least {self.timeout_ms}, got {self.timeout_ms_max}")


# What a height can be waiting for; "sealing" is the block itself, once a quorum has decided on it.
Awaited = Literal["proposal", "prepare", "commit", "view-change", "sealing"]


@dataclass(frozen=True, slots=True)
class GadgetState:
    """Where consensus stands, for operators. Validators are named by account."""

    height: int
    view: int
    phase: Awaited
    primary: bytes
    voted: tuple[bytes, ...]  # Who has voted in that phase, as far as this node has heard.
    missing: tuple[bytes, ...]  # Who has not, and could.
