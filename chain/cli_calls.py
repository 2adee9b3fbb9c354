"""Calls from the words of a command line, and what the node's chain says of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chain.cli_common import UserError
from chain.cli_send import Make
from chain.cli_wallet import print_json, print_rows, refuse, say, words_of
from chain.primitives.keys import Scheme
from chain.wallet.codec import SHOWN_MAX
from chain.wallet.metadata import Call, Module, UnknownName
from chain.wallet.node import Chain, open_chain
from chain.wallet.words import kind, option, read_call

# Arguments of calls are no options of ours; --help asks the chain what it knows of the call.
ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
# A block's transaction has under 4 MB; in hex and JSON it may be some times that.
FILE_BYTES_MAX = 16 * 1024 * 1024


def arguments_of(words: Sequence[str]) -> dict[str, str]:
    """The arguments of a call, by their names: `--value 1POT`, `--value=1POT`."""
    found: dict[str, str] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        name, is_joined, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UserError(f"expected an argument of the call as --NAME VALUE, got {word[:SHOWN_MAX]!r}")
        if not is_joined:
            if not left:
                raise UserError(f"{word}: expected a value behind it")
            value = left.pop(0)
        if option(name) in found:
            raise UserError(f"--{option(name)} is given twice")
        found[option(name)] = value
    return found


def called(path: str, words: dict[str, str]) -> Make:
    """What makes a call of words."""

    async def make(chain: Chain) -> bytes:
        return read_call(chain.codec, chain.metadata.call(path), words, read_file)

    return make


def read_file(name: str) -> bytes:
    """A file that a word of the command line names; UserError where it cannot be read."""
    try:
        with Path(name).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise UserError(f"{name} has more than {FILE_BYTES_MAX} bytes: no block has room for it")
    return data


async def explain(rpc: str, path: str | None, *, as_json: bool) -> None:
    """A call, or the calls of a module, or of all."""
    async with open_chain(rpc, partial(words_of, Scheme.ED25519)) as chain:
        try:
            if path is not None and "." in path:
                _show_call(chain, chain.metadata.call(path), as_json=as_json)
                return
            modules = [chain.metadata.module(path)] if path else list(chain.metadata.modules)
        except UnknownName as error:
            refuse(error)
    _show_calls(modules, as_json=as_json)


def _show_calls(modules: list[Module], *, as_json: bool) -> None:
    calls = [each for module in modules for each in module.calls]
    if as_json:
        print_json([{"call": each.path, "docs": " ".join(each.docs).strip()} for each in calls])
    elif calls:
        print_rows((each.path, each.docs[0] if each.docs else "") for each in calls)
    else:
        say(f"{modules[0].name} has no calls")


def _show_call(chain: Chain, call: Call, *, as_json: bool) -> None:
    fields = {option(each.name or str(place)): kind(chain.codec, each.type) for place, each in enumerate(call.fields)}
    if as_json:
        print_json({"call": call.path, "docs": " ".join(call.docs).strip(), "arguments": fields})
        return
    say(f"potchain tx call {call.path}{''.join(f' --{name} …' for name in fields)} --from KEY")
    for line in call.docs:
        say(f"    {line}" if line else "")
    print_rows((f"--{name}", what) for name, what in fields.items())
