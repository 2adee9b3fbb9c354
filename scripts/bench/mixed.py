"""A mixed load on a testnet: people who pay, train, look, subscribe, upload and vanish, and a worker that dies.

Rule: nothing that goes wrong ends the load; it is counted in its own words, and whoever it met comes again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import trio

from chain import tasks
from chain.light.checkpoint import Checkpoint
from chain.light.client import ask_nodes
from chain.light.follower import Steps, follow, read
from chain.primitives import ss58
from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.types import sign_extrinsic
from chain.rpc.client import Client, ClientError, RpcError
from chain.rpc.link import Stream, open_link
from genesis.spec import GenesisSpec, load
from runtime.modules.balances import POT
from runtime.modules.system import System
from runtime.modules.training_genesis import read_tasks
from runtime.modules.training_types import Terms
from runtime.potchain import RUNTIME
from trainer import dataset

ROOT = Path(__file__).resolve().parent.parent.parent
GENESIS = ROOT / "genesis" / "testnet.json"
# A sender's transfer is final long before its next one is due.
SENDER_SECONDS = 4.0
# How often a sender asks which nonce is its next: one whose transfer was lost is stuck for a minute.
NONCE_EVERY = 15
REST_SECONDS = 1.0
TASK_SECONDS_MAX = 900.0
STRAY_BYTES = 64 * 1024
VISIT_SECONDS_MAX = 8.0
ANSWER_SECONDS_MAX = 10.0
# More of one kind at once would be a load that piles up, which nobody's is.
AT_ONCE_MAX = 20
PARAMETERS_SPREAD = 0.05
EVENTS_KEY = "0x26aa394eea5630e07c48ae0c9558cef780d41e5e16056765bc8461851072c9d7"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: soak\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
SUBSCRIPTIONS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("chain_subscribeFinalizedHeads", ()),
    ("chain_subscribeNewHeads", ()),
    ("chain_subscribeAllHeads", ()),
    ("state_subscribeRuntimeVersion", ()),
    ("state_subscribeStorage", ([EVENTS_KEY],)),
    ("consensus_subscribeSeals", ()),
)
JUNK = (b"", b"GET / HTTP/1.1\r\n" + b"x" * 70_000, b"\xff" * 8, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def testnet_without_tasks(
    folder: Path, rich: Sequence[Keypair], validators: int, workers: int, block_ms: int | None
) -> tuple[GenesisSpec, Terms]:
    """The testnet's genesis file with so many of its processes and tokens for more accounts; and its task's terms."""
    chain = json.loads(GENESIS.read_text())
    (_, terms), *_ = read_tasks("training", chain["genesis"].pop("training"))
    chain["bootnodes"] = []
    chain["consensus"]["blockTimeMs"] = block_ms or chain["consensus"]["blockTimeMs"]
    development, authorities = chain["development"], chain["genesis"]["validators"]["authorities"]
    del development["validators"][validators:], development["workers"][workers:], authorities[validators:]
    chain["blobs"] = str(GENESIS.parent / chain["blobs"])
    chain["genesis"]["balances"]["balances"] += [[ss58.encode(key.public), 1_000 * POT] for key in rich]
    (folder / "genesis.json").write_text(json.dumps(chain))
    return load(folder / "genesis.json"), terms


def new_task(spec: GenesisSpec, terms: Terms, number: int, rounds: int) -> tasks.Offer:
    """The genesis file's task with its rows in another order, and with parameters that nobody had before."""
    folder = spec.blobs
    assert folder is not None
    draw = np.random.default_rng(number)
    blobs: dict[Hash, bytes] = {}

    def put(data: bytes) -> Hash:
        root = blob_root(data)
        blobs[root] = data
        return root

    def shuffled(split: dataset.Split) -> dataset.Split:
        order = draw.permutation(split.count)
        arrays = [np.frombuffer((folder / root.hex()).read_bytes(), np.uint8) for root in (split.x, split.y)]
        x, y = (put(array.reshape(split.count, -1)[order].tobytes()) for array in arrays)
        return dataset.Split(x, y, split.count)

    manifest = dataset.parse((folder / terms.dataset_root.hex()).read_bytes())
    params = draw.normal(0, PARAMETERS_SPREAD, terms.storage.parameters).astype("<f4")
    return tasks.Offer(
        name=f"task {number}",
        program_root=put((folder / terms.program_root.hex()).read_bytes()),
        dataset_root=put(dataset.encode(dataset.Manifest(shuffled(manifest.train), shuffled(manifest.held_out)))),
        params_root=put(params.tobytes()),
        blobs=blobs,
        optimizer=terms.optimizer,
        policy=terms.policy,
        rounds=rounds,
        price_per_slot=terms.price_per_slot,
    )


@dataclass(frozen=True)
class Network:
    """A testnet that runs: where it is, and whose keys have tokens there."""

    spec: GenesisSpec
    data: Path
    rpc_ports: tuple[int, ...]
    ports: tuple[int, ...]
    payers: tuple[Keypair, ...]
    wallet: Keypair  # Nobody else signs for it: who has an account in two programs may find a nonce taken.
    first: Checkpoint

    @property
    def urls(self) -> tuple[str, ...]:
        """The nodes' addresses."""
        return tuple(f"ws://127.0.0.1:{port}" for port in self.rpc_ports)


@dataclass(frozen=True)
class Pace:
    """From one of a kind to the next, in seconds; `rounds` has a task."""

    wallet: float = 1.0
    visitor: float = 0.5
    page: float = 1.0
    light: float = 15.0
    stray: float = 10.0
    junk: float = 5.0
    kill: float = 300.0
    rounds: int = 12


class Mixed:
    """The load. `done` says what was done how often, `failed` what went wrong."""

    def __init__(self, network: Network, terms: Terms, pace: Pace, rng: Random) -> None:
        self._network = network
        self._terms = terms
        self._pace = pace
        self._rng = rng
        self._checkpoint = network.first
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.final_seconds: list[float] = []

    async def run(self) -> None:
        """All of it at once, until cancelled."""
        pace = self._pace
        kinds: tuple[tuple[str, float, Callable[[Client], Awaitable[None]]], ...] = (
            ("wallets' transfers", pace.wallet, self._wallet),
            ("subscribers", pace.visitor, self._visitor),
            ("dashboard pages", pace.page, self._page),
            ("light clients", pace.light, self._light),
            ("stray blobs", pace.stray, self._stray),
            ("strangers", pace.junk, self._stranger),
            ("workers killed", pace.kill, self._kill),
        )
        async with Client.reconnecting(self._network.urls) as client, trio.open_nursery() as nursery:
            for place, key in enumerate(self._network.payers):
                nursery.start_soon(self._payer, client, key, place)
            nursery.start_soon(self._owner)
            for kind, every, act in kinds:
                nursery.start_soon(self._again, nursery, kind, every, partial(act, client))

    async def _again(self, nursery: trio.Nursery, kind: str, every: float, act: Callable[[], Awaitable[None]]) -> None:
        """Have one come each time, whether those before are through or not."""
        under_way = trio.CapacityLimiter(AT_ONCE_MAX)

        async def one() -> None:
            async with under_way:
                await self._counted(kind, act)

        while True:
            await trio.sleep(every)
            if under_way.borrowed_tokens < AT_ONCE_MAX:
                nursery.start_soon(one)
            else:
                self.failed[f"{kind}: {AT_ONCE_MAX} were under way"] += 1

    async def _counted(self, kind: str, act: Callable[[], Awaitable[None]]) -> bool:
        """Do it once, and count it as done or as failed."""
        try:
            await act()
        except (ClientError, RpcError, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            words = re.sub(r"0x[0-9a-f]{16,}|\d+", "…", f"{error}")[:160]
            self.failed[f"{kind}: {type(error).__name__}: {words}"] += 1
            await trio.sleep(REST_SECONDS)
            return False
        self.done[kind] += 1
        return True

    def _url(self) -> str:
        return self._rng.choice(self._network.urls)

    # --- who pays

    async def _payer(self, client: Client, key: Keypair, place: int) -> None:
        """A transfer every few seconds, with a nonce that this side counts."""
        to = self._network.payers[(place + 1) % len(self._network.payers)].public
        call = RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=to, value=1))
        nonce = 0
        await trio.sleep(self._rng.uniform(0, SENDER_SECONDS))
        due = trio.current_time()

        async def ask_nonce() -> None:
            nonlocal nonce
            nonce = await client.request("system_accountNextIndex", ss58.encode(key.public))

        async def send() -> None:
            raw = sign_extrinsic(
                key,
                call,
                nonce=nonce,
                spec_version=RUNTIME.spec_version,
                transaction_version=RUNTIME.transaction_version,
                genesis_hash=self._network.first.genesis_hash,
            )
            await client.request("author_submitExtrinsic", f"0x{raw.hex()}")

        for number in count():
            is_right = bool(number % NONCE_EVERY) or await self._counted("nonces", ask_nonce)
            if is_right and await self._counted("transfers", send):
                nonce += 1
            else:
                await self._counted("nonces", ask_nonce)
            due += SENDER_SECONDS
            if due < trio.current_time():  # Who was held up does not make up for it.
                due = trio.current_time() + SENDER_SECONDS
            await trio.sleep_until(due)

    async def _wallet(self, client: Client) -> None:
        """A transfer as wallets make it: watched until it is final."""
        began = trio.current_time()
        dest = self._network.payers[0].public
        await client.transact(self._network.wallet, "balances.transfer_keep_alive", dest=dest, value=1)
        self.final_seconds.append(trio.current_time() - began)

    # --- who has a model trained

    async def _owner(self) -> None:
        """One task after the other, each with a data set and parameters of its own."""
        for number in count():
            await self._counted("tasks", partial(self._task, number))

    async def _task(self, number: int) -> None:
        offer = await trio.to_thread.run_sync(new_task, self._network.spec, self._terms, number, self._pace.rounds)
        async with Client.connect(self._url()) as client:
            await tasks.upload(client, offer)
            task, _ = await tasks.create(client, Keypair.from_uri("//Alice"), offer)
            with trio.fail_after(TASK_SECONDS_MAX):
                while (await client.request("training_task", task))["status"] == "active":
                    await trio.sleep(REST_SECONDS)
            await client.get_blob(bytes.fromhex((await client.request("training_task", task))["paramsRoot"][2:]), 2**20)

    # --- who looks

    async def _visitor(self, _: Client) -> None:
        """Subscribe to something, read for a while, and leave: properly, by hanging up, or without a word."""
        seconds, manner = self._rng.uniform(0, VISIT_SECONDS_MAX), self._rng.randrange(3)
        wanted = self._rng.sample(SUBSCRIPTIONS, self._rng.randint(1, 3))
        if manner == 2:
            await self._rude(seconds)
            return
        async with open_link(self._url()) as link:
            opened = []
            for method, params in wanted:
                stream = Stream(method, latest=True)
                opened.append((method, str(await link.request(method, list(params), stream))))
            await trio.sleep(seconds)
            if manner == 0:
                for method, subscription in opened:
                    await link.release(subscription, method.replace("_subscribe", "_unsubscribe"))

    async def _rude(self, seconds: float) -> None:
        """A WebSocket that subscribes, reads nothing and is gone."""
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "chain_subscribeAllHeads", "params": []}).encode()
        stream = await trio.open_tcp_stream("127.0.0.1", self._rng.choice(self._network.rpc_ports))
        try:
            await stream.send_all(HANDSHAKE)
            await stream.receive_some(4096)
            await stream.send_all(bytes([0x81, 0x80 | len(message)]) + bytes(4) + message)
            await trio.sleep(seconds)
        finally:
            await trio.aclose_forcefully(stream)

    async def _page(self, client: Client) -> None:
        """Load the dashboard as a browser does, and ask what one of its pages asks."""
        now = (await client.request("explorer_now"))["height"]
        newest = max(0, self.done["tasks"] - 1)
        height, address = self._rng.randint(0, now), ss58.encode(self._rng.choice(self._network.payers).public)
        pages: tuple[tuple[tuple[str, tuple[object, ...]], ...], ...] = (
            (("consensus_state", ()), ("explorer_blocks", (20,))),
            (("explorer_block", (height,)), ("explorer_blocks", (20, height))),
            (("explorer_account", (address,)), ("explorer_validators", ())),
            (("explorer_search", (str(height),)),),
            (("training_tasks", ()), *[("training_task", (newest,))] * bool(self.done["tasks"])),
            (("training_workers", ()), ("training_recentWork", ())),
        )
        port = self._rng.choice(self._network.rpc_ports)
        await trio.to_thread.run_sync(_browse, port)
        async with open_link(f"ws://127.0.0.1:{port}") as link:
            for method, params in self._rng.choice(pages):
                await link.request(method, list(params))

    async def _light(self, _: Client) -> None:
        """A light client that goes on from where it was, and reads a proven balance; each tenth one knows nothing."""
        if not self.done["light clients"] % 10:
            self._checkpoint = self._network.first
        account = self._network.payers[0].public
        runtime = self._network.spec.runtime

        def plan() -> Steps[tuple[Checkpoint, Any]]:
            newest = yield from follow(runtime, self._checkpoint)
            return newest, (yield from read(runtime, newest, lambda view: view.module(System).account[account]))

        answer = (await ask_nodes(self._network.urls, plan)).best()
        self._checkpoint = answer.head

    # --- who leaves something, and who is a nuisance

    async def _stray(self, _: Client) -> None:
        """A blob that no task names: put at one node, fetched at another, and one that nobody has."""
        data = self._rng.randbytes(STRAY_BYTES)
        here, there = self._rng.sample(self._network.urls, 2)
        async with Client.connect(here) as client:
            root = await client.put_blob(data)
        async with Client.connect(there) as client:
            await client.get_blob(root, STRAY_BYTES)
            await client.has_blob(self._rng.randbytes(32))

    async def _stranger(self, _: Client) -> None:
        """Somebody who says what no node understands, or nothing, at either port."""
        port = self._rng.choice((*self._network.rpc_ports, *self._network.ports))
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            with suppress(trio.BrokenResourceError), trio.move_on_after(ANSWER_SECONDS_MAX):
                await stream.send_all(self._rng.choice(JUNK))
                while await stream.receive_some(65536):
                    pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _kill(self, _: Client) -> None:
        """End the first worker as the system does when memory is short; its supervisor starts it again."""
        worker = self._victim()
        os.kill(json.loads((self._network.data / "processes.json").read_text())[worker], signal.SIGKILL)

    def _victim(self) -> str:
        assert self._network.spec.development is not None
        return self._network.spec.development.workers[0].name


def _browse(port: int) -> None:
    """The dashboard's page with all that it loads at once."""
    page = _fetched(port, "/").decode()
    for path in re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', page):
        _fetched(port, path)


def _fetched(port: int, path: str) -> bytes:
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"accept": "text/html"})
    with urllib.request.urlopen(wanted, timeout=ANSWER_SECONDS_MAX) as answer:
        data: bytes = answer.read()
    return data
