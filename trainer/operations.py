"""What is known of single StableHLO operations: which may be used, what each costs, what to write instead of others.

Rule: costs are upper bounds that follow from shapes alone, so that every machine admits the same programs.
"""

from __future__ import annotations

import math
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

# Result by result, element by element, or elements moved about.
_ELEMENTWISE = """
    abs add and atan2 bitcast_convert broadcast_in_dim cbrt ceil clamp compare concatenate constant convert cosine
    count_leading_zeros divide dynamic_slice dynamic_update_slice exponential exponential_minus_one floor gather iota
    is_finite log log_plus_one logistic maximum minimum multiply negate not optimization_barrier or pad popcnt power
    reduce_precision remainder reshape reverse round_nearest_afz round_nearest_even rsqrt select shift_left
    shift_right_arithmetic shift_right_logical sign sine slice sqrt subtract tan tanh transpose xor
"""
# With regions that say what is done to elements, or with more arithmetic than elements.
_STRUCTURED = """
    case convolution dot_general reduce reduce_window return scatter select_and_scatter sort while
"""
ELEMENTWISE = frozenset(f"stablehlo.{name}" for name in _ELEMENTWISE.split())
ALLOWED = ELEMENTWISE | {f"stablehlo.{name}" for name in _STRUCTURED.split()} | {"func.return", "func.call"}

# What an operation may say about itself. The compiler reads others, too: placement, layouts, hints for its passes.
_ATTRIBUTES = """
    base_dilations batch_group_count broadcast_dimensions callee compare_type comparison_direction dimension
    dimension_numbers dimensions dot_dimension_numbers edge_padding_high edge_padding_low exponent_bits
    feature_group_count
    indices_are_sorted interior_padding iota_dimension is_stable lhs_dilation limit_indices mantissa_bits padding
    permutation
    precision_config rhs_dilation scatter_dimension_numbers slice_sizes start_indices strides unique_indices value
    window_dilations window_dimensions window_reversal window_strides
"""
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
FUNCTION_ATTRIBUTES = frozenset({"arg_attrs", "function_type", "res_attrs", "sym_name", "sym_visibility"})
VALUE_ATTRIBUTES = frozenset({"jax.global_constant", "jax.result_info"})

# float32 and integers. What has fewer bits is rounded by an operation that says so, on every machine alike: an
# element type would leave it to compilers where they round, which closes the gap between honest machines and cheats.
ELEMENT_BYTES = {"f32": 4, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "ui8": 1, "ui16": 2, "ui32": 4, "ui64": 8}
RANK_MAX = 16
# How much of a mantissa a product keeps at a precision, at least: TF32 where a GPU may use it, bf16 where a TPU does.
MANTISSA_BITS = {"HIGH": 10, "DEFAULT": 7}
EXPONENT_BITS = 8

# What a core could have multiplied and added meanwhile, an element; measured on x86-64, rounded up.
_DEAR = {
    "stablehlo.power": 32,
    "stablehlo.atan2": 32,
    "stablehlo.tan": 16,
    "stablehlo.sine": 16,
    "stablehlo.cosine": 16,
    "stablehlo.cbrt": 16,
    "stablehlo.divide": 4,
    "stablehlo.remainder": 16,
    "stablehlo.exponential": 8,
    "stablehlo.exponential_minus_one": 8,
    "stablehlo.log": 8,
    "stablehlo.log_plus_one": 8,
    "stablehlo.logistic": 8,
    "stablehlo.tanh": 8,
}
# A comparison of a sort, and an update of a scatter, is a call on a CPU.
_CALL_FLOPS = 64

# Seconds that the compiler takes to fold an operation on constants, which it does element by element, interpreting:
# measured, rounded up. An operation that is not here is folded at a rate of its own only where it is elementwise.
FOLDING_SECONDS_AN_ELEMENT = 1e-7
_FOLDING_SECONDS_A_STEP = {
    "stablehlo.reduce": 1e-7,
    "stablehlo.reduce_window": 1e-6,
    "stablehlo.select_and_scatter": 2e-6,
    "stablehlo.sort": 2.5e-6,
    "stablehlo.scatter": 2.5e-6,
    "stablehlo.convolution": 1.5e-8,
    "stablehlo.dot_general": 1e-9,
}

_ADVICE = {
    "custom_call": "it calls Python or a library: leave callbacks, debug prints and LAPACK's functions out, and write "
    "what they do with array operations",
    "composite": "export with `trainer.export`, which writes composites out",
    "rng": "the numbers depend on the machine: use JAX's default generator, jax.random.key(seed)",
    "rng_bit_generator": "the numbers depend on the machine: use JAX's default generator, jax.random.key(seed)",
    "fft": "there is no Fourier transform on the list: use a convolution, or a product with a table of cosines",
    "complex": "compute with real and imaginary parts in float32",
}
_COMMUNICATION = """
    infeed outfeed send recv all_reduce all_gather all_to_all reduce_scatter collective_permute collective_broadcast
    partition_id replica_id create_token after_all
"""
_SHAPED_BY_DATA = """
    dynamic_reshape dynamic_broadcast_in_dim dynamic_iota dynamic_pad dynamic_gather dynamic_conv real_dynamic_slice
    get_dimension_size set_dimension_size
"""
_ADVICE |= dict.fromkeys(_COMMUNICATION.split(), "a task is computed on one device, by itself: leave feeds out")
_ADVICE |= dict.fromkeys(_SHAPED_BY_DATA.split(), "give every array a shape that does not depend on data")


class Refused(ValueError):
    """The program may not run; the message says which operation or limit, and what to do."""

    def __init__(self, message: str, function: str = "", location: str = "") -> None:
        super().__init__(f"{message} (in @{function})" if function else message)
        self.message = message
        self.function = function
        # Where the operation comes from, as MLIR writes it; programs that are shipped do not say.
        self.location = location

    def at(self, function: str, location: str) -> Refused:
        """The same, found there; an operation within a function that says no file comes from where that was called."""
        known = ".py" in self.location
        return Refused(self.message, self.function or function, self.location if known else location)


def require_allowed(operation: Any) -> None:
    """Refuse an operation that is not on the list, or says something about itself that is not."""
    name = operation.name
    if name not in ALLOWED:
        attributes = operation.attributes
        target = f" to {attributes['call_target_name']}" if "call_target_name" in attributes else ""
        advice = _ADVICE.get(name.partition(".")[2], "write it with operations that are, see trainer/operations.py")
        raise Refused(f"{name}{target} is not on the list of allowed operations; {advice}")
    for attribute in attribute_names(operation):
        if attribute not in ATTRIBUTES:
            raise Refused(f"{name}: attribute {attribute} is not on the list; leave hints to the compiler out")
    if name in ("stablehlo.dot_general", "stablehlo.convolution"):
        _require_exact_products(operation)


def attribute_names(operation: Any) -> list[str]:
    """The names of all that an operation, or a dictionary of it, says."""
    said: Any = operation if isinstance(operation, ir.DictAttr) else operation.attributes
    return [str(getattr(attribute, "name", attribute)) for attribute in said]


def ranked(type_: Any, what: str) -> Any:
    """A tensor's type, of a fixed shape and plain layout; Refused otherwise."""
    try:
        tensor = ir.RankedTensorType(type_)
    except ValueError:
        raise Refused(f"{what}: expected a tensor, got {type_}") from None
    if not tensor.has_static_shape:
        raise Refused(f"{what}: dynamic shape {tensor}; give every array a shape that does not depend on data")
    if tensor.encoding is not None:
        raise Refused(f"{what}: expected a plain tensor, got {tensor}")
    if tensor.rank > RANK_MAX:
        raise Refused(f"{what}: a tensor of {tensor.rank} dimensions, at most {RANK_MAX} may be used")
    return tensor


def elements(type_: Any) -> int:
    """Elements of a tensor."""
    return int(math.prod(ranked(type_, "operand").shape))


def bytes_of(type_: Any, what: str) -> int:
    """Bytes of a tensor, whose element type must be allowed."""
    tensor = ranked(type_, what)
    element = str(tensor.element_type)
    if element not in ELEMENT_BYTES:
        allowed = ", ".join(ELEMENT_BYTES)
        raise Refused(f"{what}: element type {element}; compute in float32 or integers (allowed are {allowed})")
    return int(math.prod(tensor.shape)) * ELEMENT_BYTES[element]


def constant_bytes(operation: Any) -> int:
    """Bytes that a constant takes in the program."""
    if operation.name != "stablehlo.constant":
        return 0
    # A splat is one element however large its tensor; the tensor's own limit bounds that.
    return 8 if is_splat(operation) else bytes_of(operation.results[0].type, operation.name)


def is_splat(constant: Any) -> bool:
    """Whether all elements of a constant are one number."""
    value = constant.attributes["value"]
    if not isinstance(value, ir.DenseElementsAttr):
        raise Refused("stablehlo.constant: expected its elements in the program itself")
    return bool(value.is_splat)


def flops(operation: Any, region_flops: float) -> float:
    """Multiplications and additions that an operation takes at most, when its region takes `region_flops` a call.

    Operations that take longer an element than an addition count as the additions that take as long.
    """
    name = operation.name
    size = float(sum(elements(result.type) for result in operation.results))
    match name.partition(".")[2]:
        case "dot_general":
            left = ranked(operation.operands[0].type, name).shape
            axes = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
            return 2 * size * float(math.prod(left[axis] for axis in axes.lhs_contracting_dimensions))
        case "convolution":
            kernel = ranked(operation.operands[1].type, name).shape
            numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
            features = int(kernel[numbers.kernel_output_feature_dimension])
            # Each output element sees one output feature's part of the kernel; padding is counted as if computed.
            return 2 * size * float(math.prod(kernel)) / float(max(1, features))
        case "reduce" | "scatter" | "reduce_window" | "select_and_scatter" | "sort":
            # What the region does once is done so often; a step without arithmetic is a step.
            return _steps(operation) * max(region_flops, 1.0)
        case "constant":
            return 0.0
    return size * _DEAR.get(name, 1)


def copies(operation: Any) -> int:
    """How many times its operands and results a backend may hold while it computes an operation.

    Products are brought into a layout of the backend's own; the gradient of a maximum over windows is found by indices,
    one tensor of them for each dimension.
    """
    match operation.name.partition(".")[2]:
        case "convolution":
            return 2
        case "dot_general" | "sort" | "scatter":
            return 1
        case "select_and_scatter":
            return int(ranked(operation.results[0].type, operation.name).rank) + 1
    return 0


def folding_seconds(operation: Any) -> float:
    """How long the compiler takes at most to compute this operation from constants, where it is no elementwise one."""
    name = operation.name
    if name not in _FOLDING_SECONDS_A_STEP:
        return 0.0
    steps = (
        flops(operation, 1.0) / 2 if name in ("stablehlo.dot_general", "stablehlo.convolution") else _steps(operation)
    )
    if name in ("stablehlo.sort", "stablehlo.scatter"):
        steps /= _CALL_FLOPS
    return _FOLDING_SECONDS_A_STEP[name] * steps


def _steps(operation: Any) -> float:
    """How often the region of a reduction, a window, a scatter or a sort is entered; a call counts as what it costs."""
    operands = operation.operands
    match operation.name.partition(".")[2]:
        case "reduce":
            return float(sum(elements(value.type) for value in operands))
        case "scatter":
            return float(elements(operands[len(operands) - 1].type)) * _CALL_FLOPS
        case "sort":
            count = elements(operands[0].type)
            return count * max(1.0, math.ceil(math.log2(max(count, 2)))) * _CALL_FLOPS
        case "reduce_window":
            window = math.prod(_integers(operation, "window_dimensions"))
            return float(window) * sum(elements(result.type) for result in operation.results)
        case "select_and_scatter":
            # A comparison for each element of each window, and one addition.
            window = math.prod(_integers(operation, "window_dimensions"))
            return (window + 1.0) * elements(operands[1].type) + elements(operation.results[0].type)
    raise AssertionError(operation.name)


def _integers(operation: Any, attribute: str) -> list[int]:
    if attribute not in operation.attributes:
        return [1]
    return [int(value) for value in ir.DenseI64ArrayAttr(operation.attributes[attribute])]


def _require_exact_products(operation: Any) -> None:
    """Every operand at precision HIGHEST, or rounded before to the bits that a product of less precision keeps.

    Then a GPU's TF32, or a TPU's bf16, multiplies what a CPU multiplies. Otherwise they would differ by more than a
    cheat does.
    """
    precisions = ["DEFAULT", "DEFAULT"]
    if "precision_config" in operation.attributes:
        precisions = [str(precision) for precision in ir.ArrayAttr(operation.attributes["precision_config"])]
    if len(precisions) != 2 or not all(map(_keeps, precisions, operation.operands)):
        raise Refused(
            f"{operation.name}: expected precision HIGHEST for both operands, or operands that are rounded to what it "
            f"keeps, got {precisions}; do not set a precision in the model, `Task(…, precision=)` sets it"
        )


def _keeps(precision: str, operand: Any) -> bool:
    """Whether a product at this precision loses no bit of an operand."""
    if "HIGHEST" in precision:
        return True
    if "f32" not in str(ranked(operand.type, "operand").element_type):
        return False
    rounding = operand.owner
    if isinstance(rounding, ir.Block) or rounding.name != "stablehlo.reduce_precision":
        return False
    kept = int(ir.IntegerAttr(rounding.attributes["mantissa_bits"]))
    return kept <= next((bits for name, bits in MANTISSA_BITS.items() if name in precision), -1)
