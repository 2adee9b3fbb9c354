"""The engine: the child process that parses, compiles and runs programs, and does nothing else.

Rule: it is confined before it imports JAX or reads a byte; it answers each request with one frame or dies, and its
parent survives both. `python -m trainer.engine PLATFORM CACHE_DIR`; requests on stdin, answers on what was stdout.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

from trainer import confinement, wire


def main() -> None:
    """Serve requests until stdin ends."""
    platform, cache_dir = sys.argv[1:]
    confinement.watch_parent(os.getppid())
    confinement.confine(cpu_only=platform == "cpu")
    requests = os.fdopen(0, "rb", buffering=1 << 20)
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    # Whatever a library prints must not end up between two frames.
    os.dup2(2, 1)

    from trainer.runner import Runner

    runner = Runner(platform, cache_dir)
    while (body := _read(requests)) is not None:
        request = wire.parse(body)
        confinement.allow_cpu_seconds(float(request["seconds"]))
        answers.write(wire.frame(runner.answer(request)))
        answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(wire.LENGTH.size)
    if len(header) < wire.LENGTH.size:
        return None
    length = wire.body_length(header)
    body = stream.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    main()
