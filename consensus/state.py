"""Where consensus stands, as this node has heard: what a height is waiting for, and for whom."""

from chain.primitives.seal import Phase
from consensus.host import Awaited, GadgetState
from consensus.replica import Replica
from consensus.tally import Tally


def state_of(replica: Replica, tally: Tally) -> GadgetState:
    """Say what the replica's height is waiting for, with the validators named by account."""
    phase: Awaited
    validators = replica.validators
    expected = set(range(validators.n))
    if replica.deciding is not None:
        phase, voted = "sealing", tally.voters(replica.deciding.view, Phase.COMMIT)
        expected = voted  # There is a quorum: the payload or the disk is waited for, and no validator.
    elif replica.changing and len(replica.supporters()) < validators.quorum:
        phase, voted = "view-change", replica.supporters()
    elif replica.accepted is None:
        phase, voted, expected = "proposal", set(), {replica.primary}
    elif not replica.voted_commit:
        phase, voted = "prepare", tally.voters(replica.view, Phase.PREPARE)
    else:
        phase, voted = "commit", tally.voters(replica.view, Phase.COMMIT)
    accounts = [authority.account for authority in validators.authorities]
    return GadgetState(
        height=replica.height,
        view=replica.view,
        phase=phase,
        primary=accounts[replica.primary],
        voted=tuple(accounts[index] for index in sorted(voted)),
        missing=tuple(accounts[index] for index in sorted(expected - voted)),
    )
