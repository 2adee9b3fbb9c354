"""The hosts of a worker: process 0 has the key and the node; the others compute what it has no device free for.

Rule: whatever becomes of another host, a slot is computed: what does not come back in time, or comes back unsigned, is
computed here. Messages carry a tag of the hosts' common secret: `jax.distributed` lets in whoever reaches its port.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trio

from chain.primitives.hashing import Hash
from trainer import artifact, child, choices, places, relay
from trainer.arrays import Float32s
from trainer.artifact import ArtifactError
from trainer.child import Child, Lane
from trainer.choices import ChoiceError
from trainer.devices import named
from trainer.metrics import Meter
from trainer.node import CannotServe
from trainer.packing import PackingError, pack, unpack
from trainer.sandbox import Deadlines, Engine, EngineError, Engines, Gradient, open_engines
from trainer.wire import WireError, frame

Report = Callable[[str], None]

# The coordinator holds each message in memory, twice; what is larger is computed where it is.
MESSAGE_BYTES_MAX = 256 << 20
# Beyond what the other host's own engine may take: the message has to get there and back.
TRAVEL_SECONDS = 60.0
AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX = 1.0, 60.0
SECRET_BYTES = 32
NONCE_BYTES = 16
PROCESSES_MAX = 64
LOST = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, WireError, PackingError, EOFError)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which process of which cluster this is, and the secret that its hosts share (32 bytes)."""

    coordinator: str
    processes: int
    number: int
    secret: bytes


class Forged(Exception):
    """A message that nobody who knows the secret has made, or made for this."""


def sealed(secret: bytes, purpose: bytes, message: Mapping[str, object]) -> bytes:
    """A message with its tag: HMAC-SHA-256 over what it is for and the message."""
    body = pack(dict(message))
    return hmac.digest(secret, purpose + body, "sha256") + body


def opened(secret: bytes, purpose: bytes, data: object) -> dict[str, Any]:
    """The message in `data`; Forged where the tag is not of this secret and purpose."""
    if type(data) is not bytes:
        raise Forged("expected a sealed message")
    tag, body = data[:32], data[32:]
    if not hmac.compare_digest(tag, hmac.digest(secret, purpose + body, "sha256")):
        raise Forged("the tag is of another secret, or of another message: do all hosts have the same file?")
    message: dict[str, Any] = unpack(body, canonical=False, bytes_max=MESSAGE_BYTES_MAX)
    return message


@asynccontextmanager
async def _joined(
    cluster: Cluster, home: Path, devices: Sequence[str], lanes: int
) -> AsyncIterator[tuple[Child, list[str]]]:
    """A relay whose cluster has formed, and the devices that its lanes lead to; one of LOST where it has not."""
    words = (str(home), cluster.coordinator, str(cluster.processes), str(cluster.number), ",".join(devices))
    held = await child.start(home, "trainer.relay", words, lanes, child.environment(home, "cpu"))
    try:
        with trio.fail_after(3 * relay.JOIN_SECONDS):
            await held.lanes[0].exchange(None)
            hello = await held.lanes[0].exchange(None)
        await held.keep(len(hello["devices"]))
        yield held, [str(each) for each in hello["devices"]]
    finally:
        await held.end("it was closed")


class Hosts:
    """The other hosts as process 0 sees them."""

    def __init__(self, cluster: Cluster, home: Path, report: Report) -> None:
        self._cluster = cluster
        self._home = home
        self._report = report
        self._free: list[Lane] = []
        self._lost = trio.Event()
        self.devices: tuple[str, ...] = ()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay joined; has started when the hosts are there, or could not all be waited for."""
        pause = AGAIN_SECONDS_MIN
        started = False
        while True:
            reason = "they did not all come"
            try:
                async with _joined(self._cluster, self._home, ("-",), child.DEVICES_MAX) as (held, devices):
                    self.devices, self._free, self._lost = tuple(devices), list(held.lanes), trio.Event()
                    others = self._cluster.processes - 1
                    self._report(f"{others} other host{'s'[: others - 1]} beside this one, with {named(devices)}")
                    pause, reason = AGAIN_SECONDS_MIN, "one of them was lost"
                    if not started:
                        task_status.started()
                    started = True
                    await self._ended(held)
            except LOST:
                pass
            finally:
                self._free = []
            self._report(f"computes without the other hosts: {reason}; they are waited for (relay.log.1 says more)")
            if not started:
                task_status.started()
            started = True
            await trio.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS_MAX)

    async def _ended(self, held: Child) -> None:
        """Return when the relay has ended, or somebody has had no answer of it."""
        async with trio.open_nursery() as nursery:

            async def process() -> None:
                await held.process.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(process)
            await self._lost.wait()
            nursery.cancel_scope.cancel()

    async def ask(self, message: Mapping[str, object], seconds: float) -> dict[str, Any] | None:
        """What a device of another host answers; None where none is free, or it does not answer as it should."""
        if not self._free:
            return None
        lane, lost, nonce = self._free.pop(0), self._lost, secrets.token_bytes(NONCE_BYTES)
        whole = False
        try:
            data = sealed(self._cluster.secret, b"asked", {**message, "nonce": nonce})
            if len(data) > MESSAGE_BYTES_MAX:
                whole = True
                return None
            with trio.fail_after(seconds + TRAVEL_SECONDS):
                answer = await lane.exchange(frame({"seconds": seconds + TRAVEL_SECONDS / 2, "sealed": data}))
            whole = True
            return opened(self._cluster.secret, b"answered" + nonce, answer.get("sealed"))
        except Forged as error:
            self._report(f"another host's answer is not taken: {error}")
            return None
        except LOST:
            return None
        finally:
            # Half an exchange leaves a lane that nobody can make sense of: all form anew.
            if not whole:
                lost.set()
            elif not lane.child.ended:
                self._free.append(lane)


async def serve_host(
    cluster: Cluster,
    cache_dir: Path,
    *,
    report: Report,
    platform: str = "cpu",
    devices: int | None = 1,
    meter: Meter | None = None,
) -> None:
    """Compute what process 0 asks for until cancelled; it takes no key and no node."""
    async with open_engines(cache_dir, platform, warn=report, devices=devices, meter=meter) as engines:
        found = await engines.require_devices()
        served = _Served(engines, cluster.secret, report)
        pause = AGAIN_SECONDS_MIN
        while True:
            try:
                async with _joined(cluster, cache_dir / "relay", found, len(found)) as (held, _):
                    report(f"computes on {named(found)} for process 0 at {cluster.coordinator}")
                    pause = AGAIN_SECONDS_MIN
                    async with trio.open_nursery() as nursery:
                        for lane in held.lanes:
                            nursery.start_soon(served.serve, lane, nursery.cancel_scope)
            except LOST:
                pass
            report(f"waits for process 0 at {cluster.coordinator} and the others (relay.log.1 says more)")
            await trio.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS_MAX)


class _Served:
    """A host's part in what process 0 asks."""

    def __init__(self, engines: Engines, secret: bytes, report: Report) -> None:
        self._engines = engines
        self._secret = secret
        self._report = report
        self._tasks: OrderedDict[int, None] = OrderedDict()

    async def serve(self, lane: Lane, all_lanes: trio.CancelScope) -> None:
        """Answer on one lane until the relay ends."""
        said: bytes | None = None
        while True:
            try:
                request = await lane.exchange(said)
            except LOST:
                all_lanes.cancel()
                return
            try:
                message = opened(self._secret, b"asked", request.get("sealed"))
            except Forged as error:
                self._report(f"a request is not taken: {error}")
                said = frame({"sealed": b""})
                continue
            answer = await self._compute(message)
            said = frame({"sealed": sealed(self._secret, b"answered" + message["nonce"], answer)})

    async def _compute(self, message: Mapping[str, Any]) -> dict[str, object]:
        await self._forget_beyond(message["task"])
        engine, root, blob = self._engines.of(message["task"]), message["root"], message["program"]
        theta = vector(message["theta"])
        try:
            await engine.load(root, artifact.parse(blob), blob)
            if message["op"] == "gradient":
                found = await engine.gradient(root, theta, message["x"], message["y"])
                return {"ok": True, "loss": found.loss, "values": found.values.astype("<f4").tobytes()}
            steps = choices.local_steps_of(message["steps"])
            assert steps is not None
            said = await engine.local_steps(root, theta, message["x"], message["y"], steps, message["round"])
            return {"ok": True, "values": said.astype("<f4").tobytes()}
        except (EngineError, ArtifactError, ChoiceError) as error:
            self._report(f"task {message['task']}: not computed: {error}")
            return {"ok": False, "message": str(error)[:1_000]}

    async def _forget_beyond(self, task: int) -> None:
        """Nobody says here when a task is over: who was not asked for longest gives way."""
        self._tasks[task] = None
        self._tasks.move_to_end(task)
        for other in list(self._tasks)[: -places.CHILDREN_MAX]:
            if not self._engines.of(other).is_busy:
                del self._tasks[other]
                await self._engines.release(other)


class SpreadEngine(Engine):
    """An engine that has other hosts compute what it has no device free for."""

    hosts: Hosts
    task: int

    async def gradient(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Gradient:
        answer = await self._elsewhere("gradient", root, theta, x, y, self._deadlines.run)
        if answer is None:
            return await super().gradient(root, theta, x, y)
        self.meter.computed(self._programs[root][0].batch)
        return Gradient(float(answer["loss"]), vector(answer["values"]))

    async def local_steps(
        self, root: Hash, theta: Float32s, x: bytes, y: bytes, steps: Any, round_index: int
    ) -> Float32s:
        more = {"steps": choices.local_steps_json(steps), "round": round_index}
        seconds = min(self._deadlines.run * steps.count, self._deadlines.slot)
        answer = await self._elsewhere("local_steps", root, theta, x, y, seconds, more)
        if answer is None:
            return await super().local_steps(root, theta, x, y, steps, round_index)
        self.meter.computed(self._programs[root][0].batch * steps.count)
        return vector(answer["values"])

    async def _elsewhere(
        self,
        op: str,
        root: Hash,
        theta: Float32s,
        x: bytes,
        y: bytes,
        seconds: float,
        more: Mapping[str, object] | None = None,
    ) -> dict[str, Any] | None:
        """The other hosts' answer; None where this host has a device free, or they have not, or have failed."""
        if self._requests < max(1, len(self.devices)) or root not in self._programs:
            return None
        message = {
            "op": op,
            "task": self.task,
            "root": root,
            "program": self._programs[root][1],
            "theta": theta.astype("<f4").tobytes(),
            "x": x,
            "y": y,
            **(more or {}),
        }
        # A program that is new to the other host is loaded there first.
        answer = await self.hosts.ask(message, seconds + self._deadlines.load)
        if answer is None or answer.get("ok") is not True:
            return None
        values = answer.get("values")
        return answer if type(values) is bytes and len(values) == 4 * len(theta) else None


def vector(raw: bytes) -> Float32s:
    return np.frombuffer(raw, dtype="<f4").astype(np.float32)


class SpreadEngines(Engines):
    """Engines that have other hosts beside them."""

    hosts: Hosts

    async def require_devices(self) -> tuple[str, ...]:
        """This host's and the others', of whom those count that have come by now."""
        return await super().require_devices() + self.hosts.devices

    @property
    def lanes(self) -> int:
        """Here, and on the other hosts."""
        return super().lanes + len(self.hosts.devices)

    def _make(self, task: int) -> Engine:
        engine = SpreadEngine(*self._terms(task))
        engine.hosts, engine.task = self.hosts, task
        return engine


@asynccontextmanager
async def open_spread_engines(
    cluster: Cluster,
    cache_dir: Path,
    platform: str,
    *,
    report: Report,
    devices: int | None,
    meter: Meter | None,
) -> AsyncIterator[Engines]:
    """The engines of process 0, as `open_engines`, once the other hosts have come or could not all be waited for."""
    engines = SpreadEngines(cache_dir, platform, Deadlines(), report, devices, meter)
    engines.hosts = Hosts(cluster, cache_dir / "relay", report)
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(engines.hosts.run)
            yield engines
        finally:
            nursery.cancel_scope.cancel()
            await engines.close()


def read_secret(path: Path) -> bytes:
    """The secret in a file, 64 hex digits; CannotServe says how to make one."""
    make = f"make one with: openssl rand -hex {SECRET_BYTES} > {path}; and copy it to every host"
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise CannotServe(f"--hosts-secret: cannot read {path} ({error}): {make}") from None
    if len(secret) != SECRET_BYTES:
        raise CannotServe(f"--hosts-secret: expected {SECRET_BYTES} bytes in hex in {path}, got {len(secret)}: {make}")
    return secret


def checked(cluster: Cluster) -> Cluster:
    """The cluster itself; CannotServe where its numbers make none."""
    host, _, port = cluster.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CannotServe(f"--coordinator: expected HOST:PORT of process 0, got {cluster.coordinator[:80]!r}")
    if not 2 <= cluster.processes <= PROCESSES_MAX:
        raise CannotServe(f"--processes: expected 2 to {PROCESSES_MAX} hosts, got {cluster.processes}")
    if not 0 <= cluster.number < cluster.processes:
        raise CannotServe(f"--process-id: expected 0 to {cluster.processes - 1}, got {cluster.number}")
    return cluster
