"""What a node says, checked: each function takes an answer as JSON gave it and returns what it proves, or raises.

Nothing here asks, waits or remembers. An answer that does not read is as untrue as one that proves something else.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any, Final

from chain.light.errors import Untrue, Withheld
from chain.primitives.hashing import Hash
from chain.primitives.merkle import ProofError, verify_proof
from chain.primitives.scale import ScaleError, codec_of
from chain.primitives.seal import Seal, ValidatorSet, verify_seal
from chain.primitives.types import DigestItem, Header

_SEAL: Final = codec_of(Seal)
_DIGEST_ITEM: Final = codec_of(DigestItem)
# How much of a wrong answer a message shows.
SHOWN_MAX: Final = 80


def read_hash(answer: object, what: str) -> Hash:
    """A block hash; Withheld where there is none."""
    if answer is None:
        raise Withheld(f"the node does not tell {what}")
    try:
        octets = _octets(answer, what)
        if len(octets) != 32:
            raise ValueError(f"{what}: expected 32 bytes, got {len(octets)}")
    except ValueError as error:
        raise Untrue(str(error)) from None
    return octets


def read_header(answer: object, block_hash: Hash) -> Header:
    """The header of a block: whose hash it has, so that nothing in it can be other than it was."""
    if answer is None:
        raise Withheld(f"the node does not give the header of block {_short(block_hash)}")
    try:
        header = header_from_json(answer)
        found = header.hash
    except (ScaleError, ValueError, KeyError, TypeError) as error:
        raise Untrue(f"expected the header of block {_short(block_hash)}, got {_shown(answer)} ({error})") from None
    if found != block_hash:
        raise Untrue(f"expected a header of hash 0x{block_hash.hex()}, got one of hash 0x{found.hex()}: it is forged")
    return header


def read_seal(answer: object, height: int, block_hash: Hash) -> Seal:
    """A seal that says that it is of this block; whether it is one, `check_seal` says."""
    if answer is None:
        raise Withheld(f"the node does not give the seal of block {height} ({_short(block_hash)})")
    try:
        if not isinstance(answer, dict):
            raise ValueError("no object")
        seal: Seal = _SEAL.decode(_octets(answer["encoded"], "encoded"))
    except (ScaleError, ValueError, KeyError) as error:
        raise Untrue(f"expected the seal of block {height}, got {_shown(answer)} ({error})") from None
    if (seal.height, seal.block_hash) != (height, block_hash):
        raise Untrue(
            f"expected the seal of block {height} ({_short(block_hash)}), "
            f"got one of block {seal.height} ({_short(seal.block_hash)})"
        )
    return seal


def read_handover(answer: object, set_id: int) -> tuple[Header, Seal, list[bytes]]:
    """What may be the last block of a set, with its seal and a proof at it: as it reads, and nothing of it checked."""
    if answer is None:
        raise Withheld(
            f"the node does not show which block handed over from validator set {set_id} to the next: ask another, or "
            "begin at a newer block that you know, with --trust HASH"
        )
    try:
        if not isinstance(answer, dict):
            raise ValueError("no object")
        header = header_from_json(answer["header"])
        seal: Seal = _SEAL.decode(_octets(answer["seal"], "seal"))
        proof = [_octets(node, "node") for node in answer["proof"]]
        if (seal.height, seal.block_hash) != (header.height, header.hash):
            raise ValueError(f"the seal is of block {seal.height}, the header of {header.height}")
    except (ScaleError, ValueError, KeyError, TypeError) as error:
        raise Untrue(f"expected the handover of validator set {set_id}, got {_shown(answer)} ({error})") from None
    return header, seal, proof


def check_seal(validators: ValidatorSet, genesis_hash: Hash, seal: Seal) -> None:
    """That a quorum of the set has committed to the seal's block, on this chain."""
    what = f"the seal of block {seal.height}"
    if seal.set_id != validators.set_id:
        raise Untrue(f"{what}: expected the votes of validator set {validators.set_id}, got those of set {seal.set_id}")
    try:
        voters = seal.voter_indices(validators.n)
    except ValueError as error:
        raise Untrue(f"{what}: {error}") from None
    if len(voters) < validators.quorum:
        raise Untrue(
            f"{what}: expected the votes of {validators.quorum} of {validators.n} validators, got {len(voters)}"
        )
    if not verify_seal(validators, genesis_hash, seal):
        raise Untrue(
            f"{what}: its signature is not that of the {len(voters)} validators whom it names: it is forged, or of "
            f"another chain than that of genesis {_short(genesis_hash)}"
        )


def read_proof(answer: object, block_hash: Hash, state_root: Hash, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """The values of storage keys in the state after a block, None for one that is proven absent."""
    try:
        if not isinstance(answer, dict):
            raise ValueError("no object")
        if _octets(answer["at"], "at") != block_hash:
            raise ValueError("of another block")
        proof = [_octets(node, "node") for node in answer["proof"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Untrue(
            f"expected a storage proof at block {_short(block_hash)}, got {_shown(answer)} ({error})"
        ) from None
    return check_proof(proof, block_hash, state_root, keys)


def check_proof(
    proof: Sequence[bytes], block_hash: Hash, state_root: Hash, keys: Sequence[bytes]
) -> dict[bytes, bytes | None]:
    """The same of tree nodes that were read already."""
    try:
        return verify_proof(state_root, keys, proof)
    except ProofError as error:
        raise Untrue(f"the storage proof at block {_short(block_hash)} does not hold: {error}") from None


def header_from_json(value: Any) -> Header:
    """A header from its JSON, whatever its hash; raises ValueError, KeyError, TypeError or ScaleError."""
    if not isinstance(value, dict):
        raise ValueError("no object")
    return Header(
        parent_hash=_octets(value["parentHash"], "parentHash"),
        height=_number(value["number"]),
        state_root=_octets(value["stateRoot"], "stateRoot"),
        extrinsics_root=_octets(value["extrinsicsRoot"], "extrinsicsRoot"),
        digest=[_DIGEST_ITEM.decode(_octets(item, "digest item")) for item in value["digest"]["logs"]],
    )


def _octets(value: object, what: str) -> bytes:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            octets = bytes.fromhex(value[2:])
        except ValueError:
            pass
        else:
            if 2 * len(octets) == len(value) - 2:  # fromhex skips blanks.
                return octets
    raise ValueError(f"{what}: expected hex digits after 0x, got {_shown(value)}")


def _number(value: object) -> int:
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 18:
        raise ValueError(f"expected a number in hex, got {_shown(value)}")
    return int(value, 16)


def _shown(value: Any) -> str:
    text = reprlib.repr(value)  # Of a long answer, never all.
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _short(value: bytes) -> str:
    return f"0x{value.hex()[:8]}…"
