"""Beginning with a recent state: what of it is proven already, what to ask for next, and what an answer proves.

The rule: from genesis to the newest set by each set's own seal, from there to one sealed block, and from its state root
to every key of the state; nothing is kept that does not hang on that chain. Nothing here asks or waits.
"""

from __future__ import annotations

from chain.adoption import SEAL, Handover
from chain.ledger import SealedBlock
from chain.light.checkpoint import Checkpoint
from chain.light.errors import Untrue
from chain.light.follower import reach
from chain.net.messages import Handovers, StateNodes
from chain.primitives.merkle import EMPTY_ROOT, ProofError
from chain.primitives.merkle_chunks import verify_chunk
from chain.primitives.scale import ScaleError
from chain.primitives.seal import verify_seal
from chain.primitives.types import HEADER
from chain.sync.planner import FalseAnswer
from chain.sync.progress import StateProgress
from chain.sync.proving import read_block
from runtime.composition import Runtime, View


class WarpPlan:
    """Where a warp stands. `take_…` cost pairings and hashes: call them in a thread, one at a time."""

    def __init__(self, runtime: Runtime[View], genesis: Checkpoint) -> None:
        self._runtime = runtime
        self.at = genesis  # The last block of the newest set whose end is proven, and who decides after it.
        self._handovers: list[Handover] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """Choose another block: the state of this one is nowhere to be had any more. Set changes stay proven."""
        self.block: SealedBlock | None = None
        self.is_complete = False
        self._after = b""
        self._keys = self._keys_expected = self._bytes = 0

    @property
    def handovers(self) -> list[Handover]:
        """How the sets came to the one that has sealed the chosen block; what that block hands over, its state says."""
        assert self.block is not None
        return [each for each in self._handovers if each.header.height < self.block.block.header.height]

    @property
    def after(self) -> bytes:
        """The last key that has come; empty when none has."""
        return self._after

    @property
    def state(self) -> StateProgress | None:
        """How much of the state has come, None while no block is chosen."""
        if self.block is None:
            return None
        return StateProgress(self.block.block.header.height, self._keys, self._keys_expected, self._bytes)

    def take_handovers(self, answer: Handovers) -> None:
        """Go on to the newest set that these lead to; raises FalseAnswer at the first that leads nowhere."""
        for header, seal, proof in answer.handovers:
            try:
                handover = Handover(HEADER.decode(header), SEAL.decode(seal), list(proof))
                if (handover.seal.height, handover.seal.block_hash) != (handover.header.height, handover.header.hash):
                    raise Untrue(f"the seal is of block {handover.seal.height}, the header of another")
                self.at = reach(self._runtime, self.at, handover.header, handover.seal, handover.proof)
            except (ScaleError, Untrue) as error:
                raise FalseAnswer(f"a false handover of validator set {self.at.validators.set_id}: {error}") from None
            self._handovers.append(handover)

    def take_block(self, encoded: bytes, height: int) -> bool:
        """Choose a block for its state, if the newest set has sealed it; False when a later one says that it has.

        Raises FalseAnswer for what nobody has sealed.
        """
        sealed = read_block(encoded, height)
        validators = self.at.validators
        if sealed.seal.set_id > validators.set_id:
            return False
        is_end = bool(self._handovers) and sealed.seal == self._handovers[-1].seal  # Of the newest set, and proven.
        if not is_end and not (height > self.at.height and verify_seal(validators, self.at.genesis_hash, sealed.seal)):
            raise FalseAnswer(f"the seal of block {height} does not prove it")
        self.block = sealed
        self.is_complete = sealed.block.header.state_root == EMPTY_ROOT
        return True

    def take_state(self, answer: StateNodes) -> list[tuple[bytes, bytes]]:
        """The next keys of the chosen block's state, with their values; raises FalseAnswer for anything else."""
        assert self.block is not None
        try:
            chunk = verify_chunk(self.block.block.header.state_root, self._after or None, answer.nodes)
        except ProofError as error:
            raise FalseAnswer(f"a false part of the state: {error}") from None
        if chunk.entries:
            self._after = chunk.entries[-1][0]
        self._keys += len(chunk.entries)
        self._keys_expected = max(self._keys, answer.keys)
        self._bytes += sum(map(len, answer.nodes))
        self.is_complete = chunk.is_last
        return chunk.entries
