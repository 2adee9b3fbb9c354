"""A chain that trains, and a browser to look at it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from chain.rpc.client import Client
from tests.clients.conftest import genesis
from tests.clients.kit import RunningNode, install, running_node
from tests.dashboard.rounds import Trainer

HERE = Path(__file__).resolve().parent
CHROMIUM = Path("/usr/bin/chromium")  # where Debian's package puts it
BLOCK_TIME_MS = 300
COMMIT_BLOCKS = 10_000
# Where a person wants to look at the pictures that the stories make.
SHOTS = "POTCHAIN_SHOTS"


@pytest.fixture(scope="session")
def browser() -> None:
    """A person's run skips what needs Chromium where it is missing; continuous integration fails."""
    install(HERE)
    if not CHROMIUM.exists():
        reason = f"no {CHROMIUM}: the dashboard's tests need Debian's package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def shots(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder for a test's pictures of pages."""
    name: str = request.node.name
    folder = Path(os.environ.get(SHOTS) or tmp_path) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def chain_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The genesis file of a chain with one validator, and a task with slots for one worker."""
    spec = genesis()
    spec["consensus"]["blockTimeMs"] = BLOCK_TIME_MS
    # A round waits for its workers as long as a story takes to come to it.
    spec["genesis"]["training"]["tasks"][0]["policy"]["commitBlocks"] = COMMIT_BLOCKS
    file = tmp_path_factory.mktemp("dashboard") / "genesis.json"
    file.write_text(json.dumps(spec))
    return file


@pytest.fixture(scope="module")
def node(chain_file: Path, browser: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """The chain with two final rounds, in one of which not every slot was accepted."""
    with running_node(chain_file, tmp_path_factory.mktemp("data")) as running:
        trio.run(_begin, running.url)
        yield running


async def _begin(url: str) -> None:
    with trio.fail_after(120):
        async with Client.connect(url) as client:
            trainer = Trainer(client)
            await trainer.begin()
            await trainer.train(0, flawed=True)
            await trainer.train(1)
