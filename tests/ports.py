"""Ports of this machine for the processes that tests start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free now."""
    for first in range(21000, 30000, count):
        with_sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(with_sockets):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        finally:
            for probe in with_sockets:
                probe.close()
        return first
    raise AssertionError("no free ports")
