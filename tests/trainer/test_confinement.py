"""Code that broke out of JAX inside an engine reaches no network, no file, no process; each protection holds alone."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer import confinement, landlock, seccomp

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "//Alice"

# With everything that this system may offer. A call that is not on the list does not exist; another's files are denied.
CONFINED = {
    "missing": [],
    "tcp": "ENOSYS",
    "udp": "ENOSYS",
    "unix socket": "ENOSYS",
    "read the key": "EACCES",
    "read the key through /proc": "EACCES",
    "overwrite the key": "EACCES",
    "append to the key": "EACCES",
    "truncate the key": "ENOSYS",
    "remove the key": "EACCES",
    "open the key to all": "ENOSYS",
    "take the key over": "ENOSYS",
    "link the key": "ENOSYS",
    "rename the key": "EACCES",
    "list the key's folder": "EACCES",
    "write beside the key": "EACCES",
    "write to /tmp": "EACCES",
    "write to /dev/shm": "EACCES",
    "device file": "ENOSYS",
    "fork": "EPERM",
    "execve": "ENOSYS",
    "kill": "ENOSYS",
    "kill everybody": "ENOSYS",
    "signal by pipe": "EPERM",
    "stop another's threads": "EPERM",
    "attach": "ENOSYS",
    "another's memory": "ENOSYS",
    "another's environment": "EACCES",
    "another's files": "EACCES",
    "another's limits": "EPERM",
    "another's processors": "ENOSYS",
    "another's priority": "ENOSYS",
    "mount": "ENOSYS",
    "another namespace": "ENOSYS",
    "host name": "ENOSYS",
    "shared memory": "ENOSYS",
    "be attached to": "EPERM",
    "16 GiB of memory": "MemoryError",
    "a large file": "EFBIG",
    "a thread": True,
    "a file in the cache": 1,
    "the list of processors": True,
    "a thousand open files": "EMFILE",
}
# What is denied by Landlock and namespaces alone. Modes and owners of files and named sockets are the filter's alone.
WITHOUT_FILTER = {
    "tcp": "EACCES",
    "udp": "ENETUNREACH",
    "read the key": "EACCES",
    "read the key through /proc": "EACCES",
    "overwrite the key": "EACCES",
    "append to the key": "EACCES",
    "truncate the key": "EACCES",
    "remove the key": "EACCES",
    "link the key": "EXDEV",
    "rename the key": "EACCES",
    "list the key's folder": "EACCES",
    "write beside the key": "EACCES",
    "write to /tmp": "EACCES",
    "write to /dev/shm": "EACCES",
    "execve": "EACCES",
    "kill": "EPERM",
    "attach": "EPERM",
    "another's memory": "EPERM",
    "another's environment": "EACCES",
    "another's files": "EACCES",
    "mount": "EPERM",
    "another namespace": "EPERM",
}
# What the filter does not deny without Landlock.
OF_LANDLOCK = {
    "missing",
    "read the key",
    "read the key through /proc",
    "overwrite the key",
    "append to the key",
    "remove the key",
    "rename the key",
    "list the key's folder",
    "write beside the key",
    "write to /tmp",
    "write to /dev/shm",
    "another's environment",
    "another's files",
}


class Prey:
    """What hostile code is after: a key, a server, another process of the same user."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "keys" / "my.key"
        self.key.parent.mkdir()
        self.key.write_text(SECRET)
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "socket"))
        self.unix.listen()
        self.victim = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

    def hunt(self, *without: str) -> dict[str, Any]:
        """What a confined process gains."""
        where = (self.key, self.tcp.getsockname()[1], self.unix.getsockname(), self.cache, self.victim.pid)
        command = [sys.executable, "-m", "tests.trainer.hostile", *map(str, where), *without]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        self.tcp.close()
        self.unix.close()
        for folder in ("/tmp", "/dev/shm"):  # Where a process without Landlock gets to.
            Path(folder, "potchain-hostile").unlink(missing_ok=True)


@pytest.fixture
def prey(tmp_path: Path) -> Iterator[Prey]:
    prey = Prey(tmp_path)
    try:
        yield prey
    finally:
        prey.close()


def test_what_broke_out_of_jax_gains_nothing(prey: Prey) -> None:
    found = prey.hunt()
    if found["missing"]:
        pytest.skip(f"this system lacks: {'; '.join(found['missing'])}")
    assert found == CONFINED
    assert prey.victim.poll() is None
    assert prey.key.read_text() == SECRET
    assert prey.key.stat().st_mode & 0o077 == 0o044


def test_files_and_others_are_safe_without_the_filter_of_system_calls(prey: Prey) -> None:
    found = prey.hunt("seccomp")
    assert confinement.NO_SECCOMP in found["missing"]
    if len(found["missing"]) > 1:
        pytest.skip(f"this system lacks: {'; '.join(found['missing'])}")
    assert {name: found[name] for name in WITHOUT_FILTER} == WITHOUT_FILTER
    assert SECRET not in str(found)
    assert prey.victim.poll() is None


def test_nothing_leaves_and_nobody_is_harmed_without_landlock(prey: Prey) -> None:
    found = prey.hunt("landlock")
    assert confinement.NO_LANDLOCK in found["missing"]
    if confinement.NO_SECCOMP in found["missing"]:
        pytest.skip("this system has no system call filter either")
    denied = {name: what for name, what in CONFINED.items() if name not in OF_LANDLOCK}
    assert {name: found[name] for name in denied} == denied
    assert prey.victim.poll() is None


ON_CUDA = """
import socket, sys
from pathlib import Path
from trainer import confinement
print(*confinement.confine("cuda", Path(sys.argv[1])), sep="\\n")
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[2])))
except PermissionError:
    print("no TCP")
"""


def test_beside_an_accelerator_tcp_is_closed_and_what_stays_open_is_said(prey: Prey) -> None:
    if landlock.version() < 4:
        pytest.skip("this system's Landlock knows no TCP (it takes Linux 6.7)")
    command = [sys.executable, "-c", ON_CUDA, str(prey.cache), str(prey.tcp.getsockname()[1])]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert found.stdout.splitlines() == [confinement.ACCELERATED, "no TCP"]


def verdict(program: list[seccomp.Instruction], architecture: int, number: int, *arguments: int) -> int:
    """What a filter says about a system call: classic BPF, as far as filters of ours use it."""
    words = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    loaded, at = 0, 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", words, operand)
            case 0x15:
                at += if_true if loaded == operand else if_false
            case 0x45:
                at += if_true if loaded & operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unexpected instruction {code:#x}")


@pytest.mark.parametrize(
    ("machine", "architecture", "openat", "clone", "socket_", "tgkill"),
    [("x86_64", 0xC000003E, 257, 56, 41, 234), ("aarch64", 0xC00000B7, 56, 220, 198, 131)],
)
def test_the_filter_knows_each_architectures_numbers(
    machine: str, architecture: int, openat: int, clone: int, socket_: int, tgkill: int
) -> None:
    allow, kill, unknown, forbidden = 0x7FFF0000, 0x80000000, 0x50026, 0x50001
    program = seccomp.build(machine, 7)
    assert program is not None
    assert verdict(program, architecture, openat) == allow
    assert verdict(program, architecture, socket_) == unknown
    assert verdict(program, architecture, openat | 0x40000000) == unknown  # x32's numbers on x86-64
    assert verdict(program, architecture ^ 1, openat) == kill
    assert verdict(program, architecture, clone, 0x10000) == allow
    assert verdict(program, architecture, clone, 0x11) == forbidden
    assert verdict(program, architecture, tgkill, 7) == allow
    assert verdict(program, architecture, tgkill, 8) == forbidden


def test_an_unknown_architecture_has_no_filter() -> None:
    assert seccomp.build("riscv64", os.getpid()) is None
