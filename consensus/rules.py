"""The arithmetic of views: who may begin one, with what, when to join one, how long to wait. Pure functions."""

from collections.abc import Mapping, Sequence

from chain.primitives.seal import ValidatorSet
from consensus.events import Proposed
from consensus.host import Timing
from consensus.messages import NewView, Support, ViewChange, lock_of

# Beyond this the cap has long been reached; without a bound the shift itself would grow without end.
_DOUBLINGS_MAX = 20


def timeout_ms(timing: Timing, view: int) -> int:
    """[P15] What a view is given: doubled with each view of a height (PBFT 4.5.2), and capped."""
    return int(min(timing.timeout_ms << min(view, _DOUBLINGS_MAX), timing.timeout_ms_max))


def view_to_join(reached: Mapping[int, int], me: int, validators: ValidatorSet) -> int:
    """[P13] The highest view that f + 1 others have reached: at least one of them is honest (PBFT 4.5.2)."""
    others = sorted((reached.get(index, 0) for index in range(validators.n) if index != me), reverse=True)
    return others[validators.f] if len(others) > validators.f else 0


def choose(changes: Sequence[ViewChange]) -> NewView:
    """[P10] The proof that a view may begin, from a quorum of view changes: its lock is the highest among theirs."""
    locks = [change.lock for change in changes if change.lock is not None]
    return NewView(
        changes=tuple(Support(change.voter, lock_of(change.lock), change.signature) for change in changes),
        lock=max(locks, key=lambda lock: lock.view, default=None),
    )


def justified(proposal: Proposed, validators: ValidatorSet) -> bool:
    """[P11] Whether a proposal may be accepted in its view, given that the signatures in its proof are genuine.

    View 0 needs no proof. Any later one needs a quorum of view changes to it; if one of them was locked, the proof
    holds the certificate of the highest lock, and the proposal is for its digest.
    """
    proof = proposal.new_view
    if proposal.view == 0:
        return proof is None
    if proof is None:
        return False
    voters = {support.voter for support in proof.changes}
    if len(voters) != len(proof.changes) or len(voters) < validators.quorum or max(voters) >= validators.n:
        return False
    locked_views = [support.lock.view for support in proof.changes if support.lock is not None]
    if not locked_views:
        return proof.lock is None
    return (
        proof.lock is not None
        and proof.lock.height == proposal.height
        and proof.lock.view == max(locked_views) < proposal.view
        and proof.lock.digest == proposal.digest
    )
