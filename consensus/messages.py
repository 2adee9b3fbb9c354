"""The messages that validators exchange and the events and records made of them, SCALE-encoded within fixed bounds.

A frame that decodes is well-formed and no more: nothing in it is believed before `consensus.proof` has checked it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from chain.primitives.hashing import blake2_256
from chain.primitives.scale import H256, Codec, Enum, FixedBytes, ScaleError, codec_of, u16, u32, variant
from chain.primitives.seal import Phase, Seal

# The largest block that the runtime admits is about 5 MB; the rest is room for a new-view proof of the largest set.
FRAME_BYTES_MAX: Final = 6 * 1024 * 1024
# BLS aggregation stays within a block's time up to about here; bitmaps and proofs are bounded by it.
VALIDATORS_MAX: Final = 1024

NO_LOCK: Final = bytes(32)

_Signature = Annotated[bytes, FixedBytes(96)]


class MalformedFrame(ValueError):
    """A frame that no correct peer sends."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum's votes in one phase for one digest: one aggregate signature and the bitmap of its voters."""

    height: u32
    view: u32
    digest: H256
    voters: bytes
    signature: _Signature

    def __post_init__(self) -> None:
        if len(self.voters) > VALIDATORS_MAX // 8:
            raise ValueError(f"expected a bitmap of at most {VALIDATORS_MAX // 8} bytes, got {len(self.voters)}")

    def seal(self, set_id: int) -> Seal:
        """Return the seal that this is, when its phase is COMMIT."""
        return Seal(self.height, self.view, set_id, self.digest, self.voters, self.signature)


@dataclass(frozen=True, slots=True)
class Lock:
    """What a validator says it was prepared for: the view and the digest of its highest prepared certificate."""

    view: u32
    digest: H256


def lock_of(certificate: Certificate | None) -> Lock | None:
    return None if certificate is None else Lock(certificate.view, certificate.digest)


def lock_digest(lock: Lock | None) -> bytes:
    """Return what stands for a lock inside a signed view change: all zero for none."""
    return NO_LOCK if lock is None else blake2_256(_LOCK.encode(lock))


@variant(0)
@dataclass(frozen=True, slots=True)
class Vote:
    """A prepare or a commit (PBFT 4.2)."""

    height: u32
    view: u32
    phase: Phase
    digest: H256
    voter: u16
    signature: _Signature

    def __post_init__(self) -> None:
        if self.phase not in (Phase.PREPARE, Phase.COMMIT):
            raise ValueError(f"expected a PREPARE or COMMIT vote, got {self.phase.name}")


@variant(1)
@dataclass(frozen=True, slots=True)
class ViewChange:
    """A validator's wish to move to `view`, with the proof of what it was prepared for (PBFT 4.4)."""

    height: u32
    view: u32
    voter: u16
    lock: Certificate | None
    signature: _Signature


@dataclass(frozen=True, slots=True)
class Support:
    """One view change as a new-view proof repeats it: what was signed, without the certificate behind it."""

    voter: u16
    lock: Lock | None
    signature: _Signature


@dataclass(frozen=True, slots=True)
class NewView:
    """Why a view may begin: a quorum of view changes, and the certificate of the highest lock among them (PBFT 4.4)."""

    changes: tuple[Support, ...]
    lock: Certificate | None

    def __post_init__(self) -> None:
        if len(self.changes) > VALIDATORS_MAX:
            raise ValueError(f"expected at most {VALIDATORS_MAX} view changes, got {len(self.changes)}")


@variant(2)
@dataclass(frozen=True, slots=True)
class PrePrepare:
    """The primary's proposal; `signature` is its own prepare vote. Sent again, it leaves out the payload."""

    height: u32
    view: u32
    digest: H256
    signature: _Signature
    payload: bytes | None
    new_view: NewView | None


@variant(3)
@dataclass(frozen=True, slots=True)
class PayloadRequest:
    """A question for the payload of a digest at the height being decided."""

    height: u32
    digest: H256


@variant(4)
@dataclass(frozen=True, slots=True)
class Payload:
    """The answer; the receiver checks which digest it has."""

    height: u32
    payload: bytes


@variant(5)
@dataclass(frozen=True, slots=True)
class Inquiry:
    """[P27] A question to every validator: where it stands. The nonce keeps old answers from being taken for new."""

    height: u32
    nonce: H256


@variant(6)
@dataclass(frozen=True, slots=True)
class Standing:
    """The answer: the height that a validator decides now, and whether its log knows all that it has signed."""

    height: u32
    nonce: H256
    remembers: bool
    voter: u16
    signature: _Signature


Message = Vote | ViewChange | PrePrepare | PayloadRequest | Payload | Inquiry | Standing

_LOCK: Final[Codec[Lock]] = codec_of(Lock)
_MESSAGE: Final[Codec[Any]] = Enum(
    "potchain::consensus::Message", Vote, ViewChange, PrePrepare, PayloadRequest, Payload, Inquiry, Standing
)


def encode(message: Message) -> bytes:
    return _MESSAGE.encode(message)


def decode(frame: bytes) -> Message:
    """Decode one frame; MalformedFrame for anything that `encode` would not make."""
    if len(frame) > FRAME_BYTES_MAX:
        raise MalformedFrame(f"expected a frame of at most {FRAME_BYTES_MAX} bytes, got {len(frame)}")
    try:
        message: Message = _MESSAGE.decode(frame)
    except ScaleError as error:
        raise MalformedFrame(str(error)) from error
    return message
