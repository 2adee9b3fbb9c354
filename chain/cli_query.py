"""`potchain query` and `potchain account`: whatever a chain stores, by the metadata of its node.

The node is believed here; `potchain light query` believes none.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, NodeOption, UserError
from chain.cli_secrets import scheme_of
from chain.cli_wallet import (
    JsonOption,
    SchemeOption,
    account_of,
    flat,
    print_json,
    print_rows,
    refuse,
    say,
    text_of,
    words_of,
)
from chain.primitives.keys import Scheme
from chain.wallet.codec import WordError
from chain.wallet.metadata import Item, Module, UnknownName
from chain.wallet.node import Chain, Place, open_chain, storage_key
from chain.wallet.words import kind, read_word
from runtime.metadata_types import PalletConstant

# What fits a screen; whoever wants more says how many.
LIMIT = 50
LIMIT_MAX = 100_000

# A height of the chain, which has 32 bits, or a block's hash.
BLOCK = re.compile(r"[0-9]{1,10}|0x[0-9a-fA-F]{64}")


def _check_block(at: str | None) -> str | None:
    if at is not None and not BLOCK.fullmatch(at):
        raise UserError(f"--at: expected a height, or 0x and the 64 hex digits of a block's hash, got {at[:80]!r}")
    return at


AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="BLOCK|HASH", help="At this block. [default: the newest]", callback=_check_block),
]


def query(
    module: Annotated[str | None, typer.Argument(metavar="[MODULE]", help="The module, such as Balances.")] = None,
    item: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", help="What it stores, or a constant, such as TotalIssuance.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEYS]...", help="The keys of a map: addresses, numbers, 0x and hex digits."),
    ] = None,
    at: AtOption = None,
    limit: Annotated[
        int, typer.Option(metavar="N", help="How many entries of a map to list.", min=1, max=LIMIT_MAX)
    ] = LIMIT,
    json: JsonOption = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Show what the chain stores: a value, a constant, or the entries of a map that the keys begin.

    Without ITEM: what the module has. Without MODULE: which modules there are.
    """
    trio.run(partial(_query, rpc, module, item, keys or [], at, limit, as_json=json))


async def _query(
    rpc: str, module: str | None, item: str | None, keys: list[str], at: str | None, limit: int, *, as_json: bool
) -> None:
    async with open_chain(rpc, partial(words_of, Scheme.ED25519)) as chain:
        try:
            if module is None or item is None:
                _list(chain, None if module is None else chain.metadata.module(module), as_json=as_json)
                return
            of, found = chain.metadata.item(module, item)
            if isinstance(found, PalletConstant):
                if keys:
                    raise UserError(f"{of.name}.{found.name} is a constant and takes no keys, got {len(keys)}")
                with chain.reading(f"{of.name}.{found.name}"):
                    value = (chain.programs if as_json else chain.people).decode(found.type, found.value)
                if as_json:
                    print_json({"module": of.name, "item": found.name, "constant": True, "value": value})
                else:
                    say(f"{of.name}.{found.name}, constant")
                    print_rows(flat(value))
                return
            parts = _keys(chain, found, keys)
            place = await chain.block(at)
            if len(parts) == len(found.keys):
                await _one(chain, found, keys, parts, place, as_json=as_json)
            else:
                await _several(chain, found, parts, place, limit, as_json=as_json)
        except (UnknownName, WordError) as error:
            refuse(error)


def _keys(chain: Chain, item: Item, words: list[str]) -> list[bytes]:
    """The keys of a map, or the first of them."""
    if len(words) > len(item.keys):
        takes = ", ".join(kind(chain.codec, number) for number in item.keys)
        takes = f"{len(item.keys)} key{'s' if len(item.keys) > 1 else ''} ({takes})" if item.keys else "no keys"
        raise UserError(f"{item.module}.{item.name} takes {takes}, got {len(words)}")
    parts = []
    for place, (number, word) in enumerate(zip(item.keys[: len(words)], words, strict=True), start=1):
        try:
            parts.append(read_word(chain.codec, number, word, _no_file))
        except WordError as error:
            raise UserError(f"key {place} of {item.module}.{item.name}: {error}") from None
    return parts


def _no_file(name: str) -> bytes:
    raise WordError(f"expected a key, got the file {name}")


async def _one(chain: Chain, item: Item, words: list[str], parts: list[bytes], place: Place, *, as_json: bool) -> None:
    codec = chain.programs if as_json else chain.people
    value, is_stored = await chain.read(item, storage_key(item, parts), place, codec)
    if as_json:
        keys = [codec.decode(number, part) for number, part in zip(item.keys, parts, strict=True)]
        found = {"module": item.module, "item": item.name, "keys": keys, "stored": is_stored, "value": value}
        print_json({"block": _block(place), **found})
        return
    default = "" if is_stored else ", nothing stored" if value is None else ", nothing stored: this is the default"
    say(f"{' '.join((f'{item.module}.{item.name}', *words))} at block {place.height}{default}")
    if is_stored or value is not None:
        print_rows(flat(value))


async def _several(chain: Chain, item: Item, parts: list[bytes], place: Place, limit: int, *, as_json: bool) -> None:
    codec = chain.programs if as_json else chain.people
    entries, more = await chain.entries(item, storage_key(item, parts), limit, place, codec)
    if as_json:
        found = [{"keys": keys, "value": value} for keys, value in entries]
        print_json({"block": _block(place), "module": item.module, "item": item.name, "entries": found, "more": more})
        return
    shown = f"the first {limit} entries (more with --limit)" if more else f"{len(entries)} entries"
    say(f"{item.module}.{item.name} at block {place.height}: {shown}")
    for keys, value in entries:
        inside = ", ".join(f"{name} {text}" if name else text for name, text in flat(value))
        say(f"{' '.join(text_of(key) for key in keys)}  {inside}")


def _block(place: Place) -> dict[str, Any]:
    return {"height": place.height, "hash": place.hash}


def _list(chain: Chain, module: Module | None, *, as_json: bool) -> None:
    """The modules, or what one of them has."""
    if module is None:
        if as_json:
            print_json({"modules": [_contents(chain, each) for each in chain.metadata.modules]})
            return
        rows = [
            (each.name, f"{len(each.items)} stored, {len(each.constants)} constant") for each in chain.metadata.modules
        ]
        print_rows(rows)
        return
    if as_json:
        print_json(_contents(chain, module))
        return
    for item in module.items:
        keys = "".join(f" [{kind(chain.codec, number)}]" for number in item.keys)
        say(f"{item.name}{keys}")
        print_rows([("", " ".join(item.entry.docs))], indent=4)
    for constant in module.constants:
        say(f"{constant.name} (constant)")
        print_rows([("", " ".join(constant.docs))], indent=4)


def _contents(chain: Chain, module: Module) -> dict[str, Any]:
    return {
        "module": module.name,
        "items": [
            {
                "name": item.name,
                "keys": [kind(chain.codec, number) for number in item.keys],
                "docs": " ".join(item.entry.docs),
            }
            for item in module.items
        ],
        "constants": [{"name": each.name, "docs": " ".join(each.docs)} for each in module.constants],
    }


def account(
    of: Annotated[
        str, typer.Argument(metavar="ADDRESS|KEY", help="An address, 0x and a public key, a key file, or //Alice.")
    ],
    scheme: SchemeOption = None,
    at: AtOption = None,
    json: JsonOption = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Show an account: its tokens, its nonce, and everything else that the chain stores under its address."""
    trio.run(partial(_account, rpc, of, scheme_of(scheme) or Scheme.ED25519, at, as_json=json))


async def _account(rpc: str, of: str, scheme: Scheme, at: str | None, *, as_json: bool) -> None:
    async with open_chain(rpc, partial(words_of, scheme)) as chain:
        try:
            public = account_of(of, scheme, chain.codec.words)
        except WordError as error:
            refuse(error)
        place = await chain.block(at)
        found = await chain.system_account(public, place)
        items = {
            "0x" + storage_key(item, [public]).hex(): item
            for module in chain.metadata.modules
            for item in module.items
            if len(item.keys) == 1
            and chain.codec.is_address(item.keys[0])
            and (item.module, item.name) != ("System", "Account")
        }
        stored = await chain.values(list(items), place)
        codec = chain.programs if as_json else chain.people
        others = {}
        for key, item in items.items():
            if key in stored:
                with chain.reading(f"{item.module}.{item.name}"):
                    others[f"{item.module}.{item.name}"] = codec.decode(item.value, stored[key])
        address = chain.codec.words.address(public)
        data = {name: amount for name, amount in found["data"].items() if name in ("free", "reserved", "frozen")}
        if as_json:
            data = {name: str(amount) for name, amount in data.items()}
            print_json(
                {
                    "block": _block(place),
                    "address": address,
                    "public": "0x" + public.hex(),
                    "nonce": found["nonce"],
                    **data,
                    "stored": others,
                }
            )
            return
        rows = [("address", address), ("public", "0x" + public.hex())]
        rows += [(name, chain.token.format(amount)) for name, amount in data.items()]
        rows += [("nonce", str(found["nonce"]))]
        rows += [row for name, value in others.items() for row in flat(value, name)]
        say(f"at block {place.height}")
        print_rows(rows)
