"""Fuzz targets of `chain.primitives`: SCALE, addresses, secret URIs, proofs, seals and curve points."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Annotated, Any

from chain.primitives import blob, bls, bls_native, bls_reference, ss58
from chain.primitives import scale as s
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, KeyUriError, Scheme
from chain.primitives.merkle import MemoryTree, ProofError, verify_proof
from chain.primitives.seal import Seal, bitmap, read_bitmap
from chain.primitives.types import BLOCK, ERA, HEADER, ConsensusDigest, DigestItem, ExtrinsicSignature
from tests.fuzz.samples import TEXTS, octets, pick
from tests.fuzz.target import Target, scale_target


@s.variant(3)
@dataclass(frozen=True, slots=True)
class Some:
    """A variant with fields of several kinds."""

    number: s.compact64
    parts: tuple[s.u16, ...]


@s.variant(200)
@dataclass(frozen=True, slots=True)
class Nothing:
    """A variant without any."""


class Colour(enum.IntEnum):
    """A fieldless enum with a gap."""

    RED = 0
    BLUE = 2


@dataclass(frozen=True, slots=True)
class Empty:
    """A value of no bytes."""


KINDS: tuple[s.Codec[Any], ...] = (
    *(s.U8, s.U16, s.U32, s.U64, s.U128, s.U256, s.I8, s.I16, s.I32, s.I64, s.I128, s.I256),
    *(s.BOOL, s.BYTES, s.STR, s.UNIT, s.ACCOUNT_ID),
    *(s.codec_of(kind) for kind in (s.compact32, s.compact64, s.compact128)),
    *(s.codec_of(kind) for kind in (list[s.u8], list[s.compact32], list[bytes], list[list[bool]], tuple[str, ...])),
    *(s.codec_of(kind) for kind in (bool | None, list[s.u32 | None], tuple[s.u8, str, bytes], Colour, Empty)),
    s.Array(3, s.codec_of(s.compact32)),
    s.Vec(s.codec_of(Empty)),
    s.Enum("Either", Some, Nothing),
    s.Vec(s.Enum("Either", Some, Nothing)),
    s.Opaque("Opaque"),
)

BLOCK_TYPES: tuple[s.Codec[Any], ...] = (
    HEADER,
    BLOCK,
    ERA,
    *(s.codec_of(kind) for kind in (DigestItem, ConsensusDigest, Seal, ExtrinsicSignature)),
)


# --- addresses and secrets -----------------------------------------------------------------------------------------


def text_of(data: bytes) -> str:
    """Bytes as Python reads them from a command line."""
    return data.decode("utf-8", "surrogateescape")


def _address(data: bytes) -> tuple[int, bytes]:
    text = text_of(data)
    account = ss58.decode(text, None)
    for prefix in (0, 2, 42, 63, 64, 255, 16383):
        try:
            if ss58.decode(text, prefix) == account:
                return prefix, account
        except ss58.Ss58Error:
            continue
    raise ss58.Ss58Error("an address of another network: it would take long to find which")


def _some_address(rng: Random) -> bytes:
    return ss58.encode(rng.randbytes(32), pick(rng, (0, 2, 42, 63, 64, 255, 16383))).encode()


def _keys(data: bytes) -> list[Keypair]:
    return [Keypair.from_uri(text_of(data), scheme) for scheme in Scheme]


def _some_uri(rng: Random) -> bytes:
    root = pick(rng, ("", "0x" + rng.randbytes(32).hex(), "abandon " * 11 + "about", "bottom drive obey", "0x12"))
    path = "".join("//" + pick(rng, ("Alice", "0", "18446744073709551616", *TEXTS)) for _ in range(rng.randint(0, 3)))
    return (root + path + pick(rng, ("", "", "///", "///password"))).encode()


# --- proofs --------------------------------------------------------------------------------------------------------

_PROOF = s.codec_of(tuple[Annotated[bytes, s.FixedBytes(32)], list[bytes], list[bytes]])


@cache
def tree() -> MemoryTree:
    """A tree with every kind of node: leaves, branches, branches with a value, long and empty paths."""
    rng = Random(1)
    keys = [rng.randbytes(rng.choice((1, 2, 3, 32, 40))) for _ in range(60)]
    keys += [key + b"\0" for key in keys[:10]] + [b"\x12\x34", b"\x12", b"\x12\x35\x00", b""]
    return MemoryTree({key: rng.randbytes(rng.choice((0, 1, 40))) for key in keys})


def _proof(data: bytes) -> tuple[bytes, list[bytes], list[bytes]]:
    """Under the tree's own root a proof shows what the tree has, and is the only one that does."""
    root, keys, nodes = _PROOF.decode(data)
    found = verify_proof(root, keys, nodes)
    if root == tree().root_hash:
        assert found == {key: tree().get(key) for key in keys}, found
        assert nodes == tree().prove(keys)
    return root, keys, nodes


def _some_proof(rng: Random) -> bytes:
    known = list(tree().keys())
    keys = [pick(rng, known) if rng.random() < 0.7 else octets(rng) for _ in range(rng.randint(1, 3))]
    nodes = tree().prove(keys)
    if rng.random() < 0.5:  # Whoever makes up a root may make up the nodes below it.
        top = bytearray(nodes[0])
        top[rng.randrange(len(top))] ^= 1 << rng.randrange(8)
        return _PROOF.encode((blake2_256(bytes(top)), keys, [bytes(top), *nodes[1:]]))
    return _PROOF.encode((tree().root_hash, keys, nodes))


_CHUNK = s.codec_of(tuple[s.u64, s.u32, bytes, list[Annotated[bytes, s.FixedBytes(32)]]])
_BLOB = bytes(range(256)) * 600  # Three chunks, the last one shorter.


@cache
def _blob_tree() -> blob.BlobTree:
    return blob.blob_tree(_BLOB)


def _chunk(data: bytes) -> bool:
    """Whether the chunk is proven; then it is the blob's."""
    length, index, chunk, proof = _CHUNK.decode(data)
    proven = blob.verify_chunk(_blob_tree().root, length, index, chunk, proof)
    if proven:
        start = index * blob.CHUNK_BYTES
        assert (length, chunk) == (len(_BLOB), _BLOB[start : start + blob.CHUNK_BYTES]), (length, index)
    return proven


def _some_chunk(rng: Random) -> bytes:
    index = rng.randrange(3)
    start = index * blob.CHUNK_BYTES
    chunk = _BLOB[start : start + blob.CHUNK_BYTES]
    return _CHUNK.encode((len(_BLOB), index, chunk, _blob_tree().proof(index)))


def _chunk_range(data: bytes) -> tuple[int, int, bytes]:
    """Chunks of the blob in an answer, after a byte that says which were asked for."""
    if not data:
        raise blob.ChunkError("no range")
    first, count = data[0] & 3, (data[0] >> 2 & 3) + 1
    length, found = blob.decode_chunks(_blob_tree().root, first, count, data[1:])
    start = first * blob.CHUNK_BYTES
    assert (length, found) == (len(_BLOB), _BLOB[start : start + count * blob.CHUNK_BYTES]), (first, count)
    return data[0], first, found


def _some_chunk_range(rng: Random) -> bytes:
    asked = rng.randrange(3) | rng.randrange(4) << 2
    return _answer(asked, asked & 3, _BLOB[(asked & 3) * blob.CHUNK_BYTES :][: ((asked >> 2) + 1) * blob.CHUNK_BYTES])


def _answer(asked: int, first: int, found: bytes) -> bytes:
    pieces = [found[at : at + blob.CHUNK_BYTES] for at in range(0, len(found), blob.CHUNK_BYTES)]
    proven = [(piece, _blob_tree().proof(index)) for index, piece in enumerate(pieces, first)]
    return bytes((asked,)) + blob.encode_chunks(len(_BLOB), proven)


def _bitmap(data: bytes) -> tuple[int, list[int]]:
    if not data:
        raise ValueError("no size")
    return data[0], read_bitmap(data[1:], data[0])


def _some_bitmap(rng: Random) -> bytes:
    n = rng.randrange(256)
    return bytes((n,)) + bitmap((index for index in range(n) if rng.random() < 0.5), n)


# --- curve points --------------------------------------------------------------------------------------------------

_SECRET = bls.keygen(bytes(range(32)))
_PUBLIC = bls.public_key(_SECRET)
_BACKENDS: tuple[bls.Backend, ...] = (bls_native, bls_reference)


def _signature_point(data: bytes) -> bytes:
    """The point that both libraries see in the bytes."""
    seen = []
    for backend in _BACKENDS:
        try:
            seen.append(backend.aggregate([data]))
        except ValueError as error:
            seen.append(b"")
            refusal = error
    assert seen[0] == seen[1], f"{data.hex()}: native sees {seen[0].hex()}, the reference {seen[1].hex()}"
    if not seen[0]:
        raise refusal
    return seen[0]


def _key(data: bytes) -> None:
    """Neither library takes a signature of another's under the key; both say so of whatever bytes."""
    signature = bls.sign(_SECRET, b"message")
    verdicts = [backend.fast_aggregate_verify([data, _PUBLIC], b"message", signature) for backend in _BACKENDS]
    assert verdicts == [False, False], f"{data.hex()}: {verdicts}"


def _some_signature(rng: Random) -> bytes:
    return pick(rng, (bls.sign(_SECRET, rng.randbytes(4)), b"\xc0" + bytes(95)))


def _some_key(rng: Random) -> bytes:
    return pick(rng, (bls.public_key(bls.keygen(rng.randbytes(32))), b"\xc0" + bytes(47)))


TARGETS = (
    scale_target("scale", *KINDS),
    scale_target("block", *BLOCK_TYPES),
    Target(
        "address", _address, (ss58.Ss58Error,), _some_address, lambda found: ss58.encode(found[1], found[0]).encode()
    ),
    Target("key-uri", _keys, (KeyUriError,), _some_uri, slow=True),
    Target("proof", _proof, (ProofError, s.ScaleError), _some_proof, _PROOF.encode),
    Target("blob-chunk", _chunk, (s.ScaleError,), _some_chunk),
    Target("blob-chunks", _chunk_range, (blob.ChunkError,), _some_chunk_range, lambda found: _answer(*found)),
    Target(
        "bitmap", _bitmap, (ValueError,), _some_bitmap, lambda found: bytes((found[0],)) + bitmap(found[1], found[0])
    ),
    Target("bls-signature", _signature_point, (ValueError,), _some_signature, bytes, slow=True),
    Target("bls-key", _key, (), _some_key, slow=True),
)
