"""Runs a whole network on this machine: every process that the genesis file names keys for, as a child.

The terminal shows the lines of one node, the first that lives; every child has its own data folder and log.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from chain import __version__
from chain.cli_log import LogFlags
from chain.folder_lock import FolderLocked, hold_folder
from chain.log import Format, Log, read_line
from chain.rpc.access import LOOPBACK
from chain.supervisor import SECRET, Child, Supervisor, cancel_when_told
from genesis.spec import GenesisSpec
from runtime.modules.training import Training

READY_SECONDS_MAX = 60.0
# The lines of a node that belong on the launcher's terminal; everything else stays in its log.
SHOWN = ("block", "bug", "round", "runtime", "stall", "sync", "task", "vote", "wait")

# All processes share this machine's cores; between them the workers are to fill a round all the same.
WORKER_FLAGS = ("--devices=1", "--capacity=4")


class CannotLaunch(Exception):
    """The network cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, and where: the ports are the first node's, the next node's are one higher.

    `metrics` is where Prometheus asks, if it may; `logs` are flags of every child, `node_flags` are words for the
    command line of each node.
    """

    spec: GenesisSpec
    base_path: Path
    rpc_host: str
    rpc_port: int
    port: int
    metrics: tuple[str, int] | None
    node_flags: tuple[str, ...]
    supervised: bool
    logs: LogFlags


class _Terminal:
    """Passes on the lines of one node at a time, and moves to the next when that one ends."""

    def __init__(self, nodes: list[str], form: Format) -> None:
        self._nodes = nodes
        self._form = form
        self._speaker = 0
        self._ready: dict[str, trio.Event] = {name: trio.Event() for name in nodes}

    def heard(self, name: str, line: str) -> None:
        """A child wrote a line."""
        heard = read_line(line, self._form)
        if heard is None:
            return
        if heard.part == "ready" and name in self._ready:
            self._ready[name].set()
        if heard.part in SHOWN and name == self._nodes[self._speaker]:
            Log(heard.part).log(heard.level, heard.line.text, **heard.line.fields)

    def restarted(self, name: str, end: str) -> None:
        """A child ended and is being started again."""
        text = f"{name} {end}; starting it again ({name}.log says more)"
        Log("network", "restart").warning(text, process=name, end=end)
        if name == self._nodes[self._speaker]:
            self._speaker = (self._speaker + 1) % len(self._nodes)

    def unready(self) -> list[str]:
        """The nodes that have yet to say that they are ready."""
        return [name for name, event in self._ready.items() if not event.is_set()]

    async def all_ready(self) -> None:
        """Return when each node has said that it is ready."""
        for event in self._ready.values():
            await event.wait()


async def launch(plan: Launch) -> None:
    """Run the network until Ctrl-C. Raises CannotLaunch, or Misconfigured with the line of the child that refused."""
    if plan.spec.development is None:
        raise CannotLaunch(
            f"genesis file {plan.spec.path} names no development keys, so this machine cannot play every part: "
            "run one node with --validator KEY or --full-node"
        )
    try:
        with hold_folder(plan.base_path):  # Two networks in one folder would take each other's places.
            await _run(plan, [key.name for key in plan.spec.development.validators])
    except FolderLocked as error:
        raise CannotLaunch(
            f"the folder {error}: stop that network first (Ctrl-C in its terminal, or kill), or give this one another "
            "folder with --base-path, and other ports with --rpc-port, --port and --prometheus-port"
        ) from None


async def _run(plan: Launch, nodes: list[str]) -> None:
    children = list(_children(plan))
    await trio.to_thread.run_sync(check_folders, plan)
    require_free_ports(plan)
    terminal = _Terminal(nodes, plan.logs.form)
    supervisor = Supervisor(plan.base_path / "processes.json", on_line=terminal.heard, on_restart=terminal.restarted)
    started = trio.current_time()
    _introduce(plan, len(children))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_told, nursery.cancel_scope, plan.supervised)
        for child in children[: len(nodes)]:
            nursery.start_soon(supervisor.run, child)
        with trio.move_on_after(READY_SECONDS_MAX) as patience:
            await terminal.all_ready()
            seconds = trio.current_time() - started
            Log("ready").info(f"{_count(len(nodes), 'validator')} after {seconds:.1f} s; Ctrl-C stops them all")
        if patience.cancelled_caught:
            late = terminal.unready()
            names = ", ".join(late)
            text = f"not ready after {READY_SECONDS_MAX:.0f} s: {names}; going on without, their logs say more"
            Log("stall").warning(text, missing=late)
        for child in children[len(nodes) :]:
            nursery.start_soon(supervisor.run, child)
    Log("network", "stopped").info(f"the data stays in {plan.base_path}; the same command goes on from there")


def _children(plan: Launch) -> Iterator[Child]:
    """Nodes first, so that the others find them; each worker starts at another node and knows them all.

    Auditors, aggregators and workers have work only where the runtime has Training.
    """
    development = plan.spec.development
    assert development is not None
    rpc_urls = [f"ws://127.0.0.1:{plan.rpc_port + i}" for i in range(len(development.validators))]
    bootnodes = [f"--bootnode=127.0.0.1:{plan.port + i}" for i in range(len(development.validators))]
    for i, key in enumerate(development.validators):
        ports = [f"--rpc-port={plan.rpc_port + i}", f"--port={plan.port + i}"]
        if plan.metrics is not None:
            ports.append(f"--prometheus-port={plan.metrics[1] + i}")
        yield _child(plan, key.name, f"--validator={key.name}", *ports, *bootnodes, *plan.node_flags)
    if not plan.spec.runtime.has(Training):
        return
    for i, key in enumerate(development.validators):
        yield _child(plan, f"{key.name}-auditor", "auditor", f"--node={rpc_urls[i]}", secret=key.uri)
    for role, keys in (("aggregator", development.aggregators), ("worker", development.workers)):
        for i, key in enumerate(keys):
            flags = WORKER_FLAGS if role == "worker" else ()
            yield _child(plan, key.name, role, *_rpc_from(rpc_urls, i), *flags, secret=key.uri)


def _rpc_from(urls: list[str], first: int) -> list[str]:
    first %= len(urls)
    return [f"--node={url}" for url in urls[first:] + urls[:first]]


def _child(plan: Launch, name: str, *arguments: str, secret: str | None = None) -> Child:
    command, *options = arguments
    common = (f"--genesis={plan.spec.path}", f"--base-path={plan.base_path}", "--supervised")
    if command.startswith("--"):
        words = (command, *options, *common, *plan.logs.words())
    else:
        words = (command, f"--name={name}", f"--key={SECRET}", *options, *common, *plan.logs.words())
    return Child(name, ("-m", "chain", *words), plan.base_path / f"{name}.log", secret)


def check_folders(plan: Launch) -> None:
    """Open each node's chain for a moment, so that a folder of another chain, or in use, is named before all else.

    Raises DataFolderError, having written nothing. What an older release wrote is brought up to date.
    """
    from chain.node_life import open_ledger  # late: a launcher of another chain's folder is the only one that needs it
    from runtime.executive import Executive

    executive = Executive(plan.spec.runtime)
    for key in plan.spec.development.validators if plan.spec.development else ():
        folder = plan.base_path / key.name
        if folder.exists():
            ledger = open_ledger(plan.spec, folder, executive)
            if ledger.migrated is not None:
                Log("data").info(f"{key.name}: {ledger.migrated}", process=key.name)
            ledger.close()


def require_free_ports(plan: Launch) -> None:
    """Say which port is taken before anything is started; a node says the same should it lose a race."""
    for i in range(len(plan.spec.development.validators) if plan.spec.development else 0):
        wanted = [(plan.rpc_host, plan.rpc_port + i, "--rpc-port"), (LOOPBACK, plan.port + i, "--port")]
        if plan.metrics is not None:
            host, first = plan.metrics
            wanted.append((host, first + i, "--prometheus-port"))
        for host, port, flag in wanted:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    raise CannotLaunch(
                        f"port {port} cannot be used: {error.strerror}; stop the program that has it, or give "
                        f"other ports with {flag} (the first node's; the others follow)"
                    ) from None


def _introduce(plan: Launch, processes: int) -> None:
    last = plan.rpc_port + len(plan.spec.development.validators if plan.spec.development else ()) - 1
    Log("network", "potchain").info(f"{__version__}  {plan.spec.name}: {_count(processes, 'process')} on this machine")
    Log("data").info(f"{plan.base_path}  (a log for each process, NAME.log)")
    ports = f"{plan.rpc_port} to {last}" if last > plan.rpc_port else f"{last}"
    others = "" if plan.rpc_host == LOOPBACK else ", and on this machine's other addresses"
    Log("rpc").info(f"ws://127.0.0.1:{ports}  (HTTP too{others})")
    Log("dashboard").info(f"http://127.0.0.1:{plan.rpc_port}/")


def _count(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{plural}"
