"""What a module is made of: `Module`, `@call`, `@event`, `Constant`; and their description for executive and metadata.

Indexes of calls, events and errors are explicit and never reused: they are the wire format. Errors are numbered without
holes: a retired one keeps its class and its place.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Self, TypeVar, dataclass_transform, overload
from weakref import ref

from chain.primitives.scale import (
    H256,
    Codec,
    Struct,
    codec_of,
    split_docs,
    variant,
    variant_of,
)
from runtime.calls import Call, CallInfo, CallSpec, refuse_calls, with_calls
from runtime.faults import OK, DispatchFailed, DispatchResult
from runtime.state import State
from runtime.storage import StorageInfo, StorageItem, pascal_case, snake_case
from runtime.types import (
    DispatchClass,
    Dispatched,
    DispatchError,
    DispatchInfo,
    EventPhase,
    EventRecord,
    Finalization,
    GenesisError,
    InherentData,
    Initialization,
    Origin,
    Pays,
    Unsigned,
    Weight,
)

if typing.TYPE_CHECKING:
    from runtime.composition import Runtime, View
    from runtime.types import ApplyExtrinsic

T = TypeVar("T")
E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])


# --- declarations --------------------------------------------------------------------------------------------------


def call(
    *,
    index: int,
    weight: Weight | Callable[..., Weight],
    pays_fee: bool = True,
    dispatch_class: DispatchClass | Callable[..., DispatchClass] = DispatchClass.NORMAL,
) -> Callable[[F], F]:
    """Make a method a call: `def transfer(self, origin: Origin, dest: MultiAddress, …) -> None | Pays | Weight`.

    The order inside is origin, guards, writes, event. Its docstring is its documentation in metadata. A function in
    place of the weight or the class is given the call's arguments, without `self` and `origin`. A call may return
    `Pays.NO`, to have its fee refunded, or the weight that it used, to have the rest of it refunded. An argument
    annotated with `RuntimeCall` (runtime/calls.py) is a call itself, for `self.dispatch` or `self.attempt` to make.
    TypeError, when the class is made, for what is no weight and for an argument without a type.
    """

    def mark(function: F) -> F:
        where = function.__qualname__
        given: object = weight  # whatever a type checker would say
        if not isinstance(given, Weight) and not callable(given):
            microseconds = given if isinstance(given, int) else 200
            raise TypeError(
                f"{where}: weight={given!r} is no Weight: write weight=Weight({microseconds} * MICROSECOND), or a "
                "function of the arguments that gives one (MICROSECOND is in runtime.limits)"
            )
        for argument in list(inspect.signature(function).parameters.values())[2:]:
            if argument.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
                raise TypeError(f"{where}: {argument}: a call's arguments are plain ones, each with a name and a type")
            if argument.annotation is inspect.Parameter.empty:
                raise TypeError(
                    f"{where}: {argument.name} has no type, so that nobody can encode it: write {argument.name}: u32, "
                    "or AccountId, bytes, Balance, list[u32], … (chain.primitives.scale)"
                )
        function.__call_spec__ = CallSpec(index, weight, pays_fee, dispatch_class)  # type: ignore[attr-defined]
        return function

    return mark


@dataclass_transform(frozen_default=True)
def event(*, index: int) -> Callable[[type[E]], type[E]]:
    """Make a nested class an event: a frozen dataclass of SCALE fields. A field `from_` is `from` on the wire."""

    def mark(cls: type[E]) -> type[E]:
        made = variant(index)(dataclass(frozen=True, slots=True)(cls))
        made.__is_event__ = True  # type: ignore[attr-defined]
        return made

    return mark


class Constant(Generic[T]):
    """A value that the module's rules depend on, shown in metadata: `bond = Constant[Balance](10**12, doc="…")`.

    `from_runtime` computes it from the composed runtime; `name` is for a client's spelling such as `SS58Prefix`.
    """

    def __init__(
        self,
        value: T | None = None,
        *,
        doc: str = "",
        name: str = "",
        from_runtime: Callable[[Runtime[Any]], T] | None = None,
    ) -> None:
        self.attribute = ""
        self.doc = doc
        self.name = name
        self._value = value
        self._from_runtime = from_runtime

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Module, owner: type) -> T: ...
    def __get__(self, instance: Module | None, owner: type) -> Self | T:
        if instance is None:
            return self
        value = self.value(instance.info.runtime)
        instance.__dict__[self.attribute] = value  # found before this descriptor from now on
        return value

    def value(self, runtime: Runtime[Any]) -> T:
        """The constant in a runtime."""
        return self._from_runtime(runtime) if self._from_runtime else typing.cast(T, self._value)

    @property
    def codec(self) -> Codec[T]:
        """The codec of the type in brackets."""
        return codec_of(typing.get_args(self.__orig_class__)[0])  # type: ignore[attr-defined]


# --- description ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class EventInfo:
    """An event of a composed runtime; `fields` carry the names that clients see."""

    module: ModuleInfo
    name: str
    index: int
    cls: type
    codec: Struct[Any]
    fields: tuple[tuple[str, Codec[Any]], ...]
    docs: tuple[str, ...]
    prefix: bytes  # module index, event index


@dataclass(frozen=True, slots=True, eq=False)
class ErrorInfo:
    """An error of a composed runtime."""

    module: ModuleInfo
    name: str
    index: int
    cls: type[DispatchError]
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ConstantInfo:
    """A constant of a composed runtime; `name` in PascalCase."""

    name: str
    codec: Codec[Any]
    value: Any
    docs: tuple[str, ...]


@dataclass(eq=False)
class ModuleInfo:
    """A module of a composed runtime: everything that metadata, dispatch and storage access need."""

    runtime: Runtime[Any]
    cls: type[Module]
    index: int
    name: str  # as clients see it and as storage keys hash it
    attribute: str  # as Python sees it
    docs: tuple[str, ...]
    storage: dict[str, StorageInfo] = field(default_factory=dict)  # by attribute, in the order of declaration
    calls: dict[int, CallInfo] = field(default_factory=dict)  # these three by index, ascending
    events: dict[int, EventInfo] = field(default_factory=dict)
    errors: dict[int, ErrorInfo] = field(default_factory=dict)
    constants: dict[str, ConstantInfo] = field(default_factory=dict)  # by attribute

    def bind_storage(self) -> None:
        """Resolve the storage items; their types may depend on every module's events."""
        for attribute, member in members_of(self.cls).items():
            if isinstance(member, StorageItem):
                info = self.storage[attribute] = member.info(self.name, self.runtime)
                refuse_calls(info.value, f"{self.name}.{attribute}")

    def __repr__(self) -> str:
        return f"ModuleInfo({self.name}, index={self.index})"


# --- the module ----------------------------------------------------------------------------------------------------


_PHASE: Final = codec_of(EventPhase)
_TOPICS: Final = codec_of(tuple[H256, ...])


class EventLog:
    """The events of a block so far. What is deposited in a transaction that rolls back is truncated again."""

    __slots__ = ("encoded", "phase", "phase_bytes", "records")

    def __init__(self) -> None:
        self.records: list[EventRecord] = []
        self.encoded: list[bytes] = []
        self.at(Initialization())

    def at(self, phase: ApplyExtrinsic | Finalization | Initialization) -> None:
        """Enter a phase of the block."""
        self.phase = phase
        self.phase_bytes = _PHASE.encode(phase)

    def truncate(self, length: int) -> None:
        """Forget the events from position `length` on."""
        del self.records[length:]
        del self.encoded[length:]


class Module:
    """A part of the runtime: storage, calls, events, errors, constants, hooks and genesis config of one purpose.

    Subclasses declare them in the class body; an attribute annotated with another module's class gets that module.
    An instance belongs to one state: a block's overlay, or a read-only snapshot.
    """

    # The call that every block carries as an inherent when `create_inherent` is asked for; None for most modules.
    inherent: ClassVar[str | None] = None

    def __init__(self, info: ModuleInfo, state: State, log: EventLog, view: ref[View]) -> None:
        self.info = info
        self.state = state
        self._log = log
        # Weak, so that a block's state goes with its last user and not when the garbage collector finds the circle.
        self._view = view

    def emit(self, occurrence: object, *, topics: tuple[bytes, ...] = ()) -> None:
        """Deposit an event: an instance of one of this module's event classes.

        Each topic is a hash under which `System.EventTopics` lets a client find the block's events about it.
        """
        log = self._log
        prefix, encode = self.info.runtime.event_encoders[occurrence.__class__]
        log.encoded.append(
            log.phase_bytes + prefix + encode(occurrence) + (_TOPICS.encode(topics) if topics else b"\0")
        )
        log.records.append(EventRecord(log.phase, occurrence, topics))

    def dispatch(self, call: Call, origin: Origin) -> Dispatched:
        """Make another call inside the one that is running, with an origin of its own, in a transaction of its own.

        A DispatchError has undone what that call wrote and emitted, and no more; catch it, or fail with it.
        """
        view = self._view()
        assert view is not None, f"{self.info.name} makes calls through a view that nobody holds any more"
        return view.dispatch(call, origin)

    def attempt(self, call: Call, origin: Origin) -> tuple[DispatchResult, Weight]:
        """`dispatch` for a caller that goes on whatever happens: how the call ended, and what it used."""
        try:
            return OK, self.dispatch(call, origin).weight
        except DispatchError as error:
            return DispatchFailed(self.info.runtime.fault_of(error)), error.spent

    def genesis(self, config: Mapping[str, object]) -> None:
        """Write the initial state from the module's part of the genesis file; GenesisError names a wrong field."""
        for name in sorted(config):
            raise GenesisError(f"{self.info.attribute}.{name}: unknown field; this module has no genesis config")

    def on_initialize(self) -> Weight | None:
        """Called when a block begins, before its extrinsics, in the order of the modules' indexes.

        Returns the weight that it used and that this module's `on_finalize` will use: a block holds as much less.
        """
        return None

    def on_idle(self, remaining: Weight) -> Weight | None:
        """Called after the extrinsics if the block has weight left; returns what it used, at most `remaining`.

        Each block another module is asked first, so that none of them takes what is left every time.
        """
        del remaining
        return None

    def on_finalize(self) -> None:
        """Called when a block ends, in the order of the modules' indexes."""

    def inherent_required(self) -> bool:
        """Whether the block being built or checked must open with this module's inherent."""
        return self.inherent is not None

    def create_inherent(self, data: InherentData) -> tuple[Any, ...]:
        """The arguments of the inherent, from what the block's author knows."""
        raise AssertionError(f"{self.info.name} declares the inherent {self.inherent} and does not create it: {data}")

    def validate_unsigned(self, call: Call) -> Unsigned | None:
        """Whether this call of the module may come without a signature, in the open block or the next one.

        None: never. InvalidTransaction: it may, and this one is not valid. Nobody pays for what is said here, so it
        has to be cheap for what is wrong; the call is made with `Origin.none()`, in a transaction of its own, and is
        not included if it fails.
        """
        del call
        return None

    def check(self) -> None:
        """Assert the module's invariants over the whole state; for tests and simulations, not for blocks."""


Indexed = TypeVar("Indexed", CallInfo, EventInfo, ErrorInfo)


def describe(cls: type[Module], index: int, runtime: Runtime[Any]) -> ModuleInfo:
    """Collect a module's declarations; TypeError for indexes that clash or are missing."""
    name = cls.__name__
    info = ModuleInfo(runtime, cls, index, name, snake_case(name), split_docs(cls.__doc__))
    calls, events, errors = [], [], []
    for attribute, member in members_of(cls).items():
        if isinstance(member, Constant):
            info.constants[attribute] = ConstantInfo(
                member.name or pascal_case(attribute), member.codec, member.value(runtime), split_docs(member.doc)
            )
        elif isinstance(member, type) and "__is_event__" in vars(member):
            events.append(_event_info(info, member))
        elif isinstance(member, type) and issubclass(member, DispatchError):
            errors.append(_error_info(info, member))
        elif hasattr(member, "__call_spec__"):
            calls.append(_call_info(info, member))
    info.calls = _by_index(name, calls)
    info.events = _by_index(name, events)
    info.errors = _by_index(name, errors)
    # substrate-interface looks an error up by its position among the module's errors, not by its index.
    if list(info.errors) != list(range(len(errors))):
        raise TypeError(f"{name}: errors are numbered from 0 without holes, got {', '.join(map(str, info.errors))}")
    return info


def members_of(cls: type[Module]) -> dict[str, Any]:
    """A class's attributes with those of its bases, in the order of declaration."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        members.update(vars(base))
    return members


def _by_index(module: str, items: list[Indexed]) -> dict[int, Indexed]:
    found: dict[int, Indexed] = {}
    for item in sorted(items, key=lambda item: item.index):
        if item.index in found:
            raise TypeError(f"{module}: {found[item.index].name} and {item.name} share index {item.index}")
        if not 0 <= item.index <= 255:
            raise TypeError(f"{module}.{item.name}: an index is 0 to 255, got {item.index}")
        found[item.index] = item
    return found


def _call_info(module: ModuleInfo, function: Callable[..., Any]) -> CallInfo:
    spec: CallSpec = function.__call_spec__  # type: ignore[attr-defined]
    hints = typing.get_type_hints(function, include_extras=True)
    names = list(inspect.signature(function).parameters)
    if names[:2] != ["self", "origin"]:
        raise TypeError(f"{module.name}.{function.__name__}: a call takes self and origin first, got {names[:2]}")
    for given in (spec.weight, spec.dispatch_class):
        if callable(given):
            try:
                inspect.signature(given).bind(*names[2:])
            except TypeError as error:
                raise TypeError(
                    f"{module.name}.{function.__name__}: its weight and class are functions of"
                    f" ({', '.join(names[2:])}): {error}"
                ) from None
    fixed = None
    if isinstance(spec.weight, Weight) and isinstance(spec.dispatch_class, DispatchClass):
        fixed = DispatchInfo(spec.weight, spec.dispatch_class, Pays.YES if spec.pays_fee else Pays.NO)
    arguments = []
    for name in names[2:]:
        where = f"{module.name}.{function.__name__}: {name}"
        try:
            codec = with_calls(codec_of(hints[name]), module.runtime.call_codec)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        refuse_calls(codec, where)
        arguments.append((name, codec))
    return CallInfo(
        module=module,
        name=function.__name__,
        index=spec.index,
        arguments=tuple(arguments),
        spec=spec,
        fixed=fixed,
        docs=split_docs(function.__doc__),
        function=function,
        prefix=bytes((module.index, spec.index)),
    )


def _event_info(module: ModuleInfo, cls: type) -> EventInfo:
    index, name = variant_of(cls)
    codec: Struct[Any] = Struct(cls)
    refuse_calls(codec, f"{module.name}.{name}")
    return EventInfo(
        module=module,
        name=name,
        index=index,
        cls=cls,
        codec=codec,
        fields=tuple((field_name.rstrip("_"), field_codec) for field_name, field_codec in codec.fields),
        docs=codec.docs,
        prefix=bytes((module.index, index)),
    )


def _error_info(module: ModuleInfo, cls: type[DispatchError]) -> ErrorInfo:
    if cls.index is None:
        raise TypeError(f"{module.name}.{cls.__name__}: an error needs its index: `index = 0` in its class body")
    return ErrorInfo(module, cls.__name__, cls.index, cls, split_docs(cls.__doc__))
