"""Bad clients, as a program of its own so that they disturb nobody but the nodes.

    python -m tests.perturbation.crowd flood|slow|garbage CONNECTIONS SUBSCRIPTIONS PORT…

It goes on until it is ended, and prints again and again what it has achieved.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# What costs a node most: its metadata, pages of keys, blocks, proofs, signatures to check, and calls that are none.
CALLS: Final = (
    '{"jsonrpc":"2.0","id":1,"method":"state_getMetadata","params":[]}',
    '{"jsonrpc":"2.0","id":2,"method":"state_getKeysPaged","params":["0x",1000,null]}',
    '{"jsonrpc":"2.0","id":3,"method":"chain_getBlock","params":[]}',
    '{"jsonrpc":"2.0","id":4,"method":"state_getPairs","params":["0x"]}',
    '{"jsonrpc":"2.0","id":5,"method":"author_submitExtrinsic","params":["0x' + "04" * 200 + '"]}',
    '{"jsonrpc":"2.0","id":6,"method":"no_such_method","params":[]}',
    '{"jsonrpc":"2.0","id":7,"method":"chain_getBlockHash","params":[' + str(list(range(500))) + "]}",
    '{"jsonrpc":"2.0","id":8,"method":"system_health","params":[]}',
)
SUBSCRIBE: Final = '{"jsonrpc":"2.0","id":1,"method":"chain_subscribeAllHeads","params":[]}'
RECEIVE_BUFFER_BYTES: Final = 4096  # of who does not read: the node's side fills soon
RETRY_SECONDS: Final = 0.2
TELL_SECONDS: Final = 0.2
NOTHING: Final = "nothing"
JUNK: Final[tuple[Callable[[], bytes], ...]] = (
    lambda: os.urandom(4096),
    lambda: b"GET / HTTP/1.1\r\n" + b"x" * 70_000,
    lambda: b"\xff" * 8,
    lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(300),  # the beginning of a TLS hello
    lambda: b"",
)


@dataclass(slots=True)
class Tally:
    """What the crowd has achieved."""

    calls: int = 0
    answered_bytes: int = 0
    subscriptions: int = 0
    junk: int = 0

    def __str__(self) -> str:
        counts = (
            (self.calls, "calls sent"),
            (self.answered_bytes >> 10, "KiB of answers"),
            (self.subscriptions, "subscriptions made"),
            (self.junk, "pieces of junk sent"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count) or NOTHING


tally = Tally()


def frame(text: str) -> bytes:
    """A masked text frame, the mask being zero."""
    data = text.encode()
    if len(data) < 126:
        head = bytes([0x81, 0x80 | len(data)])
    else:
        head = bytes([0x81, 0x80 | 126]) + len(data).to_bytes(2, "big")
    return head + bytes(4) + data


async def connect(port: int, receive_buffer_bytes: int | None = None) -> trio.SocketStream:
    """A connection to a port of this machine."""
    raw = trio.socket.socket()
    if receive_buffer_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    try:
        await raw.connect(("127.0.0.1", port))
    except BaseException:
        raw.close()
        raise
    return trio.SocketStream(raw)


async def upgraded(port: int, receive_buffer_bytes: int | None = None) -> trio.SocketStream:
    """A WebSocket; ConnectionError when the node wants none."""
    stream = await connect(port, receive_buffer_bytes)
    await stream.send_all(HANDSHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(1)  # What comes behind it is not for this function.
        if not data:
            raise ConnectionError(f"no WebSocket: {head!r}")
        head += data
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no WebSocket: {head!r}")
    return stream


async def flood(port: int, _: int) -> None:
    """Call as fast as the node takes it, and throw its answers away."""
    frames = [frame(call) for call in CALLS]

    async def read(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        while data := await stream.receive_some(1 << 20):
            tally.answered_bytes += len(data)
        scope.cancel()

    async with await upgraded(port) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(read, stream, nursery.cancel_scope)
        while True:
            for each in frames:
                await stream.send_all(each)
                tally.calls += 1


async def slow(port: int, subscriptions: int) -> None:
    """Subscribe, and never read."""
    async with await upgraded(port, RECEIVE_BUFFER_BYTES) as stream:
        for _ in range(subscriptions):
            await stream.send_all(frame(SUBSCRIBE))
            tally.subscriptions += 1
        # The node hangs up in the end, which sending shows.
        while True:
            await trio.sleep(1)
            await stream.send_all(frame("[]"))


async def garbage(port: int, _: int) -> None:
    """Say what nobody can understand, wait for the answer, and leave some connections half open."""
    for junk in JUNK:
        async with await connect(port) as stream:
            await stream.send_all(junk())
            tally.junk += 1
            with trio.move_on_after(0.2):
                while await stream.receive_some(65536):
                    pass


KINDS: Final[dict[str, Callable[[int, int], Awaitable[None]]]] = {"flood": flood, "slow": slow, "garbage": garbage}


async def again(kind: str, port: int, subscriptions: int) -> None:
    """One client, which comes back whenever it is thrown out."""
    while True:
        with suppress(Exception):
            await KINDS[kind](port, subscriptions)
        await trio.sleep(RETRY_SECONDS)


async def main() -> None:
    """Run the crowd that the command line asks for."""
    kind, connections, subscriptions, *ports = sys.argv[1:]
    async with trio.open_nursery() as nursery:
        for port in ports:
            for _ in range(int(connections)):
                nursery.start_soon(again, kind, int(port), int(subscriptions))
        while True:
            await trio.sleep(TELL_SECONDS)
            print(tally, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(main)
