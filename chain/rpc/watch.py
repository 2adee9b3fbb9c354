"""What becomes of a transaction in this node's pool, told in one way to every kind of subscription that asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chain.pool import Departure, PoolTransaction
from chain.primitives.hashing import Hash
from chain.primitives.types import Header
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context

Told = Header | Departure


@dataclass(frozen=True, slots=True)
class Pooled:
    """It is in the pool and valid; not `is_ready` while a nonce before it is missing."""

    is_ready: bool


@dataclass(frozen=True, slots=True)
class Included:
    """It is in a block, which is final, at this place."""

    block: Hash
    index: int


# After anything but `Pooled` there is no more news.
News = Pooled | Included | Departure


@contextmanager
def listening(context: Context, found: Hash) -> Iterator[Receiver[Told]]:
    """What `watch` needs to be told of a transaction. Enter it before that is submitted: it may be included at once."""
    told: Receiver[Told] = Receiver()
    with context.backend.heads.listen(told.put), context.backend.departures.watch(found, told.put):
        yield told


async def watch(context: Context, found: Hash, told: Receiver[Told]) -> AsyncGenerator[News]:
    """The news of a transaction that the pool took while we were `listening`."""
    own = context.backend.pool.get(found)
    is_ready = own is None or _is_ready(context, own)
    yield Pooled(is_ready)
    index: int | None = None
    async for item in told:
        if isinstance(item, Departure):
            index = item.index  # The block's header comes next.
            if index is None:
                yield item
                return
        elif index is not None:
            if not is_ready:
                yield Pooled(True)
            yield Included(item.hash, index)
            return
        elif not is_ready and own is not None and _is_ready(context, own):
            is_ready = True
            yield Pooled(True)


def _is_ready(context: Context, own: PoolTransaction) -> bool:
    """Whether no nonce is missing before a pooled transaction's."""
    return context.backend.pool.next_nonce(own.valid.sender, 0) > own.valid.nonce
