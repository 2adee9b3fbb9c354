"""A validator's part in an aggregate's trial: it adds up the slices that were drawn for it, and says what it found.

Rule: it says of a slice only what it computed. What cannot be fetched it says nothing of, so that an aggregate which is
not served is never proven.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from chain.primitives.hashing import Hash
from chain.primitives.seal import bitmap
from trainer.follow import Report
from trainer.node import Node, NodeError
from trainer.slices import MalformedUpdate, Slices
from trainer.views import AggregateView, RoundView, TrialView

# What those that were drawn have not all found right after an eighth of an audit's time is for everybody. A quarter is
# how long an aggregate is on trial while another one waits.
PATIENCE = 8


class Checker:
    """Checks what is on trial in one task. `malformed` is told the root of an update that is none, and why."""

    def __init__(self, slices: Slices, node: Node, report: Report, malformed: Callable[[Hash, str], None]) -> None:
        self._slices = slices
        self._node = node
        self._report = report
        self._malformed = malformed
        self._round = (-1, -1)
        self._verdicts: dict[tuple[AggregateView, int], bool] = {}
        # Where a dispute was said, or refused: the aggregate, and since when it is on trial. One that the chain refuses
        # is tried once, and costs no fee in every block.
        self._disputed: set[tuple[AggregateView, int]] = set()

    async def step(self, view: RoundView, height: int) -> None:
        """Look at whatever of the trial is to be looked at, and say it in one transaction."""
        if self._round != (view.round, view.attempt):
            self._round, self._verdicts, self._disputed = (view.round, view.attempt), {}, set()
        trial = view.trial
        # Whoever has disputed an aggregate has nothing to add.
        if trial is None or not trial.order or self._node.account in trial.disputes:
            return
        claim, said, right = trial.aggregate, trial.found.get(self._node.account, ()), list[int]()
        for run in self._due(trial, height, said):
            await self._look(view, claim, run)
            wrong = next((index for index in run if self._verdicts.get((claim, index)) is False), None)
            if wrong is not None:
                await self._say(view, trial, (), wrong)
                return
            right += [index for index in run if (claim, index) in self._verdicts]
        if right:
            await self._say(view, trial, tuple(right), None)

    def _due(self, trial: TrialView, height: int, said: Collection[int]) -> list[range]:
        """The slices to look at, neighbours together: what is disputed first, then what was drawn or is left undone."""
        count = self._slices.count
        due = list(trial.drawn(self._node.account, count))
        if height >= trial.since + self._slices.task.audit_blocks // PATIENCE:
            due += [index for index in range(count) if not trial.is_found_by_drawn(index, count)]
        disputed = [index for index in dict.fromkeys(trial.disputes.values()) if index not in said]
        alone = [range(index, index + 1) for index in disputed]
        return alone + self._slices.runs({*due} - {*said} - {*disputed})

    async def _look(self, view: RoundView, claim: AggregateView, run: range) -> None:
        """Find out which slices of a run are right, as far as that can be known now."""
        if all((claim, index) in self._verdicts for index in run):
            return
        malformed: list[MalformedUpdate] = []
        try:
            for index, is_right in (await self._slices.check(view, claim, run)).items():
                self._verdicts[claim, index] = is_right
        except* MalformedUpdate as group:
            malformed = [error for error in group.exceptions if isinstance(error, MalformedUpdate)]
        except* NodeError as group:
            self._report(
                f"task {self._slices.task.id} round {view.round}: slices {run.start} to {run.stop - 1} "
                f"not checked yet: {group.exceptions[0]}"
            )
        if malformed and len(run) > 1:
            # Which of them it is in shows when each is read alone.
            for index in run:
                await self._look(view, claim, range(index, index + 1))
        elif malformed:
            for error in malformed:
                self._malformed(error.root, str(error))
            # Of what is no update nobody has a sum.
            self._verdicts[claim, run.start] = False

    async def _say(self, view: RoundView, trial: TrialView, right: tuple[int, ...], wrong: int | None) -> None:
        claim, turn = trial.aggregate, (trial.aggregate, trial.since)
        if wrong is not None and turn in self._disputed:
            return
        try:
            error = await self._node.transact(
                "training.find_slices",
                task=self._slices.task.id,
                round=view.round,
                attempt=view.attempt,
                accepted=bitmap(claim.accepted, len(view.slots)),
                params_root=claim.params_root,
                optimizer_root=claim.optimizer_root,
                right=bitmap(right, self._slices.count),
                wrong=wrong,
            )
        except NodeError as failure:
            error = str(failure)
        place = f"task {self._slices.task.id} round {view.round}"
        if wrong is not None:
            self._disputed.add(turn)
            outcome = "disputed" if error is None else f"wrong, and not disputed: {error}"
            self._report(f"{place}: slice {wrong} of an aggregate is {outcome}")
        elif error is None:
            self._report(f"{place}: found {len(right)} of {self._slices.count} slices right")
        # A trial that was over first needs no word any more.
