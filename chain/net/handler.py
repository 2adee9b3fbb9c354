"""What the network asks of the node that it belongs to, and answers to other nodes' questions with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from chain.blobs import BlobChunks
from chain.net.messages import BLOCKS_BYTES_MAX, BLOCKS_BYTES_WISHED, Blocks, Chunks, GetBlocks
from chain.net.peer import Peer
from chain.primitives.hashing import Hash

# A peer's next request is read from disk when no more than this of its last answer waits: one answer in memory a peer.
BACKLOG_BYTES = 64 * 1024
# Disk reads for all peers together, so that serving never takes the threads that sealing blocks needs.
SERVING_THREADS = 2


class Handler(Protocol):
    """The node. `on_…` and `is_voter` are called on the loop and return at once; the other two are called in threads.

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
            if isinstance(request, GetBlocks):
                blocks = await trio.to_thread.run_sync(
                    self.handler.blocks, request.start, request.count, BLOCKS_BYTES_WISHED, limiter=self.limiter
                )
                peer.send(Blocks(request.request, _fitting(blocks[: request.count])))
            else:
                found = await trio.to_thread.run_sync(
                    self.handler.blob_chunks, request.root, request.index, request.count, limiter=self.limiter
                )
                if found is None:
                    peer.send(Chunks(request.request, 0, ()))
                else:
                    peer.send(Chunks(request.request, found.total_length, found.chunks[: request.count]))


def _fitting(blocks: list[bytes]) -> tuple[bytes, ...]:
    size = 0
    for index, block in enumerate(blocks):
        size += len(block)
        if size > BLOCKS_BYTES_MAX:
            return tuple(blocks[:index])
    return tuple(blocks)
