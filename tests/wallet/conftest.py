"""Runs commands of the wallet as a shell would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from chain.cli import main

Command = Callable[..., Awaitable[str]]
SECONDS_MAX = 60


@pytest.fixture
def potchain(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with an event loop of its own; what it prints, on standard error where it fails."""

    async def run(*arguments: str, exit_code: int = 0) -> str:
        with trio.fail_after(SECONDS_MAX), pytest.raises(SystemExit) as ended:
            await trio.to_thread.run_sync(main, list(arguments))
        printed = capfd.readouterr()
        assert (ended.value.code or 0) == exit_code, printed
        assert not (exit_code == 0 and printed.err)
        return printed.err if exit_code else printed.out

    return run
