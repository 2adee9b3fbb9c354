"""What peers send as blocks, read and proven: its body is the header's, and a quorum of the set has sealed the header.

Pure: bytes in, proven blocks out, or `FalseAnswer`. Pairings take milliseconds each, so this runs in threads, ahead of
what executes the blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chain.ledger import SealedBlock
from chain.primitives.hashing import Hash
from chain.primitives.merkle import ordered_root
from chain.primitives.scale import ScaleError
from chain.primitives.seal import ValidatorSet, verify_seal
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


def prove_blocks(blocks: Sequence[SealedBlock], validators: ValidatorSet, genesis_hash: Hash) -> int:
    """How many of the first blocks this set has sealed, up to the first that names another; raises FalseAnswer."""
    for count, sealed in enumerate(blocks):
        if sealed.seal.set_id != validators.set_id:
            return count
        if not verify_seal(validators, genesis_hash, sealed.seal):
            raise FalseAnswer(f"the seal of block {sealed.seal.height} does not prove it")
    return len(blocks)
