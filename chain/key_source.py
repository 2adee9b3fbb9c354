"""From what a command line says of a key to its secret, in one way for every command; nothing secret is an argument.

Opening a key asks for a password and takes a good part of a second: it is done before an event loop runs.
"""

from __future__ import annotations

import getpass
import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.keystore import NAME, KeyFileError, Keystore, NoSuchKey, read_key, read_private
from chain.primitives.keys import Keypair, Scheme, Secret
from chain.validator_keys import ValidatorKeys

PASSWORD_BYTES_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Passwords:
    """Where passwords come from: a file, an open descriptor, or, with neither, whoever sits at the terminal."""

    filename: Path | None = None
    descriptor: int | None = None

    def ask(self, prompt: str, *, twice: bool = False) -> str:
        """A password; KeyFileError where there is none to be had."""
        if self.filename is not None and self.descriptor is not None:
            raise KeyFileError("--password-filename and --password-fd exclude each other; give one of them")
        if self.filename is not None:
            data = read_private(self.filename, PASSWORD_BYTES_MAX, "password file")
            return _first_line(data, f"--password-filename {self.filename}")
        if self.descriptor is not None:
            return _first_line(_drain(self.descriptor), f"--password-fd {self.descriptor}")
        given = ask_terminal(prompt)
        if not given:
            raise KeyFileError("expected a password, got nothing; a key without one is made by: --no-password")
        if twice and ask_terminal("The same again: ") != given:
            raise KeyFileError("the two passwords are not the same; nothing was written")
        return given


@dataclass(frozen=True, slots=True)
class KeySource:
    """A key as a command was told of it: a name in the keystore, a file, `-`, or a development URI such as //Alice."""

    text: str
    keystore: Keystore
    passwords: Passwords = Passwords()

    def open(self) -> Secret:
        """The secret, unlocked; KeyFileError or KeyUriError say what to give instead."""
        return self.open_with_password()[0]

    def open_with_password(self) -> tuple[Secret, str | None]:
        """The same, and the password that it is under, if any."""
        # What a crash would leave on the disk has the secret in it.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if self.text.startswith("//"):
            if "///" in self.text:
                raise KeyFileError(f"a password {_ON_THE_COMMAND_LINE}")
            return Secret(self.text), None
        if self.text == "-":
            return Secret(ask_secret()), None
        path = self.path()
        try:
            found = read_key(path)
        except NoSuchKey as error:
            raise NoSuchKey(f"{error}; make one with: potchain key new -o {path}") from None
        if isinstance(found, Secret):
            return found, None
        password = None if found.lock is None else self.passwords.ask(f"Password of {path.name}: ")
        try:
            return found.open(password), password
        except KeyFileError as error:
            raise type(error)(f"key file {path}: {error}") from None

    def path(self) -> Path:
        """The key file that is meant; KeyFileError where that is none, or might be either of two."""
        text = self.text.strip()
        if not text:
            raise KeyFileError(f"expected {FORMS}, got nothing")
        is_here = os.path.exists(text)  # which is False for what cannot be a path
        if not is_here and (text.startswith("0x") or len(text.split()) > 1):
            raise KeyFileError(f"a secret {_ON_THE_COMMAND_LINE}")  # Not repeated: it may be one.
        if not NAME.fullmatch(text):
            return Path(text)
        named = self.keystore.file(text)
        is_named = named.is_file()
        if is_named and is_here:
            raise KeyFileError(f"{text} is a key in {self.keystore.path}, and a file here; give ./{text} for the file")
        if is_named:
            self.keystore.check()
        elif not is_here:
            raise NoSuchKey(
                f"there is no key {text} in {self.keystore.path}, and no file of that name here; "
                f"make it with: potchain key new {text}"
            )
        return named if is_named else Path(text)

    @property
    def name(self) -> str | None:
        """What its file is called; None for a secret that has no name."""
        is_file = not self.text.startswith(("//", "-", "/dev/", "/proc/"))
        return Path(self.text).stem if is_file else None

    def keypair(self, scheme: Scheme | None = None) -> Keypair:
        """The key of the account that its owner means, or of that in another scheme."""
        return self.open().keypair(scheme)

    def public(self, scheme: Scheme) -> bytes:
        """The public key of the account in a scheme: read, without a password, where the key's file has it."""
        if self.text.startswith("//") or self.text == "-":
            return self.keypair(scheme).public
        found = read_key(self.path())  # Once: it may be a pipe.
        if isinstance(found, Secret):
            return found.keypair(scheme).public
        return found.public if found.scheme is scheme else self.keypair(scheme).public

    def validator(self) -> ValidatorKeys:
        """A validator's keys."""
        return ValidatorKeys.of(self.open())


FORMS: Final = "a key's name, a key file, or //Name for a development account"
_ON_THE_COMMAND_LINE: Final = (
    "on the command line can be read by every user of this machine: keep the key with `potchain key import NAME`, "
    "then give its NAME; or give - to be asked"
)


def ask_secret(prompt: str = "Secret phrase, or 0x seed: ") -> str:
    """A secret URI, typed unseen or from a pipe."""
    text = ask_terminal(prompt) if sys.stdin.isatty() else _first_line(_drain(0), "standard input")
    if not text.strip():
        raise KeyFileError("expected a phrase or a 0x seed, got nothing")
    return text.strip()


def ask_terminal(prompt: str) -> str:
    """What somebody types, unseen, at the terminal of this process, whatever its input is; KeyFileError without one."""
    try:
        with open("/dev/tty"):
            pass
        return getpass.getpass(prompt)
    except (OSError, EOFError):
        raise KeyFileError(
            "a password is needed, and there is no terminal to ask at; "
            "give it with --password-filename FILE or --password-fd NUMBER"
        ) from None
    except UnicodeDecodeError:
        raise KeyFileError("expected UTF-8 text, got something else; try again") from None


def show_terminal(text: str) -> bool:
    """Write to the terminal of this process, wherever its output goes; False where there is none."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write(text)
    except OSError:
        return False
    return True


def _drain(descriptor: int) -> bytes:
    """What a descriptor has to say, to its end or to the end of a line."""
    data = b""
    try:
        while b"\n" not in data and len(data) <= PASSWORD_BYTES_MAX:
            more = os.read(descriptor, PASSWORD_BYTES_MAX)
            if not more:
                break
            data += more
    except OSError as error:
        raise KeyFileError(f"cannot read descriptor {descriptor}: {error.strerror}; open it, as in 3< FILE") from None
    return data


def _first_line(data: bytes, where: str) -> str:
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"{where}: expected a line of UTF-8 text, got something else") from None
    if not text or len(line) > PASSWORD_BYTES_MAX:
        raise KeyFileError(f"{where}: expected a line of 1 to {PASSWORD_BYTES_MAX} bytes, got {len(line)}")
    return text
