"""Measures what calls take on this machine and compares it with the weight that they declare.

A run goes from the call's bytes to the state root that it makes: decoding, dispatch on a state that nobody has read
yet, and the tree. Signature, nonce and fee are every extrinsic's, and have their weight already. Time is this thread's
own, so that other programs on the machine do not count.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import thread_time_ns
from typing import Final

from chain.primitives import merkle
from genesis.guard.files import Finding, check_runtime
from runtime.composition import Runtime, View
from runtime.framework import EventLog
from runtime.limits import MICROSECOND
from runtime.state import Overlay
from runtime.testing import Benchmark, Prepared
from runtime.types import ApplyExtrinsic, DispatchError

WARM_RUNS: Final = 5  # the first ones fill Python's own caches, as the first block of a node does


class CannotWeigh(Exception):
    """The benchmarks cannot be run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A benchmark's result. Times are in microseconds."""

    call: str
    case: str
    declared: float
    median: float
    spread: float  # between the tenth and the ninetieth of a hundred runs

    @property
    def percent(self) -> float:
        """How much of what it declares the call uses."""
        return 100 * self.median / self.declared if self.declared else float("inf")

    @property
    def exceeds(self) -> bool:
        """Whether the call takes longer than it declares: whoever makes it often slows the chain down."""
        return self.median > self.declared


def benchmarks_in(path: Path) -> list[Benchmark]:
    """The benchmarks of a Python file, in its order; CannotWeigh where there are none, or it cannot be imported."""
    root, parts = path.resolve().parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    if not path.is_file() or path.suffix != ".py":
        raise CannotWeigh(f"cannot read {path}: expected a Python file with benchmarks")
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(".".join(parts))
    except Exception as error:
        raise CannotWeigh(f"{path}: importing it failed: {type(error).__name__}: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, Benchmark)]
    if not found:
        raise CannotWeigh(f"{path} has no benchmarks: mark functions with @benchmark from runtime.testing")
    return found


def findings_of(runtime: Runtime[View]) -> tuple[Finding, ...]:
    """What validators may execute differently in a runtime: what it weighs says nothing then."""
    return check_runtime(runtime.view.__module__, runtime).findings


def unweighed(prepared: Iterable[Prepared]) -> list[str]:
    """The calls that nobody prepared, of the modules of those that somebody did."""
    made = {each.call.path: each.call.info.module for each in prepared}
    modules = {module.name: module for module in made.values()}
    return [call.path for module in modules.values() for call in module.calls.values() if call.path not in made]


def weigh(case: str, prepared: Prepared, runs: int) -> Weighed:
    """Measure a call; CannotWeigh if it fails."""
    runtime, tree = prepared.runtime, prepared.tree
    raw = runtime.encode_call(prepared.call)
    taken = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(WARM_RUNS + runs):
            overlay, log = Overlay(tree), EventLog()
            log.at(ApplyExtrinsic(0))
            modules = runtime.over(overlay, log)
            start = thread_time_ns()
            call = runtime.call_codec.decode(raw)
            done = modules.dispatch(call, prepared.origin)
            merkle.update(tree, tree.root, overlay.changes(), tree.next_id)
            taken.append((thread_time_ns() - start) / 1000)
    except DispatchError as error:
        raise CannotWeigh(f"{case}: {prepared.call.path} fails: {type(error).__name__}: {error}") from None
    finally:
        gc.enable()
    tenths = statistics.quantiles(taken[WARM_RUNS:], n=10)
    return Weighed(
        call=prepared.call.path,
        case=case,
        declared=done.weight.ref_time / MICROSECOND,
        median=statistics.median(taken[WARM_RUNS:]),
        spread=tenths[-1] - tenths[0],
    )
