"""Frames and messages: what one side packs the other unpacks, and anything else is the peer's error."""

from __future__ import annotations

import dataclasses
import tracemalloc
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.net.errors import PeerError
from chain.net.frames import FrameReader
from chain.net.messages import (
    BLOCKS_BYTES_MAX,
    CONSENSUS_BYTES_MAX,
    MIB,
    Blocks,
    Chunks,
    Consensus,
    GetBlocks,
    GetChunks,
    GetHandovers,
    GetState,
    Handovers,
    HaveTransactions,
    Hello,
    Message,
    Peers,
    Ping,
    Pong,
    Refusal,
    Refused,
    Role,
    StateNodes,
    Status,
    Transactions,
    WantTransactions,
    bytes_max,
    handshake_bytes_max,
    pack,
    unpack,
)

HASH = bytes(range(32))
ONE_OF_EACH: list[Message] = [
    Hello(2, HASH, 2**32 - 1, HASH, 7, Role.FULL, 30333, 2**64 - 1),
    Refused(Refusal.GENESIS, "another chain"),
    Ping(0),
    Pong(2**64 - 1),
    Consensus(b"vote"),
    Transactions((b"a", b"b")),
    HaveTransactions((HASH,)),
    WantTransactions((HASH, HASH)),
    Status(7, HASH),
    GetBlocks(1, 2, 3),
    Blocks(1, ()),
    GetChunks(1, HASH, 0, 16),
    Chunks(1, 70000, ((b"chunk", (HASH, HASH)), (b"", ()))),
    Peers(((HASH, "::1", 30333),)),
    GetHandovers(1, 2, 16),
    Handovers(1, ((b"header", b"seal", (b"node", b"leaf")),)),
    GetState(1, HASH, b""),
    StateNodes(1, 2**40, (b"node",)),
]


def test_there_is_an_example_of_each_message() -> None:
    assert [type(message) for message in ONE_OF_EACH] == list(get_args(Message))


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    reader = FrameReader(bytes_max)
    reader.feed(pack(message))
    payload = reader.next()
    assert payload is not None
    assert unpack(payload) == message


@given(cuts=st.lists(st.integers(0, 2000), max_size=20))
@settings(max_examples=20, deadline=None)
def test_frames_are_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(pack(message) for message in ONE_OF_EACH)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader, found = FrameReader(bytes_max), []
    for start, stop in pairwise(edges):
        reader.feed(stream[start:stop])
        while (payload := reader.next()) is not None:
            found.append(unpack(payload))
    assert found == ONE_OF_EACH
    assert reader.buffered == 0


@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_the_peers_error_and_nothing_else(data: bytes) -> None:
    reader = FrameReader(bytes_max)
    reader.feed(data)
    try:
        while (payload := reader.next()) is not None:
            unpack(payload)
    except PeerError:
        pass


@given(which=st.sampled_from(ONE_OF_EACH), at=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_gives_a_message_or_the_peers_error(which: Message, at: int, value: int) -> None:
    payload = bytearray(pack(which)[4:])
    payload[at % len(payload)] = value
    try:
        message = unpack(bytes(payload))
    except PeerError:
        return
    assert unpack(pack(message)[4:]) == message
    assert all(type(getattr(message, field.name)) is not list for field in dataclasses.fields(message))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x92\x04\xdd\x00\x40\x00\x00" + b"\x90" * (4 * MIB),
        b"\x92\x05\xdd\x00\x10\x00\x00" + b"\x90" * MIB,
        b"\x93\x0a\x01" + b"\x91" * (4 * MIB),
        b"\x92\x04" + b"\xdd\x00\x10\x00\x00" * (MIB // 4),
        b"\x92\x04\xdf\x00\x10\x00\x00" + b"\x00\x90" * MIB,
    ],
    ids=["lists for bytes", "lists in a list", "a list in a list", "lists that claim more than there is", "a map"],
)
def test_what_a_message_has_no_place_for_is_never_built(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PeerError):
            unpack(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(payload)  # The library holds a copy, in a buffer of up to twice the size.


@pytest.mark.parametrize(
    "payload",
    [
        b"\x92\x02\xcc\x07",
        b"\x92\x02\xcd\x00\x07",
        b"\x92\x02\xcf\x00\x00\x00\x00\x00\x00\x00\x07",
        b"\x92\x02\xd3\x00\x00\x00\x00\x00\x00\x00\x07",
        b"\x92\x02\xd1\x01\x00",
        b"\x92\x02\xd2\x00\x01\x00\x00",
        b"\x92\x04\xc5\x00\x01a",
        b"\x92\x04\xc6\x00\x00\x00\x01a",
        b"\x93\x01\x02\xd9\x01a",
        b"\x92\x05\xdc\x00\x01\xc4\x01a",
        b"\x92\x02\x07\x07",
    ],
)
def test_a_message_has_one_spelling(payload: bytes) -> None:
    with pytest.raises(PeerError):
        unpack(payload)


def test_a_frame_is_refused_from_its_head_before_its_body_comes() -> None:
    reader = FrameReader(bytes_max)
    reader.feed((CONSENSUS_BYTES_MAX * 2).to_bytes(4, "big") + b"\x92\x04")
    with pytest.raises(PeerError, match="frame of kind 4 has"):
        reader.next()


def test_before_the_hello_only_a_hello_or_a_refusal_may_come() -> None:
    for message in ONE_OF_EACH[2:]:
        reader = FrameReader(handshake_bytes_max)
        reader.feed(pack(message))
        with pytest.raises(PeerError, match="unknown kind"):
            reader.next()


def test_the_largest_proposal_and_the_largest_block_fit() -> None:
    assert unpack(pack(Consensus(bytes(CONSENSUS_BYTES_MAX)))[4:])
    assert unpack(pack(Blocks(1, (bytes(BLOCKS_BYTES_MAX),)))[4:])


def test_we_never_send_what_others_must_refuse() -> None:
    with pytest.raises(ValueError, match="exceeds the bound"):
        pack(Consensus(bytes(CONSENSUS_BYTES_MAX + 100_000)))
