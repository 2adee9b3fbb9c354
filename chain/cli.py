"""The command line: `potchain --genesis FILE` runs a chain, the commands use one.

Whatever a person can get wrong ends in one line on standard error that says what to do, and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from chain import (
    __version__,
    cli_bugs,
    cli_completion,
    cli_config,
    cli_db,
    cli_doctor,
    cli_genesis,
    cli_keys,
    cli_light,
    cli_modules,
    cli_node,
    cli_query,
    cli_rewards,
    cli_roles,
    cli_secrets,
    cli_simulate,
    cli_tasks,
    cli_tx,
    cli_validators,
)
from chain.cli_common import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Supervised,
    UserError,
    check_name,
    default_base_path,
    fault_of,
)
from chain.cli_log import LogFlags, LogFormat, LogLevels
from chain.cli_node import PORT, RPC_PORT
from chain.cli_usage import UsageError, usage
from chain.display import print_anything, put
from chain.heap import share_one_heap
from chain.printable import printable
from chain.settings import ConfigOption, name_variables
from chain.supervisor import EXIT_MISCONFIGURED
from chain.sync.mode import SyncMode

app = typer.Typer(
    help="A blockchain whose work is training neural networks.\n\nStart with:  potchain --genesis genesis/testnet.json",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_keys.app, name="key")
app.add_typer(cli_tx.app, name="tx")
app.command("completion")(cli_completion.completion)
app.command("query")(cli_query.query)
app.command("account")(cli_query.account)
app.command("simulate")(cli_simulate.simulate)
for role in (cli_roles.worker, cli_roles.auditor, cli_roles.aggregator):
    app.command()(role)
app.add_typer(cli_tasks.app, name="task")
app.add_typer(cli_rewards.app, name="reward")
app.add_typer(cli_validators.app, name="validator")
app.add_typer(cli_light.app, name="light")
app.add_typer(cli_modules.app, name="module")
app.add_typer(cli_config.app, name="config")
app.add_typer(cli_db.app, name="db")
app.add_typer(cli_genesis.app, name="genesis")
app.command()(cli_doctor.doctor)

BasePath = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder for all data. [default: ~/.local/share/potchain/CHAIN_ID]", show_default=False
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"potchain {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    genesis: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Genesis file of the chain to run, such as genesis/testnet.json."),
    ] = None,
    validator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|KEY",
            help="Run one validator: a development validator of the genesis file by name, or a key's name or file.",
        ),
    ] = None,
    full_node: Annotated[bool, typer.Option("--full-node", help="Run one node that follows the chain.")] = False,
    base_path: BasePath = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of this node and of its folder. [default: the key's]", show_default=False
        ),
    ] = None,
    rpc_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help=f"Port for RPC; of the first node, if several run. [default: {RPC_PORT}]",
            min=1,
            max=65535,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help=f"Port for peers; of the first node, if several run. [default: {PORT}]",
            min=1,
            max=65535,
        ),
    ] = None,
    bootnode: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Peer to connect to; may be given again. [default: the genesis file's]"),
    ] = None,
    rpc_methods: cli_node.Methods = None,
    rpc_external: cli_node.External = False,
    unsafe_rpc_external: cli_node.UnsafeExternal = False,
    rpc_cors: cli_node.Cors = None,
    rpc_max_connections: cli_node.MaxConnections = None,
    rpc_max_subscriptions_per_connection: cli_node.MaxSubscriptions = None,
    rpc_max_request_size: cli_node.MaxRequestSize = None,
    rpc_max_response_size: cli_node.MaxResponseSize = None,
    rpc_rate_limit: cli_node.RateLimit = None,
    sync: cli_node.Sync = None,
    state_pruning: cli_node.StatePruning = None,
    pool_limit: cli_node.PoolLimit = None,
    pool_kbytes: cli_node.PoolKbytes = None,
    prometheus_port: cli_node.PrometheusPort = None,
    prometheus_external: cli_node.PrometheusExternal = False,
    no_prometheus: cli_node.NoPrometheus = False,
    listen_addr: cli_node.ListenAddr = None,
    public_addr: cli_node.PublicAddr = None,
    log_format: LogFormat = None,
    log: LogLevels = None,
    unsafe_new_vote_log: cli_node.NewVoteLog = False,
    config: ConfigOption = None,  # noqa: ARG001  (its callback does the work)
    password_filename: cli_secrets.PasswordFilename = None,
    password_fd: cli_secrets.PasswordFd = None,
    keystore_path: cli_secrets.KeystorePath = None,
    supervised: Supervised = False,
    debug: Annotated[  # noqa: ARG001  (`main` has taken it from wherever it stood)
        bool, typer.Option(cli_bugs.DEBUG, help="Show where a bug in this program is; may stand behind any command.")
    ] = False,
    version: Annotated[  # noqa: ARG001  (its callback does the work)
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run a whole network on this machine, or one node of it."""
    if context.invoked_subcommand is not None:
        return
    if genesis is None:
        if validator is not None or full_node:
            raise UserError(
                "--genesis is missing: which chain is the node of? Give its file, such as genesis/testnet.json"
            )
        print(context.get_help())
        raise typer.Exit
    # Imported here: a wallet command needs neither the node nor the runtime's database.
    from chain.launcher import Launch, launch
    from chain.node_config import NodeConfig, NodeRole
    from chain.node_life import run_node
    from consensus.lookback import Past
    from genesis.spec import load, parse_address

    spec = load(genesis)
    base = base_path or default_base_path(spec.id)
    if validator is not None and full_node:
        raise UserError("--validator and --full-node exclude each other; give one of them")
    flags = cli_node.NodeFlags(
        rpc_methods=rpc_methods,
        rpc_external=rpc_external,
        unsafe_rpc_external=unsafe_rpc_external,
        rpc_cors=rpc_cors,
        rpc_max_connections=rpc_max_connections,
        rpc_max_subscriptions_per_connection=rpc_max_subscriptions_per_connection,
        rpc_max_request_size=rpc_max_request_size,
        rpc_max_response_size=rpc_max_response_size,
        rpc_rate_limit=rpc_rate_limit,
        sync=sync,
        state_pruning=state_pruning,
        pool_limit=pool_limit,
        pool_kbytes=pool_kbytes,
        prometheus_external=prometheus_external,
        no_prometheus=no_prometheus,
    )
    logs = LogFlags(log_format, log)
    history = flags.history()
    if validator is None and not full_node:
        if name is not None or bootnode:
            raise UserError("--name and --bootnode are for one node: give --validator or --full-node with them")
        if listen_addr is not None:
            raise UserError("--listen-addr is for one node: a whole network on one machine needs no other to reach it")
        if public_addr is not None:
            raise UserError("--public-addr is for one node: give --validator or --full-node with it")
        if unsafe_new_vote_log:
            raise UserError("--unsafe-new-vote-log is for one validator: give --validator with it")
        nodes = len(spec.development.validators) if spec.development else 1
        metrics = flags.metrics(prometheus_port)
        rpc_port, port = rpc_port or RPC_PORT, port or PORT
        cli_node.check_ports(nodes, rpc_port, port, metrics)
        # Everybody knows the keys of these validators: there is nothing of theirs to protect.
        access = flags.access(is_validator=False)
        passed_on = replace(flags, rpc_external=False, unsafe_rpc_external=access.is_external)
        words = tuple(passed_on.words())
        plan = Launch(spec, base, access.host, rpc_port, port, metrics, words, supervised, logs)
        with logs.to_stdout():
            _run(partial(launch, plan))
        return
    key = None if validator is None else cli_secrets.key_at(validator, keystore_path, password_filename, password_fd)
    role = NodeRole.of(spec, key, None if name is None else check_name(name))
    rpc_port, port = rpc_port or RPC_PORT + role.offset, port or PORT + role.offset
    metrics = flags.metrics(prometheus_port, role.offset)
    cli_node.check_ports(1, rpc_port, port, metrics)
    node = NodeConfig(
        spec=spec,
        role=role,
        data_path=base / role.name,
        rpc_port=rpc_port,
        port=port,
        bootnodes=tuple(parse_address(text) for text in bootnode) if bootnode else spec.bootnodes,
        access=flags.access(is_validator=role.keys is not None),
        limits=flags.limits(),
        history=history,
        sync=flags.sync or SyncMode.FULL,
        pool_limits=flags.pool_limits(),
        supervised=supervised,
        listen_host=cli_node.listen_host(listen_addr, spec),
        public=cli_node.public_address(public_addr),
        metrics=metrics,
        past=Past.KNOWN if unsafe_new_vote_log else Past.UNKNOWN,
    )
    share_one_heap()
    with logs.to_stdout():
        _run(partial(run_node, node))


def _run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main)


def command_line() -> Any:
    """All commands, with the variables of their settings; called with words."""
    command = typer.main.get_command(app)
    name_variables(command)
    return command


def main(arguments: list[str] | None = None) -> None:
    """Entry point: turn what the user can mend into one line and exit code 2; of anything else, a bug, into two."""
    print_anything()
    cli_completion.prepare()
    words, debug = cli_bugs.without_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(command_line()(words, prog_name=cli_completion.PROGRAM, standalone_mode=False))
    except UsageError as error:
        put(usage(error), stream=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)
    except (typer.Abort, KeyboardInterrupt):  # Ctrl-C, in a command that has nothing to finish
        sys.exit(EXIT_INTERRUPTED)
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is None:
            sys.exit(EXIT_INTERRUPTED)  # The same, where several things were under way.
        if isinstance(error, SystemExit):
            raise
        fault = fault_of(error)
        if fault is None:
            cli_bugs.tell(error, words, debug=debug)
            sys.exit(EXIT_FAILED)
        lines = map(printable, fault.message.splitlines())  # A node may have written them.
        put("error: " + "\n".join(lines), stream=sys.stderr)
        sys.exit(fault.exit_code)
