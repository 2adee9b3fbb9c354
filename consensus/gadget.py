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
from chain.primitives.seal import Phase, ValidatorSet
from consensus.ballot import Ballot
from consensus.counts import Counts
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
from consensus.key_guard import KeyGuard
from consensus.lookback import Past
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
from consensus.replica import Replica
from consensus.state import awaited, state_of
from consensus.tally import Equivocation
from consensus.voice import Voice
from consensus.wal import Wal

T = TypeVar("T")

# A peer is told once between two resends where this validator stands: a signature is worth more than a question.
_STANDING_ASKED: Final = b"standing"


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
        self.counts = Counts()
        self._host = host
        self._transport = transport
        self._signer = signer
        self._wal_path = wal_path
        self._disk = disk
        self._timing = timing
        self._on_behind = on_behind
        self._tell_fault = on_fault
        self._tell_equivocation = on_equivocation
        self._guard = KeyGuard(signer, past, draw, run, on_notice)
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
        self._waits = (start_height, 0, awaited(self._at.replica))
        self._waits_since = 0.0
        self._nursery: trio.Nursery  # Set first thing by `run`, with the log.

    @property
    def has_log(self) -> bool:
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
    def dropped(self) -> int:
        """How many messages of peers were dropped, since more came than can wait."""
        return self._inbox.dropped

    @property
    def silence(self) -> str | None:
        """Why it casts no votes, though it has a key; None where it may."""
        return self._guard.silence

    @property
    def votes(self) -> bool:
        """Whether it votes at the height that is being decided."""
        return self._at.replica.me is not None

    def advanced(self, height: int, *, signed: bool) -> None:
        """Say that the ledger's head is now at `height`, by another way than this gadget, and whether this
        validator's key has signed that block."""
        self._imported = max(self._imported, height)
        if signed:
            self._guard.note_fetched(height)
        self._push(Imported(height))

    @property
    def state(self) -> GadgetState:
        """Where consensus stands, as far as this node has heard."""
        return state_of(self._at.replica, self._at.ballot.tally)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled. Whatever the host or the disk raises ends it: no vote follows a failed record."""
        name = b"" if self._signer is None else self._signer.name
        identity = blake2_256(self._host.genesis_hash + name)
        with await self._run_sync(partial(Wal.open, self._wal_path, identity, self._disk)) as self._wal:
            await self._guard.begin(self._wal, self._at.number, self._at.validators)
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
        await self._guard.look_back(height, self._host.validators(height))
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
        me = voice.me if self._wal is not None and height >= self._wal.height and self._guard.silence is None else None
        records = self._wal.records if self._wal is not None and height == self._wal.height and me is not None else []
        return _Height(Replica(self._timing, height, validators, me, records), ballot, voice)

    async def _step(self, event: Event) -> None:
        at = self._at
        effects = at.replica.step(event)
        self._note_waits(at.replica)
        for effect in effects:
            await self._carry_out(effect, at)

    def _note_waits(self, replica: Replica) -> None:
        """Count what was waited for until now, when something else is."""
        waits = (replica.height, replica.view, awaited(replica))
        if waits == self._waits:
            return
        now = trio.current_time()
        height, view, what = self._waits
        if self._waits_since:
            self.counts.phases[what].add(now - self._waits_since)
        if height == replica.height:
            self.counts.views_changed += replica.view - view
        self._waits, self._waits_since = waits, now

    def _on_fault(self, peer: bytes | None, reason: str) -> None:
        self.counts.faults += 1
        self._tell_fault(peer, reason)

    def _on_equivocation(self, evidence: Equivocation) -> None:
        self.counts.equivocations += 1
        self._tell_equivocation(evidence)

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

    # --- what this validator's key may have signed elsewhere ----------------------------------------------------------

    def _inquire(self) -> None:
        """[P27] Ask everybody where they stand."""
        inquiry = self._guard.inquiry(self._at.number)
        if inquiry is not None:
            self._transport.broadcast(encode(inquiry))

    async def _tell_standing(self, peer: bytes, inquiry: Inquiry) -> None:
        if self._at.voice.me is not None and self._peers.may_answer(peer, _STANDING_ASKED):
            standing = await self._at.voice.standing(self._at.number, inquiry.nonce, self._guard.remembers)
            self._transport.send(peer, encode(standing))

    async def _note_standing(self, standing: Standing) -> None:
        if await self._guard.note_standing(standing, self._at.number, self._at.ballot.verifier):
            await self._renew()

    async def _hear_own(self, vote: Vote) -> None:
        if await self._guard.hear_own(vote, self._at.ballot.verifier):
            await self._renew()

    async def _renew(self) -> None:
        """Begin the height again, with votes or without."""
        self._at = self._enter(self._at.number)
        await self._step(Started())

    # --- deciding -----------------------------------------------------------------------------------------------------

    async def _decide(self, decision: Decide) -> None:
        certificate = decision.certificate
        self._guard.note_decided(certificate, self._at.validators)
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
