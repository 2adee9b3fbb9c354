"""What clients were told, and whether all of it can be true: pure bookkeeping, no clock and no network of its own.

The rule: a block hash or a transaction that any node ever called final holds at that height for every node, for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chain.primitives.hashing import Hash, blake2_256

VIOLATIONS_MAX: Final = 50  # one mistake is repeated at every height: no need to keep them all


@dataclass(slots=True)
class Transaction:
    """One that a client has sent: what it was told of it, and where it was found."""

    sent_at: float
    told_final_in: Hash | None = None
    told_at: float | None = None


@dataclass(slots=True)
class History:
    """The union of what all nodes ever told. `violations` are sentences; there must be none."""

    hashes: dict[int, Hash] = field(default_factory=dict)
    heights: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # the greatest that each node told
    transactions: dict[Hash, Transaction] = field(default_factory=dict)
    included: dict[Hash, int] = field(default_factory=dict)  # heights of all transactions in blocks that were read
    violations: list[str] = field(default_factory=list)

    @property
    def height(self) -> int:
        """The greatest that anybody told."""
        return max(self.hashes, default=0)

    def accuse(self, violation: str) -> None:
        """Note what must not be, once."""
        if violation not in self.violations and len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(violation)

    def told_block(self, node: str, height: int, block_hash: Hash) -> None:
        """A node named its final block at a height."""
        known = self.hashes.setdefault(height, block_hash)
        if known != block_hash:
            self.accuse(f"height {height}: {node} says 0x{block_hash.hex()}, and 0x{known.hex()} was told before")

    def told_head(self, node: str, height: int, block_hash: Hash, *, floor: int = 0) -> None:
        """A node named its newest block, when asked after it had told of `floor`."""
        if height < floor:
            self.accuse(f"{node} went back: it says that its newest block is {height}, after it told of {floor}")
        self.heights[node] = max(self.heights[node], height)
        self.told_block(node, height, block_hash)

    def forgot(self, node: str) -> None:
        """A node lost its folder: it may begin anew, with the same blocks."""
        self.heights[node] = 0

    def sent(self, raw: bytes, now: float) -> Hash:
        """A client submits a transaction for the first time."""
        extrinsic_hash = blake2_256(raw)
        self.transactions[extrinsic_hash] = Transaction(now)
        return extrinsic_hash

    def told_final(self, node: str, extrinsic_hash: Hash, block_hash: Hash, now: float) -> None:
        """A node told who watched a transaction which block made it final."""
        transaction = self.transactions[extrinsic_hash]
        if transaction.told_final_in not in (None, block_hash):
            self.accuse(f"{node} says that 0x{extrinsic_hash.hex()} is final in a second block, 0x{block_hash.hex()}")
            return
        transaction.told_final_in = block_hash
        if transaction.told_at is None:
            transaction.told_at = now

    def read_body(self, node: str, height: int, body: Sequence[bytes], now: float) -> None:
        """A node gave a final block's extrinsics."""
        for raw in body[1:]:  # Behind the time, which two blocks may well have in common.
            extrinsic_hash = blake2_256(raw)
            before = self.included.setdefault(extrinsic_hash, height)
            if before != height:
                self.accuse(f"0x{extrinsic_hash.hex()} is in two blocks, {before} and {height}, says {node}")
            transaction = self.transactions.get(extrinsic_hash)
            if transaction is not None and transaction.told_at is None:
                transaction.told_at = now

    def check_chain(self, node: str, chain: Mapping[int, tuple[Hash, Sequence[bytes]]], height: int) -> None:
        """Compare a node's chain up to a height, as it is now, with all that was ever told of it."""
        places: dict[Hash, list[int]] = defaultdict(list)
        for at, (block_hash, body) in sorted(chain.items()):
            known = self.hashes.get(at)
            if known != block_hash:
                what = "nobody told of any" if known is None else f"0x{known.hex()} was told"
                self.accuse(f"height {at}: {node} has 0x{block_hash.hex()} now; {what}")
            for raw in body[1:]:
                places[blake2_256(raw)].append(at)
        for missing in range(height + 1):
            if missing not in chain and missing in self.hashes:
                self.accuse(f"height {missing}: {node} has no block, and 0x{self.hashes[missing].hex()} was told")
        for extrinsic_hash, transaction in self.transactions.items():
            found = places.get(extrinsic_hash, [])
            if len(found) > 1:
                self.accuse(f"0x{extrinsic_hash.hex()} is in {node}'s chain {len(found)} times, at {found}")
            if transaction.told_at is not None and not found:
                self.accuse(f"0x{extrinsic_hash.hex()} was told final, and is not in {node}'s chain")
            if transaction.told_final_in is not None and found:
                holder = chain[found[0]][0]
                if holder != transaction.told_final_in:
                    self.accuse(
                        f"0x{extrinsic_hash.hex()} was told final in 0x{transaction.told_final_in.hex()}, and {node} "
                        f"has it in 0x{holder.hex()}"
                    )
