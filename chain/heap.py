"""The C library's heap: one for all threads, so that what one of them frees another takes."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8  # malloc.h


def share_one_heap() -> None:
    """Call it before the first thread begins.

    glibc gives each thread a heap of its own otherwise. What is made in one thread and let go of in another leaves
    holes in all of them, and a node that runs for days holds several times what lives in it.
    """
    with suppress(AttributeError):  # Other C libraries have neither these heaps nor this call.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
