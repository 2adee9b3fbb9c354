"""The hold on a validator's key: one process of a machine votes with it, whatever folders and copies of it there are.

The system gives it back however that process ends. Where there is no such hold to be had, and among machines, it is
`consensus.key_guard` that finds a second node with the key, by what it hears of it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from chain.primitives import ss58
from chain.primitives.hashing import Hash, blake2_256
from chain.validator_keys import ValidatorKeys

_CREDENTIALS: Final = struct.Struct("iII")  # Linux's `struct ucred`: process, user, group


class KeyInUse(Exception):
    """Another process of this machine votes with the key; the message says which one, and what to do."""


@contextmanager
def hold_key(genesis_hash: Hash, keys: ValidatorKeys) -> Iterator[None]:
    """Have the key to oneself meanwhile, on this chain; KeyInUse where another process has it.

    It is a socket whose name is no path (Linux alone has them): a file would have to be where everybody that may have
    the key can write, and there is no such place.
    """
    name = b"\0potchain validator " + blake2_256(genesis_hash + keys.first).hex().encode()
    with socket.socket(socket.AF_UNIX) as hold:
        try:
            hold.bind(name)
            hold.listen()  # Nobody is answered: it is the system that tells who connects, who listens.
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise KeyInUse(
                    f"{_holder(name)} of this machine votes on this chain with the key of validator "
                    f"{ss58.encode(keys.account.public)} already, and two nodes with one key contradict each other, "
                    "which costs a part of the stake: stop that one first, or run a --full-node here"
                ) from None
        yield


def _holder(name: bytes) -> str:
    """The process that has the hold."""
    try:
        with socket.socket(socket.AF_UNIX) as question:
            question.setblocking(False)
            question.connect(name)
            data = question.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:  # It has ended meanwhile, or too many have asked it.
        return "another process"
    pid, _, _ = _CREDENTIALS.unpack(data)
    return f"process {pid}" if pid else "another process"
