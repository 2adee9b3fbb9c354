"""Threads share one heap of the C library's where they are told to, and have several else."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chain import cli
from tests.chain.test_cli import TESTNET

ROOT = Path(__file__).resolve().parent.parent.parent
# Four threads hold memory at once; the C library then says which heaps it has.
COUNTING = """
import ctypes, sys, threading
from chain.heap import share_one_heap
if sys.argv[1] == "one":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
together = threading.Barrier(4)
def hold():
    assert libc.malloc(3000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library than glibc")
def test_all_threads_take_from_one_heap_where_it_is_shared(tmp_path: Path) -> None:
    heaps = {}
    for how in ("one", "several"):
        command = [sys.executable, "-c", COUNTING, how, str(tmp_path / how)]
        # Not what somebody has set here for all programs.
        subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, check=True, timeout=60)
        heaps[how] = (tmp_path / how).read_text().count("<heap nr=")
    assert heaps["one"] == 1 < heaps["several"]


def test_a_node_shares_it_before_its_first_thread_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    happened: list[tuple[str, set[str]]] = []

    def note(what: str) -> None:
        happened.append((what, {thread.name for thread in threading.enumerate()}))

    before = {thread.name for thread in threading.enumerate()}
    monkeypatch.setattr(cli, "share_one_heap", lambda: note("shared"))
    monkeypatch.setattr(cli, "_run", lambda _: note("run"))
    with pytest.raises(SystemExit):
        cli.main(["--genesis", str(TESTNET), "--validator", "alice", "--base-path", str(tmp_path)])
    assert [what for what, _ in happened] == ["shared", "run"]
    assert happened[0][1] == before
