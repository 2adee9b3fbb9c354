"""One validator's part in agreeing on one height: events in, effects out, and nothing else.

It never waits, reads a clock, holds a key or believes anything unverified. The rules it keeps are numbered in SPEC.md.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from chain.primitives.seal import Phase, ValidatorSet
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
from consensus.host import Timing
from consensus.messages import Certificate, NewView, ViewChange
from consensus.records import Accepted, Began, Changing, Locked, Record
from consensus.rules import choose, justified, timeout_ms, view_to_join

# A correct replica is in one view and has asked for at most the next few; more would be a liar filling memory.
CHANGES_PER_VALIDATOR_MAX: Final = 4
# The lock's, the proposal's and the decision's payload, and one that a view change left behind.
PAYLOADS_MAX: Final = 4


class Replica:
    """The state of one height. `me` is this validator's place in the set, or None for one that only follows."""

    def __init__(
        self, timing: Timing, height: int, validators: ValidatorSet, me: int | None, records: Iterable[Record] = ()
    ) -> None:
        self.timing = timing
        self.height = height
        self.validators = validators
        self.me = me
        self.view = 0
        self.changing = False  # A view change to `view` was cast and the view has not begun here.
        self.accepted: bytes | None = None  # What was prepared in `view`.
        self.voted_commit = False  # Whether a commit was cast in `view`.
        self.lock: Certificate | None = None
        self.deciding: Certificate | None = None
        self.decided = False
        self._candidate: Proposed | None = None  # What may be accepted in `view` once its payload is checked.
        self._new_view: NewView | None = None  # As primary: the proof that `view` may begin.
        self._payloads: dict[bytes, bytes] = {}  # Checked ones, by digest.
        self._durable: set[bytes] = set()  # Digests whose payloads the log has.
        self._checking: dict[bytes, bool] = {}  # By digest, whether it is known to be decided.
        self._quorums: dict[int, Certificate] = {}  # Prepared certificates that came before their proposal.
        self._changes: dict[int, dict[int, ViewChange]] = {}  # By validator, then view.
        self._reached: dict[int, int] = {}  # The highest view that each validator is known to have asked for.
        self._timing_out = False
        self._out: list[Effect] = []
        for record in records:
            self._restore(record)

    @property
    def primary(self) -> int:
        return self.validators.primary_index(self.height, self.view)

    def payload(self, digest: bytes) -> bytes | None:
        """Return the checked payload of a digest, to answer a peer that misses it."""
        return self._payloads.get(digest)

    def has_change(self, voter: int, view: int) -> bool:
        """Say whether a view change is known already, or is of a view that is over, so need not be verified."""
        return view < self.view or view in self._changes.get(voter, ())

    def supporters(self) -> set[int]:
        """Return who is known to have asked for this view, or a later one."""
        return {voter for voter, view in self._reached.items() if view >= self.view}

    def wants_proposal(self, view: int) -> bool:
        """Say whether a proposal of this view could still matter."""
        if self.decided or (self.deciding is None and view < self.view):
            return False
        return self.deciding is not None or view > self.view or self.changing or self.accepted is None

    def step(self, event: Event) -> list[Effect]:
        """Take one fact in; return what to do about it, in order."""
        self._out = []
        match event:
            case Started():
                self._start()
            case Proposed():
                self._on_proposed(event)
            case Built():
                self._on_built(event)
            case Checked():
                self._on_checked(event)
            case Fetched():
                self._on_fetched(event)
            case Prepared():
                self._on_prepared(event.certificate)
            case Committed():
                self._on_committed(event.certificate)
            case Changed():
                self._on_changed(event.change)
            case TimedOut():
                if (event.height, event.view) == (self.height, self.view) and self._timing_out:
                    self._change_to(self.view + 1)
            case ResendDue():
                self._cast_again()
            case _:
                assert_never(event)
        return self._out

    # --- starting, and starting again ---------------------------------------------------------------------------------

    def _restore(self, record: Record) -> None:
        """[P5] Go back to where the log says that votes may have been sent from."""
        match record:
            case Accepted():
                self.view, self.changing, self.voted_commit = record.view, False, False
                self.accepted, self._new_view = record.digest, record.new_view
                if record.payload is not None:
                    self._payloads[record.digest] = record.payload
                    self._durable.add(record.digest)
            case Locked():
                self.lock, self.voted_commit = record.certificate, True
            case Changing():
                self.view, self.changing, self.voted_commit = record.view, True, False
                self.accepted, self._new_view = None, None
            case Began():
                pass
            case _:
                assert_never(record)

    def _start(self) -> None:
        if self.changing:
            self._reached[self._myself] = self.view
        else:
            # [P14] View 0 also covers the pause before its proposal.
            pause = self.timing.block_time_ms if self.view == 0 else 0
            self._set_timer(pause)
        self._cast_again()
        if self.view == 0 and not self.changing and self.accepted is None and self.me == self.primary:
            self._out.append(Build(self.height, self.view))

    def _cast_again(self) -> None:
        """[P17] Send what this view has had from us once more; nothing here is new, so nothing is persisted."""
        if self.decided:
            return
        if self.deciding is not None:
            self._want(self.deciding.digest)
            return
        if self.me is not None:
            if self.changing:
                self._out.append(CastViewChange(self.height, self.view, self.lock))
            elif self.accepted is not None:
                if self.me == self.primary:
                    self._out.append(Propose(self.height, self.view, self.accepted, None, self._new_view))
                else:
                    self._out.append(CastVote(self.height, self.view, Phase.PREPARE, self.accepted))
                if self.voted_commit:
                    self._out.append(CastVote(self.height, self.view, Phase.COMMIT, self.accepted))
        if self._candidate is not None:
            self._want(self._candidate.digest)
        elif self._reproposing is not None:
            self._want(self._reproposing)

    # --- the normal case ----------------------------------------------------------------------------------------------

    def _on_proposed(self, proposal: Proposed) -> None:
        if proposal.height != self.height or not self.wants_proposal(proposal.view):
            return
        if self.deciding is not None:
            if proposal.digest == self.deciding.digest and proposal.payload is not None:
                self._check(proposal.digest, proposal.payload)
            return
        if proposal.view == self.view and not self.changing and self._candidate is not None:
            # [P6] The first proposal of a view is the one looked at; only its payload may still be missing.
            if proposal.digest == self._candidate.digest and proposal.payload is not None:
                self._check(proposal.digest, proposal.payload)
            return
        if not justified(proposal, self.validators):
            return
        if proposal.view > self.view or self.changing:
            self._enter(proposal.view)
        if proposal.digest in self._payloads:
            self._accept(proposal.digest, proposal.new_view, mine=False)
            return
        self._candidate = proposal
        if proposal.payload is None:
            self._want(proposal.digest)
        else:
            self._check(proposal.digest, proposal.payload)

    def _on_built(self, built: Built) -> None:
        if (built.height, built.view) != (self.height, self.view) or self.me != self.primary:
            return
        if self.deciding is not None or self.accepted is not None:
            return
        if self.view > 0 and (not self.changing or self._new_view is None or self._new_view.lock is not None):
            return
        if self.view == 0 and self.changing:
            return
        self._keep(built.digest, built.payload)
        self._lead(built.digest)

    def _on_checked(self, checked: Checked) -> None:
        if checked.height != self.height or self.decided:
            return
        as_decided = self._checking.pop(checked.digest, False)
        candidate = self._candidate
        if not checked.valid:
            if not as_decided and self.deciding is not None and self.deciding.digest == checked.digest:
                # [P21] It was decided while it was checked: by its clock it may be right now.
                self._check(checked.digest, checked.payload)
            # [P7] Nothing is voted for that the host refuses. Whoever sent the payload may have swapped it, so the
            # view stays open to the right one; if the primary is at fault, the timer covers it.
            if candidate is not None and candidate.digest == checked.digest:
                self._candidate = None
            return
        self._keep(checked.digest, checked.payload)
        if self.deciding is not None:
            if self.deciding.digest == checked.digest:
                self._decide(self.deciding, checked.payload)
        elif candidate is not None and candidate.digest == checked.digest:
            self._accept(candidate.digest, candidate.new_view, mine=False)
        elif checked.digest == self._reproposing:
            self._lead(checked.digest)

    def _on_fetched(self, fetched: Fetched) -> None:
        if fetched.height != self.height or self.decided:
            return
        if self.deciding is not None:
            wanted: bytes | None = self.deciding.digest
        elif self._candidate is not None:
            wanted = self._candidate.digest
        else:
            wanted = self._reproposing
        if wanted is not None and wanted not in self._payloads:
            self._check(wanted, fetched.payload)

    def _accept(self, digest: bytes, new_view: NewView | None, *, mine: bool) -> None:
        """[P6] Prepare one digest a view, once its payload is checked, and [P4] only after saying so in the log."""
        assert self.accepted is None
        assert not self.changing
        self.accepted, self._candidate, self._new_view = digest, None, new_view
        if self.me is None:
            return
        payload = self._payloads[digest]
        self._out.append(
            Persist(Accepted(self.height, self.view, digest, None if digest in self._durable else payload, new_view))
        )
        self._durable.add(digest)
        if mine:
            self._out.append(Propose(self.height, self.view, digest, payload, new_view))
        else:
            self._out.append(CastVote(self.height, self.view, Phase.PREPARE, digest))
        early = self._quorums.pop(self.view, None)
        if early is not None:
            self._on_prepared(early)

    def _on_prepared(self, certificate: Certificate) -> None:
        if certificate.height != self.height or self.deciding is not None or self.me is None:
            return
        if certificate.view > self.view or (certificate.view == self.view and self.accepted is None):
            self._quorums[certificate.view] = certificate
            return
        if certificate.view < self.view or self.changing or certificate.digest != self.accepted or self.voted_commit:
            return
        # [P8] Prepared: from here on every view change carries this lock, until a later view's replaces it.
        self.lock, self.voted_commit = certificate, True
        self._out.append(Persist(Locked(self.height, certificate)))
        self._out.append(CastVote(self.height, self.view, Phase.COMMIT, certificate.digest))

    def _on_committed(self, certificate: Certificate) -> None:
        """[P9] A quorum's commits decide, in whatever view they were cast and wherever this replica is."""
        if certificate.height != self.height or self.deciding is not None:
            return
        self.deciding = certificate
        payload = self._payloads.get(certificate.digest)
        if payload is None:
            self._want(certificate.digest)
        else:
            self._decide(certificate, payload)

    def _decide(self, certificate: Certificate, payload: bytes) -> None:
        self.decided = True
        self._timing_out = False
        self._out += [StopTimer(), Decide(certificate, payload)]
        view = certificate.view
        if self.me is not None and (view > self.view or (view == self.view and not self.voted_commit)):
            # [P20] Too slow to be needed, and not to be counted. The block is durable by now, which [P4] asks for.
            self._out.append(CastVote(self.height, view, Phase.COMMIT, certificate.digest))

    # --- view changes -------------------------------------------------------------------------------------------------

    def _change_to(self, view: int) -> None:
        """[P12] Leave the view for good: no vote in it or below it is cast after this is in the log."""
        if self.me is None or self.deciding is not None:
            return
        self._move(view, changing=True)
        self._timing_out = False
        self._reached[self.me] = view
        self._out += [
            Persist(Changing(self.height, view)),
            StopTimer(),
            CastViewChange(self.height, view, self.lock),
        ]
        self._gather()

    def _on_changed(self, change: ViewChange) -> None:
        if change.height != self.height or self.deciding is not None or self.me is None:
            return
        known = self._changes.setdefault(change.voter, {})
        known.setdefault(change.view, change)
        while len(known) > CHANGES_PER_VALIDATOR_MAX:
            del known[min(known)]
        self._reached[change.voter] = max(change.view, self._reached.get(change.voter, 0))
        view = view_to_join(self._reached, self.me, self.validators)
        if view > self.view:
            self._change_to(view)
        else:
            self._gather()

    def _gather(self) -> None:
        if not self.changing:
            return
        if len(self.supporters()) >= self.validators.quorum and not self._timing_out:
            # [P14] A view that too few have reached is waited for without end, so that nobody runs ahead alone; those
            # who went further count, or two groups could wait for each other for ever.
            self._set_timer()
        changes = [known[self.view] for _, known in sorted(self._changes.items()) if self.view in known]
        if self.me == self.primary and self._new_view is None and len(changes) >= self.validators.quorum:
            self._new_view = choose(changes)
            self._begin(self._new_view)

    def _begin(self, new_view: NewView) -> None:
        """[P10] As primary, propose the highest lock again, or anything when nobody is locked."""
        if new_view.lock is None:
            self._out.append(Build(self.height, self.view))
        elif new_view.lock.digest in self._payloads:
            self._lead(new_view.lock.digest)
        else:
            self._want(new_view.lock.digest)

    def _lead(self, digest: bytes) -> None:
        new_view = self._new_view
        if self.changing:
            self._enter(self.view)
        self._accept(digest, new_view, mine=True)

    def _enter(self, view: int) -> None:
        self._move(view, changing=False)
        self._set_timer()

    def _move(self, view: int, *, changing: bool) -> None:
        assert view >= self.view
        self.view, self.changing = view, changing
        self.accepted, self.voted_commit = None, False
        self._candidate, self._new_view = None, None
        self._quorums = {key: value for key, value in self._quorums.items() if key >= view}

    # --- small parts --------------------------------------------------------------------------------------------------

    @property
    def _myself(self) -> int:
        assert self.me is not None, "a replica that only follows has no votes to restore"
        return self.me

    @property
    def _reproposing(self) -> bytes | None:
        """The digest that this replica, as primary, must propose again and may lack the payload of."""
        if not self.changing or self._new_view is None or self._new_view.lock is None:
            return None
        return self._new_view.lock.digest

    def _set_timer(self, pause_ms: int = 0) -> None:
        self._timing_out = True
        self._out.append(SetTimer(self.height, self.view, pause_ms + timeout_ms(self.timing, self.view)))

    def _want(self, digest: bytes) -> None:
        if digest not in self._checking and digest not in self._payloads:
            self._out.append(RequestPayload(self.height, digest))

    def _check(self, digest: bytes, payload: bytes) -> None:
        if digest not in self._checking:
            view = self.view if self.deciding is None else max(self.view, self.deciding.view)
            # [P21] Only what a quorum has yet to decide on is judged by this node's clock.
            decided = self.deciding is not None and self.deciding.digest == digest
            self._checking[digest] = decided
            self._out.append(Check(self.height, view, digest, payload, decided))

    def _keep(self, digest: bytes, payload: bytes) -> None:
        if digest in self._payloads:
            return
        needed = {self.accepted, self.lock.digest if self.lock is not None else None}
        while len(self._payloads) >= PAYLOADS_MAX:
            del self._payloads[next(known for known in self._payloads if known not in needed)]
        self._payloads[digest] = payload
