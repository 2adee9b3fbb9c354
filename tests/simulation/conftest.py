"""Begins the simulations of the suite before its first test, where the test that wants them was chosen."""

from __future__ import annotations

from typing import Final

import pytest

from tests.simulation.background import Background
from tests.simulation.suite import SUITE, SWEEP, plans

_BACKGROUND: Final = pytest.StashKey[Background]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin, if a chosen test has the fixture."""
    config = session.config
    wanted = any("simulations" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not config.getoption("collectonly"):
        times = SWEEP if config.getoption("sweep") else 1
        background = Background([plan for name in SUITE for plan in plans(name, times)])
        config.stash[_BACKGROUND] = background
        config.add_cleanup(background.stop)


@pytest.fixture(scope="session")
def simulations(pytestconfig: pytest.Config) -> Background:
    """The suite's simulations, under way."""
    return pytestconfig.stash[_BACKGROUND]
