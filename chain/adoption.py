"""A state that came from peers takes the place of genesis: with its block, the block's seal and all handovers, or not.

Everything is in one transaction, so whatever kills the process leaves the chain at genesis, or whole at the new block.
The tree is built anew from the keys: a state that does not have the block's root never becomes the chain's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chain.primitives import merkle
from chain.primitives.hashing import Hash
from chain.primitives.merkle import root_hash
from chain.primitives.merkle_chunks import TreeBuilder
from chain.primitives.scale import Struct, codec_of, decode, u32
from chain.primitives.seal import Seal
from chain.primitives.types import HEADER, Header
from chain.store import Batch, Head

SEAL: Final = codec_of(Seal)
# Entries that are written at once: some hundred kilobytes in memory.
ENTRIES_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True)
class KeptHandover:
    """The height of a set's last block, and the proof of `handover_keys` in the state after it."""

    height: u32
    proof: list[bytes]


KEPT_HANDOVER: Final = Struct(KeptHandover)


@dataclass(frozen=True, slots=True)
class Handover:
    """A validator set's last block: its header, its seal, and the proof of `handover_keys` under its state root."""

    header: Header
    seal: Seal
    proof: list[bytes]


@dataclass(frozen=True, slots=True)
class StateChunk:
    """A part of a state, as `chain.primitives.merkle_chunks` proves it; and how many keys the newest state has."""

    keys: int
    nodes: list[bytes]


class WrongState(Exception):
    """What was laid aside is not the whole state of the block."""


def adopt(
    batch: Batch,
    header: Header,
    body: bytes,
    seal: Seal,
    handovers: Sequence[Handover],
    handover_keys: Sequence[bytes],
) -> None:
    """Make a sealed block the head of a chain that is at genesis, with what was staged as the state after it.

    `handovers` are those of all sets before the one that sealed the block. Raises WrongState, and the transaction has
    to be given up, when the root of what was staged is not the header's.
    """
    if batch.head().height != 0:
        raise AssertionError(f"only a chain at genesis adopts a state, and this one is at {batch.head().height}")
    batch.clear_states()
    builder = TreeBuilder(0)
    part: list[tuple[bytes, bytes]] = []
    for entry in batch.staged():
        builder.add(*entry)
        part.append(entry)
        if len(part) == ENTRIES_AT_ONCE:
            _write(batch, part, builder)
    root = builder.finish()
    _write(batch, part, builder)
    if root_hash(root) != header.state_root:
        raise WrongState(f"expected the state of root 0x{header.state_root.hex()}, got 0x{root_hash(root).hex()}")
    for handover in handovers:
        keep_handover(batch, handover, header)
    batch.put_block(header.height, seal.block_hash, HEADER.encode(header), body, SEAL.encode(seal))
    batch.put_tree(header.height, root, [], [])
    decides_next = batch.value(handover_keys[0])
    if decides_next is not None and decode(u32, decides_next) != seal.set_id:
        # The block itself is the last of its set.
        proof = merkle.prove(batch, root, handover_keys)
        batch.put_handover(seal.set_id, KEPT_HANDOVER.encode(KeptHandover(header.height, proof)))
    batch.put_lowest(header.height)
    batch.put_head(Head(header.height, seal.block_hash, builder.next_id, header.height))
    batch.clear_staged()


def keep_handover(batch: Batch, handover: Handover, head: Header) -> None:
    """Keep what a follower of the sets needs of a block below the head."""
    header = handover.header
    if not 0 < header.height < head.height:
        raise AssertionError(f"expected handovers below block {head.height}, got one of block {header.height}")
    block_hash: Hash = header.hash
    batch.put_sealed_header(header.height, block_hash, HEADER.encode(header), SEAL.encode(handover.seal))
    batch.put_handover(handover.seal.set_id, KEPT_HANDOVER.encode(KeptHandover(header.height, list(handover.proof))))


def _write(batch: Batch, part: list[tuple[bytes, bytes]], builder: TreeBuilder) -> None:
    batch.append_state(part)
    batch.put_nodes(builder.nodes)
    part.clear()
    builder.nodes.clear()
