"""Messages: what decodes is what encodes, within bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.seal import Phase
from consensus.messages import (
    FRAME_BYTES_MAX,
    NO_LOCK,
    Certificate,
    Lock,
    MalformedFrame,
    Message,
    NewView,
    Payload,
    PayloadRequest,
    PrePrepare,
    Support,
    ViewChange,
    Vote,
    decode,
    encode,
    lock_digest,
)

u32s = st.integers(0, 2**32 - 1)
u16s = st.integers(0, 2**16 - 1)
digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=96, max_size=96)
certificates = st.builds(Certificate, u32s, u32s, digests, st.binary(max_size=128), signatures)
supports = st.builds(Support, u16s, st.none() | st.builds(Lock, u32s, digests), signatures)
proofs = st.builds(NewView, st.lists(supports, max_size=3).map(tuple), st.none() | certificates)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Vote, u32s, u32s, st.sampled_from([Phase.PREPARE, Phase.COMMIT]), digests, u16s, signatures),
    st.builds(ViewChange, u32s, u32s, u16s, st.none() | certificates, signatures),
    st.builds(PrePrepare, u32s, u32s, digests, signatures, st.none() | st.binary(max_size=50), st.none() | proofs),
    st.builds(PayloadRequest, u32s, digests),
    st.builds(Payload, u32s, st.binary(max_size=50)),
)


@settings(max_examples=100, deadline=None)
@given(messages)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@settings(max_examples=100, deadline=None)
@given(messages, st.data())
def test_a_frame_that_is_cut_longer_or_changed_is_refused_or_means_something_else(
    message: Message, data: st.DataObject
) -> None:
    frame = encode(message)
    with pytest.raises(MalformedFrame):
        decode(frame[: data.draw(st.integers(0, len(frame) - 1))])
    with pytest.raises(MalformedFrame):
        decode(frame + b"\0")
    position = data.draw(st.integers(0, len(frame) - 1))
    changed = frame[:position] + bytes((frame[position] ^ 1,)) + frame[position + 1 :]
    try:
        other = decode(changed)
    except MalformedFrame:
        return
    assert other != message
    assert encode(other) == changed


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_malformed_and_nothing_worse(frame: bytes) -> None:
    try:
        message = decode(frame)
    except MalformedFrame:
        return
    assert encode(message) == frame


def test_frames_certificates_and_proofs_are_bounded() -> None:
    with pytest.raises(MalformedFrame, match="at most"):
        decode(bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="bitmap of at most 128 bytes, got 129"):
        Certificate(1, 0, bytes(32), bytes(129), bytes(96))
    with pytest.raises(ValueError, match="at most 1024 view changes"):
        NewView((Support(0, None, bytes(96)),) * 1025, None)


def test_a_vote_is_a_prepare_or_a_commit() -> None:
    frame = bytearray(encode(Vote(1, 0, Phase.PREPARE, bytes(32), 0, bytes(96))))
    frame[9] = Phase.VIEW_CHANGE
    with pytest.raises(MalformedFrame, match="PREPARE or COMMIT"):
        decode(bytes(frame))


def test_p3_a_view_change_binds_the_lock_that_it_claims() -> None:
    locks = [None, Lock(0, bytes(32)), Lock(1, bytes(32)), Lock(0, b"\x01" * 32)]
    assert len({lock_digest(lock) for lock in locks}) == 4
    assert lock_digest(None) == NO_LOCK
