"""What `tx`, `query` and `account` share: how accounts are named, how values are shown to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Any, NoReturn

import typer

from chain.cli_common import UserError
from chain.cli_secrets import key_at
from chain.display import Token, put
from chain.keystore import NoSuchKey
from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.ss58 import Ss58Error
from chain.printable import printable
from chain.wallet.codec import Value, WordError, Words, read_hex
from chain.wallet.metadata import UnknownName

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; integers of 64 bits and more are text.")]
SchemeOption = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        metavar="SCHEME",
        help="Which of a secret's two accounts: that of ed25519, or of sr25519 as in wallets. "
        "[default: the key's own, ed25519 for one that has none]",
    ),
]


def words_of(scheme: Scheme, token: Token, prefix: int) -> Words:
    """How people write the values of a chain."""

    def account(text: str) -> bytes:
        if text.startswith("//"):  # A development account; any other secret has no business among arguments.
            return Keypair.from_uri(text, scheme).public
        if text.startswith("0x"):
            raw = read_hex(text, "an address, or 0x and the 64 hex digits of a public key")
            if len(raw) != 32:
                raise WordError(f"expected a public key of 64 hex digits, got {2 * len(raw)} of them")
            return raw
        return ss58.decode(text.strip(), prefix)

    return Words(account, partial(ss58.encode, prefix=prefix), token.read)


def account_of(text: str, scheme: Scheme, words: Words) -> bytes:
    """Whose account an address, a public key, or a secret or its file names."""
    try:
        return words.account(text)
    except Ss58Error as error:
        try:
            return key_at(text).public(scheme)
        except NoSuchKey:
            raise UserError(f"{error}; or give a key's name or file") from None


# --- for programs --------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """One JSON value, indented; in ASCII, since it may carry what commands a terminal, and halves of characters."""
    print(json.dumps(value, indent=2))


# --- for people ----------------------------------------------------------------------------------------------------


def flat(value: Value, path: str = "") -> Iterator[tuple[str, str]]:
    """A value as names and texts: `data.free`, `5 POT`."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from flat(inner, f"{path}[{place}]")
    else:
        yield path, text_of(value)


def text_of(value: Value) -> str:
    """A single value."""
    if value is None or value in ({}, []):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def say(text: str, indent: int = 4) -> None:
    """Print a line of which a node wrote a part."""
    put(printable(text), indent)


def print_rows(rows: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Names and texts in two columns."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        behind = indent + width + 2 if name else indent
        say(f"{' ' * indent}{name:<{width}}  {text}".rstrip() if name else f"{' ' * indent}{text}", behind)


def refuse(error: WordError | UnknownName) -> NoReturn:
    """A person's mistake as the commands report it."""
    raise UserError(str(error)) from None
