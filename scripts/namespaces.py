"""Tries docs/operate/public-testnet.md as four operators would, each on a machine of its own: a network namespace.

    sudo .venv/bin/python scripts/namespaces.py

Needs root, for the namespaces, and iproute2. Every node knows the first one alone. What has to hold: all find each
other; when the first is gone the others go on, one of them restarts and finds the rest by the addresses that it kept; a
full node that begins later follows; and the first comes back. Takes some minutes, and prints what it sees.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POTCHAIN = Path(sys.executable).with_name("potchain")
OPERATORS = 4
PORT = 30333
PATIENCE_S = 120.0
# In 198.18.0.0/15, which is for measurements: no address of it is anybody's.
NETWORK = "198.18.7"
ASK = """
import json, sys, urllib.request
call = {"jsonrpc": "2.0", "id": 1, "method": sys.argv[1], "params": json.loads(sys.argv[2])}
headers = {"content-type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:9944", json.dumps(call).encode(), headers)
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def machines(count: int) -> Iterator[list[str]]:
    """Namespaces on one bridge, with addresses 1, 2, … of the network; they are gone in the end."""
    tag = f"pot{os.getpid() % 10_000}"
    hub, names = f"{tag}hub", [f"{tag}n{number}" for number in range(1, count + 1)]
    with ExitStack() as undo:
        for name in (hub, *names):
            ip("netns", "add", name)
            undo.callback(ip, "netns", "delete", name)
        ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            port = f"port{number}"
            ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", hub, "link", "set", port, "master", "bridge", "up")
            ip("-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield names


class Operator:
    """Somebody with a machine, a key of its own there, and the genesis file."""

    def __init__(self, machine: str, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def run(self, *words: str | Path) -> str:
        """A command on the machine; what it printed."""
        command = ["ip", "netns", "exec", self.machine, str(POTCHAIN), *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.folder).stdout

    def start(self, *words: str) -> None:
        """Run a node in the background."""
        command = ["ip", "netns", "exec", self.machine, str(POTCHAIN), "--genesis", "genesis.json", *words]
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--base-path", "data"], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the node; an orderly end takes seconds."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def ask(self, method: str, *params: object) -> Any:
        """Something of the node; None while it does not answer."""
        command = ["ip", "netns", "exec", self.machine, sys.executable, "-c", ASK, method, json.dumps(params)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(done.stdout).get("result") if done.returncode == 0 else None

    @property
    def height(self) -> int:
        header = self.ask("chain_getHeader")
        return -1 if header is None else int(header["number"], 16)

    @property
    def peers(self) -> list[str]:
        """At which addresses its peers are."""
        return sorted(peer["address"] for peer in self.ask("system_peers") or ())


def wait_for(what: str, operators: Sequence[Operator], height: int, peers: int) -> None:
    """Wait until all are at a height, with so many peers each, and say so; ends the script if they do not get there."""
    started = time.monotonic()
    while True:
        seen = [(operator.height, operator.peers) for operator in operators]
        if all(at >= height and len(found) >= peers for at, found in seen):
            print(f"{time.monotonic() - started:5.1f} s  {what}: heights {[at for at, _ in seen]}")
            for operator, (_, found) in zip(operators, seen, strict=True):
                print(f"         {operator.folder.name}: {', '.join(found)}")
            return
        if time.monotonic() - started > PATIENCE_S:
            for operator in operators:
                print(operator.folder.name, (operator.folder / "node.log").read_text()[-2000:])
            raise SystemExit(f"error: {what}: expected height {height} and {peers} peers each, got {seen}")
        time.sleep(0.5)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if os.geteuid() != 0:
        raise SystemExit("error: network namespaces need root: run this with sudo")
    with TemporaryDirectory() as base, machines(OPERATORS + 1) as names, ExitStack() as running:
        operators = [Operator(name, Path(base) / f"operator{number}") for number, name in enumerate(names, 1)]
        first, *others, guest = operators
        validators = [first, *others]
        for operator in operators:
            running.callback(operator.stop, signal.SIGKILL)
        # Each makes a key and sends what is public of it; one makes the file of that, and sends it to all.
        for operator in validators:
            operator.run("key", "new", "-o", "validator.key", "--no-password")
            (operator.folder / "public").write_text(operator.run("key", "inspect", "validator.key"))
        entries = [word for operator in validators for word in ("--validator", operator.folder / "public")]
        address = f"{NETWORK}.1:{PORT}"
        made = first.run(
            "genesis", "new", "--name", "Four Operators", "-o", "genesis.json", *entries, "--bootnode", address
        )
        print(made.strip())
        document = (first.folder / "genesis.json").read_text()
        for operator in (*others, guest):
            (operator.folder / "genesis.json").write_text(document)
            operator.run("genesis", "check", "genesis.json")
        for operator in validators:
            operator.start("--validator", "validator.key")
        wait_for("all four are connected, each with each", validators, 5, 3)
        first.stop()
        wait_for("the one that all began with is gone", others, others[0].height + 5, 2)
        others[0].stop()
        others[0].start("--validator", "validator.key")
        wait_for("one has restarted without it", others, others[1].height + 5, 2)
        # It knows one that is there: the genesis file's bootnode is not.
        guest.start("--full-node", "--bootnode", f"{NETWORK}.3:{PORT}")
        wait_for("a full node follows", [*others, guest], others[1].height + 2, 3)
        first.start("--validator", "validator.key")
        wait_for("the first is back", operators, others[1].height + 5, 4)
        seal = first.ask("consensus_getSeal", first.ask("chain_getBlockHash", others[1].height))
        print(f"its seal: {json.dumps(seal)[:300]}")
        started = time.monotonic()
        for operator in operators:
            operator.stop()
        print(f"{time.monotonic() - started:5.1f} s  all have stopped at a SIGTERM")


if __name__ == "__main__":
    main()
