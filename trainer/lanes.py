"""The child's side of its lanes: inherited sockets, each of which carries one request at a time and its answer.

Rule: a child answers each request with one frame or dies; a thread that fails ends the process.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable

from trainer import wire


class Lane:
    """One way to the parent."""

    def __init__(self, number: int) -> None:
        self._requests = os.fdopen(number, "rb", buffering=1 << 20)
        self._answers = os.fdopen(os.dup(number), "wb", buffering=1 << 20)

    def send(self, message: dict[str, object]) -> None:
        """Send one frame."""
        self._answers.write(wire.frame(message))
        self._answers.flush()

    def read(self) -> bytes | None:
        """The next frame's body; None when no more come."""
        header = self._requests.read(wire.LENGTH.size)
        if len(header) < wire.LENGTH.size:
            return None
        length = wire.body_length(header)
        body = self._requests.read(length)
        return body if len(body) == length else None

    def close(self) -> None:
        """End it on this side."""
        self._requests.close()
        self._answers.close()


def in_a_thread(serve: Callable[[], None]) -> None:
    """Serve beside the others; a failure ends the process, as one in the first thread does."""

    def serve_or_end() -> None:
        try:
            serve()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=serve_or_end, daemon=True).start()
