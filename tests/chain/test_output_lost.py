"""A validator whose output nobody takes, or nobody can, validates on, and stops as it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from chain.cli import main
from chain.rpc.client import Client
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCKS = 2
SECONDS_MAX = 180  # it takes some four; machines that run the tests may be busy
STOP_SECONDS_MAX = 60  # a node stops within one


@contextmanager
def pipe(*, closed: bool) -> Iterator[int]:
    """A pipe to write to that is full, or whose other end is closed."""
    read_fd, write_fd = os.pipe()
    if closed:
        os.close(read_fd)
    else:
        os.set_blocking(write_fd, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write_fd, b"x" * 4096)
        os.set_blocking(write_fd, True)
    try:
        yield write_fd
    finally:
        os.close(write_fd)
        if not closed:
            os.close(read_fd)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [False, True], ids=["full pipe", "closed pipe"])
async def test_a_validator_whose_output_is_lost_validates_and_stops(closed: bool, tmp_path: Path) -> None:
    genesis, rpc_port = tmp_path / "genesis.json", free_port()
    url = f"ws://127.0.0.1:{rpc_port}"
    with pytest.raises(SystemExit) as ended:
        main(["genesis", "new", "--output", str(genesis), "--name", "One", "--development", "1"])
    assert not ended.value.code
    flags = (f"--rpc-port={rpc_port}", f"--port={free_port()}", "--no-prometheus", f"--base-path={tmp_path}")
    command = [sys.executable, "-m", "chain", f"--genesis={genesis}", "--validator=alice", *flags]
    with pipe(closed=closed) as fd:
        node = subprocess.Popen(command, stdout=fd, stderr=fd, cwd=ROOT)
        try:
            with trio.fail_after(SECONDS_MAX):
                async with Client.reconnecting([url]) as client, client.finalized_heads() as heads:
                    async for head in heads:
                        if int(head["number"], 16) >= BLOCKS:
                            break
            node.send_signal(signal.SIGTERM)
            assert node.wait(STOP_SECONDS_MAX) == 0
        finally:
            node.kill()
            node.wait()
