"""Free ports of this machine for the nodes that a benchmark starts.

Rule: below those that the system gives to outgoing connections, any of which might take one before a node does, and
below those of the tests, which run some of the benchmarks beside others.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

FIRST = 15_000
END = 21_000
ATTEMPTS_MAX = 100


def free_run(count: int) -> int:
    """The first of `count` ports in a row that are free now."""
    for _ in range(ATTEMPTS_MAX):
        first = random.randrange(FIRST, END - count)
        with ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first
    raise RuntimeError(f"no {count} ports in a row are free from {FIRST} to {END}")
