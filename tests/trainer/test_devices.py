"""An engine computes as many slots at once as there are devices, each as one device alone would, and ends as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trio

from tests.trainer.kit import batch, small_task
from trainer import audit, child, confinement
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.descent import Descent
from trainer.local import LocalSteps
from trainer.optimizers import Sgd
from trainer.places import Places
from trainer.sandbox import Deadlines, Engine, EngineCrashed, EngineTimeout, ProgramRefused, open_engine, to_stderr

TASK = small_task()
DEVICES = 8
STEPS = LocalSteps(4, Descent(Sgd(10**10, 0)))
ROOT = Path(__file__).resolve().parent.parent.parent


async def loaded(engine: Engine) -> None:
    await engine.load(TASK.program_root, TASK.program, TASK.blobs[TASK.program_root])


async def local_steps(engine: Engine) -> Float32s:
    x, y = (part * STEPS.count for part in batch(1))
    return await engine.local_steps(TASK.program_root, TASK.theta, x, y, STEPS, 0)


async def gradients(engine: Engine, count: int) -> list[Float32s]:
    """The gradients of so many slots, all asked for at once."""
    found: dict[int, Float32s] = {}

    async def one(slot: int) -> None:
        found[slot] = (await engine.gradient(TASK.program_root, TASK.theta, *batch(slot))).values

    async with trio.open_nursery() as nursery:
        for slot in range(count):
            nursery.start_soon(one, slot)
    return [found[slot] for slot in range(count)]


@pytest.mark.slow
async def test_eight_slots_on_eight_devices_are_what_one_device_makes_of_them(tmp_path: Path) -> None:
    async with open_engine(tmp_path / "one") as engine:
        await loaded(engine)
        alone = await gradients(engine, DEVICES)
        steps = await local_steps(engine)
        assert np.any(steps != 0)
    async with open_engine(tmp_path / "eight", devices=DEVICES) as engine:
        await loaded(engine)
        assert engine.devices == ("cpu",) * DEVICES
        pid = engine.pid
        assert pid is not None
        limits = Path(f"/proc/{pid}/limits").read_text()
        room = confinement.ADDRESS_BYTES_MAX + (DEVICES - 1) * confinement.DEVICE_ADDRESS_BYTES
        assert f"Max address space         {room} " in limits
        together: list[Float32s] = []
        os.kill(pid, signal.SIGSTOP)
        try:
            async with trio.open_nursery() as nursery:

                async def all_at_once() -> None:
                    together.extend(await gradients(engine, DEVICES))

                nursery.start_soon(all_at_once)
                await trio.testing.wait_all_tasks_blocked()
                assert engine.waiting == (DEVICES, 0)  # Each device has a slot, and no slot waits for a device.
                os.kill(pid, signal.SIGCONT)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert engine.pid == pid
        engine._idle.reverse()  # The last device is the next.
        assert (await local_steps(engine)).tobytes() == steps.tobytes()
        tolerance = Tolerance(micro_steps=510_000, outliers_ppm=20)
        for ours, theirs in zip(together, alone, strict=True):
            assert audit.compare(INT8.quantise(ours, 0), theirs, tolerance).right
            # More than is promised, and what one thread a device comes to.
            assert ours.tobytes() == theirs.tobytes()


@pytest.mark.slow
async def test_what_ends_the_child_ends_all_that_is_under_way_and_counts_once(tmp_path: Path) -> None:
    async with open_engine(tmp_path, devices=4) as engine:
        await loaded(engine)
        before = await gradients(engine, 1)
        engine._deadlines, patient = Deadlines(load=60, run=1), engine._deadlines
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)
        with trio.fail_after(60):
            while Path(f"/proc/{engine.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                await trio.sleep(0.01)  # What it is given before it has stopped, it may still compute.
        failures: list[type[Exception]] = []

        async def one(slot: int) -> None:
            try:
                await engine.gradient(TASK.program_root, TASK.theta, *batch(slot))
            except (EngineCrashed, EngineTimeout) as error:
                failures.append(type(error))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for slot in range(4):
                    nursery.start_soon(one, slot)
        assert len(failures) == 4
        assert EngineTimeout in failures
        engine._deadlines = patient
        # Were each a death of its own, the program would be left to rest now.
        assert (await gradients(engine, 1))[0].tobytes() == before[0].tobytes()
        assert engine.starts == 2


SPREAD = """
import json, sys
from pathlib import Path
from trainer import runner
from tests.trainer.kit import batch, small_task
devices = runner.find_devices("cpu", sys.argv[1], int(sys.argv[2]))
task = small_task()
x, y = batch(1)
request = {"op": "gradient", "key": task.program_root, "theta": task.theta.astype("<f4").tobytes(), "x": x, "y": y}
rows = runner._batches(request, task.program, task.program.batch)
found = []
for device in devices:
    each = runner.Runner("cpu", device)
    assert each.answer({"op": "load", "key": task.program_root, "program": task.blobs[task.program_root]})["ok"]
    result = each._programs[task.program_root].gradient(task.theta, *rows)[1]
    found.append([sorted(d.id for d in result.devices()), type(result.sharding).__name__])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_each_device_computes_what_it_is_asked_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPREAD, str(tmp_path), str(DEVICES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[[index], "SingleDeviceSharding"] for index in range(DEVICES)]


@pytest.mark.slow
async def test_more_devices_than_there_are_of_a_kind_are_refused(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "tpu", Deadlines(load=60, run=3), devices=2) as engine:
        with pytest.raises(ProgramRefused, match="JAX finds no tpu device here"):
            await engine.find_devices()
    with pytest.raises(ValueError, match="devices: expected 1 to 64, got 65"):
        Engine(tmp_path, "cpu", Deadlines(), to_stderr, child.DEVICES_MAX + 1)


class Held:
    """What has a place, without a process."""

    def __init__(self, places: Places, *, busy: bool) -> None:
        self.is_busy = busy
        self.places = places
        self.closed = False

    async def close(self) -> None:
        self.closed = True
        self.places.give(self)


async def test_who_has_idled_longest_gives_way_and_who_computes_does_not() -> None:
    places = Places(2)
    busy, idle, third, fourth = (Held(places, busy=number in (0, 3)) for number in range(4))
    await places.take(busy)
    await places.take(idle)
    assert places.is_full
    await places.take(third)
    assert (busy.closed, idle.closed, third.closed) == (False, True, False)
    third.is_busy = True
    with trio.move_on_after(0.01) as waited:
        await places.take(fourth)
    assert waited.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(places.take, fourth)
        await trio.testing.wait_all_tasks_blocked()
        busy.is_busy = False
        places.touch(busy)
    assert (busy.closed, third.closed, fourth.closed) == (True, False, False)
