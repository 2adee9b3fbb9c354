"""Nodes that the operator wants to stay connected to: dialled for ever, and never made to go for others.

The rule: a node is reserved once, by its identity; releasing it ends what was done for it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from chain.net.dialer import Bootnode

# As many as the places that strangers cannot take.
RESERVED_MAX = 16


class TooManyReserved(Exception):
    """All places for reserved nodes are taken."""


class Reserved:
    """`keep(node)` stays connected to a node until it is cancelled."""

    def __init__(self, keep: Callable[[Bootnode], Awaitable[None]]) -> None:
        self._keep = keep
        self._scopes: dict[bytes, trio.CancelScope] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._scopes

    @property
    def identities(self) -> list[bytes]:
        """Who is reserved, in order."""
        return sorted(self._scopes)

    def add(self, node: Bootnode, identity: bytes, nursery: trio.Nursery) -> None:
        """Stay connected to a node from now on, at this address if it was reserved at another; `TooManyReserved`."""
        if identity not in self._scopes and len(self._scopes) >= RESERVED_MAX:
            raise TooManyReserved(f"{len(self._scopes)} nodes are reserved, the most that there may be: release some")
        self.remove(identity)
        scope = self._scopes[identity] = trio.CancelScope()
        nursery.start_soon(self._run, node, scope)

    def remove(self, identity: bytes) -> bool:
        """Let go of a node, and of the connection that was made to it; whether it was reserved."""
        scope = self._scopes.pop(identity, None)
        if scope is not None:
            scope.cancel()
        return scope is not None

    async def _run(self, node: Bootnode, scope: trio.CancelScope) -> None:
        with scope:
            await self._keep(node)
