"""Admission of a program: a walk over its parsed StableHLO before anything is compiled.

Rule: what is not on the list is refused. The list has what gradients of models need; it has no custom call, no
callback, no feed, no dynamic shape, and no loop whose number of turns is not written in it. Runs only in the engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

_ELEMENTWISE = """
    abs add and atan2 bitcast_convert broadcast_in_dim cbrt ceil clamp compare concatenate constant convert cosine
    divide dynamic_slice dynamic_update_slice exponential exponential_minus_one floor gather iota is_finite log
    log_plus_one logistic maximum minimum multiply negate not or pad power remainder reshape reverse
    round_nearest_afz round_nearest_even rsqrt select shift_left shift_right_arithmetic shift_right_logical sign
    sine slice sqrt subtract tan tanh transpose xor optimization_barrier
"""
_STRUCTURED = """
    case convolution dot_general reduce reduce_window scatter select_and_scatter sort while return
"""
_FRAME = frozenset({"func.return", "func.call"})
ALLOWED = _FRAME | {f"stablehlo.{name}" for name in (_ELEMENTWISE + _STRUCTURED).split()}

# float32 and integers: lower precision would close the gap between honest rounding and the mildest cheats.
ELEMENT_BYTES = {"f32": 4, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "ui8": 1, "ui16": 2, "ui32": 4, "ui64": 8}


# Starting an operation takes as long as moving this much, however little it computes: empty loops are not free.
DISPATCH_BYTES = 4_096


class Refused(ValueError):
    """The program may not run; the message says which operation or limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call of a program may cost."""

    operations: int = 20_000  # the largest real programs measured have 4,000
    nesting: int = 32  # branches in loops in branches; Python's own stack bears 1,000 / 2 frames a level
    constant_bytes: int = 8 << 20  # the artifact is not larger either
    tensor_bytes: int = 2 << 30  # one tensor
    traffic_bytes: int = 256 << 30  # all results together, loops multiplied out: ~30 s of memory traffic
    flops: float = 2e12  # a minute or two of one core
    turns: int = 65_536  # of one loop


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program costs: static operations, and work with loops and calls multiplied out."""

    operations: int = 0
    constant_bytes: int = 0
    traffic_bytes: float = 0
    flops: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.operations + other.operations,
            self.constant_bytes + other.constant_bytes,
            self.traffic_bytes + other.traffic_bytes,
            self.flops + other.flops,
        )

    def times(self, turns: int) -> Cost:
        """Work done `turns` times; what is written once counts once."""
        return Cost(self.operations, self.constant_bytes, self.traffic_bytes * turns, self.flops * turns)


@dataclass(slots=True)
class _Walk:
    functions: dict[str, Any]
    limits: Limits
    done: dict[str, Cost] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    walked: int = 0

    def function(self, name: str) -> Cost:
        if name in self.done:
            return self.done[name]
        if name in self.open:
            raise Refused(f"function @{name} calls itself")
        if name not in self.functions:
            raise Refused(f"function @{name} is not defined")
        if len(self.open) >= self.limits.nesting:
            raise Refused(f"calls nest deeper than {self.limits.nesting}")
        self.open.add(name)
        cost = self.region(self.functions[name].regions, 0)
        self.open.remove(name)
        self.done[name] = cost
        return cost

    def region(self, regions: Any, depth: int) -> Cost:
        if depth > self.limits.nesting:
            raise Refused(f"regions nest deeper than {self.limits.nesting}")
        cost = Cost()
        for operation in _operations(regions):
            cost += self.operation(operation, depth)
        return cost

    def operation(self, operation: Any, depth: int) -> Cost:
        name = operation.name
        self.walked += 1
        if self.walked > self.limits.operations:
            raise Refused(f"more than {self.limits.operations:,} operations")
        if name not in ALLOWED:
            target = f" to {operation.attributes['call_target_name']}" if "custom_call" in name else ""
            raise Refused(f"operation {name}{target} is not on the list")
        sizes = [_bytes_of(result.type, name) for result in operation.results]
        for size in sizes:
            if size > self.limits.tensor_bytes:
                raise Refused(f"{name}: a tensor of {size:,} bytes, at most {self.limits.tensor_bytes:,} may be used")
        own = Cost(1, _constant_bytes(operation), float(max(sum(sizes), DISPATCH_BYTES)), _flops(operation))
        if name == "func.call":
            # Written once, so its operations and constants were counted by the walk; its work counts each time.
            callee = self.function(ir.FlatSymbolRefAttr(operation.attributes["callee"]).value)
            return own + Cost(0, 0, callee.traffic_bytes, callee.flops)
        inner = self.region(operation.regions, depth + 1)
        if name == "stablehlo.while":
            turns = _turns(operation)
            if turns > self.limits.turns:
                raise Refused(f"a loop of {turns:,} turns, at most {self.limits.turns:,} are allowed")
            inner = inner.times(max(turns, 1))
        elif name == "stablehlo.sort":
            elements = _elements(operation.operands[0].type)
            inner = inner.times(math.ceil(elements * max(1.0, math.log2(max(elements, 2)))))
        return own + inner


def inspect(module: Any, limits: Limits) -> Cost:
    """The cost of a parsed module's @main, or Refused."""
    functions: dict[str, Any] = {}
    for operation in module.body.operations:
        inner = operation.operation
        if inner.name != "func.func":
            raise Refused(f"expected only functions in the module, got {inner.name}")
        if len(inner.regions) != 1 or len(inner.regions[0].blocks) != 1:
            raise Refused("expected every function to have one block")
        functions[ir.StringAttr(inner.attributes["sym_name"]).value] = inner
    walk = _Walk(functions, limits)
    main = walk.function("main")
    unused = sorted(set(functions) - set(walk.done))
    if unused:
        raise Refused(f"function @{unused[0]} is never called")
    constants = sum(cost.constant_bytes for cost in walk.done.values())
    for what, cost, limit in (
        ("bytes of constants", constants, limits.constant_bytes),
        ("bytes of traffic", main.traffic_bytes, limits.traffic_bytes),
        ("floating-point operations", main.flops, limits.flops),
    ):
        if cost > limit:
            raise Refused(f"{cost:,.0f} {what}, at most {limit:,.0f} are allowed")
    return Cost(walk.walked, constants, main.traffic_bytes, main.flops)


def _operations(regions: Any) -> Iterator[Any]:
    for region in regions:
        if len(region.blocks) != 1:
            raise Refused("expected every region to have one block")
        for operation in region.blocks[0].operations:
            yield operation.operation


def _ranked(type_: Any, what: str) -> Any:
    try:
        ranked = ir.RankedTensorType(type_)
    except ValueError:
        raise Refused(f"{what}: expected a tensor, got {type_}") from None
    if not ranked.has_static_shape:
        raise Refused(f"{what}: dynamic shape {ranked}")
    if ranked.encoding is not None:
        raise Refused(f"{what}: expected a plain tensor, got {ranked}")
    return ranked


def _elements(type_: Any) -> int:
    return int(math.prod(_ranked(type_, "operand").shape))


def _bytes_of(type_: Any, what: str) -> int:
    ranked = _ranked(type_, what)
    element = str(ranked.element_type)
    if element not in ELEMENT_BYTES:
        raise Refused(f"{what}: element type {element}, allowed are {', '.join(ELEMENT_BYTES)}")
    return int(math.prod(ranked.shape)) * ELEMENT_BYTES[element]


def _constant_bytes(operation: Any) -> int:
    if operation.name != "stablehlo.constant":
        return 0
    value = operation.attributes["value"]
    if not isinstance(value, ir.DenseElementsAttr):
        raise Refused("stablehlo.constant: expected its elements in the program itself")
    # A splat is one element however large its tensor; the tensor's own limit bounds that.
    return 8 if value.is_splat else _bytes_of(operation.results[0].type, operation.name)


def _flops(operation: Any) -> float:
    name = operation.name
    if name == "stablehlo.dot_general":
        _require_highest(operation)
        left = _ranked(operation.operands[0].type, name).shape
        numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
        contracted = float(math.prod(left[axis] for axis in numbers.lhs_contracting_dimensions))
        return 2 * _elements(operation.results[0].type) * contracted
    if name == "stablehlo.convolution":
        _require_highest(operation)
        return 2.0 * _elements(operation.results[0].type) * _elements(operation.operands[1].type)
    if name in ("stablehlo.reduce_window", "stablehlo.select_and_scatter"):
        window = math.prod(_integers(operation, "window_dimensions"))
        return float(window) * max(_elements(value.type) for value in (*operation.operands, *operation.results))
    return float(sum(_elements(result.type) for result in operation.results))


def _integers(operation: Any, attribute: str) -> list[int]:
    if attribute not in operation.attributes:
        return [1]
    return [int(value) for value in ir.DenseI64ArrayAttr(operation.attributes[attribute])]


def _require_highest(operation: Any) -> None:
    """Every operand at precision HIGHEST: otherwise a GPU's TF32 would differ from a CPU by more than a cheat does."""
    attributes = operation.attributes
    precisions = (
        [str(p) for p in ir.ArrayAttr(attributes["precision_config"])] if "precision_config" in attributes else []
    )
    if len(precisions) != 2 or any("HIGHEST" not in precision for precision in precisions):
        raise Refused(f"{operation.name}: expected precision HIGHEST for both operands, got {precisions or 'none'}")
    if "algorithm" in attributes:
        raise Refused(f"{operation.name}: expected no algorithm of its own")


def _turns(loop: Any) -> int:
    """How often a loop runs: `for i in range(start, stop)` with both written as constants, or Refused."""
    condition, body = (region.blocks[0] for region in loop.regions)
    verdict = _owner(_terminator(condition).operands[0])
    if (
        verdict is None
        or verdict.name != "stablehlo.compare"
        or "LT" not in str(verdict.attributes["comparison_direction"])
    ):
        raise Refused("a loop whose condition is not `counter < constant`")
    index = _argument(verdict.operands[0], condition)
    stop = _constant(verdict.operands[1])
    start = _constant(loop.operands[index]) if index is not None else None
    if index is None or start is None or stop is None:
        raise Refused("a loop whose bounds are not constants")
    increment = _owner(_terminator(body).operands[index])
    if increment is None or increment.name != "stablehlo.add":
        raise Refused("a loop whose counter does not count up by one")
    first, second = increment.operands
    if not (
        (_argument(first, body) == index and _constant(second) == 1)
        or (_argument(second, body) == index and _constant(first) == 1)
    ):
        raise Refused("a loop whose counter does not count up by one")
    return max(0, stop - start)


def _terminator(block: Any) -> Any:
    return list(block.operations)[-1].operation


def _owner(value: Any) -> Any:
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation if hasattr(owner, "operation") else owner


def _argument(value: Any, block: Any) -> int | None:
    if not isinstance(value, ir.BlockArgument):
        return None
    return int(value.arg_number) if value.owner == block else None


def _constant(value: Any) -> int | None:
    """The integer scalar that a constant operation holds; signed 32 bit, which no count of turns leaves."""
    owner = _owner(value)
    if owner is None or owner.name != "stablehlo.constant" or str(owner.results[0].type) != "tensor<i32>":
        return None
    attribute = owner.attributes["value"]
    return int(attribute[0]) if isinstance(attribute, ir.DenseIntElementsAttr) else None
