"""What a validator must remember about its own votes, whatever crashes when: the entries of the write-ahead log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from chain.primitives.scale import H256, Codec, Enum, u32, variant
from consensus.messages import Certificate, NewView


@variant(0)
@dataclass(frozen=True, slots=True)
class Accepted:
    """A prepare vote for the digest may have been sent. The payload is left out when an earlier record has it."""

    height: u32
    view: u32
    digest: H256
    payload: bytes | None
    new_view: NewView | None


@variant(1)
@dataclass(frozen=True, slots=True)
class Locked:
    """A commit vote for the certificate's digest, in its view, may have been sent."""

    height: u32
    certificate: Certificate


@variant(2)
@dataclass(frozen=True, slots=True)
class Changing:
    """A view change to `view` may have been sent, with the lock of the last `Locked` record."""

    height: u32
    view: u32


@variant(3)
@dataclass(frozen=True, slots=True)
class Began:
    """[P27] Nothing was signed at this height or above when this was written. Below it, nothing is known."""

    height: u32


Record = Accepted | Locked | Changing | Began
RECORD: Final[Codec[Any]] = Enum("potchain::consensus::Record", Accepted, Locked, Changing, Began)
