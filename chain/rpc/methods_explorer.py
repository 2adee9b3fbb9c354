"""`explorer_*`: what the dashboard and other explorers show, decoded by the runtime's own types and bounded.

Accounts are SS58 addresses; amounts in what was decoded are decimal strings, in planck.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Final

from chain.author import now_ms
from chain.primitives import ss58
from chain.primitives.hashing import Hash, blake2_256
from chain.rpc.context import Context, hexed
from chain.rpc.params import AccountParam, Hex, Index32, Whole, WrongParameter, decode_account, decode_height
from chain.rpc.protocol import Encoded, encode
from chain.rpc.registry import Registry
from chain.rpc.told_blocks import ToldBlock, ToldBlocks, list_text, ss58_prefix
from runtime.modules.balances import Balances
from runtime.modules.rewards import Rewards
from runtime.modules.system import System
from runtime.modules.training import Training
from runtime.modules.validators import Validators
from runtime.types import AccountInfo

registry = Registry()

# A page shows so many; a second's worth of decoding at the very worst, and most of them are known already.
BLOCKS_MAX: Final = 64
# Long blocks: half of the longest answer, and what a page on a slow line waits for.
ANSWER_BYTES_MAX: Final = 2 * 1024 * 1024
# Of one account in so many blocks; who has more looks at the blocks.
ENTRIES_MAX: Final = 100
ACCOUNTS_MAX: Final = 64
# Full blocks: to decode so much for the first time takes a thread some two hundred milliseconds.
READ_BYTES_MAX: Final = 1024 * 1024
# How far back a transaction's hash is looked for, twenty minutes of one-second blocks, and in what steps.
SEARCHED_BLOCKS: Final = 1200
SEARCHED_AT_ONCE: Final = 60
# Full blocks: reading so much takes a thread most of a second, in some tenths of one at a time.
SEARCHED_BYTES: Final = 64 * 1024 * 1024
SEARCHED_BYTES_AT_ONCE: Final = 16 * 1024 * 1024

# Votes are held against validators for a week: what was found in that time, the newest first.
OFFENCES_MAX: Final = 100

_blocks = ToldBlocks()


def decode_place(value: object) -> int | bytes:
    """A block by its hash or its height."""
    if isinstance(value, str) and len(value) == 66:
        return Hex(32)(value)
    try:
        return decode_height(value)
    except WrongParameter:
        raise WrongParameter("a block's hash or its height") from None


def decode_accounts(value: object) -> list[bytes]:
    """A list of addresses."""
    if not isinstance(value, list) or len(value) > ACCOUNTS_MAX:
        raise WrongParameter(f"a list of at most {ACCOUNTS_MAX} SS58 addresses")
    return [decode_account(entry) for entry in value]


Accounts = Annotated[list[bytes], decode_accounts]
Place = Annotated[int | bytes, decode_place]
BlockCount = Annotated[int, Whole(1, BLOCKS_MAX)]


@registry.sync("explorer_now")
def explorer_now(context: Context) -> dict[str, Any]:
    """This node's clock, in milliseconds, and where its chain stands: no other clock says how old the head is."""
    status = context.backend.sync_status
    ledger = context.backend.ledger
    return {
        "now": now_ms(),
        "height": ledger.head.height,
        "hash": hexed(ledger.head_hash),
        "target": status.target,
        "syncing": status.syncing,
        "stalled": status.stalled,
        "peers": len(context.backend.peers()),
        "pending": len(context.backend.pool),
        "oldestState": ledger.oldest_state,
        "lowestBlock": ledger.lowest_block,
    }


@registry.thread("explorer_blocks")
def explorer_blocks(context: Context, count: BlockCount, before: Index32 | None = None) -> Encoded:
    """The last blocks below a height, the newest first, as `explorer_block` tells them; fewer where they are long."""
    ledger = context.backend.ledger
    top = ledger.head.height if before is None else min(before - 1, ledger.head.height)
    texts: list[str] = []
    size = read = 0
    for height in range(top, max(top - count, ledger.lowest_block - 1), -1):
        told = _blocks.at(context, height)
        if told is None:
            break
        texts.append(told.text())
        size += len(texts[-1])
        read += told.read_bytes
        if size > ANSWER_BYTES_MAX or read > READ_BYTES_MAX:
            break
    return list_text(texts)


@registry.thread("explorer_block")
def explorer_block(context: Context, block: Place) -> Encoded | None:
    """A block with its extrinsics and events, the first hundred of each; null for one that this node does not have."""
    told = _blocks.at(context, block) if isinstance(block, int) else _blocks.of(context, block)
    return None if told is None else told.text()


@registry.thread("explorer_account")
def explorer_account(context: Context, account: AccountParam, before: Index32 | None = None) -> Encoded:
    """An account's balance, and what named it in the last blocks below a height, the newest first.

    `next` is the height to ask for the blocks before; null when the chain, or the states that are kept, begin there.
    """
    ledger = context.backend.ledger
    with context.state(None) as state:
        view = context.runtime.at(state)
        told = _account_json(context, view, account)
        least = view.module(Balances).existential_deposit
    top = ledger.head.height if before is None else min(before - 1, ledger.head.height)
    lowest = max(ledger.lowest_block, ledger.oldest_state)
    entries: list[str] = []
    height, read = top, 0
    while height >= lowest and height > top - BLOCKS_MAX and len(entries) < ENTRIES_MAX and read <= READ_BYTES_MAX:
        block = _blocks.at(context, height)
        if block is not None:
            entries += _entries(block, account)
            read += block.read_bytes
        height -= 1
    head = {
        **told,
        "existentialDeposit": str(least),
        "from": height + 1,
        "to": top,
        "next": height + 1 if height >= lowest else None,
    }
    return Encoded(f'{encode(head)[:-1]},"history":{list_text(entries[:ENTRIES_MAX])}}}')


@registry.thread("explorer_accounts")
def explorer_accounts(context: Context, accounts: Accounts) -> list[dict[str, Any]]:
    """Several accounts' balances, in the order in which they are named."""
    with context.state(None) as state:
        view = context.runtime.at(state)
        return [_account_json(context, view, account) for account in accounts]


@registry.thread("explorer_validators")
def explorer_validators(context: Context) -> dict[str, Any]:
    """Who decides, with stakes and what each has sealed in this session; who follows; and who was found to cheat."""
    prefix = ss58_prefix(context)
    with context.state(None) as state:
        view = context.runtime.at(state)
        validators = view.module(Validators)
        rewards = view.module(Rewards) if context.runtime.has(Rewards) else None
        rules, height = validators.rules.get(), state.header.height
        sealed, current = validators.participation.get(), validators.authorities.get()
        queued = {each.account for each in validators.queued.get()}
        candidates = set(validators.candidates.get())
        session = height // rules.session_blocks
        offences = sorted(validators.offences.items(), reverse=True, key=lambda item: item[1].height)[:OFFENCES_MAX]
        slashed = Counter[bytes]()
        for (_, account), offence in offences:
            slashed[account] += offence.slashed
        seats = [each.account for each in current]
        people = [*seats, *sorted(queued.union(candidates).difference(seats))]
        return {
            "height": height,
            "setId": validators.set_id.get(),
            "session": session,
            "sessionBlocks": rules.session_blocks,
            "sessionEnds": (session + 1) * rules.session_blocks,
            "quorum": validators.validator_set().quorum,
            "blockReward": str(validators.block_reward),
            "validators": [
                {
                    "account": ss58.encode(account, prefix),
                    "seat": seats.index(account) if account in seats else None,
                    "next": account in queued,
                    "candidate": account in candidates,
                    "active": str(stake.active),
                    "unbonding": str(stake.total - stake.active),
                    "sealed": sealed[seats.index(account)] if account in seats and sealed else 0,
                    "slashed": str(slashed[account]),
                    "earnedByChecking": None if rewards is None else str(rewards.earned_by_checking[account]),
                }
                for account in people
                for stake in (validators.stakes[account],)
            ],
            "offences": [
                {
                    "session": session_number,
                    "account": ss58.encode(account, prefix),
                    "height": offence.height,
                    "slashed": str(offence.slashed),
                }
                for (session_number, account), offence in offences
            ],
        }


@registry.awaits("explorer_search")
async def explorer_search(context: Context, text: str) -> dict[str, Any] | None:
    """What a hash, a height or an address names: `kind` and what to ask for it; null for nothing that is known here.

    A transaction is looked for in the last 1,200 blocks, or in those that have the last 64 MiB.
    """
    wanted = text.strip()
    if re.fullmatch(r"[0-9][0-9,]{0,12}", wanted):
        height = int(wanted.replace(",", ""))
        ledger = context.backend.ledger
        return {"kind": "block", "block": height} if ledger.lowest_block <= height <= ledger.head.height else None
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", wanted):
        return await _search_hash(context, bytes.fromhex(wanted.removeprefix("0x")))
    try:
        public = ss58.decode(wanted, None)
    except ss58.Ss58Error:
        return None
    return {"kind": "account", "account": ss58.encode(public, ss58_prefix(context))}


async def _search_hash(context: Context, wanted: Hash) -> dict[str, Any] | None:
    ledger = context.backend.ledger
    header = await context.in_thread(ledger.header, wanted)
    if header is not None:
        return {"kind": "block", "block": header.height}
    if await context.in_thread(_exists, context, wanted):
        return {"kind": "account", "account": ss58.encode(wanted, ss58_prefix(context))}
    height, read = ledger.head.height, 0
    lowest = max(height - SEARCHED_BLOCKS, ledger.lowest_block - 1)
    while height > lowest and read < SEARCHED_BYTES:
        index, height, size = await context.in_thread(_find_extrinsic, context, wanted, height, lowest)
        if index is not None:
            return {"kind": "transaction", "block": height, "index": index}
        read += size
    return None


def _exists(context: Context, account: bytes) -> bool:
    with context.state(None) as state:
        return account in context.runtime.at(state).module(System).account


def _find_extrinsic(context: Context, wanted: Hash, top: int, lowest: int) -> tuple[int | None, int, int]:
    """Looks for the transaction of a hash in some blocks from one down, as far as one above the lowest.

    Returns its place and the block's height, or None and the height to go on with; then how many bytes were read.
    """
    ledger, read = context.backend.ledger, 0
    for height in range(top, max(top - SEARCHED_AT_ONCE, lowest), -1):
        block_hash = ledger.hash_at(height)
        block = None if block_hash is None else ledger.block(block_hash)
        for index, raw in enumerate(() if block is None else block.extrinsics):
            read += len(raw)
            if blake2_256(raw) == wanted:
                return index, height, read
        if read > SEARCHED_BYTES_AT_ONCE:
            return None, height - 1, read
    return None, max(top - SEARCHED_AT_ONCE, lowest), read


def _entries(told: ToldBlock, account: bytes) -> list[str]:
    """What in a block names an account, the last first."""
    place = f'"height":{told.height},"timestamp":{encode(told.timestamp_ms)}'
    return [
        f'{{{place},"{kind}":{piece.text}}}'
        for kind, pieces in (("event", told.hooks), ("extrinsic", told.extrinsics))
        for piece in reversed(pieces)
        if account in piece.accounts
    ]


def _account_json(context: Context, view: Any, account: bytes) -> dict[str, Any]:
    info: AccountInfo = view.module(System).account[account]
    return {
        "account": ss58.encode(account, ss58_prefix(context)),
        "publicKey": hexed(account),
        "exists": info.providers > 0,
        "nonce": info.nonce,
        "free": str(info.data.free),
        "reserved": str(info.data.reserved),
        "frozen": str(info.data.frozen),
        "roles": _roles(context, view, account),
    }


def _roles(context: Context, view: Any, account: bytes) -> list[str]:
    """What an account is known for on this chain."""
    validators = view.module(Validators)
    roles = []
    if any(each.account == account for each in validators.authorities.get()):
        roles.append("validator")
    elif account in validators.candidates.get():
        roles.append("candidate")
    if context.runtime.has(Training):
        training = view.module(Training)
        worker = training.workers.get(account)
        if worker is not None and worker.bond:
            roles.append("worker")
        if account in training.aggregators:
            roles.append("aggregator")
    return roles
