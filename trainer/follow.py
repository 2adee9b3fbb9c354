"""Following the chain: one servant for each running task, woken at every new head.

Rule: a step reads the round as it is and does what is due; what failed is due again at the next head. So nothing is
lost by a missed head, a lost connection or a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import trio

from trainer.artifact import ArtifactError
from trainer.choices import ChoiceError
from trainer.dataset import DatasetError
from trainer.node import Node, NodeError, TaskOver
from trainer.optimizers import OptimizerError
from trainer.sandbox import EngineError, ProgramRefused
from trainer.views import RoundView, TaskView, ViewError

Report = Callable[[str], None]

# A task that is at fault stays so; what a node or an engine could not do now may be done at the next head.
HOPELESS = (ProgramRefused, ArtifactError, DatasetError, OptimizerError, ChoiceError)
PASSING = (NodeError, EngineError, ViewError)

# A node refuses to be followed while it is too busy; asking more often would keep it so.
FOLLOW_AGAIN_SECONDS = 1.0
# New tasks begin within this many heads; asking at every head would be a waste.
TASKS_EVERY_HEADS = 3


class Heights:
    """The newest height, and a way to wait for a newer one."""

    def __init__(self) -> None:
        self.newest = 0
        self._changed = trio.Event()

    def advance(self, height: int) -> None:
        """Wake whoever waits for a height below this one."""
        self.newest = max(self.newest, height)
        self._changed.set()
        self._changed = trio.Event()

    async def above(self, height: int) -> int:
        """The newest height, as soon as it is above `height`."""
        while self.newest <= height:
            await self._changed.wait()
        return self.newest


class Servant(Protocol):
    """What is done for one task: called with the running round at every head."""

    async def step(self, view: RoundView, height: int) -> None:
        """Do what is due; raises NodeError or EngineError to be called again at the next head."""


Serve = Callable[[TaskView], Servant]


async def follow(
    node: Node,
    serve: Serve,
    report: Report,
    *,
    release: Callable[[int], Awaitable[None]] | None = None,
    forget: Callable[[int], None] | None = None,
    always: Callable[[Heights], Awaitable[None]] | None = None,
    only: Collection[int] | None = None,
) -> None:
    """Serve every running task until cancelled, or those of a collection alone.

    `release` is called when a task is served no more, and `forget`, in a thread, when its last round is final: one
    that is refused may be served by the next start, which goes on with what this one kept. `always` runs beside, for
    what is due without any task.
    """
    heights = Heights()
    served: set[int] = set()

    async def begin(task: int) -> None:
        is_complete = await _serve(node, task, serve, heights, report)
        if release is not None:
            await release(task)
        if forget is not None and is_complete:
            await trio.to_thread.run_sync(forget, task)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_advance, node, heights, report)
        if always is not None:
            nursery.start_soon(always, heights)
        height = 0
        while True:
            height = await heights.above(height + TASKS_EVERY_HEADS - 1 if served else height)
            try:
                found = await node.task_ids()
            except (NodeError, ViewError) as error:
                report(f"cannot list the tasks, trying again: {error}")
                continue
            news = sorted(task for task in set(found) - served if only is None or task in only)
            for task in news:
                nursery.start_soon(begin, task)
            served.update(news)


async def _advance(node: Node, heights: Heights, report: Report) -> None:
    while True:
        try:
            async with node.heads() as heads:
                async for height in heads:
                    heights.advance(height)
        except NodeError as error:
            report(f"cannot follow the chain, trying again: {error}")
        await trio.sleep(FOLLOW_AGAIN_SECONDS)


async def _serve(node: Node, task: int, serve: Serve, heights: Heights, report: Report) -> bool:
    """Step one task until it is complete, or cannot be served by this program at all; whether it is complete."""
    servant: Servant | None = None
    height, trouble = heights.newest - 1, ""
    while True:
        height = await heights.above(height)
        try:
            if servant is None:
                servant = serve(await node.task(task))
            view = await node.round(task)
            if view.phase == "final":
                report(f"task {task}: over after round {view.round}")
                return True
            await servant.step(view, height)
            trouble = ""
        except TaskOver as error:
            # So says as well a node that does not know the task yet.
            report(f"task {task}: {error}")
            return False
        except Exception as error:
            # Steps do several things at once, so that what went wrong may come in groups.
            causes = leaves(error)
            if not all(isinstance(cause, HOPELESS + PASSING) for cause in causes):
                raise
            hopeless = next((cause for cause in causes if isinstance(cause, HOPELESS)), None)
            if hopeless is not None:
                report(f"task {task}: refused, and left alone from now on: {hopeless}")
                return False
            # The same trouble at every head is said once.
            if str(causes[0]) != trouble:
                report(f"task {task}: trying again at the next block: {causes[0]}")
            trouble = str(causes[0])


def leaves(error: Exception) -> list[Exception]:
    """The exceptions that a nursery grouped, or the one that it is."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for member in error.exceptions for leaf in leaves(member)]
