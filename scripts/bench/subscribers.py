"""Runs a validator whose heads 500 clients follow, and prints how long after a block each of them has it.

    .venv/bin/python scripts/bench/subscribers.py [--subscribers 500] [--blocks 20]

The node is a whole one, in a process and on a core of its own, that seals a block a second. A block is there when the
node says so on its terminal; a client has it when the head's bytes are in the clients' process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from math import inf
from pathlib import Path

from figures import machine, verdict

ROOT = Path(__file__).resolve().parent.parent.parent
GOAL_MS = 250.0
# A block comes each second, and 500 clients connect within a few.
WAIT_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
ALONE_BLOCKS_MAX = 5
FILES_BESIDE_CLIENTS = 100
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"chain_subscribeFinalizedHeads","params":[]}'
BLOCK_LINE = re.compile(rb"  block +(\d+)  ")
HEAD = re.compile(rb'"number":"0x([0-9a-f]+)"')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=500, help="how many clients, each with its own WebSocket")
    parser.add_argument("--blocks", type=int, default=20, help="for how many blocks they follow")
    parser.add_argument("--short", action="store_true", help="few clients and blocks, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.subscribers, options.blocks = 10, 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (options.subscribers + FILES_BESIDE_CLIENTS, most))
    print(machine())
    with (
        tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder,
        running_node(Path(folder), options.subscribers) as (node, rpc_port),
        closing(Crowd(node, rpc_port)) as crowd,
    ):
        measure(crowd, node.pid, options.subscribers, options.blocks)


def measure(crowd: Crowd, pid: int, subscribers: int, blocks: int) -> None:
    """Follow the node alone, then with all the clients, and print how they compare."""
    crowd.read_until(lambda: crowd.height >= 2)  # the first block finds caches empty
    alone = _cpu_of_blocks(crowd, pid, min(blocks, ALONE_BLOCKS_MAX))
    for _ in range(subscribers):
        crowd.join()
    crowd.read_until(lambda: all(client.heads for client in crowd.clients))
    first = crowd.height + 1
    crowd.read_until(lambda: crowd.height >= first)
    together = _cpu_of_blocks(crowd, pid, blocks)

    times = [crowd.block_times[height] for height in range(first, first + blocks + 1)]
    delays = [
        [1000 * (client.heads.get(height, inf) - at) for client in crowd.clients]
        for height, at in enumerate(times[:-1], start=first)
    ]
    last = [max(each) for each in delays]
    print(f"{subscribers} subscribers to heads, each on a connection of its own, {blocks} blocks:")
    print(f"  half of them have a head after {_spread([statistics.median(each) for each in delays])}")
    print(f"  all of them have it after      {_spread(last)}   goal {GOAL_MS:g} ms: {verdict(GOAL_MS / max(last))}")
    print(f"  a block comes every            {_spread([1000 * (after - before) for before, after in pairwise(times)])}")
    print(f"  processor time of a block      {1000 * together:.0f} ms, with nobody to tell of it {1000 * alone:.0f} ms")


def _spread(samples: list[float]) -> str:
    return f"{statistics.median(samples):7.1f} ms  ({min(samples):.1f} to {max(samples):.1f})"


def _cpu_of_blocks(crowd: Crowd, pid: int, blocks: int) -> float:
    """Seconds that the node computes for each of the next blocks."""
    before, end = _cpu_seconds(pid), crowd.height + blocks
    crowd.read_until(lambda: crowd.height >= end)
    return (_cpu_seconds(pid) - before) / blocks


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the clients ---


class Client:
    """A WebSocket that follows the heads; reads no more of what it gets than their heights."""

    def __init__(self, rpc_port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", rpc_port))
        self.socket.sendall(HANDSHAKE)
        self.heads: dict[int, float] = {}  # when each came
        self._subscribed = False
        self._unread = b""

    def read(self) -> None:
        """Take what has arrived."""
        data = self.socket.recv(65536)
        now = time.monotonic()
        self._unread += data
        if not self._subscribed and self._unread.startswith(b"HTTP/1.1 101"):
            self.socket.sendall(b"\x81" + bytes([0x80 | len(SUBSCRIBE)]) + bytes(4) + SUBSCRIBE)
            self._subscribed = True
        end = 0
        for match in HEAD.finditer(self._unread):
            self.heads[int(match[1], 16)] = now
            end = match.end()
        self._unread = self._unread[end:]
        if not data:
            raise ConnectionError(f"the node hung up on a client: {self._unread[-300:]!r}")


class Crowd:
    """All the clients and the node's terminal: one thread reads whatever arrives and notes the time."""

    def __init__(self, node: subprocess.Popen[bytes], rpc_port: int) -> None:
        assert node.stdout is not None
        self._rpc_port = rpc_port
        self.clients: list[Client] = []
        self.block_times: dict[int, float] = {}
        self._terminal = node.stdout.fileno()
        self._printed = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._terminal, selectors.EVENT_READ, self._read_terminal)

    @property
    def height(self) -> int:
        """The newest block's."""
        return max(self.block_times, default=0)

    def close(self) -> None:
        """Have all clients go."""
        self._selector.close()
        for client in self.clients:
            client.socket.close()

    def join(self) -> None:
        """Have one more client connect and subscribe."""
        client = Client(self._rpc_port)
        self.clients.append(client)
        self._selector.register(client.socket, selectors.EVENT_READ, client.read)

    def read_until(self, done: Callable[[], bool]) -> None:
        """Read until this is so; TimeoutError when nothing comes."""
        while not done():
            ready = self._selector.select(WAIT_SECONDS_MAX)
            if not ready:
                raise TimeoutError(f"the node has been silent for {WAIT_SECONDS_MAX:g} s after block {self.height}")
            for key, _ in ready:
                key.data()

    def _read_terminal(self) -> None:
        data = os.read(self._terminal, 65536)
        now = time.monotonic()
        self._printed += data
        for match in BLOCK_LINE.finditer(self._printed):
            self.block_times.setdefault(int(match[1]), now)
        if not data:
            raise RuntimeError(f"the node stopped: {self._printed.decode()}")


# --- the node ---


@contextmanager
def running_node(folder: Path, subscribers: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The testnet's first validator as the only one, on the last core, and its RPC port. The other cores are ours."""
    spec = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    del spec["blobs"], spec["genesis"]["training"]
    spec["bootnodes"] = []
    spec["development"] = {"validators": spec["development"]["validators"][:1], "workers": [], "aggregators": []}
    spec["genesis"]["validators"]["authorities"] = spec["genesis"]["validators"]["authorities"][:1]
    (folder / "genesis.json").write_text(json.dumps(spec))
    rpc_port, port = _free_ports(2)
    options = (
        f"--genesis={folder / 'genesis.json'}",
        f"--validator={spec['development']['validators'][0]['name']}",
        f"--base-path={folder / 'data'}",
        f"--rpc-port={rpc_port}",
        f"--rpc-max-connections={2 * subscribers}",  # some are kept for clients without subscriptions
        f"--port={port}",
    )
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "chain", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT) as node:
        try:
            os.sched_setaffinity(node.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1] or cores)
            yield node, rpc_port
        finally:
            node.send_signal(signal.SIGINT)
            try:
                node.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                node.kill()
                raise


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    main()
