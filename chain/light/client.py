"""Asks nodes what the follower wants to know, all of them at once, and takes the newest block that any of them proves.

Every wait is bounded: a node that stalls is left behind, and one that sends garbage costs a few megabytes at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import trio

from chain.light.checkpoint import Checkpoint
from chain.light.errors import Fork, LightError, Withheld
from chain.light.follower import Ask, Reached, Steps
from chain.printable import printable
from chain.rpc.errors import ClientError, RpcError
from chain.rpc.link import Link, open_link

T = TypeVar("T")

# A handover of a hundred validators takes some 50 kB in hex, and other proofs less. As Python's objects, an answer of
# this size can take twenty times as much of a small device's memory.
MESSAGE_BYTES_MAX: Final = 128 * 1024
# A node answers in milliseconds; a busy one behind a slow line in seconds.
ANSWER_SECONDS: Final = 10.0
# A set change takes one question, the head a handful: without a new proven block for so long, a node stalls.
PROGRESS_SECONDS: Final = 60.0
# How long the others may still take when a first node has proven its newest block.
GRACE_SECONDS: Final = 5.0
# The longest message of our own has some 400 characters; a node's can have a million.
WORDS_MAX: Final = 600


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a node has proven: its newest block, and what was read there."""

    url: str
    head: Checkpoint
    value: T


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a node is not believed, or could not be asked."""

    url: str
    error: LightError | ClientError

    def __str__(self) -> str:
        """One line, that a terminal can show: some of the words may be the node's."""
        text = printable(str(self.error))
        text = text if len(text) <= WORDS_MAX else f"{text[:WORDS_MAX]}…"
        return text if self.url in text else f"{self.url}: {text}"


@dataclass(slots=True)
class Findings(Generic[T]):
    """What came of asking: answers and faults by node, and the highest block that any of them has proven."""

    answers: list[Answer[T]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    furthest: Checkpoint | None = None

    def best(self) -> Answer[T]:
        """The answer at the highest proven block; raises LightError, with every node's fault, where there is none.

        Raises Fork where two blocks are proven for one height: then nothing that these validators seal means anything.
        """
        for fault in self.faults:
            if isinstance(fault.error, Fork):
                raise Fork(str(fault))
        if not self.answers:
            raise LightError("; ".join(map(str, self.faults)))
        best = max(self.answers, key=lambda answer: answer.head.height)
        for answer in self.answers:
            if answer.head.height == best.head.height and answer.head.block_hash != best.head.block_hash:
                raise Fork(
                    f"validators have sealed two blocks of height {best.head.height}: "
                    f"0x{best.head.block_hash.hex()} at {best.url}, "
                    f"0x{answer.head.block_hash.hex()} at {answer.url}: believe neither"
                )
        return best

    def note(self, checkpoint: Checkpoint) -> None:
        """Remember a proven block."""
        if self.furthest is None or checkpoint.height > self.furthest.height:
            self.furthest = checkpoint


async def ask_nodes(urls: Sequence[str], plan: Callable[[], Steps[tuple[Checkpoint, T]]]) -> Findings[T]:
    """Go through the plan with each node at `urls`; whatever a node does, there are findings in bounded time."""
    findings: Findings[T] = Findings()
    waiting = list(dict.fromkeys(urls))

    async def ask(url: str, scope: trio.CancelScope) -> None:
        try:
            async with open_link(url, MESSAGE_BYTES_MAX) as link:
                head, value = await _drive(link, plan(), findings.note)
        except (LightError, ClientError) as error:
            findings.faults.append(Fault(url, error))
        else:
            findings.answers.append(Answer(url, head, value))
            scope.deadline = min(scope.deadline, trio.current_time() + GRACE_SECONDS)
        waiting.remove(url)

    async with trio.open_nursery() as nursery:
        for url in waiting:
            nursery.start_soon(ask, url, nursery.cancel_scope)
    late = Withheld(f"it had {GRACE_SECONDS:g} s more than another node, and has not answered")
    findings.faults.extend(Fault(url, late) for url in waiting)
    return findings


async def _drive(link: Link, steps: Steps[T], note: Callable[[Checkpoint], None]) -> T:
    """Ask one node what the steps want to know, until they have it; raises LightError or ClientError."""
    try:
        with trio.fail_after(PROGRESS_SECONDS) as scope:
            try:
                step = next(steps)
                while True:
                    if isinstance(step, Reached):
                        note(step.checkpoint)
                        scope.deadline = trio.current_time() + PROGRESS_SECONDS
                        step = next(steps)
                        continue
                    try:
                        answer = await _answer(link, step)
                    except Withheld as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(answer)
            except StopIteration as done:
                found: T = done.value
                return found
    except trio.TooSlowError:
        raise Withheld(f"it has proven nothing new for {PROGRESS_SECONDS:g} s, whatever it answers") from None


async def _answer(link: Link, ask: Ask) -> Any:
    with trio.move_on_after(ANSWER_SECONDS):
        try:
            return await link.request(ask.method, list(ask.params))
        except RpcError as error:
            raise Withheld(f"it refuses {ask.method}: {error}") from None
    raise Withheld(f"it has not answered {ask.method} in {ANSWER_SECONDS:g} s")
