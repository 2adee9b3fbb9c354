"""`potchain validator`: bond, set keys, stand for election, leave, and see where a validator stands.

Every command says what comes next: a validator's life is a matter of sessions, and nobody should have to count them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, UserError
from chain.cli_connect import connected, connected_to_sign
from chain.cli_how import GenesisOption
from chain.cli_secrets import KeyOption, takes_key
from chain.cli_wallet import JsonOption, print_json
from chain.display import Token, token_of
from chain.primitives import bls, ss58
from chain.rpc.client import Client
from chain.validator_keys import ValidatorKeys
from chain.wallet.known import Known
from runtime.modules.system import System
from runtime.modules.validators import Validators
from runtime.modules.validators_sessions import session_of

app = typer.Typer(help="Become a validator, stay one, and leave.", no_args_is_help=True)

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="How many tokens, such as 1000.")]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands, as the newest block leaves it."""

    height: int
    session: int
    session_blocks: int
    active: int
    unbonding: tuple[tuple[int, int], ...]  # amount, and the session from which on it can be withdrawn
    key: bytes | None
    candidate: bool
    seat: int | None
    next_seat: int | None
    set_size: int
    sealed: int | None  # how many blocks of this session it has helped to seal

    @property
    def blocks_left(self) -> int:
        """How many blocks this session still has."""
        return (self.session + 1) * self.session_blocks - self.height


def _standing(account: bytes, chain: Any) -> Standing:
    validators = chain.validators
    height, rules = chain.system.number.get(), validators.rules.get()
    stake, current = validators.stakes[account], [each.account for each in validators.authorities.get()]
    queued = [each.account for each in validators.queued.get()]
    seat = current.index(account) if account in current else None
    return Standing(
        height=height,
        session=session_of(height + 1, rules.session_blocks),
        session_blocks=rules.session_blocks,
        active=stake.active,
        unbonding=tuple((part.amount, part.session) for part in stake.unbonding),
        key=validators.session_keys.get(account),
        candidate=account in validators.candidates.get(),
        seat=seat,
        next_seat=queued.index(account) if account in queued else None,
        set_size=len(current),
        sealed=None if seat is None else validators.participation.get()[seat],
    )


@app.command()
@takes_key
def status(key: KeyOption, json: JsonOption = False, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Say what the account has bonded, whether it stands for election, and in which sets it sits."""
    trio.run(partial(_status, rpc, key.validator(), as_json=json))


@app.command()
@takes_key
def bond(amount: Amount, key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Bond tokens, or more tokens."""
    trio.run(partial(_bond, rpc, Known.of(genesis), key.validator(), amount))


@app.command("set-keys")
@takes_key
def set_keys(key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Name the key that a node with this key file votes with, for the next election on."""
    keys = key.validator()
    secret, account = keys.bls_secret, keys.account.public
    arguments = {"bls_key": bls.public_key(secret), "proof": bls.prove_possession(secret, account)}
    trio.run(partial(_send, rpc, Known.of(genesis), keys, "set_keys", **arguments))


@app.command()
@takes_key
def validate(key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Stand for election."""
    trio.run(partial(_send, rpc, Known.of(genesis), key.validator(), "validate"))


@app.command()
@takes_key
def chill(key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Stand for election no more. Keep the node running while `status` says that the account sits in a set."""
    trio.run(partial(_send, rpc, Known.of(genesis), key.validator(), "chill"))


@app.command()
@takes_key
def unbond(amount: Amount, key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Let bonded tokens leave: they can be withdrawn some sessions later, as `status` says."""
    trio.run(partial(_unbond, rpc, Known.of(genesis), key.validator(), amount))


@app.command()
@takes_key
def withdraw(key: KeyOption, genesis: GenesisOption = None, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Have the tokens back that have waited for long enough."""
    trio.run(partial(_send, rpc, Known.of(genesis), key.validator(), "withdraw_unbonded"))


async def _status(rpc: str, keys: ValidatorKeys, *, as_json: bool) -> None:
    async with connected(rpc) as client:
        token, prefix = await token_of(client)
        if as_json:
            found = await client.read(partial(_standing, keys.account.public))
            own = {"address": ss58.encode(keys.account.public, prefix)}
            print_json({**own, **told(found, bls.public_key(keys.bls_secret))})
            return
        print(ss58.encode(keys.account.public, prefix))
        await _tell(client, token, keys)


async def _bond(rpc: str, known: Known, keys: ValidatorKeys, amount: str) -> None:
    async with connected_to_sign(rpc, known, Validators) as client:
        token, _ = await token_of(client)
        found = await client.read(partial(_standing, keys.account.public))
        path = "bond_extra" if found.active or found.unbonding else "bond"
        await _transact(client, token, keys, path, value=_parse(token, amount))


async def _unbond(rpc: str, known: Known, keys: ValidatorKeys, amount: str) -> None:
    async with connected_to_sign(rpc, known, Validators) as client:
        token, _ = await token_of(client)
        await _transact(client, token, keys, "unbond", value=_parse(token, amount))


async def _send(rpc: str, known: Known, keys: ValidatorKeys, call: str, **arguments: object) -> None:
    async with connected_to_sign(rpc, known, Validators) as client:
        token, _ = await token_of(client)
        await _transact(client, token, keys, call, **arguments)


async def _transact(client: Client, token: Token, keys: ValidatorKeys, call: str, **arguments: object) -> None:
    """Send a call, wait until it is final, and say where the account stands then; Exit where it failed."""
    receipt = await client.transact(keys.account, f"validators.{call}", **arguments)
    if not receipt.ok:
        (failed,) = (event for event in receipt.events if isinstance(event, System.ExtrinsicFailed))
        reason = client.runtime.explain(failed.dispatch_error)
        print(f"error: {call} failed in block {receipt.height}: {reason}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"{call} is final in block {receipt.height}")
    await _tell(client, token, keys)


async def _tell(client: Client, token: Token, keys: ValidatorKeys) -> None:
    found = await client.read(partial(_standing, keys.account.public))
    for line in lines_of(found, token, bls.public_key(keys.bls_secret)):
        print(line)


def told(found: Standing, own_key: bytes) -> dict[str, Any]:
    """Where a validator stands, for programs; amounts are planck."""
    return {
        "block": found.height,
        "session": found.session,
        "sessionBlocksLeft": found.blocks_left,
        "bonded": str(found.active),
        "unbonding": [{"amount": str(amount), "fromSession": session} for amount, session in found.unbonding],
        "key": None if found.key is None else f"0x{found.key.hex()}",
        "isOwnKey": found.key == own_key,
        "candidate": found.candidate,
        "seat": found.seat,
        "seats": found.set_size,
        "sealed": found.sealed,
        "nextSeat": found.next_seat,
    }


def lines_of(found: Standing, token: Token, own_key: bytes) -> list[str]:
    """What a person has to know of where a validator stands."""
    unit = "block" if found.blocks_left == 1 else "blocks"
    lines = [
        f"session    {found.session}, which ends in {found.blocks_left} {unit}",
        f"bonded     {token.format(found.active)}",
    ]
    for amount, session in found.unbonding:
        when = "now" if session <= found.session else f"from session {session} on"
        lines.append(f"unbonding  {token.format(amount)}, to be withdrawn {when}")
    if found.key is None:
        lines.append("key        none: set it with `potchain validator set-keys`")
    elif found.key != own_key:
        lines.append(
            f"key        0x{found.key.hex()}, which is not this key's: set its own with `potchain validator set-keys`"
        )
    else:
        lines.append(f"key        0x{found.key.hex()}")
    lines.append(f"candidate  {'yes' if found.candidate else 'no'}")
    if found.seat is None:
        lines.append("this set   no seat")
    else:
        lines.append(
            f"this set   seat {found.seat} of {found.set_size}, helped to seal {found.sealed} blocks of this session"
        )
    lines.append("next set   no seat" if found.next_seat is None else f"next set   seat {found.next_seat}")
    return lines


def _parse(token: Token, amount: str) -> int:
    try:
        planck = token.parse(amount)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not planck:
        raise UserError(f"expected an amount above 0, got {amount!r}; nothing was sent")
    return planck
