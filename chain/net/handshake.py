"""From a TCP stream to a peer whose identity and chain are known: TLS, then one hello each way.

The rule: who refuses says why before hanging up, and who is refused writes it down.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import trio

from chain.net.errors import PeerError
from chain.net.frames import FrameReader
from chain.net.messages import Hello, Refusal, Refused, bytes_max, handshake_bytes_max, hello_version, pack, unpack
from chain.net.tls import identity_of

Transport = trio.SSLStream[trio.SocketStream]

# TLS and two hellos take three round trips; a stranger who needs longer is not worth a socket.
HANDSHAKE_S = 8.0
# How long a refused peer has to read why.
FAREWELL_S = 1.0
RECEIVE_BYTES = 64 * 1024


class RefusedByPeer(Exception):
    """The other side will not talk to us; it said why."""

    def __init__(self, identity: bytes, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.identity = identity
        self.code = code
        self.reason = reason


class RefusedByUs(Exception):
    """We will not talk to the other side, and told it why."""

    def __init__(self, identity: bytes, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.identity = identity
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Connection:
    """An authenticated stream; `reader` may already hold the first frames after the hello."""

    stream: Transport
    identity: bytes
    hello: Hello
    reader: FrameReader
    dialled: bool


def judge_hello(ours: Hello, theirs: Hello) -> tuple[Refusal, str] | None:
    """Why a node with our hello must refuse one with theirs, of the same protocol version; None when they fit."""
    if theirs.genesis_hash != ours.genesis_hash:
        return Refusal.GENESIS, (
            f"genesis 0x{theirs.genesis_hash.hex()}, expected 0x{ours.genesis_hash.hex()}: another chain"
        )
    return None


async def greet(
    tcp: trio.SocketStream,
    context: ssl.SSLContext,
    ours: Callable[[], Hello],
    judge: Callable[[bytes, Hello | None], tuple[Refusal, str] | None],
    *,
    dialled: bool,
) -> Connection:
    """Do the handshake within `HANDSHAKE_S`. `judge(identity, hello)` is asked with no hello as soon as the identity is
    proven and again with it; what it returns is sent as the refusal.

    Raises `RefusedByPeer`, `RefusedByUs`, `PeerError`, `trio.TooSlowError`, `trio.BrokenResourceError`.
    """
    with trio.fail_after(HANDSHAKE_S):
        stream: Transport = trio.SSLStream(tcp, context, server_side=not dialled, https_compatible=True)
        await stream.do_handshake()
        identity = identity_of(stream.getpeercert(binary_form=True))
        if (refusal := judge(identity, None)) is not None:
            await _refuse(stream, identity, refusal)
        hello = ours()
        await stream.send_all(pack(hello))
        reader = FrameReader(handshake_bytes_max)
        payload = await _receive(stream, reader)
        version = hello_version(payload)
        if version is not None and version != hello.protocol:  # Its other fields may be others than ours.
            reason = f"protocol version {version}, expected {hello.protocol}: update the older node"
            await _refuse(stream, identity, (Refusal.PROTOCOL, reason))
        match message := unpack(payload):
            case Refused(code, reason):
                raise RefusedByPeer(identity, code, reason)
            case Hello():
                if (refusal := judge(identity, message)) is not None:
                    await _refuse(stream, identity, refusal)
            case _:
                raise PeerError(f"expected a hello, got {type(message).__name__}")
        return Connection(stream, identity, message, reader.widened(bytes_max), dialled)


async def identify(tcp: trio.SocketStream, context: ssl.SSLContext) -> bytes:
    """Who listens at the other end of a stream that we have opened: no conversation comes of it.

    Raises `PeerError`, `trio.TooSlowError`, `trio.BrokenResourceError`.
    """
    with trio.fail_after(HANDSHAKE_S):
        stream: Transport = trio.SSLStream(tcp, context, https_compatible=True)
        await stream.do_handshake()
        identity = identity_of(stream.getpeercert(binary_form=True))
        # What a node says that is connected already is nothing to write down.
        await stream.send_all(pack(Refused(Refusal.DUPLICATE, "only seeing whether you can be reached")))
        return identity


async def _receive(stream: Transport, reader: FrameReader) -> bytes:
    while (payload := reader.next()) is None:
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise trio.BrokenResourceError("the peer hung up during the handshake")
        reader.feed(data)
    return payload


async def _refuse(stream: Transport, identity: bytes, refusal: tuple[Refusal, str]) -> None:
    """Say why, then read until the peer hangs up: a close with unread bytes would reset the farewell away."""
    code, reason = refusal
    with trio.move_on_after(FAREWELL_S):
        try:
            await stream.send_all(pack(Refused(code, reason)))
            while await stream.receive_some(RECEIVE_BYTES):
                pass
        except trio.BrokenResourceError:
            pass
    raise RefusedByUs(identity, code, reason)
