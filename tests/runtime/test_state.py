"""The overlay against the dumb version: a dictionary that is copied for every transaction."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.potchain import RUNTIME
from runtime.state import DictState, Overlay

Layer = tuple[dict[bytes, bytes | None], list[tuple[bool, Any, dict[bytes, bytes | None]]]]

KEYS = st.binary(min_size=1, max_size=2)
BASE = st.dictionaries(KEYS, st.binary(max_size=2), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=2)),
        st.tuples(st.just("remove"), KEYS, st.just(b"")),
        st.tuples(st.sampled_from(("begin", "commit", "rollback")), st.just(b""), st.just(b"")),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(BASE, STEPS, KEYS)
def test_an_overlay_is_a_copied_dictionary(
    base: dict[bytes, bytes], steps: list[tuple[str, bytes, bytes]], probe: bytes
) -> None:
    overlay = Overlay(DictState(dict(base)))
    stack = [dict(base)]
    for step, key, value in steps:
        match step:
            case "put":
                overlay.put(key, value)
                stack[-1][key] = value
            case "remove":
                overlay.remove(key)
                stack[-1].pop(key, None)
            case "begin":
                overlay.begin()
                stack.append(dict(stack[-1]))
            case "commit" if len(stack) > 1:
                overlay.commit()
                stack[-2:] = [stack[-1]]
            case "rollback" if len(stack) > 1:
                overlay.rollback()
                stack.pop()
            case _:
                pass
        dumb = stack[-1]
        assert overlay.get(probe) == dumb.get(probe)
        for after in (None, probe):
            expected = sorted(key for key in dumb if key[:1] == probe[:1] and (after is None or key > after))
            assert list(overlay.keys(probe[:1], after)) == expected
    while len(stack) > 1:
        overlay.commit()
        stack[-2:] = [stack[-1]]
    changes = overlay.changes()
    assert list(changes) == sorted(changes)
    assert all(base.get(key) != value for key, value in changes.items())
    assert {key: value for key, value in {**base, **changes}.items() if value is not None} == stack[0]


WRITES = st.dictionaries(KEYS, st.none() | st.binary(max_size=2), max_size=3)
# A transaction: what it writes, the transactions inside it with whether each is kept, and what it writes after each.
LAYER: st.SearchStrategy[Layer] = st.deferred(
    lambda: st.tuples(WRITES, st.lists(st.tuples(st.booleans(), LAYER, WRITES), max_size=2))
)


def write(overlay: Overlay, dumb: dict[bytes, bytes], writes: dict[bytes, bytes | None]) -> None:
    for key, value in writes.items():
        if value is None:
            overlay.remove(key)
            dumb.pop(key, None)
        else:
            overlay.put(key, value)
            dumb[key] = value


def play(overlay: Overlay, dumb: dict[bytes, bytes], layer: Layer) -> dict[bytes, bytes]:
    """Run a transaction's parts on the overlay; return what the dumb version has then."""
    writes, inner = layer
    write(overlay, dumb, writes)
    for keep, child, after in inner:
        overlay.begin()
        copied = play(overlay, dict(dumb), child)
        if keep:
            overlay.commit()
            dumb = copied
        else:
            overlay.rollback()
        write(overlay, dumb, after)
        assert {key: overlay.get(key) for key in overlay.keys(b"")} == dumb
    return dumb


@settings(max_examples=150, deadline=None)
@given(BASE, LAYER)
@example(
    {b"a": b"0"},
    ({b"a": b"1"}, [(True, ({b"a": b"2"}, [(False, ({b"a": None}, [(True, ({b"b": b"3"}, []), {})]), {})]), {})]),
)
@example(
    {b"a": b"0"}, ({}, [(False, ({b"a": b"2"}, [(True, ({b"a": None}, [(True, ({b"b": b"3"}, []), {})]), {})]), {})])
)
def test_transactions_nest_three_deep_and_deeper(base: dict[bytes, bytes], layer: Layer) -> None:
    overlay = Overlay(DictState(dict(base)))
    overlay.begin()
    dumb = play(overlay, dict(base), layer)
    overlay.commit()
    changes = overlay.changes()
    assert {key: value for key, value in {**base, **changes}.items() if value is not None} == dumb


def test_a_value_written_as_it_was_is_no_change() -> None:
    overlay = Overlay(DictState({b"a": b"1"}))
    overlay.put(b"a", b"2")
    overlay.put(b"a", b"1")
    overlay.remove(b"absent")
    assert overlay.changes() == {}


def test_keys_removed_while_iterating_are_skipped_and_added_ones_not_seen() -> None:
    overlay = Overlay(DictState({b"a1": b"", b"a2": b"", b"a3": b""}))
    overlay.put(b"a4", b"")
    seen = []
    for key in overlay.keys(b"a"):
        seen.append(key)
        if key == b"a1":
            overlay.remove(b"a2")
            overlay.remove(b"a4")
            overlay.put(b"a5", b"")
    assert seen == [b"a1", b"a3"]


def test_a_view_of_a_committed_state_refuses_writes() -> None:
    view = RUNTIME.at(DictState())
    with pytest.raises(AssertionError, match="read-only"):
        view.balances.total_issuance.put(1)
    with pytest.raises(AssertionError, match="read-only"):
        view.balances.total_issuance.kill()
