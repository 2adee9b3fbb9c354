"""What the commands share: how they reach a node, and how their errors are shown."""

from __future__ import annotations

import errno
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from chain.keystore import KeyFileError, WrongPassword
from chain.light.errors import CheckpointError, LightError
from chain.primitives.keys import KeyUriError
from chain.primitives.ss58 import Ss58Error
from chain.rpc.errors import CannotConnect, ClientError, NoAddress, RpcError
from chain.rpc.errors import PortInUse as RpcPortInUse
from chain.supervisor import EXIT_MISCONFIGURED, Misconfigured
from runtime.types import GenesisError

EXIT_FAILED = 1  # the command was right but did not succeed
EXIT_INTERRUPTED = 130  # what shells take for a Ctrl-C

NodesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="URL",
        help="RPC address of a node, ws:// or wss://; may be given again as a fallback. [default: ws://127.0.0.1:9944]",
    ),
]
NodeOption = Annotated[str, typer.Option("--node", metavar="URL", help="RPC address of a node, ws:// or wss://.")]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True, help="Stop when standard input ends.")]
TaskId = Annotated[
    int,
    typer.Argument(metavar="ID", help="The task's number, as `potchain task list` shows it.", min=0, max=2**32 - 1),
]
DEFAULT_RPC = "ws://127.0.0.1:9944"


FOLDER_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class UserError(Exception):
    """The command line asks for something that cannot be done; the message says what to do instead."""


def ensure_somebody(otherwise: str = "nothing was sent") -> None:
    """UserError where nobody could be asked."""
    if not sys.stdin.isatty():
        raise UserError(f"nobody is there to be asked: add --yes; {otherwise}")


def agree(question: str, otherwise: str = "nothing was sent") -> None:
    """Ask; Exit where the answer is no. Ask without a connection, which would not live as long as people think."""
    ensure_somebody(otherwise)
    if not typer.confirm(question):
        print(otherwise)
        raise typer.Exit


def check_name(name: str) -> str:
    """A name that becomes a folder's; UserError for one that would lie elsewhere than where it is looked for."""
    if not FOLDER_NAME.fullmatch(name):
        raise UserError(f"--name: expected letters, digits, '.', '-' and '_', at most 64, got {name[:80]!r}")
    return name


def default_base_path(chain_id: str) -> Path:
    """Where data goes when nobody says: the user's data folder (XDG)."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "potchain" / chain_id


# What the system says of a path that is no folder, or none that this user may write to.
UNUSABLE_FOLDER = (errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that is the user's to mend, or the world's: one line and an exit code."""

    message: str
    exit_code: int


def fault_of(error: BaseException) -> Fault | None:
    """What to tell the user, or None where the error is a bug in this program."""
    if isinstance(error, BaseExceptionGroup):
        faults = [fault_of(inner) for inner in error.exceptions]
        return faults[0] if all(faults) else None
    if not isinstance(error, Exception):  # The program's own end, or Ctrl-C.
        return None
    if isinstance(error, NoAddress):
        return Fault(f"--node: {error}", EXIT_MISCONFIGURED)
    if isinstance(error, CannotConnect) and str(error).endswith("?"):
        return Fault(f"{error} Start one, or name another with --node", EXIT_FAILED)
    if isinstance(error, RpcError | ClientError | LightError | WrongPassword):
        return Fault(" ".join(str(error).split()), EXIT_FAILED)
    # Imported when there is such an error to be told apart: a light client needs neither a database nor a network.
    from chain.importer import CannotFollow
    from chain.key_hold import KeyInUse
    from chain.launcher import CannotLaunch
    from chain.ledger import Conflict
    from chain.net.errors import PortInUse
    from chain.store import DataFolderError, StorageFailed
    from consensus.wal import WalCorrupt, WalFailed, WalForeign
    from runtime.panic import HookPanicked

    if isinstance(error, StorageFailed | WalFailed | Conflict):
        return Fault(str(error), EXIT_FAILED)
    # What the operator can mend; everything else that is not the world's doing is a bug and stays loud.
    if isinstance(
        error,
        UserError
        | GenesisError
        | KeyFileError
        | KeyUriError
        | KeyInUse
        | Ss58Error
        | CheckpointError
        | DataFolderError
        | HookPanicked
        | CannotFollow
        | CannotLaunch
        | Misconfigured
        | WalCorrupt
        | WalForeign
        | RpcPortInUse
        | PortInUse,
    ):
        # A disk has room again by itself, or by its operator's hand: starting again is then all that it takes.
        return Fault(" ".join(str(error).split()), EXIT_FAILED if _is_full(error.__cause__) else EXIT_MISCONFIGURED)
    if isinstance(error, OSError) and _is_full(error):
        where = f" for {error.filename}" if error.filename else ""
        return Fault(f"{error.strerror}{where}: make room on the disk, then start again", EXIT_FAILED)
    if isinstance(error, OSError) and error.errno == errno.EIO:
        where = f" for {error.filename}" if error.filename else ""
        return Fault(f"{error.strerror}{where}: replace the disk if it is faulty, then start again", EXIT_FAILED)
    if isinstance(error, OSError) and error.errno in UNUSABLE_FOLDER:
        return Fault(f"{error.strerror}: {error.filename}; choose another folder with --base-path", EXIT_MISCONFIGURED)
    return None


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
