"""Names who a round of training waits for, when it waits for long: auditors that do not run, or workers.

A round tells nobody that it stands still: without this, an operator sees blocks go by and no round.
"""

from __future__ import annotations

import trio

from chain.display import Names, attestations_line
from chain.ledger import Ledger
from chain.log import Line, Log
from chain.primitives.types import Header
from chain.rpc.broadcast import Broadcast
from runtime.modules.training import Training
from runtime.modules.training_types import Phase, RoundState
from runtime.modules.validators import Validators

# A round that goes well is audited in three blocks and opened in one; the news are told again once in a while.
WAITED_BLOCKS = 15
AGAIN_BLOCKS = 60
IDLE = Line("none is left to train; potchain task new makes one")


class RoundNews:
    """`run` it once, on a chain that has Training."""

    def __init__(self, ledger: Ledger, names: Names) -> None:
        self._ledger = ledger
        self._names = names
        self._is_idle = False  # whether that is told
        self._due: dict[int, int] = {}  # by task, the height from which on it is told again

    async def run(self, heads: Broadcast[Header]) -> None:
        """Say what waits, and that nothing trains, until cancelled."""
        with heads.subscribe(newest=True) as receiver:
            async for _ in receiver:
                for line in await trio.to_thread.run_sync(self.news):
                    if line is IDLE:
                        Log("task").info(line.text)
                    else:
                        Log("wait").warning(line.text, **line.fields)

    def news(self) -> list[Line]:
        """A line for each round that has waited for long after the newest block; called in a thread."""
        with self._ledger.state() as state:
            view = self._ledger.runtime.at(state)
            height, training = state.header.height, view.module(Training)
            quorum = view.module(Validators).validator_set().quorum
            tasks = training.active_tasks.get()
            told = [] if tasks or self._is_idle else [IDLE]
            self._is_idle = not tasks
            self._due = {task: height for task, height in self._due.items() if task in tasks}
            for task in tasks:
                line = self._line(training, task, training.rounds[task], height, quorum)
                if line is None:
                    self._due.pop(task, None)
                elif height >= self._due.get(task, 0):
                    self._due[task] = height + AGAIN_BLOCKS
                    told.append(line)
            return told

    def _line(self, training: Training, task: int, state: RoundState, height: int, quorum: int) -> Line | None:
        name = training.tasks[task].name.decode(errors="replace")
        about = {"task": task, "title": name, "round": state.round, "phase": state.phase.name.lower()}
        if state.phase is Phase.IDLE and height >= state.opened_at + WAITED_BLOCKS:
            return Line(f"{name}, round {state.round}: no worker is free to be drawn; potchain worker runs one", about)
        audit_began = state.deadline - training.tasks[task].policy.audit_blocks
        if state.phase is not Phase.AUDIT or height < audit_began + WAITED_BLOCKS:
            return None
        accounts = training.validator_accounts()
        attested = {attestation.validator for attestation in state.attestations}
        missing = [self._names[account] for account in accounts if account not in attested]
        text = f"{name}, round {state.round}: {attestations_line(len(accounts), quorum, missing)}"
        return Line(text, {**about, "missing": missing})
