"""The Python side blocks in a thread of its own: an event loop is not in its way, and an interrupt ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from chain.display import Progress
from trainer.market import run_blocking


async def answer() -> int:
    await trio.lowlevel.checkpoint()
    return 42


def test_it_may_be_called_where_an_event_loop_runs() -> None:
    async def cell() -> int:
        return run_blocking(answer)

    assert asyncio.run(cell()) == 42


def test_what_goes_wrong_is_raised_where_it_was_asked_for() -> None:
    async def fails() -> int:
        raise ValueError("expected, got")

    with pytest.raises(ValueError, match="expected, got"):
        run_blocking(fails)


def interrupted(work: Callable[[trio.Event], Awaitable[int]]) -> tuple[str, bool]:
    """What an interrupt says that comes once `work` has begun, and whether it had ended by then."""
    ended = threading.Event()

    async def begun() -> int:
        # To this thread, as a terminal's Ctrl-C and a notebook's interrupt come.
        trio.lowlevel.current_trio_token().run_sync_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            return await work(trio.Event())
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt) as raised:
        run_blocking(begun)
    return str(raised.value), ended.is_set()


def test_an_interrupt_cancels_what_is_waited_for() -> None:
    async def waits(never: trio.Event) -> int:
        await never.wait()
        raise AssertionError

    assert interrupted(waits) == ("", True)


def test_an_interrupt_that_comes_too_late_says_what_was_done() -> None:
    async def pays(never: trio.Event) -> int:
        with trio.CancelScope(shield=True), trio.move_on_after(0.2):
            await never.wait()
        return 7

    assert interrupted(pays) == ("too late: it came to 7", True)


def test_a_notebook_sees_one_line_that_changes_and_a_pipe_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (Progress(), Progress(watched=True)):
        progress.show("long words")
        progress.show("short")
        progress.clear()
    assert capsys.readouterr().out == "\rlong words\rshort     \r     \r"
