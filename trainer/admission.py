"""Admission of a program: a walk over its parsed StableHLO before anything is compiled.

Rule: what is not on the list is refused. The list has what gradients of models need; it has no custom call, no
callback, no feed, no dynamic shape, and no loop whose number of turns is not written in it. What a program may cost is
bounded by what the walk adds up, which is never less than what it costs. Runs only in the engine and in the exporter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from jaxlib.mlir import ir

from trainer.operations import (
    ELEMENTWISE,
    FOLDING_SECONDS_AN_ELEMENT,
    FUNCTION_ATTRIBUTES,
    VALUE_ATTRIBUTES,
    Refused,
    attribute_names,
    bytes_of,
    constant_bytes,
    copies,
    elements,
    flops,
    folding_seconds,
    is_splat,
    require_allowed,
)

# Starting an operation takes as long as moving this much, however little it computes: empty loops are not free.
DISPATCH_BYTES = 4_096
# These read as much of their first operand as they give, however large it is.
_SLICING = frozenset({"stablehlo.slice", "stablehlo.dynamic_slice", "stablehlo.gather"})
_FREE = frozenset({"stablehlo.constant", "stablehlo.return", "func.return"})
_LOOPS = "write it as jax.lax.scan, or as fori_loop between two numbers"
# A function is looked at once for each set of its arguments that are constants.
_WALKS_PER_OPERATION = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call of a program may cost."""

    operations: int = 20_000  # the largest real programs measured have 4,000
    nesting: int = 32  # branches in loops in branches; Python's own stack bears 1,000 / 3 frames a level
    constant_bytes: int = 8 << 20  # the artifact is not larger either
    tensor_bytes: int = 2 << 30  # one tensor
    memory_bytes: int = 4 << 30  # all that is alive at once; the engine has 16 GiB with JAX and its compiler
    traffic_bytes: int = 512 << 30  # all that is read and written, loops multiplied out: ~1 minute of one core
    flops: float = 2e12  # a minute or two of one core
    folding_seconds: float = 10.0  # what the compiler computes by itself, before there is a program that can be stopped
    turns: int = 65_536  # of one loop


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program costs at most: what is written in it, and work and memory with loops and calls multiplied out."""

    operations: int = 0
    constant_bytes: int = 0
    memory_bytes: int = 0
    traffic_bytes: float = 0
    flops: float = 0
    folding_seconds: float = 0

    def times(self, turns: int) -> Cost:
        """Work done `turns` times, in the same memory; what is written once counts once."""
        return Cost(
            self.operations,
            self.constant_bytes,
            self.memory_bytes,
            self.traffic_bytes * turns,
            self.flops * turns,
            self.folding_seconds,
        )

    def beside(self, other: Cost) -> Cost:
        """Either one or the other; both are written and compiled."""
        return Cost(
            self.operations + other.operations,
            self.constant_bytes + other.constant_bytes,
            max(self.memory_bytes, other.memory_bytes),
            max(self.traffic_bytes, other.traffic_bytes),
            max(self.flops, other.flops),
            self.folding_seconds + other.folding_seconds,
        )

    def then(self, other: Cost) -> Cost:
        """One after the other, in memory that both may use."""
        return Cost(
            self.operations + other.operations,
            self.constant_bytes + other.constant_bytes,
            max(self.memory_bytes, other.memory_bytes),
            self.traffic_bytes + other.traffic_bytes,
            self.flops + other.flops,
            self.folding_seconds + other.folding_seconds,
        )


class Kind(IntEnum):
    """What a compiler knows of a value before the program runs."""

    VARIABLE = 0
    UNIFORM = 1  # made of one number, or counted: kept as a rule, and folded only into reductions and the like
    LITERAL = 2  # a table of numbers: whatever is done to it is done by the compiler


@dataclass(slots=True)
class _Walk:
    functions: dict[str, Any]
    limits: Limits
    done: dict[tuple[str, tuple[Kind, ...]], tuple[Cost, list[Kind]]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    kinds: dict[Any, Kind] = field(default_factory=dict)
    written: int = 0
    walked: int = 0

    def function(self, name: str, kinds: Sequence[Kind]) -> tuple[Cost, list[Kind]]:
        """What a call costs, arguments not counted, and what is known of its results."""
        key = (name, tuple(kinds))
        if key in self.done:
            return self.done[key]
        if name in self.open:
            raise Refused(f"function @{name} calls itself")
        if name not in self.functions:
            raise Refused(f"function @{name} is not defined")
        if len(self.open) >= self.limits.nesting:
            raise Refused(f"calls nest deeper than {self.limits.nesting}")
        first = all(known != name for known, _ in self.done)
        self.open.append(name)
        self.done[key] = self.block(_only_block(self.functions[name].regions[0]), kinds, 0, first)
        self.open.pop()
        return self.done[key]

    def block(self, block: Any, arguments: Sequence[Kind], depth: int, first: bool) -> tuple[Cost, list[Kind]]:
        """A block's cost, and what is known of what it returns. Memory: the most that its own values take at once."""
        if depth > self.limits.nesting:
            raise Refused(f"regions nest deeper than {self.limits.nesting}")
        self.kinds.update(zip(block.arguments, arguments, strict=True))
        operations = [operation.operation for operation in block.operations]
        self._require_few(len(operations))
        used = [set(_uses(operation, self.limits.nesting - depth)) for operation in operations]
        last = {value: at for at, values in enumerate(used) for value in values}
        cost, live, peak = Cost(), 0, 0
        sizes: dict[Any, int] = {}
        for at, operation in enumerate(operations):
            try:
                own = self.operation(operation, depth, first)
            except Refused as error:
                raise error.at(self.open[-1], str(operation.location)) from None
            for result in operation.results:
                sizes[result] = bytes_of(result.type, operation.name)
                live += sizes[result]
            peak = max(peak, live + own.memory_bytes)
            cost = cost.then(own)
            for value in (*used[at], *(result for result in operation.results if result not in last)):
                if last.get(value, at) == at:
                    live -= sizes.pop(value, 0)
        cost = Cost(cost.operations, cost.constant_bytes, peak, cost.traffic_bytes, cost.flops, cost.folding_seconds)
        return cost, [self.kinds.get(value, Kind.VARIABLE) for value in operations[-1].operands]

    def operation(self, operation: Any, depth: int, first: bool) -> Cost:
        """One operation's cost, its results not counted as memory; what is known of them goes to `kinds`."""
        name = operation.name
        self.walked += 1
        self.written += first
        self._require_few(self.written)
        if self.walked > _WALKS_PER_OPERATION * self.limits.operations:
            raise Refused("its functions are called with too many combinations of constants; write them out")
        require_allowed(operation)
        operands = [bytes_of(value.type, name) for value in operation.operands]
        results = [bytes_of(result.type, name) for result in operation.results]
        for size in results:
            if size > self.limits.tensor_bytes:
                raise Refused(f"{name}: a tensor of {size:,} bytes, at most {self.limits.tensor_bytes:,} may be used")
        constants = constant_bytes(operation) if first else 0
        kinds = [self.kinds.get(value, Kind.VARIABLE) for value in operation.operands]
        if name == "func.call":
            # Written once, so its operations and constants were counted by the walk; its work counts each time.
            inner, known = self.function(ir.FlatSymbolRefAttr(operation.attributes["callee"]).value, kinds)
            self._know(operation, known)
            own = Cost(1, 0, inner.memory_bytes, DISPATCH_BYTES, 0, 0)
            return own.then(Cost(0, 0, 0, inner.traffic_bytes, inner.flops, inner.folding_seconds))
        if name == "stablehlo.while":
            return self._loop(operation, kinds, depth, first)
        if name == "stablehlo.case":
            return self._branches(operation, kinds, depth, first)
        region = Cost()
        for block in map(_only_block, operation.regions):
            inside, _ = self.block(block, [Kind.VARIABLE] * len(block.arguments), depth + 1, first)
            region = region.then(inside)
        kind, folding = _folded(operation, kinds)
        self._know(operation, [kind] * len(results))
        moved = sum(results) + (sum(operands) if name not in _SLICING else sum(results) + sum(operands[1:]))
        # A region's own traffic is registers: what it works on was counted as the operation's.
        return Cost(
            operations=1 + region.operations,
            constant_bytes=constants + region.constant_bytes,
            memory_bytes=copies(operation) * (sum(operands) + sum(results)),
            traffic_bytes=0.0 if name in _FREE else float(max(moved, DISPATCH_BYTES)),
            flops=flops(operation, region.flops),
            folding_seconds=folding,
        )

    def _loop(self, loop: Any, kinds: list[Kind], depth: int, first: bool) -> Cost:
        """The condition is asked once more than the body runs; both work on what is carried, in place."""
        turns = _turns(loop)
        if turns > self.limits.turns:
            raise Refused(f"a loop of {turns:,} turns, at most {self.limits.turns:,} are allowed")
        condition, body = map(_only_block, loop.regions)
        carried = list(_terminator(body).operands)
        # What the body hands on as it came is as constant inside as before; in a single turn everything is.
        inside = [
            kind if turns <= 1 or carried[place] == body.arguments[place] else Kind.VARIABLE
            for place, kind in enumerate(kinds)
        ]
        asked, _ = self.block(condition, inside, depth + 1, first)
        done, _ = self.block(body, inside, depth + 1, first)
        self._know(loop, [Kind.VARIABLE] * len(kinds))
        return Cost(1, traffic_bytes=DISPATCH_BYTES).then(asked.times(turns + 1)).then(done.times(max(turns, 1)))

    def _branches(self, case: Any, kinds: list[Kind], depth: int, first: bool) -> Cost:
        """The dearest branch, since nobody knows which is taken. A product is such a choice, by platform."""
        cost = Cost()
        known = [Kind.VARIABLE] * len(case.results)
        for block in map(_only_block, case.regions):
            branch, results = self.block(block, [], depth + 1, first)
            cost = cost.beside(branch)
            if kinds[0] != Kind.VARIABLE:
                known = [max(pair) for pair in zip(known, results, strict=True)]
        self._know(case, known)
        return Cost(1, traffic_bytes=DISPATCH_BYTES).then(cost)

    def _require_few(self, operations: int) -> None:
        if operations > self.limits.operations:
            raise Refused(f"more than {self.limits.operations:,} operations; write repeated layers as a scan")

    def _know(self, operation: Any, kinds: list[Kind]) -> None:
        self.kinds.update(zip(operation.results, kinds, strict=True))


def inspect(module: Any, limits: Limits) -> Cost:
    """The cost of a parsed module's @main, or Refused."""
    functions: dict[str, Any] = {}
    for operation in module.body.operations:
        inner = operation.operation
        if inner.name != "func.func":
            raise Refused(f"expected only functions in the module, got {inner.name}")
        name = ir.StringAttr(inner.attributes["sym_name"]).value
        _require_plain(inner, name)
        functions[name] = inner
    if "main" not in functions:
        raise Refused("expected a function @main")
    walk = _Walk(functions, limits)
    arguments = _only_block(functions["main"].regions[0]).arguments
    # An argument that the exporter made says which platform runs the program: the compiler knows it.
    kinds = [Kind.UNIFORM if given else Kind.VARIABLE for given in _global_constants(functions["main"], len(arguments))]
    cost, _ = walk.function("main", kinds)
    unused = sorted(set(functions) - {name for name, _ in walk.done})
    if unused:
        raise Refused(f"function @{unused[0]} is never called")
    constants: dict[str, int] = {}
    for (name, _), (called, _) in walk.done.items():
        constants[name] = max(constants.get(name, 0), called.constant_bytes)
    total = Cost(
        operations=walk.written,
        constant_bytes=sum(constants.values()),
        memory_bytes=cost.memory_bytes + sum(bytes_of(value.type, "an argument") for value in arguments),
        traffic_bytes=cost.traffic_bytes,
        flops=cost.flops,
        folding_seconds=cost.folding_seconds,
    )
    for what, value, limit, advice in (
        ("bytes of constants", total.constant_bytes, limits.constant_bytes, "make tables part of the data set"),
        ("bytes of memory", total.memory_bytes, limits.memory_bytes, "use smaller batches or a smaller model"),
        ("bytes of traffic", total.traffic_bytes, limits.traffic_bytes, "use smaller batches or shorter loops"),
        ("floating-point operations", total.flops, limits.flops, "use smaller batches or a smaller model"),
        (
            "seconds of the compiler to compute what depends on no input",
            total.folding_seconds,
            limits.folding_seconds,
            "compute it before, and make it part of the data set",
        ),
    ):
        if value > limit:
            raise Refused(f"up to {value:,.0f} {what}, at most {limit:,.0f} are allowed; {advice}")
    return total


def _folded(operation: Any, kinds: list[Kind]) -> tuple[Kind, float]:
    """What the compiler will know of an operation's results, and how long it may take over them."""
    name = operation.name
    if name == "stablehlo.constant":
        return (Kind.UNIFORM if is_splat(operation) else Kind.LITERAL), 0.0
    if name == "stablehlo.iota":
        return Kind.UNIFORM, 0.0
    if not kinds or Kind.VARIABLE in kinds:
        return Kind.VARIABLE, 0.0
    # Broadcasts and what is made of them alone are never written out.
    if name == "stablehlo.broadcast_in_dim" or (name in ELEMENTWISE and Kind.LITERAL not in kinds):
        return Kind.UNIFORM, 0.0
    if name in ELEMENTWISE:
        return Kind.LITERAL, FOLDING_SECONDS_AN_ELEMENT * sum(elements(result.type) for result in operation.results)
    return Kind.LITERAL, folding_seconds(operation)


def _require_plain(function: Any, name: str) -> None:
    """One block, and nothing said about the function, its arguments and results that the compiler might act on."""
    _only_block(function.regions[0])
    said = set(attribute_names(function)) - FUNCTION_ATTRIBUTES
    for which in ("arg_attrs", "res_attrs"):
        if which in function.attributes:
            for attributes in ir.ArrayAttr(function.attributes[which]):
                said |= set(attribute_names(ir.DictAttr(attributes))) - VALUE_ATTRIBUTES
    if said:
        raise Refused(
            f"function @{name}: attribute {sorted(said)[0]} is not on the list; leave hints and shardings out"
        )


def _global_constants(main: Any, count: int) -> list[bool]:
    if "arg_attrs" not in main.attributes:
        return [False] * count
    return [
        "jax.global_constant" in ir.DictAttr(attributes) for attributes in ir.ArrayAttr(main.attributes["arg_attrs"])
    ]


def _only_block(region: Any) -> Any:
    if len(region.blocks) != 1:
        raise Refused("expected every function and region to have one block")
    return region.blocks[0]


def _uses(operation: Any, depth: int) -> Iterator[Any]:
    """Every value that an operation reads, also in its regions, which nest at most so deep."""
    if depth < 0:
        raise Refused("regions nest deeper than anything that models need")
    yield from operation.operands
    for region in operation.regions:
        for inner in _only_block(region).operations:
            yield from _uses(inner.operation, depth - 1)


def _turns(loop: Any) -> int:
    """How often a loop runs: `for i in range(start, stop)` with both written as constants, or Refused."""
    condition, body = (region.blocks[0] for region in loop.regions)
    verdict = _owner(_terminator(condition).operands[0])
    if (
        verdict is None
        or verdict.name != "stablehlo.compare"
        or "LT" not in str(verdict.attributes["comparison_direction"])
        or ("compare_type" in verdict.attributes and " SIGNED" not in str(verdict.attributes["compare_type"]))
    ):
        raise Refused(f"a loop whose condition is not `counter < constant`; {_LOOPS}")
    index = _argument(verdict.operands[0], condition)
    stop = _constant(verdict.operands[1])
    start = _constant(loop.operands[index]) if index is not None else None
    if index is None or start is None or stop is None:
        raise Refused(f"a loop whose bounds are not constants; {_LOOPS}")
    increment = _owner(_terminator(body).operands[index])
    if increment is None or increment.name != "stablehlo.add":
        raise Refused(f"a loop whose counter does not count up by one; {_LOOPS}")
    first, second = increment.operands
    if not (
        (_argument(first, body) == index and _constant(second) == 1)
        or (_argument(second, body) == index and _constant(first) == 1)
    ):
        raise Refused(f"a loop whose counter does not count up by one; {_LOOPS}")
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
