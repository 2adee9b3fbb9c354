"""`chain_*`: headers, blocks and heads. A block of this chain is final once it is known: heads are finalised heads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from chain.primitives.scale import codec_of
from chain.primitives.seal import Seal
from chain.primitives.types import ENGINE_ID, DigestItem, Header
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context, hexed, hexed_or_none
from chain.rpc.params import BlockHash, Heights
from chain.rpc.protocol import WrittenOnce
from chain.rpc.registry import Registry

registry = Registry()

_DIGEST_ITEM = codec_of(DigestItem)
_SEAL = codec_of(Seal)


def header_json(header: Header) -> dict[str, Any]:
    """A header as Substrate clients read it."""
    return {
        "parentHash": hexed(header.parent_hash),
        "number": hex(header.height),
        "stateRoot": hexed(header.state_root),
        "extrinsicsRoot": hexed(header.extrinsics_root),
        "digest": {"logs": [hexed(_DIGEST_ITEM.encode(item)) for item in header.digest]},
    }


@registry.thread("chain_getHeader")
def chain_get_header(context: Context, hash: BlockHash | None = None) -> dict[str, Any] | None:
    """A block's header, the head's without a hash; null for a hash that no block has."""
    header = context.header(hash)
    return None if header is None else header_json(header)


@registry.thread("chain_getBlock")
def chain_get_block(context: Context, hash: BlockHash | None = None) -> dict[str, Any] | None:
    """A block; its seal is the justification of the engine `PBFT`."""
    block = context.block(hash)
    if block is None:
        return None
    seal = context.backend.ledger.seal(block.hash)
    return {
        "block": {"header": header_json(block.header), "extrinsics": [hexed(raw) for raw in block.extrinsics]},
        "justifications": None if seal is None else [[list(ENGINE_ID), list(_SEAL.encode(seal))]],
    }


@registry.thread("chain_getBlockHash", "chain_getHead")
def chain_get_block_hash(context: Context, height: Heights | None = None) -> str | list[str | None] | None:
    """The hash at one height or at several, the head's without."""
    ledger = context.backend.ledger
    if height is None:
        return hexed(ledger.head_hash)
    if isinstance(height, list):
        return [hexed_or_none(ledger.hash_at(one)) for one in height]
    return hexed_or_none(ledger.hash_at(height))


@registry.sync("chain_getFinalizedHead", "chain_getFinalisedHead")
def chain_get_finalized_head(context: Context) -> str:
    """The hash of the head: every block here is final."""
    return hexed(context.backend.ledger.head_hash)


async def new_headers(context: Context, receiver: Receiver[Header]) -> AsyncGenerator[Header]:
    """The head, then every header that is sealed after it, once each and in order."""
    head = context.backend.ledger.head
    yield head
    async for header in receiver:
        if header.height > head.height:
            head = header
            yield header


_newest = WrittenOnce[Header]()


async def _header_items(context: Context, receiver: Receiver[Header]) -> AsyncGenerator[object]:
    async with aclosing(new_headers(context, receiver)) as headers:
        async for header in headers:
            yield _newest.text(header, header_json)


def _serve_heads(names: tuple[str, ...], ends: tuple[str, ...], notification: str) -> None:
    @registry.subscription(*names, ends=ends, notification=notification)
    @asynccontextmanager
    async def heads(context: Context) -> AsyncIterator[AsyncGenerator[object]]:
        """The head's header, then that of each new block; every one is final."""
        with context.backend.heads.subscribe() as receiver:
            yield _header_items(context, receiver)


_serve_heads(
    ("chain_subscribeNewHeads", "chain_subscribeNewHead", "subscribe_newHead"),
    ("chain_unsubscribeNewHeads", "chain_unsubscribeNewHead", "unsubscribe_newHead"),
    "chain_newHead",
)
_serve_heads(("chain_subscribeAllHeads",), ("chain_unsubscribeAllHeads",), "chain_allHead")
_serve_heads(
    ("chain_subscribeFinalizedHeads", "chain_subscribeFinalisedHeads"),
    ("chain_unsubscribeFinalizedHeads", "chain_unsubscribeFinalisedHeads"),
    "chain_finalizedHead",
)
