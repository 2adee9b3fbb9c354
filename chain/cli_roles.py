"""The commands that work for tasks: worker, auditor and aggregator, each a process that talks to a node over its RPC.

Rule: everything that JAX or numpy takes part in is imported when a command runs, and by no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer

from chain.cli_common import (
    DEFAULT_RPC,
    NodesOption,
    Supervised,
    UserError,
    check_name,
    default_base_path,
)
from chain.cli_how import GenesisOption
from chain.cli_log import LogFlags, LogFormat, LogLevels
from chain.cli_node import PrometheusExternal
from chain.cli_secrets import KEY_HELP, KeyOption, takes_key
from chain.cli_silos import Data, silo_files
from chain.display import Progress
from chain.folder_lock import FolderLocked, hold_folder
from chain.key_source import FORMS, KeySource
from chain.log import Format, Log
from chain.primitives import ss58
from chain.rpc.access import EVERY_INTERFACE, LOOPBACK
from chain.rpc.client import Client, ConnectionLost
from chain.supervisor import cancel_when_told
from chain.wallet.known import Known
from runtime.modules.training_types import CAPACITY_MAX

RoleBasePath = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder for its files. [default: ~/.local/share/potchain/workers]", show_default=False
    ),
]
RoleName = Annotated[str, typer.Option(metavar="NAME", help="Name of its folder in there, and in its messages.")]


class Platform(StrEnum):
    """Where JAX computes."""

    CPU = "cpu"
    CUDA = "cuda"
    TPU = "tpu"


PlatformOption = Annotated[Platform, typer.Option(help="Where to compute.")]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        help="How many accelerators to use, or how many cores of a CPU; each computes a slot at a time. "
        "[default: all; an auditor takes one core, since a validator runs beside it]",
        show_default=False,
    ),
]
PrometheusPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=1,
        max=65535,
        help="Answer Prometheus at this port of this machine. [default: no]",
        show_default=False,
    ),
]
Capacity = Annotated[
    int | None,
    typer.Option(
        metavar="SLOTS",
        min=1,
        max=CAPACITY_MAX,
        help="How many slots of a round to train at once; each has a bond. [default: as many as there are devices]",
        show_default=False,
    ),
]


@takes_key
def worker(
    key: Annotated[
        KeySource | None,
        typer.Option(metavar="KEY", help=f"{KEY_HELP} [required]"),
    ] = None,
    node: NodesOption = None,
    genesis: GenesisOption = None,
    base_path: RoleBasePath = None,
    name: RoleName = "worker",
    platform: PlatformOption = Platform.CPU,
    devices: DevicesOption = None,
    capacity: Capacity = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Compute on several hosts as one worker: where process 0 listens for the others. Their traffic is not "
            "encrypted: use a network of your own.",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(metavar="NUMBER", help="How many hosts there are.")] = 2,
    process_id: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", help="Which of them this is. 0 has key, node and genesis file, the others none of them."
        ),
    ] = 0,
    hosts_secret: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the hosts know each other by, the same file on each: 64 hex digits."),
    ] = None,
    data: Data = None,
    plants: Annotated[
        bool,
        typer.Option(
            help="Reveal a wrong update now and then, where the chain allows and pays it: who does not audit it loses."
        ),
    ] = True,
    prometheus_port: PrometheusPort = None,
    prometheus_external: PrometheusExternal = False,
    log_format: LogFormat = None,
    log: LogLevels = None,
    supervised: Supervised = False,
) -> None:
    """Compute gradients for the tasks of the chain, and earn tokens; on data of your own with --data."""
    from trainer import hosts
    from trainer.devices import chosen
    from trainer.silo import run_silo
    from trainer.worker import run_worker

    files = silo_files(data or ())
    if files and capacity is not None:
        raise UserError("--capacity: expected none beside --data, where each task takes one slot of a round")
    if files and coordinator is not None:
        raise UserError("--coordinator: expected none beside --data, whose rows stay on one machine")
    cluster = None
    with _flags():
        count = chosen(platform.value, devices)
        if coordinator is not None and hosts_secret is not None:
            secret = hosts.read_secret(hosts_secret)
            cluster = hosts.checked(hosts.Cluster(coordinator, processes, process_id, secret))
    if coordinator is not None and hosts_secret is None:
        raise UserError("--hosts-secret is missing: the hosts of a worker know each other by it")
    if coordinator is None and (process_id or hosts_secret is not None):
        raise UserError(
            "--process-id and --hosts-secret are for a worker of several hosts: give --coordinator with them"
        )
    logs = LogFlags(log_format, log)
    role = Role(
        "worker",
        key,
        node,
        Known.of(genesis),
        base_path,
        name,
        prometheus_port,
        prometheus_external,
        logs,
        supervised,
    )
    if cluster is not None and cluster.number:
        if key is not None or node is not None or genesis is not None:
            raise UserError(
                "--key, --node and --genesis are process 0's: the other hosts compute, and need none of them"
            )
        _run_role(partial(hosts.serve_host, cluster, platform=platform.value, devices=count), role)
        return
    if key is None:
        raise UserError(f"--key is missing: {FORMS}; make one with: potchain key new NAME")
    if files:
        _run_role(partial(run_silo, data=files, platform=platform.value, devices=count), role)
        return
    run = partial(run_worker, platform=platform.value, devices=count, capacity=capacity, capacity_max=CAPACITY_MAX)
    _run_role(partial(run, cluster=cluster, plants=plants), role)


@takes_key
def auditor(
    key: KeyOption,
    node: NodesOption = None,
    genesis: GenesisOption = None,
    base_path: RoleBasePath = None,
    name: RoleName = "auditor",
    platform: PlatformOption = Platform.CPU,
    devices: DevicesOption = None,
    prometheus_port: PrometheusPort = None,
    prometheus_external: PrometheusExternal = False,
    log_format: LogFormat = None,
    log: LogLevels = None,
    supervised: Supervised = False,
) -> None:
    """Recompute sampled slots beside a validator, and attest.

    KEY is the validator's.
    """
    from trainer.auditor import run_auditor
    from trainer.devices import chosen

    with _flags():
        count = chosen(platform.value, 1 if devices is None and platform is Platform.CPU else devices)
    logs = LogFlags(log_format, log)
    role = partial(run_auditor, platform=platform.value, devices=count)
    _run_role(
        role,
        Role(
            "auditor",
            key,
            node,
            Known.of(genesis),
            base_path,
            name,
            prometheus_port,
            prometheus_external,
            logs,
            supervised,
        ),
    )


@takes_key
def aggregator(
    key: KeyOption,
    node: NodesOption = None,
    genesis: GenesisOption = None,
    base_path: RoleBasePath = None,
    name: RoleName = "aggregator",
    prometheus_port: PrometheusPort = None,
    prometheus_external: PrometheusExternal = False,
    log_format: LogFormat = None,
    log: LogLevels = None,
    supervised: Supervised = False,
) -> None:
    """Sum each round's updates, and serve the model that results."""
    from trainer.aggregator import run_aggregator

    logs = LogFlags(log_format, log)
    _run_role(
        run_aggregator,
        Role(
            "aggregator",
            key,
            node,
            Known.of(genesis),
            base_path,
            name,
            prometheus_port,
            prometheus_external,
            logs,
            supervised,
        ),
    )


@contextmanager
def _flags() -> Iterator[None]:
    """What cannot be served because of a flag is its user's to mend: starting again as it is would not help."""
    from trainer.node import CannotServe

    try:
        yield
    except CannotServe as error:
        raise UserError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Role:
    """What the commands of workers, auditors and aggregators have in common."""

    kind: str
    key: KeySource | None  # None where it takes neither a key nor a node
    nodes: list[str] | None
    known: Known
    base_path: Path | None
    name: str
    prometheus_port: int | None
    prometheus_external: bool
    logs: LogFlags
    supervised: bool


def _run_role(run: Callable[..., Awaitable[None]], role: Role) -> None:
    from chain.metrics.server import MetricsServer
    from trainer.metrics import Meter
    from trainer.status import show

    if role.prometheus_external and role.prometheus_port is None:
        raise UserError("--prometheus-external: give --prometheus-port with it")
    name = check_name(role.name)
    keypair = None if role.key is None else role.key.keypair()
    cache = (role.base_path or default_base_path("workers")) / name
    urls = role.nodes or [DEFAULT_RPC]
    account = "" if keypair is None else ss58.encode(keypair.public)
    progress, meter = Progress(), Meter(role.kind, account)
    report = Log(role.kind, name).info

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            if role.prometheus_port is not None:
                host = EVERY_INTERFACE if role.prometheus_external else LOOPBACK
                await nursery.start(MetricsServer(host, role.prometheus_port, meter.scrape).run)
            if keypair is None:
                await run(cache, report=report, meter=meter)
                nursery.cancel_scope.cancel()
                return
            if not role.supervised:
                report(f"works as {account}; Ctrl-C stops")
                nursery.start_soon(_tell_connection, urls, report)
            if role.logs.form is Format.TEXT:
                nursery.start_soon(show, meter, progress)
            await run(urls, keypair, cache, report=report, known=role.known, meter=meter)
            nursery.cancel_scope.cancel()

    try:
        with hold_folder(cache), role.logs.to_stdout():
            try:
                trio.run(_until_stopped, main, role.supervised)
            finally:
                progress.clear()
    except FolderLocked as error:
        raise UserError(f"the folder {error}: stop that one, or give this one another --name or --base-path") from None


async def _until_stopped(main: Callable[[], Awaitable[None]], supervised: bool) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_told, nursery.cancel_scope, supervised)
        await main()
        nursery.cancel_scope.cancel()


async def _tell_connection(urls: list[str], report: Callable[[str], None]) -> None:
    """Say at the start whether there is a node: the roles themselves wait for one without a word."""
    for url in urls:
        try:
            async with Client.connect(url):
                report(f"the node at {url} answers")
                return
        except ConnectionLost as error:
            report(str(error))
    report("no node answers; trying again until one does")
