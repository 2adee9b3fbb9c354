"""A child as its parent holds it: a process with lanes (an engine's lead to a device each), and one end for them all.

Rule: the child's environment is written here, word by word, so that it holds no secret; a lane carries one request at a
time, and one that is left in the middle of an exchange is of no more use to anybody, nor is its child.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import trio

from chain.primitives.hashing import Hash
from trainer import wire

PLATFORMS = ("cpu", "cuda", "tpu")
# What JAX needs to find an accelerator, and nothing else, comes from the parent's environment.
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "TPU_VISIBLE_CHIPS", "TPU_NAME")
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# XLA takes the memory of each run anew and gives it back: in pages of 4 KiB a third of a convolutional network's time
# goes to the kernel, which has to clear thousands of them a step. Where a system has no such pages it is ignored.
HUGE_PAGES = "glibc.malloc.hugetlb=1"
# Each is a thread and a file in the child, which may have 256 files open.
DEVICES_MAX = 64
# Where all that there are were asked for: no machine that we know of has more accelerators.
ACCELERATORS_MAX = 16
PIECE_BYTES = 1 << 20


class Lane:
    """The way to one device of a child, and the programs that are compiled for it."""

    def __init__(self, child: Child, ours: socket.socket) -> None:
        self.child = child
        self.loaded: OrderedDict[Hash, None] = OrderedDict()
        # What is under way on it, for when the child ends of something.
        self.root: Hash | None = None
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    async def exchange(self, said: bytes | None) -> dict[str, Any]:
        """The next frame from the child, after telling it something.

        Raises trio's errors, EOFError, WireError or PackingError where no frame comes.
        """
        if said is not None:
            await self._stream.send_all(said)
        length = wire.body_length(await self._receive(wire.LENGTH.size))
        return wire.parse(await self._receive(length))

    async def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self._stream.receive_some(min(count - len(data), PIECE_BYTES))
            if not piece:
                raise EOFError("the child closed its end")
            data += piece
        return bytes(data)

    async def close(self) -> None:
        """Whoever waits on it gets trio's ClosedResourceError."""
        await self._stream.aclose()


class Child:
    """A process that computes, on as many devices as it has lanes."""

    def __init__(self, process: trio.Process, ours: list[socket.socket]) -> None:
        self.process = process
        self.lanes = [Lane(self, each) for each in ours]
        # Why it was ended, in words; "" while it lives.
        self.ended = ""

    async def keep(self, count: int) -> None:
        """Close the lanes beyond the devices that there are."""
        for lane in self.lanes[count:]:
            await lane.close()
        del self.lanes[count:]

    async def ending(self) -> str:
        """What the system says of its end, once it has come to one."""
        with trio.move_on_after(1.0):
            await self.process.wait()
        code = self.process.returncode
        return "it still runs" if code is None else f"exit status {code}"

    async def end(self, reason: str) -> None:
        """End it, whatever it does; the first reason stands."""
        self.ended = self.ended or reason
        with trio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
            for lane in self.lanes:
                await lane.close()


async def start(home: Path, module: str, words: Sequence[str], lanes: int, env: Mapping[str, str]) -> Child:
    """A child that has yet to say its first word: `python -m MODULE WORD… LANE…`."""
    pairs = [socket.socketpair() for _ in range(lanes)]
    try:
        theirs = [their.fileno() for _, their in pairs]
        with _log(home) as log:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", module, *words, *map(str, theirs)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=home,
                start_new_session=True,
                pass_fds=theirs,
            )
    except BaseException:
        for our, _ in pairs:
            our.close()
        raise
    finally:
        for _, their in pairs:
            their.close()
    return Child(process, [our for our, _ in pairs])


async def start_engine(home: Path, platform: str, devices: int | None, variables: Mapping[str, str]) -> Child:
    """An engine with as many lanes as it may have devices.

    `variables` of its environment stand for those that it has otherwise.
    """
    words = (platform, str(home / "compiled"), str(devices or 0))
    env = {**environment(home, platform), **variables}
    return await start(home, "trainer.engine", words, devices or ACCELERATORS_MAX, env)


def environment(home: Path, platform: str) -> dict[str, str]:
    """The child's, word by word."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XLA_FLAGS": ONE_THREAD if platform == "cpu" else "",
        # One thread computes for a device; the libraries under numpy need none of their own.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "GLIBC_TUNABLES": HUGE_PAGES,
    }


def _log(home: Path) -> BinaryIO:
    (home / "compiled").mkdir(parents=True, exist_ok=True)
    path = home / f"{home.name}.log"
    with suppress(FileNotFoundError):  # Why the one before ended is in what it said last.
        os.replace(path, path.with_name(path.name + ".1"))
    return open(path, "wb")
