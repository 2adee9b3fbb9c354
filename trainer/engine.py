"""The engine: the child process that parses, compiles and runs programs, and does nothing else.

Rule: it is confined before it imports JAX or reads a byte; it answers each request with one frame or dies, and its
parent survives both. `python -m trainer.engine PLATFORM CACHE_DIR`; requests on stdin, answers on what was stdout,
before them one frame that says which protections this system does not offer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from trainer import confinement, wire


def main() -> None:
    """Serve requests until stdin ends."""
    platform, cache_dir = sys.argv[1:]
    parent = os.getppid()
    missing = confinement.confine(platform, Path(cache_dir))
    confinement.watch_parent(parent)
    requests = os.fdopen(0, "rb", buffering=1 << 20)
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    # Whatever a library prints must not end up between two frames.
    os.dup2(2, 1)
    _answer(answers, {"missing": missing})

    from trainer.runner import Runner

    runner = Runner(platform, cache_dir)
    while (body := _read(requests)) is not None:
        request = wire.parse(body)
        confinement.allow_seconds(float(request["seconds"]))
        _answer(answers, runner.answer(request))


def _answer(stream: BinaryIO, message: dict[str, object]) -> None:
    stream.write(wire.frame(message))
    stream.flush()


def _read(stream: BinaryIO) -> bytes | None:
    header = stream.read(wire.LENGTH.size)
    if len(header) < wire.LENGTH.size:
        return None
    length = wire.body_length(header)
    body = stream.read(length)
    return body if len(body) == length else None


if __name__ == "__main__":
    main()
