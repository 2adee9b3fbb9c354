"""What an engine may reach of the file system and of other processes: a Landlock ruleset, by raw system calls.

Rule: what is not beneath a path that is named here cannot be opened, made or removed, whoever owns it. Metadata stay
visible: Landlock does not hide that a file exists.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REGULAR = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE

# How many rights over files each version of the interface knows; the newest that we know is the last.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_SINCE, _SCOPE_SINCE = 4, 6
_BIND_AND_CONNECT_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The interface that the kernel offers; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def restrict(readable: Iterable[Path], writable: Iterable[Path], *, files: bool = True, tcp: bool = True) -> bool:
    """Bind this thread and those that it starts, for ever; no_new_privs must be set. False where there is none.

    Without `files` only TCP, abstract sockets and signals to others are denied, where the kernel knows how; without
    `tcp` it stays open.
    """
    offered = version()
    if offered == 0:
        return False
    handled = (1 << _RIGHTS[min(offered, max(_RIGHTS))]) - 1 if files else 0
    attributes = struct.pack("=Q", handled)
    if offered >= _NET_SINCE:
        attributes += struct.pack("=Q", _BIND_AND_CONNECT_TCP if tcp else 0)
    if offered >= _SCOPE_SINCE:
        attributes += struct.pack("=Q", _ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = int(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    if ruleset < 0:  # An old kernel that is asked for nothing, or one where it is switched off.
        return False
    try:
        if files:
            for paths, access in ((readable, _READ), (writable, _WRITE)):
                for path in paths:
                    _allow(ruleset, path, access & handled)
        return int(_libc.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # What is not on this system needs no rule.
        return
    try:
        rule = struct.pack("=Qi", access if path.is_dir() else access & _OF_FILES, beneath)
        if int(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)) != 0:
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    finally:
        os.close(beneath)
