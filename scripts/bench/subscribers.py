"""Runs a validator whose heads 500 clients follow, and prints how long after a block each of them has it.

    .venv/bin/python scripts/bench/subscribers.py [--subscribers 500] [--blocks 20] [--transfers 300]

The node is a whole one, in a process and on a core of its own, that seals a block a second: first empty ones, then ones
full of transfers that are submitted meanwhile. A block is there when the node says so on its terminal, or when the
first client has it, if that is earlier; a client has it when the head's bytes are in the clients' process.
"""

from __future__ import annotations

import argparse
import hashlib
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import pairwise
from math import inf
from pathlib import Path

from figures import heading, machine, record, verdict
from ports import free_run

from chain.primitives import ss58
from chain.primitives.keys import Keypair
from chain.primitives.types import sign_extrinsic
from runtime.potchain import RUNTIME
from runtime.testing import ENDOWMENT

ROOT = Path(__file__).resolve().parent.parent.parent
GOAL_MS = 250.0
# A block comes each second, and 500 clients connect within a few.
WAIT_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
ALONE_BLOCKS = 2
# As many as a client may send at once.
BATCH = 50
FILES_BESIDE_CLIENTS = 100
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: bench\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"chain_subscribeFinalizedHeads","params":[]}'
BLOCK_LINE = re.compile(rb"  block +(\d+)  .*?  (\d+) tx\b")
HEAD = re.compile(rb'"number":"0x([0-9a-f]+)"')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=500, help="how many clients, each with its own WebSocket")
    parser.add_argument("--blocks", type=int, default=20, help="for how many blocks they follow")
    parser.add_argument("--transfers", type=int, default=300, help="how many are submitted after each block")
    parser.add_argument("--short", action="store_true", help="few clients and blocks, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.subscribers, options.blocks, options.transfers = 10, 1, 5
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (options.subscribers + FILES_BESIDE_CLIENTS, most))
    print(machine())
    senders = [Keypair.from_seed(hashlib.sha256(b"sender %d" % each).digest()) for each in range(options.transfers)]
    with (
        tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder,
        running_node(Path(folder), options.subscribers, senders) as (node, rpc_port),
        closing(Crowd(node, rpc_port)) as crowd,
    ):
        crowd.follow_to(2)  # the first block finds caches empty
        cpu = _cpu_seconds(node.pid)
        crowd.follow_to(2 + ALONE_BLOCKS)
        cpu = (_cpu_seconds(node.pid) - cpu) / ALONE_BLOCKS
        print(f"an empty block that nobody follows costs the node {1000 * cpu:.1f} ms of processor time")
        record("an empty block that nobody follows, processor time", [1000 * cpu], "ms")
        for _ in range(options.subscribers):
            crowd.join()
        crowd.read_until(lambda: all(client.heads for client in crowd.clients))
        measure(crowd, node.pid, options.blocks, lambda: None)
        with submitting(rpc_port, senders, options.blocks + 3) as submit_more:
            submit_more()
            measure(crowd, node.pid, options.blocks, submit_more, options.transfers)


def measure(crowd: Crowd, pid: int, blocks: int, at_block: Callable[[], None], submitted: int = 0) -> None:
    """Follow so many blocks, with `at_block` called at each to submit so many, and print when the clients had them."""
    first = crowd.height + 1
    crowd.follow_to(first)
    cpu = _cpu_seconds(pid)
    for height in range(first + 1, first + blocks + 1):
        at_block()
        crowd.follow_to(height)
    cpu = (_cpu_seconds(pid) - cpu) / blocks

    seen = [crowd.blocks[height] for height in range(first, first + blocks + 1)]
    delays = []
    for height, block in enumerate(seen[:-1], start=first):
        came = [client.heads.get(height, inf) for client in crowd.clients]
        # A thread writes the node's log: the first client may have a head before the line about it is out.
        there = min(block.time, *came)
        delays.append([1000 * (each - there) for each in came])
    last = [max(each) for each in delays]
    transactions = statistics.median(block.transactions for block in seen[:-1])
    intervals = [1000 * (after.time - before.time) for before, after in pairwise(seen)]
    half = [statistics.median(each) for each in delays]
    heading(
        f"{len(crowd.clients)} subscribers to heads, {blocks} blocks of {transactions:g} transactions",
        f"{len(crowd.clients)} subscribers to heads, {blocks} blocks, {submitted} transfers submitted at each",
    )
    record("half of them have a head after", half, "ms")
    record("all of them have a head after", last, "ms", goal=GOAL_MS, held=max(last))
    record("a block costs the node, processor time", [1000 * cpu], "ms")
    print(f"  half of them have a head after {_spread(half)}")
    print(f"  all of them have it after      {_spread(last)}   goal {GOAL_MS:g} ms: {verdict(GOAL_MS / max(last))}")
    print(f"  a block comes every            {_spread(intervals)}")
    print(f"  and costs the node             {1000 * cpu:7.1f} ms of processor time", flush=True)


def _spread(samples: list[float]) -> str:
    return f"{statistics.median(samples):7.1f} ms  ({min(samples):.1f} to {max(samples):.1f})"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the clients ---


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the node's terminal tells of it."""

    time: float
    transactions: int


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
        self.blocks: dict[int, Block] = {}
        self._terminal = node.stdout.fileno()
        self._printed = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._terminal, selectors.EVENT_READ, self._read_terminal)

    @property
    def height(self) -> int:
        """The newest block's."""
        return max(self.blocks, default=0)

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

    def follow_to(self, height: int) -> None:
        """Read until the node tells of a block of this height."""
        self.read_until(lambda: self.height >= height)

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
            self.blocks.setdefault(int(match[1]), Block(now, int(match[2])))
        if not data:
            raise RuntimeError(f"the node stopped: {self._printed.decode()}")


# --- transfers ---


@contextmanager
def submitting(rpc_port: int, senders: Sequence[Keypair], rounds: int) -> Iterator[Callable[[], None]]:
    """Whoever calls what this gives has one more transfer of each sender submitted, by a thread; `rounds` at most."""
    genesis_hash = bytes.fromhex(_post(rpc_port, [("chain_getBlockHash", 0)])[0][2:])
    call = RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=senders[0].public, value=1))
    waiting = [[_signed(sender, call, nonce, genesis_hash) for sender in senders] for nonce in reversed(range(rounds))]
    sent: list[Future[None]] = []

    def send(transactions: list[str]) -> None:
        for first in range(0, len(transactions), BATCH):
            _post(rpc_port, [("author_submitExtrinsic", each) for each in transactions[first : first + BATCH]])

    with ThreadPoolExecutor(1) as thread:
        yield lambda: sent.append(thread.submit(send, waiting.pop()))
    for each in sent:
        each.result()


def _signed(sender: Keypair, call: bytes, nonce: int, genesis_hash: bytes) -> str:
    versions = RUNTIME.version
    signed = sign_extrinsic(
        sender,
        call,
        nonce=nonce,
        spec_version=versions.spec_version,
        transaction_version=versions.transaction_version,
        genesis_hash=genesis_hash,
    )
    return "0x" + signed.hex()


def _post(rpc_port: int, calls: Sequence[tuple[str, object]]) -> list[str]:
    """The results of calls that all succeed."""
    batch = [{"jsonrpc": "2.0", "id": 1, "method": method, "params": [argument]} for method, argument in calls]
    with closing(HTTPConnection("127.0.0.1", rpc_port, timeout=WAIT_SECONDS_MAX)) as connection:
        connection.request("POST", "/", json.dumps(batch), {"content-type": "application/json"})
        answers = json.load(connection.getresponse())
    for each in answers:
        if "error" in each:
            raise RuntimeError(f"the node refused a call of the benchmark: {each['error']}")
    return [each["result"] for each in answers]


# --- the node ---


@contextmanager
def running_node(
    folder: Path, subscribers: int, rich: Sequence[Keypair]
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The testnet's first validator as the only one, on the last core, and its RPC port. The other cores are ours."""
    spec = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    del spec["blobs"], spec["genesis"]["training"]
    spec["bootnodes"] = []
    spec["development"] = {"validators": spec["development"]["validators"][:1], "workers": [], "aggregators": []}
    spec["genesis"]["validators"]["authorities"] = spec["genesis"]["validators"]["authorities"][:1]
    spec["genesis"]["balances"]["balances"] += [[ss58.encode(each.public), ENDOWMENT] for each in rich]
    (folder / "genesis.json").write_text(json.dumps(spec))
    rpc_port = free_run(2)
    port = rpc_port + 1
    options = (
        f"--genesis={folder / 'genesis.json'}",
        f"--validator={spec['development']['validators'][0]['name']}",
        f"--base-path={folder / 'data'}",
        f"--rpc-port={rpc_port}",
        f"--rpc-max-connections={2 * subscribers}",  # some are kept for clients without subscriptions
        f"--port={port}",
        "--no-prometheus",
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


if __name__ == "__main__":
    main()
