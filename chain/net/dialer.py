"""Keeps connections to addresses: dials, waits while connected, dials again with a capped backoff.

The rule: a bootnode is tried for ever, a learned address until it failed often enough; a refusal is written down once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import trio

from chain.log import Log
from chain.net.errors import PeerError
from chain.net.handshake import RefusedByPeer, RefusedByUs
from chain.net.messages import Refusal
from chain.net.peer import Peer

log = Log("net")

RETRY_S_FIRST = 0.2
RETRY_S_MAX = 5.0
CONNECT_S = 5.0
# A connection that held so long was a good one: the next dial comes at once.
HELD_S = 10.0

Converse = Callable[[trio.SocketStream, bytes | None], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Bootnode:
    """Where to find a node; `identity` (its public key) when it is known, so that no other is accepted there."""

    host: str
    port: int
    identity: bytes | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Dialer:
    """`converse(stream, identity)` returns the peer's identity when the conversation is over, or raises."""

    converse: Converse
    connected: Callable[[bytes], Peer | None]
    banned_for: Callable[[bytes], float]
    rng: Random

    async def keep(self, node: Bootnode, attempts_max: int | None = None) -> None:
        """Stay connected to the node, until cancelled or until `attempts_max` dials failed in a row."""
        identity = node.identity
        delay, failures, told = RETRY_S_FIRST, 0, ""
        while attempts_max is None or failures < attempts_max:
            if identity is not None and (peer := self.connected(identity)) is not None:
                await peer.gone.wait()
                delay, failures, told = RETRY_S_FIRST, 0, ""
            elif identity is None or self.banned_for(identity) == 0.0:
                started = trio.current_time()
                try:
                    identity = await self._dial(node)
                except RefusedByPeer as refusal:
                    if refusal.code is Refusal.SELF:
                        return
                    identity = refusal.identity
                    if refusal.code is not Refusal.DUPLICATE:
                        told = _tell_once(told, log.warning, f"node {node} refused us: {refusal.reason}", node)
                    failures += 1
                except RefusedByUs as refusal:
                    if refusal.code is Refusal.SELF:
                        return
                    identity = refusal.identity
                    if refusal.code is not Refusal.DUPLICATE:
                        told = _tell_once(told, log.warning, f"we refused node {node}: {refusal.reason}", node)
                    failures += 1
                except (OSError, trio.BrokenResourceError, trio.TooSlowError, PeerError) as error:
                    news = f"no connection to {node} yet ({_cause(error)}); trying again and again"
                    told = _tell_once(told, log.info, news, node)
                    failures += 1
                except Exception:
                    log.exception(f"a fault of ours while connected to {node}; trying again", address=str(node))
                    failures += 1
                else:
                    failures, told = 0, ""
                    if trio.current_time() - started > HELD_S:
                        delay = RETRY_S_FIRST
            await trio.sleep(delay * self.rng.uniform(0.8, 1.2))
            delay = min(RETRY_S_MAX, delay * 2)

    async def _dial(self, node: Bootnode) -> bytes:
        with trio.fail_after(CONNECT_S):
            tcp = await trio.open_tcp_stream(node.host, node.port)
        return await self.converse(tcp, node.identity)


def _tell_once(told: str, tell: Callable[..., None], text: str, node: Bootnode) -> str:
    (log.debug if told == text else tell)(text, address=str(node))
    return text


def _cause(error: BaseException) -> str:
    """One line of why, also where the library says it in a cause only."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) or str(error.__cause__) or type(error).__name__
