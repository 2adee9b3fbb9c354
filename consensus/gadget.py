"""Consensus at work: carries out what the replica decides, on the clock, the disk, the network and the CPU.

One task steps the replica, so effects run in order and nothing interleaves with them; checks and builds of payloads,
which take long, run beside it, and signatures are made and verified in threads.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Final, Protocol, TypeVar, assert_never

import trio

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Phase
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
from consensus.host import GadgetState, Host, InvalidProposal, Signer, Superseded, Timing, Transport
from consensus.inbox import Imported, Inbox, Received
from consensus.messages import (
    MalformedFrame,
    Message,
    Payload,
    PayloadRequest,
    PrePrepare,
    ViewChange,
    Vote,
    decode,
    encode,
)
from consensus.peers import Peers
from consensus.proof import Verifier
from consensus.replica import Replica
from consensus.tally import Equivocation, Tally, subject_of
from consensus.wal import Wal

T = TypeVar("T")

# A view signs three messages at most; resends of the last few views' cost nothing.
SIGNATURES_MAX: Final = 8


class RunInThread(Protocol):
    """Runs CPU-bound work off the event loop. Tests on a virtual clock run it inline."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def run_in_thread(work: Callable[[], T], /) -> T:
    return await trio.to_thread.run_sync(work)


def _ignore(*_: object) -> None:
    """What a callback does that nobody set."""


class BlsSigner:
    """A signer that has its key in memory."""

    def __init__(self, secret_key: bytes, run: RunInThread = run_in_thread) -> None:
        self._secret_key = secret_key
        self._public_key = bls.public_key(secret_key)
        self._run = run

    @property
    def public_key(self) -> bytes:
        return self._public_key

    async def sign(self, message: bytes) -> bytes:
        return await self._run(partial(bls.sign, self._secret_key, message))


class Gadget:
    """One validator's consensus.

    `start_height` is the first height to decide: the ledger's head and one. The callbacks must not block:
    `on_behind(height)` says that some honest validator has sealed `height` and this node has not;
    `on_fault(peer, reason)` that a peer sent what no correct peer sends (None: this node's own proposal was refused);
    `on_equivocation(evidence)` that a validator provably voted twice.
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
        run: RunInThread = run_in_thread,
    ) -> None:
        self._host = host
        self._transport = transport
        self._signer = signer
        self._wal_path = wal_path
        self._timing = timing
        self._height = start_height
        self._on_behind = on_behind
        self._on_fault = on_fault
        self._on_equivocation = on_equivocation
        self._run_sync = run
        self._inbox = Inbox()
        self._peers = Peers()
        self._signatures: dict[bytes, bytes] = {}
        self._woken = trio.Event()
        self._timer_at = inf
        self._timer_view = 0
        self._resend_at = inf
        self._began_at = 0.0
        self._requests = 0
        self._expected_payloads = 0
        self._build = trio.CancelScope()
        self._validators = host.validators(start_height)
        self._verifier = Verifier(host.genesis_hash, self._validators)
        self._tally = Tally(self._validators)
        self._replica = Replica(timing, start_height, self._validators, None)  # It only follows until `run` begins.
        self._last = self._replica  # Of the height before, for those who still miss its payload.
        self._wal: Wal  # Both are set first thing by `run`.
        self._nursery: trio.Nursery

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

    def advanced(self, height: int) -> None:
        """Say that the ledger's head is now at `height`, by another way than this gadget."""
        self._push(Imported(height))

    @property
    def state(self) -> GadgetState:
        """Where consensus stands, as far as this node has heard."""
        replica = self._replica
        everyone = set(range(self._validators.n))
        expected = everyone
        if replica.deciding is not None:
            phase, voted = "sealing", self._tally.voters(replica.deciding.view, Phase.COMMIT)
        elif replica.changing:
            phase, voted = "view-change", replica.supporters()
        elif replica.accepted is None:
            phase, voted, expected = "proposal", set(), {replica.primary}
        elif not replica.voted_commit:
            phase, voted = "prepare", self._tally.voters(replica.view, Phase.PREPARE)
        else:
            phase, voted = "commit", self._tally.voters(replica.view, Phase.COMMIT)
        return GadgetState(
            height=self._height,
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
        with await self._run_sync(partial(Wal.open, self._wal_path, identity)) as self._wal:
            async with trio.open_nursery() as self._nursery:
                await self._begin(self._height)
                task_status.started()
                while True:
                    await self._turn()

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        now = trio.current_time()
        if now >= self._timer_at:
            self._timer_at = inf
            await self._step(TimedOut(self._height, self._timer_view))
        elif now >= self._resend_at:
            self._put_off_resend()
            self._expected_payloads = 0
            self._peers.forget_answers()
            self._report_behind(self._height + 1)
            await self._step(ResendDue())
        else:
            item = self._inbox.pop()
            if item is None:
                self._woken = trio.Event()
                with trio.move_on_at(min(self._timer_at, self._resend_at)):
                    await self._woken.wait()
            else:
                await trio.lowlevel.checkpoint()
                await self._take(item)

    async def _take(self, item: Event | Imported | Received) -> None:
        if isinstance(item, tuple):
            await self._receive(*item)
        elif isinstance(item, Imported):
            if item.height >= self._height:
                await self._begin(item.height + 1)
        else:
            await self._step(item)

    async def _begin(self, height: int) -> None:
        """Turn to a height whose parent the ledger has."""
        self._build.cancel()
        self._height = height
        validators = self._host.validators(height)
        if validators != self._validators:
            self._validators = validators
            self._peers.forget_speakers()
        self._verifier = Verifier(self._host.genesis_hash, self._validators)
        self._tally = Tally(self._validators)
        self._expected_payloads = 0
        self._peers.forget_answers()
        self._began_at = trio.current_time()
        self._timer_at = inf
        self._put_off_resend()
        # [P5] Below the log's height this validator has voted in ways that it no longer knows: it only follows.
        me = self._me() if height >= self._wal.height else None
        records = self._wal.records if height == self._wal.height and me is not None else []
        self._last = self._replica
        self._replica = Replica(self._timing, height, self._validators, me, records)
        self._inbox.release()
        await self._step(Started())

    async def _step(self, event: Event) -> None:
        for effect in self._replica.step(event):
            await self._carry_out(effect)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist():
                await self._run_sync(partial(self._wal.append, effect.record))
            case CastVote():
                await self._cast_vote(effect)
            case Propose():
                await self._propose(effect)
            case CastViewChange():
                await self._cast_view_change(effect)
            case Build():
                self._build.cancel()
                self._build = trio.CancelScope()
                self._nursery.start_soon(self._build_payload, effect, self._build)
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

    async def _cast_vote(self, cast: CastVote) -> None:
        message = self._verifier.vote_message(cast.height, cast.view, cast.phase, cast.digest)
        signature = await self._sign(message)
        vote = Vote(cast.height, cast.view, cast.phase, cast.digest, self._index, signature)
        self._broadcast(vote)
        await self._count(vote)

    async def _propose(self, cast: Propose) -> None:
        message = self._verifier.vote_message(cast.height, cast.view, Phase.PREPARE, cast.digest)
        signature = await self._sign(message)
        self._broadcast(PrePrepare(cast.height, cast.view, cast.digest, signature, cast.payload, cast.new_view))
        await self._count(Vote(cast.height, cast.view, Phase.PREPARE, cast.digest, self._index, signature))

    async def _cast_view_change(self, cast: CastViewChange) -> None:
        signature = await self._sign(self._verifier.change_message(cast.height, cast.view, cast.lock))
        change = ViewChange(cast.height, cast.view, self._index, cast.lock, signature)
        self._broadcast(change)
        self._push(Changed(change))

    async def _build_payload(self, build: Build, scope: trio.CancelScope) -> None:
        with scope:
            if build.view == 0:
                # [P18] Blocks are paced from their parent's commit; a later view has waited long enough.
                await trio.sleep_until(self._began_at + self._timing.block_time_ms / 1000)
            try:
                payload = await self._host.build(build.height, build.view)
                digest = await self._host.check(build.height, build.view, payload)
            except Superseded:
                return
            except InvalidProposal as error:
                self._on_fault(None, f"this node built a proposal that it refuses itself: {error}")
                return
            self._push(Built(build.height, build.view, digest, payload))

    async def _check_payload(self, check: Check) -> None:
        try:
            valid = await self._host.check(check.height, check.view, check.payload) == check.digest
        except Superseded:
            return
        except InvalidProposal as error:
            valid = False
            self._on_fault(None, f"the proposal {check.digest.hex()} at height {check.height} is invalid: {error}")
        self._push(Checked(check.height, check.digest, check.payload, valid))

    def _request_payload(self, request: RequestPayload) -> None:
        # Whoever voted for it has it; each time another of them is asked, and everyone while nobody is known.
        peers = self._peers.of(self._tally.voters_for(request.digest))
        frame = encode(PayloadRequest(request.height, request.digest))
        if peers:
            self._requests += 1
            self._expected_payloads += 1
            self._transport.send(peers[self._requests % len(peers)], frame)
        else:
            self._expected_payloads = self._validators.n
            self._transport.broadcast(frame)

    async def _decide(self, decision: Decide) -> None:
        certificate = decision.certificate
        seal = certificate.seal(self._validators.set_id)
        # A ledger that has moved past this height has this block: there is one to each height.
        with suppress(Superseded):
            await self._host.commit(certificate.height, decision.payload, seal)
        await self._begin(certificate.height + 1)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _receive(self, peer: bytes, message: Message) -> None:
        if message.height != self._height:
            if message.height > self._height:
                self._note_ahead(message)
                if message.height == self._height + 1:
                    self._inbox.hold(peer, message)
            elif isinstance(message, PayloadRequest):
                self._answer(peer, message, self._last)
            return
        match message:
            case Vote():
                await self._receive_vote(peer, message)
            case ViewChange():
                await self._receive_view_change(peer, message)
            case PrePrepare():
                await self._receive_proposal(peer, message)
            case PayloadRequest():
                self._answer(peer, message, self._replica)
            case Payload():
                if self._expected_payloads > 0:
                    self._expected_payloads -= 1
                    await self._step(Fetched(message.height, message.payload))
            case _:
                assert_never(message)

    def _answer(self, peer: bytes, request: PayloadRequest, replica: Replica) -> None:
        payload = replica.payload(request.digest) if request.height == replica.height else None
        if payload is not None and self._peers.may_answer(peer, request.digest):
            self._transport.send(peer, encode(Payload(request.height, payload)))

    async def _receive_vote(self, peer: bytes, vote: Vote) -> None:
        stale = vote.phase is Phase.PREPARE and vote.view < self._replica.view
        if stale or vote.voter == self._replica.me or self._tally.knows(vote):
            return
        if self._peers.speaks_for(peer) != vote.voter:
            if not await self._run_sync(partial(self._verifier.vote, vote)):
                self._on_fault(peer, f"a vote of validator {vote.voter} at height {vote.height} that it did not sign")
                return
            self._peers.learn(peer, vote.voter)
        await self._count(vote)

    async def _receive_view_change(self, peer: bytes, change: ViewChange) -> None:
        if change.voter == self._replica.me or self._replica.has_change(change.voter, change.view):
            return
        if not await self._run_sync(partial(self._verifier.change, change)):
            self._on_fault(peer, f"a view change of validator {change.voter} at height {change.height} without proof")
            return
        self._peers.learn(peer, change.voter)
        await self._step(Changed(change))

    async def _receive_proposal(self, peer: bytes, proposal: PrePrepare) -> None:
        primary = self._validators.primary_index(proposal.height, proposal.view)
        if primary == self._replica.me or not self._replica.wants_proposal(proposal.view):
            return
        authentic = self._peers.speaks_for(peer) == primary
        if not authentic or proposal.new_view is not None:
            if not await self._run_sync(partial(self._verifier.proposal, proposal, authentic=authentic)):
                self._on_fault(peer, f"a proposal at height {proposal.height}, view {proposal.view} without proof")
                return
            self._peers.learn(peer, primary)
        height, view, digest = proposal.height, proposal.view, proposal.digest
        await self._step(Proposed(height, view, digest, proposal.payload, proposal.new_view))
        await self._count(Vote(height, view, Phase.PREPARE, digest, primary, proposal.signature))

    async def _count(self, vote: Vote) -> None:
        """[P16] Count a vote, and at a quorum verify all of them as one."""
        contradiction = self._tally.add(vote)
        if contradiction is not None:
            await self._accuse(contradiction)
        subject = subject_of(vote)
        while (votes := self._tally.ready(subject)) is not None:
            signatures = {voter: counted.signature for voter, counted in votes.items()}
            certificate = await self._run_sync(partial(self._verifier.certify, vote, signatures))
            if certificate is not None:
                self._tally.certified(subject)
                self._push(Prepared(certificate) if vote.phase is Phase.PREPARE else Committed(certificate))
                return
            for counted in votes.values():
                if not await self._run_sync(partial(self._verifier.vote, counted)):
                    self._distrust(counted)

    async def _accuse(self, contradiction: Equivocation) -> None:
        for vote in (contradiction.first, contradiction.second):
            if not await self._run_sync(partial(self._verifier.vote, vote)):
                # Nobody is framed: one of the two was forged.
                self._distrust(vote)
                return
        self._on_equivocation(contradiction)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _push(self, event: Event | Imported) -> None:
        self._inbox.push(event)
        self._woken.set()

    def _broadcast(self, message: Message) -> None:
        self._put_off_resend()
        self._transport.broadcast(encode(message))

    def _put_off_resend(self) -> None:
        self._resend_at = trio.current_time() + self._timing.resend_ms / 1000

    async def _sign(self, message: bytes) -> bytes:
        assert self._signer is not None, "a replica without a key casts no votes"
        signature = self._signatures.get(message)
        if signature is None:
            signature = await self._signer.sign(message)
            while len(self._signatures) >= SIGNATURES_MAX:
                del self._signatures[next(iter(self._signatures))]
            self._signatures[message] = signature
        return signature

    def _me(self) -> int | None:
        if self._signer is None:
            return None
        keys = [authority.bls_key for authority in self._validators.authorities]
        return keys.index(self._signer.public_key) if self._signer.public_key in keys else None

    @property
    def _index(self) -> int:
        assert self._replica.me is not None
        return self._replica.me

    def _account(self, index: int) -> bytes:
        return self._validators.authorities[index].account

    def _distrust(self, vote: Vote) -> None:
        """Take back a vote that is not genuine, and report who brought it."""
        self._tally.remove(subject_of(vote), vote.voter)
        for peer in self._peers.distrust(vote.voter):
            self._on_fault(peer, f"a vote of validator {vote.voter} at height {vote.height} that it did not sign")

    def _note_ahead(self, message: Message) -> None:
        match message:
            case Vote() | ViewChange():
                voter = message.voter
            case PrePrepare():
                voter = self._validators.primary_index(message.height, message.view)
            case _:
                return
        if voter < self._validators.n:
            self._peers.note_height(voter, message.height)
            # One height ahead is mostly a matter of milliseconds; if not, the resend timer finds it.
            self._report_behind(self._height + 2)

    def _report_behind(self, at_least: int) -> None:
        """[P19] Ask for sync when f + 1 others are at a later height: an honest one has sealed this one."""
        height = self._peers.height_of(self._validators.f + 1)
        if height >= at_least:
            self._on_behind(height - 1)
