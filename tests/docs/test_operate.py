"""docs/operate, followed: every command of its pages is run, and what it says of units and settings is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chain import cli
from chain.settings import settings_of
from tests.chain.test_upkeep import base, made
from tests.docs.pages import ROOT, commands
from tests.ports import free_ports

__all__ = ["base", "made"]  # fixtures

PAGES = ROOT / "docs" / "operate"
PATIENCE_SECONDS = 240.0


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_every_command_about_data_does_what_the_page_says(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(base)
    monkeypatch.setenv("POTCHAIN_BASE_PATH", str(base))
    found = commands("docs/operate/database.md", "A node's data")
    assert [command.split()[6] for command in found] == ["check", "compact", "export", "import", "revert", "purge"]
    for command in found:
        program, *words = command.split()
        assert program == "potchain"
        assert run([*words, "--yes"] if "purge" in words else words) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert "ok        nothing is wrong" in out
    assert "40 blocks imported; the chain is at block 40" in out
    assert "3 blocks taken off" in out


def test_the_settings_of_a_validator_are_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", str(PAGES / "config.toml"), "config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    given = {key for key, row in shown.items() if row["from"] == str(PAGES / "config.toml")}
    assert given == {"genesis", "validator", "base-path", "name"}
    # The line that is commented out is one, too.
    assert {"public-addr", "password-filename"} <= {setting.key for setting in settings_of(cli.command_line())}


def test_the_page_for_a_server_names_flags_and_commands_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    known = {f"--{setting.flag}" for setting in settings_of(cli.command_line())} | {"--version", "--config", "--help"}
    for page in ("run-a-node.md", "database.md", "public-testnet.md"):
        for flag in re.findall(r"(?<![-\w])--[a-z][a-z-]+", (PAGES / page).read_text()):
            if flag not in {"--system", "--home-dir", "--shell", "--now"}:  # of other programs
                assert flag in known, f"{page}: {flag}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = tmp_path / "potchain.service"
    # Its program has to be there.
    unit.write_text(
        (PAGES / "potchain.service").read_text().replace("/opt/potchain/.venv/bin/potchain", sys.executable)
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@contextmanager
def node(folder: Path, log: Path, *words: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "chain", *words], cwd=folder, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def ask(port: int, method: str) -> Any:
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}", call, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["result"]
    except OSError:
        return None


@pytest.mark.slow
def test_four_operators_come_from_keys_to_blocks_and_each_finds_each_from_one_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    new, inspect, make, check, start = (
        command.split() for command in commands("docs/operate/public-testnet.md", "Before the first block")
    )
    assert (new[1:3], inspect[1:3], make[1:3], check[1:3]) == (
        ["key", "new"],
        ["key", "inspect"],
        ["genesis", "new"],
        ["genesis", "check"],
    )
    port = free_ports(6)
    for number in range(1, 5):
        folder = tmp_path / f"operator{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert run([*new[1:], "--no-password"]) == 0
        capsys.readouterr()
        assert run(inspect[1 : inspect.index(">")]) == 0
        (tmp_path / f"op{number}.public").write_text(capsys.readouterr().out)
    monkeypatch.chdir(tmp_path)
    words = " ".join(make[1:]).replace('"Public Testnet"', "Public").replace("192.0.2.1:30333", f"127.0.0.1:{port}")
    assert run(words.split()) == 0
    assert run(check[1:]) == 0
    with ExitStack() as running:
        for number in range(1, 5):
            folder = tmp_path / f"operator{number}"
            shutil.copy(tmp_path / "genesis.json", folder)
            # On one machine each has an address of its own, from which its connections do not come.
            place = (f"--listen-addr=127.0.0.{number}", f"--port={port}", f"--public-addr=127.0.0.{number}:{port}")
            rest = (f"--rpc-port={port + number}", "--no-prometheus", "--base-path=data")
            running.enter_context(node(folder, folder / "log", *start[1:], *place, *rest))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            heights = [ask(port + number, "chain_getHeader") for number in range(1, 5)]
            peers = [ask(port + number, "system_health") for number in range(1, 5)]
            connected = all(health is not None and health["peers"] == 3 for health in peers)
            if connected and all(header is not None and int(header["number"], 16) >= 2 for header in heights):
                break
            assert time.monotonic() < deadline, [(tmp_path / f"operator{n}" / "log").read_text() for n in range(1, 5)]
            time.sleep(0.2)
