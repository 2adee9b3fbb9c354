"""The engine child computes, is replaced when it dies, hangs or is fed hostile bytes, and outlives nobody."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trio
from jax import export

from chain.primitives.hashing import blake2_256
from tests.trainer import corpus
from tests.trainer.kit import BATCH, batch, evaluation, loss, small_task
from trainer import admission, artifact, audit, child, choices, confinement, runner, sandbox, wire
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.descent import Descent
from trainer.local import LocalSteps
from trainer.node import CannotServe
from trainer.operations import Refused
from trainer.optimizers import Sgd
from trainer.sandbox import (
    Deadlines,
    Engine,
    EngineCrashed,
    EngineTimeout,
    ProgramRefused,
    ProgramSuspended,
    open_engine,
    open_engines,
)

TASK = small_task()


async def loaded(engine: Engine) -> None:
    await engine.load(TASK.program_root, TASK.program, TASK.blobs[TASK.program_root])


async def gradient(engine: Engine, seed: int = 1) -> Float32s:
    return (await engine.gradient(TASK.program_root, TASK.theta, *batch(seed))).values


def own_gradient(seed: int) -> Float32s:
    """The same gradient from the same bytes, in this process."""
    x, y = batch(seed)
    exported = export.deserialize(bytearray(TASK.program.gradient))
    inputs = np.frombuffer(x, np.uint8).reshape(BATCH, -1), np.frombuffer(y, np.uint8)
    return np.asarray(exported.call(TASK.theta, *inputs)[1])  # type: ignore[no-untyped-call]


@pytest.mark.slow
async def test_a_platform_that_is_not_here_is_named_with_what_to_install(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "tpu", Deadlines(load=60, run=3)) as engine:
        with pytest.raises(ProgramRefused, match=r"JAX finds no tpu device here .*: install potchain\[tpu\]"):
            await loaded(engine)


@pytest.mark.slow
async def test_an_accelerator_that_is_not_here_is_missed_before_anything_is_bonded(tmp_path: Path) -> None:
    async with open_engines(tmp_path, "tpu", Deadlines(load=60, run=3)) as engines:
        with pytest.raises(CannotServe, match=r"JAX finds no tpu device here .*: install potchain\[tpu\]"):
            await engines.require_devices()
    async with open_engines(tmp_path) as engines:
        await engines.require_devices()  # There is a CPU, and no child is started to see it.
        assert engines.of(0).pid is None


@pytest.mark.slow
async def test_the_child_computes_the_same_before_and_after_it_dies_or_hangs(tmp_path: Path) -> None:
    async with open_engine(tmp_path, deadlines=Deadlines(load=60, run=3)) as engine:
        await loaded(engine)
        first = await gradient(engine)
        tolerance = Tolerance(micro_steps=510_000, outliers_ppm=20)
        assert audit.compare(INT8.quantise(first, 0), own_gradient(1), tolerance).right

        assert engine.pid is not None
        killed = engine.pid
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(EngineCrashed, match="-9"):
            await gradient(engine)
        assert (await gradient(engine)).tobytes() == first.tobytes()

        assert engine.pid not in (None, killed)
        stopped = engine.pid
        os.kill(stopped, signal.SIGSTOP)
        with trio.fail_after(60), pytest.raises(EngineTimeout):
            await gradient(engine)
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)

    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        assert (await gradient(engine)).tobytes() == first.tobytes()


@pytest.mark.slow
async def test_a_cancelled_request_leaves_no_half_answer_behind(tmp_path: Path) -> None:
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        first = await gradient(engine, seed=1)
        second = await gradient(engine, seed=2)
        with trio.CancelScope() as scope:
            scope.cancel()
            await gradient(engine, seed=1)
        assert (await gradient(engine, seed=2)).tobytes() == second.tobytes()
        assert (await gradient(engine, seed=1)).tobytes() == first.tobytes()


@pytest.mark.slow
async def test_the_child_that_computes_is_confined_and_sees_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTCHAIN_PASSWORD", "hunter2")
    assert "POTCHAIN_PASSWORD" not in child.environment(tmp_path, "cpu")
    warnings: list[str] = []
    async with open_engine(tmp_path, warn=warnings.append) as engine:
        await loaded(engine)
        process = Path(f"/proc/{engine.pid}")
        assert os.getpriority(os.PRIO_PROCESS, engine.pid or 0) >= 10
        limits = {line[:25].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert limits["Max core file size"] == "0"
        assert int(limits["Max open files"]) <= 256
        assert int(limits["Max cpu time"]) < 1_000
        assert int(limits["Max address space"]) <= 16 << 30
        assert status["NoNewPrivs"] == "1"
        assert status["CapEff"] == "0" * 16
        # 2 is a filter. What the system does not offer was said.
        assert status["Seccomp"] == ("0" if confinement.NO_SECCOMP in warnings else "2")
        # It is the first to go where memory runs out, and every thread is as confined as the first.
        assert (process / "oom_score_adj").read_text() == "1000\n"
        for task in (process / "task").iterdir():
            assert f"Seccomp:\t{status['Seccomp']}\n" in (task / "status").read_text()


@pytest.mark.slow
async def test_hostile_bytes_are_refused_and_an_honest_program_still_runs(tmp_path: Path) -> None:
    honest = TASK.program
    rng = np.random.default_rng(3)
    mutated = bytearray(honest.gradient)
    for position in rng.integers(0, len(mutated), 40):
        mutated[position] ^= int(rng.integers(1, 256))
    hostile = {
        "not a program": replace(honest, gradient=b"\0" * 64),
        "a program with flipped bytes": replace(honest, gradient=bytes(mutated)),
        "the wrong function": replace(honest, gradient=honest.evaluate),
        "other shapes than stated": replace(honest, batch=BATCH + 1),
    }
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        first = await gradient(engine)
        for index, program in enumerate(hostile.values()):
            # A crash of the deserialiser is as good as a refusal: it happens to the child.
            with pytest.raises((ProgramRefused, EngineCrashed)):
                await engine.load(bytes([index]) * 32, program, artifact.encode(program))
        assert (await gradient(engine)).tobytes() == first.tobytes()


@pytest.mark.slow
async def test_a_program_that_gave_way_to_others_is_compiled_again(tmp_path: Path) -> None:
    blob = TASK.blobs[TASK.program_root]
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        first = await gradient(engine)
        for number in range(wire.PROGRAMS_MAX):
            await engine.load(bytes([number]) * 32, TASK.program, blob)
        await loaded(engine)
        assert (await gradient(engine)).tobytes() == first.tobytes()


@pytest.mark.slow
async def test_each_hostile_program_is_refused_and_the_engine_that_refused_it_lives(tmp_path: Path) -> None:
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        first, child = await gradient(engine), engine.pid
        for name, (text, reason) in corpus.hostile().items():
            program = corpus.shipped(text)
            with pytest.raises(ProgramRefused, match=reason):
                await engine.load(blake2_256(name.encode()), program, artifact.encode(program))
        await loaded(engine)
        assert (await gradient(engine)).tobytes() == first.tobytes()
        assert engine.pid == child


@pytest.mark.slow
async def test_a_program_that_computes_for_longer_than_its_deadline_is_ended(tmp_path: Path) -> None:
    def patient(x: jax.Array) -> jax.Array:
        table = jnp.sin(jnp.arange(65_536.0) * x[0])
        return x + jnp.asarray(jax.lax.fori_loop(0, 20_000, lambda _, c: jnp.sin(c * 1.1), table))[:4]

    program = corpus.shipped(corpus.exported(patient))
    root, blob = blake2_256(b"patient"), artifact.encode(program)
    async with open_engine(tmp_path, deadlines=Deadlines(load=60, run=1)) as engine:
        await engine.load(root, program, blob)
        with pytest.raises(EngineTimeout):
            await engine.gradient(root, np.ones(4, np.float32), bytes(2), bytes(2))
        assert engine.pid is None


@pytest.mark.slow
async def test_evaluation_adds_up_whole_batches(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    count = 2 * TASK.program.evaluate_batch
    x = rng.integers(0, 17, (count, 64)).astype(np.uint8)
    y = rng.integers(0, 10, count).astype(np.uint8)
    params = {"b": TASK.theta[:10], "w": TASK.theta[10:].reshape(64, 10)}
    total, right = evaluation(params, x, y)  # type: ignore[arg-type]
    assert float(loss(params, x, y)) == pytest.approx(float(total) / count)  # type: ignore[arg-type]
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        found = await engine.evaluate(TASK.program_root, TASK.theta, x.tobytes(), y.tobytes())
    assert found.correct == int(right)
    assert found.loss_sum == pytest.approx(float(total), rel=1e-5)


def test_a_data_set_is_held_to_the_same_limits_as_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program = TASK.program
    outputs: runner.Shapes = [((), "float32"), ((), "int32")]
    compiled, cost = runner._compiled(
        "cpu", jax.devices("cpu")[0], program.evaluate, program, program.evaluate_batch, outputs
    )
    loaded = runner.Loaded(program, compiled, compiled, cost, cost)
    monkeypatch.setattr(runner, "LIMITS", admission.Limits(flops=2 * cost.flops))
    theta = TASK.theta.astype("<f4").tobytes()

    def request(batches: int) -> dict[str, bytes]:
        count = batches * program.evaluate_batch
        x, y = bytes(count * program.inputs.row_bytes), bytes(count * program.targets.row_bytes)
        return {"theta": theta, "x": x, "y": y}

    assert runner._evaluate(loaded, request(2))["ok"]
    with pytest.raises(Refused, match="hold fewer rows out"):
        runner._evaluate(loaded, request(3))


def test_local_steps_are_refused_where_their_number_makes_them_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    program = TASK.program
    outputs: runner.Shapes = [((), "float32"), ((program.parameters,), "float32")]
    compiled, cost = runner._compiled("cpu", jax.devices("cpu")[0], program.gradient, program, program.batch, outputs)
    loaded = runner.Loaded(program, compiled, compiled, cost, cost)
    monkeypatch.setattr(runner, "LIMITS", admission.Limits(flops=cost.flops))
    monkeypatch.setattr(runner, "SLOT_COST_MAX", 2)

    def request(count: int) -> dict[str, object]:
        rows = count * program.batch
        return {
            "theta": TASK.theta.astype("<f4").tobytes(),
            "x": bytes(rows * program.inputs.row_bytes),
            "y": bytes(rows * program.targets.row_bytes),
            "steps": choices.local_steps_json(LocalSteps(count, Descent(Sgd(1, 0)))),
            "round": 0,
        }

    assert runner._local_steps(loaded, request(2))["ok"]
    with pytest.raises(Refused, match=r"3 local steps cost .* take fewer local steps or smaller batches"):
        runner._local_steps(loaded, request(3))


@pytest.mark.slow
async def test_local_steps_end_with_their_engine_when_their_time_is_over(tmp_path: Path) -> None:
    steps = LocalSteps(4, Descent(Sgd(1, 0)))
    x, y = (part * 4 for part in batch(1))
    async with open_engine(tmp_path, deadlines=Deadlines(load=60, run=5, slot=0.0)) as engine:
        await loaded(engine)
        with pytest.raises(EngineTimeout):
            await engine.local_steps(TASK.program_root, TASK.theta, x, y, steps, 0)
        assert engine.pid is None
    async with open_engine(tmp_path, deadlines=Deadlines(load=60, run=5)) as engine:
        await loaded(engine)
        said = await engine.local_steps(TASK.program_root, TASK.theta, x, y, steps, 0)
        assert said.shape == TASK.theta.shape


@pytest.mark.slow
async def test_a_task_whose_program_hangs_does_not_delay_another(tmp_path: Path) -> None:
    async with open_engines(tmp_path) as engines:
        hanging, working = engines.of(0), engines.of(1)
        assert engines.of(0) is hanging
        await loaded(hanging)
        await loaded(working)
        child = hanging.pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gradient, hanging)
                await trio.testing.wait_all_tasks_blocked()
                await gradient(working)
                nursery.cancel_scope.cancel()
        await engines.release(0)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
        assert [path.name for path in (tmp_path / "engines").iterdir()] == ["1"]
        await gradient(working)


@pytest.mark.slow
async def test_a_program_that_ends_every_engine_rests_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SUSPENDED_SECONDS", 1.0)
    async with open_engine(tmp_path) as engine:
        await loaded(engine)
        for _ in range(sandbox.CRASHES_MAX):
            await loaded(engine)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            with pytest.raises(EngineCrashed):
                await gradient(engine)
        with pytest.raises(ProgramSuspended):
            await gradient(engine)
        with trio.fail_after(60):
            while True:
                try:
                    await gradient(engine)
                except ProgramSuspended:
                    await trio.sleep(0.1)
                else:
                    break


ORPHANER = """
import sys, trio
from pathlib import Path
from tests.trainer.kit import small_task
from trainer.sandbox import open_engine

async def main():
    task = small_task()
    async with open_engine(Path(sys.argv[1])) as engine:
        await engine.load(task.program_root, task.program, task.blobs[task.program_root])
        print(engine.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.slow
async def test_the_child_of_a_killed_parent_ends(tmp_path: Path) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", ORPHANER, str(tmp_path)], stdout=-1, cwd=Path(__file__).parent.parent.parent
    )
    assert process.stdout is not None
    child = int(await process.stdout.receive_some(100))
    ended = os.pidfd_open(child)
    try:
        process.kill()
        await process.wait()
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(ended)
    finally:
        os.close(ended)
        await process.stdout.aclose()
