"""What an engine child gives up before it touches a stranger's program: memory, files, network, its parent's death.

Rule: every limit is set before JAX is imported, and a limit that the system does not offer is left out, not fatal:
the parent's deadline and the admission list hold without it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
import time
from contextlib import suppress

# JAX, its compiler and a batch's activations; the address space, since that is what the kernel can bound.
ADDRESS_BYTES_MAX = 16 << 30
# The compiler writes its cache and nothing else; one entry is a few MB.
FILE_BYTES_MAX = 256 << 20
OPEN_FILES_MAX = 256
NICE = 10
# How long an engine may outlive a parent that was killed.
ORPHAN_SECONDS = 1.0

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38


def confine(*, cpu_only: bool) -> None:
    """Apply the limits to this process. GPU and TPU drivers map huge address spaces and need their devices' sockets."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES_MAX if cpu_only else 4_096)
    if cpu_only:
        _lower(resource.RLIMIT_AS, ADDRESS_BYTES_MAX)
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if cpu_only:
            # A network of its own, without a single interface. Refused on some systems: then only the list holds.
            libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def watch_parent(parent: int) -> None:
    """End this process soon after `parent` is gone, also while native code computes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def allow_cpu_seconds(seconds: float) -> None:
    """Die by signal after this much more CPU time: the backstop for native code that never returns."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(limit, (value, value))
