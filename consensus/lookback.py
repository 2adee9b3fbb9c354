"""Whether a validator's key may have signed what its vote log does not know of, and from which height on it has not.

[P27] The estimation of PBFT's proactive recovery, for a key whose log was lost: what others say of themselves, in
answer to a question that nobody could have answered before, bounds what this key can have signed before it was asked.
"""

from enum import Enum

from chain.primitives.seal import ValidatorSet
from consensus.messages import Standing


class Past(Enum):
    """What a validator takes for its key's past when it starts."""

    UNKNOWN = "unknown"  # It may have signed anything that the log does not know of: others are asked.
    KNOWN = "known"  # Its operator says that the log is whole, or that nothing was signed, and nobody else has the key.
    IGNORED = "ignored"  # Nobody honest: what the key signs elsewhere is not looked for at all.


class LookBack:
    """The answers to one question, which `nonce` (32 random bytes) makes new."""

    def __init__(self, nonce: bytes, validators: ValidatorSet, *, remembers: bool) -> None:
        """`remembers` says that there is a log, which may be older than its key's last votes."""
        self.nonce = nonce
        self.remembers = remembers
        self._validators = validators
        self._answers: dict[int, Standing] = {}

    def turn_to(self, validators: ValidatorSet) -> None:
        """Forget what another set has answered: its members may know nothing of this one's reign."""
        if validators != self._validators:
            self._validators = validators
            self._answers.clear()

    def note(self, standing: Standing) -> None:
        """Take a genuine answer; the first that a validator gave from its log is the one that counts."""
        known = self._answers.get(standing.voter)
        if known is None or not known.remembers:
            self._answers[standing.voter] = standing

    @property
    def signed_up_to(self) -> int | None:
        """The greatest height at which the key can have signed before the question; None while too few have answered.

        Whoever signs at a height has the seal of the one before. Of the quorum that made that seal an honest member is
        among any n - f others that remember, and is at that height or above.
        """
        # Before the first block there is nothing to remember.
        known = (answer for answer in self._answers.values() if answer.remembers or answer.height == 1)
        heights = sorted(answer.height for answer in known)
        quorum = self._validators.quorum
        # The lowest of them are as good as any, so that nobody can put it off by claiming to be far ahead.
        return heights[quorum - 1] + 1 if len(heights) >= quorum else None

    def votes_from(self, height: int, me: int | None) -> int | None:
        """Return the height from which votes may be cast, as known at `height`, which is being decided; None: not yet.

        Where the answers are of the last height of their set's reign, members of it who are late may be all that has
        answered, and another set may have gone on: so they count once this set is seen to decide one more.
        """
        if self.remembers:
            return height if self._is_heard(height, me) else None
        beginners = sum(answer.height == 1 for answer in self._answers.values()) + (me is not None)
        if height == 1 and me is not None and beginners >= self._validators.quorum:
            return 1  # The chain has yet to begin: f liars alone cannot make a quorum say so.
        signed = self.signed_up_to
        return signed + 1 if signed is not None and height >= signed else None

    def _is_heard(self, height: int, me: int | None) -> bool:
        """Say whether a quorum has told where it stands, and none that an honest one of them is further.

        Nothing can be decided without a quorum anyway. Whoever is further has seals, which show whether this key
        has signed more than its log knows: so those are fetched first.
        """
        heights = sorted((answer.height for answer in self._answers.values()), reverse=True)
        if len(heights) + (me is not None) < self._validators.quorum:
            return False
        f = self._validators.f
        return len(heights) <= f or heights[f] <= height

    def disproves(self, height: int) -> bool:
        """Say whether a signature of the key in the seal of this height was made after the question."""
        signed = self.signed_up_to
        return signed is not None and height > signed
