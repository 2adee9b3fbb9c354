"""What the network asks of the node that it belongs to, and answers to other nodes' questions with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, assert_never

import trio

from chain.adoption import SEAL, Handover, StateChunk
from chain.blobs import BlobChunks
from chain.net.messages import (
    BLOCKS_BYTES_MAX,
    BLOCKS_BYTES_WISHED,
    STATE_BYTES_WISHED,
    Blocks,
    Chunks,
    GetBlocks,
    GetChunks,
    GetHandovers,
    GetState,
    Handovers,
    Message,
    Request,
    StateNodes,
)
from chain.net.peer import Peer
from chain.primitives.hashing import Hash
from chain.primitives.types import HEADER

# A peer's next request is read from disk when no more than this of its last answer waits: one answer in memory a peer.
BACKLOG_BYTES = 64 * 1024
# Disk reads for all peers together, so that serving never takes the threads that sealing blocks needs.
SERVING_THREADS = 2


class Handler(Protocol):
    """The node. `on_…` and `is_voter` are called on the loop and return at once; the others are called in threads.

    `on_…` may raise `PeerError` against the peer. Anything else that they raise is logged and costs that connection.
    """

    def on_connected(self, peer: bytes) -> None:
        """A peer is there (again): what it may have missed can be sent to it."""

    def on_disconnected(self, peer: bytes) -> None:
        """The peer is gone."""

    def is_voter(self, peer: bytes) -> bool:
        """Whether the peer has brought a validator's genuine vote. Called for every message."""

    def on_consensus(self, peer: bytes, frame: bytes) -> None:
        """A frame of the peer's consensus gadget."""

    def on_transactions(self, peer: bytes, transactions: list[bytes]) -> None:
        """Transactions that nobody sent before. The valid ones are passed on by `Network.gossip_transactions`; what
        there is no room for is asked for again by `Network.postpone_transactions`."""

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:
        """The peer's best sealed block, as it says."""

    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        """Sealed blocks from height `start` upwards: at most `count`, one at least and no more than `bytes_max` bytes
        of them; empty when there is none at `start`."""

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        """The last blocks of up to `count` validator sets from one on, none of a set that decides still."""

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        """Nodes of the state after a block that prove the keys after one; None when it is not here."""

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        """Chunks of a blob with their proofs, None when it is not here."""


@dataclass(frozen=True, slots=True)
class Server:
    """Answers one peer's requests one after the other."""

    handler: Handler
    limiter: trio.CapacityLimiter

    async def serve(self, peer: Peer) -> None:
        """Runs as long as the peer's connection."""
        async for request in peer.requests:
            await peer.drained(BACKLOG_BYTES)
            peer.send(await trio.to_thread.run_sync(self._answer, request, limiter=self.limiter))

    def _answer(self, request: Request) -> Message:
        match request:
            case GetBlocks(number, start, count):
                return Blocks(number, _fitting(self.handler.blocks(start, count, BLOCKS_BYTES_WISHED)[:count]))
            case GetHandovers(number, set_id, count):
                found = self.handler.handovers(set_id, count)
                return Handovers(
                    number, tuple((HEADER.encode(one.header), SEAL.encode(one.seal), tuple(one.proof)) for one in found)
                )
            case GetState(number, block_hash, after):
                part = self.handler.state_chunk(block_hash, after or None, STATE_BYTES_WISHED)
                return StateNodes(number, 0, ()) if part is None else StateNodes(number, part.keys, tuple(part.nodes))
            case GetChunks(number, root, index, count):
                chunks = self.handler.blob_chunks(root, index, count)
                if chunks is None:
                    return Chunks(number, 0, ())
                return Chunks(number, chunks.total_length, chunks.chunks[:count])
            case _:
                assert_never(request)


def _fitting(blocks: list[bytes]) -> tuple[bytes, ...]:
    size = 0
    for index, block in enumerate(blocks):
        size += len(block)
        if size > BLOCKS_BYTES_MAX:
            return tuple(blocks[:index])
    return tuple(blocks)
