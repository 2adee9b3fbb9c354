"""The state tree: one root a state, exact pruning, and proofs that cannot be bent."""

import random
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_256
from chain.primitives.merkle import (
    EMPTY_ROOT,
    KEY_BYTES_MAX,
    MemoryTree,
    ProofError,
    closest_hash,
    differences,
    get,
    ordered_root,
    update,
    verify_proof,
)

# Few letters and short keys: shared prefixes, keys inside keys and emptied branches are then the usual case.
KEYS = st.lists(st.sampled_from([0x00, 0x01, 0x10, 0x11, 0xFF]), max_size=4).map(bytes)
STATES = st.dictionaries(KEYS, st.binary(max_size=40), max_size=24)
CHANGES = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=40), max_size=8), max_size=6)


def dumb_root(state: Mapping[bytes, bytes]) -> bytes:
    """Return the root as the file's description has it, with none of the machinery."""

    def node_hash(entries: dict[str, bytes]) -> bytes:
        paths = list(entries)
        shared = 0
        while all(len(p) > shared for p in paths) and len({p[shared] for p in paths}) == 1:
            shared += 1
        own = paths[0][:shared]
        path = len(own).to_bytes(2, "little") + bytes.fromhex(own + "0" * (len(own) % 2))
        if len(entries) == 1:
            return blake2_256(b"\x00" + path + entries[own])
        bitmap, hashes = 0, b""
        for number, nibble in enumerate("0123456789abcdef"):
            below = {p[shared + 1 :]: v for p, v in entries.items() if len(p) > shared and p[shared] == nibble}
            if below:
                bitmap |= 1 << number
                hashes += node_hash(below)
        if own not in entries:
            return blake2_256(b"\x01" + path + bitmap.to_bytes(2, "little") + hashes)
        value = entries[own]
        return blake2_256(
            b"\x02" + path + bitmap.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value + hashes
        )

    return node_hash({key.hex(): value for key, value in state.items()}) if state else EMPTY_ROOT


@settings(max_examples=80, deadline=None)
@given(STATES, CHANGES)
def test_a_changed_tree_is_the_tree_built_from_scratch(
    state: dict[bytes, bytes], changes: list[dict[bytes, bytes | None]]
) -> None:
    tree = MemoryTree(state)
    expected = dict(state)
    for change in changes:
        tree.apply(change)
        for key, value in change.items():
            if value is None:
                expected.pop(key, None)
            else:
                expected[key] = value
        assert tree.root_hash == dumb_root(expected)
    assert {key: tree.get(key) for key in tree.keys()} == expected  # noqa: SIM118 (not a dict)
    assert len(tree.nodes) == len(MemoryTree(expected).nodes), "a node that the tree no longer uses was not stale"


@settings(max_examples=30, deadline=None)
@given(STATES, st.randoms(use_true_random=False))
def test_the_order_of_changes_leaves_no_trace_in_the_root(state: dict[bytes, bytes], rng: random.Random) -> None:
    keys = list(state)
    rng.shuffle(keys)
    tree = MemoryTree()
    for key in keys:
        tree.apply({key: b"something else"})
    rng.shuffle(keys)
    for key in keys:
        tree.apply({key: state[key]})
    assert tree.root_hash == dumb_root(state)


@settings(max_examples=40, deadline=None)
@given(STATES, KEYS, st.none() | KEYS)
def test_keys_come_in_order_under_a_prefix_and_after_a_key(
    state: dict[bytes, bytes], prefix: bytes, after: bytes | None
) -> None:
    expected = sorted(k for k in state if k.startswith(prefix) and (after is None or k > after))
    assert list(MemoryTree(state).keys(prefix, after)) == expected


@settings(max_examples=60, deadline=None)
@given(STATES, st.lists(KEYS, max_size=4))
def test_a_proof_shows_what_the_tree_holds_and_what_it_does_not(state: dict[bytes, bytes], keys: list[bytes]) -> None:
    tree = MemoryTree(state)
    assert verify_proof(tree.root_hash, keys, tree.prove(keys)) == {key: state.get(key) for key in keys}


@settings(max_examples=60, deadline=None)
@given(STATES, st.lists(KEYS, min_size=1, max_size=4), STATES)
def test_a_proof_of_other_keys_shows_nothing_that_is_not_so(
    state: dict[bytes, bytes], keys: list[bytes], other: dict[bytes, bytes]
) -> None:
    tree = MemoryTree(state)
    for proof in (tree.prove(list(other)), MemoryTree(other).prove(keys), tree.prove(sorted(state))):
        try:
            shown = verify_proof(tree.root_hash, keys, proof)
        except ProofError:
            continue
        assert shown == {key: state.get(key) for key in keys}
        assert proof == tree.prove(keys)


def tampered(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """The proof with something done to it, or to several of its nodes."""
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, max(0, len(proof) - 1)))
        match data.draw(st.sampled_from(["cut", "flip", "truncate", "extend", "swap", "double", "add"])):
            case "cut":
                proof = proof[:index] + proof[index + 1 :]
            case "flip" if proof and proof[index]:
                node = bytearray(proof[index])
                node[data.draw(st.integers(0, len(node) - 1))] ^= data.draw(st.integers(1, 255))
                proof = [*proof[:index], bytes(node), *proof[index + 1 :]]
            case "truncate" if proof:
                proof = [*proof[:index], proof[index][: data.draw(st.integers(0, 40))], *proof[index + 1 :]]
            case "extend" if proof:
                proof = [
                    *proof[:index],
                    proof[index] + data.draw(st.binary(min_size=1, max_size=8)),
                    *proof[index + 1 :],
                ]
            case "swap" if proof:
                other = data.draw(st.integers(0, len(proof) - 1))
                proof = list(proof)
                proof[index], proof[other] = proof[other], proof[index]
            case "double" if proof:
                proof = [*proof[:index], proof[index], *proof[index:]]
            case "add":
                added = MemoryTree(data.draw(STATES)).prove(data.draw(st.lists(KEYS, max_size=2))) or [b""]
                proof = [*proof[:index], *added, *proof[index:]]
    return proof


@settings(max_examples=200, deadline=None)
@given(STATES, st.lists(KEYS, min_size=1, max_size=3), st.data())
def test_some_keys_have_one_proof_and_any_other_is_refused(
    state: dict[bytes, bytes], keys: list[bytes], data: st.DataObject
) -> None:
    tree = MemoryTree(state)
    proof = tree.prove(keys)
    changed = tampered(list(proof), data)
    if changed != proof:
        with pytest.raises(ProofError, match=r"expected (node [0-9a-f]{64} of the proof|a proof of \d+ nodes)"):
            verify_proof(tree.root_hash, keys, changed)


def test_a_proof_is_worth_nothing_under_another_root() -> None:
    tree = MemoryTree({b"a": b"1", b"b": b"2"})
    for other in (MemoryTree({b"a": b"1"}), MemoryTree()):
        with pytest.raises(ProofError):
            verify_proof(other.root_hash, [b"a"], tree.prove([b"a"]))


NO_NODES = {
    "half a head": b"\x00\x00",
    "an unknown kind": b"\x03\x00\x00",
    "less path than it says": b"\x00\x04\x00\x61",
    "a padded path": b"\x00\x01\x00\x61value",
    "no bitmap": b"\x01\x00\x00",
    "half a bitmap": b"\x01\x00\x00\x01",
    "no child": b"\x01\x00\x00\x00\x00",
    "one child and no value": b"\x01\x00\x00\x01\x00" + bytes(32),
    "a child too few": b"\x01\x00\x00\x03\x00" + bytes(32),
    "half a child": b"\x01\x00\x00\x03\x00" + bytes(63),
    "a child too many": b"\x01\x00\x00\x03\x00" + bytes(96),
    "a value and no child": b"\x02\x00\x00\x00\x00\x01\x00\x00\x00v",
    "less value than it says": b"\x02\x00\x00\x01\x00\xff\x00\x00\x00" + bytes(33),
    "half a length": b"\x02\x00\x00\x01\x00\xff\x00",
}


@pytest.mark.parametrize("what", NO_NODES)
def test_bytes_that_are_no_node_are_refused_even_under_their_own_hash(what: str) -> None:
    garbage = NO_NODES[what]
    with pytest.raises(ProofError, match="expected a tree node"):
        verify_proof(blake2_256(garbage), [b"key"], [garbage])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.lists(KEYS, min_size=1, max_size=3))
def test_no_bytes_under_their_own_hash_do_more_than_be_refused(garbage: bytes, keys: list[bytes]) -> None:
    with suppress(ProofError):
        verify_proof(blake2_256(garbage), keys, [garbage])


def test_changing_nothing_writes_nothing() -> None:
    tree = MemoryTree({b"a": b"1", b"ab": b"2"})
    change = update(tree, tree.root, {b"a": b"1", b"missing": None, b"abc": None}, tree.next_id)
    assert (change.root, change.new_nodes, change.stale) == (tree.root, [], [])


def test_the_tree_before_a_change_stays_readable_until_its_stale_nodes_go() -> None:
    before = MemoryTree({b"a": b"1", b"ab": b"2", b"b": b"3"})
    change = update(before, before.root, {b"ab": b"9", b"b": None}, before.next_id)
    old_root = before.root
    before.nodes.update(change.new_nodes)
    assert [get(before, old_root, k) for k in (b"a", b"ab", b"b")] == [b"1", b"2", b"3"]
    assert [get(before, change.root, k) for k in (b"a", b"ab", b"b")] == [b"1", b"9", None]
    first = before.next_id
    assert [node_id for node_id, _ in change.new_nodes] == list(range(first, first + len(change.new_nodes)))


def test_the_deepest_tree_that_keys_allow_can_be_built_read_and_emptied() -> None:
    state = {b"\x11" * length: b"v" for length in range(KEY_BYTES_MAX + 1)}
    state |= {b"\x11" * length + b"\x12": b"w" for length in range(KEY_BYTES_MAX)}
    tree = MemoryTree(state)
    assert sorted(tree.keys()) == sorted(state)
    deepest = b"\x11" * KEY_BYTES_MAX
    assert verify_proof(tree.root_hash, [deepest], tree.prove([deepest])) == {deepest: b"v"}
    tree.apply(dict.fromkeys(state))
    assert (tree.root_hash, tree.nodes) == (EMPTY_ROOT, {})


def test_a_key_longer_than_the_bound_is_refused_with_both_lengths() -> None:
    with pytest.raises(ValueError, match="at most 256 bytes, got 257"):
        MemoryTree({bytes(257): b""})


def test_the_root_of_a_list_depends_on_its_order_and_length() -> None:
    roots = [ordered_root(items) for items in ([], [b""], [b"a", b"b"], [b"b", b"a"], [b"a", b"b", b""])]
    assert len(set(roots)) == 5
    assert roots[0] == EMPTY_ROOT


@settings(max_examples=80, deadline=None)
@given(STATES, KEYS)
def test_the_hash_at_a_prefix_is_of_all_keys_that_start_with_it(state: dict[bytes, bytes], prefix: bytes) -> None:
    tree = MemoryTree(state)
    found = closest_hash(tree, tree.root, prefix)
    below = {key: value for key, value in state.items() if key.startswith(prefix)}
    assert (found is None) == (not below)
    for key in below:
        changed = MemoryTree({**state, key: state[key] + b"\x01"})
        assert closest_hash(changed, changed.root, prefix) != found
    for key in set(state) - set(below):
        changed = MemoryTree({**state, key: state[key] + b"\x01"})
        assert closest_hash(changed, changed.root, prefix) == found
    assert closest_hash(tree, tree.root, b"") == (tree.root_hash if state else None)


@settings(max_examples=200, deadline=None)
@given(STATES, CHANGES, KEYS, st.none() | KEYS)
def test_two_trees_differ_in_the_keys_whose_values_differ(
    state: dict[bytes, bytes], changes: list[dict[bytes, bytes | None]], prefix: bytes, after: bytes | None
) -> None:
    old, new, later = MemoryTree(state), MemoryTree(state), {**state}
    for change in changes:
        new.apply(change)
        for key, value in change.items():
            if value is None:
                later.pop(key, None)
            else:
                later[key] = value
    expected = [
        (key, state.get(key), later.get(key))
        for key in sorted({*state, *later})
        if state.get(key) != later.get(key) and key.startswith(prefix) and (after is None or key > after)
    ]
    assert list(differences((old, old.root), (new, new.root), prefix, after)) == expected
    backward = [(key, new_value, old_value) for key, old_value, new_value in expected]
    assert list(differences((new, new.root), (old, old.root), prefix, after)) == backward


def test_what_two_trees_share_is_not_read_to_find_where_they_differ() -> None:
    state = {blake2_256(number.to_bytes(4)): b"x" for number in range(4096)}
    old, new = MemoryTree(state), MemoryTree(state)
    changed = [blake2_256(number.to_bytes(4)) for number in range(3)]
    new.apply({changed[0]: b"y", changed[1]: None, b"\xff" * 32: b"z"})
    read = 0

    class Counting:
        def __init__(self, tree: MemoryTree) -> None:
            self.tree = tree

        def node(self, node_id: int) -> bytes:
            nonlocal read
            read += 1
            return self.tree.node(node_id)

    found = list(differences((Counting(old), old.root), (Counting(new), new.root)))
    assert {change.key for change in found} == {changed[0], changed[1], b"\xff" * 32}
    assert read < 50
