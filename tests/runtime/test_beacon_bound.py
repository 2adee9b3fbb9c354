"""What a coalition can make of the beacon by letting its turns pass: counted, and held against docs/beacon.md."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path

import pytest

from chain.primitives.hashing import blake2_256

PAGE = Path(__file__).resolve().parents[2] / "docs" / "beacon.md"


def outcomes(n: int, coalition: frozenset[int], last: int, before: bytes = bytes(32), start: int = 0) -> set[bytes]:
    """Every beacon that the coalition can bring about at height `last`, playing from `start` on."""
    if start > last:
        return {before}
    found: set[bytes] = set()
    for view in range(n):
        primary = (start + view) % n
        share = blake2_256(b"%d %d" % (primary, start))  # Unique for a key and a height, whatever the view.
        found |= outcomes(n, coalition, last, blake2_256(before + share), start + 1)
        if primary not in coalition:
            break  # An honest primary proposes, and nobody can keep it from being heard.
    return found


@pytest.mark.parametrize(("n", "f"), [(4, 1), (7, 2), (10, 3)])
def test_no_seating_of_f_gives_more_than_the_bound_between_two_honest_turns(n: int, f: int) -> None:
    most = 0
    for members in combinations(range(n), f):
        if 0 not in members:
            continue
        coalition = frozenset(members)
        run = next(height for height in range(n) if height not in coalition)
        # From its first turn to the last before an honest one.
        most = max(most, len(outcomes(n, coalition, run - 1)))
    assert most == math.factorial(f + 1)


def test_the_page_says_what_follows_from_it() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(int(n), int(f), int(count), float(bits)) for n, f, count, bits in rows] == [
        (n, (n - 1) // 3, math.factorial((n - 1) // 3 + 1), round(math.log2(math.factorial((n - 1) // 3 + 1)), 1))
        for n in (4, 7, 10, 16)
    ]
