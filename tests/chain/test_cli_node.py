"""The flags of a node: what they do to a node that runs, what they refuse, and what a launcher passes on."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from chain.cli_log import LogFlags
from chain.cli_node import NodeFlags
from chain.launcher import Launch, _children
from chain.rpc.access import EVERY_INTERFACE, LOOPBACK, RpcMethods
from chain.sync.mode import SyncMode
from genesis.spec import load
from tests.chain.test_cli import SECONDS_MAX, TESTNET, potchain, refusal, running_node
from tests.ports import free_port

NODE = ("--genesis", TESTNET, "--full-node")


def ask(port: int, method: str, *params: object, **headers: str) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(f"http://127.0.0.1:{port}", json=call, headers=headers, trust_env=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rpc-methods", "none"), "--rpc-methods: expected auto, safe or unsafe, got 'none'"),
        (("--listen-addr", "example.org"), "--listen-addr: expected an address of this machine"),
        (("--rpc-cors", "example.org"), "--rpc-cors: expected all, or origins such as https://example.org"),
        (("--rpc-cors", "https://example.org/"), "without a path, got 'https://example.org/'"),
        (("--rpc-max-connections", "0"), "--rpc-max-connections: expected a "),
        (("--rpc-max-connections", "many"), "--rpc-max-connections: expected a "),
        (("--rpc-max-subscriptions-per-connection", "5000"), "4096"),
        (("--rpc-max-request-size", "17"), "--rpc-max-request-size: expected a "),
        (("--rpc-max-request-size", "nan"), "--rpc-max-request-size: expected a "),
        (("--rpc-max-response-size", "-1"), "--rpc-max-response-size: expected a "),
        (("--rpc-rate-limit", "0"), "--rpc-rate-limit: expected a "),
        (("--pool-limit", "0"), "--pool-limit: expected a "),
        (("--pool-kbytes", "1000"), "--pool-kbytes: expected a "),
        (("--pool-kbytes", "61441"), "--pool-kbytes: expected a "),
        (("--state-pruning", "some"), "expected archive, or how many states to keep, 64 or more, got 'some'"),
        (("--state-pruning", "63"), "64 or more, got '63'"),
        (("--state-pruning", "²"), "64 or more, got '²'"),
        (("--state-pruning", "9" * 5000), "64 or more, got '99999999999999999999'"),
    ],
)
def test_a_flag_that_is_wrong_is_named_with_what_it_takes(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert message in refusal(*NODE, "--base-path", tmp_path, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--rpc-external",), ("--rpc-external", "--rpc-methods", "safe")])
def test_a_validator_is_not_opened_to_the_world_by_the_way(tmp_path: Path, words: tuple[str, ...]) -> None:
    message = refusal("--genesis", TESTNET, "--validator", "alice", "--base-path", tmp_path, *words)
    assert "--unsafe-rpc-external" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flag", "value"), [("--name", "carol"), ("--bootnode", "127.0.0.1:1")])
def test_flags_of_one_node_are_refused_for_a_whole_network(tmp_path: Path, flag: str, value: str) -> None:
    assert "--full-node" in refusal("--genesis", TESTNET, "--base-path", tmp_path, flag, value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rpc-port", "65533"), "--rpc-port 65533: 4 nodes need ports up to 65536, above 65535"),
        (("--port", "65535"), "--port 65535: 4 nodes need ports up to 65538, above 65535"),
        (("--rpc-port", "9944", "--port", "9947"), "need ports that are 4 or more apart"),
        (
            ("--prometheus-port", "9943"),
            "--rpc-port 9944 and --prometheus-port 9943: RPC and Prometheus need ports that",
        ),
        (("--prometheus-port", "65533"), "--prometheus-port 65533: 4 nodes need ports up to 65536, above 65535"),
        (("--no-prometheus", "--prometheus-port", "9700"), "--no-prometheus: expected it without --prometheus-port"),
        (("--full-node", "--no-prometheus", "--prometheus-external"), "and --prometheus-external"),
        (("--full-node", "--rpc-port", "9944", "--port", "9944"), "need other ports than one another"),
        (
            ("--full-node", "--name", "../up"),
            "--name: expected letters, digits, '.', '-' and '_', at most 64, got '../up'",
        ),
        (("--full-node", "--name", ".."), "got '..'"),
        (("--full-node", "--name", ""), "got ''"),
        (("--full-node", "--bootnode", "[::1:1"), "--bootnode: expected HOST:PORT, got '[::1:1'"),
        (("--validator", ""), "expected a key's name, a key file, or //Name"),
        (("--validator", "/"), "cannot read key file /: Is a directory"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refusal("--genesis", TESTNET, "--base-path", tmp_path, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_node_on_every_interface_answers_safe_methods_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    words = ("--full-node", "--rpc-external", f"--rpc-port={port}", "--rpc-cors=https://wallet.example")
    with running_node(tmp_path, *words) as lines:
        assert f"RPC on every interface of this machine, port {port} (safe methods)," in lines[-1]
        assert ask(port, "system_peers").json()["error"]["message"] == "RPC call is unsafe to be called externally"
        assert ask(port, "system_name", origin="https://wallet.example").json()["result"] == "potchain"
        assert ask(port, "consensus_state").json()["result"] is None
        assert ask(port, "system_name", origin="http://localhost:3000").status_code == 403


def test_limits_are_what_the_command_line_says(tmp_path: Path) -> None:
    port = free_port()
    words = ("--full-node", f"--rpc-port={port}", "--rpc-max-request-size=0.25", "--rpc-max-response-size=0.25")
    with running_node(tmp_path, *words):
        too_long = "x" * (256 * 1024)
        assert ask(port, too_long).status_code == 413
        assert ask(port, "system_peers").json()["result"] == []
    pool = NodeFlags(pool_limit=80, pool_kbytes=2048).pool_limits()
    assert (pool.count_max, pool.sender_count_max, pool.bytes_max) == (80, 10, 2 * 2**20)
    assert NodeFlags(pool_limit=1).pool_limits().sender_count_max == 1
    limits = NodeFlags(
        rpc_max_connections=8, rpc_max_subscriptions_per_connection=7, rpc_max_response_size=1.5, rpc_rate_limit=60
    ).limits()
    assert (limits.connections_max, limits.websockets_max, limits.subscriptions_max) == (8, 6, 7)
    assert (limits.response_bytes_max, limits.requests_per_second, limits.requests_burst) == (3 * 2**19, 1.0, 60)
    assert NodeFlags(rpc_max_connections=1).limits().websockets_max == 1
    large = NodeFlags(rpc_max_response_size=16).limits()
    assert large.outbox_bytes_max >= 2 * large.response_bytes_max, "a long answer must not make a subscriber slow"


ALL_FLAGS = NodeFlags(
    rpc_methods=RpcMethods.SAFE,
    rpc_external=True,
    unsafe_rpc_external=True,
    rpc_cors="https://a.example,null",
    rpc_max_connections=9,
    rpc_max_subscriptions_per_connection=8,
    rpc_max_request_size=1.5,
    rpc_max_response_size=2,
    rpc_rate_limit=7,
    sync=SyncMode.WARP,
    state_pruning="archive",
    pool_limit=6,
    pool_kbytes=2048,
    prometheus_external=True,
    no_prometheus=True,
)


def test_every_flag_can_be_passed_on_and_is_one_that_the_help_explains() -> None:
    words = list(ALL_FLAGS.words())
    assert [word.partition("=")[0] for word in words] == [
        "--" + field.name.replace("_", "-") for field in fields(NodeFlags)
    ]
    assert list(NodeFlags().words()) == []
    explained = re.findall(r"^  (--[a-z-]+)", potchain("--help").stdout, re.MULTILINE)
    assert {word.partition("=")[0] for word in words} <= set(explained)


def test_a_launcher_passes_the_flags_to_its_nodes_and_to_nobody_else() -> None:
    words = tuple(ALL_FLAGS.words())
    plan = Launch(load(TESTNET), Path("data"), EVERY_INTERFACE, 9944, 30333, None, words, False, LogFlags())
    told = {child.name for child in _children(plan) if set(words) <= set(child.arguments)}
    untold = {child.name for child in _children(plan) if not set(words) & set(child.arguments)}
    assert told == {"alice", "bob", "charlie", "dave"}
    assert told | untold == {child.name for child in _children(plan)}


def test_development_validators_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    """Their keys are known to all; only unsafe methods are kept from others."""
    port = free_port()
    with running_node(tmp_path, "--validator=alice", "--unsafe-rpc-external", f"--rpc-port={port}") as lines:
        assert "(safe methods)" in lines[-1]
        state = ask(port, "consensus_state").json()["result"]
        assert (state["height"], state["validators"], state["quorum"]) == (1, 4, 3)
    assert NodeFlags(rpc_external=True).access(is_validator=False).host == EVERY_INTERFACE
    assert NodeFlags().access(is_validator=True).host == LOOPBACK
    assert NodeFlags(rpc_external=True, rpc_methods=RpcMethods.UNSAFE).access(is_validator=True).serves_unsafe


def test_unsafe_methods_for_everybody_are_warned_of(tmp_path: Path) -> None:
    with running_node(tmp_path, "--full-node", "--rpc-external", "--rpc-methods=unsafe") as lines:
        assert any("put a proxy that filters methods in front of it" in line for line in lines)
        assert "(safe methods)" not in lines[-1]


def test_a_node_says_which_states_it_keeps_and_may_be_told_otherwise_at_each_start(tmp_path: Path) -> None:
    for words, expected in (
        ((), "those after the last 256 blocks are kept"),
        (("--state-pruning=archive",), "those after all blocks are kept"),
        (("--state-pruning=64",), "those after the last 64 blocks are kept"),
    ):
        with running_node(tmp_path, "--full-node", *words) as lines:
            assert [line.partition("states")[2].strip() for line in lines if "states" in line] == [expected]


def test_nodes_that_know_nobody_are_brought_together_by_their_operator(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    nobody = "--bootnode=127.0.0.1:1"
    with (
        running_node(tmp_path, "--validator=alice", f"--rpc-port={ports[0]}", nobody),
        running_node(tmp_path, "--full-node", f"--rpc-port={ports[1]}", nobody),
    ):
        (address,) = ask(ports[0], "system_localListenAddresses").json()["result"]
        peer = ask(ports[0], "system_localPeerId").json()["result"]
        assert ask(ports[1], "system_addReservedPeer", address).json()["result"] is None
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := ask(ports[1], "system_peers").json()["result"]):
            assert time.monotonic() < deadline
        assert [each["peerId"] for each in found] == ask(ports[1], "system_reservedPeers").json()["result"] == [peer]


@pytest.mark.parametrize(
    "command", [("--genesis", TESTNET), ("--genesis", TESTNET, "--full-node"), ("worker", "--key", "//Eve")]
)
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, command: tuple[str | Path, ...]) -> None:
    file = tmp_path / "file"
    file.touch()
    rpc_port, port = free_port(), free_port()
    ports = () if command[0] == "worker" else ("--rpc-port", str(rpc_port), "--port", str(port), "--no-prometheus")
    message = refusal(*command, "--base-path", file, *ports)
    assert str(file) in message
    assert "--base-path" in message


def test_nodes_on_several_addresses_find_each_other_on_one_and_the_same_port(tmp_path: Path) -> None:
    """As on several machines, each of which uses the default port: here by addresses of the loopback network."""
    port, first, second = free_port(), free_port(), free_port()
    hosts = ("127.0.0.2", "127.0.0.3")
    words = ("--full-node", f"--port={port}", f"--bootnode={hosts[0]}:{port}")
    with (
        running_node(tmp_path / "1", *words, f"--rpc-port={first}", f"--listen-addr={hosts[0]}"),
        running_node(tmp_path / "2", *words, f"--rpc-port={second}", f"--listen-addr={hosts[1]}"),
    ):
        until = time.monotonic() + SECONDS_MAX
        while len(ask(second, "system_peers").json()["result"]) < 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        (address,) = ask(first, "system_localListenAddresses").json()["result"]
        assert address.startswith(f"/ip4/{hosts[0]}/tcp/{port}/")
        with pytest.raises(ConnectionRefusedError), socket.socket() as stranger:
            stranger.connect(("127.0.0.1", port))
