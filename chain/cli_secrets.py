"""How commands take a key: `--key`, and beside it where its password and the keystore are, the same for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from chain.cli_common import UserError, default_base_path
from chain.key_source import FORMS, KeySource, Passwords
from chain.keystore import Keystore
from chain.primitives.keys import Scheme

KEY_HELP = FORMS[0].upper() + FORMS[1:] + "."

PasswordFilename = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with the key's password in its first line. [default: asked for]"),
]
DESCRIPTOR_MAX = 2**31 - 1  # a C int's
PasswordFd = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=0,
        max=DESCRIPTOR_MAX,
        help="Open descriptor to read the key's password from, as in 3< FILE.",
    ),
]
KeystorePath = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of named keys. [default: ~/.local/share/potchain/keys]"),
]
KeyOption = Annotated[KeySource, typer.Option("--key", metavar="KEY", help=KEY_HELP)]

_BESIDE = {"password_filename": PasswordFilename, "password_fd": PasswordFd, "keystore_path": KeystorePath}


def scheme_of(text: str | None) -> Scheme | None:
    """The signature scheme that --scheme names; UserError for one that there is not."""
    if text is None:
        return None
    if text.upper() not in Scheme.__members__:
        raise UserError(f"--scheme: expected ed25519 or sr25519, got {text!r}")
    return Scheme[text.upper()]


def keystore_at(path: Path | None) -> Keystore:
    """The keystore in that folder, or the user's own."""
    return Keystore(path or default_base_path("keys"))


def key_at(
    text: str,
    keystore_path: Path | None = None,
    password_filename: Path | None = None,
    password_fd: int | None = None,
) -> KeySource:
    """The key that a command line names, with what opens it."""
    return KeySource(text, keystore_at(keystore_path), Passwords(password_filename, password_fd))


def takes_key(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose `KeySource` parameters are told on the command line, with the options that open them beside.

    It gets the options --password-filename, --password-fd and --keystore-path, of which its function need not know.
    """
    signature = inspect.signature(command, eval_str=True)
    keys = {name for name, each in signature.parameters.items() if KeySource in _types(each.annotation)}
    assert keys, f"{command.__name__} takes no key"
    told = [
        each.replace(annotation=_as_text(each.annotation)) if name in keys else each
        for name, each in signature.parameters.items()
    ]
    beside = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _BESIDE.items()
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        sources = {name: given.pop(name) for name in _BESIDE}
        told = {name: key_at(given[name], **sources) for name in keys if given[name] is not None}
        command(**{**given, **told})

    run.__signature__ = signature.replace(parameters=[*told, *beside])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*told, *beside)}
    return run


def _types(annotation: Any) -> tuple[Any, ...]:
    """The types that a parameter may have, without what else is said of it."""
    base = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return (base, *get_args(base))


def _as_text(annotation: Any) -> Any:
    base, *said = get_args(annotation)
    return Annotated[(str if base is KeySource else str | None, *said)]
