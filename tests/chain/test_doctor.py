"""`potchain doctor`: names what is wrong with the command that mends it, and is content where all is well."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain import cli
from chain.folder_lock import lock_folder, sign_lock
from tests.chain.test_cli import TESTNET, running_node
from tests.chain.test_upkeep import base, made, spoil
from tests.chain.test_upkeep import damage as damaged
from tests.chain.test_warp import LENGTH
from tests.ports import free_port

__all__ = ["base", "made"]  # fixtures


@dataclass(frozen=True)
class Visit:
    code: int
    lines: list[dict[str, str]]

    def of(self, what: str, level: str = "") -> list[dict[str, str]]:
        return [line for line in self.lines if line["what"] == what and level in ("", line["level"])]


def visit(capsys: pytest.CaptureFixture[str], *flags: str | Path, keys: Path) -> Visit:
    words = (*flags, "--keystore-path", keys, "doctor", "--no-jax", "--json")
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return Visit(int(ended.value.code or 0), json.loads(capsys.readouterr().out))


@pytest.fixture
def ports() -> tuple[str, ...]:
    return ("--rpc-port", str(free_port()), "--port", str(free_port()))


def test_everything_is_looked_at_and_only_what_is_bad_makes_it_fail(
    base: Path, ports: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: tuple[str | Path, ...] = ("--genesis", base / "genesis.json", "--base-path", base, "--name", "alice", *ports)
    found = visit(capsys, *flags, keys=tmp_path)
    looked_at = {line["what"] for line in found.lines}
    assert looked_at >= {"clock", "disk", "ports", "files", "memory", "peers", "versions", "folder", "database"}
    assert found.code == int(any(line["level"] == "bad" for line in found.lines))
    assert [line["found"] for line in found.of("database")] == [f"block {LENGTH} and its state are whole"]
    assert all(line["mend"] for line in found.lines if line["level"] == "bad")
    assert not list(base.glob(".potchain-doctor*")), "what timed the disk is gone"


def test_a_port_that_something_else_has_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        flags = ("--base-path", tmp_path, "--rpc-port", port, "--port", str(free_port()))
        found = visit(capsys, *flags, keys=tmp_path)
    assert found.code == 1
    (line,) = found.of("ports", "bad")
    assert line["found"] == f"{port} for RPC: Address already in use"
    assert "--rpc-port" in line["mend"]


def test_keys_that_others_can_read_and_folders_that_others_can_write_to_are_bad(
    tmp_path: Path, ports: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "keys" / "mine.key"
    key.parent.mkdir(mode=0o700)
    key.write_text("//Alice\n")
    key.chmod(0o644)
    (tmp_path / "data").mkdir(mode=0o777)
    (tmp_path / "data").chmod(0o777)
    found = visit(capsys, "--base-path", tmp_path / "data", *ports, keys=key.parent)
    assert found.code == 1
    assert [line["mend"] for line in found.of("keys", "bad")] == [f"chmod 600 {key}"]
    assert [line["mend"] for line in found.of("folder", "bad")] == [f"chmod go-w {tmp_path / 'data'}"]
    key.chmod(0o600)
    (tmp_path / "data").chmod(0o700)
    found = visit(capsys, "--base-path", tmp_path / "data", *ports, keys=key.parent)
    assert [line["found"] for line in found.of("keys")] == ["1 key file, for their owner alone"]
    assert found.of("folder", "bad") == []


def test_a_damaged_head_is_bad_and_a_folder_in_use_is_left_alone(
    base: Path, ports: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = base / "alice" / "chain"
    damaged(chain, spoil(b"seals", LENGTH))
    flags: tuple[str | Path, ...] = ("--genesis", base / "genesis.json", "--base-path", base, "--name", "alice", *ports)
    found = visit(capsys, *flags, keys=tmp_path)
    assert found.code == 1
    (line,) = found.of("database", "bad")
    assert line["found"] == f"the seal of block {LENGTH} does not prove it"
    assert line["mend"].endswith("--name alice db revert 1")
    lock_fd = lock_folder(chain)
    sign_lock(lock_fd)
    try:
        found = visit(capsys, *flags, keys=tmp_path)
    finally:
        os.close(lock_fd)
    assert [line["found"] for line in found.of("database")] == [f"in use by process {os.getpid()}"]


@pytest.mark.slow
def test_a_node_that_runs_is_asked_for_its_peers_and_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"--bootnode=127.0.0.1:{free_port()}"  # A testnet of somebody's may run at the genesis file's.
    with running_node(tmp_path, "--full-node", "--no-prometheus", nobody) as lines:
        port = next(line for line in lines if "ready" in line).split("ws://127.0.0.1:")[1].split(",")[0].split(" ")[0]
        flags = ("--genesis", TESTNET, "--full-node", "--base-path", tmp_path, "--rpc-port", port)
        found = visit(capsys, *flags, "--port", str(free_port()), keys=tmp_path)
        unnamed = visit(capsys, "--base-path", tmp_path, "--rpc-port", port, "--port", str(free_port()), keys=tmp_path)
    assert unnamed.of("ports")[0]["found"] == f"{port} for RPC is in use, by a node that answers"
    assert found.code == 1
    assert [line["found"] for line in found.of("peers")] == ["0 connected"]
    assert "--bootnode" in found.of("peers")[0]["mend"]
    assert found.of("clock"), "at genesis there is no time yet to compare with"
    assert "runs the node" in found.of("ports")[0]["found"]
