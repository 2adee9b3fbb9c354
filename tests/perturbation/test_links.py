"""A link does to connections what it says: it passes everything on, falls silent and comes back, breaks, or is slow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import trio

from tests.perturbation.links import LOOPBACK, Links

SILENCE_SECONDS = 0.1  # nothing arrives in this time, where what does takes a millisecond


class Pair:
    """Two nodes: bob listens, and alice reaches him by `address`."""

    def __init__(self, links: Links, listener: trio.SocketListener) -> None:
        (self.address,) = links.ways_of("alice")
        (self.link,) = links.of(["bob"])
        self.listener = listener
        self.streams: list[trio.SocketStream] = []

    async def dial(self) -> trio.SocketStream:
        """Alice's end of a connection."""
        self.streams.append(await trio.open_tcp_stream(self.address.host, self.address.port))
        return self.streams[-1]

    async def accept(self) -> trio.SocketStream:
        """Bob's end of the connection that comes next."""
        self.streams.append(await self.listener.accept())
        return self.streams[-1]

    async def connect(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        """A connection and both its ends, alice's first."""
        return await self.dial(), await self.accept()


@asynccontextmanager
async def two_nodes() -> AsyncIterator[Pair]:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    links = Links({"alice": 1, "bob": listener.socket.getsockname()[1]}, Random(0))
    with trio.fail_after(60):
        async with listener, trio.open_nursery() as nursery:
            await nursery.start(links.run)
            pair = Pair(links, listener)
            yield pair
            for stream in pair.streams:
                await stream.aclose()
            nursery.cancel_scope.cancel()


async def exactly(stream: trio.SocketStream, data: bytes) -> None:
    """Receive this and no more."""
    got = b""
    while len(got) < len(data):
        got += await stream.receive_some(len(data) - len(got))
    assert got == data


async def nothing(stream: trio.SocketStream) -> bool:
    """Whether there is silence."""
    with trio.move_on_after(SILENCE_SECONDS) as scope:
        await stream.receive_some(1)
    return scope.cancelled_caught


async def test_everything_passes_both_ways_and_an_end_is_an_end() -> None:
    async with two_nodes() as pair:
        alice, bob = await pair.connect()
        data = Random(1).randbytes(1 << 20)
        for sender, receiver in ((alice, bob), (bob, alice)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_all, data)
                await exactly(receiver, data)
        # What either sees of the other is an address where no node listens.
        assert bob.socket.getpeername()[0] == alice.socket.getpeername()[0] == "127.77.1.2"
        await alice.aclose()
        assert await bob.receive_some(1) == b""


async def test_in_silence_nothing_arrives_and_afterwards_all_of_it_does() -> None:
    async with two_nodes() as pair:
        alice, bob = await pair.connect()
        pair.link.cut(hangs_up=False)
        await alice.send_all(b"before")
        late = await pair.dial()
        await late.send_all(b"late")
        await alice.aclose()
        assert await nothing(bob)
        pair.link.mend()
        await exactly(bob, b"before")
        assert await bob.receive_some(1) == b""
        await exactly(await pair.accept(), b"late")


async def test_a_link_that_hangs_up_breaks_what_there_is_and_refuses_what_comes() -> None:
    async with two_nodes() as pair:
        alice, bob = await pair.connect()
        pair.link.cut(hangs_up=True)
        for end in (alice, bob, await pair.dial()):
            assert await end.receive_some(1) == b""
        pair.link.mend()
        alice, bob = await pair.connect()
        await alice.send_all(b"again")
        await exactly(bob, b"again")


async def test_a_slow_link_delays_and_keeps_the_order() -> None:
    async with two_nodes() as pair:
        alice, bob = await pair.connect()
        pair.link.delay_ms = (50.0, 100.0)
        started = trio.current_time()
        for i in range(10):
            await alice.send_all(bytes([i]))
        await exactly(bob, bytes(range(10)))
        assert trio.current_time() - started >= 0.05


def test_the_links_between_groups_are_those_that_a_partition_cuts() -> None:
    links = Links(dict.fromkeys(("alice", "bob", "charlie", "dave"), 1), Random(0))

    def cut(*groups: list[str]) -> int:
        return len(links.between(groups))

    assert cut(["alice", "bob"], ["charlie", "dave"]) == 4
    assert cut(["alice"], ["bob"], ["charlie"], ["dave"]) == 6
    assert cut(["alice"], ["bob", "charlie", "dave"]) == 3
    assert cut(["alice"], ["bob"]) == 5  # those in no group are one together
    assert len(links.of(["alice"])) == 3
