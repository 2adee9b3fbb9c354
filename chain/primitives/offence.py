"""Evidence that a validator voted twice: what both votes share, and the two digests with their signatures.

Rule: nobody is framed. What the votes share is written once, so that no two votes of different chains, sets, heights,
views or phases can be laid beside each other; and for a pair of votes there is one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from chain.primitives import bls
from chain.primitives.scale import H256, u16, u32
from chain.primitives.seal import BlsSignature, Phase, ValidatorSet, vote_message


@dataclass(frozen=True, slots=True)
class SignedDigest:
    """What one of the votes was for, and its signature."""

    digest: H256
    signature: BlsSignature


@dataclass(frozen=True, slots=True)
class DoubleVote:
    """Two votes of validator `voter` of a set, in one phase of one view: `first` has the lesser digest."""

    set_id: u32
    height: u32
    view: u32
    phase: Phase
    voter: u16
    first: SignedDigest
    second: SignedDigest


# Evidence is checked when it arrives, by who builds a block with it, and by who executes that; there is one a validator
# and session, so that a hundred are a whole set's.
@lru_cache(maxsize=128)
def verify_double_vote(validators: ValidatorSet, genesis_hash: bytes, evidence: DoubleVote) -> bool:
    """Say whether a validator of this set signed both votes of this chain. Costs two pairings; never raises.

    Of prepares and commits alone: what view changes claim is bound by a hash, and is judged by nobody.
    """
    if evidence.set_id != validators.set_id or evidence.voter >= validators.n:
        return False
    if evidence.phase is Phase.VIEW_CHANGE or evidence.first.digest >= evidence.second.digest:
        return False
    key = validators.authorities[evidence.voter].bls_key
    return all(
        bls.verify(
            key,
            vote_message(genesis_hash, evidence.set_id, evidence.height, evidence.view, evidence.phase, signed.digest),
            signed.signature,
        )
        for signed in (evidence.first, evidence.second)
    )
