"""A validator's three keys, all derived from one secret: for transactions, for votes and for connections."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from chain.primitives import bls
from chain.primitives.durable import PARTIAL, sync_folder
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme

KEY_FILE_BYTES_MAX = 4096  # a phrase of 24 words has under 300


class KeyFileError(ValueError):
    """The key file cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ValidatorKeys:
    """`account` signs attestations, `bls_secret` votes, `node` proves who a peer is."""

    account: Keypair
    bls_secret: bytes
    node: Keypair

    @classmethod
    def from_uri(cls, uri: str) -> ValidatorKeys:
        """From a secret phrase, a hex seed or a derivation path such as //Alice."""
        account = Keypair.from_uri(uri, Scheme.ED25519)
        return cls(
            account=account,
            bls_secret=bls.keygen(blake2_256(b"potchain validator bls" + account.secret_seed)),
            node=Keypair.from_seed(blake2_256(b"potchain validator node" + account.secret_seed), Scheme.ED25519),
        )


def read_secret(path: Path) -> str:
    """The secret in a key file: one line, readable by its owner alone; raises KeyFileError."""
    try:
        status = path.stat()
        text = path.read_text() if status.st_size <= KEY_FILE_BYTES_MAX else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        remedy = "give the path of one, or a secret such as //Alice"
        if isinstance(error, FileNotFoundError):
            remedy = f"make one with: potchain key new -o {path}, or give a secret such as //Alice"
        raise KeyFileError(f"cannot read key file {path}: {reason}; {remedy}") from None
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise KeyFileError(f"key file {path} can be read by others; close it with: chmod 600 {path}")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise KeyFileError(f"key file {path}: expected one line with a phrase or a 0x seed, got {len(lines)} lines")
    return lines[0]


def write_secret(path: Path, secret: str) -> None:
    """Write a new key file that only its owner can read, durably; never over an existing one. Raises KeyFileError."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secret + "\n")
                file.flush()
                os.fsync(descriptor)
            # The name comes last, so that a kill leaves no file with half a secret; a link never replaces one.
            path.hardlink_to(partial)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise KeyFileError(f"{path} exists already and is left as it is; choose another name") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}; nothing of it is left") from error
