"""`potchain` with a third party's genesis file, as a process: what its tests start and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_MAX = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(genesis: Path, base: Path, *arguments: str) -> Iterator[str]:
    """The chain of a genesis file, in a folder from which nothing of it can be imported; gives its URL.

    What it prints is added to `output` in that folder. It has to stop when it is told to, without a complaint.
    """
    port = free_port()
    command = [sys.executable, "-m", "chain", f"--genesis={genesis}", f"--base-path={base}", f"--rpc-port={port}"]
    command.append("--no-prometheus")
    with (base / "output").open("a+") as output:
        node = subprocess.Popen(
            [*command, f"--port={free_port()}", "--supervised", *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=base,
        )
        try:
            yield f"ws://127.0.0.1:{port}"
            os.kill(node.pid, signal.SIGINT)
            assert node.wait(SECONDS_MAX) == 0, (base / "output").read_text()
        finally:
            node.kill()
            node.communicate()
