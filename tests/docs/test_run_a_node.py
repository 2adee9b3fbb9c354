"""docs/operate/run-a-node.md, followed on one chain: the testnet's nodes, full nodes, a validator from nothing.

What the page does to a server (/etc, systemd's folder) is done in a folder, with the same files, rights and settings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, commands
from tests.docs.test_operate import PATIENCE_SECONDS, ask, run
from tests.ports import free_ports

NODES = 7
HEIGHT = 3  # that all nodes have to reach
PASSWORD = b"correct horse\n"


@contextmanager
def running(command: str, folder: Path, name: str) -> Iterator[Path]:
    """A command of the page for as long as the block lasts; the file of what it says. A SIGTERM has to end it well."""
    said = folder / f"{name}.log"
    program, *words = command.split()
    assert program.endswith("potchain")
    with said.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "chain", *words], cwd=folder, stdout=log, stderr=log)
    try:
        yield said
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, said.read_text()


def until(done: Callable[[], bool], logs: list[Path]) -> None:
    """Wait for something to be true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < deadline, [log.read_text() for log in logs]
        time.sleep(0.1)


def follows(port: int) -> bool:
    """Whether the node has come so far."""
    head = ask(port, "chain_getHeader")
    return head is not None and int(head["number"], 16) >= HEIGHT


@pytest.mark.slow
def test_the_page_leads_from_nothing_to_a_validator_that_stands_for_election(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POTCHAIN_BASE_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("POTCHAIN_NO_PROMETHEUS", "true")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("docs", "genesis"):
        (tmp_path / name).symlink_to(ROOT / name)
    genesis = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    (tmp_path / "genesis.json").write_text(json.dumps({**genesis, "blobs": str(ROOT / "genesis" / "blobs")}))
    etc, services = tmp_path / "etc" / "potchain", tmp_path / "etc" / "systemd" / "system"
    services.mkdir(parents=True)

    def here(text: str) -> str:
        """Words of the page, of a unit or of settings, with this folder in place of the machine's."""
        return re.sub(r"(?<![\w.])/(etc|var/lib)/", rf"{tmp_path}/\1/", text)

    # Install
    version, doctor, check = commands("docs/operate/run-a-node.md", "Install")
    assert run(version.split()[1:]) == 0
    assert run(check.split()[1:]) == 0
    assert re.search(r"0x[0-9a-f]{64}", capsys.readouterr().out)
    healthy = run(doctor.split()[1:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert healthy != any(line.startswith("bad") for line in lines), lines

    # A validator, as far as its service
    folder, key, password, settings, unit, *stand = commands("docs/operate/run-a-node.md", "A validator")
    # There is no user of its own, and who types into /dev/stdin is this test.
    for command in (folder, password, settings, unit):
        done = here(re.sub(r"sudo (-u potchain )?| -o potchain", "", command))
        subprocess.run(done, shell=True, input=PASSWORD, check=True)
    words = here(key).removeprefix("sudo -u potchain .venv/bin/potchain ").split()
    with_password = ["--password-filename", str(etc / "password")]
    assert run([*words, *with_password, "--memory", "1"]) == 0
    (address,) = re.findall(r"ed25519 +address (\S+)", capsys.readouterr().out)
    rights = {path.name: path.stat().st_mode & 0o777 for path in (etc, *etc.iterdir())}
    secret = {"potchain": 0o700, "validator.key": 0o600, "password": 0o600}
    assert rights == {**secret, "genesis.json": 0o644, "config.toml": 0o644}
    (etc / "config.toml").write_text(here((etc / "config.toml").read_text()))
    (service,) = re.findall(r"^ExecStart=(.*)", (services / "potchain.service").read_text(), re.MULTILINE)

    # Settings
    (show,) = commands("docs/operate/run-a-node.md", "Settings")
    assert run(here(show).split()[1:]) == 0
    assert str(etc / "validator.key") in capsys.readouterr().out

    # The testnet's nodes one by one, full nodes, and the validator's service: all at once
    *validators, auditor, worker = commands("docs/operate/run-a-node.md", "The testnet's nodes, one by one")
    nodes = dict(zip(("alice", "bob", "charlie", "dave"), validators, strict=True))
    full, warp = commands("docs/operate/run-a-node.md", "A full node")
    nodes |= {"full": f"{full} --name full", "warp": f"{warp} --name warp"}
    nodes["validator"] = here(service.replace("${CREDENTIALS_DIRECTORY}", "/etc/potchain"))
    port, logs = free_ports(2 * NODES), list[Path]()
    first, own = f"ws://127.0.0.1:{port}", f"ws://127.0.0.1:{port + NODES - 1}"
    with ExitStack() as stack:
        for number, (name, command) in enumerate(nodes.items()):
            ports = f"--rpc-port {port + number} --port {port + NODES + number} --bootnode 127.0.0.1:{port + NODES}"
            logs.append(stack.enter_context(running(f"{command} {ports}", tmp_path, name)))
        for name, command in {"auditor": auditor, "worker": worker}.items():
            command = f"{command.replace('ws://127.0.0.1:9944', first)} --base-path data"
            logs.append(stack.enter_context(running(command, tmp_path, name)))
        until(lambda: all(follows(port + number) for number in range(NODES)), logs)

        # A validator, once it has caught up
        assert run(["tx", "transfer", address, "1100", "--from", "//Alice", "--yes", "--node", first]) == 0
        for command in stand:
            capsys.readouterr()
            words = command.replace("validator.key", str(etc / "validator.key")).split()[1:]
            words[words.index("ws://127.0.0.1:9944")] = own
            assert run([*words, *with_password]) == 0, (command, capsys.readouterr())
        status = capsys.readouterr().out
        assert re.search(r"^bonded +1,000 POT$", status, re.MULTILINE), status
        assert re.search(r"^candidate +yes$", status, re.MULTILINE), status
        until(lambda: "registered: can be drawn" in (tmp_path / "worker.log").read_text(), logs)
    alice = genesis["genesis"]["balances"]["balances"][0][0]
    assert f"works as {alice}" in (tmp_path / "auditor.log").read_text()
