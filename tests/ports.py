"""Ports of this machine for the processes that tests start: no two are handed out twice, in this process or beside it.

They lie below the range from which the system takes ports for outgoing connections, since between the moment when a
port is found free and the moment when a node listens on it anybody may connect to something. Each process claims a
block and hands its ports out in turn, so that suites and their workers may run beside each other.
"""

from __future__ import annotations

import socket

PORTS_FIRST, PORTS_LAST = 21000, 31999  # Linux connects from 32768 on, other systems from 49152 on
BLOCK_PORTS = 400  # a process comes round to a port after fifty others
NETWORK_NODES = 4  # the nodes of a whole network take the ports from the one that is named on

_claim: socket.socket | None = None  # holds the block's first port for as long as this process lives
_given = 0


def free_port() -> int:
    """A port that is free now and that nobody else is given, as the next ones are, for a network that begins there."""
    return free_ports(NETWORK_NODES)


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that are free now, and that nobody else is given."""
    global _given
    first = _block() + 1
    for _ in range(BLOCK_PORTS):
        offset = _given if _given + count < BLOCK_PORTS else 0
        _given = offset + count
        if all(_is_free(first + offset + each) for each in range(count)):
            return first + offset
    raise AssertionError(f"no {count} ports in a row are free from {first} to {first + BLOCK_PORTS - 2}")


def _block() -> int:
    """The first port of the block that this process has claimed."""
    global _claim
    if _claim is None:
        for first in range(PORTS_FIRST, PORTS_LAST - BLOCK_PORTS, BLOCK_PORTS):
            claim = socket.socket()
            try:
                claim.bind(("127.0.0.1", first))
            except OSError:
                claim.close()
                continue
            _claim = claim
            break
        else:
            raise AssertionError(
                f"all blocks of ports from {PORTS_FIRST} to {PORTS_LAST} are claimed by other processes"
            )
    return int(_claim.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
