"""Fast files first: a mistake shows within seconds, before anything starts a network.

`scripts/test` has three workers take file after file in this order, so that what a file's tests share is made once, and
one of them computes while the other waits for a network.

Hypothesis draws the same examples every time, without a deadline: a test fails because of the code, and not because of
the day or the machine. `--hypothesis-profile=default` draws new ones; scripts/fuzz.py looks further.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

settings.register_profile("stable", derandomize=True, deadline=None)
settings.load_profile("stable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """A sweep is for a night, not for each change."""
    parser.addoption("--sweep", action="store_true", help="run a hundred times as many simulations, and all scenarios")


def pytest_configure() -> None:
    """Have an interrupt reach the nodes that tests start, also where a shell has whatever it starts ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move files with slow tests behind all others, and in them the slow tests; otherwise the order stays.

    Of the slow ones the simulations begin first: a file is one process's, and these take longest.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    files = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(
        key=lambda item: (
            item.path in slow,
            item.path in slow and item.path.parent.name != "simulation",
            files[item.path],
            item.get_closest_marker("slow") is not None,
        )
    )


@pytest.fixture(autouse=True, scope="session")
def _cache() -> Iterator[None]:
    """What programs of this user keep from run to run, and their settings, are neither read nor written by tests."""
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = os.environ["XDG_CONFIG_HOME"] = folder
        yield
