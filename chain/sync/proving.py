"""What peers send as blocks, read and proven: its body is the header's, and a quorum of the set has sealed the header.

Pure: bytes in, proven blocks out, or `FalseAnswer`. Pairings take milliseconds each, so this runs in threads, ahead of
what executes the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chain.ledger import SealedBlock
from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.merkle import ordered_root
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal, ValidatorSet, beacon_message, seal_claim, verify_seal
from chain.primitives.types import Block
from chain.sync.planner import FalseAnswer


@dataclass(slots=True)
class Range:
    """Blocks of one peer that follow from each other; the first `proven` of them a set that we know has sealed.

    Whether that set decides their heights shows when the blocks below are executed: `sealed_by` tells whom it was.
    """

    peer: bytes
    blocks: Sequence[SealedBlock]
    size: int
    sealed_by: list[int]  # For each proven block the number of the set whose keys proved it.

    @property
    def start(self) -> int:
        return self.blocks[0].block.header.height

    @property
    def proven(self) -> int:
        return len(self.sealed_by)


def read_range(peer: bytes, encoded: Sequence[bytes], start: int) -> Range:
    """Blocks that should be those from `start` on, as they read and hang together; raises FalseAnswer."""
    blocks: list[SealedBlock] = []
    for height, data in enumerate(encoded, start):
        sealed = read_block(data, height)
        if blocks and sealed.block.header.parent_hash != blocks[-1].block.hash:
            raise FalseAnswer(f"block {height} does not follow its own block {height - 1}")
        blocks.append(sealed)
    return Range(peer, blocks, sum(map(len, encoded)), [])


def read_block(data: bytes, height: int) -> SealedBlock:
    """A block of this height whose body and seal are of its header; raises FalseAnswer."""
    try:
        sealed = SealedBlock.decode(data)
    except ScaleError as error:
        raise FalseAnswer(f"block {height} is malformed: {error}") from error
    block, seal = sealed.block, sealed.seal
    if block.header.height != height:
        raise FalseAnswer(f"asked for block {height}, got block {block.header.height}")
    if ordered_root(block.extrinsics) != block.header.extrinsics_root:
        raise FalseAnswer(f"the body of block {height} is not its header's")
    if (seal.height, seal.block_hash) != (height, block.hash):
        raise FalseAnswer(f"the seal of block {height} is of another block")
    return sealed


def prove_blocks(
    blocks: Sequence[SealedBlock],
    validators: ValidatorSet,
    genesis_hash: Hash,
    parent_seal_of: Callable[[Block], Seal | None],
) -> int:
    """How many of the first blocks this set has sealed, up to the first that names another; raises FalseAnswer.

    Signatures are verified together, and with them those that executing the blocks will ask for: their proposers' for
    the beacon, and the seals of their parents that they carry.
    """
    count = next((i for i, sealed in enumerate(blocks) if sealed.seal.set_id != validators.set_id), len(blocks))
    claims: list[bls.Claim] = []
    for sealed in blocks[:count]:
        claim = seal_claim(validators, genesis_hash, sealed.seal)
        if claim is None:
            raise FalseAnswer(f"the seal of block {sealed.seal.height} has too few votes to prove it")
        claims += [claim, *_claims_inside(sealed.block, validators, genesis_hash, parent_seal_of)]
    if not bls.verify_all(claims):
        for sealed in blocks[:count]:
            if not verify_seal(validators, genesis_hash, sealed.seal):
                raise FalseAnswer(f"the seal of block {sealed.seal.height} does not prove it")
    return count


def _claims_inside(
    block: Block, validators: ValidatorSet, genesis_hash: Hash, parent_seal_of: Callable[[Block], Seal | None]
) -> Iterator[bls.Claim]:
    """What else in a block is signed by this set. Whether it has to be there executing the block says."""
    with suppress(ScaleError):
        digest = block.header.consensus
        primary = validators.primary(block.header.height, digest.view)
        yield (primary.bls_key,), beacon_message(genesis_hash, block.header.height), digest.beacon
    seal = parent_seal_of(block)
    claim = None if seal is None else seal_claim(validators, genesis_hash, seal)
    if claim is not None:
        yield claim
