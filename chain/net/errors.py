"""What can go wrong on the network, and whose fault it is: a `PeerError` is the peer's and never ours."""

from __future__ import annotations


class PeerError(Exception):
    """The peer broke the protocol; it loses `points` (100 is a ban) and is disconnected."""

    def __init__(self, reason: str, points: int = 50) -> None:
        super().__init__(reason)
        self.reason = reason
        self.points = points


class PeerUnavailable(Exception):
    """The peer is not connected, went away, or did not answer a request before its deadline."""


class PortInUse(Exception):
    """Another program listens on the port that was asked for."""

    def __init__(self, port: int, flag: str) -> None:
        super().__init__(f"port {port} is in use by another program: stop that program or choose a port with {flag}")
        self.port = port
        self.flag = flag
