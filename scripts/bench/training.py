"""Trains on a network of real processes and in plain JAX, side by side: samples a second, and whose CPU time it is.

    .venv/bin/python scripts/bench/training.py digits fashion bible [--steps 8 64] [--audited 0.1] [--seconds 20]

For each model and number of local steps a fresh network runs: validators with their auditors, an aggregator, two
workers, one task of eight slots, four for each worker, with int8 updates, of which one validator recomputes a share.
What is counted begins when a round is final and ends when a later one is. Plain JAX does batches of as many rows with
the same steps, in as many processes as there are workers, one thread each as an engine has, and says nothing to
anybody. Where Fashion-MNIST and the Bible come from: see models.py.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from figures import heading, machine, record, verdict
from models import NAMES, ROOT, initial, task_of, train_of
from ports import free_run
from processes import Ledger, seconds_by_role

from chain.development import ACCOUNTS, address, authority, endowed, processes
from chain.rpc.client import Client
from runtime.modules.balances import POT
from trainer.child import HUGE_PAGES, ONE_THREAD

PICO = 10**12
PPM = 10**6
GOAL_SPEED = 0.90
GOAL_COST = 1.14
WORKERS = ACCOUNTS[4:]
# What each worker registers for, so that both have as many slots in each round.
CAPACITY = 4
BATCH = {"digits": 32, "fashion": 64, "bible": 16}
RATE = {"digits": 0.1, "fashion": 0.03, "bible": 0.03}
# Few and many. A round's slots have rows of their own: eight of digits have 5 batches at most.
STEPS = {"digits": (1, 5), "fashion": (8, 64), "bible": (4, 32)}
# Rounds before what is counted begins: engines start and compile.
WARM_UP_ROUNDS = 1


@dataclass(frozen=True)
class Case:
    """What a network trains."""

    model: str
    steps: int  # local steps of a slot
    batch: int  # rows of each
    validators: int
    audited: float  # the share of slots that a validator recomputes
    block_ms: int = 1000
    slots: int = CAPACITY * len(WORKERS)
    evaluate_rounds: int = 5

    @property
    def rows(self) -> int:
        """Rows of a slot."""
        return self.batch * self.steps


@dataclass
class Measured:
    """What was seen between two ends of rounds."""

    wall: float = 0.0
    rounds: int = 0
    accepted: int = 0
    rejected: int = 0
    audited: dict[tuple[int, int], int] = field(default_factory=dict)  # slots drawn, by round and attempt
    cpu: Ledger = field(default_factory=Ledger)
    phases: Counter[str] = field(default_factory=Counter)  # heads at which the task's newest round was in a phase
    loss: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(NAMES), metavar="MODEL", help=", ".join(NAMES))
    parser.add_argument("--steps", type=int, nargs="+", help="numbers of local steps")
    parser.add_argument("--batch", type=int, help="rows of a batch")
    parser.add_argument("--validators", type=int, default=4, choices=range(1, 5), help="each with an auditor")
    parser.add_argument("--audited", type=float, default=0.1, help="the share of slots that is recomputed")
    parser.add_argument("--evaluate-rounds", type=int, default=5, help="rounds from one evaluation to the next")
    parser.add_argument("--block-ms", type=int, default=1000, help="from one block to the next")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each network is watched at least")
    parser.add_argument("--short", action="store_true", help="digits, for as long as a round takes")
    parser.add_argument("--plain", nargs=4, metavar=("MODEL", "BATCH", "STEPS", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        model, batch, steps, seconds = options.plain
        print(json.dumps(plain(model, int(batch), int(steps), float(seconds))))
        return
    if options.short:
        options.models, options.steps, options.validators = ["digits"], [2], 1
        options.seconds, options.block_ms = 1.0, 200
    # Who is told to end ends the network, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(machine())
    print(
        f"{len(WORKERS)} workers, {options.validators} validators, a block every {options.block_ms} ms; "
        f"of {options.audited:.0%} of all slots one validator is drawn to recompute it, "
        f"every {options.evaluate_rounds} rounds all evaluate"
    )
    for model in options.models:
        for steps in options.steps or STEPS[model]:
            case = Case(
                model,
                steps,
                options.batch or BATCH[model],
                options.validators,
                options.audited,
                options.block_ms,
                evaluate_rounds=options.evaluate_rounds,
            )
            beside = 1 if options.short else len(WORKERS)
            plainly = partial(plain_processes, case, beside, min(options.seconds, 10.0))
            alone = plainly({})
            tuned = alone if options.short else plainly({"GLIBC_TUNABLES": HUGE_PAGES})
            with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
                measured = run(case, Path(folder), options.seconds)
            report(case, alone, tuned, measured)


def report(case: Case, alone: dict[str, float], tuned: dict[str, float], measured: Measured) -> None:
    """Print what a case came to."""
    samples = measured.accepted * case.rows
    speed, plain_speed = samples / measured.wall, alone["samples"] / alone["wall"]
    cpu, worth = measured.cpu, samples * alone["cpu"] / alone["samples"]
    trained = f"{case.model}, {case.steps} steps of {case.batch} rows"
    heading(
        f"{trained}: {measured.rounds} rounds in {measured.wall:.0f} s, "
        f"{measured.accepted} slots accepted, {measured.rejected} not; held-out loss {measured.loss:.3f}",
        f"{trained}, {case.validators} validators, {case.audited:.0%} audited",
    )
    record(
        "samples", [speed], "a second", better="more", goal=GOAL_SPEED * plain_speed, peers={"plain JAX": plain_speed}
    )
    print(
        f"  samples a second {speed:,.0f}, plain JAX {plain_speed:,.0f}: {speed / plain_speed:.1%} by the clock"
        f"   goal {GOAL_SPEED:.0%}: {verdict(speed / plain_speed / GOAL_SPEED)}"
    )
    print(
        f"  plain JAX's CPU seconds for these samples {worth:.1f}, of all processes {cpu.total:.1f}: "
        f"{worth / cpu.total:.1%} by processor time"
    )
    print(
        f"  plain JAX with the allocator's huge pages, as engines have them: {tuned['samples'] / tuned['wall']:,.0f} a "
        f"second, {speed * tuned['wall'] / tuned['samples']:.1%} by the clock, "
        f"{samples * tuned['cpu'] / tuned['samples'] / cpu.total:.1%} by processor time"
    )
    shares = ", ".join(f"{role} {seconds:.1f} ({seconds / cpu.total:.0%})" for role, seconds in cpu.items())
    print(f"  CPU seconds: {shares}")
    training = cpu["worker engines"] + cpu["workers"]
    verification = cpu["auditor engines"] + cpu["auditors"] + cpu["aggregator"]
    cost = (training + verification) / training
    record("verified training, in processor time of the workers'", [cost], "x", goal=GOAL_COST)
    record("plain JAX's processor time in that of all processes", [worth / cpu.total], "", better="more")
    # What the draw took beyond its mean, or less, at what a slot costs its worker.
    drawn, meant = sum(measured.audited.values()), case.audited * measured.accepted
    luck = (drawn - meant) * training / measured.accepted
    # A machine that has the workers and one validator of several.
    shared = training + (cpu["nodes"] + cpu["auditors"] + cpu["auditor engines"]) / case.validators
    print(
        f"  verified training costs {cost:.2f} x the workers' {training:.1f} s   goal {GOAL_COST:g}: "
        f"{verdict(GOAL_COST / cost)}; with the chain's nodes {cpu.total / training:.2f} x"
    )
    print(
        f"  {drawn} slots recomputed where {meant:.1f} is the mean: with that verified training costs "
        f"{cost - luck / training:.2f} x"
    )
    print(
        f"  with one of the {case.validators} validators beside these workers: {worth / shared:.1%} of plain JAX's "
        "samples by processor time"
    )
    total = sum(measured.phases.values())
    print(
        f"  a round lasts {measured.wall / measured.rounds:.1f} s; at heads the task was in: "
        + ", ".join(f"{phase} {count / total:.0%}" for phase, count in measured.phases.most_common()),
        flush=True,
    )


def run(case: Case, folder: Path, seconds: float) -> Measured:
    """Start a network, watch it, stop it."""
    write_genesis(case, folder)
    rpc_port = free_run(2 * case.validators)
    ports = (f"--rpc-port={rpc_port}", f"--port={rpc_port + case.validators}", "--no-prometheus")
    with (folder / "terminal").open("wb") as terminal:
        network = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chain",
                f"--genesis={folder / 'genesis.json'}",
                f"--base-path={folder / 'data'}",
                *ports,
            ],
            stdout=terminal,
            stderr=terminal,
            cwd=ROOT,
        )
    try:
        return trio.run(watch, folder, seconds, network, rpc_port)
    except BaseException:
        print((folder / "terminal").read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        network.send_signal(signal.SIGINT)
        network.wait(30)


async def watch(folder: Path, seconds: float, network: subprocess.Popen[bytes], rpc_port: int) -> Measured:
    """Follow the task from the end of one round to the end of another, so many seconds later at least."""
    measured = Measured()
    ends: list[int] = []
    started = 0.0
    before = Ledger()
    data = folder / "data"
    # A network that refused its genesis file serves nobody.
    while "; Ctrl-C stops them all" not in (folder / "terminal").read_text():
        if network.poll() is not None:
            raise RuntimeError("the network ended before it was ready")
        await trio.sleep(0.1)
    # Compiling a transformer takes seven engines on two cores minutes.
    with trio.fail_after(600 + 10 * seconds):
        async with (
            Client.reconnecting([f"ws://127.0.0.1:{rpc_port}"]) as client,
            client.finalized_heads() as heads,
        ):
            async for _ in heads:
                task: dict[str, Any] = await client.request("training_task", 0)
                if task["round"] < WARM_UP_ROUNDS:
                    continue
                now = time.monotonic()
                if not ends:
                    started, before = now, seconds_by_role(data)
                if not ends or task["round"] > ends[-1]:
                    ends.append(task["round"])
                    if len(ends) > 1 and now - started >= seconds:
                        break
                running = await client.request("training_round", 0)
                measured.phases[running["phase"]] += 1
                if drawn := sum(bool(slot["auditors"]) for slot in running["slots"]):
                    measured.audited[running["round"], running["attempt"]] = drawn
            measured.wall, measured.cpu = now - started, seconds_by_role(data) - before
            measured.rounds, measured.loss = ends[-1] - ends[0], task["latestLoss"]
            for number in range(ends[0], ends[-1]):
                slots = (await client.request("training_round", 0, number))["slots"]
                measured.accepted += sum(bool(slot["accepted"]) for slot in slots)
                measured.rejected += sum(not slot["accepted"] for slot in slots)
    return measured


def write_genesis(case: Case, folder: Path) -> None:
    """A chain like the testnet's, with one task."""
    from trainer.export import ExportError
    from trainer.task import build, check_fit

    built = build(task_of(case.model, case.batch))
    try:
        check_fit(built, case.slots, case.steps, federated=False)
    except ExportError as error:
        raise SystemExit(str(error)) from None  # Workers would refuse it, and no round would ever end.
    blobs = folder / "blobs"
    blobs.mkdir()
    for root, data in built.blobs.items():
        (blobs / root.hex()).write_bytes(data)
    sgd = {"rule": {"sgd": {"learningRate": round(RATE[case.model] * PICO), "momentum": 9 * PICO // 10}}}
    average = {"rule": {"sgd": {"learningRate": PICO, "momentum": 0}}}
    policy: dict[str, object] = {
        "slots": case.slots,
        # Phases end when they are complete.
        "commitBlocks": 600,
        "revealBlocks": 60,
        "auditBlocks": 600,
        "auditorsPerSlot": 1,
        "auditedPpm": round(case.audited * PPM),
        "toleranceMicroSteps": 600_000,
        "outliersPpm": 20_000,
        "evaluateRounds": case.evaluate_rounds,
    }
    if case.steps > 1:
        policy["localSteps"] = {"count": case.steps, "inner": sgd}
    names = ACCOUNTS[: case.validators]
    sizes = {root: len(data) for root, data in built.blobs.items()}
    task = {
        "owner": address("Alice"),
        "name": case.model,
        **{
            name: "0x" + root.hex()
            for name, root in (
                ("programRoot", built.program_root),
                ("datasetRoot", built.dataset_root),
                ("paramsRoot", built.params_root),
            )
        },
        "optimizer": average if case.steps > 1 else sgd,
        "policy": policy,
        "rounds": 1000,
        # Little enough that a share of the slots is audited: what a slot may be worth follows from that.
        "pricePerSlot": POT // 10,
        "storage": {
            "programBytes": sizes.pop(built.program_root),
            "parameters": sizes.pop(built.params_root) // 4,
            "datasetBytes": sum(sizes.values()),
        },
    }
    genesis = {
        "name": "Bench",
        "id": "potchain_bench",
        "chainType": "Local",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
        "consensus": {"blockTimeMs": case.block_ms, "timeoutMs": max(2000, 2 * case.block_ms), "timeoutMsMax": 16000},
        "blobs": "blobs",
        "development": {
            "validators": processes(names),
            "workers": processes(WORKERS),
            "aggregators": processes(("Aggregator",)),
        },
        "genesis": {
            "balances": {"balances": [*endowed(), (address("Aggregator"), 1_000 * POT)]},
            "sudo": {"key": address("Alice")},
            "validators": {"authorities": [authority(name) for name in names]},
            "training": {"tasks": [task]},
        },
    }
    (folder / "genesis.json").write_text(json.dumps(genesis))


def plain_processes(case: Case, count: int, seconds: float, more: dict[str, str]) -> dict[str, float]:
    """What so many processes do in plain JAX at the same time, together.

    `more` is what their environment has beside one thread each.
    """
    command = [sys.executable, __file__, "--plain", case.model, str(case.batch), str(case.steps), str(seconds)]
    threads = {"XLA_FLAGS": ONE_THREAD, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, **more}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(count)]
    found = [json.loads(process.communicate()[0]) for process in running]
    return {
        "samples": sum(one["samples"] for one in found),
        "cpu": sum(one["cpu"] for one in found),
        "wall": sum(one["wall"] for one in found) / len(found),
    }


def plain(model: str, batch: int, steps: int, seconds: float) -> dict[str, float]:
    """Batches of plain JAX for so long: gradient and momentum in one jitted step."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    task = task_of(model, batch)
    x, y = train_of(task)

    @jax.jit
    def step(params: Any, velocity: Any, x: Any, y: Any) -> tuple[Any, Any]:
        gradient = jax.grad(task.loss)(params, x, y)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
        return jax.tree.map(lambda p, v: p - RATE[model] * v, params, velocity), velocity

    def epoch(params: Any, velocity: Any, rows: Any) -> tuple[Any, Any]:
        for index in range(len(rows)):
            params, velocity = step(params, velocity, x[rows[index]], y[rows[index]])
        jax.block_until_ready(params)  # type: ignore[no-untyped-call]
        return params, velocity

    params = initial(model, 0)
    velocity = jax.tree.map(jnp.zeros_like, params)
    order = np.random.default_rng(0).permutation(len(x))
    count = min(max(steps, 4), len(x) // batch)
    rows = order[: count * batch].reshape(count, batch)
    params, velocity = epoch(params, velocity, rows[:1])
    samples, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        params, velocity = epoch(params, velocity, rows)
        samples += rows.size
    return {"samples": samples, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
