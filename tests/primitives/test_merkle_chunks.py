"""States in chunks: whatever their size, all of them show the whole state, and no other chunk shows anything."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_256
from chain.primitives.merkle import EMPTY_ROOT, MemoryTree, ProofError, iterate
from chain.primitives.merkle_chunks import TreeBuilder, prove_chunk, verify_chunk

# Keys that are prefixes of each other and share much, as storage keys do.
KEYS = st.binary(min_size=1, max_size=4).map(lambda key: bytes(byte & 0x31 for byte in key)) | st.binary(
    min_size=1, max_size=40
)
STATES = st.dictionaries(KEYS, st.binary(max_size=60), max_size=40)


def chunks_of(tree: MemoryTree, bytes_max: int) -> list[list[bytes]]:
    """All chunks of a state, each asked for with the last key of the one before."""
    found: list[list[bytes]] = []
    after: bytes | None = None
    while True:
        nodes = prove_chunk(tree, tree.root, after, bytes_max)
        found.append(nodes)
        chunk = verify_chunk(tree.root_hash, after, nodes)
        if chunk.is_last:
            return found
        after = chunk.entries[-1][0]


def collected(tree: MemoryTree, bytes_max: int) -> dict[bytes, bytes]:
    after: bytes | None = None
    entries: list[tuple[bytes, bytes]] = []
    for nodes in chunks_of(tree, bytes_max):
        entries += verify_chunk(tree.root_hash, after, nodes).entries
        after = entries[-1][0] if entries else None
    assert entries == sorted(entries)
    return dict(entries)


@given(STATES, st.sampled_from([1, 100, 300, 1000, 10**6]))
def test_the_chunks_of_a_state_hold_all_of_it_once_whatever_their_size(
    state: Mapping[bytes, bytes], bytes_max: int
) -> None:
    assert collected(MemoryTree(dict(state)), bytes_max) == state


@given(STATES, KEYS, st.data())
def test_a_chunk_that_was_changed_shows_nothing(
    state: Mapping[bytes, bytes], after: bytes, data: st.DataObject
) -> None:
    tree = MemoryTree(dict(state))
    nodes = prove_chunk(tree, tree.root, after, 300)
    true = verify_chunk(tree.root_hash, after, nodes)
    expected = [(key, value) for key, value in sorted(state.items()) if key > after]
    assert true.entries == expected[: len(true.entries)]
    assert true.is_last == (len(true.entries) == len(expected))
    index = data.draw(st.integers(0, len(nodes)))
    kind = data.draw(st.sampled_from(["drop", "double", "swap", "flip", "foreign"]))
    other = list(nodes)
    if kind == "drop":
        del other[index : index + 1]
    elif kind == "double":
        other[index:index] = nodes[index : index + 1]
    elif kind == "swap":
        other[index : index + 2] = other[index : index + 2][::-1]
    elif kind == "flip" and index < len(other):
        other[index] = other[index][:-1] + bytes([other[index][-1] ^ 1])
    elif kind == "foreign":
        other.insert(index, b"\0\0\0value")
    if other == nodes:
        return
    try:
        found = verify_chunk(tree.root_hash, after, other)
    except ProofError:
        return
    # Only what an honest peer could have answered, too: a chunk of fewer bytes.
    assert other == nodes[: len(other)]
    assert not found.is_last
    assert found.entries == expected[: len(found.entries)] != []


def test_a_chunk_that_leaves_out_a_key_in_the_middle_or_at_the_end_is_refused() -> None:
    state = {blake2_256(b"%d" % number): b"%d" % number for number in range(200)}
    tree = MemoryTree(dict(state))
    nodes = prove_chunk(tree, tree.root, None, 10**6)
    leaves = [index for index, node in enumerate(nodes) if node[0] == 0]
    for index in leaves[:-1:20]:
        with pytest.raises(ProofError, match="got another"):
            verify_chunk(tree.root_hash, None, nodes[:index] + nodes[index + 1 :])
    assert not verify_chunk(tree.root_hash, None, nodes[: leaves[-2] + 1]).is_last
    with pytest.raises(ProofError, match="got another"):
        verify_chunk(tree.root_hash, sorted(state)[50], nodes)
    with pytest.raises(ProofError, match="and more"):
        verify_chunk(tree.root_hash, None, [*nodes, nodes[-1]])
    branch = next(index for index, node in enumerate(nodes) if index > 20 and node[0] == 1)
    with pytest.raises(ProofError, match="ends with a key"):
        verify_chunk(tree.root_hash, None, nodes[: branch + 1])
    with pytest.raises(ProofError, match="ends with a key"):
        verify_chunk(tree.root_hash, None, [])


def test_an_empty_state_is_one_chunk_of_nothing() -> None:
    assert prove_chunk(MemoryTree(), None, None, 100) == []
    assert verify_chunk(EMPTY_ROOT, None, []) == ([], True)
    with pytest.raises(ProofError, match="empty state"):
        verify_chunk(EMPTY_ROOT, None, [b"\0\0\0"])


def test_after_the_last_key_a_chunk_shows_that_nothing_comes() -> None:
    tree = MemoryTree({b"a": b"1", b"ab": b"2", b"b": b"3"})
    nodes = prove_chunk(tree, tree.root, b"b", 100)
    assert verify_chunk(tree.root_hash, b"b", nodes) == ([], True)
    assert verify_chunk(tree.root_hash, b"a", prove_chunk(tree, tree.root, b"a", 10**6)).entries == [
        (b"ab", b"2"),
        (b"b", b"3"),
    ]


@given(STATES)
def test_a_tree_built_key_by_key_is_the_one_that_updates_make(state: Mapping[bytes, bytes]) -> None:
    builder = TreeBuilder(7)
    for key, value in sorted(state.items()):
        builder.add(key, value)
    root = builder.finish()
    whole = MemoryTree(dict(state))
    assert (None if root is None else root.hash) == (None if whole.root is None else whole.root.hash)
    assert [node_id for node_id, _ in builder.nodes] == list(range(7, builder.next_id))
    built = MemoryTree()
    built.nodes, built.root, built.next_id = dict(builder.nodes), root, builder.next_id
    assert {key: built.get(key) for key in iterate(built, root)} == state
    # It goes on as any other tree does.
    built.apply({b"one more": b"key"})
    whole.apply({b"one more": b"key"})
    assert built.root_hash == whole.root_hash


def test_keys_that_do_not_ascend_are_a_fault_of_ours() -> None:
    builder = TreeBuilder(0)
    builder.add(b"b", b"")
    for key in (b"b", b"a", b"c" * 257):
        with pytest.raises(ValueError, match="ascending"):
            builder.add(key, b"")
