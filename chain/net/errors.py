"""What can go wrong on the network, and whose fault it is: a `PeerError` is the peer's and never ours."""

from __future__ import annotations


class PeerError(Exception):
    """The peer broke the protocol; it loses `points` (100 is a ban) and is disconnected."""

    def __init__(self, reason: str, points: float = 60.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.points = points


class PeerUnavailable(Exception):
    """The peer does not do what was asked of it, for instance answer before the deadline."""


class PeerGone(PeerUnavailable):
    """The peer is not connected (any more), which is nobody's fault."""


class PortInUse(Exception):
    """Another program listens on the port that was asked for."""

    def __init__(self, port: int, flag: str) -> None:
        super().__init__(f"port {port} is in use by another program: stop that program or choose a port with {flag}")
        self.port = port
        self.flag = flag
