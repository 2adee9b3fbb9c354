"""System and the block's order: hooks, topics of events, and what root may write of the state."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_256
from chain.primitives.merkle import KEY_BYTES_MAX
from chain.primitives.scale import ScaleError, u8
from runtime.composition import Runtime, View
from runtime.framework import Module, call, event
from runtime.limits import BLOCK_WEIGHT_MAX, MILLISECOND
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import PAIRINGS, Validators
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, TestChain
from runtime.types import (
    ApplyExtrinsic,
    BadOrigin,
    DispatchClass,
    DispatchError,
    EventRecord,
    Finalization,
    Origin,
    Weight,
)

TOPICS: Final = tuple(blake2_256(bytes((number,))) for number in range(4))


ASKED: list[tuple[str, str, int]] = []  # module, hook, the milliseconds that were left for it


class Hooks(Module):
    """Notes when it is asked, and what it has left for it."""

    def on_initialize(self) -> Weight:
        ASKED.append((self.info.name, "initialize", 0))
        return Weight(100 * MILLISECOND)

    def on_idle(self, remaining: Weight) -> Weight:
        ASKED.append((self.info.name, "idle", remaining.ref_time // MILLISECOND))
        return Weight(min(remaining.ref_time, 200 * MILLISECOND))

    def on_finalize(self) -> None:
        ASKED.append((self.info.name, "finalize", 0))


class Early(Hooks):
    """Emits events under topics."""

    @event(index=0)
    class Noted:
        """Something was noted under topics."""

        what: u8

    class Refused(DispatchError):
        """Asked to fail."""

        index = 0

    @call(index=0, weight=Weight(0))
    def note(self, origin: Origin, what: u8, topics: list[u8], fail: bool) -> None:
        """Note something under topics, and fail if asked to."""
        origin.ensure_signed()
        self.emit(self.Noted(what), topics=tuple(TOPICS[topic] for topic in topics))
        if fail:
            raise self.Refused

    def on_finalize(self) -> None:
        super().on_finalize()
        self.emit(self.Noted(0), topics=(TOPICS[3],))


class Late(Hooks):
    """The same under a greater index."""


class Hooked(View):
    system: System
    early: Early
    late: Late


HOOKED: Final = Runtime(
    view=Hooked,
    spec_name="hooked",
    spec_version=1,
    transaction_version=1,
    modules={0: System, 1: Timestamp, 2: Balances, 3: TransactionPayment, 4: Validators, 5: Early, 6: Late},
)


@pytest.fixture
def chain() -> TestChain:
    return TestChain()


@pytest.fixture
def hooked() -> TestChain[Hooked]:
    return TestChain(runtime=HOOKED)


# --- hooks ---


def test_modules_begin_and_end_a_block_in_the_order_of_their_indexes(hooked: TestChain[Hooked]) -> None:
    hooked.run_to(3)
    ASKED.clear()
    hooked.run_blocks(1)
    asked = [(module, hook) for module, hook, _ in ASKED if hook != "idle"]
    assert asked == [(module, hook) for hook in ("finalize", "initialize") for module in ("Early", "Late")]


def test_idle_weight_is_offered_to_another_module_first_each_block(hooked: TestChain[Hooked]) -> None:
    hooked.run_to(7)
    asked_first = []
    for _ in range(len(HOOKED.modules)):
        left = (BLOCK_WEIGHT_MAX - hooked.builder.meter.total) // MILLISECOND
        ASKED.clear()
        hooked.run_blocks(1)
        idle = [(module, remaining) for module, hook, remaining in ASKED if hook == "idle"]
        assert [remaining for _, remaining in idle] == [left, left - 200]
        asked_first.append(idle[0][0])
    # Late is the last of seven: the turn begins with it in one block of seven.
    assert asked_first == ["Early"] * 6 + ["Late"]


def test_a_full_block_asks_nobody_to_idle_and_counts_what_hooks_used(hooked: TestChain[Hooked]) -> None:
    hooked.run_to(2)
    meter = hooked.builder.meter
    assert meter.weight[DispatchClass.MANDATORY] > PAIRINGS.ref_time + 200 * MILLISECOND
    meter.weight[DispatchClass.OPERATIONAL] = BLOCK_WEIGHT_MAX - meter.weight[DispatchClass.MANDATORY]
    ASKED.clear()
    assert hooked.close().weight == BLOCK_WEIGHT_MAX
    assert [hook for _, hook, _ in ASKED] == ["finalize"] * 2 + ["initialize"] * 2


# --- topics ---


def test_events_are_found_by_their_topics_until_the_next_block(hooked: TestChain[Hooked]) -> None:
    hooked.run_to(2)
    hooked.submit(ALICE, "early.note", what=1, topics=[0, 1], fail=False)
    hooked.submit(ALICE, "early.note", what=2, topics=[0, 2], fail=True)
    hooked.submit(BOB, "early.note", what=3, topics=[1], fail=False)
    executed = hooked.close()
    stored = HOOKED.at(hooked.tree).system
    records = stored.events.get()
    assert records == executed.events
    first = records.index(EventRecord(ApplyExtrinsic(2), Early.Noted(1), (TOPICS[0], TOPICS[1])))
    second = records.index(EventRecord(ApplyExtrinsic(4), Early.Noted(3), (TOPICS[1],)))
    assert dict(stored.event_topics.items()) == {
        TOPICS[0]: [(2, first)],
        TOPICS[1]: [(2, first), (2, second)],
        TOPICS[3]: [(2, records.index(EventRecord(Finalization(), Early.Noted(0), (TOPICS[3],))))],
    }
    hooked.close()
    assert list(HOOKED.at(hooked.tree).system.event_topics.keys()) == [TOPICS[3]]


def test_a_topic_is_a_hash(hooked: TestChain[Hooked]) -> None:
    with pytest.raises(ScaleError, match="expected 32 bytes, got 5"):
        hooked.modules.early.emit(Early.Noted(1), topics=(b"short",))


# --- what root may write ---

KEYS = st.lists(st.binary(min_size=1, max_size=3), max_size=5)


def test_root_sets_and_kills_items_of_storage(chain: TestChain) -> None:
    issuance = chain.modules.balances.total_issuance
    before = issuance.get()
    items = [(b"a1", b"1"), (b"a2", b"2"), (b"b", b""), (issuance.key, bytes(16))]
    chain.call(Origin.root(), "system.set_storage", items=items)
    state = chain.builder.overlay
    assert [state.get(key) for key, _ in items] == [value for _, value in items]
    chain.call(Origin.root(), "system.kill_prefix", prefix=b"a", subkeys=1)
    assert (state.get(b"a1"), state.get(b"a2")) == (None, b"2")
    chain.call(Origin.root(), "system.kill_prefix", prefix=b"a", subkeys=2**32 - 1)
    chain.call(Origin.root(), "system.kill_storage", keys=[b"b", b"absent"])
    assert [state.get(key) for key in (b"a2", b"b")] == [None, None]
    issuance.put(before)
    chain.run_blocks(1)


def test_what_no_tree_could_hold_is_refused(chain: TestChain) -> None:
    for key in (b"", bytes(KEY_BYTES_MAX + 1)):
        with chain.unchanged(System.InvalidKey):
            chain.call(Origin.root(), "system.set_storage", items=[(b"good", b"1"), (key, b"1")])
        with chain.unchanged(System.InvalidKey):
            chain.call(Origin.root(), "system.kill_storage", keys=[b"good", key])
    chain.call(Origin.root(), "system.set_storage", items=[(bytes(KEY_BYTES_MAX), b"1")])
    chain.run_blocks(1)


def test_root_names_at_most_a_thousand_items_in_one_call() -> None:
    for name, item in (("set_storage", {"items": [(b"k", b"")]}), ("kill_storage", {"keys": [b"k"]})):
        ((argument, one),) = item.items()
        most = RUNTIME.call(f"system.{name}", **{argument: one * 1000})
        assert RUNTIME.call_codec.decode(most.encode()) == most
        with pytest.raises(ScaleError, match="expected at most 1000 items, got 1001"):
            RUNTIME.call(f"system.{name}", **{argument: one * 1001}).encode()


def test_nobody_but_root_writes_the_state(chain: TestChain) -> None:
    arguments: list[tuple[str, dict[str, object]]] = [
        ("set_storage", {"items": [(b"a", b"b")]}),
        ("kill_storage", {"keys": [b"a"]}),
        ("kill_prefix", {"prefix": b"", "subkeys": 5}),
    ]
    for name, given_ in arguments:
        assert RUNTIME.call(f"system.{name}", **given_).dispatch_info.class_ is DispatchClass.OPERATIONAL
        for origin in (ALICE, Origin.none()):
            with chain.unchanged(BadOrigin):
                chain.call(origin, f"system.{name}", **given_)


@settings(max_examples=40, deadline=None)
@given(KEYS, KEYS, st.binary(max_size=2), st.integers(0, 6))
def test_root_writes_what_a_dictionary_would(
    written: list[bytes], killed: list[bytes], prefix: bytes, subkeys: int
) -> None:
    modules = EMPTY.modules
    overlay = EMPTY.builder.overlay
    overlay.begin()
    try:
        dumb = {key: overlay.get(key) for key in overlay.keys(b"")}
        modules.system.set_storage(Origin.root(), [(b"\xff" + key, key) for key in written])
        dumb |= {b"\xff" + key: key for key in written}
        modules.system.kill_storage(Origin.root(), [b"\xff" + key for key in killed])
        dumb = {key: value for key, value in dumb.items() if key not in [b"\xff" + item for item in killed]}
        modules.system.kill_prefix(Origin.root(), b"\xff" + prefix, subkeys)
        for key in sorted(key for key in dumb if key.startswith(b"\xff" + prefix))[:subkeys]:
            del dumb[key]
        assert {key: overlay.get(key) for key in overlay.keys(b"")} == dumb
    finally:
        overlay.rollback()


EMPTY = TestChain()


def test_remarks_are_made_by_anybody_and_weigh_what_is_hashed(chain: TestChain) -> None:
    chain.call(Origin.root(), "system.remark", remark=b"x")
    with chain.unchanged(BadOrigin):
        chain.call(Origin.none(), "system.remark", remark=b"x")
    with chain.unchanged(BadOrigin):
        chain.call(Origin.root(), "system.remark_with_event", remark=b"x")
    chain.clear_events()
    chain.call(ALICE, "system.remark_with_event", remark=b"x" * 1000)
    assert chain.events == [System.Remarked(ALICE.public, blake2_256(b"x" * 1000))]
    short, long = (
        RUNTIME.call("system.remark_with_event", remark=bytes(size)).dispatch_info.weight.ref_time
        for size in (0, 10**6)
    )
    assert long - short == 2 * MILLISECOND
