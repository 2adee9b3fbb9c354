"""`potchain db`: looks after the data folder of a node that stands still.

Which node is said as it is to run it, before the word `db`: by flags, variables or a file. A folder that a node uses is
refused with its process id.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from chain.cli_common import EXIT_FAILED, UserError, agree, check_name, default_base_path
from chain.cli_secrets import key_at
from chain.display import Progress, time_left

if TYPE_CHECKING:
    from chain.store import Store
    from chain.upkeep.folder import NodeFolder
    from genesis.spec import GenesisSpec

app = typer.Typer(
    help="Look after the data of a node that does not run.\n\nSay which one before the word db, with the flags that "
    "run it:\npotchain --genesis FILE --validator KEY db check",
    no_args_is_help=True,
)

MIB = 1024 * 1024
# How often the size of a growing file is looked at, and how often people are told of what goes on.
LOOK_SECONDS = 0.2


def chosen(context: typer.Context) -> NodeFolder:
    """The folder of the node that the words before the command are about; UserError where that is not clear."""
    from chain.upkeep.folder import folders_in
    from genesis.spec import load

    given = context.find_root().params
    if given["genesis"] is None:
        raise UserError("--genesis is missing: give the flags that run the node before the command")
    spec = load(given["genesis"])
    base: Path = given["base_path"] or default_base_path(spec.id)
    folder = folder_among(spec, base, given)
    if folder is None:
        nodes = folders_in(base)
        there = f"there are {', '.join(nodes)}" if nodes else "there is none"
        raise UserError(f"which node of {base}? Give --name before the command; {there}")
    return folder


def folder_among(spec: GenesisSpec, base: Path, given: Mapping[str, Any]) -> NodeFolder | None:
    """The folder of the node that the flags before a command run, or the only one; None where there are several."""
    from chain.upkeep.folder import NodeFolder, folders_in

    name: str | None = given["name"]
    validator: str | None = given["validator"]
    if name is None and validator is not None:
        known = spec.validator_key(validator)
        name = (key_at(validator).name or "validator") if known is None else known[1].name
    elif name is None and given["full_node"]:
        name = "full-node"
    if name is None:
        nodes = folders_in(base)
        if len(nodes) != 1:
            return None
        name = nodes[0]
    return NodeFolder(spec, base / check_name(name))


@contextmanager
def bar(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str, int, int], None]]:
    """Progress where somebody watches: called with what goes on, how far that is, and how far it goes."""
    progress = Progress()
    began = dict[str, float]()
    shown = clock()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal shown
        now = clock()
        began.setdefault(what, now)
        if now - shown < LOOK_SECONDS:
            return
        shown = now
        left = f", {time_left((now - began[what]) / done * (total - done))}" if 0 < done < total else ""
        progress.show(f"{what}: {done:,} of {total:,}{left}")

    try:
        yield tell
    finally:
        progress.clear()


@app.command()
def check(
    context: typer.Context,
    fast: Annotated[bool, typer.Option("--fast", help="Look at the newest block and its state alone.")] = False,
) -> None:
    """Look for what is wrong with the database and the vote log, and say what mends it.

    Every block's hash, parent, extrinsics and seal, the indexes, and every kept state to its last node. Nothing is
    changed. Exits with 1 if something is wrong.
    """
    from chain.upkeep.check import Checker, check_vote_log

    folder = chosen(context)
    with folder.store() as store, bar() as tell:
        with store.read() as snapshot:
            checker = Checker(snapshot, folder.spec.runtime, folder.genesis_state(), tell)
            report = checker.fast() if fast else checker.everything()
        check_vote_log(folder.vote_log, report)
    unknown = f", {report.seals_unknown:,} of validators that this folder does not know" if report.seals_unknown else ""
    print(f"blocks    {report.blocks:,} up to {report.head:,}; {report.seals:,} seals verified{unknown}")
    print(f"states    {report.states:,} kept{'' if fast else f', of {report.nodes:,} nodes'}")
    if report.voted_at is not None:
        print(f"vote log  whole, at block {report.voted_at:,}")
    for finding in report.findings:
        mend = f"; mend it with: {folder.command(finding.mend)}" if finding.mend else ""
        print(f"bad       {finding.what}{mend}")
    if report.more:
        print(f"bad       and {report.more:,} more like these")
    if report.findings:
        raise typer.Exit(EXIT_FAILED)
    print("ok        nothing is wrong")


@app.command()
def compact(context: typer.Context) -> None:
    """Write the database anew without the gaps that deleted states leave, and let the copy take its place.

    The disk needs room for both meanwhile. Whatever ends this, the old file or the new one is there, whole.
    """
    folder = chosen(context)
    with folder.store() as store:
        before = store.size_bytes
        with bar() as tell:
            file = _copy(store, tell)
        store.replace_by(file)
    after = (folder.chain / file.name).stat().st_size
    print(f"{folder.chain / file.name}: {before / MIB:,.1f} MiB before, {after / MIB:,.1f} MiB now")


def _copy(store: Store, tell: Callable[[str, int, int], None]) -> Path:
    """Copy in a thread, and look at how far it is."""
    done = threading.Event()
    found: list[Path] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(store.copy_compact())
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True).start()  # Who interrupts this does not wait for gigabytes to be copied.
    while not done.wait(LOOK_SECONDS):
        tell("MiB", store.copied_bytes // MIB, store.size_bytes // MIB)
    if failed:
        raise failed[0]
    return found[0]


@app.command("export")
def export_blocks(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file to write.")],
    first: Annotated[int, typer.Option("--from", metavar="HEIGHT", min=1, help="First block.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to", metavar="HEIGHT", min=1, help="Last block. [default: the newest]")
    ] = None,
) -> None:
    """Write blocks with their seals to a file, for another node of the chain to import."""
    from chain.upkeep.chain_file import ChainFileError, export

    folder = chosen(context)
    folder.require_chain()
    with folder.ledger(_history(context)) as ledger, bar() as tell:
        lowest, newest = max(1, ledger.lowest_block), ledger.head.height
        last = newest if last is None else last
        if not lowest <= first <= last <= newest:
            raise UserError(f"--from {first} --to {last}: this node has the blocks {lowest} to {newest}")
        try:
            head = export(ledger, file, first, last, partial(tell, "blocks"))
        except ChainFileError as error:
            _fail(error)
    print(f"{file}: blocks {head.first:,} to {head.last:,}, {file.stat().st_size / MIB:,.1f} MiB")


@app.command("import")
def import_blocks(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that `db export` has written.")],
) -> None:
    """Add the blocks of a file to the chain. Each is proven by its seal and executed, as blocks of peers are."""
    from chain.upkeep.chain_file import ChainFileError, Rejected, import_file

    with chosen(context).ledger(_history(context)) as ledger, bar() as tell:
        try:
            count = import_file(ledger, file, partial(tell, "blocks"))
        except (ChainFileError, Rejected) as error:
            _fail(error)
        head = ledger.head.height
    print(f"{count:,} blocks imported; the chain is at block {head:,}")


@app.command()
def revert(
    context: typer.Context,
    count: Annotated[int, typer.Argument(metavar="N", min=1, help="How many blocks.")],
) -> None:
    """Take the last N blocks off this node's disk, as far as their states are kept.

    Blocks are final: the node fetches the same ones again. The vote log stays, so that a validator votes on none of
    them anew: if every validator reverts, the chain stands still until one of them imports the blocks again.
    """
    from chain.upkeep.revert import CannotRevert
    from chain.upkeep.revert import revert as take_off

    folder = chosen(context)
    with folder.store() as store:
        try:
            head = store.write(partial(take_off, count=count))
        except CannotRevert as error:
            _fail(error)
    print(f"{count:,} blocks taken off: the chain is at block {head.height:,}, and the node fetches the rest again")


@app.command()
def purge(
    context: typer.Context,
    blobs: Annotated[
        bool, typer.Option("--blobs", help="Also programs, data sets, updates and models: others may have lost them.")
    ] = False,
    unsafe_vote_log: Annotated[
        bool,
        typer.Option(
            "--unsafe-vote-log",
            help="Also the record of what this validator has signed. Without it the validator has to ask the others "
            "before it votes, and whoever makes it vote at once may sign twice, which costs its stake.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the blocks, the states and the pool: the node begins anew and fetches them. Keys always stay."""
    from chain.upkeep.purge import plan
    from chain.upkeep.purge import purge as remove

    folder = chosen(context)
    items = plan(folder, blobs=blobs, vote_log=unsafe_vote_log)
    if not items:
        print(f"nothing to remove in {folder.path}")
        return
    for item in items:
        print(f"{item.path}: {item.what}, {item.size / MIB:,.1f} MiB")
    if not yes:
        agree("remove this?", "nothing was removed")
    remove(folder, items)
    print("removed; the keys and the rest of the folder stay as they were")


def _history(context: typer.Context) -> int | None:
    from chain.cli_node import NodeFlags

    return NodeFlags(state_pruning=context.find_root().params["state_pruning"]).history()


def _fail(error: Exception) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(EXIT_FAILED)
