"""The votes of one height: taken in, found genuine, and joined into certificates and the seal.

No certificate and no seal ever leaves here that was not verified as a whole.
"""

from collections.abc import Callable
from functools import partial

from chain.primitives.seal import Phase, Seal, read_bitmap
from consensus.host import RunInThread
from consensus.messages import Certificate, Vote
from consensus.peers import Peers
from consensus.proof import Verifier
from consensus.tally import Equivocation, Subject, Tally, subject_of


class Ballot:
    """Counts from the height's beginning until the next height is decided: late commits make the seal fuller.

    `on_fault` and `on_equivocation` are as in the gadget, which owns this.
    """

    def __init__(
        self,
        verifier: Verifier,
        peers: Peers,
        run: RunInThread,
        on_fault: Callable[[bytes | None, str], None],
        on_equivocation: Callable[[Equivocation], None],
    ) -> None:
        self.verifier = verifier
        self.tally = Tally(verifier.validators)
        self._peers = peers
        self._accused: set[int] = set()
        self._run = run
        self._on_fault = on_fault
        self._on_equivocation = on_equivocation

    async def receive(self, peer: bytes, vote: Vote) -> Certificate | None:
        """[P16] Take a peer's vote; return the certificate that it completes."""
        if self.tally.knows(vote):
            return None
        if self._peers.speaks_for(peer) != vote.voter:
            if not await self._run(partial(self.verifier.vote, vote)):
                self._on_fault(peer, f"a vote of validator {vote.voter} at height {vote.height} that it did not sign")
                return None
            self._peers.learn(peer, vote.voter)
        return await self.count(vote, peer)

    async def count(self, vote: Vote, bringer: bytes | None = None) -> Certificate | None:
        """[P16] Count a vote, and at a quorum verify all of them as one; return the certificate that this makes."""
        contradiction = self.tally.add(vote, bringer)
        if contradiction is not None:
            await self._accuse(contradiction)
        subject = subject_of(vote)
        while (votes := self.tally.ready(subject)) is not None:
            signatures = {voter: counted.signature for voter, counted in votes.items()}
            certificate = await self._run(partial(self.verifier.certify, vote, signatures))
            if certificate is not None:
                self.tally.certified(subject)
                return certificate
            await self._sift(votes)
        return None

    async def seal(self, certificate: Certificate) -> Seal:
        """[P20] The commit certificate as a seal, with every genuine commit for the same that came after it."""
        n = self.verifier.validators.n
        counted = set(read_bitmap(certificate.voters, n))
        subject = Subject(certificate.view, Phase.COMMIT, certificate.digest)
        while late := {voter: vote for voter, vote in self.tally.votes(subject).items() if voter not in counted}:
            signatures = {voter: vote.signature for voter, vote in late.items()}
            seal = await self._run(partial(self.verifier.seal, certificate, signatures))
            if seal is not None:
                return seal
            if not await self._sift(late):
                break
        return certificate.seal(self.verifier.validators.set_id)

    async def _sift(self, votes: dict[int, Vote]) -> bool:
        """Take out what is not genuine, one by one; say whether anything was."""
        forged = [vote for vote in votes.values() if not await self._run(partial(self.verifier.vote, vote))]
        for vote in forged:
            self._distrust(vote)
        return bool(forged)

    async def _accuse(self, contradiction: Equivocation) -> None:
        """Report a validator that voted twice: once a height, however often it goes on."""
        if contradiction.first.voter in self._accused:
            return
        for vote in (contradiction.first, contradiction.second):
            if not await self._run(partial(self.verifier.vote, vote)):
                # Nobody is framed: one of the two was forged.
                self._distrust(vote)
                return
        self._accused.add(contradiction.first.voter)
        self._on_equivocation(contradiction)

    def _distrust(self, vote: Vote) -> None:
        """[P16] Take back a vote that is not genuine, and report who brought it.

        Others who speak for the validator are not to blame: whoever relays a genuine vote speaks for its voter, too.
        """
        bringer = self.tally.remove(subject_of(vote), vote.voter)
        self._peers.distrust(vote.voter)
        if bringer is not None:
            self._on_fault(bringer, f"a vote of validator {vote.voter} at height {vote.height} that it did not sign")
