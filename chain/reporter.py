"""What a node tells its operator: a line a block, a line a round, and who is missing when no block comes."""

from __future__ import annotations

from collections.abc import Callable

import trio

from chain.author import parent_seal_of
from chain.display import Names, Token, block_line, round_line
from chain.importer import Imported
from chain.ledger import Ledger
from chain.log import Line, Log
from chain.primitives.keys import Keypair
from chain.primitives.scale import compact_decode
from chain.primitives.seal import ValidatorSet
from chain.primitives.types import SIGNED_BIT, Block
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
        self._head_at = 0.0

    def imported(self, imported: Imported, *, quietly: bool) -> None:
        """A block became the head; quietly, while there are so many that progress has a line of its own."""
        self._head_at = trio.current_time()
        if quietly:
            return
        executed, validators = imported.executed, imported.validators
        header = executed.block.header
        view = header.consensus.view
        author = self.names[validators.primary(header.height, view).account]
        missing, voters = self._missing(executed.block, validators)
        transactions = sum(1 for raw in executed.block.extrinsics if _is_signed(raw))
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
        missing = [self.names[each.account] for i, each in enumerate(validators.authorities) if i not in voters]
        return missing, validators.n

    def _tell_round(self, event: Training.RoundFinalised) -> None:
        with self._ledger.state() as state:
            training = self._ledger.runtime.at(state).module(Training)
            task, record = training.tasks[event.task], training.history[event.task, event.round]
        found = event.evaluation
        rejected = sorted({self.names[slot.worker] for slot in record.slots if not slot.accepted and not slot.planted})
        name, accepted = task.name.decode(errors="replace"), sum(1 for slot in record.slots if slot.accepted)
        measured = None if found is None else (found.loss_micro / 1e6, found.accuracy_ppm / 1e6)
        ROUND.info(
            round_line(
                name,
                event.round,
                measured,
                accepted,
                len(record.slots),
                self._token.format(event.minted),
                f"  without {', '.join(rejected)}" if rejected else "",
            ),
            task=event.task,
            title=name,
            round=event.round,
            loss=None if measured is None else measured[0],
            accuracy=None if measured is None else measured[1],
            accepted=accepted,
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
        self._head_at = trio.current_time()
        while True:
            await trio.sleep(self._patience / 2)
            silent = trio.current_time() - self._head_at
            if silent > self._patience:
                height, why = self._ledger.head.height, self._why_stalled()
                text = f"no block for {silent:.0f} s after height {height}: {why.text}"
                STALL.warning(text, height=height, seconds=round(silent, 1), **why.fields)


def _is_signed(raw: bytes) -> bool:
    """Whether a block's extrinsic is a transaction: its first byte behind the length says so, at any size of block."""
    _, start = compact_decode(raw, 0)
    return bool(raw[start] & SIGNED_BIT)
