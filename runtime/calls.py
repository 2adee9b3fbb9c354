"""Calls: what is known of them, calls with their arguments, and calls inside of calls.

Rule: a call that carries calls is read at a bounded depth and weighed as it is read, before anybody knows who sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from chain.primitives.scale import Array, Codec, Enum, Option, ScaleError, Struct, Tuple, Vec
from runtime.limits import BLOCK_WEIGHT_MAX, MICROSECOND
from runtime.panic import note_call
from runtime.types import DispatchClass, DispatchInfo, Pays, Weight

if TYPE_CHECKING:
    from runtime.framework import ModuleInfo

# How deep calls may lie in calls. A level takes up to four of Python's frames to decode and as many to dispatch, so
# that this many stay far below its limit of 1,000 wherever a node meets them; wallets nest three or four deep.
CALL_DEPTH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class CallSpec:
    """What `@call` was given."""

    index: int
    weight: Weight | Callable[..., Weight]
    pays_fee: bool
    dispatch_class: DispatchClass | Callable[..., DispatchClass]


@dataclass(frozen=True, slots=True, eq=False)
class CallInfo:
    """A call of a composed runtime."""

    module: ModuleInfo
    name: str
    index: int
    arguments: tuple[tuple[str, Codec[Any]], ...]
    spec: CallSpec
    fixed: DispatchInfo | None  # None if weight or class depend on the arguments
    docs: tuple[str, ...]
    function: Callable[..., Any]
    prefix: bytes  # module index, call index

    @property
    def path(self) -> str:
        """The call as `Runtime.call` names it: `balances.transfer_keep_alive`."""
        return f"{self.module.attribute}.{self.name}"

    @property
    def weight(self) -> Weight:
        """Its weight; TypeError if that depends on the arguments."""
        if self.fixed is None:
            raise TypeError(f"{self.path} weighs what its arguments make it weigh: ask the call for its dispatch_info")
        return self.fixed.weight

    def bind(self, args: tuple[Any, ...], wire_bytes: int | None = None) -> Call:
        """The call with arguments. Those that are calls were weighed when they were made: each is weighed once.

        `wire_bytes` is the length of its encoding, where that is known because it was just read.
        """
        fixed = self.fixed
        if fixed is not None:
            return Call(self, args, fixed, wire_bytes)
        weight, dispatch_class = self.spec.weight, self.spec.dispatch_class
        try:
            weight = weight if isinstance(weight, Weight) else weight(*args)
            if not isinstance(weight, Weight):
                raise TypeError(f"expected a Weight, got {weight!r}")
            dispatch_class = dispatch_class if isinstance(dispatch_class, DispatchClass) else dispatch_class(*args)
        except Exception as error:
            note_call(error, f"the weight of {self.path}")
            raise
        info = DispatchInfo(weight, dispatch_class, Pays.YES if self.spec.pays_fee else Pays.NO)
        return Call(self, args, info, wire_bytes)


@dataclass(frozen=True, slots=True)
class Call:
    """A call with its arguments: what an extrinsic carries. `CallInfo.bind` makes it."""

    info: CallInfo
    args: tuple[Any, ...]
    dispatch_info: DispatchInfo = field(compare=False, repr=False)  # what it is charged for
    wire_bytes: int | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """The length of its encoding."""
        return len(self.encode()) if self.wire_bytes is None else self.wire_bytes

    def encode(self) -> bytes:
        """The call's bytes."""
        return self.info.module.runtime.call_codec.encode(self)

    @property
    def path(self) -> str:
        """Module and function: `balances.transfer_keep_alive`."""
        return self.info.path

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return {name: value for (name, _), value in zip(self.info.arguments, self.args, strict=True)}


class _AnyCall(Codec[Call]):
    """Stands for the calls of whatever runtime the module becomes part of, until that runtime is composed."""


_ANY_CALL: Final = _AnyCall()

# What a call inside of another costs at the least, whatever its module says: that of decoding it.
CALL_WEIGHT_MIN: Final = 10 * MICROSECOND
# What reading calls costs a byte at worst, that is where they are as short as calls can be.
READ_BYTE: Final = Weight(MICROSECOND)

# The annotation of an argument that is a call itself: `call: RuntimeCall`, `calls: list[RuntimeCall]`.
RuntimeCall = Annotated[Call, _ANY_CALL]


class CallError(ScaleError):
    """The bytes of a call do not fit it; the message names the innermost call and its argument."""


class CallsTooHeavy(CallError):
    """Calls in a call weigh more than a block has room for: no block will have it."""


class _Calls(Vec):
    """Several calls, or several of what holds calls: decoding stops where they weigh more than a block.

    A call takes two bytes and microseconds: a transaction of a megabyte full of them would take seconds, from whoever
    sends it, before anybody looked at its signature.
    """

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        count, end = self.count_at(data, offset)
        items: list[Any] = []
        weight = 0
        for _ in range(count):
            item, end = self.inner.decode_at(data, end)
            items.append(item)
            weight += max(CALL_WEIGHT_MIN, _read_weight(item))
            if weight > BLOCK_WEIGHT_MAX:
                raise CallsTooHeavy(
                    f"the first {len(items)} of {count} calls at byte {offset} weigh {weight}, and a block's limit is"
                    f" {BLOCK_WEIGHT_MAX}: send them in several transactions"
                )
        return self.container(items), end


def _read_weight(value: object) -> int:
    """What the calls in an item weigh with their decoding."""
    if isinstance(value, Call):
        return CALL_WEIGHT_MIN + value.dispatch_info.weight.ref_time
    return sum(map(_read_weight, value)) if isinstance(value, list | tuple) else 0


def with_calls(codec: Codec[Any], calls: Codec[Call], instead_of: Codec[Call] = _ANY_CALL) -> Codec[Any]:
    """An argument's codec with a runtime's calls in place of `RuntimeCall`; the same object if it has none."""
    match codec:
        case Vec() | Option():
            inner = with_calls(codec.inner, calls, instead_of)
            if inner is codec.inner:
                return codec
            if isinstance(codec, Option):
                return Option(inner)
            return _Calls(inner, codec.container, codec.count_max)
        case Tuple():
            items = tuple(with_calls(item, calls, instead_of) for item in codec.inner)
            return codec if items == codec.inner else Tuple(*items)
        case _:
            return calls if codec is instead_of else codec


def refuse_calls(codec: Codec[Any], where: str) -> None:
    """TypeError where a type has `RuntimeCall` somewhere that `with_calls` does not look."""
    match codec:
        case _AnyCall():
            raise TypeError(f"{where}: RuntimeCall stands for a call's argument, or in a list, option or tuple of it")
        case Struct():
            inner = [item for _, item in codec.fields]
        case Enum():
            inner = list(codec.variants.values())
        case Tuple():
            inner = list(codec.inner)
        case Vec() | Option() | Array():
            inner = [codec.inner]
        case _:
            inner = []
    for item in inner:
        refuse_calls(item, where)


class CallCodec(Codec[Call]):
    """`RuntimeCall`: the module's index, the call's index, the arguments.

    Calls inside of calls are decoded by codecs of their own, one a level, and the last level's refuse to: so the bound
    needs no counter, which threads would have to share.
    """

    size_min = 2

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.modules: tuple[ModuleInfo, ...] = ()
        self._calls: dict[bytes, tuple[CallInfo, tuple[Callable[[bytes, int], tuple[Any, int]], ...]]] = {}

    def bind(self, modules: tuple[ModuleInfo, ...]) -> None:
        """Learn the calls, which could not be described without this codec where they carry calls."""
        self.modules = modules
        calls = [call for module in modules for call in module.calls.values()]
        inner: Codec[Call] = _TooDeep()
        for depth in reversed(range(CALL_DEPTH_MAX)):
            level = self if depth == 0 else CallCodec(self.path)
            level._calls = {
                call.prefix: (call, tuple(with_calls(codec, inner, self).decode_at for _, codec in call.arguments))
                for call in calls
            }
            inner = level

    def encode(self, value: Call) -> bytes:
        info = value.info
        parts = [info.prefix]
        for (name, codec), argument in zip(info.arguments, value.args, strict=True):
            try:
                parts.append(codec.encode(argument))
            except ScaleError as error:
                raise ScaleError(f"{info.path}: {name}: {error}") from None
        return b"".join(parts)

    def decode_at(self, data: bytes, offset: int) -> tuple[Call, int]:
        start = offset + 2
        found = self._calls.get(data[offset:start])
        if found is None:
            raise CallError(f"the runtime has no call 0x{data[offset:start].hex()} (module, call) at byte {offset}")
        info, decoders = found
        arguments: list[Any] = []
        try:
            for decode_at in decoders:
                argument, start = decode_at(data, start)
                arguments.append(argument)
        except CallError:
            raise
        except ScaleError as error:
            raise CallError(f"{info.path}: {info.arguments[len(arguments)][0]}: {error}") from error
        return info.bind(tuple(arguments), start - offset), start


class _TooDeep(Codec[Call]):
    """In place of the calls that would lie too deep."""

    size_min = 2

    def decode_at(self, data: bytes, offset: int) -> tuple[Call, int]:
        del data
        raise CallError(f"expected calls nested at most {CALL_DEPTH_MAX} deep, got one more at byte {offset}")
