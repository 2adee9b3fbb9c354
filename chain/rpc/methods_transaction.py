"""`transaction_v1_*` and `transactionWatch_v1_*`: transactions in, as the JSON-RPC interface specification has it.

A transaction is never refused here: what is wrong with it is an event of its watch, and no news of a broadcast.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import assert_never

import trio

from chain.ledger import LATER
from chain.log import Log
from chain.pool import AlreadyImported, Departure, Fate, PoolError, TemporarilyBanned
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.types import Header
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import HexBytes
from chain.rpc.registry import Registry, nothing
from chain.rpc.watch import Included, Pooled, Told, listening, watch
from runtime.types import InvalidTransaction

log = Log("rpc")

registry = Registry()

# The specification wants four; Substrate grants sixteen.
BROADCASTS_MAX = 16
# What the pool refuses is offered again after one block, then two, four and so on: each time costs a signature check.
RETRY_BLOCKS_MAX = 64


def _stopped(found: bool) -> None:
    if not found:
        reason = "expected an id that transaction_v1_broadcast gave to this connection, and that was not stopped yet"
        raise RpcError(Code.INVALID_PARAMS, "Invalid operation id", reason)


@registry.subscription(
    "transaction_v1_broadcast",
    ends=("transaction_v1_stop",),
    notification="transaction_v1_broadcast",
    most=BROADCASTS_MAX,
    ended=_stopped,
)
@asynccontextmanager
async def transaction_v1_broadcast(context: Context, transaction: HexBytes) -> AsyncIterator[AsyncGenerator[object]]:
    """Offer a transaction to the network until it is stopped; null when too many are offered already."""
    with context.backend.heads.subscribe(newest=True) as receiver:
        yield _broadcast(context, transaction, receiver)


async def _broadcast(context: Context, raw: bytes, receiver: Receiver[Header]) -> AsyncGenerator[object]:
    """Keep a transaction in the pool, from where it is gossiped, while it may still come into a block. Says nothing."""
    backend, found = context.backend, blake2_256(raw)
    pause, due = 1, 0
    height = backend.ledger.head.height
    while True:
        if found in backend.pool:
            pause = 1
        elif height >= due:
            try:
                await backend.submit(raw)
            except InvalidTransaction as error:
                if error.reason not in LATER:
                    break
            except PoolError:
                pass  # It is banned for a time, or others are worth more: that may change.
            except Exception:
                log.exception("transaction_v1_broadcast failed: this is a bug in the node, not in the request")
                break
            due, pause = height + pause, min(2 * pause, RETRY_BLOCKS_MAX)
        height = (await anext(receiver)).height
    await trio.Event().wait()  # It counts as one of the client's until the client stops it.
    yield None


@registry.subscription(
    "transactionWatch_v1_submitAndWatch",
    ends=("transactionWatch_v1_unwatch",),
    notification="transactionWatch_v1_watchEvent",
    ended=nothing,
)
@asynccontextmanager
async def transaction_watch_v1_submit_and_watch(
    context: Context, transaction: HexBytes
) -> AsyncIterator[AsyncGenerator[object]]:
    """validated, bestChainBlockIncluded, finalized; or invalid, dropped or error, with the reason."""
    found = blake2_256(transaction)
    with listening(context, found) as told:
        yield _events(context, found, transaction, told)


async def _events(context: Context, found: Hash, raw: bytes, told: Receiver[Told]) -> AsyncGenerator[object]:
    try:
        await context.backend.submit(raw)
    except AlreadyImported:
        pass  # It can be watched all the same.
    except (InvalidTransaction, TemporarilyBanned) as error:
        yield {"event": "invalid", "error": str(error)}
        return
    except PoolError as error:
        yield {"event": "dropped", "error": str(error)}
        return
    except Exception as error:
        log.exception("transactionWatch_v1_submitAndWatch failed: this is a bug in the node, not in the request")
        yield {"event": "error", "error": f"{type(error).__name__}: see the node's log"}
        return
    async with aclosing(watch(context, found, told)) as watched:
        async for news in watched:
            match news:
                case Pooled():
                    yield {"event": "validated"}
                case Included(block, index):
                    place = {"hash": hexed(block), "index": index}
                    yield {"event": "bestChainBlockIncluded", "block": place}
                    yield {"event": "finalized", "block": place}
                case Departure():
                    yield _farewell(news)
                case _:
                    assert_never(news)


def _farewell(departure: Departure) -> dict[str, str]:
    """The last word about a transaction that is in no block."""
    if departure.usurper is not None:
        other = hexed(departure.usurper)
        return {"event": "invalid", "error": f"replaced by {other}, which has the same nonce and pays more"}
    if departure.fate is Fate.DROPPED:
        return {"event": "dropped", "error": "pushed out of the pool by others that pay more: a higher tip keeps it in"}
    return {
        "event": "invalid",
        "error": "its nonce is used, its era has ended, its sender cannot pay any more, or the operator removed it",
    }
