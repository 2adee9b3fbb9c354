"""The flags of a node that say whom its RPC serves, how much, and what it keeps, as Substrate calls them.

Each is None where the command line says nothing, so that a launcher passes on what it was told and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from ipaddress import ip_address
from itertools import combinations
from typing import Annotated

import typer

from chain.cli_common import UserError
from chain.history import HISTORY
from chain.net.messages import TRANSACTION_BYTES_MAX
from chain.pool import PoolLimits
from chain.rpc.access import EVERY_INTERFACE, LOOPBACK, Access, Origins, RpcMethods, WrongOrigin
from chain.rpc.broadcast import BACKLOG
from chain.rpc.protocol import Limits
from chain.sync.mode import SyncMode
from genesis.spec import Address, GenesisSpec, parse_address
from runtime.types import GenesisError

RPC_PORT = 9944  # Substrate's, so that wallets find a local node without being told
PORT = 30333  # Substrate's
PROMETHEUS_PORT = 9615  # Substrate's
MIB = 1024 * 1024
# Reading JSON holds the interpreter, 18 ms a MiB: more at once would be felt by every vote.
REQUEST_MIB_MAX = 16.0
# Clients take messages of up to 32 MiB.
RESPONSE_MIB_MAX = 16.0
# Each takes some 50 kB, and up to six files.
CONNECTIONS_MAX = 10_000
DEFAULTS = Limits()
PORT_MAX = 65535
KIB = 1024
POOL_DEFAULTS = PoolLimits()
# Some 2 kB each besides their own bytes.
POOL_COUNT_MAX = 65536
# All of it is in memory, and in one file that a restart reads, which may have 64 MiB.
POOL_KIB_MAX = 60 * KIB
# A subscriber may be a minute of blocks behind before it is cut off, and each block's state is read for it.
HISTORY_MIN = BACKLOG
ARCHIVE = "archive"

Methods = Annotated[
    RpcMethods | None,
    typer.Option(
        help="Which RPC methods to answer. Unsafe ones change the node, or cost it much: auto answers them only while "
        "no other machine can ask. Behind a proxy, say safe. [default: auto]",
        show_default=False,
    ),
]
External = Annotated[
    bool,
    typer.Option(
        "--rpc-external",
        help="Serve RPC to other machines too, on every interface of this one. A validator should not: let a full "
        "node do it.",
    ),
]
UnsafeExternal = Annotated[
    bool, typer.Option("--unsafe-rpc-external", help="The same, also on a validator: its operator knows the risk.")
]
Cors = Annotated[
    str | None,
    typer.Option(
        metavar="ORIGINS",
        help="Web pages that may use this node from a browser, by origin and separated by commas, such as "
        "https://example.org,http://localhost:*; or all. [default: pages of this machine and https://polkadot.js.org]",
        show_default=False,
    ),
]
MaxConnections = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        max=CONNECTIONS_MAX,
        help="RPC clients at once; a quarter of the places is kept for those that come for one answer. "
        f"[default: {DEFAULTS.connections_max}]",
        show_default=False,
    ),
]
MaxSubscriptions = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        max=DEFAULTS.subscriptions_total_max,
        help=f"Subscriptions of one RPC client at once. [default: {DEFAULTS.subscriptions_max}]",
        show_default=False,
    ),
]
MaxRequestSize = Annotated[
    float | None,
    typer.Option(
        metavar="MIB",
        min=0.25,
        max=REQUEST_MIB_MAX,
        help=f"Longest RPC request, in MiB. [default: {DEFAULTS.request_bytes_max / MIB:g}]",
        show_default=False,
    ),
]
MaxResponseSize = Annotated[
    float | None,
    typer.Option(
        metavar="MIB",
        min=0.25,
        max=RESPONSE_MIB_MAX,
        help=f"Longest RPC answer, in MiB. [default: {DEFAULTS.response_bytes_max / MIB:g}]",
        show_default=False,
    ),
]
RateLimit = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        max=1_000_000,
        help="RPC calls a minute on one connection; further ones are answered later. "
        f"[default: {DEFAULTS.requests_per_second * 60:.0f}]",
        show_default=False,
    ),
]
Sync = Annotated[
    SyncMode | None,
    typer.Option(
        help="How an empty data folder begins: full executes every block from genesis on, warp fetches a recent state "
        "that the validators have sealed, in a fraction of the time, and has no older blocks. [default: full]",
        show_default=False,
    ),
]
StatePruning = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER|archive",
        help="Keep the states after so many of the last blocks, to be asked about and proven, or those after all of "
        f"them. May be changed at any start; what was pruned does not come back. [default: {HISTORY}]",
        show_default=False,
    ),
]
PoolLimit = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        min=1,
        max=POOL_COUNT_MAX,
        help="Transactions that wait for a block at most; one account may have an eighth of them. "
        f"[default: {POOL_DEFAULTS.count_max}]",
        show_default=False,
    ),
]
PoolKbytes = Annotated[
    int | None,
    typer.Option(
        metavar="KIB",
        min=TRANSACTION_BYTES_MAX // KIB,
        max=POOL_KIB_MAX,
        help=f"How much room they take at most, in KiB. [default: {POOL_DEFAULTS.bytes_max // KIB}]",
        show_default=False,
    ),
]
ListenAddr = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="Address to listen on for peers; 0.0.0.0 or :: for every interface. [default: 127.0.0.1 on a chain whose "
        "genesis file has development keys, else 0.0.0.0]",
        show_default=False,
    ),
]
PublicAddr = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS:PORT",
        help="Where other nodes find this one, if that is not the address at which they see it, such as behind a NAT "
        "whose port is another. They believe it once they have reached it there.",
    ),
]
NewVoteLog = Annotated[
    bool,
    typer.Option(
        "--unsafe-new-vote-log",
        help="Vote at once, without asking the other validators what this one's key may have signed before its vote "
        "log was lost. Needed only where too many have lost theirs. What it signs twice costs its stake.",
    ),
]
PrometheusPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        help=f"Port for Prometheus; of the first node, if several run. [default: {PROMETHEUS_PORT}]",
        show_default=False,
        min=1,
        max=PORT_MAX,
    ),
]
PrometheusExternal = Annotated[
    bool, typer.Option("--prometheus-external", help="Answer other machines' Prometheus too, on every interface.")
]
NoPrometheus = Annotated[bool, typer.Option("--no-prometheus", help="Answer no Prometheus.")]


@dataclass(frozen=True, slots=True)
class NodeFlags:
    """What the command line says. Each field is called as its flag is."""

    rpc_methods: RpcMethods | None = None
    rpc_external: bool = False
    unsafe_rpc_external: bool = False
    rpc_cors: str | None = None
    rpc_max_connections: int | None = None
    rpc_max_subscriptions_per_connection: int | None = None
    rpc_max_request_size: float | None = None
    rpc_max_response_size: float | None = None
    rpc_rate_limit: int | None = None
    sync: SyncMode | None = None
    state_pruning: str | None = None
    pool_limit: int | None = None
    pool_kbytes: int | None = None
    prometheus_external: bool = False
    no_prometheus: bool = False

    def words(self) -> Iterator[str]:
        """The same for another command line."""
        for field in fields(self):
            value = getattr(self, field.name)
            flag = "--" + field.name.replace("_", "-")
            if value is True:
                yield flag
            elif value not in (None, False):
                yield f"{flag}={value}"

    def access(self, *, is_validator: bool) -> Access:
        """Whom the RPC serves; UserError for what cannot be, and for what puts a validator at risk unknowingly."""
        methods = self.rpc_methods or RpcMethods.AUTO
        # Substrate's rule, to the letter: who asks for unsafe methods has thought about the risk.
        if self.rpc_external and is_validator and methods is not RpcMethods.UNSAFE and not self.unsafe_rpc_external:
            raise UserError(
                "--rpc-external lets everybody who reaches this validator slow it down: serve RPC from a full node "
                "beside it, or give --unsafe-rpc-external if you know the risk"
            )
        try:
            origins = Origins() if self.rpc_cors is None else Origins.parse(self.rpc_cors)
        except WrongOrigin as error:
            raise UserError(f"--rpc-cors: {error}") from None
        is_external = self.rpc_external or self.unsafe_rpc_external
        return Access(EVERY_INTERFACE if is_external else LOOPBACK, methods, origins)

    def metrics(self, port: int | None, offset: int = 0) -> tuple[str, int] | None:
        """Where Prometheus asks, of the node at this place among those of one machine; None where it may not."""
        if self.no_prometheus:
            if port is not None or self.prometheus_external:
                raise UserError("--no-prometheus: expected it without --prometheus-port and --prometheus-external")
            return None
        host = EVERY_INTERFACE if self.prometheus_external else LOOPBACK
        return host, port or PROMETHEUS_PORT + offset

    def history(self) -> int | None:
        """How many states the ledger keeps, None for all; UserError for what is no number of them."""
        text = self.state_pruning
        if text is None:
            return HISTORY
        if text == ARCHIVE:
            return None
        if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= HISTORY_MIN:
            return int(text)
        raise UserError(
            f"--state-pruning: expected {ARCHIVE}, or how many states to keep, {HISTORY_MIN} or more, got {text[:20]!r}"
        )

    def pool_limits(self) -> PoolLimits:
        """What the transaction pool holds at most."""
        limits = POOL_DEFAULTS
        if self.pool_limit is not None:
            limits = replace(limits, count_max=self.pool_limit, sender_count_max=max(1, self.pool_limit // 8))
        if self.pool_kbytes is not None:
            limits = replace(limits, bytes_max=self.pool_kbytes * KIB)
        return limits

    def limits(self) -> Limits:
        """How much the RPC grants to its clients."""
        limits = DEFAULTS
        if self.rpc_max_connections is not None:
            # In the proportion of the defaults, and one at least.
            websockets = self.rpc_max_connections - self.rpc_max_connections // 4
            limits = replace(limits, connections_max=self.rpc_max_connections, websockets_max=websockets)
        if self.rpc_max_subscriptions_per_connection is not None:
            limits = replace(limits, subscriptions_max=self.rpc_max_subscriptions_per_connection)
        if self.rpc_max_request_size is not None:
            limits = replace(limits, request_bytes_max=int(self.rpc_max_request_size * MIB))
        if self.rpc_max_response_size is not None:
            answer = int(self.rpc_max_response_size * MIB)
            # Beside the longest answer there is room for what subscriptions send meanwhile.
            outbox = max(limits.outbox_bytes_max, 2 * answer)
            limits = replace(limits, response_bytes_max=answer, outbox_bytes_max=outbox)
        if self.rpc_rate_limit is not None:
            limits = replace(limits, requests_per_second=self.rpc_rate_limit / 60, requests_burst=self.rpc_rate_limit)
        return limits


def listen_host(given: str | None, spec: GenesisSpec) -> str:
    """Where a node listens for peers; UserError for what is no address.

    Everybody knows development keys, so that a network of them is nothing for others to reach; any other chain's nodes
    are of use to each other only from machine to machine.
    """
    if given is None:
        return LOOPBACK if spec.development is not None else EVERY_INTERFACE
    try:
        return str(ip_address(given))
    except ValueError:
        raise UserError(
            f"--listen-addr: expected an address of this machine, or 0.0.0.0 or :: for every one, got {given[:50]!r}"
        ) from None


def public_address(given: str | None) -> Address | None:
    """Where others find the node; UserError for what is not the address of one machine."""
    if given is None:
        return None
    try:
        address = parse_address(given, "--public-addr")
        ip_address(address.host)
    except (GenesisError, ValueError):
        raise UserError(
            f"--public-addr: expected an address and a port such as 192.0.2.1:30333, got {given[:80]!r}"
        ) from None
    return address


def check_ports(nodes: int, rpc_port: int, port: int, metrics: tuple[str, int] | None) -> None:
    """Refuse ports that do not exist, or that nodes on one machine would take from each other; UserError."""
    first = [("--rpc-port", "RPC", rpc_port), ("--port", "peers", port)]
    if metrics is not None:
        first.append(("--prometheus-port", "Prometheus", metrics[1]))
    for flag, _, number in first:
        if number + nodes - 1 > PORT_MAX:
            raise UserError(f"{flag} {number}: {nodes} nodes need ports up to {number + nodes - 1}, above {PORT_MAX}")
    for (flag, what, number), (other_flag, other, other_number) in combinations(first, 2):
        if abs(number - other_number) < nodes:
            apart = "other ports than one another" if nodes == 1 else f"ports that are {nodes} or more apart"
            raise UserError(f"{flag} {number} and {other_flag} {other_number}: {what} and {other} need {apart}")
