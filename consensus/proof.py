"""Whether signatures are genuine: the only place where consensus checks cryptography.

Pure and slow (about 4 ms a pairing), so the gadget calls it in threads. What it says yes to becomes an event.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from chain.primitives import bls
from chain.primitives.seal import (
    Phase,
    Seal,
    ValidatorSet,
    bitmap,
    read_bitmap,
    standing_message,
    verify_seal,
    vote_message,
)
from consensus.messages import (
    NO_LOCK,
    Certificate,
    NewView,
    PrePrepare,
    Standing,
    ViewChange,
    Vote,
    lock_digest,
    lock_of,
)

# One certificate comes with each view change that is locked on it: as many as views can differ within a height.
_CERTIFICATES_MAX: Final = 16


class Verifier:
    """Checks what one validator set signed on one chain."""

    def __init__(self, genesis_hash: bytes, validators: ValidatorSet) -> None:
        self.validators = validators
        self._genesis_hash = genesis_hash
        self._genuine: dict[Certificate, None] = {}  # Prepared certificates found genuine, oldest first.

    def vote_message(self, height: int, view: int, phase: Phase, digest: bytes) -> bytes:
        """Return what is signed to prepare or commit."""
        return vote_message(self._genesis_hash, self.validators.set_id, height, view, phase, digest)

    def change_message(self, height: int, view: int, lock: Certificate | None) -> bytes:
        """Return what is signed to change view, which binds the lock that is claimed."""
        return self.vote_message(height, view, Phase.VIEW_CHANGE, lock_digest(lock_of(lock)))

    def standing_message(self, height: int, nonce: bytes, remembers: bool) -> bytes:
        """Return what is signed to say where one stands."""
        return standing_message(self._genesis_hash, self.validators.set_id, height, remembers, nonce)

    def standing(self, standing: Standing) -> bool:
        """Say whether the validator signed the answer."""
        message = self.standing_message(standing.height, standing.nonce, standing.remembers)
        return self._signed(standing.voter, message, standing.signature)

    def vote(self, vote: Vote) -> bool:
        """Say whether the voter is a validator and signed."""
        return self._signed(
            vote.voter, self.vote_message(vote.height, vote.view, vote.phase, vote.digest), vote.signature
        )

    def certify(self, vote: Vote, signatures: Mapping[int, bytes]) -> Certificate | None:
        """Join signatures over what `vote` says into its certificate; None if they do not verify as one."""
        voters = sorted(signatures)
        message = self.vote_message(vote.height, vote.view, vote.phase, vote.digest)
        try:
            aggregate = bls.aggregate([signatures[voter] for voter in voters])
        except ValueError:
            return None
        keys = [self.validators.authorities[voter].bls_key for voter in voters]
        if not bls.fast_aggregate_verify(keys, message, aggregate):
            return None
        return Certificate(vote.height, vote.view, vote.digest, bitmap(voters, self.validators.n), aggregate)

    def seal(self, certificate: Certificate, late: Mapping[int, bytes]) -> Seal | None:
        """[P20] The seal that a commit certificate makes with late commits for the same; None if they are not genuine.

        `late` has none of the certificate's own voters.
        """
        voters = [*read_bitmap(certificate.voters, self.validators.n), *late]
        try:
            aggregate = bls.aggregate([certificate.signature, *late.values()])
        except ValueError:
            return None
        octets = bitmap(voters, self.validators.n)
        set_id = self.validators.set_id
        seal = Seal(certificate.height, certificate.view, set_id, certificate.digest, octets, aggregate)
        return seal if verify_seal(self.validators, self._genesis_hash, seal) else None

    def prepared(self, certificate: Certificate) -> bool:
        """Say whether a quorum prepared what the certificate says."""
        if certificate in self._genuine:
            return True
        try:
            voters = read_bitmap(certificate.voters, self.validators.n)
        except ValueError:
            return False
        if len(voters) < self.validators.quorum:
            return False
        keys = [self.validators.authorities[voter].bls_key for voter in voters]
        message = self.vote_message(certificate.height, certificate.view, Phase.PREPARE, certificate.digest)
        if not bls.fast_aggregate_verify(keys, message, certificate.signature):
            return False
        while len(self._genuine) >= _CERTIFICATES_MAX:
            del self._genuine[next(iter(self._genuine))]
        self._genuine[certificate] = None
        return True

    def change(self, change: ViewChange) -> bool:
        """Say whether a validator signed the view change and was prepared for what it claims."""
        lock = change.lock
        if change.view == 0 or (lock is not None and (lock.height != change.height or lock.view >= change.view)):
            return False
        message = self.change_message(change.height, change.view, lock)
        return self._signed(change.voter, message, change.signature) and (lock is None or self.prepared(lock))

    def proposal(self, proposal: PrePrepare, *, authentic: bool) -> bool:
        """Say whether the primary signed (skipped when the sender is known to be it) and the proof is genuine."""
        primary = self.validators.primary_index(proposal.height, proposal.view)
        message = self.vote_message(proposal.height, proposal.view, Phase.PREPARE, proposal.digest)
        if not authentic and not self._signed(primary, message, proposal.signature):
            return False
        return proposal.new_view is None or self._new_view(proposal.height, proposal.view, proposal.new_view)

    def _new_view(self, height: int, view: int, proof: NewView) -> bool:
        if len(proof.changes) > self.validators.n:
            return False
        groups: defaultdict[bytes, list[tuple[int, bytes]]] = defaultdict(list)
        for support in proof.changes:
            if support.voter >= self.validators.n:
                return False
            claim = NO_LOCK if support.lock is None else lock_digest(support.lock)
            groups[claim].append((support.voter, support.signature))
        for claim, members in groups.items():
            # Validators with the same lock signed the same message: one pairing for each group.
            keys = [self.validators.authorities[voter].bls_key for voter, _ in members]
            try:
                aggregate = bls.aggregate([signature for _, signature in members])
            except ValueError:
                return False
            if not bls.fast_aggregate_verify(
                keys, self.vote_message(height, view, Phase.VIEW_CHANGE, claim), aggregate
            ):
                return False
        return proof.lock is None or self.prepared(proof.lock)

    def _signed(self, validator: int, message: bytes, signature: bytes) -> bool:
        if validator >= self.validators.n:
            return False
        return bls.verify(self.validators.authorities[validator].bls_key, message, signature)
