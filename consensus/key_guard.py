"""Guards this validator's key: no vote is cast while it may have signed, or signs, what this node does not know of.

[P27] It asks the others where they stand, hears what comes in this validator's name, and says why there are no votes.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from chain.primitives.seal import Phase, ValidatorSet, read_bitmap
from consensus.host import RunInThread, Signer
from consensus.lookback import LookBack, Past
from consensus.messages import Certificate, Inquiry, Standing, Vote
from consensus.proof import Verifier
from consensus.records import Accepted, Began, Locked
from consensus.voice import place_of
from consensus.wal import Wal

_NO_LOG: Final = (
    "this validator has no vote log, so its key may have signed what this node does not know of: it follows, until "
    "others' answers and a few blocks show that it has not (start it with --unsafe-new-vote-log where too many others "
    "have lost theirs, too)"
)
_ASKING: Final = "this validator has just been started, and asks the others where they stand before it votes"
_OLD_LOG: Final = (
    "this validator's key has signed block {height}, and not here as far as its vote log knows. Either the data folder "
    "is older than that, or another node runs with this key: stop that one first. Until then this node only follows"
)
_TWIN: Final = (
    "another node with this validator's key {what} at height {height}. This one casts no more votes: two nodes with "
    "one key contradict each other, which costs a part of the stake. Stop one of the two, then start the other again"
)


class KeyGuard:
    """`silence` says why no votes are cast, though there is a key; where it is None they may be.

    `past`, `draw` and `on_notice` are as in the gadget, which owns this.
    """

    def __init__(
        self,
        signer: Signer | None,
        past: Past,
        draw: Callable[[int], bytes],
        run: RunInThread,
        on_notice: Callable[[str], None],
    ) -> None:
        self.silence: str | None = None
        self._signer = signer
        self._past = past
        self._draw = draw
        self._run = run
        self._on_notice = on_notice
        self._wal: Wal  # Set by `begin`.
        self._lookback: LookBack | None = None
        self._signed_elsewhere = 0  # The newest height whose seal has a signature that was not made here.
        self._told = False  # Whether the operator has heard that no votes are cast until others have answered.

    async def begin(self, wal: Wal, height: int, validators: ValidatorSet) -> None:
        """Start with a log, at the height that is decided next."""
        self._wal = wal
        if self._signer is not None and self._past is Past.UNKNOWN:
            remembers = bool(wal.records)
            self._lookback = LookBack(self._draw(32), validators, remembers=remembers)
            self.silence = _ASKING if remembers else _NO_LOG
        elif self._past is Past.KNOWN and not wal.records:
            # The operator's word is kept: a start before the first vote shall not need it again.
            await self._run(partial(wal.append, Began(height)))

    @property
    def remembers(self) -> bool:
        """Whether the log knows all that this key has signed, as far as is known."""
        return self.silence is None if self._lookback is None else self._lookback.remembers

    def note_fetched(self, height: int) -> None:
        """The seal of a block that came by another way than this gadget has the key's signature."""
        self._signed_elsewhere = max(self._signed_elsewhere, height)

    def note_decided(self, certificate: Certificate, validators: ValidatorSet) -> None:
        """A height was decided while it may be that no votes are cast here: whose signatures decided it?"""
        if self._lookback is not None:
            me = place_of(self._signer, validators)
            if me in read_bitmap(certificate.voters, validators.n):
                self._signed_elsewhere = certificate.height

    async def look_back(self, height: int, validators: ValidatorSet) -> bool:
        """Find out whether votes may be cast from this height on, where the log does not say so.

        Returns whether that was found out now.
        """
        elsewhere, self._signed_elsewhere = self._signed_elsewhere, 0
        if self._lookback is None and self.silence is not None:
            return False  # There is another node with the key, and only its operator can end that.
        if self._lookback is not None and not self._lookback.remembers:
            surprising = self._lookback.disproves(elsewhere)
        else:
            surprising = elsewhere > self._wal.height and self._past is not Past.IGNORED
        if surprising:
            self._lookback = LookBack(self._draw(32), validators, remembers=False)
            self.silence = _OLD_LOG.format(height=elsewhere)
            self._told = False
        if self._lookback is None:
            return False
        self._lookback.turn_to(validators)
        begins = self._lookback.votes_from(height, place_of(self._signer, validators))
        if begins is None:
            if height > 1 and not self._lookback.remembers and not self._told and self.silence is not None:
                self._told = True
                self._on_notice(self.silence)
            return False
        if not self._lookback.remembers:
            await self._run(partial(self._wal.append, Began(begins)))
        self._lookback = self.silence = None
        if self._told:
            self._on_notice(f"this validator may vote from height {begins} on: its key has signed nothing there")
        return True

    def inquiry(self, height: int) -> Inquiry | None:
        """What to ask everybody; None where nothing is to be found out."""
        return None if self._lookback is None else Inquiry(height, self._lookback.nonce)

    async def note_standing(self, standing: Standing, height: int, verifier: Verifier) -> bool:
        """Take an answer, which may be anybody's. Returns whether it is known by it that votes may be cast."""
        if self._lookback is None or standing.nonce != self._lookback.nonce:
            return False
        if not await self._run(partial(verifier.standing, standing)):
            return False  # Of another set, maybe, which is no fault.
        if standing.voter == place_of(self._signer, verifier.validators):
            self._fall_silent("answers", standing.height)
            return False
        self._lookback.turn_to(verifier.validators)
        self._lookback.note(standing)
        return await self.look_back(height, verifier.validators)

    async def hear_own(self, vote: Vote, verifier: Verifier) -> bool:
        """A vote in this validator's name: if it is genuine and was not cast here, the key is used elsewhere.

        Returns whether that was found out now.
        """
        if self._past is Past.IGNORED or self.silence is not None or self._has_cast(vote):
            return False
        if not await self._run(partial(verifier.vote, vote)):
            return False
        self._fall_silent(f"has cast a {vote.phase.name}", vote.height)
        return True

    def _has_cast(self, vote: Vote) -> bool:
        for record in self._wal.records:
            if isinstance(record, Accepted) and vote.phase is Phase.PREPARE:
                known = (record.height, record.view, record.digest)
            elif isinstance(record, Locked) and vote.phase is Phase.COMMIT:
                known = (record.height, record.certificate.view, record.certificate.digest)
            else:
                continue
            if known == (vote.height, vote.view, vote.digest):
                return True
        return False

    def _fall_silent(self, what: str, height: int) -> None:
        """Cast no more votes until the node is started again."""
        self.silence = _TWIN.format(what=what, height=height)
        self._lookback = None
        self._on_notice(self.silence)
