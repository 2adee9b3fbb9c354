"""A story about rounds, seen as a node sees its ledger: for what reads the newest state after every block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chain.primitives.types import Header
from runtime.potchain import RUNTIME
from tests.runtime.training_kit import Story


class StoryState:
    """The state after a chain's last block."""

    def __init__(self, story: Story) -> None:
        self.header: Header = story.chain.header
        self.get, self.keys = story.chain.tree.get, story.chain.tree.keys


class StoryLedger:
    """As much of a ledger as is read."""

    runtime = RUNTIME

    def __init__(self, story: Story) -> None:
        self._story = story

    @contextmanager
    def state(self) -> Iterator[StoryState]:
        yield StoryState(self._story)
