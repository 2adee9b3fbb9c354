"""Modules as their authors see them: storage, calls, events, errors, constants, composition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_128_concat, twox_64_concat, twox_128
from chain.primitives.scale import AccountId, Balance, ScaleError, u8, u16, u32
from chain.primitives.types import Id
from runtime.calls import CALL_WEIGHT_MIN, CallsTooHeavy, RuntimeCall
from runtime.composition import LAYERS_MAX, Runtime, View
from runtime.faults import (
    DispatchFailed,
    FaultBadOrigin,
    FaultModule,
    FaultToken,
    FaultTransactional,
    ModuleError,
    TokenFault,
    TransactionalFault,
)
from runtime.framework import Constant, EventLog, Module, call, event
from runtime.limits import BLOCK_WEIGHT_MAX
from runtime.potchain import RUNTIME
from runtime.state import DictState, Overlay
from runtime.storage import Hasher, StorageMap, StorageValue
from runtime.testing import ALICE
from runtime.types import (
    ApplyExtrinsic,
    DispatchError,
    EventRecord,
    Finalization,
    Origin,
    TooManyLayers,
    Weight,
)


class Counter(Module):
    """Counts things."""

    total = StorageValue[u32](default=0, doc="How many\nthere are.")
    names = StorageValue[list[str]](default=[])
    last = StorageValue[AccountId]()
    owed = StorageMap[AccountId, Balance](default=0)
    by_number = StorageMap[tuple[u32, u16], str](hasher=(Hasher.TWOX_64_CONCAT, Hasher.IDENTITY))

    step = Constant[u8](3, doc="By how much.")

    class TooMuch(DispatchError):
        """There is no room for more."""

        index = 0

    @event(index=2)
    class Counted:
        """Something was counted."""

        from_: AccountId
        total: u32

    @call(index=5, weight=Weight(10))
    def count(self, origin: Origin, by: u32) -> None:
        """Count something."""
        who = origin.ensure_signed()
        if by > 9:
            raise self.TooMuch(f"{by} is more than 9")
        self.total.put(self.total.get() + by * self.step)
        self.emit(self.Counted(who, self.total.get()))


class Friend(Module):
    """Needs the counter."""

    counter: Counter


class Counters(View):
    counter: Counter
    friend: Friend


COUNTERS = Runtime(
    view=Counters, spec_name="counters", spec_version=1, transaction_version=1, modules={3: Counter, 9: Friend}
)
A, B = b"a" * 32, b"b" * 32


def fresh() -> tuple[Overlay, Counters]:
    overlay = Overlay(DictState())
    return overlay, COUNTERS.over(overlay, EventLog())


def test_storage_keys_are_substrates() -> None:
    overlay, modules = fresh()
    counter = modules.counter
    counter.total.put(1)
    counter.owed[A] = 2
    counter.by_number[7, 8] = "x"
    module = twox_128(b"Counter")
    assert set(overlay.changes()) == {
        module + twox_128(b"Total"),
        module + twox_128(b"Owed") + blake2_128_concat(A),
        module + twox_128(b"ByNumber") + twox_64_concat(b"\7\0\0\0") + b"\10\0",
    }
    assert (
        RUNTIME.at(DictState())
        .system.account.key(A)
        .hex()
        .startswith("26aa394eea5630e07c48ae0c9558cef7b99d880ec681799c0cf30e8886371da9")
    )


def test_values_have_defaults_until_they_are_put_and_again_when_killed() -> None:
    _, modules = fresh()
    total = modules.counter.total
    assert (total.get(), total.exists()) == (0, False)
    total.put(0)
    assert (total.get(), total.exists()) == (0, True)
    total.kill()
    assert not total.exists()


def test_reading_what_is_absent_and_has_no_default_is_a_bug_in_the_caller() -> None:
    _, modules = fresh()
    with pytest.raises(KeyError, match="Last has no value"):
        modules.counter.last.get()
    with pytest.raises(KeyError, match="ByNumber has no value"):
        modules.counter.by_number[1, 2]
    assert modules.counter.by_number.get((1, 2)) is None
    assert modules.counter.owed.get(A) is None
    assert modules.counter.owed[A] == 0


def test_a_default_list_is_a_new_one_for_each_reader() -> None:
    _, modules = fresh()
    modules.counter.names.get().append("spoilt")
    assert modules.counter.names.get() == []


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 65535)), st.text(max_size=3), max_size=8))
def test_maps_of_several_keys_iterate_in_storage_order_and_by_their_first_key(
    entries: dict[tuple[int, int], str],
) -> None:
    _, modules = fresh()
    by_number = modules.counter.by_number
    for key, value in entries.items():
        by_number[key] = value
    ordered = sorted(entries, key=by_number.key)
    assert list(by_number.items()) == [(key, entries[key]) for key in ordered]
    assert list(by_number.keys(2)) == [key for key in ordered if key[0] == 2]
    by_number.clear(2)
    assert list(by_number.values()) == [entries[key] for key in ordered if key[0] != 2]
    assert all((key in by_number) == (key[0] != 2) for key in entries)


def test_calls_round_trip_and_what_is_no_call_is_refused() -> None:
    made = COUNTERS.call("counter.count", by=4)
    raw = COUNTERS.encode_call(made)
    assert raw == b"\3\5\4\0\0\0"
    assert COUNTERS.call_codec.decode(raw) == made
    assert (made.path, made.arguments) == ("counter.count", {"by": 4})
    with pytest.raises(ScaleError, match="no call 0x0306"):
        COUNTERS.call_codec.decode(b"\3\6")
    with pytest.raises(ScaleError, match="no call 0x03"):
        COUNTERS.call_codec.decode(b"\3")
    with pytest.raises(ScaleError, match=r"counter.count: by: expected a u32, got -1"):
        COUNTERS.encode_call(COUNTERS.call("counter.count", by=-1))


def test_naming_a_call_wrongly_says_what_there_is() -> None:
    with pytest.raises(TypeError, match=r"counter.cuont: no such call; the runtime has counter.count"):
        COUNTERS.call("counter.cuont")
    with pytest.raises(TypeError, match=r"counter.count takes \(by\), got \(to\)"):
        COUNTERS.call("counter.count", to=1)


def test_an_account_stands_for_its_address() -> None:
    assert RUNTIME.call("balances.transfer_all", dest=A, keep_alive=True).args == (Id(A), True)


def test_events_carry_their_phase_and_read_back() -> None:
    overlay = Overlay(DictState())
    log = EventLog()
    counter = COUNTERS.over(overlay, log).counter
    log.at(ApplyExtrinsic(4))
    counter.count(Origin.signed(A), 2)
    log.at(Finalization())
    counter.emit(Counter.Counted(B, 1))
    assert log.records == [
        EventRecord(ApplyExtrinsic(4), Counter.Counted(A, 6)),
        EventRecord(Finalization(), Counter.Counted(B, 1)),
    ]
    assert [COUNTERS.event_record_codec.decode(raw) for raw in log.encoded] == log.records
    assert [COUNTERS.event_record_codec.encode(record) for record in log.records] == log.encoded
    assert log.encoded[0] == b"\0\4\0\0\0" + b"\3\2" + A + b"\6\0\0\0" + b"\0"


def test_errors_have_codes_on_the_wire_and_words_off_it() -> None:
    fault = COUNTERS.fault_of(Counter.TooMuch("10 is more than 9"))
    assert fault == FaultModule(ModuleError(3, b"\0\0\0\0"))
    assert COUNTERS.explain(fault) == "counter.TooMuch: There is no room for more."
    assert COUNTERS.explain(FaultModule(ModuleError(3, b"\1\0\0\0"))).startswith("error 1 of module 3")
    assert COUNTERS.explain(FaultToken(TokenFault.FUNDS_UNAVAILABLE)) == "Money cannot move. FundsUnavailable."
    assert COUNTERS.explain(FaultBadOrigin()) == "The signer may not make this call."
    assert (str(Counter.TooMuch()), str(Counter.TooMuch("why"))) == ("There is no room for more.", "why")


def test_descriptions_carry_names_documentation_and_indexes() -> None:
    info = COUNTERS.modules[0]
    assert (info.name, info.index, info.docs) == ("Counter", 3, ("Counts things.",))
    assert info.storage["total"].docs == ("How many", "there are.")
    assert [name for name, _ in info.events[2].fields] == ["from", "total"]
    assert info.calls[5].docs == ("Count something.",)
    assert (info.constants["step"].name, info.constants["step"].value) == ("Step", 3)


def test_modules_find_each_other_in_one_state() -> None:
    _, modules = fresh()
    modules.friend.counter.total.put(5)
    assert modules.counter.total.get() == 5
    assert modules.module(Counter) is modules.counter


class Loop(Module):
    """Makes calls that nobody sent: its own again."""

    depth = StorageValue[u32](default=0)

    @call(index=0, weight=Weight(1))
    def again(self, origin: Origin, catch: bool) -> None:
        """Go one deeper, and fail with what is down there or go on."""
        self.depth.put(self.depth.get() + 1)
        once_more = self.info.runtime.call("loop.again", catch=catch)
        if catch:
            self.attempt(once_more, origin)
        else:
            self.dispatch(once_more, origin)


def composed(*modules: type[Module]) -> Runtime[View]:
    return Runtime(view=View, spec_name="x", spec_version=1, transaction_version=1, modules=dict(enumerate(modules)))


def test_calls_that_lead_back_to_themselves_end_in_an_error() -> None:
    runtime, overlay = composed(Loop), Overlay(DictState())
    view = runtime.over(overlay, EventLog())
    with pytest.raises(TooManyLayers, match=f"at most {LAYERS_MAX} deep") as raised:
        view.dispatch(runtime.call("loop.again", catch=False), Origin.root())
    assert runtime.fault_of(raised.value) == FaultTransactional(TransactionalFault.LIMIT_REACHED)
    assert overlay.changes() == {}
    view.dispatch(runtime.call("loop.again", catch=True), Origin.root())
    assert view.module(Loop).depth.get() == LAYERS_MAX


class Careless(Module):
    """Makes calls, and says nothing of what it used itself."""

    class Failed(DispatchError):
        """The call fails."""

        index = 0

    @call(index=0, weight=lambda call: Weight(1000) + call.dispatch_info.weight)
    def wrap(self, origin: Origin, call: RuntimeCall) -> None:
        """Make a call."""
        self.dispatch(call, origin)

    @call(index=1, weight=Weight(100))
    def fail(self, origin: Origin) -> None:
        """Fail early, and say so."""
        error = self.Failed()
        error.used = Weight(7)
        raise error


def test_what_a_failed_call_says_it_used_counts_for_that_call_alone() -> None:
    runtime = composed(Careless)
    view = runtime.over(Overlay(DictState()), EventLog())
    fail = runtime.call("careless.fail")
    assert view.module(Careless).attempt(fail, Origin.root()) == (
        DispatchFailed(FaultModule(ModuleError(0, b"\0\0\0\0"))),
        Weight(7),
    )
    _, used = view.module(Careless).attempt(runtime.call("careless.wrap", call=fail), Origin.root())
    assert used == Weight(1100)


@dataclass(frozen=True)
class Wrapped:
    inner: RuntimeCall


class InStruct(Module):
    @call(index=0, weight=Weight(1))
    def go(self, origin: Origin, wrapped: list[Wrapped]) -> None:
        """Go."""


class InEvent(Module):
    @event(index=0)
    class Made:
        """A call."""

        made: RuntimeCall


class InStorage(Module):
    kept = StorageValue[list[Wrapped]]()


class Everywhere(Module):
    @call(index=0, weight=Weight(1))
    def go(self, origin: Origin, one: RuntimeCall, some: list[tuple[u8, RuntimeCall | None]]) -> None:
        """Go."""


def test_calls_are_arguments_of_calls_and_nothing_else() -> None:
    for module, place in ((InStorage, "InStorage.kept"), (InStruct, "InStruct.go: wrapped"), (InEvent, "InEvent.Made")):
        with pytest.raises(TypeError, match=f"{place}: RuntimeCall stands for a call's argument"):
            composed(module)
    runtime = composed(Everywhere, Counter)
    count = runtime.call("counter.count", by=4)
    made = runtime.call("everywhere.go", one=count, some=[(7, count), (8, None)])
    assert made.encode() == b"\0\0" + count.encode() + b"\x08\7\1" + count.encode() + b"\x08\0"
    assert runtime.call_codec.decode(made.encode()) == made


def test_decoding_stops_at_a_blocks_weight_however_calls_are_held() -> None:
    runtime = composed(Everywhere, Counter)
    count = runtime.call("counter.count", by=4)
    heavy = runtime.call("everywhere.go", one=count, some=[(1, None), (2, count)] * 50_000).encode()
    # Half of the items hold a call: each costs its decoding, and a call what it weighs besides.
    per_pair = 2 * CALL_WEIGHT_MIN + count.dispatch_info.weight.ref_time
    with pytest.raises(CallsTooHeavy, match=rf"the first {2 * (BLOCK_WEIGHT_MAX // per_pair + 1)} of 100000 calls"):
        runtime.call_codec.decode(heavy)


def test_a_call_through_a_view_that_is_gone_says_so() -> None:
    module = composed(Loop).over(Overlay(DictState()), EventLog()).module(Loop)
    with pytest.raises(AssertionError, match="Loop makes calls through a view that nobody holds any more"):
        module.again(Origin.root(), False)


def test_composing_what_does_not_fit_is_refused() -> None:
    class Clash(Module):
        class One(DispatchError):
            """One."""

            index = 0

        class Two(DispatchError):
            """Two."""

            index = 0

    class Holed(Module):
        class One(DispatchError):
            """One."""

            index = 1

    class Indexless(Module):
        class One(DispatchError):
            """One."""

    class NoOrigin(Module):
        @call(index=0, weight=Weight(1))
        def go(self, by: u32) -> None:
            """Go."""

    class Heir(Counter):
        """Inherits the counter's event and error."""

    with pytest.raises(TypeError, match=r"Counter and Heir share Counted: each declares its own"):
        Runtime(view=View, spec_name="x", spec_version=1, transaction_version=1, modules={0: Counter, 1: Heir})

    class WrongWeight(Module):
        @call(index=0, weight=lambda one: Weight(one))
        def go(self, origin: Origin, one: u8, two: u8) -> None:
            """Go."""

    def compose(module: type[Module]) -> None:
        Runtime(view=View, spec_name="x", spec_version=1, transaction_version=1, modules={0: module})

    with pytest.raises(TypeError, match="One and Two share index 0"):
        compose(Clash)
    with pytest.raises(TypeError, match="errors are numbered from 0 without holes, got 1"):
        compose(Holed)
    with pytest.raises(TypeError, match="an error needs its index"):
        compose(Indexless)
    with pytest.raises(TypeError, match="a call takes self and origin first"):
        compose(NoOrigin)
    with pytest.raises(
        TypeError, match=r"WrongWeight.go: its weight and class are functions of \(one, two\): too many"
    ):
        compose(WrongWeight)
    with pytest.raises(TypeError, match=r"Friend.counter: the runtime has no module Counter"):
        compose(Friend)


def test_a_call_without_a_weight_or_a_type_is_refused_when_its_class_is_made() -> None:
    weight: Any = 200  # what a type checker would refuse
    with pytest.raises(
        TypeError, match=r"Light\.go: weight=200 is no Weight: write weight=Weight\(200 \* MICROSECOND\)"
    ):

        class Light(Module):
            @call(index=0, weight=weight)
            def go(self, origin: Origin) -> None:
                """Go."""

    with pytest.raises(TypeError, match=r"Untyped\.go: far has no type, .*: write far: u32, or AccountId"):

        class Untyped(Module):
            @call(index=0, weight=Weight(1))
            def go(self, origin: Origin, far) -> None:  # type: ignore[no-untyped-def]
                """Go."""

    with pytest.raises(TypeError, match=r"Many\.go: \*steps: 'u8': a call's arguments are plain ones"):

        class Many(Module):
            @call(index=0, weight=Weight(1))
            def go(self, origin: Origin, *steps: u8) -> None:
                """Go."""

    class Endless(Module):
        @call(index=0, weight=Weight(1))
        def go(self, origin: Origin, far: int) -> None:
            """Go."""

    with pytest.raises(
        TypeError, match=r"Endless\.go: far: <class 'int'> has no SCALE encoding; integers need a width"
    ):
        Runtime(view=View, spec_name="x", spec_version=1, transaction_version=1, modules={0: Endless})


def test_storage_without_types_is_refused_where_it_is_declared() -> None:
    with pytest.raises((TypeError, RuntimeError)):
        type("Untyped", (Module,), {"x": StorageValue(default=0)})


def test_origins_give_what_they_are_and_nothing_else() -> None:
    assert Origin.signed(ALICE.public).ensure_signed() == ALICE.public
    Origin.root().ensure_root()
    Origin.none().ensure_none()
    for origin, ask in (
        (Origin.root(), Origin.ensure_signed),
        (Origin.none(), Origin.ensure_signed),
        (Origin.signed(A), Origin.ensure_root),
        (Origin.signed(A), Origin.ensure_none),
    ):
        with pytest.raises(DispatchError) as refused:
            ask(origin)
        assert RUNTIME.fault_of(refused.value) == FaultBadOrigin()
