"""Messages wait for the gadget within bounds, and strangers' wait for validators'."""

from __future__ import annotations

from consensus.inbox import BYTES_PER_PEER_MAX, MESSAGES_PER_PEER_MAX, STRANGERS_EVERY, Inbox
from consensus.messages import PayloadRequest

VALIDATOR = b"validator"


def message(number: int) -> PayloadRequest:
    return PayloadRequest(1, number.to_bytes(32, "big"))


def test_a_validator_is_heard_before_a_crowd_of_strangers_and_none_of_them_starves() -> None:
    inbox = Inbox()
    for stranger in range(50):
        inbox.put(b"stranger %d" % stranger, message(stranger), 1)
    for number in range(12):
        inbox.put(VALIDATOR, message(number), 1)
    served = [inbox.pop(lambda peer: peer == VALIDATOR) for _ in range(16)]
    known = [item for item in served if isinstance(item, tuple) and item[0] == VALIDATOR]
    assert known == [(VALIDATOR, message(number)) for number in range(12)]
    assert [number for number, item in enumerate(served) if item not in known] == [
        STRANGERS_EVERY * turn - 1 for turn in range(1, 5)
    ]
    assert [item for item in served if item not in known] == [(b"stranger %d" % n, message(n)) for n in range(4)]


def test_peers_that_nobody_knows_are_served_in_turn() -> None:
    inbox = Inbox()
    for number in range(3):
        for peer in (b"a", b"b"):
            inbox.put(peer, message(number), 1)
    assert [inbox.pop() for _ in range(7)] == [
        *((peer, message(number)) for number in range(3) for peer in (b"a", b"b")),
        None,
    ]


def test_what_one_peer_sends_beyond_its_share_is_dropped_and_counted() -> None:
    inbox = Inbox()
    for number in range(MESSAGES_PER_PEER_MAX + 3):
        inbox.put(b"loud", message(number), 1)
    inbox.put(b"large", message(0), BYTES_PER_PEER_MAX + 1)
    inbox.put(b"quiet", message(0), 1)
    assert inbox.dropped == 4
    assert (b"quiet", message(0)) in [inbox.pop() for _ in range(2)]
