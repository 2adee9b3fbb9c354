"""What an engine child gives up before it touches a stranger's program: files, network, processes, memory, privileges.

Rule: all of it is given up before JAX is imported and before there is a second thread, which would keep what it had.
A protection that the system does not offer is named, not fatal: the parent's deadline and the admission list hold
without it, and the others overlap (the network alone is closed three times).
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainer import landlock, seccomp

# JAX, its compiler and a batch's activations; the address space, since that is what the kernel can bound.
ADDRESS_BYTES_MAX = 16 << 30
# For each further device that computes at the same time: 4 GiB that a program may have alive, and what goes in and out.
DEVICE_ADDRESS_BYTES = 8 << 30
# The compiler writes its cache and nothing else; one entry is a few MB.
FILE_BYTES_MAX = 256 << 20
OPEN_FILES_MAX = 256
NICE = 10
# How long an engine may outlive a parent that was killed.
ORPHAN_SECONDS = 1.0

# Where Python, its libraries and the facts about this machine are; none of it is anybody's secret.
_SYSTEM = """
    /usr /lib /lib64 /etc/ld.so.cache /etc/localtime /dev/null /dev/urandom
    /proc/self /proc/cpuinfo /proc/meminfo /sys/devices /sys/bus/pci /sys/fs/cgroup
"""
# What of this project an engine imports; the folder above may well hold a key.
_PACKAGES = ("trainer", "chain")

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC, _CLONE_NEWUTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION = 0x20080522

NO_PRIVILEGES_KEPT = "no_new_privs was refused: system calls and files are not limited"
# Beyond the parent's deadline, so that this never is what ends an engine whose parent lives.
BACKSTOP_SECONDS = 5
NO_NAMESPACE = (
    "no network namespace (user namespaces are off here): system call and TCP filters alone close the network"
)
NO_LANDLOCK = "no Landlock (it takes Linux 5.13): a program that breaks out of JAX reads and writes this user's files"
NO_SECCOMP = "no system call filter (it takes x86-64 or ARM64): a program that breaks out of JAX can start processes"
ACCELERATED = (
    "drivers of accelerators need their devices, sockets and helpers: files and system calls are not limited, and a "
    "program that breaks out of JAX has this user's rights"
)


def confine(platform: str, writable: Path, devices: int = 1) -> list[str]:
    """Give up all that computing on `platform` does not need; what could not be given up, one line each.

    Files can be made beneath `writable` alone. On an accelerator limits on memory, core dumps and TCP are all there is.
    """
    on_cpu = platform == "cpu"
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES_MAX if on_cpu else 4_096)
    if on_cpu:
        _lower(resource.RLIMIT_AS, ADDRESS_BYTES_MAX + (devices - 1) * DEVICE_ADDRESS_BYTES)
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        # Where the machine runs out of memory, the kernel shall end an engine and not the validator beside it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return [NO_PRIVILEGES_KEPT]
    if not on_cpu:
        if platform != "tpu":  # Its runtime asks other machines where it is.
            landlock.restrict((), (), files=False)
        return [ACCELERATED]
    missing = []
    # A user of its own, who is nobody: no privilege over anything outside, whoever started us.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS) != 0:
        missing.append(NO_NAMESPACE)
    _drop_capabilities(libc)
    # Nobody may attach to this process, and its crashes fill no collector of core dumps.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not landlock.restrict(_readable(), (writable,)):
        missing.append(NO_LANDLOCK)
    if not seccomp.install():
        missing.append(NO_SECCOMP)
    return missing


def confine_relay(writable: Path) -> list[str]:
    """Give up what a process that speaks with other hosts, and computes nothing, does not need; as `confine` does."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES_MAX)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return [NO_PRIVILEGES_KEPT]
    _drop_capabilities(libc)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    names = {Path("/etc") / name for name in ("hosts", "resolv.conf", "nsswitch.conf", "gai.conf")}
    return [] if landlock.restrict(_readable() | names, (writable,), tcp=False) else [NO_LANDLOCK]


def watch_parent(parent: int, last_words: Callable[[], None] = lambda: None) -> None:
    """End this process soon after `parent` is gone, also while native code computes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        with suppress(Exception):
            last_words()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def allow_seconds(seconds: float) -> None:
    """Die by signal after what every core can compute in this time: the backstop for native code that never returns.

    The parent's clock ends it sooner, and with a better reason; this is for when there is no parent.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds * (os.cpu_count() or 1)) + BACKSTOP_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _readable() -> set[Path]:
    """What is imported from: the interpreter's libraries, installed packages, and our own."""
    ours = Path(__file__).resolve().parent.parent
    paths = {Path(path) for path in _SYSTEM.split()} | {ours / name for name in _PACKAGES}
    for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix):
        paths |= {Path(prefix, "lib"), Path(prefix, "lib64")}
    return paths | {path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")}


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up what root has, or what the first process of a user namespace has in it."""
    libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24))


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(limit, (value, value))
