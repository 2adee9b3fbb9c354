"""What a node tells its operator: a line a block, a line a round, and who is missing when no block comes."""

from __future__ import annotations

from collections.abc import Callable

import trio

from chain.adoption import SEAL
from chain.author import now_ms, parent_seal_of, timestamp_of
from chain.display import Names, Token, block_line, round_line
from chain.importer import Imported
from chain.ledger import Ledger
from chain.log import Line, Log
from chain.primitives.keys import Keypair
from chain.primitives.seal import ValidatorSet
from chain.primitives.types import Block, is_signed
from chain.seen import Seen
from genesis.spec import GenesisSpec
from runtime.modules.training import Training
from runtime.modules.validators import Validators

BLOCK, ROUND, TASK, STALL = Log("block"), Log("round"), Log("task"), Log("stall")

STALL_BLOCK_TIMES = 8  # a chain that is silent for so many block times is worth a word


class Reporter:
    """Logs. `why_stalled()` says what the node waits for; asked only when no block came for long."""

    def __init__(self, spec: GenesisSpec, ledger: Ledger, why_stalled: Callable[[], Line]) -> None:
        keys = spec.development
        known = (*keys.validators, *keys.workers, *keys.aggregators) if keys else ()
        accounts = {Keypair.from_uri(key.uri).public: key.name for key in known}
        self.names = Names(accounts, spec.properties.ss58_format)
        self._token = Token(spec.properties.token_symbol, spec.properties.token_decimals)
        self._patience = STALL_BLOCK_TIMES * spec.timing.block_time_ms / 1000
        self._ledger = ledger
        self._why_stalled = why_stalled
        self.seen = Seen()

    def imported(self, imported: Imported, *, quietly: bool) -> None:
        """A block became the head; quietly, while there are so many that progress has a line of its own."""
        seen, executed, validators = self.seen, imported.executed, imported.validators
        seen.head_at, seen.stalled = trio.current_time(), False
        seen.blocks += 1
        seen.weight = executed.executed.weight
        transactions = sum(map(is_signed, executed.block.extrinsics))
        seen.transactions += transactions
        for record in executed.executed.events:
            if isinstance(record.event, Training.RoundFinalised) and record.event.evaluation is not None:
                found = record.event.evaluation
                seen.measured[record.event.task] = (found.loss_micro / 1e6, found.accuracy_ppm / 1e6)
            elif isinstance(record.event, Training.TaskCompleted):
                seen.measured.pop(record.event.task, None)
        if quietly:
            return
        seen.skew = (timestamp_of(self._ledger.runtime, executed.block) - now_ms()) / 1000
        header = executed.block.header
        view = header.consensus.view
        author = self.names[validators.primary(header.height, view).account]
        missing, voters = self._missing(executed.block, validators)
        BLOCK.info(
            block_line(header.height, executed.hash, author, missing, voters, view, transactions),
            height=header.height,
            hash=executed.hash,
            author=author,
            view=view,
            transactions=transactions,
            missing=missing,
            validators=voters,
        )
        for record in executed.executed.events:
            if isinstance(record.event, Training.RoundFinalised):
                self._tell_round(record.event)
            elif isinstance(record.event, Training.TaskCompleted):
                TASK.info(self._ended_line(record.event.task), task=record.event.task)

    def _missing(self, block: Block, validators: ValidatorSet) -> tuple[list[str], int]:
        """Who did not seal the parent, and of how many: the block says so, with the votes that came late.

        `validators` sealed the block itself; the parent's may have been those of the session before.
        """
        seal = parent_seal_of(self._ledger.runtime, block)
        if seal is None:
            return [], validators.n
        if seal.set_id != validators.set_id:
            with self._ledger.state() as state:
                validators = self._ledger.runtime.at(state).module(Validators).recorded_set(seal.set_id)
        voters = seal.voter_indices(validators.n)
        accounts = [each.account for each in validators.authorities]
        missing = [account for i, account in enumerate(accounts) if i not in voters]
        self.seen.sealed(missing, accounts)
        self.seen.validators, self.seen.seal_voters = validators.n, len(voters)
        self.seen.seal_bytes = len(SEAL.encode(seal))
        return [self.names[account] for account in missing], validators.n

    def _tell_round(self, event: Training.RoundFinalised) -> None:
        with self._ledger.state() as state:
            training = self._ledger.runtime.at(state).module(Training)
            task, record = training.tasks[event.task], training.history[event.task, event.round]
        found = event.evaluation
        self.seen.rounds += 1
        self.seen.minted += event.minted
        self.seen.slots.update("accepted" if slot.accepted else "rejected" for slot in record.slots)
        rejected = sorted({self.names[slot.worker] for slot in record.slots if not slot.accepted and not slot.planted})
        name = task.name.decode(errors="replace")
        accepted, planted = sum(slot.accepted for slot in record.slots), sum(slot.planted for slot in record.slots)
        measured = None if found is None else (found.loss_micro / 1e6, found.accuracy_ppm / 1e6)
        ROUND.info(
            round_line(
                name,
                event.round,
                measured,
                accepted,
                planted,
                len(record.slots),
                self._token.format(event.minted),
            )
            + (f"  without {', '.join(rejected)}" if rejected else ""),
            task=event.task,
            title=name,
            round=event.round,
            loss=None if measured is None else measured[0],
            accuracy=None if measured is None else measured[1],
            accepted=accepted,
            planted=planted,
            slots=len(record.slots),
            minted=event.minted,
            rejected=rejected,
        )

    def _ended_line(self, task: int) -> str:
        with self._ledger.state() as state:
            ended = self._ledger.runtime.at(state).module(Training).tasks[task]
        return f"{ended.name.decode(errors='replace')} has ended: potchain task fetch {task} -o FILE"

    async def watch_for_stalls(self) -> None:
        """Say every few seconds why no block comes, until cancelled."""
        self.seen.head_at = trio.current_time()
        while True:
            await trio.sleep(self._patience / 2)
            silent = trio.current_time() - self.seen.head_at
            if silent > self._patience:
                self.seen.stalls += not self.seen.stalled
                self.seen.stalled = True
                height, why = self._ledger.head.height, self._why_stalled()
                text = f"no block for {silent:.0f} s after height {height}: {why.text}"
                STALL.warning(text, height=height, seconds=round(silent, 1), **why.fields)
