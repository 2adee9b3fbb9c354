"""A runtime: modules under explicit indexes, their calls and events as two codecs, and views of a state through them.

A runtime is immutable and has no state of its own: any number of blocks can be built, executed and read at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar
from weakref import ref

from chain.primitives.scale import H256, Codec, ScaleError, Struct, Vec, codec_of
from chain.primitives.types import Id, MultiAddress
from runtime.calls import CALL_DEPTH_MAX, Call, CallCodec, CallInfo
from runtime.faults import DispatchFault, FaultModule, ModuleError
from runtime.framework import ErrorInfo, EventInfo, EventLog, Module, ModuleInfo, describe
from runtime.panic import note_call
from runtime.state import Snapshot, State, StateReader
from runtime.storage import pascal_case, snake_case
from runtime.types import (
    Dispatched,
    DispatchError,
    EventPhase,
    EventRecord,
    Origin,
    Pays,
    RuntimeVersion,
    TooManyLayers,
    Weight,
)

V = TypeVar("V", bound="View", covariant=True)
M = TypeVar("M", bound=Module)

# Substrate's runtime APIs that `Executive.call_api` answers, with the versions whose shapes it has.
APIS: Final = (
    ("Core", 5),
    ("Metadata", 2),
    ("TaggedTransactionQueue", 3),
    ("AccountNonceApi", 1),
    ("TransactionPaymentApi", 4),
    ("TransactionPaymentCallApi", 3),
)

# How deep calls may make calls. A module may also make calls that are not in the call that is running, such as one that
# it stored, and that may lead back to it: twice the depth of what decodes is still far from the end of the stack.
LAYERS_MAX: Final = 2 * CALL_DEPTH_MAX

_ADDRESS: Final = codec_of(MultiAddress)


class View:
    """The modules of a runtime over one state. A runtime's own subclass declares their types as attributes."""

    def __init__(self, runtime: Runtime[Any], state: State, log: EventLog) -> None:
        me = ref(self)
        modules = {info.attribute: info.cls(info, state, log, me) for info in runtime.modules}
        for info in runtime.modules:
            module = modules[info.attribute]
            for neighbour, attribute in runtime.neighbours[info.attribute]:
                setattr(module, neighbour, modules[attribute])
        self.__dict__.update(modules)
        self.modules = tuple(modules.values())
        self._state = state
        self._log = log
        self._layers = 0

    def dispatch(self, call: Call, origin: Origin) -> Dispatched:
        """Run a call in a transaction of its own: whatever it raises undoes its writes and events, then propagates.

        What is no DispatchError is noted with the innermost call that it came from (`runtime/panic.py`).
        """
        if self._layers >= LAYERS_MAX:
            raise TooManyLayers(f"calls make calls at most {LAYERS_MAX} deep")
        state, log = self._state, self._log
        info, charged = call.info, call.dispatch_info
        events = len(log.records)
        self._layers += 1
        state.begin()
        try:
            said: Pays | Weight | None = info.function(self.__dict__[info.module.attribute], origin, *call.args)
        except DispatchError as error:
            state.rollback()
            log.truncate(events)
            error.spent = charged.weight if error.used is None else charged.weight.at_most(error.used)
            error.used = None
            raise
        except Exception as error:
            state.rollback()
            log.truncate(events)
            note_call(error, info.path)
            raise
        finally:
            self._layers -= 1
        state.commit()
        if said is None:
            return Dispatched(charged.weight, charged.pays_fee)
        if isinstance(said, Pays):
            return Dispatched(charged.weight, said if charged.pays_fee is Pays.YES else Pays.NO)
        return Dispatched(charged.weight.at_most(said), charged.pays_fee)

    def module(self, cls: type[M]) -> M:
        """The module of a class."""
        found = self.__dict__[snake_case(cls.__name__)]
        assert isinstance(found, cls)
        return found


class EventCodec(Codec[object]):
    """`RuntimeEvent`: the module's index, the event's index, its fields. Values are the modules' event instances."""

    size_min = 2

    def __init__(self, path: tuple[str, ...], modules: tuple[ModuleInfo, ...]) -> None:
        self.path = path
        self.modules = modules
        self._by_prefix: dict[bytes, EventInfo] = {
            item.prefix: item for module in modules for item in module.events.values()
        }
        self._by_class = {item.cls: item for item in self._by_prefix.values()}

    def info_of(self, value: object) -> EventInfo:
        """An event's description; ScaleError for what is none of the runtime's."""
        info = self._by_class.get(value.__class__)
        if info is None:
            raise ScaleError(f"expected an event of the runtime, got {value!r}")
        return info

    def encode(self, value: object) -> bytes:
        info = self.info_of(value)
        return info.prefix + info.codec.encode(value)

    def decode_at(self, data: bytes, offset: int) -> tuple[object, int]:
        info = self._by_prefix.get(data[offset : offset + 2])
        if info is None:
            raise ScaleError(f"the runtime has no event 0x{data[offset : offset + 2].hex()} (module, event)")
        return info.codec.decode_at(data, offset + 2)


class EventRecordCodec(Struct[EventRecord]):
    """`frame_system::EventRecord`: phase, event, topics."""

    def __init__(self, event: EventCodec) -> None:
        self.cls = EventRecord
        self.path = ("frame_system", "EventRecord")
        self.docs = ("Record of an event happening.",)
        self.unnamed = False
        topic = codec_of(H256)
        self.fields = (("phase", codec_of(EventPhase)), ("event", event), ("topics", Vec(topic, tuple)))
        self.params = (("E", event), ("T", topic))
        self.size_min = 4
        self._encoders = tuple((name, codec.encode) for name, codec in self.fields)
        self._decoders = tuple(codec.decode_at for _, codec in self.fields)


class Runtime(Generic[V]):
    """Modules composed under their indexes. `view` declares their types for who reads a state through them."""

    def __init__(
        self,
        *,
        view: type[V],
        spec_name: str,
        spec_version: int,
        transaction_version: int,
        modules: Mapping[int, type[Module]],
    ) -> None:
        self.view = view
        self.version = RuntimeVersion(
            spec_name=spec_name,
            impl_name=spec_name,
            authoring_version=1,
            spec_version=spec_version,
            impl_version=1,
            apis=tuple((blake2b(name.encode(), digest_size=8).digest(), version) for name, version in APIS),
            transaction_version=transaction_version,
            state_version=1,
        )
        self.path = f"{spec_name}_runtime"
        self.call_codec = CallCodec((self.path, "RuntimeCall"))
        self.modules = tuple(describe(cls, index, self) for index, cls in sorted(modules.items()))
        self.neighbours = {info.attribute: self._neighbours(info.cls) for info in self.modules}
        self.call_codec.bind(self.modules)
        self.event_codec = EventCodec((self.path, "RuntimeEvent"), self.modules)
        self.event_record_codec = EventRecordCodec(self.event_codec)
        self.event_encoders: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
            item.cls: (item.prefix, item.codec.encode) for module in self.modules for item in module.events.values()
        }
        self._refuse_shared_classes()
        for module in self.modules:
            module.bind_storage()
        self._calls = {call.path: call for module in self.modules for call in module.calls.values()}
        self._errors: dict[type[DispatchError], ErrorInfo] = {
            item.cls: item for module in self.modules for item in module.errors.values()
        }
        self._metadata: dict[int, bytes] = {}

    @property
    def spec_version(self) -> int:
        """Changes with every change of what a block's execution gives."""
        return self.version.spec_version

    @property
    def transaction_version(self) -> int:
        """Changes when the encoding of an existing call changes: transactions signed before become invalid."""
        return self.version.transaction_version

    def has(self, cls: type[Module]) -> bool:
        """Whether a module of this class is part of the runtime."""
        return any(info.cls is cls for info in self.modules)

    def at(self, reader: StateReader) -> V:
        """The modules over a committed state, read-only: `RUNTIME.at(state).balances.total_issuance.get()`."""
        return self.over(Snapshot(reader), EventLog())

    def over(self, state: State, log: EventLog) -> V:
        """The modules over a state that they may write."""
        return self.view(self, state, log)

    def call(self, path: str, /, **arguments: object) -> Call:
        """A call by its path: `RUNTIME.call("balances.transfer_keep_alive", dest=account, value=1)`.

        Where a `MultiAddress` is wanted, a 32-byte account stands for its `Id`. TypeError for an unknown call or a
        wrong set of arguments.
        """
        info = self.call_info(path)
        names = [name for name, _ in info.arguments]
        if sorted(names) != sorted(arguments):
            raise TypeError(f"{path} takes ({', '.join(names)}), got ({', '.join(arguments)})")
        values = []
        for name, codec in info.arguments:
            value = arguments[name]
            values.append(Id(value) if codec is _ADDRESS and isinstance(value, bytes) else value)
        return info.bind(tuple(values))

    def call_info(self, path: str) -> CallInfo:
        """A call's description by its path; TypeError for an unknown one."""
        info = self._calls.get(path)
        if info is None:
            raise TypeError(f"{path}: no such call; the runtime has {', '.join(sorted(self._calls))}")
        return info

    def encode_call(self, call: Call) -> bytes:
        """A call's bytes; ScaleError names the argument that does not fit."""
        return self.call_codec.encode(call)

    def fault_of(self, error: DispatchError) -> DispatchFault:
        """A dispatch error as events carry it."""
        info = self._errors.get(type(error))
        if info is None:
            return error.fault
        return FaultModule(ModuleError(info.module.index, bytes((info.index, 0, 0, 0))))

    def explain(self, fault: DispatchFault) -> str:
        """A dispatch error from an event in words: `balances.InsufficientBalance: the balance is too low …`."""
        if isinstance(fault, FaultModule):
            for info in self._errors.values():
                if (info.module.index, info.index) == (fault.error.index, fault.error.error[0]):
                    return f"{info.module.attribute}.{info.name}: {' '.join(info.docs)}"
            return f"error {fault.error.error[0]} of module {fault.error.index}, which this runtime does not know"
        words = (type(fault).__doc__ or type(fault).__name__).strip()
        detail = getattr(fault, "error", None)
        return f"{words} {pascal_case(detail.name.lower())}." if isinstance(detail, IntEnum) else words

    def metadata(self, version: int) -> bytes:
        """The runtime's description for clients, as metadata of this version (14 or 15)."""
        found = self._metadata.get(version)
        if found is None:
            from runtime.metadata import build  # it describes this class: imported when both are there

            found = self._metadata[version] = build(self, version)
        return found

    def _refuse_shared_classes(self) -> None:
        """TypeError where modules inherit the same event or error: what one of them emits would be the other's."""
        owners: dict[type, str] = {}
        for module in self.modules:
            items: list[EventInfo | ErrorInfo] = [*module.events.values(), *module.errors.values()]
            for item in items:
                if item.cls in owners:
                    raise TypeError(f"{owners[item.cls]} and {module.name} share {item.name}: each declares its own")
                owners[item.cls] = module.name

    def _neighbours(self, cls: type[Module]) -> tuple[tuple[str, str], ...]:
        """The attributes of a module that are annotated with another module's class."""
        names = {info.name: info.attribute for info in self.modules}
        found: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            scope = vars(inspect.getmodule(base))
            for attribute, annotation in inspect.get_annotations(base).items():
                name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
                known = scope.get(name)
                if name in names:
                    found[attribute] = names[name]
                elif isinstance(known, type) and issubclass(known, Module):
                    raise TypeError(f"{cls.__name__}.{attribute}: the runtime has no module {name}")
        return tuple(found.items())
