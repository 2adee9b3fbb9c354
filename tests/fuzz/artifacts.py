"""Task artifacts with mistakes in them, given to a real engine: each runs, is refused, or ends a child; nothing else.

`python -m tests.fuzz.artifacts --count 10000 --seed 7` does it for as long as one likes and prints what came of them.
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import trio
from jax import export as jax_export
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from chain.primitives.hashing import blake2_256
from tests.fuzz.samples import mutated
from trainer import artifact, confinement, export
from trainer.arrays import Float32s
from trainer.artifact import ArtifactError, Program, Rows
from trainer.sandbox import Deadlines, Engine, EngineCrashed, EngineTimeout, ProgramRefused, open_engine

BATCH, INPUTS = 4, 3
# A mutant that compiles or computes for longer is ended; an honest one takes a hundredth of it.
DEADLINES = Deadlines(load=60.0, run=4.0)
# A mutant may have an engine fill all the memory that it is allowed. A quarter of that is enough to load and run the
# honest program, and little enough for a machine on which other tests run, too.
ADDRESS_BYTES_MAX = confinement.ADDRESS_BYTES_MAX // 4
# Most changes of a program's text give no program; after so many tries its bytes are changed instead.
TRIES = 40


@cache
def honest() -> tuple[Program, Float32s]:
    """A model with a product, a loop and a gather: small, since what survives a mutation is compiled."""

    def values(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        turned = jnp.asarray(jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c * 0.9), x @ params["w"]))
        return turned * params["b"][jnp.array([0, 1, 1, 0])]

    def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        return ((values(params, x) - y) ** 2).mean()

    def evaluation(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return ((values(params, x) - y) ** 2).sum(), (y == 0).sum()

    params = {"w": np.ones(INPUTS, np.float32), "b": np.ones(2, np.float32)}
    inputs, targets = Rows((INPUTS,), "float32"), Rows((), "float32")
    program, theta, _ = export.build(
        loss, evaluation, params, inputs=inputs, targets=targets, batch=BATCH, evaluate_batch=BATCH
    )
    return program, theta


def flipped(rng: Random, data: bytes, other: bytes) -> bytes:
    """A few bytes are others."""
    del other
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= rng.randint(1, 255)
    return bytes(changed)


def truncated(rng: Random, data: bytes, other: bytes) -> bytes:
    """The end is missing, or replaced by zeros."""
    del other
    kept = data[: rng.randrange(len(data))]
    return kept if rng.random() < 0.5 else kept.ljust(len(data), b"\0")


def spliced(rng: Random, data: bytes, other: bytes) -> bytes:
    """A part of another program in the place of one of this, or a part twice."""
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    source = other if rng.random() < 0.7 else data
    first = rng.randrange(len(source))
    return data[:start] + source[first : first + end - start] + data[end:]


def rewritten(rng: Random, data: bytes, other: bytes) -> bytes:
    """Another program, as MLIR takes it: a number, a type or an operation of the text is another."""
    exported = jax_export.deserialize(bytearray(data))
    text = str(exported.mlir_module())
    for _ in range(TRIES):
        changed = _reworded(rng, text)
        with mlir.make_ir_context():
            try:
                module = ir.Module.parse(changed)
                version = stablehlo.get_version_from_compatibility_requirement(
                    stablehlo.StablehloCompatibilityRequirement.WEEK_4
                )
                portable = stablehlo.serialize_portable_artifact(module, version)
            except (ir.MLIRError, ValueError):
                continue
        return bytes(replace(exported, mlir_module_serialized=portable).serialize())
    return mutated(rng, data, other)


_NUMBERS = ("0", "1", "-1", "2", "3", "7", "65536", "2147483647", "-2147483648", "0x7FC00000", "1.000000e+38")
_NAMES = re.compile(r"stablehlo\.(\w+)")
_TOKENS = re.compile(r"(?<![\w%#@.])-?\d+(?:\.\d+e[+-]\d+)?|stablehlo\.\w+|HIGHEST|\bi32\b|\bf32\b|\bLT\b|%[\w#]+")


def _reworded(rng: Random, text: str) -> str:
    token = rng.choice(list(_TOKENS.finditer(text)))
    old = token.group()
    if old.startswith("stablehlo."):
        new = f"stablehlo.{rng.choice(_NAMES.findall(text))}"
    elif old.startswith("%"):
        new = rng.choice(re.findall(r"%[\w#]+", text))
    elif old[0].isalpha():
        new = rng.choice(("DEFAULT", "i64", "ui32", "bf16", "f64", "GE", "NE", "HIGH"))
    else:
        new = rng.choice(_NUMBERS)
    return text[: token.start()] + new + text[token.end() :]


Mutate = Callable[[Random, bytes, bytes], bytes]
# How many of a hundred mutants each makes. What is rewritten is a program most of the time, which takes a tenth of a
# second to compile; the others are refused in a few milliseconds.
MUTATIONS: dict[Mutate, int] = {flipped: 32, truncated: 20, spliced: 45, rewritten: 3}


@dataclass
class Result:
    """How many mutants ran, were refused, crashed or hung a child, by mutation; and how many children it took."""

    counts: Counter[tuple[str, str]]
    children: int

    def __str__(self) -> str:
        total = Counter(outcome for _, outcome in self.counts.elements())
        lines = [f"{sum(total.values()):,} mutants, {self.children} engines: {_counted(total)}"]
        for mutate in MUTATIONS:
            own = Counter({outcome: n for (name, outcome), n in self.counts.items() if name == mutate.__name__})
            lines.append(f"  {mutate.__name__:<10} {_counted(own)}")
        return "\n".join(lines)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in ("ran", "refused", "crashed", "hung"))


async def fuzz(count: int, seed: int, folder: Path) -> Result:
    """Give that many mutants to an engine; an exception is a finding."""
    program, theta = honest()
    blob = artifact.encode(program)
    x, y = np.ones((BATCH, INPUTS), "<f4").tobytes(), np.zeros(BATCH, "<f4").tobytes()
    rng, counts, children = Random(seed), Counter[tuple[str, str]](), set[int]()
    async with open_engine(folder, deadlines=DEADLINES, warn=lambda _: None) as engine:

        async def expected() -> bytes:
            await engine.load(blake2_256(blob), program, blob)
            return (await engine.gradient(blake2_256(blob), theta, x, y)).values.tobytes()

        first = await expected()
        for mutate in rng.choices(list(MUTATIONS), list(MUTATIONS.values()), k=count):
            which = rng.choice(("gradient", "evaluate"))
            other = program.evaluate if which == "gradient" else program.gradient
            changed = mutate(rng, program.gradient if which == "gradient" else program.evaluate, other)
            mutant = replace(program, gradient=changed) if which == "gradient" else replace(program, evaluate=changed)
            await engine.find_devices()  # starts a child, where the mutant before ended one
            assert engine.pid is not None
            if engine.pid not in children:
                children.add(engine.pid)
                resource.prlimit(engine.pid, resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
            counts[mutate.__name__, await _outcome(engine, mutant, theta, x, y)] += 1
        assert await expected() == first, "an honest program computes something else after mutants"
    return Result(counts, len(children))


async def _outcome(engine: Engine, mutant: Program, theta: Float32s, x: bytes, y: bytes) -> str:
    blob = artifact.encode(mutant)
    root = blake2_256(blob)
    try:
        await engine.load(root, artifact.parse(blob), blob)
        gradient = await engine.gradient(root, theta, x, y)
        await engine.evaluate(root, theta, x, y)
    except (ProgramRefused, ArtifactError):
        return "refused"
    except EngineCrashed:
        return "crashed"
    except EngineTimeout:
        return "hung"
    assert gradient.values.shape == theta.shape
    return "ran"


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description="give mutated task artifacts to a sandboxed engine")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(trio.run(fuzz, arguments.count, arguments.seed, Path(folder)))


if __name__ == "__main__":
    main()
