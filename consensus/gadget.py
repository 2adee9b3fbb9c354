"""Consensus at work: carries out what the replica decides, on the clock, the disk, the network and the CPU.

One task steps the replica, so effects run in order and nothing interleaves with them; checks and builds of payloads,
which take long, run beside it, and signatures are made and verified in threads.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Final, TypeVar, assert_never

import trio

from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Phase, ValidatorSet, read_bitmap
from consensus.ballot import Ballot
from consensus.disk import OS_DISK, Disk
from consensus.events import (
    Build,
    Built,
    CastViewChange,
    CastVote,
    Changed,
    Check,
    Checked,
    Committed,
    Decide,
    Effect,
    Event,
    Fetched,
    Persist,
    Prepared,
    Propose,
    Proposed,
    RequestPayload,
    ResendDue,
    SetTimer,
    Started,
    StopTimer,
    TimedOut,
)
from consensus.host import (
    Awaited,
    GadgetState,
    Host,
    InvalidProposal,
    Premature,
    RunInThread,
    Signer,
    Superseded,
    Timing,
    Transport,
)
from consensus.inbox import Imported, Inbox, Received
from consensus.lookback import LookBack, Past
from consensus.messages import (
    Certificate,
    Inquiry,
    MalformedFrame,
    Message,
    Payload,
    PayloadRequest,
    PrePrepare,
    Standing,
    ViewChange,
    Vote,
    decode,
    encode,
)
from consensus.peers import Peers
from consensus.proof import Verifier
from consensus.records import Accepted, Began, Locked
from consensus.replica import Replica
from consensus.tally import Equivocation
from consensus.voice import Voice
from consensus.wal import Wal

T = TypeVar("T")

# A peer is told once between two resends where this validator stands: a signature is worth more than a question.
_STANDING_ASKED: Final = b"standing"

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


async def run_in_thread(work: Callable[[], T], /) -> T:
    return await trio.to_thread.run_sync(work)


def _ignore(*_: object) -> None:
    """What a callback does that nobody set."""


def _prepare_of(proposal: PrePrepare, validators: ValidatorSet) -> Vote:
    """[P6] The primary's prepare, which its proposal carries."""
    primary = validators.primary_index(proposal.height, proposal.view)
    return Vote(proposal.height, proposal.view, Phase.PREPARE, proposal.digest, primary, proposal.signature)


@dataclass(frozen=True, slots=True)
class _Height:
    """All that belongs to one height: the next one begins afresh, and the last one stays for those who are late."""

    replica: Replica
    ballot: Ballot
    voice: Voice

    @property
    def number(self) -> int:
        return self.replica.height

    @property
    def validators(self) -> ValidatorSet:
        return self.replica.validators


class Gadget:
    """One validator's consensus.

    `start_height` is the first height to decide: the ledger's head and one. The callbacks must not block:
    `on_behind(height)` says that some honest validator has sealed `height` and this node has not;
    `on_fault(peer, reason)` that a peer sent what no correct peer sends (None: this node's own proposal was refused);
    `on_equivocation(evidence)` that a validator provably voted twice; `on_notice(text)` what this one's operator must
    know of its key. `past` is what a validator without a log takes for it; `draw` gives so many random bytes.
    """

    def __init__(
        self,
        host: Host,
        transport: Transport,
        signer: Signer | None,
        wal_path: Path,
        timing: Timing,
        start_height: int,
        *,
        on_behind: Callable[[int], None] = _ignore,
        on_fault: Callable[[bytes | None, str], None] = _ignore,
        on_equivocation: Callable[[Equivocation], None] = _ignore,
        on_notice: Callable[[str], None] = _ignore,
        past: Past = Past.UNKNOWN,
        draw: Callable[[int], bytes] = secrets.token_bytes,
        run: RunInThread = run_in_thread,
        disk: Disk = OS_DISK,
    ) -> None:
        self._host = host
        self._transport = transport
        self._signer = signer
        self._wal_path = wal_path
        self._disk = disk
        self._timing = timing
        self._on_behind = on_behind
        self._on_fault = on_fault
        self._on_equivocation = on_equivocation
        self._on_notice = on_notice
        self._past = past
        self._draw = draw
        self._lookback: LookBack | None = None
        self._signed_elsewhere = 0  # The newest height whose seal has a signature that was not made here.
        self._told = False  # Whether the operator has heard that it casts none until others have answered.
        self.silence: str | None = None  # Why it casts no votes, though it has a key.
        self._run_sync = run
        self._inbox = Inbox()
        self._wal: Wal | None = None
        self._peers = Peers(host.validators(start_height))
        self._woken = trio.Event()
        self._alarm = trio.CancelScope()
        self._timer_at = inf
        self._timer_view = 0
        self._resend_at = inf
        self._began_at = 0.0
        self._requests = 0
        self._imported = 0  # The newest height that came by another way.
        self._expected_payloads = 0
        self._build = trio.CancelScope()
        self._at = self._enter(start_height)  # Only to be looked at: `run` begins it.
        self._last = self._at
        self._nursery: trio.Nursery  # Set first thing by `run`, with the log.

    @property
    def remembers(self) -> bool:
        """Whether its log says what its key has signed, or from which height on it has signed nothing."""
        return self._wal is not None and bool(self._wal.records)

    # --- what the node calls ------------------------------------------------------------------------------------------

    def deliver(self, peer: bytes, frame: bytes) -> bool:
        """Take a frame from a peer; False if no correct peer would have sent it. Never blocks, never raises."""
        try:
            message = decode(frame)
        except MalformedFrame:
            return False
        self._inbox.put(peer, message, len(frame))
        self._woken.set()
        return True

    def is_voter(self, peer: bytes) -> bool:
        """Say whether the peer has brought a validator's genuine vote."""
        return self._peers.speaks_for(peer) is not None

    @property
    def votes(self) -> bool:
        """Whether it votes at the height that is being decided."""
        return self._at.replica.me is not None

    def advanced(self, height: int, *, signed: bool) -> None:
        """Say that the ledger's head is now at `height`, by another way than this gadget, and whether this
        validator's key has signed that block."""
        self._imported = max(self._imported, height)
        if signed:
            self._signed_elsewhere = max(self._signed_elsewhere, height)
        self._push(Imported(height))

    @property
    def state(self) -> GadgetState:
        """Where consensus stands, as far as this node has heard."""
        phase: Awaited
        replica, tally = self._at.replica, self._at.ballot.tally
        expected = set(range(self._at.validators.n))
        if replica.deciding is not None:
            phase, voted = "sealing", tally.voters(replica.deciding.view, Phase.COMMIT)
            expected = voted  # There is a quorum: the payload or the disk is waited for, and no validator.
        elif replica.changing and len(replica.supporters()) < self._at.validators.quorum:
            phase, voted = "view-change", replica.supporters()
        elif replica.accepted is None:
            phase, voted, expected = "proposal", set(), {replica.primary}
        elif not replica.voted_commit:
            phase, voted = "prepare", tally.voters(replica.view, Phase.PREPARE)
        else:
            phase, voted = "commit", tally.voters(replica.view, Phase.COMMIT)
        return GadgetState(
            height=self._at.number,
            view=replica.view,
            phase=phase,
            primary=self._account(replica.primary),
            voted=tuple(self._account(index) for index in sorted(voted)),
            missing=tuple(self._account(index) for index in sorted(expected - voted)),
        )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled. Whatever the host or the disk raises ends it: no vote follows a failed record."""
        key = b"" if self._signer is None else self._signer.public_key
        identity = blake2_256(self._host.genesis_hash + key)
        with await self._run_sync(partial(Wal.open, self._wal_path, identity, self._disk)) as self._wal:
            if self._signer is not None and self._past is Past.UNKNOWN:
                remembers = bool(self._wal.records)
                self._lookback = LookBack(self._draw(32), self._at.validators, remembers=remembers)
                self.silence = _ASKING if remembers else _NO_LOG
            elif self._past is Past.KNOWN and not self._wal.records:
                # The operator's word is kept: a start before the first vote shall not need it again.
                await self._run_sync(partial(self._wal.append, Began(self._at.number)))
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._watch_the_clock)
                await self._begin(self._at.number)
                task_status.started()
                while True:
                    await self._turn()

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        now = trio.current_time()
        if now >= self._timer_at:
            self._timer_at = inf
            await self._step(TimedOut(self._at.number, self._timer_view))
        elif now >= self._resend_at:
            self._put_off_resend()
            self._expected_payloads = 0
            self._peers.forget_answers()
            self._report_behind(self._at.number + 1)
            await self._step(ResendDue())
            self._inquire()
            await self._use_the_pause()
        elif (item := self._inbox.pop(self.is_voter)) is None:
            self._woken = trio.Event()
            if self._alarm.deadline > (due := min(self._timer_at, self._resend_at)):
                self._alarm.deadline = due
            await self._woken.wait()
        else:
            await self._take(item)
            if self._inbox:
                await trio.lowlevel.checkpoint()

    async def _watch_the_clock(self) -> None:
        """Wake the loop at the alarm that it has set: a timer is due then, or was put off since."""
        while True:
            with self._alarm:
                await trio.sleep_forever()
            self._alarm = trio.CancelScope()
            self._woken.set()

    async def _use_the_pause(self) -> None:
        """[P20] Verify the seal that the next block will probably carry, while nobody waits for that.

        What was found genuine once is not verified again (`chain.primitives.seal.verify_seal`), so this spares both
        whoever builds that block and whoever checks it.
        """
        decision = self._last.replica.deciding
        pausing = trio.current_time() < self._began_at + self._timing.block_time_ms / 1000
        if decision is not None and pausing and self._last.number == self._at.number - 1:
            await self._last.ballot.seal(decision)

    async def _take(self, item: Event | Imported | Received) -> None:
        if isinstance(item, tuple):
            await self._receive(*item)
        elif isinstance(item, Imported):
            # Sync may have gone on since this was queued; the host remembers the validators of the last heights alone.
            if self._imported >= self._at.number:
                await self._begin(self._imported + 1)
        else:
            await self._step(item)

    async def _begin(self, height: int) -> None:
        """[P22] Turn to a height whose parent the ledger has, and with it the set that decides it."""
        self._build.cancel()
        self._expected_payloads = 0
        self._peers.forget_answers()
        self._peers.forget_heights()
        self._began_at = trio.current_time()
        self._timer_at = inf
        self._put_off_resend()
        await self._look_back(height)
        self._last, self._at = self._at, self._enter(height)
        self._inbox.release()
        self._inquire()
        await self._step(Started())

    def _enter(self, height: int) -> _Height:
        validators = self._host.validators(height)
        verifier = Verifier(self._host.genesis_hash, validators)
        if validators != self._peers.validators:  # [P22] Who spoke for whom says nothing of another set.
            self._peers = Peers(validators)
        ballot = Ballot(verifier, self._peers, self._run_sync, self._on_fault, self._on_equivocation)
        voice = Voice(self._signer, verifier)  # [P25] It has a place in this set, or none.
        # [P5] Below the log's height this validator has voted in ways that it no longer knows: it only follows.
        me = voice.me if self._wal is not None and height >= self._wal.height and self.silence is None else None
        records = self._wal.records if self._wal is not None and height == self._wal.height and me is not None else []
        return _Height(Replica(self._timing, height, validators, me, records), ballot, voice)

    async def _step(self, event: Event) -> None:
        at = self._at
        for effect in at.replica.step(event):
            await self._carry_out(effect, at)

    async def _carry_out(self, effect: Effect, at: _Height) -> None:
        match effect:
            case Persist():
                assert self._wal is not None, "a replica without a log only follows"
                await self._run_sync(partial(self._wal.append, effect.record))
            case CastVote():
                vote = await at.voice.vote(effect)
                self._broadcast(vote)
                self._report(vote, await at.ballot.count(vote))
            case Propose():
                proposal, vote = await at.voice.proposal(effect)
                self._broadcast(proposal)
                self._report(vote, await at.ballot.count(vote))
            case CastViewChange():
                change = await at.voice.change(effect)
                self._broadcast(change)
                self._push(Changed(change))
            case Build():
                self._build.cancel()
                self._build = trio.CancelScope()
                self._nursery.start_soon(self._build_payload, effect, self._last, self._build)
            case Check():
                self._nursery.start_soon(self._check_payload, effect)
            case RequestPayload():
                self._request_payload(effect)
            case SetTimer():
                self._timer_at = trio.current_time() + effect.after_ms / 1000
                self._timer_view = effect.view
            case StopTimer():
                self._timer_at = inf
            case Decide():
                await self._decide(effect)
            case _:
                assert_never(effect)

    # --- effects ------------------------------------------------------------------------------------------------------

    async def _build_payload(self, build: Build, last: _Height, scope: trio.CancelScope) -> None:
        with scope:
            if build.view == 0:
                # [P18] Blocks are paced from their parent's commit; a later view has waited long enough.
                await trio.sleep_until(self._began_at + self._timing.block_time_ms / 1000)
            try:
                # [P20] Whoever voted by now has taken part. Nobody is waited for: only the pause above was.
                decision = last.replica.deciding if last.number == build.height - 1 else None
                parent_seal = None if decision is None else await last.ballot.seal(decision)
                payload = await self._host.build(build.height, build.view, parent_seal)
                digest = await self._host.check(build.height, build.view, payload, decided=False)
            except Superseded:
                return
            except InvalidProposal as error:
                self._on_fault(None, f"this node built a proposal that it refuses itself: {error}")
                return
            self._push(Built(build.height, build.view, digest, payload))

    async def _check_payload(self, check: Check) -> None:
        try:
            digest = await self._host.check(check.height, check.view, check.payload, decided=check.decided)
            valid = digest == check.digest
        except Superseded:
            return
        except Premature:
            valid = False  # [P21] Nobody is at fault, as far as can be told from here.
        except InvalidProposal as error:
            valid = False
            self._on_fault(None, f"the proposal {check.digest.hex()} at height {check.height} is invalid: {error}")
        self._push(Checked(check.height, check.digest, check.payload, valid))

    def _request_payload(self, request: RequestPayload) -> None:
        # Whoever voted for it has it; each time another of them is asked, and everyone while nobody is known.
        peers = self._peers.of(self._at.ballot.tally.voters_for(request.digest))
        frame = encode(PayloadRequest(request.height, request.digest))
        if peers:
            self._requests += 1
            self._expected_payloads += 1
            self._transport.send(peers[self._requests % len(peers)], frame)
        else:
            self._expected_payloads = self._at.validators.n
            self._transport.broadcast(frame)

    # --- what this validator's key has signed elsewhere ---------------------------------------------------------------

    async def _look_back(self, height: int) -> bool:
        """[P27] Find out whether votes may be cast from this height on, where the log does not say so.

        Returns whether that was found out now.
        """
        assert self._wal is not None
        validators = self._host.validators(height)
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
        me = Voice(self._signer, Verifier(self._host.genesis_hash, validators)).me
        begins = self._lookback.votes_from(height, me)
        if begins is None:
            if height > 1 and not self._lookback.remembers and not self._told and self.silence is not None:
                self._told = True
                self._on_notice(self.silence)
            return False
        if not self._lookback.remembers:
            await self._run_sync(partial(self._wal.append, Began(begins)))
        self._lookback = self.silence = None
        if self._told:
            self._on_notice(f"this validator may vote from height {begins} on: its key has signed nothing there")
        return True

    def _inquire(self) -> None:
        """[P27] Ask everybody where they stand."""
        if self._lookback is not None:
            self._transport.broadcast(encode(Inquiry(self._at.number, self._lookback.nonce)))

    async def _tell_standing(self, peer: bytes, inquiry: Inquiry) -> None:
        if self._at.voice.me is not None and self._peers.may_answer(peer, _STANDING_ASKED):
            standing = await self._at.voice.standing(self._at.number, inquiry.nonce, self._remembers)
            self._transport.send(peer, encode(standing))

    @property
    def _remembers(self) -> bool:
        """Whether the log knows all that this key has signed, as far as is known."""
        return self.silence is None if self._lookback is None else self._lookback.remembers

    async def _note_standing(self, standing: Standing) -> None:
        if self._lookback is None or standing.nonce != self._lookback.nonce:
            return
        if not await self._run_sync(partial(self._at.ballot.verifier.standing, standing)):
            return  # Of another set, maybe, which is no fault.
        if standing.voter == self._at.voice.me:
            self._fall_silent("answers", standing.height)
            return
        self._lookback.turn_to(self._at.validators)
        self._lookback.note(standing)
        if await self._look_back(self._at.number):
            await self._renew()

    async def _hear_own(self, vote: Vote) -> None:
        """[P27] A vote in this validator's name: if it is genuine and was not cast here, the key is used elsewhere."""
        if self._past is Past.IGNORED or self.silence is not None or self._has_cast(vote):
            return
        if await self._run_sync(partial(self._at.ballot.verifier.vote, vote)):
            self._fall_silent(f"has cast a {vote.phase.name}", vote.height)
            await self._renew()

    def _has_cast(self, vote: Vote) -> bool:
        assert self._wal is not None
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

    async def _renew(self) -> None:
        """Begin the height again, with votes or without."""
        self._at = self._enter(self._at.number)
        await self._step(Started())

    # --- deciding -----------------------------------------------------------------------------------------------------

    async def _decide(self, decision: Decide) -> None:
        certificate = decision.certificate
        if self._lookback is not None and self._at.voice.me in read_bitmap(certificate.voters, self._at.validators.n):
            self._signed_elsewhere = certificate.height
        seal = certificate.seal(self._at.validators.set_id)
        # [P1] A ledger that has moved past this height has this block: there is one to each height.
        with suppress(Superseded):
            await self._host.commit(certificate.height, decision.payload, seal)
        await self._begin(certificate.height + 1)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _receive(self, peer: bytes, message: Message) -> None:
        if isinstance(message, Inquiry):
            await self._tell_standing(peer, message)
        elif isinstance(message, Standing):
            await self._note_standing(message)
        elif message.height != self._at.number:
            if message.height > self._at.number:
                self._note_ahead(message)
                if message.height == self._at.number + 1:
                    self._inbox.hold(peer, message)
            elif message.height == self._last.number:
                await self._receive_late(peer, message)
        else:
            await self._receive_now(peer, message)

    async def _receive_now(
        self, peer: bytes, message: Vote | ViewChange | PrePrepare | PayloadRequest | Payload
    ) -> None:
        match message:
            case Vote():
                await self._receive_vote(peer, message)
            case ViewChange():
                await self._receive_view_change(peer, message)
            case PrePrepare():
                await self._receive_proposal(peer, message)
            case PayloadRequest():
                self._answer(peer, message, self._at.replica)
            case Payload():
                if self._expected_payloads > 0:
                    self._expected_payloads -= 1
                    await self._step(Fetched(message.height, message.payload))
            case _:
                assert_never(message)

    async def _receive_late(self, peer: bytes, message: Message) -> None:
        """[P20] Of the last height, commits still count, and its payload is given to whoever asks.

        [P16] And a second proposal is evidence still: the first may have been decided before it came.
        """
        match message:
            case Vote(phase=Phase.COMMIT) if message.voter != self._last.replica.me:
                await self._last.ballot.receive(peer, message)
            case PrePrepare():
                vote = _prepare_of(message, self._last.validators)
                if vote.voter != self._last.replica.me:
                    await self._last.ballot.receive(peer, vote)
            case PayloadRequest():
                self._answer(peer, message, self._last.replica)
            case _:
                pass

    def _answer(self, peer: bytes, request: PayloadRequest, replica: Replica) -> None:
        payload = replica.payload(request.digest)
        if payload is not None and self._peers.may_answer(peer, request.digest):
            self._transport.send(peer, encode(Payload(request.height, payload)))

    async def _receive_vote(self, peer: bytes, vote: Vote) -> None:
        replica = self._at.replica
        stale = vote.phase is Phase.PREPARE and vote.view < replica.view
        if vote.voter == replica.me:
            await self._hear_own(vote)
        elif not stale:
            self._report(vote, await self._at.ballot.receive(peer, vote))

    async def _receive_view_change(self, peer: bytes, change: ViewChange) -> None:
        if change.voter == self._at.replica.me or self._at.replica.has_change(change.voter, change.view):
            return
        if not await self._run_sync(partial(self._at.ballot.verifier.change, change)):
            self._on_fault(peer, f"a view change of validator {change.voter} at height {change.height} without proof")
            return
        self._peers.learn(peer, change.voter)
        await self._step(Changed(change))

    async def _receive_proposal(self, peer: bytes, proposal: PrePrepare) -> None:
        vote = _prepare_of(proposal, self._at.validators)
        primary = vote.voter
        if not self._at.replica.wants_proposal(proposal.view):
            # [P16] Nothing to vote for; but if it is another one than was taken, its primary has voted twice.
            await self._receive_vote(peer, vote)
            return
        if primary == self._at.replica.me:
            await self._hear_own(vote)
            return
        authentic = self._peers.speaks_for(peer) == primary
        if not authentic or proposal.new_view is not None:
            if not await self._run_sync(partial(self._at.ballot.verifier.proposal, proposal, authentic=authentic)):
                self._on_fault(peer, f"a proposal at height {proposal.height}, view {proposal.view} without proof")
                return
            self._peers.learn(peer, primary)
        height, view, digest = proposal.height, proposal.view, proposal.digest
        await self._step(Proposed(height, view, digest, proposal.payload, proposal.new_view))
        self._report(vote, await self._at.ballot.count(vote, peer))

    # --- small parts --------------------------------------------------------------------------------------------------

    def _report(self, vote: Vote, certificate: Certificate | None) -> None:
        """Tell the replica of the certificate that a vote completed."""
        if certificate is not None:
            self._push(Prepared(certificate) if vote.phase is Phase.PREPARE else Committed(certificate))

    def _push(self, event: Event | Imported) -> None:
        self._inbox.push(event)
        self._woken.set()

    def _broadcast(self, message: Message) -> None:
        self._put_off_resend()
        self._transport.broadcast(encode(message))

    def _put_off_resend(self) -> None:
        self._resend_at = trio.current_time() + self._timing.resend_ms / 1000

    def _account(self, index: int) -> bytes:
        return self._at.validators.authorities[index].account

    def _note_ahead(self, message: Message) -> None:
        match message:
            case Vote() | ViewChange():
                voter = message.voter
            case PrePrepare():
                voter = self._at.validators.primary_index(message.height, message.view)
            case _:
                return
        if voter < self._at.validators.n:
            self._peers.note_height(voter, message.height)
            # One height ahead is mostly a matter of milliseconds; if not, the resend timer finds it.
            self._report_behind(self._at.number + 2)

    def _report_behind(self, at_least: int) -> None:
        """[P19] Ask for sync when f + 1 others are at a later height: an honest one has sealed this one."""
        height = self._peers.height_of(self._at.validators.f + 1)
        if height >= at_least:
            self._on_behind(height - 1)
