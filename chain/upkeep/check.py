"""Looks over a database for what does not belong together: blocks, seals, indexes, kept states and the vote log.

Pure reading: what is found is said, with the command that mends it, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chain.adoption import KEPT_HANDOVER, SEAL
from chain.ledger import BODY
from chain.primitives import bls, merkle
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.merkle import ProofError, Root, child_place, ordered_root, parse_node, root_hash, verify_proof
from chain.primitives.merkle_chunks import TreeBuilder
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal, ValidatorSet, seal_claim, verify_seal
from chain.primitives.types import HEADER, Header
from chain.store import Head, Snapshot
from consensus.wal import WalCorrupt, WalFailed, WalForeign, height_of
from runtime.composition import Runtime, View
from runtime.handover import handover_keys
from runtime.modules.validators import Validators
from runtime.state import DictState, StateFailed

# One damaged region of a disk hits many blocks: who reads more than so many lines learns nothing new.
FINDINGS_MAX: Final = 20
# Signatures that are verified together, for a third of what they cost alone.
SEALS_AT_ONCE: Final = 64

FETCH_AGAIN: Final = "purge"

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and the `potchain db` command that mends it; empty where something else does."""

    what: str
    mend: str


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong with it."""

    head: int = 0
    blocks: int = 0
    seals: int = 0
    seals_unknown: int = 0  # of sets that the folder does not know: nothing can be said of those
    states: int = 0
    nodes: int = 0
    voted_at: int | None = None  # the height of the vote log; None where there is none
    findings: list[Finding] = field(default_factory=list)
    more: int = 0  # findings that were left out

    def add(self, what: str, mend: str) -> None:
        """Note what is wrong."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(what, mend))
        else:
            self.more += 1


class Checker:
    """Looks over one database. `tell(what, done, total)` is called as it goes on."""

    def __init__(
        self, snapshot: Snapshot, runtime: Runtime[View], genesis_state: Mapping[bytes, bytes], tell: Tell
    ) -> None:
        self._snapshot = snapshot
        self._runtime = runtime
        self._tell = tell
        self._keys = handover_keys(runtime)
        genesis_hash = snapshot.hash_at(0)
        assert genesis_hash is not None  # The folder was opened as this chain's.
        self._genesis_hash: Hash = genesis_hash
        first = self._set_in(genesis_state)
        self._sets: dict[int, ValidatorSet] = {first.set_id: first}
        self._place: Head = snapshot.head()
        self.report = Report(head=self._place.height)

    def fast(self) -> Report:
        """The head alone: its header, its seal where who made it is known, and the tree that its state hangs on."""
        place = self._place
        header = self._header(place.height, place.hash)
        if header is None:
            return self.report
        self.report.blocks = 1
        if place.height > place.oldest_state:
            with_parent = self._snapshot.root_at(place.height - 1)
            self._know(self._read_set(with_parent))
            self._check_seals([seal for seal in [self._seal(place.height, place.hash)] if seal is not None])
        root = self._snapshot.root_at(place.height)
        if root_hash(root) != header.state_root:
            self.report.add(f"the state after block {place.height} is not the one that its header names", FETCH_AGAIN)
        elif root is not None:
            self._node_of(root, f"the state after block {place.height}")
        self.report.states = 1
        return self.report

    def everything(self) -> Report:
        """All of it."""
        self._check_blocks()
        self._check_states()
        return self.report

    # --- blocks ---

    def _check_blocks(self) -> None:
        snapshot, report, place = self._snapshot, self.report, self._place
        lowest = snapshot.lowest()
        handovers = {set_id: KEPT_HANDOVER.decode(snapshot.handover(set_id) or b"") for set_id in self._handover_sets()}
        ended_at = {kept.height: set_id for set_id, kept in handovers.items()}
        before: tuple[int, Hash] | None = None
        pending: list[Seal] = []
        whole = 0
        for height, block_hash in snapshot.hashes():
            header = self._header(height, block_hash)
            report.blocks += 1
            if height % 256 == 0:
                self._tell("blocks", height, place.height)
            if height > lowest and (before is None or before[0] != height - 1):
                report.add(f"block {height - 1} is missing", self._undo(height - 1))
            if header is None:
                before = (height, block_hash)
                continue
            if before is not None and before[0] == height - 1 and header.parent_hash != before[1]:
                report.add(f"block {height} does not follow from block {height - 1}", self._undo(height))
            before = (height, block_hash)
            if height == 0 or height >= lowest:
                whole += 1
                self._check_body(height, block_hash, header)
            if height and (seal := self._seal(height, block_hash)) is not None:
                pending.append(seal)
            if len(pending) == SEALS_AT_ONCE or height in ended_at:
                self._check_seals(pending)
                pending.clear()
            if height in ended_at:
                self._hand_over(ended_at[height], header, handovers[ended_at[height]].proof)
        self._check_seals(pending)
        if before != (place.height, place.hash):
            report.add(f"the head is block {place.height}, but the last block is {before}", FETCH_AGAIN)
        self._check_counts(whole)

    def _check_counts(self, whole: int) -> None:
        """Rows that no height leads to."""
        counts = self._snapshot.counts()
        expected = {"headers": counts["heights"], "bodies": whole, "seals": counts["heights"] - 1}
        for table, count in expected.items():
            if not self.report.findings and counts[table] != count:
                self.report.add(f"the table {table} has {counts[table]} rows, expected {count}", FETCH_AGAIN)

    def _header(self, height: int, block_hash: Hash) -> Header | None:
        encoded = self._snapshot.header(block_hash)
        try:
            header = None if encoded is None else HEADER.decode(encoded)
        except ScaleError:
            header = None
        if header is None or header.height != height or header.hash != block_hash:
            self.report.add(f"the header of block {height} is not what its hash says", self._undo(height))
            return None
        return header

    def _check_body(self, height: int, block_hash: Hash, header: Header) -> None:
        encoded = self._snapshot.body(block_hash)
        try:
            is_whole = encoded is not None and ordered_root(BODY.decode(encoded)) == header.extrinsics_root
        except ScaleError:
            is_whole = False
        if not is_whole:
            self.report.add(f"the extrinsics of block {height} are not those of its header", self._undo(height))

    def _seal(self, height: int, block_hash: Hash) -> Seal | None:
        encoded = self._snapshot.seal(block_hash)
        try:
            seal: Seal | None = None if encoded is None else SEAL.decode(encoded)
        except ScaleError:
            seal = None
        if seal is None or (seal.height, seal.block_hash) != (height, block_hash):
            self.report.add(f"the seal of block {height} is missing, or of another block", self._undo(height))
            return None
        return seal

    def _check_seals(self, seals: list[Seal]) -> None:
        """Verify signatures together, and one by one where that fails, to name the block."""
        known = [(seal, self._sets[seal.set_id]) for seal in seals if seal.set_id in self._sets]
        self.report.seals += len(known)
        self.report.seals_unknown += len(seals) - len(known)
        claims = [seal_claim(validators, self._genesis_hash, seal) for seal, validators in known]
        genuine = [claim for claim in claims if claim is not None]
        if len(genuine) == len(known) and bls.verify_all(genuine):
            return
        for seal, validators in known:
            if not verify_seal(validators, self._genesis_hash, seal):
                self.report.add(f"the seal of block {seal.height} does not prove it", self._undo(seal.height))

    # --- validator sets ---

    def _handover_sets(self) -> Iterator[int]:
        for set_id in self._snapshot.handover_sets():
            try:
                KEPT_HANDOVER.decode(self._snapshot.handover(set_id) or b"")
            except ScaleError:
                self.report.add(f"what was kept of the end of validator set {set_id} does not read", FETCH_AGAIN)
            else:
                yield set_id

    def _hand_over(self, set_id: int, header: Header, proof: list[bytes]) -> None:
        try:
            values = verify_proof(header.state_root, self._keys, proof)
            successor = self._set_in({key: value for key, value in values.items() if value is not None})
        except (ProofError, ScaleError, ValueError) as error:
            self.report.add(f"block {header.height} does not prove who came after set {set_id}: {error}", FETCH_AGAIN)
        else:
            self._know(successor)

    def _set_in(self, state: Mapping[bytes, bytes]) -> ValidatorSet:
        return self._runtime.at(DictState(dict(state))).module(Validators).validator_set()

    def _read_set(self, root: Root | None) -> ValidatorSet:
        values = {key: merkle.get(self._snapshot, root, key) for key in self._keys}
        return self._set_in({key: value for key, value in values.items() if value is not None})

    def _know(self, validators: ValidatorSet) -> None:
        self._sets[validators.set_id] = validators

    # --- states ---

    def _check_states(self) -> None:
        """Every node that a kept state uses has the hash that the node above says, and there are no others."""
        snapshot, report, place = self._snapshot, self.report, self._place
        total = snapshot.counts()["nodes"]
        seen: set[int] = set()
        for height in range(place.oldest_state, place.height + 1):
            what = f"the state after block {height}"
            try:
                root = snapshot.root_at(height)
            except KeyError:
                report.add(f"{what} is missing", FETCH_AGAIN)
                continue
            block_hash = snapshot.hash_at(height)
            encoded = None if block_hash is None else snapshot.header(block_hash)
            report.states += 1
            if encoded is None:
                continue  # Said of the blocks.
            try:
                expected = HEADER.decode(encoded).state_root
            except ScaleError:
                continue
            if root_hash(root) != expected:
                report.add(f"{what} is not the one that its header names", FETCH_AGAIN)
            pending = [] if root is None else [root]
            while pending:
                at = pending.pop()
                if at.id in seen:
                    continue
                seen.add(at.id)
                if len(seen) % 4096 == 0:
                    self._tell("states", len(seen), total)
                pending.extend(self._children(at, what))
        report.nodes = len(seen)
        if not report.findings and (unused := sum(node_id not in seen for node_id in snapshot.node_ids())):
            report.add(f"{unused} nodes of the tree are of no kept state", FETCH_AGAIN)
        self._check_flat()

    def _children(self, place: Root, what: str) -> list[Root]:
        node = self._node_of(place, what)
        if node is None:
            return []
        _, _, bitmap, hashes = parse_node(node)
        return [child_place(node, bitmap, hashes, rank) for rank in range(bitmap.bit_count())]

    def _node_of(self, place: Root, what: str) -> bytes | None:
        """A node that has the hash which the node above says."""
        try:
            node = self._snapshot.node(place.id)
            _, _, bitmap, hashes = parse_node(node)
            if blake2_256(node[: hashes + 32 * bitmap.bit_count()]) == place.hash:
                return node
        except (KeyError, IndexError, StateFailed):
            pass
        self.report.add(f"node {place.id} of {what} is damaged, or missing", FETCH_AGAIN)
        return None

    def _check_flat(self) -> None:
        """The head's state is stored flat, too: it has to make the same root."""
        total = self._snapshot.state_keys()
        builder = TreeBuilder(0)
        for number, (key, value) in enumerate(self._snapshot.entries()):
            builder.add(key, value)
            builder.nodes.clear()
            if number % 4096 == 0:
                self._tell("keys", number, total)
        encoded = self._snapshot.header(self._place.hash)
        try:
            expected = None if encoded is None else HEADER.decode(encoded).state_root
        except ScaleError:
            expected = None
        if expected is not None and root_hash(builder.finish()) != expected:
            self.report.add("the keys of the head's state do not make its root", FETCH_AGAIN)

    # --- what mends it ---

    def _undo(self, height: int) -> str:
        """What takes a damaged block away: fetched again it is whole."""
        if height > self._place.oldest_state:
            return f"revert {self._place.height - height + 1}"
        return FETCH_AGAIN


def check_vote_log(path: Path, report: Report) -> None:
    """The vote log, as far as it shows without the validator's key."""
    if not path.exists():
        return
    try:
        report.voted_at = height_of(path)
    except (WalCorrupt, WalForeign, WalFailed) as error:
        report.add(str(error), "")
