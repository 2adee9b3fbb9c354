"""Sends signed transfers to four validators at growing rates, and prints how many are final a second, and how soon.

    .venv/bin/python scripts/bench/transfers.py [--rates 200 400 800 1200] [--seconds 20] [--scheme sr25519]

Whole nodes, each a process of its own, seal a block a second. Transfers are signed beforehand, by many accounts, and
sent when they are due, to one node after the other, over WebSockets as wallets use: a node that is slow delays none of
them, and each counts from when it was due. One is final when the head that holds it has come over a subscription. The
clients share the machine with the nodes; what they take is shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import trio
from figures import heading, machine, record, verdict
from ports import free_run
from processes import TICKS
from trio_websocket import WebSocketConnection, open_websocket_url

from chain.development import ACCOUNTS, authority, endowed, processes
from chain.primitives import ss58
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import sign_extrinsic
from chain.rpc.client import Client
from runtime.modules.balances import POT
from runtime.potchain import RUNTIME

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ACCOUNTS[:4]
GOAL = 800.0  # final transfers a second
GOAL_SECONDS = 2.0  # from submission to finality, half of them
# A connection may make a thousand calls a second.
CONNECTIONS_EACH = 2
START_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 60.0
# After these nothing of one rate is left in the pools.
REST_BLOCKS = 2
MESSAGE_BYTES_MAX = 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[200, 400, 800, 1200], help="transfers a second")
    parser.add_argument("--seconds", type=float, default=20, help="for how long, at each rate")
    parser.add_argument("--senders", type=int, default=2000, help="how many accounts send them in turn")
    parser.add_argument(
        "--scheme", choices=[each.name.lower() for each in Scheme], default="ed25519", help="how they sign"
    )
    parser.add_argument("--short", action="store_true", help="few and slow, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.rates, options.seconds, options.senders = [20], 2, 10
    print(machine())
    scheme = Scheme[options.scheme.upper()]
    senders = [Keypair.from_seed(blake2_256(b"sender %d" % i), scheme) for i in range(options.senders)]
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name, running_nodes(Path(name), senders) as nodes:
        trio.run(measure, nodes, senders, options.rates, options.seconds)


@dataclass(frozen=True, slots=True)
class Nodes:
    """Four validators that run."""

    pids: tuple[int, ...]
    urls: tuple[str, ...]

    def cpu_seconds(self) -> float:
        """What all of them have spent so far."""
        return sum(_cpu_seconds(pid) for pid in self.pids)


@contextmanager
def running_nodes(folder: Path, senders: list[Keypair]) -> Iterator[Nodes]:
    """The validators, from an empty folder, with money for the senders."""
    (folder / "genesis.json").write_text(json.dumps(_genesis(senders)))
    first = free_run(2 * len(NAMES))
    running: list[subprocess.Popen[bytes]] = []
    try:
        for place, name in enumerate(NAMES):
            command = [
                sys.executable,
                "-m",
                "chain",
                f"--genesis={folder / 'genesis.json'}",
                "--supervised",
                "--no-prometheus",
            ]
            command += [f"--validator={name.lower()}", f"--base-path={folder}"]
            command += [f"--rpc-port={first + place}", f"--port={first + len(NAMES) + place}"]
            command += [f"--bootnode=127.0.0.1:{first + len(NAMES) + other}" for other in range(len(NAMES))]
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT))
        urls = tuple(f"ws://127.0.0.1:{first + place}" for place in range(len(NAMES)))
        yield Nodes(tuple(process.pid for process in running), urls)
    finally:
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        for process in running:
            process.wait(30)


def _genesis(senders: list[Keypair]) -> dict[str, Any]:
    return {
        "name": "Transfers",
        "id": "transfers",
        "chainType": "Development",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
        "consensus": {"blockTimeMs": 1000, "timeoutMs": 3000, "timeoutMsMax": 12000},
        "development": {"validators": processes(NAMES)},
        "genesis": {
            "balances": {"balances": [*endowed(), *([ss58.encode(key.public), 1000 * POT] for key in senders)]},
            "validators": {"authorities": [authority(name) for name in NAMES]},
        },
    }


# --- the run


@dataclass(slots=True)
class Step:
    """One rate: when each transfer was due and when it was seen to be final, by hash."""

    rate: int
    due: dict[Hash, float] = field(default_factory=dict)
    final: dict[Hash, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    blocks: list[tuple[float, int]] = field(default_factory=list)  # when each was seen, and its transfers
    late: float = 0.0  # seconds by which the clients sent the latest behind its time


async def measure(nodes: Nodes, senders: list[Keypair], rates: list[int], seconds: float) -> None:
    """Each rate in turn, with what it showed."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client.reconnecting([nodes.urls[0]]))
        with trio.fail_after(START_SECONDS_MAX):
            await _heads(client, REST_BLOCKS)
        genesis_hash = bytes.fromhex((await client.request("chain_getBlockHash", 0))[2:])
        links = [
            await stack.enter_async_context(open_websocket_url(url, max_message_size=MESSAGE_BYTES_MAX))
            for _ in range(CONNECTIONS_EACH)
            for url in nodes.urls
        ]
        scheme = senders[0].scheme.name.lower()
        heading(f"{len(NAMES)} validators, {len(senders)} senders, {scheme}, {seconds:g} s at each rate")
        signed = Signed(senders, genesis_hash)
        for rate in rates:
            transfers = signed.next(max(1, round(rate * seconds)))
            cpu, own = nodes.cpu_seconds(), time.process_time()
            step = await run(client, links, rate, transfers)
            report(step, nodes.cpu_seconds() - cpu, time.process_time() - own)
            await _heads(client, REST_BLOCKS)


class Signed:
    """Transfers among the senders, each with the next nonce of who sends it."""

    def __init__(self, senders: list[Keypair], genesis_hash: Hash) -> None:
        self._senders = cycle(enumerate(senders))
        self._all = senders
        self._nonces: Counter[int] = Counter()
        self._genesis_hash = genesis_hash

    def next(self, count: int) -> list[bytes]:
        """So many more, as extrinsics."""
        return [self._one() for _ in range(count)]

    def _one(self) -> bytes:
        place, sender = next(self._senders)
        receiver = self._all[(place + 1) % len(self._all)]
        call = RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=receiver.public, value=1))
        nonce = self._nonces[place]
        self._nonces[place] += 1
        return sign_extrinsic(
            sender,
            call,
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self._genesis_hash,
        )


async def run(client: Client, links: list[WebSocketConnection], rate: int, transfers: list[bytes]) -> Step:
    """Send all of them at their times, and wait until they are final, or no more become so."""
    step, begin = Step(rate), trio.current_time() + 0.5
    for place, raw in enumerate(transfers):
        step.due[blake2_256(raw)] = begin + place / rate
    async with trio.open_nursery() as nursery:
        async with client.subscribe("chain_subscribeFinalizedHeads") as heads:
            for number, link in enumerate(links):
                nursery.start_soon(_send, link, transfers, number, len(links), begin, step)
                nursery.start_soon(_hear, link, step)
            with trio.move_on_at(begin + len(transfers) / rate + DRAIN_SECONDS_MAX):
                async for head in heads:
                    await _take_note(client, head, step)
                    if len(step.final) + step.refused.total() >= len(transfers):
                        break
        nursery.cancel_scope.cancel()
    return step


async def _send(
    link: WebSocketConnection, transfers: list[bytes], first: int, stride: int, begin: float, step: Step
) -> None:
    """This connection's share of the transfers, each at its time whatever became of those before."""
    for place in range(first, len(transfers), stride):
        due = begin + place / step.rate
        await trio.sleep_until(due)
        raw = f"0x{transfers[place].hex()}"
        await link.send_message(
            f'{{"jsonrpc":"2.0","id":{place},"method":"author_submitExtrinsic","params":["{raw}"]}}'
        )
        step.late = max(step.late, trio.current_time() - due)


async def _hear(link: WebSocketConnection, step: Step) -> None:
    """Count what the node refuses."""
    while True:
        answer = json.loads(await link.get_message())
        if "error" in answer:
            step.refused[str(answer["error"].get("message"))] += 1


async def _take_note(client: Client, head: dict[str, Any], step: Step) -> None:
    """Which transfers a new head holds, and when it came."""
    seen = trio.current_time()
    block_hash = await client.request("chain_getBlockHash", int(head["number"], 16))
    extrinsics = (await client.request("chain_getBlock", block_hash))["block"]["extrinsics"]
    hashes = [blake2_256(bytes.fromhex(text[2:])) for text in extrinsics]
    ours = [each for each in hashes if each in step.due]
    step.final.update((each, seen) for each in ours)
    step.blocks.append((seen, len(ours)))


async def _heads(client: Client, count: int) -> None:
    async with client.finalized_heads() as heads:
        for _ in range(count):
            await anext(heads)


def report(step: Step, nodes_cpu: float, own_cpu: float) -> None:
    """What a rate showed."""
    waits = sorted(final - step.due[each] for each, final in step.final.items())
    full = [(seen, count) for seen, count in step.blocks if count]
    if not waits or len(full) < 2:
        print(f"  {step.rate:5} a second: {len(waits)} final of {len(step.due)}; refused: {dict(step.refused)}")
        return
    # The first block's transfers were there before its time began.
    rate = sum(count for _, count in full[1:]) / (full[-1][0] - full[0][0])
    half, most = statistics.median(waits), waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    print(
        f"  {step.rate:5} a second: {rate:6.0f} final a second, {len(waits)} of {len(step.due)}; "
        f"final after {half:.2f} s (p50), {most:.2f} s (p99), at most {waits[-1]:.2f} s"
    )
    each = 1000 * nodes_cpu / len(waits) / len(NAMES)
    apart = statistics.median(after[0] - before[0] for before, after in pairwise(full))
    largest = max(count for _, count in full)
    print(
        f"        a node's processor time {each:.2f} ms a transfer; all nodes took {nodes_cpu:.1f} s, the clients "
        f"{own_cpu:.1f} s, and were {step.late:.2f} s late at most"
    )
    print(f"        blocks {apart:.2f} s apart, with {largest} transfers at most")
    offered = f"{step.rate} a second"
    record(f"{offered}: final", [rate], "a second", better="more", goal=GOAL)
    record(f"{offered}: final after, p50", [half], "s", goal=GOAL_SECONDS)
    record(f"{offered}: final after, p99", [most], "s")
    record(f"{offered}: a transfer, processor time of a node", [each], "ms")
    for reason, count in step.refused.most_common(3):
        print(f"        refused {count}: {reason}")
    print(
        f"        goal {GOAL:g} a second: {verdict(rate / GOAL)}; "
        f"p50 in {GOAL_SECONDS:g} s: {verdict(GOAL_SECONDS / half)}",
        flush=True,
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
