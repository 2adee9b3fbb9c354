"""The book of addresses: bounded whoever fills it, patient with who is away, and strict with its file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from chain.checked_file import UnusableFile
from chain.net.book import (
    ENTRIES_MAX,
    GROUP_ENTRIES_MAX,
    LOCAL_ENTRIES_MAX,
    RETRY_S_FIRST,
    RETRY_S_MAX,
    STALE_FAILURES,
    STALE_S,
    AddressBook,
    Entry,
    group_of,
)
from chain.net.dialer import Bootnode
from chain.peer_keeper import PeerKeeper
from chain.primitives.scale import codec_of
from tests.net.kit import ALICE, BOB, GENESIS, OTHER_GENESIS

NOW = 1_700_000_000
ENTRIES = codec_of(list[Entry])


def identity(number: int) -> bytes:
    return number.to_bytes(32, "big")


def hosts(book: AddressBook) -> set[str]:
    return {entry.host for entry in book.fresh(NOW)}


def a_book(*places: tuple[bytes, str]) -> AddressBook:
    book = AddressBook()
    for who, host in places:
        book.worked(who, host, 30333, NOW)
    return book


@pytest.mark.parametrize(
    ("host", "group"),
    [
        ("8.8.4.4", ("8.8.0.0/16", GROUP_ENTRIES_MAX)),
        ("::ffff:8.8.4.4", ("8.8.0.0/16", GROUP_ENTRIES_MAX)),
        ("2a00:1450:4001::1", ("2a00:1450::/32", GROUP_ENTRIES_MAX)),
        ("10.1.2.3", ("local", LOCAL_ENTRIES_MAX)),
        ("127.0.0.1", ("local", LOCAL_ENTRIES_MAX)),
        ("fe80::1%eth0", ("local", LOCAL_ENTRIES_MAX)),
    ],
)
def test_an_address_is_in_a_part_of_the_internet(host: str, group: tuple[str, int]) -> None:
    assert group_of(host) == group


def test_who_has_many_addresses_in_one_place_has_few_in_the_book() -> None:
    book = a_book((ALICE.public, "1.2.3.4"))
    for number in range(1000):
        book.worked(identity(number), f"8.8.{number % 256}.{number // 256}", 1, NOW + number)
    assert len(book) == 1 + GROUP_ENTRIES_MAX
    assert ALICE.public in book


def test_the_book_is_bounded_and_who_fails_makes_room_first_then_who_was_not_seen_for_longest() -> None:
    book = AddressBook()
    for number in range(ENTRIES_MAX):
        book.worked(identity(number), f"{1 + number // 16}.{number % 16}.0.1", 1, NOW + number)
    assert len(book) == ENTRIES_MAX
    book.failed(identity(77), NOW)
    book.worked(ALICE.public, "90.0.0.1", 1, NOW + 9_000)
    assert len(book) == ENTRIES_MAX
    assert identity(77) not in book
    book.worked(BOB.public, "91.0.0.1", 1, NOW + 10_000)
    assert len(book) == ENTRIES_MAX
    assert identity(0) not in book, "who has answered longest ago"


def test_who_does_not_answer_is_asked_again_after_ever_longer_and_at_once_after_it_has() -> None:
    book = a_book((ALICE.public, "1.2.3.4"))
    node = Bootnode("1.2.3.4", 30333, ALICE.public)
    now, pauses = NOW, []
    for _ in range(STALE_FAILURES + 2):
        assert list(book.due(now, ())) == [node]
        book.failed(ALICE.public, now)
        started = now
        while not list(book.due(now, ())):
            now += RETRY_S_FIRST
        pauses.append(now - started)
    assert pauses[:3] == [RETRY_S_FIRST, 2 * RETRY_S_FIRST, 4 * RETRY_S_FIRST]
    assert pauses[-1] == RETRY_S_MAX
    book.failed(ALICE.public, now)
    book.worked(ALICE.public, "1.2.3.5", 30334, now)
    assert list(book.due(now, ())) == [Bootnode("1.2.3.5", 30334, ALICE.public)]
    assert list(book.due(now, {ALICE.public})) == []


def test_an_address_that_has_not_worked_for_weeks_is_forgotten_and_told_to_nobody_after_a_day() -> None:
    book = a_book((ALICE.public, "1.2.3.4"))
    assert [entry.identity for entry in book.fresh(NOW + 86_400)] == [ALICE.public]
    assert book.fresh(NOW + 86_401) == []
    for _ in range(STALE_FAILURES):
        assert ALICE.public in book
        book.failed(ALICE.public, NOW + STALE_S + 1)
    assert ALICE.public not in book
    book.failed(BOB.public, NOW)  # nobody knows it


def test_a_book_comes_back_as_it_was() -> None:
    book = a_book((ALICE.public, "1.2.3.4"), (BOB.public, "2a00::1"))
    other = AddressBook()
    other.restore(book.encode(), NOW)
    assert other.encode() == book.encode()
    assert hosts(other) == {"1.2.3.4", "2a00::1"}
    early = AddressBook()
    early.restore(book.encode(), NOW - 500)
    assert [entry.worked_at for entry in early.fresh(NOW - 500)] == [NOW - 500] * 2, "as if it were of the future"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x04",
        ENTRIES.encode([Entry(bytes(32), "1.2.3.4", 1, 1)]) + b"\0",
        ENTRIES.encode([Entry(bytes(32), "example.org", 1, 1)]),
        ENTRIES.encode([Entry(bytes(32), "0.0.0.0", 1, 1)]),
        ENTRIES.encode([Entry(bytes(32), "1.2.3.4", 0, 1)]),
        ENTRIES.encode([Entry(bytes(32), "1.2.3.4%" + "x" * 99, 1, 1)]),
        ENTRIES.encode([Entry(bytes(32), "1.2.3.4", 1, 1)] * 2),
        ENTRIES.encode([Entry(identity(2), "1.2.3.4", 1, 1), Entry(identity(1), "1.2.3.4", 1, 1)]),
        ENTRIES.encode([Entry(identity(number), "1.2.3.4", 1, 1) for number in range(ENTRIES_MAX + 1)]),
    ],
)
def test_what_is_no_book_is_refused_whole(content: bytes) -> None:
    book = AddressBook()
    with pytest.raises(UnusableFile):
        book.restore(content, NOW)
    assert len(book) == 0


async def test_a_book_outlives_a_restart_and_whatever_is_in_its_file_a_node_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "peers.dat"
    book = a_book((ALICE.public, "1.2.3.4"))
    keeper = PeerKeeper(path, GENESIS, book)
    keeper.restore()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    whole = path.read_bytes()
    again = AddressBook()
    PeerKeeper(path, GENESIS, again).restore()
    assert again.encode() == book.encode()
    assert caplog.messages == []
    for data, message in ((whole[:-1], "checksum"), (b"", "checksum"), (bytes(70_000), "at most")):
        path.write_bytes(data)
        with caplog.at_level(logging.WARNING):
            PeerKeeper(path, GENESIS, empty := AddressBook()).restore()
        assert len(empty) == 0
        assert message in caplog.messages[-1]
    path.write_bytes(whole)
    PeerKeeper(path, OTHER_GENESIS, empty).restore()
    assert len(empty) == 0
    assert "another's" in caplog.messages[-1]
