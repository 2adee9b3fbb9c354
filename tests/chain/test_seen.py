"""What a node counts of its chain: who missed votes, of the validators that there are."""

from __future__ import annotations

from chain.seen import Seen
from runtime.testing import ALICE, BOB, CHARLIE


def test_votes_are_missed_by_validators_and_forgotten_with_them() -> None:
    seen = Seen()
    alice, bob, charlie = ALICE.public, BOB.public, CHARLIE.public
    seen.sealed([], [alice, bob])
    assert dict(seen.missed) == {alice: 0, bob: 0}
    seen.sealed([bob], [alice, bob])
    seen.sealed([bob, alice], [alice, bob])
    assert dict(seen.missed) == {alice: 1, bob: 2}
    seen.sealed([charlie], [alice, charlie])
    assert dict(seen.missed) == {alice: 1, charlie: 1}
