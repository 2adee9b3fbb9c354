"""What is known of a gadget's peers: which validator each speaks for, who is ahead, and who has had an answer.

Of one validator set: another set gives the indices another meaning.
"""

from collections.abc import Set
from typing import Final

from chain.primitives.seal import ValidatorSet

# Who speaks for whom is learnt again at the price of one verification each, so forgetting all is fine.
SPEAKERS_MAX: Final = 2048
# A peer asks for one payload at a time, and for each again only after a resend.
ANSWERS_MAX: Final = 4096


class Peers:
    """Pure bookkeeping; a peer is the bytes that the transport names it by."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.validators = validators
        self._speakers: dict[bytes, int] = {}
        self._ahead: dict[int, int] = {}
        self._answered: set[tuple[bytes, bytes]] = set()

    def speaks_for(self, peer: bytes) -> int | None:
        """Return the validator that the peer has shown to be, by a signature that was verified."""
        return self._speakers.get(peer)

    def learn(self, peer: bytes, voter: int) -> None:
        """Note that the peer delivered a genuine signature of this validator."""
        if len(self._speakers) >= SPEAKERS_MAX:
            self._speakers.clear()
        self._speakers[peer] = voter

    def distrust(self, voter: int) -> None:
        """Forget who speaks for a validator: each has to show it again."""
        self._speakers = {peer: speaker for peer, speaker in self._speakers.items() if speaker != voter}

    def of(self, voters: Set[int]) -> list[bytes]:
        """Return the peers that speak for any of these validators."""
        return [peer for peer, voter in self._speakers.items() if voter in voters]

    def note_height(self, voter: int, height: int) -> None:
        """Note that a validator seems to be at a greater height. Unverified: it only leads to asking for blocks."""
        self._ahead[voter] = max(height, self._ahead.get(voter, 0))

    def height_of(self, others: int) -> int:
        """Return the greatest height that this many validators seem to have reached; 0 if fewer have been heard."""
        heights = sorted(self._ahead.values(), reverse=True)
        return heights[others - 1] if len(heights) >= others else 0

    def forget_heights(self) -> None:
        """Listen anew: what was heard may have been a lie, and one must not last for ever."""
        self._ahead.clear()

    def may_answer(self, peer: bytes, digest: bytes) -> bool:
        """Say whether the peer has yet to be answered: an answer is ten thousand times the size of its question."""
        if (peer, digest) in self._answered or len(self._answered) >= ANSWERS_MAX:
            return False
        self._answered.add((peer, digest))
        return True

    def forget_answers(self) -> None:
        """Let everyone ask again."""
        self._answered.clear()
