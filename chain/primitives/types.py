"""Headers, blocks and extrinsics, laid out as Substrate clients expect them.

A block's hash is that of its header; an extrinsic is always its full wire bytes, length prefix included, so that what
was hashed, signed and gossiped is never rebuilt from parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from chain.primitives import scale
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.merkle import EMPTY_ROOT
from chain.primitives.scale import (
    H256,
    U32,
    AccountId,
    Codec,
    Enum,
    FixedBytes,
    ScaleError,
    Struct,
    Vec,
    codec_of,
    compact32,
    compact128,
    compact_decode,
    compact_encode,
    scale_path,
    u32,
    variant,
)

ENGINE_ID = b"PBFT"
EXTRINSIC_VERSION = 4
SIGNED_BIT = 0x80
# A signed payload longer than this is hashed first (Substrate's SignedPayload::using_encoded).
SIGNED_PAYLOAD_BYTES_MAX = 256

# This chain's headers have one item; Substrate's have up to four.
DIGEST_ITEMS_MAX = 64
# A full block holds four thousand of the smallest transactions.
EXTRINSICS_MAX = 16384

EngineId = Annotated[bytes, FixedBytes(4)]


# --- digest --------------------------------------------------------------------------------------------------------


@variant(6, unnamed=True)
@dataclass(frozen=True, slots=True)
class PreRuntime:
    """What the block's author tells the runtime before execution."""

    engine: EngineId
    data: bytes


@variant(4, unnamed=True)
@dataclass(frozen=True, slots=True)
class Consensus:
    """What the runtime tells consensus."""

    engine: EngineId
    data: bytes


@variant(5, "Seal", unnamed=True)
@dataclass(frozen=True, slots=True)
class DigestSeal:
    """A seal inside a header; this chain's own seals travel beside the block."""

    engine: EngineId
    data: bytes


@variant(0, unnamed=True)
@dataclass(frozen=True, slots=True)
class Other:
    """Anything else."""

    data: bytes


DigestItem = Annotated[
    PreRuntime | Consensus | DigestSeal | Other,
    Enum("sp_runtime::generic::digest::DigestItem", PreRuntime, Consensus, DigestSeal, Other),
]


# Headers and blocks are read before it is known whether anybody sealed them: a count without a bound would let any peer
# hold the event loop for seconds with one block of empty items.
DigestItems = Annotated[list[DigestItem], Vec(codec_of(DigestItem), count_max=DIGEST_ITEMS_MAX)]


@scale_path("sp_runtime::generic::digest::Digest")
@dataclass(frozen=True, slots=True)
class Digest:
    """A header's digest as a storage value."""

    logs: DigestItems


@dataclass(frozen=True, slots=True)
class ConsensusDigest:
    """What every block but genesis says about its making: the view, and the proposer's BLS signature of its height."""

    view: u32
    beacon: Annotated[bytes, FixedBytes(96)]

    def item(self) -> PreRuntime:
        """The digest item that carries it."""
        return PreRuntime(ENGINE_ID, scale.encode(ConsensusDigest, self))


def consensus_digest(logs: list[Any]) -> ConsensusDigest:
    """The consensus item of a digest; ScaleError unless there is exactly one."""
    found = [item.data for item in logs if isinstance(item, PreRuntime) and item.engine == ENGINE_ID]
    if len(found) != 1:
        raise ScaleError(f"expected one {ENGINE_ID.decode()} pre-runtime digest item, got {len(found)}")
    return scale.decode(ConsensusDigest, found[0])


# --- header and block ----------------------------------------------------------------------------------------------


@scale_path("sp_runtime::generic::header::Header")
@dataclass(frozen=True, slots=True)
class Header:
    """A block's header; its SCALE hash is the block's."""

    parent_hash: H256
    height: compact32
    state_root: H256
    extrinsics_root: H256
    digest: DigestItems

    @property
    def hash(self) -> Hash:
        """blake2-256 of the SCALE header."""
        return blake2_256(HEADER.encode(self))

    @property
    def consensus(self) -> ConsensusDigest:
        """The view and beacon signature; ScaleError where there are none (the genesis header)."""
        return consensus_digest(self.digest)


HEADER: Struct[Header] = Struct(Header)


def genesis_header(state_root: Hash) -> Header:
    """The header of the block that has no parent, no proposer and no extrinsics: the state alone makes the chain."""
    return Header(bytes(32), 0, state_root, EMPTY_ROOT, [])


class WireExtrinsic(Codec[bytes]):
    """An extrinsic as its full wire bytes: the value includes the length prefix that SCALE's opaque bytes have."""

    path = ("sp_runtime", "OpaqueExtrinsic")
    size_min = 1

    def encode(self, value: bytes) -> bytes:
        size, start = compact_decode(value, 0)
        if start + size != len(value):
            raise ScaleError(f"the extrinsic's length prefix says {size} bytes, got {len(value) - start}")
        return value

    def decode_at(self, data: bytes, offset: int) -> tuple[bytes, int]:
        size, start = compact_decode(data, offset)
        end = start + size
        if end > len(data):
            raise ScaleError(f"the extrinsic at byte {offset} claims {size} bytes, got {len(data) - start}")
        return data[offset:end], end


@dataclass(frozen=True, slots=True)
class Block:
    """A header and the full wire bytes of its extrinsics."""

    header: Header
    extrinsics: Annotated[list[bytes], Vec(WireExtrinsic(), count_max=EXTRINSICS_MAX)]

    @property
    def hash(self) -> Hash:
        """The header's hash."""
        return self.header.hash

    def encode(self) -> bytes:
        """Header, then the vector of extrinsics."""
        return BLOCK.encode(self)

    @staticmethod
    def decode(data: bytes) -> Block:
        """The block that is the whole of `data`; ScaleError otherwise."""
        return BLOCK.decode(data)


BLOCK: Struct[Block] = Struct(Block)


# --- addresses and signatures --------------------------------------------------------------------------------------


@variant(0, unnamed=True)
@dataclass(frozen=True, slots=True)
class Id:
    """An account by its public key: the only form that this chain accepts."""

    account: AccountId


@variant(1, unnamed=True)
@dataclass(frozen=True, slots=True)
class Index:
    """An account by index."""

    index: compact32


@variant(2, unnamed=True)
@dataclass(frozen=True, slots=True)
class Raw:
    """Arbitrary bytes."""

    data: bytes


@variant(3, unnamed=True)
@dataclass(frozen=True, slots=True)
class Address32:
    """32 bytes that are no account."""

    data: Annotated[bytes, FixedBytes(32)]


@variant(4, unnamed=True)
@dataclass(frozen=True, slots=True)
class Address20:
    """20 bytes, as Ethereum's."""

    data: Annotated[bytes, FixedBytes(20)]


MultiAddress = Annotated[
    Id | Index | Raw | Address32 | Address20,
    Enum(
        "sp_runtime::multiaddress::MultiAddress",
        *(Id, Index, Raw, Address32, Address20),
        params=(("AccountId", AccountId), ("AccountIndex", u32)),
    ),
]


@variant(0, "Ed25519", unnamed=True)
@dataclass(frozen=True, slots=True)
class Ed25519Signature:
    """An ed25519 signature."""

    signature: Annotated[bytes, FixedBytes(64)]


@variant(1, "Sr25519", unnamed=True)
@dataclass(frozen=True, slots=True)
class Sr25519Signature:
    """An sr25519 signature."""

    signature: Annotated[bytes, FixedBytes(64)]


@variant(2, "Ecdsa", unnamed=True)
@dataclass(frozen=True, slots=True)
class EcdsaSignature:
    """An ECDSA signature: clients expect the variant, this chain accepts none."""

    signature: Annotated[bytes, FixedBytes(65)]


MultiSignature = Annotated[
    Ed25519Signature | Sr25519Signature | EcdsaSignature,
    Enum("sp_runtime::MultiSignature", Ed25519Signature, Sr25519Signature, EcdsaSignature),
]


def multi_signature(scheme: Scheme, signature: bytes) -> Ed25519Signature | Sr25519Signature:
    """A signature under its scheme's tag."""
    return Ed25519Signature(signature) if scheme is Scheme.ED25519 else Sr25519Signature(signature)


def scheme_of(signature: Ed25519Signature | Sr25519Signature | EcdsaSignature) -> Scheme | None:
    """The scheme to verify a signature with; None for one that this chain does not accept."""
    match signature:
        case Ed25519Signature():
            return Scheme.ED25519
        case Sr25519Signature():
            return Scheme.SR25519
        case EcdsaSignature():
            return None


# --- mortality -----------------------------------------------------------------------------------------------------

MORTAL_PERIOD_MIN = 4
MORTAL_PERIOD_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Mortal:
    """Valid for `period` blocks (a power of two, 4 to 65536) from a height that is `phase` modulo the period."""

    period: int
    phase: int

    def __post_init__(self) -> None:
        period, phase = self.period, self.phase
        if not MORTAL_PERIOD_MIN <= period <= MORTAL_PERIOD_MAX or period & (period - 1):
            raise ScaleError(f"an era's period is a power of two from 4 to 65536, got {period}")
        if not 0 <= phase < period or phase % self.quantum:
            raise ScaleError(f"an era's phase is below {period} and a multiple of {self.quantum}, got {phase}")

    @property
    def quantum(self) -> int:
        """The step in which the phase is encoded: 1 up to a period of 8191."""
        return max(self.period >> 12, 1)

    @staticmethod
    def at(period: int, height: int) -> Mortal:
        """The era of at least `period` blocks that starts about `height`."""
        rounded = min(max(1 << max(period - 1, 0).bit_length(), MORTAL_PERIOD_MIN), MORTAL_PERIOD_MAX)
        quantum = max(rounded >> 12, 1)
        return Mortal(rounded, height % rounded // quantum * quantum)

    def birth(self, height: int) -> int:
        """The first height of the era that `height` is in: its block's hash is signed."""
        return (max(height, self.phase) - self.phase) // self.period * self.period + self.phase

    def death(self, height: int) -> int:
        """The first height at which it is no longer valid."""
        return self.birth(height) + self.period


class EraCodec(Codec[Mortal | None]):
    """One zero byte for immortal, else two bytes: log2 of the period and the quantised phase."""

    path = ("sp_runtime", "generic", "era", "Era")
    size_min = 1

    def encode(self, value: Mortal | None) -> bytes:
        if value is None:
            return b"\x00"
        if not isinstance(value, Mortal):
            raise ScaleError(f"expected an era, got {value!r}")
        return (value.period.bit_length() - 2 | value.phase // value.quantum << 4).to_bytes(2, "little")

    def decode_at(self, data: bytes, offset: int) -> tuple[Mortal | None, int]:
        first = data[offset : offset + 2]
        if first[:1] == b"\x00":
            return None, offset + 1
        if len(first) != 2:
            raise ScaleError(f"expected an era at byte {offset}, got {len(first)} bytes")
        bits = int.from_bytes(first, "little")
        period = 2 << (bits & 15)
        return Mortal(period, (bits >> 4) * max(period >> 12, 1)), offset + 2


ERA = EraCodec()
Era = Annotated[Mortal | None, ERA]


# --- extrinsic -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExtrinsicSignature:
    """Who signed, and what the signed extensions carry."""

    address: MultiAddress
    signature: MultiSignature
    era: Era
    nonce: compact32
    tip: compact128


@dataclass(frozen=True, slots=True)
class Extrinsic:
    """A decoded extrinsic; `call_bytes` are the exact bytes that were signed."""

    signature: ExtrinsicSignature | None
    call: Any
    call_bytes: bytes


_SIGNATURE: Struct[ExtrinsicSignature] = Struct(ExtrinsicSignature)
_NONCE = codec_of(compact32)
_TIP = codec_of(compact128)


def decode_extrinsic(raw: bytes, call_codec: Codec[Any]) -> Extrinsic:
    """Read a version 4 extrinsic from its full wire bytes; ScaleError for anything else."""
    if not raw:
        raise ScaleError("expected an extrinsic, got no bytes")
    size, offset = compact_decode(raw, 0)
    if size == 0:
        raise ScaleError("expected an extrinsic, got its length prefix alone, which says 0 bytes")
    if offset + size != len(raw):
        raise ScaleError(f"the extrinsic's length prefix says {size} bytes, got {len(raw) - offset}")
    version = raw[offset]
    if version & ~SIGNED_BIT != EXTRINSIC_VERSION:
        raise ScaleError(f"expected an extrinsic of version {EXTRINSIC_VERSION}, got {version & ~SIGNED_BIT}")
    offset += 1
    signature = None
    if version & SIGNED_BIT:
        signature, offset = _SIGNATURE.decode_at(raw, offset)
    call_bytes = raw[offset:]
    call, end = call_codec.decode_at(call_bytes, 0)
    if end != len(call_bytes):
        raise ScaleError(f"expected the call to end at its byte {end}, got {len(call_bytes) - end} bytes more")
    return Extrinsic(signature, call, call_bytes)


def is_signed(raw: bytes) -> bool:
    """Whether an extrinsic of a block is a transaction that somebody signed; nothing but its first bytes is read."""
    _, offset = compact_decode(raw, 0)
    return bool(raw[offset] & SIGNED_BIT)


def sender_and_nonce(raw: bytes) -> tuple[bytes, int] | None:
    """Who signed an extrinsic with which nonce, its call unread; None if it is bare or malformed."""
    try:
        _, offset = compact_decode(raw, 0)
        if raw[offset : offset + 1] != bytes((EXTRINSIC_VERSION | SIGNED_BIT,)):
            return None
        signature, _ = _SIGNATURE.decode_at(raw, offset + 1)
    except ScaleError:
        return None
    return (signature.address.account, signature.nonce) if isinstance(signature.address, Id) else None


def encode_extrinsic(call_bytes: bytes, signature: ExtrinsicSignature | None = None) -> bytes:
    """The full wire bytes of an extrinsic; bare (an inherent) without a signature."""
    if signature is None:
        body = bytes((EXTRINSIC_VERSION,)) + call_bytes
    else:
        body = bytes((EXTRINSIC_VERSION | SIGNED_BIT,)) + _SIGNATURE.encode(signature) + call_bytes
    return compact_encode(len(body)) + body


def signing_payload(
    call_bytes: bytes,
    era: Mortal | None,
    nonce: int,
    tip: int,
    spec_version: int,
    transaction_version: int,
    genesis_hash: Hash,
    era_hash: Hash,
) -> bytes:
    """What a sender signs: the call, the extensions, and the chain and versions that it is meant for."""
    payload = b"".join(
        (
            call_bytes,
            ERA.encode(era),
            _NONCE.encode(nonce),
            _TIP.encode(tip),
            U32.encode(spec_version),
            U32.encode(transaction_version),
            genesis_hash,
            era_hash,
        )
    )
    return blake2_256(payload) if len(payload) > SIGNED_PAYLOAD_BYTES_MAX else payload


def sign_extrinsic(
    keypair: Keypair,
    call_bytes: bytes,
    *,
    nonce: int,
    spec_version: int,
    transaction_version: int,
    genesis_hash: Hash,
    era: Mortal | None = None,
    era_hash: Hash | None = None,
    tip: int = 0,
) -> bytes:
    """A signed extrinsic's full wire bytes; `era_hash` is the hash at the era's birth (immortal: genesis)."""
    if era is not None and era_hash is None:
        raise ValueError("a mortal era needs the hash of the block at its birth")
    payload = signing_payload(
        call_bytes, era, nonce, tip, spec_version, transaction_version, genesis_hash, era_hash or genesis_hash
    )
    signature = multi_signature(keypair.scheme, keypair.sign(payload))
    return encode_extrinsic(call_bytes, ExtrinsicSignature(Id(keypair.public), signature, era, nonce, tip))
