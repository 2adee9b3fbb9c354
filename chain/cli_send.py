"""What every command does that signs something: say what it does and costs, ask, sign, send, and tell what came of it.

Rule: what is shown is decoded from the bytes that are signed, and nothing is signed before somebody agreed.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import EXIT_FAILED, UserError, agree
from chain.cli_how import How, Watch
from chain.cli_secrets import KEY_HELP, scheme_of
from chain.cli_wallet import flat, print_json, print_rows, refuse, say, words_of
from chain.display import Progress, put
from chain.key_source import KeySource
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import sender_and_nonce
from chain.printable import printable
from chain.rpc.client import ClientError, RpcError, TransactionDropped
from chain.rpc.errors import Code
from chain.wallet.codec import Codec, WordError
from chain.wallet.metadata import UnknownName
from chain.wallet.node import ERA_BLOCKS, FINAL_SECONDS, Chain, Failure, Outcome, news_of, open_chain
from chain.wallet.transaction import CannotSign, Draft, check_extensions

# Blocks come once a second: who waits for longer is told that the chain is slow, and that we still wait.
WAIT_SECONDS = 2.0
IMMORTAL = "immortal"
BLOCKS_MIN = 4
MOVING = ("balances.transfer_keep_alive", "balances.transfer_allow_death", "balances.burn")


FROM = typer.Option("--from", metavar="KEY", help=f"Who signs: {KEY_HELP}")
FromOption = Annotated[KeySource, FROM]


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs, and the other accounts of the same secret: tokens may be there."""

    chosen: Keypair
    accounts: Mapping[Scheme, Keypair] = field(default_factory=dict)


def signers_of(key: KeySource, scheme: str | None) -> Signers:
    """Whose key it is, and the other accounts of its secret."""
    chosen, secret = scheme_of(scheme), key.open()
    return Signers(secret.keypair(chosen), secret.accounts())


@dataclass(frozen=True, slots=True)
class Bill:
    """What is to be signed, by which description of the chain, and what it costs in planck."""

    call: bytes
    metadata: bytes
    genesis_hash: bytes
    fee: int
    tip: int


# From the chain to the bytes of a call; UserError, WordError or UnknownName where there is none to be made.
Make = Callable[[Chain], Awaitable[bytes]]


def send(how: How, signers: Signers, make: Make) -> None:
    """Say what a call does and costs, ask, sign, send; Exit where it fails."""
    how.check()
    bill = trio.run(_bill, how, signers, make)
    if not (how.yes or how.dry_run):
        agree("sign and send it?")
    trio.run(_sign_and_send, how, signers.chosen, bill)


async def _bill(how: How, signers: Signers, make: Make) -> Bill:
    sender = signers.chosen
    async with open_chain(how.rpc, partial(words_of, sender.scheme)) as chain:
        draft = await drafted(chain, how, sender.public, make)
        fee = await chain.fee(draft)
        free = (await chain.system_account(sender.public))["data"]["free"]
        if free < fee + draft.tip:
            raise UserError(
                f"{chain.codec.words.address(sender.public)} has {chain.token.format(free)}, too little for the fee of "
                f"{chain.token.format(fee + draft.tip)}; nothing was sent{await elsewhere(chain, signers, fee)}"
            )
        if not how.as_json:
            left = free - fee - draft.tip - _moved(chain, draft.call)
            leaves = f"{chain.token.format(left)} of" if left >= 0 else "too little:"
            costs = f"{chain.token.format(fee + draft.tip)} at most"
            show_draft(chain.people, draft, ("fee", costs), ("left", f"{leaves} {chain.token.format(free)}"))
            if not how.known.describes(chain):
                say(f"warning: decoded by what {chain.client.url} says of its chain, which nothing here confirms")
        return Bill(draft.call, chain.metadata.raw, chain.genesis_hash, fee, draft.tip)


def _moved(chain: Chain, call: bytes) -> int:
    """What a call takes from the signer's free balance, where that can be read from it: of a transfer, or a burn."""
    ((path, arguments),) = chain.codec.decode(chain.metadata.call_type, call).items()
    value = arguments.get("value") if path in MOVING and isinstance(arguments, dict) else None
    return value if isinstance(value, int) else 0


async def drafted(chain: Chain, how: How, account: bytes, make: Make, blocks: int = ERA_BLOCKS) -> Draft:
    """The transaction of a call; UserError for whatever a person got wrong."""
    try:
        how.known.check(chain, trust_node=how.trust_node)
        check_extensions(chain.metadata)
        call = await make(chain)
    except (WordError, UnknownName) as error:
        refuse(error)
    except CannotSign as error:
        raise UserError(str(error)) from None
    try:
        tip = 0 if how.tip is None else chain.token.read(how.tip)
    except ValueError as error:
        raise UserError(f"--tip: {error}") from None
    return await chain.draft(call, account, blocks=_blocks(chain, how.era, blocks), nonce=how.nonce, tip=tip)


def _blocks(chain: Chain, era: str | None, blocks: int) -> int | None:
    if era == IMMORTAL:
        return None
    most = chain.constant("System", "BlockHashCount")
    most = most if isinstance(most, int) else 256
    if era is None:
        return min(blocks, most)
    if not era.isdigit() or not BLOCKS_MIN <= int(era[:9]) <= most:
        raise UserError(f"--era: expected {BLOCKS_MIN} to {most} blocks, or {IMMORTAL}, got {era[:80]!r}")
    return int(era)


async def elsewhere(chain: Chain, signers: Signers, amount: int) -> str:
    """Where else the same secret has so many tokens, in words."""
    for scheme, keypair in signers.accounts.items():
        free = (await chain.system_account(keypair.public))["data"]["free"]
        if keypair.public != signers.chosen.public and free >= amount:
            name, address = scheme.name.lower(), chain.codec.words.address(keypair.public)
            return f". This secret's {name} account {address} has {chain.token.format(free)}: add --scheme {name}"
    return ""


def show_draft(codec: Codec, draft: Draft, *others: tuple[str, str]) -> None:
    """What is to be signed, from its very bytes, and what else is known of it."""
    ((path, arguments),) = codec.decode(codec.metadata.call_type, draft.call).items()
    say(path)
    if arguments:
        print_rows(flat(arguments), indent=4)
    until = "for ever" if draft.death is None else f"until block {draft.death}"
    print_rows([("from", codec.words.address(draft.account)), ("nonce", f"{draft.nonce}, valid {until}"), *others])


# --- sending -------------------------------------------------------------------------------------------------------


async def _sign_and_send(how: How, sender: Keypair, bill: Bill) -> None:
    async with open_chain(how.rpc, partial(words_of, sender.scheme)) as chain:
        if (chain.metadata.raw, chain.genesis_hash) != (bill.metadata, bill.genesis_hash):
            raise ClientError("the chain is not what it was when you were asked; look again. Nothing was sent")
        blocks = _blocks(chain, how.era, ERA_BLOCKS)
        draft = await chain.draft(bill.call, sender.public, blocks=blocks, nonce=how.nonce, tip=bill.tip)
        raw = await trio.to_thread.run_sync(draft.sign, sender)
        if how.dry_run:
            await attempt(chain, raw, as_json=how.as_json)
        else:
            await follow(chain, raw, how.watch, as_json=how.as_json)


async def attempt(chain: Chain, raw: bytes, *, as_json: bool) -> None:
    """Have the node try a signed transaction; Exit where it would fail."""
    try:
        failure = await chain.dry_run(raw)
    except RpcError as error:
        if error.code != Code.METHOD_NOT_FOUND:
            raise
        raise ClientError(
            f"{chain.client.url} does not try transactions for others ({error.message}): ask a node of your own with "
            "--node, on its own machine; nothing was sent"
        ) from None
    if as_json:
        print_json({"dryRun": True, "ok": failure is None, "error": _failure_json(failure)})
    elif failure is None:
        say("it would succeed; nothing was sent: --dry-run")
    if failure is not None:
        print(f"error: it would fail: {sentence(failure)} Nothing was sent", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)


async def follow(chain: Chain, raw: bytes, watch: Watch, *, as_json: bool) -> None:
    """Submit a signed transaction and tell what becomes of it for as long as is asked; Exit where it fails."""
    transaction = "0x" + blake2_256(raw).hex()
    if watch is Watch.NONE:
        await chain.submit(raw)
        if as_json:
            print_json({"transaction": transaction})
        else:
            say(f"in the pool: transaction {transaction}")
        return
    block_hash = await _wait(chain, raw, watch, transaction, Progress(), is_quiet=as_json)
    outcome = await chain.outcome(raw, block_hash, chain.programs if as_json else chain.people)
    if as_json:
        print_json(_outcome_json(transaction, watch, outcome))
    report(chain, transaction, watch, outcome, is_quiet=as_json)
    if not as_json:
        sender = sender_and_nonce(raw)
        assert sender is not None, "it was signed, and accepted"
        free = (await chain.system_account(sender[0]))["data"]["free"]
        say(f"the sender has {chain.token.format(free)} left")


async def _wait(chain: Chain, raw: bytes, watch: Watch, transaction: str, progress: Progress, *, is_quiet: bool) -> str:
    """The hash of the block that has it, when it is as far as is asked."""
    try:
        with trio.fail_after(FINAL_SECONDS):
            async with trio.open_nursery() as nursery:
                if not is_quiet:
                    nursery.start_soon(tell_waiting, chain, progress)
                async with chain.watched(raw) as stream:
                    async for update in stream:
                        what, block_hash = news_of(update)
                        if block_hash is None:
                            if not is_quiet:
                                progress.show("in the pool; waiting for a block …")
                        elif watch is Watch.INCLUDED or what == "finalized":
                            nursery.cancel_scope.cancel()
                            return block_hash
    except trio.TooSlowError:
        pass
    except BaseExceptionGroup as group:
        found = group.split((RpcError, ClientError))[0]
        if found is None:
            raise
        raise _first(found) from None
    finally:
        if not is_quiet:
            progress.clear()
    raise TransactionDropped(
        f"transaction {transaction} is in no block after {FINAL_SECONDS:.0f} s: is the chain making blocks? "
        "It may still come into one until its era ends"
    )


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def tell_waiting(chain: Chain, progress: Progress) -> None:
    """Say again and again, where somebody watches, that there is no block with it yet."""
    started = trio.current_time()
    while True:
        await trio.sleep(WAIT_SECONDS)
        height = (await chain.block()).height
        waited = trio.current_time() - started
        progress.show(f"in no block after {waited:.0f} s, with the chain at height {height}; waiting …")


def report(chain: Chain, transaction: str, watch: Watch, outcome: Outcome, *, is_quiet: bool) -> None:
    """Where it is, what it cost and what it did; Exit where it failed there."""
    block = f"block {outcome.block.height} ({outcome.block.hash})"
    fee = chain.token.format(outcome.fee)
    if outcome.failure is not None:
        say_error(f"failed in {block}: {sentence(outcome.failure)} Only the fee of {fee} was paid")
        raise typer.Exit(EXIT_FAILED)
    if not is_quiet:
        say(f"{'final in' if watch is Watch.FINALIZED else 'in'} {block}")
        say(f"transaction {transaction}, fee {fee}")
        for name, inside in (pair for event in outcome.events for pair in event.items()):
            say(f"    {name}  {', '.join(f'{part} {text}' if part else text for part, text in flat(inside))}", indent=8)
    if outcome.inner:
        failures = "; ".join(f"{where} failed: {sentence(failure)}" for where, failure in outcome.inner)
        say_error(f"included in {block}, but {failures}")
        raise typer.Exit(EXIT_FAILED)


def say_error(text: str) -> None:
    """One line on standard error."""
    put(f"error: {printable(text)}", stream=sys.stderr)


def sentence(failure: Failure) -> str:
    """A failure with a full stop."""
    text = str(failure)
    return text if text.endswith(".") else f"{text}."


def _failure_json(failure: Failure | None) -> dict[str, str] | None:
    return None if failure is None else {"name": failure.name, "docs": failure.docs}


def _outcome_json(transaction: str, watch: Watch, outcome: Outcome) -> dict[str, Any]:
    return {
        "transaction": transaction,
        "block": {"height": outcome.block.height, "hash": outcome.block.hash},
        "index": outcome.index,
        "finalized": watch is Watch.FINALIZED,
        "ok": outcome.failure is None and not outcome.inner,
        "error": _failure_json(outcome.failure),
        "inner": [{"where": where, **(_failure_json(failure) or {})} for where, failure in outcome.inner],
        "fee": str(outcome.fee),
        "events": outcome.events,
    }
