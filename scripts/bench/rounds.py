"""Counts the blocks that a round takes, by how long workers and auditors compute, with and without the round ahead.

    .venv/bin/python scripts/bench/rounds.py

The real runtime with participants who compute for so many blocks, all at once, and send what they have in the first
block after; nobody sees what a block does before it is final. Without confirmations no round begins ahead.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from figures import record

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from runtime.modules.training_types import Phase
from tests.runtime.training_kit import POLICY, Story

ROUNDS = 6
# The first rounds find nothing that has begun.
WARM_UP = 2
BLOCKS_MAX = 10_000
WORK = (0, 5, 20)
AUDIT = (0, 5, 20)
SHORT = ((0,), (0, 5))


def blocks_a_round(work: int, audit: int, *, ahead: bool) -> float:
    """The mean over some rounds."""
    story = Story(rounds=ROUNDS + 1, policy=replace(POLICY, commit_blocks=1000, audit_blocks=1000))
    for _ in range(BLOCKS_MAX):
        if story.task().round == ROUNDS:
            break
        newest, running, height = story.newest(), story.state(), story.chain.height
        if newest.phase is Phase.COMMIT and height == newest.opened_at + 1 + work:
            story.commit_all()
        elif newest.phase is Phase.REVEAL and not any(slot.update_root for slot in newest.slots):
            for slot in range(len(newest.slots)):
                story.reveal_one(slot)
        # An audit that a block opens is seen after it, and what was revealed in the block before is seen in this one.
        if ahead and 0 in story.training.first_beacons:
            story.confirm()
        if running.phase is Phase.AUDIT and height == running.deadline - 1000 + 1 + audit:
            story.attest()
        story.next()
    heights = [story.training.history[0, round_].finalised_at for round_ in range(WARM_UP, ROUNDS)]
    return (heights[-1] - heights[0]) / (len(heights) - 1)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="two cells")
    short = parser.parse_args().short
    works, audits = SHORT if short else (WORK, AUDIT)
    print("blocks a round: one after another / begun ahead")
    print("computing takes  " + "".join(f"{f'an audit {audit}':>16}" for audit in audits))
    for work in works:
        print(f"a slot {work:>3} blocks", end="")
        for audit in audits:
            each = [blocks_a_round(work, audit, ahead=ahead) for ahead in (False, True)]
            for blocks, ahead in zip(each, ("one after another", "begun ahead"), strict=True):
                record(f"a slot {work} blocks, an audit {audit}, {ahead}", [blocks], "blocks a round")
            print(f"{' / '.join(f'{blocks:.1f}' for blocks in each):>16}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
