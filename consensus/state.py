"""Where consensus stands, as this node has heard: what a height is waiting for, and for whom."""

from chain.primitives.seal import Phase
from consensus.host import Awaited, GadgetState
from consensus.replica import Replica
from consensus.tally import Tally


def awaited(replica: Replica) -> Awaited:
    """Say what the replica's height is waiting for."""
    if replica.deciding is not None:
        return "sealing"
    if replica.changing and len(replica.supporters()) < replica.validators.quorum:
        return "view-change"
    if replica.accepted is None:
        return "proposal"
    return "commit" if replica.voted_commit else "prepare"


def state_of(replica: Replica, tally: Tally) -> GadgetState:
    """Say what the replica's height is waiting for, with the validators named by account."""
    phase = awaited(replica)
    validators = replica.validators
    expected = set(range(validators.n))
    voted: set[int]
    if replica.deciding is not None:
        voted = tally.voters(replica.deciding.view, Phase.COMMIT)
        expected = voted  # There is a quorum: the payload or the disk is waited for, and no validator.
    elif phase == "view-change":
        voted = replica.supporters()
    elif phase == "proposal":
        voted, expected = set(), {replica.primary}
    else:
        voted = tally.voters(replica.view, Phase.PREPARE if phase == "prepare" else Phase.COMMIT)
    accounts = [authority.account for authority in validators.authorities]
    return GadgetState(
        height=replica.height,
        view=replica.view,
        phase=phase,
        primary=accounts[replica.primary],
        voted=tuple(accounts[index] for index in sorted(voted)),
        missing=tuple(accounts[index] for index in sorted(expected - voted)),
    )
