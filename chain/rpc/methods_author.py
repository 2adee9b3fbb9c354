"""`author_*`: transactions into the pool, and what becomes of them. A refusal names the reason and its values.

Of Substrate's methods for keys there are those that look. There is no key store that others could be put into: a
validator's keys come from the key file that it is started with, and the chain knows no others of its.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, assert_never

import trio

from chain.pool import Departure, PoolError, PoolTransaction, TooLowPriority
from chain.primitives.hashing import Hash, blake2_256
from chain.rpc.backend import KeyType
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import Hex, HexBytes, WrongParameter
from chain.rpc.protocol import Encoded, encode
from chain.rpc.registry import Registry
from chain.rpc.watch import Included, Pooled, Told, listening, watch
from runtime.panic import Panicked
from runtime.types import InvalidReason, InvalidTransaction, MalformedTransaction, UnknownTransaction

registry = Registry()

# A block is final when it is known, but wallets look its events up on `inBlock` and forget that when `finalized` comes
# meanwhile: scripts that wait for `isInBlock` would wait for ever. Two requests over a slow line take this long.
FINALIZED_SECONDS = 0.5
# As hex, twice as many: half of the longest answer.
PENDING_BYTES_MAX = 1024 * 1024

# Substrate's own words, which wallets show and some libraries match.
REASONS = {
    InvalidReason.CALL: "Transaction call is not expected",
    InvalidReason.PAYMENT: "Inability to pay some fees (e.g. account balance too low)",
    InvalidReason.FUTURE: "Transaction will be valid in the future",
    InvalidReason.STALE: "Transaction is outdated",
    InvalidReason.BAD_PROOF: "Transaction has a bad signature",
    InvalidReason.ANCIENT_BIRTH_BLOCK: "Transaction has an ancient birth block",
    InvalidReason.EXHAUSTS_RESOURCES: "Transaction would exhaust the block limits",
    InvalidReason.CUSTOM: "InvalidTransaction custom error",
    InvalidReason.BAD_MANDATORY: "A call was labelled as mandatory, but resulted in an Error.",
    InvalidReason.MANDATORY_VALIDATION: "Transaction dispatch is mandatory; transactions must not be validated.",
    InvalidReason.BAD_SIGNER: "Invalid signing address",
}
POOL_MESSAGES: dict[int, str] = {
    Code.TEMPORARILY_BANNED: "Transaction is temporarily banned",
    Code.ALREADY_IMPORTED: "Transaction Already Imported",
    Code.POOL_LIMIT: "Immediately Dropped",
}
# What an operator types or pastes; a pool of thousands is emptied by a program, in several calls.
REMOVED_MAX = 256


def decode_extrinsic_hashes(value: object) -> list[Hash]:
    """Substrate's `ExtrinsicOrHash`: a list of `{"hash": …}` and `{"extrinsic": …}`, as hashes."""
    if not isinstance(value, list) or len(value) > REMOVED_MAX:
        raise WrongParameter(f"a list of at most {REMOVED_MAX} transactions")
    found = []
    for entry in value:
        match entry:
            case {"hash": given, **rest} if not rest:
                found.append(Hex(32)(given))
            case {"extrinsic": given, **rest} if not rest:
                found.append(blake2_256(Hex()(given)))
            case _:
                raise WrongParameter('{"hash": "0x…"} or {"extrinsic": "0x…"} for each transaction')
    return found


def decode_key_type(value: object) -> KeyType:
    """What a key is for, in four letters as Substrate has it."""
    if not isinstance(value, str) or value not in list(KeyType):
        raise WrongParameter(f"a key type: {' or '.join(KeyType)}")
    return KeyType(value)


ExtrinsicHashes = Annotated[list[bytes], decode_extrinsic_hashes]
KeyTypeParam = Annotated[KeyType, decode_key_type]


async def submit(context: Context, raw: bytes) -> Hash:
    """Hand an extrinsic to the node; its hash. Raises `RpcError` with Substrate's code when it is refused."""
    try:
        return await context.backend.submit(raw)
    except UnknownTransaction as error:
        raise RpcError(Code.UNKNOWN_VALIDITY, "Unknown Transaction Validity", error.message) from None
    except (MalformedTransaction, Panicked) as error:
        raise RpcError(Code.VERIFICATION, "Verification Error", error.message) from None
    except InvalidTransaction as error:
        words = REASONS[error.reason] if isinstance(error.reason, InvalidReason) else error.reason.name
        raise RpcError(Code.INVALID_TRANSACTION, "Invalid Transaction", f"{words}: {error.message}") from None
    except TooLowPriority as error:
        raise RpcError(error.code, error.message, error.detail) from None
    except PoolError as error:
        raise RpcError(error.code, POOL_MESSAGES.get(error.code, "Pool error"), str(error)) from None


@registry.awaits("author_submitExtrinsic", together=True)
async def author_submit_extrinsic(context: Context, extrinsic: HexBytes) -> str:
    """Take a signed extrinsic into the pool; its hash."""
    return hexed(await submit(context, extrinsic))


@registry.awaits("author_pendingExtrinsics")
async def author_pending_extrinsics(context: Context) -> Encoded:
    """What is ready, the best first: as much of it as an answer takes."""
    return await context.in_thread(_pending, context.backend.pool.ready())


def _pending(ready: Iterator[PoolTransaction]) -> Encoded:
    found, size = [], 0
    for waiting in ready:
        size += len(waiting.raw)
        if size > PENDING_BYTES_MAX:
            break
        found.append(hexed(waiting.raw))
    return Encoded(encode(found))


@registry.sync("author_removeExtrinsic", unsafe=True)
def author_remove_extrinsic(context: Context, bytes_or_hash: ExtrinsicHashes) -> list[str]:
    """Take transactions out of this node's pool and refuse them for a while; the hashes of those that were in it."""
    return [hexed(found) for found in bytes_or_hash if context.backend.forget(found)]


@registry.sync("author_hasKey", unsafe=True)
def author_has_key(context: Context, public_key: HexBytes, key_type: KeyTypeParam) -> bool:
    """Whether this node acts with the key: `acco` signs for the validator's account, `pbft` votes."""
    return context.backend.has_key(public_key, key_type)


@registry.sync("author_hasSessionKeys", unsafe=True)
def author_has_session_keys(context: Context, session_keys: HexBytes) -> bool:
    """The same of all that a validator has on chain besides its account: the key that it votes with."""
    return context.backend.has_key(session_keys, KeyType.PBFT)


@registry.subscription(
    "author_submitAndWatchExtrinsic",
    ends=("author_unwatchExtrinsic",),
    notification="author_extrinsicUpdate",
)
@asynccontextmanager
async def author_submit_and_watch_extrinsic(
    context: Context, extrinsic: HexBytes
) -> AsyncIterator[AsyncGenerator[object]]:
    """ready or future, inBlock, finalized; or usurped, dropped, invalid."""
    found = blake2_256(extrinsic)
    with listening(context, found) as told:
        await submit(context, extrinsic)
        yield _statuses(context, found, told)


async def _statuses(context: Context, found: Hash, told: Receiver[Told]) -> AsyncGenerator[object]:
    async with aclosing(watch(context, found, told)) as watched:
        async for news in watched:
            match news:
                case Pooled(is_ready):
                    yield "ready" if is_ready else "future"
                case Included(block=block):
                    yield {"inBlock": hexed(block)}
                    await trio.sleep(FINALIZED_SECONDS)
                    yield {"finalized": hexed(block)}
                case Departure():
                    yield news.fate.value if news.usurper is None else {"usurped": hexed(news.usurper)}
                case _:
                    assert_never(news)
