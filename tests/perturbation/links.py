"""Connections between nodes that can be slowed, silenced and broken: relays on this machine, which need no rights.

What a relay passes on it does not read: TLS and all that is inside stays between the nodes. Silence is what a cut cable
makes of a TCP connection: nothing arrives, nothing ends, and all of it comes when the cable is mended.

A relay listens and speaks at a loopback address that belongs to one way alone, and where no node listens: nodes tell
each other the addresses that they see, and theirs must not lead past the relays. Only Linux has all of 127/8.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Final

import trio

from genesis.spec import Address

# Four MiB under way in one direction of a connection: then the sender waits, as it does for a full socket buffer.
PIECES_UNDER_WAY_MAX: Final = 64
PIECE_BYTES: Final = 64 * 1024
LOOPBACK: Final = "127.0.0.1"


class Link:
    """Between two nodes, all their connections, both ways."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.delay_ms: tuple[float, float] = (0.0, 0.0)
        self._open = trio.Event()
        self._open.set()
        self._refuses = False
        self._connections: set[trio.CancelScope] = set()

    def cut(self, *, hangs_up: bool) -> None:
        """Let nothing pass. With `hangs_up` connections break, and new ones too; otherwise there is silence."""
        if hangs_up:
            self._refuses = True
            for scope in self._connections:
                scope.cancel()
        else:
            self._open = trio.Event()

    def mend(self) -> None:
        """Let everything pass, at once."""
        self._refuses = False
        self.delay_ms = (0.0, 0.0)
        self._open.set()

    async def relay(self, stream: trio.SocketStream, port: int, source: str) -> None:
        """Carry one connection to its end. Raises nothing."""
        other: trio.SocketStream | None = None
        with trio.CancelScope() as scope:
            self._connections.add(scope)
            try:
                if not self._refuses:
                    await self._open.wait()
                    other = await _dial(port, source)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._carry, stream, other, nursery.cancel_scope)
                        nursery.start_soon(self._carry, other, stream, nursery.cancel_scope)
            except OSError:
                pass  # Nobody listens: the node that dialled finds its connection closed.
            finally:
                self._connections.discard(scope)
                for end in (stream, other):
                    if end is not None:
                        end.socket.close()

    async def _carry(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        """One direction; its end is the connection's."""
        under_way: tuple[trio.MemorySendChannel[tuple[float, bytes]], trio.MemoryReceiveChannel[tuple[float, bytes]]]
        under_way = trio.open_memory_channel(PIECES_UNDER_WAY_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, source, under_way[0])
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for due, piece in under_way[1]:
                    await trio.sleep_until(due)
                    await self._open.wait()
                    await sink.send_all(piece)
            both.cancel()

    async def _take(self, source: trio.SocketStream, under_way: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        """Note when each piece is due, later than all before it."""
        due = 0.0
        with under_way, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while piece := await source.receive_some(PIECE_BYTES):
                due = max(due, trio.current_time() + self._rng.uniform(*self.delay_ms) / 1000)
                await under_way.send((due, bytes(piece)))


async def _dial(port: int, source: str) -> trio.SocketStream:
    raw = trio.socket.socket()
    try:
        await raw.bind((source, 0))
        await raw.connect((LOOPBACK, port))
    except BaseException:
        raw.close()
        raise
    return trio.SocketStream(raw)


class Links:
    """A link for each two nodes, which are given as their peers' ports by name."""

    def __init__(self, ports: dict[str, int], rng: Random) -> None:
        self._ports = ports
        self._names = list(ports)
        self._links = {frozenset((a, b)): Link(rng) for i, a in enumerate(self._names) for b in self._names[i + 1 :]}
        self._relays: dict[tuple[str, str], Address] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay until cancelled."""
        async with trio.open_nursery() as nursery:
            for i, dialler in enumerate(self._names):
                for j, listener in enumerate(self._names):
                    if dialler == listener:
                        continue
                    link = self._links[frozenset((dialler, listener))]
                    here = f"127.77.{i + 1}.{j + 1}"
                    carry = partial(link.relay, port=self._ports[listener], source=here)
                    relays = await nursery.start(partial(trio.serve_tcp, carry, 0, host=here))
                    self._relays[dialler, listener] = Address(*relays[0].socket.getsockname())
            task_status.started()

    def ways_of(self, name: str) -> list[Address]:
        """Where a node finds its peers."""
        return [address for (dialler, _), address in self._relays.items() if dialler == name]

    def between(self, groups: Iterable[Iterable[str]]) -> list[Link]:
        """The links whose nodes are in different groups; nodes in no group are in one together."""
        place = {name: i for i, group in enumerate(groups) for name in group}
        return [link for pair, link in self._links.items() if len({place.get(name, -1) for name in pair}) == 2]

    def of(self, names: Iterable[str]) -> list[Link]:
        """The links that one of these nodes has."""
        chosen = set(names)
        return [link for pair, link in self._links.items() if pair & chosen]
