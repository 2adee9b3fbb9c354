"""An auditor's measurements for a federated task: models with and without contributions, on the held-out rows.

Rule: what was measured once in a round is not measured again, and only losses are kept, never the models.
"""

from __future__ import annotations

from collections.abc import Mapping

from chain.primitives.hashing import Hash
from trainer import scoring
from trainer.job import Job
from trainer.sandbox import Engine
from trainer.scoring import Score, Scored
from trainer.spill import Summand
from trainer.views import RoundView


class Scorer:
    """Scores one task's slots, round after round."""

    def __init__(self, scored: Scored, engine: Engine, job: Job) -> None:
        self._scored = scored
        self._engine = engine
        self._job = job
        # Losses of this round's models, by the updates that make them.
        self._round: tuple[int, int, Hash] | None = None
        self._losses: dict[tuple[Hash | None, ...], int] = {}

    async def judge(self, view: RoundView, updates: Mapping[int, Summand], auditor: bytes) -> dict[int, Score]:
        """The scores of the slots drawn for this auditor; of all, once there is a reason to look at all of them.

        The reasons: somebody has challenged one, all together make the model worse, or one that was drawn is harmful,
        which it may only seem to be beside another: a challenge that is refuted costs its auditor.
        """
        now = (view.round, view.attempt, view.params_root)
        if self._round != now:
            self._round, self._losses = now, {}

        async def loss(slots: tuple[int, ...]) -> int:
            key = tuple(view.slots[slot].update_root for slot in slots)
            if key not in self._losses:
                theta = await self._job.theta_with(view, {slot: updates[slot] for slot in slots})
                evaluation, count = await self._job.evaluate(self._engine, theta)
                self._losses[key] = scoring.in_micro(evaluation.loss_sum / count)
            return self._losses[key]

        slots = sorted(updates)
        if not slots:
            return {}
        challenged = [slot for slot in slots if view.slots[slot].challenged]
        if not challenged and not await scoring.is_suspicious(self._scored, slots, loss):
            drawn = [slot for slot in slots if auditor in view.slots[slot].auditors]
            scores = await scoring.score(self._scored, slots, drawn, loss)
            if all(score.right for score in scores.values()):
                return scores
        return await scoring.eliminate(self._scored, slots, challenged, loss)
