"""A task comes from any JAX model: what was exported computes what the model does, and what cannot be is said."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export

from tests.chain.test_cli import potchain
from tests.trainer.kit import small_task
from trainer import model, task
from trainer.arrays import Float32s
from trainer.export import ExportError, flatten, restore, unflatten
from trainer.task import Built, Task

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "docs" / "examples"
RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((32, 3)).astype(np.float32), RNG.integers(0, 2, 32)


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def evaluation(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ((x @ params["w"] + params["b"] - y) ** 2).sum(), (y == 0).sum()


PARAMS = {"w": np.ones(3, np.float32), "b": np.float32(0.5) * np.ones((), np.float32)}
LINE = Task("line", loss, evaluation, PARAMS, train=(X, Y), held_out=(X, Y), batch=8)


def gradient(built: Built, theta: Float32s, x: Any, y: Any) -> tuple[float, Float32s]:
    """What the shipped bytes compute."""
    function = jax_export.deserialize(bytearray(built.program.gradient)).call
    value, found = jax.jit(function)(theta, x, y)
    return float(value), np.asarray(found)


def test_what_is_shipped_computes_what_the_model_does() -> None:
    built = task.build(LINE)
    x, y = X[:8], Y[:8].astype(np.int32)
    value, found = gradient(built, built.theta, x, y)
    expected, tree = jax.value_and_grad(loss)(PARAMS, x, y)
    assert value == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(found, flatten(jax.device_get(tree))[1], rtol=1e-5)
    assert [tensor.name for tensor in built.program.layout] == ["b", "w"]
    assert built.program.targets.dtype == "int32"  # as JAX takes what numpy has in 64 bits
    assert built.costs.gradient.flops > 0
    assert set(built.blobs) >= {built.program_root, built.dataset_root, built.params_root, built.manifest.train.x}


def test_a_model_of_many_tensors_costs_about_as_much_as_one_of_few() -> None:
    """Each tensor's gradient is written to its place, and not added up with a vector of all."""

    def squares(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return x.mean() * jnp.stack([jnp.vdot(tensor, tensor) for tensor in params]).sum()

    def sums(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return squares(params, x, y) * len(x), (y == 0).sum()

    def traffic(tensors: int) -> float:
        params = [np.ones(65_536 // tensors, np.float32)] * tensors
        made = task.build(dataclasses.replace(LINE, loss=squares, evaluation=sums, params=params))
        return made.costs.gradient.traffic_bytes

    assert traffic(64) < 3 * traffic(1)


class Dense(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner = nnx.Linear(3, 2, rngs=rngs)
        self.outer = nnx.List([nnx.Linear(2, 1, rngs=rngs)])


@pytest.mark.parametrize(
    "params",
    [
        {"b": np.zeros((2, 2), np.float32), "a": [np.ones(3, np.float32), (np.ones((), np.float32),)]},
        nn.Dense(2).init(jax.random.key(0), jnp.zeros((1, 3))),
        nnx.state(Dense(nnx.Rngs(0)), nnx.Param),
    ],
    ids=["plain", "linen", "nnx"],
)
def test_a_model_of_any_kind_comes_back_as_it_was(params: Any, tmp_path: Path) -> None:
    layout, theta = flatten(params)
    expected = theta + np.float32(1)
    for found in (
        unflatten(params, expected),
        restore(params, model.tensors(dataclasses.replace(small_task().program, layout=layout), expected)),
    ):
        assert str(jax.tree_util.tree_structure(found)) == str(jax.tree_util.tree_structure(params))
        assert flatten(found)[0] == layout
        assert flatten(found)[1].tobytes() == expected.tobytes()


def test_names_are_paths_and_another_models_tensors_are_refused() -> None:
    layout, _ = flatten(nnx.state(Dense(nnx.Rngs(0)), nnx.Param))
    assert [t.name for t in layout] == ["inner.bias", "inner.kernel", "outer.0.bias", "outer.0.kernel"]
    with pytest.raises(ExportError, match=r"another model's tensors: b, c differ"):
        restore(PARAMS, {"w": np.ones(3, np.float32), "c": np.ones((), np.float32)})
    with pytest.raises(ExportError, match="expected 4 parameters"):
        unflatten(PARAMS, np.zeros(5, np.float32))


def by_library(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    scale = jnp.sum(jnp.linalg.inv(jnp.eye(3) * params["b"]))  # the line that is named
    return loss(params, x, y) + scale


def by_rbg(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    noise = jax.random.normal(jax.random.key(0, impl="rbg"), x.shape)  # the line that is named
    return loss(params, x + noise, y)


def by_data(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return loss(params, x[jnp.nonzero(y)[0]], y)  # the line that is named


def by_print(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    jax.debug.print("loss {}", x[0, 0])  # the line that is named
    return loss(params, x, y)


def without_bias(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((x @ params["w"] + jax.lax.stop_gradient(params["b"]) - y) ** 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"w": np.ones(3), "b": PARAMS["b"]}}, r"parameter 'w': expected a float32 array, got float64"),
        ({"params": {"w": PARAMS["w"], "b": 1.0}}, r"parameter 'b': expected a float32 array, got float; convert it"),
        ({"params": {**PARAMS, "key": jax.random.key(0)}}, r"parameter 'key': .* random keys\) out of the parameters"),
        ({"params": {**PARAMS, "more": np.ones(2, np.float32)}}, "parameter 'more' gets no gradient"),
        ({"params": {}}, "expected parameters, got a tree without arrays"),
        ({"loss": without_bias}, "parameter 'b' gets no gradient: the loss does not depend on it"),
        ({"loss": lambda p, x, y: x @ p["w"] + p["b"] - y}, "loss: expected one float32 number"),
        ({"loss": by_library}, r"gradient of loss: stablehlo.custom_call.*LAPACK.*test_task.py:{by_library}\)"),
        ({"loss": by_rbg}, r"gradient of loss: stablehlo.rng_bit_generator.*test_task.py:{by_rbg}\)"),
        ({"loss": by_data}, r"loss: ConcretizationTypeError: .*test_task.py:{by_data}\)"),
        ({"loss": by_print}, r"loss: debug_\w+ has an effect: leave debug prints .*test_task.py:{by_print}\)"),
        (
            {"evaluation": lambda p, x, y: (loss(p, x, y), (x @ p["w"] > y).mean())},
            r"evaluation: expected an int32 for the number of right answers, got float32: take .sum\(\) of booleans",
        ),
        (
            {"evaluation": lambda p, x, y: (loss(p, x, y), (x @ p["w"] > y).sum(dtype=jnp.int8))},
            r"evaluation: expected an int32 for the number of right answers, got int8: ",
        ),
        ({"evaluation": loss}, r"evaluation: expected two numbers, \(sum of losses, right answers\)"),
        ({"train": (X, Y[:5])}, "train: expected as many targets as inputs, got 5 for 32"),
        ({"train": (X.astype(np.float16), Y)}, r"train\[0\]: expected an array of float32, int32, uint8, got float16"),
        ({"train": (X, Y + 2**40)}, r"train\[1\]: .* got int64"),
        ({"train": (X * np.float32(np.nan), Y)}, r"train\[0\]: expected finite numbers"),
        ({"held_out": (X[:, :2], Y)}, r"inputs: expected rows of one kind, got float32\[3\] to train and float32\[2\]"),
        ({"held_out": (X[:1].repeat(1_031, 0), Y[:1].repeat(1_031))}, "1,031 rows are no multiple .*; hold out 1,024"),
        ({"evaluate_batch": 5}, "evaluate_batch: expected a divisor of the 32 held-out rows, got 5"),
        ({"batch": 33}, r"batch: expected 1 to 32 \(all rows to train on\), got 33"),
    ],
)
def test_what_cannot_be_a_task_is_said_with_its_line(changes: dict[str, Any], message: str) -> None:
    source = Path(__file__).read_text().splitlines()
    named = [number for number, line in enumerate(source, 1) if line.endswith("# the line that is named")]
    for function, number in zip(("by_library", "by_rbg", "by_data", "by_print"), named, strict=True):
        message = message.replace(f"{{{function}}}", str(number))
    with pytest.raises(ExportError, match=f"(?s){message}"):
        task.build(dataclasses.replace(LINE, **changes))


def test_an_iterator_of_samples_is_data_too() -> None:
    x, y = task.samples(((row, label) for row, label in zip(X, Y, strict=True)), 8)
    assert x.tobytes() == X[:8].tobytes()
    assert y.tolist() == Y[:8].tolist()
    with pytest.raises(ExportError, match="expected 33 samples, the iterator ended after 32"):
        task.samples(zip(X, Y, strict=True), 33)


def test_a_task_survives_its_folder_and_a_changed_file_is_noticed(tmp_path: Path) -> None:
    built = task.build(LINE)
    task.save(built, tmp_path)
    saved = task.load(tmp_path)
    assert (saved.name, saved.program_root, saved.params_root) == ("line", built.program_root, built.params_root)
    assert saved.blobs == built.blobs
    file = tmp_path / built.params_root.hex()
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(ExportError, match="its bytes are not what its name says"):
        task.load(tmp_path)
    file.unlink()
    with pytest.raises(ExportError, match="expected a folder that `potchain task export` wrote"):
        task.load(tmp_path)


def test_a_file_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import math\n\nmath.sqrt(-1)\n")
    with pytest.raises(ExportError, match=r"mine.py:3: ValueError: "):
        task.read(file)
    file.write_text("tasks = 3\n")
    with pytest.raises(ExportError, match=r"mine.py: expected `task = trainer.task.Task\(…\)`"):
        task.read(file)


def example(name: str) -> Any:
    """One of docs/examples, as a module."""
    found = ModuleType(name)
    exec(compile((EXAMPLES / f"{name}.py").read_text(), str(EXAMPLES / f"{name}.py"), "exec"), found.__dict__)
    return found


def clothes(count: int) -> tuple[Any, Any]:
    """Pictures of the shape that Fashion-MNIST's have, of things that nobody wears: bars, as high as their number."""
    labels = RNG.integers(0, 10, count).astype(np.uint8)
    images = RNG.integers(0, 40, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[: 2 * label + 2] += 200
    return images, labels


def verses(count: int) -> tuple[Any, Any]:
    """Text of the shape that the Bible's excerpts have, and the same a letter on."""
    text = np.frombuffer(b"In the beginning was the word. " * 9, np.uint8)
    starts = RNG.integers(0, 31, count)
    return np.stack([text[s : s + 128] for s in starts]), np.stack([text[s + 1 : s + 129] for s in starts])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("fashion", clothes), ("bible", verses)])
def test_an_example_is_admitted_costs_what_xla_says_and_learns(name: str, rows: Any) -> None:
    made = example(name).make(rows(64), rows(64))
    if name == "bible":  # A layer is compiled five times as fast as five.
        small = example(name)
        small.LAYERS = 1
        network = small.Network(nnx.Rngs(0))
        small.graph, small.params, small.rest = small.nnx.split(network, nnx.Param, ...)
        assert flatten(made.params)[1].size == 1_040_896
        made = small.make(rows(64), rows(64))
    built = task.build(made)
    call = jax_export.deserialize(bytearray(built.program.gradient)).call
    x, y = made.train[0][: made.batch], made.train[1][: made.batch]
    compiled = jax.jit(call).lower(built.theta, x, y).compile()

    analysis: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    cost = built.costs.gradient
    flops = analysis["flops"] + analysis.get("transcendentals", 0)
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert flops <= cost.flops <= 2 * flops
    assert held <= cost.memory_bytes <= 2 * held

    theta, losses = built.theta, []
    for _ in range(8):
        value, found = compiled(theta, x, y)
        losses.append(float(value))
        theta = (theta - np.float32(0.05) * np.asarray(found)).astype(np.float32)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "package"),
    [
        (
            "fashion",
            Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist")),
            "dataset-fashion-mnist",
        ),
        ("bible", Path(os.environ.get("BIBLE_DATA", "/usr/lib/bible.data")), "bible-kjv-text"),
    ],
)
def test_an_example_reads_the_data_that_it_names(name: str, place: str, package: str) -> None:
    if not Path(place).exists():
        pytest.skip(f"{place} is not there: apt install {package}")
    made = example(name).task()
    x, y = made.train
    if name == "fashion":
        assert x.shape == (60_000, 28, 28)
        assert np.bincount(y).tolist() == [6_000] * 10
    else:
        assert bytes(x[0]).startswith(b"Holy Bible, Authorized (King James) Version.")
        assert (x[:, 1:] == y[:, :-1]).all()
        assert x.max() < 128
    # The order of rows says nothing; a hundred of them are enough to see the loss fall.
    made = dataclasses.replace(made, train=(x[:512], y[:512]))
    params, step = made.params, jax.jit(jax.value_and_grad(made.loss))
    losses = []
    for start in range(0, 6 * made.batch, made.batch):
        value, found = step(params, x[start : start + made.batch], y[start : start + made.batch])
        losses.append(float(value))
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, found)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_the_commands_make_and_try_a_task(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from trainer.task import Task\n"
        "def loss(params, x, y): return ((x @ params['w'] - y) ** 2).mean()\n"
        "def evaluation(params, x, y): return ((x @ params['w'] - y) ** 2).sum(), (y == 0).sum()\n"
        # Rows that differ, so that an audit finds who leaves one out.
        "x = np.arange(96, dtype=np.float32).reshape(32, 3) % 7 / 7\n"
        "data = x, np.zeros(32, np.float32)\n"
        "task = Task('mine', loss, evaluation, {'w': np.ones(3, np.float32)}, data, data, batch=8)\n"
    )
    made = potchain("task", "export", str(file), "-o", str(tmp_path / "out"))
    assert made.returncode == 0, made.stderr
    assert "parameters  3 in 1 tensors" in made.stdout
    # Program, five chunks of data, the first model, and six rounds of four updates, a model and its optimiser's state.
    kept = f"nodes keep {(1 + 5 + 1 + 6 * 6) / 16:,.1f} MiB while it runs with 4 slots, and 0.1 MiB after it"
    assert kept in made.stdout
    tried = potchain("task", "check", str(tmp_path / "out"))
    assert tried.returncode == 0, tried.stderr
    assert re.search(r"loss \d\.\d{4}, gradient of norm \d\.\d", tried.stdout)
    assert "100.00% right of 32 rows" in tried.stdout
    assert kept in tried.stdout
    file.write_text(file.read_text().replace("np.ones(3,", "np.ones((3, 3_000_000),").replace("- y)", "- y[:, None])"))
    large = potchain("task", "check", str(file))
    assert large.returncode == 2, large.stderr
    assert "got 72,000,128 in the optimiser's state; take fewer parameters or rows" in " ".join(large.stderr.split())
    again = potchain("task", "export", str(file), "-o", str(tmp_path / "out"))
    assert again.returncode == 2
    assert "is not empty and is left as it is" in again.stderr
