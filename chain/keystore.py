"""Key files, and the folder that has them by name: what they say, who may read them, how they are written.

A key file is JSON in one spelling: whatever is not byte for byte what this program would write is refused. All but the
secret is readable, so that keys can be listed; all of it is sealed in with the secret, so that none can be swapped.
A file of one line is a secret URI as it stands, made by hand or by another program.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chain.primitives import ss58
from chain.primitives.durable import PARTIAL, make_folder, sync_folder
from chain.primitives.keys import KeyUriError, Scheme, Secret
from chain.primitives.sealing import MODERATE, NONCE_BYTES, SALT_BYTES, TAG_BYTES, Cost, Lock, SealError, seal, unseal

FORMAT: Final = "potchain key"
VERSION: Final = 1
SUFFIX: Final = ".key"
KEY_FILE_BYTES_MAX: Final = 4096  # a phrase of 24 words with a path and a password, sealed and in hex, has under 2,000
URI_BYTES_MAX: Final = 1024
SESSION_MAX: Final = 1_000_000  # how often session keys can be changed: daily for 2,700 years
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")  # no dot: what has one is a file
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class KeyFileError(ValueError):
    """The key file cannot be used; the message says why and what to do."""


class NoSuchKey(KeyFileError):
    """There is no such file, or no key of that name."""


class WrongPassword(KeyFileError):
    """The password does not open the key."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key as a file has it: sealed by `lock`, or, where that is None, as it stands.

    `kind` says what the secret begins with: a phrase, a seed, or the secret of an sr25519 key that has no seed.
    """

    scheme: Scheme
    public: bytes
    kind: str
    created: str
    session: int
    lock: Lock | None
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: Secret, password: str | None, *, created: datetime, cost: Cost = MODERATE) -> KeyFile:
        """A key under a password, or under none; KeyUriError where the URI has no account of its scheme."""
        uri = secret.uri.encode()
        if len(uri) > URI_BYTES_MAX:
            raise KeyFileError(f"a secret URI has at most {URI_BYTES_MAX} bytes, got {len(uri)}")
        made = cls(
            scheme=secret.scheme,
            public=secret.keypair().public,
            kind=kind_of(secret.uri),
            created=created.astimezone(UTC).strftime(_TIME),
            session=secret.session,
            lock=None if password is None else Lock.fresh(cost),
            body=uri,
        )
        if made.lock is None or password is None:
            return made
        try:
            return replace(made, body=seal(made.lock, password, made._header(), uri))
        except MemoryError as error:
            raise KeyFileError(f"{error}; close other programs, or give --memory a smaller number") from None

    def open(self, password: str | None) -> Secret:
        """The secret; WrongPassword, or KeyFileError where what was sealed is no such key."""
        body = self.body
        if self.lock is not None:
            assert password is not None
            try:
                body = unseal(self.lock, password, self._header(), body)
            except SealError:
                raise WrongPassword("wrong password, or the file was changed") from None
            except MemoryError as error:
                raise KeyFileError(f"{error}; close other programs, or open it on a larger machine") from None
        try:
            secret = Secret(body.decode(), self.scheme, self.session)
            public = secret.keypair().public
        except (UnicodeDecodeError, KeyUriError):
            raise KeyFileError("what it holds is no secret") from None
        if public != self.public:
            raise KeyFileError("its secret is of another account than it says")
        return secret

    def encode(self) -> bytes:
        """The file, in its one spelling."""
        fields = self._fields()
        if self.lock is None:
            fields["secret"] = self.body.decode()
        else:
            fields["sealed"] = self.body.hex()
        return _spelled(fields)

    @classmethod
    def decode(cls, data: bytes) -> KeyFile:
        """The key in a file; KeyFileError for anything but what `encode` makes."""
        try:
            fields = json.loads(data)
            if fields["format"] != FORMAT or fields["version"] != VERSION:
                raise KeyFileError(f"expected {FORMAT} version {VERSION}; it is of another program, or a newer one")
            sealing = fields.get("argon2id")
            found = cls(
                scheme=Scheme[fields["scheme"].upper()],
                public=ss58.decode(fields["address"]),
                kind=fields["kind"],
                created=fields["created"],
                session=fields["session"],
                lock=None if sealing is None else _lock(sealing, fields["nonce"]),
                body=fields["secret"].encode() if sealing is None else bytes.fromhex(fields["sealed"]),
            )
            datetime.strptime(found.created, _TIME)
            if found.kind not in ("phrase", "seed", "secret") or type(found.session) is not int:
                raise ValueError("an unknown kind")
            if not 0 <= found.session <= SESSION_MAX or len(found.body) > URI_BYTES_MAX + TAG_BYTES:
                raise ValueError("out of bounds")
            spelled = found.encode()
        except KeyFileError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise KeyFileError("it is damaged, or was edited; take it from a backup, or import the phrase") from None
        if spelled != data:
            raise KeyFileError("it is not as it was written; take it from a backup, or import the phrase")
        return found

    def _fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "format": FORMAT,
            "version": VERSION,
            "scheme": self.scheme.name.lower(),
            "address": ss58.encode(self.public),
            "kind": self.kind,
            "created": self.created,
            "session": self.session,
        }
        if self.lock is not None:
            cost = self.lock.cost
            fields["argon2id"] = {
                "passes": cost.passes,
                "memory_bytes": cost.memory_bytes,
                "salt": self.lock.salt.hex(),
            }
            fields["nonce"] = self.lock.nonce.hex()
        return fields

    def _header(self) -> bytes:
        return _spelled(self._fields())


def kind_of(uri: str) -> str:
    """What a secret URI begins with: a phrase, a seed, or the secret of a key without a seed."""
    root = uri.partition("/")[0].strip()
    if not root.startswith("0x"):
        return "phrase"
    return "seed" if len(root) == 2 + 64 else "secret"


def _spelled(fields: dict[str, object]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()


def _lock(sealing: dict[str, object], nonce: str) -> Lock:
    passes, memory_bytes, salt = sealing["passes"], sealing["memory_bytes"], sealing["salt"]
    if type(passes) is not int or type(memory_bytes) is not int or not isinstance(salt, str):
        raise ValueError("no cost")
    try:
        cost = Cost(passes, memory_bytes)
    except ValueError as error:
        raise KeyFileError(f"{error}; nothing was tried") from None
    lock = Lock(cost, bytes.fromhex(salt), bytes.fromhex(nonce))
    if len(lock.salt) != SALT_BYTES or len(lock.nonce) != NONCE_BYTES:
        raise ValueError("no salt")
    return lock


@dataclass(frozen=True, slots=True)
class Keystore:
    """A folder of key files, `NAME.key`, that its owner alone may enter."""

    path: Path

    def file(self, name: str) -> Path:
        """Where the key of that name is, or would be; KeyFileError for what is no name."""
        if not NAME.fullmatch(name):
            raise KeyFileError(f"a key's name has letters, digits, '-' and '_', at most 64; got {name[:80]!r}")
        return self.path / (name + SUFFIX)

    def make(self) -> None:
        """Make the folder where it is missing; KeyFileError where others may enter it."""
        try:
            make_folder(self.path.parent)
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
                sync_folder(self.path.parent)
        except OSError as error:
            raise KeyFileError(f"cannot make the keystore {self.path}: {error.strerror}") from error
        self.check()

    def check(self) -> None:
        """KeyFileError where others than the owner may enter the folder."""
        with suppress(FileNotFoundError):
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise KeyFileError(
                    f"keystore {self.path} can be entered by others; close it with: chmod 700 {self.path}"
                )

    def names(self) -> list[str]:
        """The names of the keys in it."""
        if not self.path.is_dir():
            return []
        # A pipe would have whoever lists the keys wait for somebody to write.
        found = (path.name.removesuffix(SUFFIX) for path in self.path.glob("*" + SUFFIX) if path.is_file())
        return sorted(name for name in found if NAME.fullmatch(name))


def read_key(path: Path) -> KeyFile | Secret:
    """What a key file holds: a key, or the secret itself where it is one line; raises KeyFileError."""
    data = read_private(path, KEY_FILE_BYTES_MAX, "key file")
    if data.lstrip()[:1] != b"{":
        return _one_line(path, data)
    if b'"encoded"' in data:
        raise KeyFileError(f"{path} is a wallet's export; take it in with: potchain key import NAME --json {path}")
    try:
        return KeyFile.decode(data)
    except KeyFileError as error:
        raise KeyFileError(f"key file {path}: {error}") from None


def read_secret(path: Path) -> Secret:
    """The secret in a file that has no password; raises KeyFileError."""
    found = read_key(path)
    return found if isinstance(found, Secret) else found.open(None)


def read_private(path: Path, bytes_max: int, what: str) -> bytes:
    """A file, or a pipe such as /dev/fd/3, that nobody but its owner can read; raises KeyFileError."""
    try:
        with path.open("rb") as file:
            # Asked of what was opened: a name may mean another file a moment later.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(bytes_max + 1)
    except OSError as error:
        kind = NoSuchKey if isinstance(error, FileNotFoundError) else KeyFileError
        raise kind(f"cannot read {what} {path}: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(f"{what} {path} can be read by others; close it with: chmod 600 {path}")
    if len(data) > bytes_max:
        raise KeyFileError(f"{what} {path}: expected at most {bytes_max:,} bytes, got more; it is something else")
    return data


def _one_line(path: Path, data: bytes) -> Secret:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"key file {path}: it is neither a key nor text; give the path of one") from None
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise KeyFileError(f"key file {path}: expected one line with a phrase or a 0x seed, got {len(lines)} lines")
    return Secret(lines[0])


def write_private(path: Path, data: bytes, *, over: bool = False) -> None:
    """Write a file that only its owner can read, durably; over an existing one only if told. Raises KeyFileError."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            # The name comes last, so that a kill leaves no file with half a secret; a link never replaces one.
            if over:
                partial.replace(path)
            else:
                path.hardlink_to(partial)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise KeyFileError(f"{path} exists already and is left as it is; choose another name") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}; nothing of it is left") from error
