"""Peer exchange on real sockets: one bootnode is enough, and its end is none; liars fill nothing and move nobody."""

from __future__ import annotations

import pytest
import trio

from chain.net import exchange as exchange_module
from chain.net.book import AddressBook
from chain.net.dialer import Bootnode
from chain.net.exchange import HINT_ATTEMPTS_MAX
from chain.net.handshake import Connection
from chain.net.messages import PEERS_COUNT_MAX, Peers, Status, pack
from chain.primitives.keys import Keypair
from tests.net.kit import ALICE, BOB, CHARLIE, DAVE, HOST, Node, Running, arena, dial, receive, start, until_peers
from tests.ports import free_port


def of(running: Running) -> set[bytes]:
    return {peer.id for peer in running.network.peers()}


MARK = b"\x17" * 32
EVE = Keypair.from_uri("//Eve")


class Doorbell:
    """A port that hangs up on whoever comes, after a moment, and counts them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.rang = trio.Event()
        self.rings = 0
        self.at_once_max = 0
        self._inside = 0
        self._last = trio.current_time()

    @classmethod
    async def listen(cls, nursery: trio.Nursery) -> Doorbell:
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        bell = cls(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, bell._ring, [listener])
        return bell

    async def _ring(self, stream: trio.SocketStream) -> None:
        self.rings += 1
        self.rang.set()
        self._inside += 1
        self._last = trio.current_time()
        self.at_once_max = max(self.at_once_max, self._inside)
        await trio.sleep(0.005)
        self._inside -= 1
        await stream.aclose()

    async def quiet(self) -> None:
        """Wait until nobody has come for longer than a dialler waits between two attempts."""
        while trio.current_time() - self._last < 0.3:
            await trio.sleep(0.02)


async def told(connection: Connection, *, until: bytes) -> list[tuple[bytes, str, int]]:
    """All addresses that a node tells, up to a status with this hash."""
    found: list[tuple[bytes, str, int]] = []
    while True:
        match await receive(connection):
            case Peers(peers):
                found += peers
            case Status(_, block_hash) if block_hash == until:
                return found


async def test_a_node_that_knows_one_bootnode_finds_the_others_and_finds_them_again_when_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "REVISIT_S", 0.05)
    book = AddressBook()
    async with arena() as nursery:
        first = await start(nursery, ALICE, Node())
        boot = [(HOST, first.port, None)]
        second, third = await start(nursery, BOB, Node(), boot), await start(nursery, CHARLIE, Node(), boot)
        await until_peers(second, 2)
        dave = Node()
        fourth = await start(nursery, DAVE, dave, boot, book=book)
        await until_peers(fourth, 3)
        while len(book) < 3:
            await trio.sleep(0.01)  # until it has seen that those who have dialled it answer
        first.scope.cancel()
        fourth.scope.cancel()
        for running in (second, third):
            await until_peers(running, 1)
        again = await start(nursery, DAVE, Node(), book=book)
        await until_peers(again, 2)
        assert of(again) == {BOB.public, CHARLIE.public}


async def test_an_address_at_which_nobody_answers_is_told_to_nobody() -> None:
    async with arena() as nursery:
        alice = Node()
        first = await start(nursery, ALICE, alice)
        doorbell = await Doorbell.listen(nursery)
        # One that says to listen where another node does, and one that states the address of what is none.
        liar = await dial(CHARLIE, first.port, listen_port=first.port)
        other = await dial(DAVE, first.port)
        await other.stream.send_all(pack(Peers(((DAVE.public, HOST, doorbell.port),))))
        await doorbell.rang.wait()
        second = await start(nursery, BOB, Node(), [(HOST, first.port, None)])
        stranger = await dial(EVE, first.port)
        await alice.until(lambda: EVE.public in alice.connected)
        seen: list[tuple[bytes, str, int]] = []
        while (BOB.public, HOST, second.port) not in seen:
            first.network.announce(1, MARK)
            seen += await told(stranger, until=MARK)
        assert {who for who, *_ in seen} == {BOB.public}
        for connection in (liar, other, stranger):
            await trio.aclose_forcefully(connection.stream)


async def test_a_node_is_found_where_it_says_that_it_is_once_it_was_reached_there() -> None:
    async with arena() as nursery:
        first = await start(nursery, ALICE, Node())
        boot = [(HOST, first.port, None)]
        port = free_port()
        # Its peers see its connections come from another address than the one that it listens on.
        second = await start(nursery, BOB, Node(), boot, host="127.0.0.2", port=port, public=("127.0.0.2", port))
        await until_peers(second, 1)
        third = await start(nursery, CHARLIE, Node(), boot)
        await until_peers(third, 2)
        assert of(third) == {ALICE.public, BOB.public}
        book = AddressBook()
        fourth = await start(nursery, DAVE, Node(), boot, book=book)
        while BOB.public not in book:
            await trio.sleep(0.01)
        await until_peers(fourth, 3)
        assert Bootnode("127.0.0.2", port, BOB.public) in list(book.due(0, ()))


async def test_a_liar_makes_a_node_dial_a_bounded_number_of_times_and_fills_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In the same proportions, and with pauses that a test can wait for.
    for name, value in (("HINTS_PER_GROUP_MAX", 12), ("DIALS_PER_GROUP_MAX", 3), ("YIELD_S", 0.01)):
        monkeypatch.setattr(exchange_module, name, value)
    monkeypatch.setattr("chain.net.dialer.RETRY_S_FIRST", 0.01)
    async with arena() as nursery:
        alice = Node()
        book = AddressBook()
        first = await start(nursery, ALICE, alice, book=book)
        doorbell = await Doorbell.listen(nursery)
        liar = await dial(CHARLIE, first.port)
        for batch in range(20):
            names = tuple(bytes([batch, number]) * 16 for number in range(PEERS_COUNT_MAX))
            await liar.stream.send_all(pack(Peers(tuple((name, HOST, doorbell.port) for name in names))))
        # Honest nodes are found beside it, though they are told of by the same part of the internet.
        second = await start(nursery, BOB, Node(), [(HOST, first.port, None)])
        await until_peers(second, 1)
        await doorbell.quiet()
        assert 12 <= doorbell.rings <= 12 * HINT_ATTEMPTS_MAX
        assert doorbell.at_once_max <= 3
        assert len(book) <= 1, "nobody but Bob, who has answered"
        await trio.aclose_forcefully(liar.stream)


@pytest.mark.parametrize(
    "host", ["example.org", "0.0.0.0", "224.0.0.1", "", "127.0.0.1:1", "fe80::1%ü.x", "fe80::1%..", "fe80::1%"]
)
async def test_what_is_no_address_of_one_machine_is_not_dialled(host: str) -> None:
    async with arena() as nursery:
        alice = Node()
        first = await start(nursery, ALICE, alice)
        liar = await dial(CHARLIE, first.port)
        await liar.stream.send_all(pack(Peers(((DAVE.public, host, 1), (CHARLIE.public, host, 1)))))
        await liar.stream.send_all(pack(Status(9, MARK)))
        await alice.until(lambda: (CHARLIE.public, 9, MARK) in alice.statuses)
        assert of(first) == {CHARLIE.public}
        await trio.aclose_forcefully(liar.stream)


async def test_hints_of_nodes_that_have_come_by_themselves_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "DIALS_PER_GROUP_MAX", 1)
    async with arena() as nursery:
        alice = Node()
        first, second = await start(nursery, ALICE, alice), await start(nursery, BOB, Node())
        doorbell = await Doorbell.listen(nursery)
        teller = await dial(CHARLIE, first.port)
        # Dave cannot be reached where he is said to be, and comes by himself; until he goes nobody dials him.
        await teller.stream.send_all(pack(Peers(((DAVE.public, HOST, doorbell.port),))))
        await doorbell.rang.wait()
        dave = await dial(DAVE, first.port)
        await alice.until(lambda: DAVE.public in alice.connected)
        await teller.stream.send_all(pack(Peers(((BOB.public, HOST, second.port),))))
        await alice.until(lambda: BOB.public in alice.connected)
        for connection in (teller, dave):
            await trio.aclose_forcefully(connection.stream)
