"""`potchain light`: read the chain on a small device, and believe no node: seals and proofs are checked here.

A checkpoint file remembers the newest block that was proven, so that the next start goes on from there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, TaskId, UserError, default_base_path
from chain.printable import printable

if TYPE_CHECKING:
    from chain.light.checkpoint import Checkpoint, Memory
    from chain.light.client import Answer, Findings
    from chain.light.follower import Steps
    from runtime.composition import Runtime

app = typer.Typer(
    help="Read the chain without a node of your own and without trust in others': seals and proofs are checked here.",
    no_args_is_help=True,
)

Genesis = Annotated[
    Path | None,
    typer.Option("--genesis", metavar="FILE", help="Genesis file of the chain: needed until there is a checkpoint."),
]
CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Where to remember the newest proven block. [default: ~/.local/share/potchain/light/CHAIN_ID.json]",
        show_default=False,
    ),
]
Rpc = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="URL",
        help="RPC address of a node; may be given again: the newest block that any of them proves counts. "
        f"[default: {DEFAULT_RPC}]",
    ),
]
Trust = Annotated[
    str | None,
    typer.Option(
        "--trust", metavar="HASH", help="Begin at this block, whose hash you know from a source that you trust."
    ),
]
MaxAge = Annotated[
    int | None,
    typer.Option("--max-age", metavar="SECONDS", help="How old the newest block may be. [default: 120]", min=0),
]


@dataclass(frozen=True, slots=True)
class Options:
    """What every command is told."""

    genesis: Path | None
    checkpoint: Path | None
    rpc: list[str] | None
    trust: str | None
    max_age: int | None


@app.command()
def head(
    genesis: Genesis = None,
    checkpoint: CheckpointFile = None,
    rpc: Rpc = None,
    trust: Trust = None,
    max_age: MaxAge = None,
) -> None:
    """Show the newest block that a node can prove to be final."""
    answer, _ = _read(Options(genesis, checkpoint, rpc, trust, max_age), lambda _: lambda _: None)
    print(f"state root 0x{answer.head.state_root.hex()}")


@app.command()
def balance(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose balance (SS58).")],
    genesis: Genesis = None,
    checkpoint: CheckpointFile = None,
    rpc: Rpc = None,
    trust: Trust = None,
    max_age: MaxAge = None,
) -> None:
    """Show what an account has, proven."""
    from chain.display import Token
    from chain.primitives import ss58
    from runtime.modules.system import SS58_PREFIX, System

    account = ss58.decode(address.strip(), SS58_PREFIX)
    options = Options(genesis, checkpoint, rpc, trust, max_age)
    answer, memory = _read(options, lambda _: lambda view: view.module(System).account[account])
    token, found = Token(memory.token_symbol, memory.token_decimals), answer.value
    print(f"{token.format(found.data.free)} free, {token.format(found.data.reserved)} reserved, nonce {found.nonce}")


@app.command()
def task(
    task: TaskId,
    genesis: Genesis = None,
    checkpoint: CheckpointFile = None,
    rpc: Rpc = None,
    trust: Trust = None,
    max_age: MaxAge = None,
) -> None:
    """Show how far a training task is, and the root of its model, proven."""
    from chain.display import Token
    from chain.primitives import ss58
    from runtime.modules.training import Training

    def look(view: Any) -> Any:
        training = view.module(Training)
        found = training.tasks.get(task)
        if found is None:
            return None, training.next_task_id.get(), None
        is_active = task in training.active_tasks.get()
        evaluated = found.last_evaluated
        return found, is_active, None if evaluated is None else training.history[task, evaluated].evaluation

    def plan(runtime: Runtime[Any]) -> Callable[[Any], Any]:
        if not runtime.has(Training):
            raise UserError("the chain's runtime has no module Training: there is nothing to show")
        return look

    answer, memory = _read(Options(genesis, checkpoint, rpc, trust, max_age), plan)
    found, is_active, latest = answer.value
    if found is None:
        print(f"error: no task {task}: {is_active} were created, numbered from 0", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    token = Token(memory.token_symbol, memory.token_decimals)
    status = "active" if is_active else found.status.name.lower()
    name = printable(found.name.decode(errors="replace"))
    print(f"{name}: {status}, {found.round} of {found.rounds} rounds are final")
    if latest is not None:
        print(f"held-out loss {latest.loss_micro / 1e6:.4f}, accuracy {latest.accuracy_ppm / 1e4:.2f} %")
    print(f"model 0x{found.params_root.hex()}")
    print(f"minted {token.format(found.minted)}, escrow {token.format(found.escrow)}, owner {ss58.encode(found.owner)}")


@app.command()
def query(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="The module, such as Balances.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Its storage item, such as TotalIssuance.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEYS]...", help="The keys of a map: addresses, numbers, 0x and hex.")
    ] = None,
    genesis: Genesis = None,
    checkpoint: CheckpointFile = None,
    rpc: Rpc = None,
    trust: Trust = None,
    max_age: MaxAge = None,
) -> None:
    """Show any value of the chain's state, proven, or proven absent, as JSON."""
    from chain.light.query import Query, UnknownItem

    options = Options(genesis, checkpoint, rpc, trust, max_age)

    def plan(runtime: Runtime[Any]) -> Callable[[Any], Any]:
        try:
            return Query.of(runtime, module, item, keys or []).look
        except UnknownItem as error:
            raise UserError(str(error)) from None

    answer, _ = _read(options, plan)
    found, is_stored = answer.value
    if not is_stored:
        what = "nothing is stored there" if found is None else "nothing is stored there, and this is the default"
        print(f"note: {what}", file=sys.stderr)
    print(json.dumps(found, indent=2))


def _read(options: Options, plan_look: Callable[[Runtime[Any]], Callable[[Any], Any]]) -> tuple[Answer[Any], Memory]:
    """What a look at the runtime's modules sees at the newest proven block. Prints which block that is."""
    # Imported here: most commands are not of the light client.
    import trio

    from chain.light.age import AGE_SECONDS_MAX, check_age, check_trust, show_age
    from chain.light.client import ask_nodes
    from chain.light.errors import Behind, Contradicted, Fork, LightError
    from chain.light.follower import follow, read, trusted
    from chain.rpc.link import parsed

    urls = options.rpc or [DEFAULT_RPC]
    for url in urls:  # Asking skips nodes that fail: of what is no node's address, nobody would be told.
        parsed(url)
    age_max = AGE_SECONDS_MAX if options.max_age is None else options.max_age
    known = None if options.trust is None else _hash(options.trust)
    path, memory, runtime = _begin(options)
    look = plan_look(runtime)
    start, now_ms = memory.checkpoint, time.time_ns() // 10**6
    if known is None:
        check_trust(start, now_ms)

    def plan() -> Steps[tuple[Checkpoint, Any]]:
        begin = start if known is None else (yield from trusted(runtime, start.genesis_hash, known))
        newest = yield from follow(runtime, begin)
        check_age(newest, now_ms, age_max)
        return newest, (yield from read(runtime, newest, look))

    async def ask() -> Findings[Any]:
        return await ask_nodes(urls, plan)

    findings = trio.run(ask)
    for fault in findings.faults if findings.answers else ():
        print(f"warning: {fault}", file=sys.stderr)
    try:
        answer = findings.best()
    except LightError as error:
        if known is None and any(isinstance(fault.error, Fork | Contradicted | Behind) for fault in findings.faults):
            raise type(error)(
                f"{error}; this device knows block {start.height} from {path}: remove that file if the network was "
                "begun anew, else ask other nodes"
            ) from None
        if findings.furthest is not None:  # Part of the way is done, and need not be done again.
            _save(path, replace(memory, checkpoint=findings.furthest))
        raise
    remembered = replace(memory, checkpoint=answer.head)
    if known is not None or answer.head.height > start.height:
        _save(path, remembered)
    if start.height == 0 and known is None and answer.head.height:
        print(
            "note: followed from genesis. Where the chain is older than some days, compare this block with a source "
            "that you trust: keys of its first validators could have sealed another",
            file=sys.stderr,
        )
    age = max(0, (now_ms - answer.head.time_ms) // 1000)
    made = f"{show_age(age)} old" if answer.head.height else "genesis"
    print(f"block {answer.head.height} 0x{answer.head.block_hash.hex()}, {made}, proven by {answer.url}")
    return answer, remembered


def _begin(options: Options) -> tuple[Path, Memory, Runtime[Any]]:
    """Where the checkpoint is, what it says or genesis in its place, and what reads the chain's state."""
    from chain.light import checkpoint
    from chain.light.errors import CheckpointError
    from runtime.potchain import RUNTIME

    if options.genesis is None:
        path = options.checkpoint
        memory = None if path is None else checkpoint.load(path)
        if path is None or memory is None:
            where = "" if path is None else f", as there is no file {path}"
            raise UserError(f"give the chain's --genesis FILE, or the --checkpoint FILE of an earlier start{where}")
        if memory.runtime != RUNTIME.version.spec_name:
            raise UserError(f"{path} is of a chain with the runtime {memory.runtime}: give its --genesis FILE, too")
        return path, memory, RUNTIME
    from genesis.spec import load

    spec = load(options.genesis)
    path = options.checkpoint or default_base_path("light") / f"{spec.id}.json"
    first = checkpoint.Checkpoint.of(spec)
    memory = checkpoint.load(path)
    if memory is None:
        properties, name = spec.properties, spec.runtime.version.spec_name
        memory = checkpoint.Memory(first, name, properties.token_symbol, properties.token_decimals)
    elif memory.checkpoint.genesis_hash != first.genesis_hash:
        raise CheckpointError(
            f"{path} is of the chain of genesis 0x{memory.checkpoint.genesis_hash.hex()}, and {options.genesis} makes "
            f"0x{first.genesis_hash.hex()}: give another --checkpoint FILE, or remove that one if its chain is gone"
        )
    return path, memory, spec.runtime


def _save(path: Path, memory: Memory) -> None:
    """Keep it; what was read is as true where it cannot be kept."""
    from chain.light import checkpoint

    try:
        checkpoint.save(path, memory)
    except OSError as error:
        print(f"warning: {path} cannot be written, the next start begins where this one did: {error}", file=sys.stderr)


def _hash(text: str) -> bytes:
    try:
        found = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != 32:
        raise UserError(f"--trust: expected a block hash of 64 hex digits, got {text[:80]!r}")
    return found
