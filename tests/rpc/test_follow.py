"""The state of one follow without a node: pins and operations, compared with a model that remembers everything."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chain.primitives.hashing import Hash
from chain.primitives.types import Header
from chain.rpc.errors import Code, RpcError
from chain.rpc.follow import (
    ARGUMENT_BYTES_PER_SLOT,
    OPERATIONS_MAX,
    PINNED_MAX,
    Body,
    Call,
    Follow,
    Operation,
    Storage,
    Work,
)
from chain.rpc.queries import Kind, Query

DESCENDANTS = Query(b"", Kind.DESCENDANTS_VALUES)
VALUE = Query(b"", Kind.VALUE)


def block(height: int, parent: Hash = bytes(32)) -> Header:
    return Header(parent, height, bytes(32), bytes(32), [])


def chain(count: int) -> list[Header]:
    headers = [block(0)]
    while len(headers) < count:
        headers.append(block(len(headers), headers[-1].hash))
    return headers


def refusal(call: Callable[..., object], *arguments: object) -> int | None:
    """The code with which a call is refused, None when it is not."""
    try:
        call(*arguments)
    except RpcError as error:
        return error.code
    return None


def test_a_follow_that_pins_as_many_blocks_as_it_may_is_stopped_by_the_next() -> None:
    headers = chain(PINNED_MAX + 1)
    follow = Follow(None)
    follow.begin(headers[:1])
    for header in headers[1:-1]:
        assert [event["event"] for event in follow.advance(header, 0)] == ["newBlock", "bestBlockChanged", "finalized"]
    assert follow.advance(headers[-1], 0) == [{"event": "stop"}]
    assert follow.stopped


def test_a_client_that_unpins_follows_for_ever_whatever_is_pruned() -> None:
    headers = chain(3000)
    follow = Follow(None)
    follow.begin(headers[:1])
    for old, header in pairwise(headers):
        assert len(follow.advance(header, old.height)) == 3
        follow.unpin([old.hash])
        assert refusal(follow.unpin, [old.hash]) == Code.NOT_PINNED
    assert follow.pinned(headers[-1].hash) is headers[-1]


def test_a_call_counts_for_the_memory_that_it_takes_until_its_turn() -> None:
    (genesis,) = chain(1)
    follow = Follow({})
    follow.begin([genesis])
    large = Call("", bytes(ARGUMENT_BYTES_PER_SLOT * OPERATIONS_MAX // 2))
    assert follow.start(genesis.hash, large) is not None
    assert follow.start(genesis.hash, large) is None
    assert follow.start(genesis.hash, Call("", bytes(ARGUMENT_BYTES_PER_SLOT))) is not None
    follow.abandon("1")
    follow.abandon("2")
    largest = Call("", bytes(2 * ARGUMENT_BYTES_PER_SLOT * OPERATIONS_MAX))
    assert follow.start(genesis.hash, largest) is not None  # Alone, any that a request can carry.
    assert follow.start(genesis.hash, Body()) is None


def test_operations_take_turns() -> None:
    (genesis,) = chain(1)
    follow = Follow({})
    follow.begin([genesis])
    works: list[Work] = [Storage((VALUE,)), Call("Core_version", b""), Body(), Storage((DESCENDANTS, VALUE))]
    assert follow.start(genesis.hash, works[0]) is not None
    assert follow.next_operation() is None  # Its id is not told yet.
    started = [follow.start(genesis.hash, work) for work in works[1:]]
    follow.announced()
    order = []
    for _ in range(8):
        operation = follow.next_operation()
        assert operation is not None
        order.append(operation.id)
    assert order == 2 * ["1", "2", "3", "4"]
    last = started[-1]
    assert last is not None
    assert follow.progress(last, (DESCENDANTS, VALUE)) == [{"event": "operationWaitingForContinue", "operationId": "4"}]
    order = []
    for _ in range(3):
        operation = follow.next_operation()
        assert operation is not None
        order.append(operation.id)
        assert follow.progress(operation, ()) == []
    assert order == ["1", "2", "3"]
    assert follow.next_operation() is None
    follow.resume("4")
    assert follow.next_operation() is last
    assert follow.progress(last, (VALUE,)) == []  # Single values do not fill pages for ever: it goes on by itself.
    assert follow.next_operation() is last
    assert refusal(follow.resume, "4") == Code.NOT_WAITING


class AnyClient(RuleBasedStateMachine):
    """A client that asks for anything in any order; the model keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.headers = chain(1)
        self.oldest_state = 0
        self.follow = Follow({})
        self.pins: set[Hash] = {self.headers[0].hash}
        self.running: dict[str, tuple[Operation, int]] = {}
        self.waiting: set[str] = set()
        self.events: list[dict[str, Any]] = self.follow.begin(self.headers)

    @precondition(lambda self: not self.follow.stopped)
    @rule(pruned=st.integers(0, 2))
    def a_block_comes(self, pruned: int) -> None:
        header = block(len(self.headers), self.headers[-1].hash)
        self.headers.append(header)
        self.oldest_state = min(header.height, self.oldest_state + pruned)
        self.pins.add(header.hash)
        heights = {each.hash: each.height for each in self.headers}
        events = self.follow.advance(header, self.oldest_state)
        if any(heights[pin] < self.oldest_state for pin in self.pins):
            assert events == [{"event": "stop"}]
            self.pins.clear()
            self.running.clear()
            self.waiting.clear()
        self.events += events

    @rule(data=st.data())
    def it_unpins(self, data: st.DataObject) -> None:
        known = [header.hash for header in self.headers[-8:]] + [b"\xff" * 32]
        chosen = data.draw(st.lists(st.sampled_from(known), max_size=4))
        expected = None if set(chosen) <= self.pins else Code.NOT_PINNED
        if len(set(chosen)) < len(chosen):
            expected = Code.DUPLICATE_HASHES
        assert refusal(self.follow.unpin, chosen) == expected
        if expected is None:
            self.pins -= set(chosen)

    @rule(count=st.integers(0, OPERATIONS_MAX + 1), data=st.data())
    def it_starts_an_operation(self, count: int, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(self.headers[-8:])).hash
        free = OPERATIONS_MAX - sum(slots for _, slots in self.running.values())
        work = Storage((DESCENDANTS,) * count) if count else Body()
        if target not in self.pins:
            assert refusal(self.follow.start, target, work) == Code.NOT_PINNED
            return
        operation = self.follow.start(target, work)
        assert (operation is None) == (free < max(1, count))
        if operation is not None:
            assert operation.id not in self.running
            self.running[operation.id] = operation, max(1, count)

    @rule(left=st.integers(0, 2))
    def work_is_done(self, left: int) -> None:
        self.follow.announced()
        operation = self.follow.next_operation()
        if operation is not None:
            queries = (DESCENDANTS,) * left if isinstance(operation.work, Storage) else ()
            said = self.follow.progress(operation, queries)
            assert [event["event"] for event in said] == ["operationWaitingForContinue"] * bool(queries)
            if queries:
                self.waiting.add(operation.id)
            else:
                del self.running[operation.id]

    @rule(number=st.integers(0, 20), stops=st.booleans())
    def it_continues_or_stops_one(self, number: int, stops: bool) -> None:
        if stops:
            self.follow.abandon(str(number))
            self.running.pop(str(number), None)
            self.waiting.discard(str(number))
            return
        waits = str(number) in self.waiting
        expected = Code.NOT_WAITING if str(number) in self.running and not waits else None
        assert refusal(self.follow.resume, str(number)) == expected
        self.waiting.discard(str(number))

    @invariant()
    def pins_and_operations_are_those_of_the_model(self) -> None:
        assert all(self.follow.pinned(pin) for pin in self.pins)
        assert all(self.follow.is_under_way(operation) for operation, _ in self.running.values())
        taken = sum(slots for _, slots in self.running.values())
        assert self.follow.free_slots == OPERATIONS_MAX - taken >= 0


AnyClient.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyClient = AnyClient.TestCase
