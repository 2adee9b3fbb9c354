"""What code does that broke out of JAX inside an engine: run as a process that is confined as an engine is.

`python -m tests.trainer.hostile KEY_FILE PORT UNIX_SOCKET CACHE_DIR VICTIM [WITHOUT]` tries everything, against the
process VICTIM where another is needed, and prints as JSON what each attempt came to: an error's name, or what it
gained. WITHOUT names a protection that the kernel shall lack.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from trainer import confinement, landlock, seccomp

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16
_PR_SET_DUMPABLE = 4


def _call(name: str, *arguments: object) -> object:
    result = getattr(_libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def _connect(family: int, kind: int, address: object) -> object:
    with socket.socket(family, kind) as stranger:
        stranger.connect(address)  # type: ignore[arg-type]
        return "connected"


def _write(path: Path, size: int = 1) -> object:
    with open(path, "wb") as file:
        return file.write(bytes(size))


def _fork() -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _signal_by_pipe(pid: int) -> object:
    """Have the kernel signal another process when a pipe of ours becomes readable."""
    out, into = os.pipe()
    fcntl.fcntl(out, fcntl.F_SETOWN, pid)
    fcntl.fcntl(out, fcntl.F_SETFL, os.O_ASYNC)
    return os.write(into, b"x")


def _threads() -> object:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    return done.wait(60)


def attempts(key: Path, port: int, unix: Path, cache: Path, victim: int) -> dict[str, Callable[[], object]]:
    """Everything that hostile code may try, and what an engine has to be able to do."""
    stolen, host = cache / "stolen", ("127.0.0.1", port)
    here = struct.pack("PL", ctypes.addressof(ctypes.create_string_buffer(16)), 16)
    there = struct.pack("PL", id(None), 16)  # Something is there in a process that runs the same interpreter.
    return {
        "tcp": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, host),
        "udp": lambda: _connect(socket.AF_INET, socket.SOCK_DGRAM, host),
        "unix socket": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, str(unix)),
        "read the key": lambda: key.read_text(),
        "read the key through /proc": lambda: Path(f"/proc/self/root{key}").read_text(),
        "overwrite the key": lambda: _write(key),
        "append to the key": lambda: os.open(key, os.O_WRONLY | os.O_APPEND),
        "truncate the key": lambda: os.truncate(key, 0),
        "remove the key": key.unlink,
        "open the key to all": lambda: key.chmod(0o777),
        "take the key over": lambda: os.chown(key, os.getuid(), os.getgid()),
        "link the key": lambda: os.link(key, stolen),
        "rename the key": lambda: key.rename(stolen),
        "list the key's folder": lambda: os.listdir(key.parent),
        "write beside the key": lambda: _write(key.parent / "new"),
        "write to /tmp": lambda: _write(Path("/tmp/potchain-hostile")),
        "write to /dev/shm": lambda: _write(Path("/dev/shm/potchain-hostile")),
        "device file": lambda: os.mknod(cache / "device", 0o600),
        "fork": _fork,
        "execve": lambda: os.execv("/bin/true", ["/bin/true"]),
        "kill": lambda: os.kill(victim, signal.SIGTERM),
        "kill everybody": lambda: os.kill(-1, signal.SIGCONT),
        "signal by pipe": lambda: _signal_by_pipe(victim),
        "stop another's threads": lambda: _call("tgkill", victim, victim, signal.SIGSTOP),
        "attach": lambda: _call("ptrace", _PTRACE_ATTACH, victim, 0, 0),
        "another's memory": lambda: _call("process_vm_readv", victim, here, 1, there, 1, 0),
        "another's environment": lambda: Path(f"/proc/{victim}/environ").read_bytes().decode(),
        "another's files": lambda: os.listdir(f"/proc/{victim}/fd"),
        "another's limits": lambda: resource.prlimit(victim, resource.RLIMIT_NOFILE, (64, 64)),
        "another's processors": lambda: os.sched_setaffinity(victim, {0}),
        "another's priority": lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
        "mount": lambda: _call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "another namespace": lambda: _call("unshare", 0x10000000),
        "host name": lambda: _call("sethostname", b"mine", 4),
        "shared memory": lambda: _call("shmget", 0x706F74, 4096, 0o1600),
        "be attached to": lambda: _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0),
        "16 GiB of memory": lambda: len(bytearray(17 << 30)),
        "a large file": lambda: os.truncate(os.open(cache / "large", os.O_RDWR | os.O_CREAT), 300 << 20),
        # What an engine needs.
        "a thread": _threads,
        "a file in the cache": lambda: _write(cache / "compiled"),
        "the list of processors": lambda: len(os.sched_getaffinity(0)) > 0,
        "a thousand open files": lambda: len([os.open("/dev/null", os.O_RDONLY) for _ in range(1_000)]),
    }


def outcome(attempt: Callable[[], object]) -> object:
    """What an attempt gained, or the name of the error that it ran into."""
    try:
        return attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except MemoryError:
        return "MemoryError"


def main() -> None:
    """Confine this process and try everything."""
    key, port, unix, cache, victim, *without = sys.argv[1:]
    if "landlock" in without:
        landlock.version = lambda: 0
    if "seccomp" in without:
        seccomp.install = lambda: False
    missing = confinement.confine("cpu", Path(cache))
    tried = attempts(Path(key), int(port), Path(unix), Path(cache), int(victim))
    print(json.dumps({"missing": missing, **{name: outcome(attempt) for name, attempt in tried.items()}}))


if __name__ == "__main__":
    main()
