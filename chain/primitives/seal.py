"""What validators sign, and the seal that proves a block final: one aggregate signature and a bitmap of its voters.

Every signed message binds the chain, the validator set, the height, the view and the phase, so that no signature can
be used anywhere but where it was made; and a seal has exactly one encoding for a given group of voters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Final

from chain.primitives import bls
from chain.primitives.scale import H256, AccountId, FixedBytes, u32

# Each kind of message starts with its own tag, so that bytes signed as one kind never read as another.
_VOTE_TAG: Final = b"potchain/vote/1\0"
_BEACON_TAG: Final = b"potchain/beacon/1\0"
_STANDING_TAG: Final = b"potchain/standing/1\0"

BlsPublicKey = Annotated[bytes, FixedBytes(48)]
BlsSignature = Annotated[bytes, FixedBytes(96)]


class Phase(IntEnum):
    """The step of agreement that a signature belongs to."""

    PREPARE = 1
    COMMIT = 2
    VIEW_CHANGE = 3


@dataclass(frozen=True, slots=True)
class Authority:
    """A validator: the account that it is paid to and the BLS key that it votes with."""

    account: AccountId
    bls_key: BlsPublicKey


@dataclass(frozen=True, slots=True)
class Seal:
    """The commit certificate of one block. `voters` has bit i (lowest first) set when authority i signed."""

    height: u32
    view: u32
    set_id: u32
    block_hash: H256
    voters: bytes
    signature: BlsSignature

    def voter_indices(self, n: int) -> list[int]:
        """Return who signed, ascending; ValueError unless the bitmap is the canonical one of a set of n."""
        return read_bitmap(self.voters, n)


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """The validators of one session, in the order that views rotate through."""

    set_id: int
    authorities: tuple[Authority, ...]

    def __post_init__(self) -> None:
        if not self.authorities:
            raise ValueError("expected at least one validator, got none")
        for what, values in (
            ("account", {a.account for a in self.authorities}),
            ("BLS key", {a.bls_key for a in self.authorities}),
        ):
            if len(values) != len(self.authorities):
                raise ValueError(f"expected a {what} to appear once in a validator set, got one that appears twice")

    @property
    def n(self) -> int:
        return len(self.authorities)

    @property
    def f(self) -> int:
        """How many faulty validators the set tolerates."""
        return (self.n - 1) // 3

    @property
    def quorum(self) -> int:
        """[P2] How many votes decide: any two such groups share an honest validator for every n (2f + 1 is unsafe)."""
        return self.n - self.f

    def primary_index(self, height: int, view: int) -> int:
        return (height + view) % self.n

    def primary(self, height: int, view: int) -> Authority:
        """Return the validator that proposes at this height and view."""
        return self.authorities[self.primary_index(height, view)]


def bitmap(indices: Iterable[int], n: int) -> bytes:
    """Return the canonical bitmap of a group out of n: ceil(n / 8) bytes, bit i % 8 of byte i // 8 for member i."""
    octets = bytearray((n + 7) // 8)
    for index in indices:
        if not 0 <= index < n:
            raise ValueError(f"expected an index below {n}, got {index}")
        octets[index // 8] |= 1 << (index % 8)
    return bytes(octets)


def read_bitmap(octets: bytes, n: int) -> list[int]:
    """Return the members that a bitmap names, ascending; ValueError unless its length is exact and no bit too high."""
    if len(octets) != (n + 7) // 8:
        raise ValueError(f"expected a bitmap of {(n + 7) // 8} bytes for {n} members, got {len(octets)}")
    bits = int.from_bytes(octets, "little")
    if bits >> n:
        raise ValueError(f"expected no bit at or above {n} in the bitmap, got {octets.hex()}")
    return [index for index in range(n) if bits >> index & 1]


def vote_message(genesis_hash: bytes, set_id: int, height: int, view: int, phase: Phase, block_hash: bytes) -> bytes:
    """[P3] Return the bytes that a validator signs to vote: all fields have fixed widths, so they read one way only."""
    return b"".join(
        (
            _VOTE_TAG,
            _hash(genesis_hash, "genesis hash"),
            set_id.to_bytes(4, "little"),
            height.to_bytes(4, "little"),
            view.to_bytes(4, "little"),
            phase.to_bytes(1, "little"),
            _hash(block_hash, "block hash"),
        )
    )


def beacon_message(genesis_hash: bytes, height: int) -> bytes:
    """Return the bytes whose BLS signature is a proposer's share of the beacon at a height.

    The view is left out: a proposer has one possible share a height, whatever view it proposes in.
    """
    return _BEACON_TAG + _hash(genesis_hash, "genesis hash") + height.to_bytes(4, "little")


def standing_message(genesis_hash: bytes, set_id: int, height: int, remembers: bool, nonce: bytes) -> bytes:
    """Return the bytes that a validator signs to answer a question with this nonce: where it stands."""
    return b"".join(
        (
            _STANDING_TAG,
            _hash(genesis_hash, "genesis hash"),
            *(number.to_bytes(4, "little") for number in (set_id, height)),
            bytes([remembers]),
            _hash(nonce, "nonce"),
        )
    )


# A seal is checked when it arrives, again by the block that carries it, and by whoever builds or executes that block; a
# few heights' worth spares those pairings (4 ms each).
@lru_cache(maxsize=64)
def verify_seal(validators: ValidatorSet, genesis_hash: bytes, seal: Seal) -> bool:
    """Say whether a quorum of the set committed to the seal's block. Costs one pairing; never raises."""
    claim = seal_claim(validators, genesis_hash, seal)
    return claim is not None and bls.fast_aggregate_verify(*claim)


def seal_claim(validators: ValidatorSet, genesis_hash: bytes, seal: Seal) -> bls.Claim | None:
    """Return what has to be true of the seal's signature; None where a seal of this set does not even look so."""
    if seal.set_id != validators.set_id:
        return None
    try:
        voters = seal.voter_indices(validators.n)
    except ValueError:
        return None
    if len(voters) < validators.quorum:
        return None
    message = vote_message(genesis_hash, seal.set_id, seal.height, seal.view, Phase.COMMIT, seal.block_hash)
    return tuple(validators.authorities[index].bls_key for index in voters), message, seal.signature


def has_signed(validators: ValidatorSet, seal: Seal, bls_key: bytes) -> bool:
    """Say whether a key is among those that made a seal, which was verified."""
    return any(validators.authorities[index].bls_key == bls_key for index in seal.voter_indices(validators.n))


def _hash(value: bytes, what: str) -> bytes:
    if len(value) != 32:
        raise ValueError(f"expected a {what} of 32 bytes, got {len(value)}")
    return value
