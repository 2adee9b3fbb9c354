"""Validators: who may vote and what they stake for it, the beacon that every draw comes from, and who took part.

Each block's proposer signs the height with its BLS key: a signature that it cannot choose. Hashed into the beacon, it
gives draws that nobody knew before the block. The block also carries its parent's seal, so that participation is on
chain, and what it is worth can be recomputed.

An account bonds, sets a key and stands for election; the greatest stakes are elected for the session after the next
(`validators_sessions` has the rules). Rule: whoever sits in a set has a key and a bond until the session is over, and
the bond can be slashed for as long as its votes can be held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.offence import DoubleVote
from chain.primitives.scale import Balance, ScaleError, encode
from chain.primitives.seal import (
    Authority,
    BlsPublicKey,
    BlsSignature,
    Seal,
    ValidatorSet,
    beacon_message,
    verify_seal,
)
from chain.primitives.types import consensus_digest
from runtime.calls import Call
from runtime.framework import call
from runtime.genesis import Section, show
from runtime.limits import MICROSECOND, MILLISECOND
from runtime.modules import validators_invariants, validators_offences, validators_sessions
from runtime.modules.validators_schema import ValidatorsSchema
from runtime.modules.validators_types import (
    AUTHORITIES_MAX,
    CANDIDATES_MAX,
    SESSION_BLOCKS,
    SESSION_BLOCKS_MAX,
    UNBONDING_MAX,
    UNBONDING_SESSIONS,
    UNBONDING_SESSIONS_MAX,
    UNBONDING_SESSIONS_MIN,
    ChillReason,
    Rules,
    SetRecord,
    Stake,
    Unbonding,
)
from runtime.types import (
    DispatchClass,
    DispatchError,
    GenesisError,
    InherentData,
    InvalidBlock,
    Origin,
    Unsigned,
    Weight,
)

# Verifying one aggregate signature takes two pairings.
PAIRINGS: Final = Weight(5 * MILLISECOND)
# Two votes, and a stake of many parts.
EVIDENCE: Final = Weight(2 * PAIRINGS.ref_time + MILLISECOND)
# Stakes and balances of one account, the candidates' list, both sets.
STAKING: Final = Weight(MILLISECOND)
# The stakes of a full list of candidates.
STANDING: Final = Weight(6 * MILLISECOND)
# At a session's end every candidate's stake and key is read; in the block after it every validator is paid.
ELECTION: Final = Weight(CANDIDATES_MAX * 50 * MICROSECOND)
SETTLEMENT: Final = Weight(AUTHORITIES_MAX * 100 * MICROSECOND)


class Validators(ValidatorsSchema):
    """Stakes, sessions and the validator set, the beacon and participation."""

    inherent = "note_seal"

    @call(index=0, weight=PAIRINGS, dispatch_class=DispatchClass.MANDATORY)
    def note_seal(self, origin: Origin, seal: Seal) -> None:
        """Record who sealed the parent block: every block from height 2 on carries its parent's seal."""
        origin.ensure_none()
        height, parent = self.system.height - 1, self.system.parent_hash.get()
        if (seal.height, seal.block_hash) != (height, parent):
            raise self.InvalidSeal(
                f"expected a seal of block {height} 0x{parent.hex()}, got {seal.height} 0x{seal.block_hash.hex()}"
            )
        # [P24] The last block of a session was sealed by the set of that session.
        closing = self.closing.get() if self.closing.exists() else None
        validators = self.validator_set() if closing is None else self.recorded_set(closing.set_id)
        if not verify_seal(validators, self.system.genesis_hash(), seal):
            raise self.InvalidSeal(
                f"expected the votes of {validators.quorum} of {validators.n} validators of set {validators.set_id}"
                f" for block {height}, got voters 0x{seal.voters.hex()} of set {seal.set_id} with a signature that"
                " does not verify"
            )
        sealed = list(self.participation.get() if closing is None else closing.participation)
        for index in seal.voter_indices(validators.n):
            sealed[index] += 1
        if closing is None:
            self.participation.put(tuple(sealed))
        else:
            validators_sessions.settle(self, replace(closing, participation=tuple(sealed)))

    @call(index=1, weight=STAKING)
    def bond(self, origin: Origin, value: Balance) -> None:
        """Reserve `value`, at least BondMin, as a stake: it counts in elections and can be slashed."""
        stash = origin.ensure_signed()
        if stash in self.stakes:
            raise self.AlreadyBonded
        if value < self.bond_min:
            raise self.InsufficientBond(f"expected at least {self.bond_min}, got {value}")
        self.balances.reserve(stash, value)
        self.stakes[stash] = Stake(value, ())
        self.emit(self.Bonded(stash, value))

    @call(index=2, weight=STAKING)
    def bond_extra(self, origin: Origin, value: Balance) -> None:
        """Add to the stake. What is active then is at least BondMin."""
        stash = origin.ensure_signed()
        stake = self._stake(stash)
        active = stake.active + value
        if active < self.bond_min:
            raise self.InsufficientBond(f"expected at least {self.bond_min}, got {active}")
        self.balances.reserve(stash, value)
        self.stakes[stash] = replace(stake, active=active)
        self.emit(self.Bonded(stash, value))

    @call(index=3, weight=STAKING)
    def unbond(self, origin: Origin, value: Balance) -> None:
        """Let a part of the stake leave: it counts no more, and can be withdrawn after the unbonding time.

        What stays active is at least BondMin, or nothing for who neither stands for election nor sits in a set.
        """
        stash = origin.ensure_signed()
        stake = self._stake(stash)
        if not 0 < value <= stake.active:
            raise self.NotBonded(f"expected up to {stake.active}, the active stake, got {value}")
        active = stake.active - value
        if active < self.bond_min:
            self._ensure_not_validating(stash)
            if active:
                raise self.InsufficientBond(f"{active} would be left: expected {self.bond_min}, or 0 to leave")
        # The next session's seat may have been won with this part, and votes from it count as long as any.
        session = self.session() + 1 + self.rules.get().unbonding_sessions
        parts = stake.unbonding
        if parts and parts[-1].session == session:
            value_with, parts = parts[-1].amount + value, parts[:-1]
        elif len(parts) < UNBONDING_MAX:
            value_with = value
        else:
            raise self.TooManyUnbonding
        self.stakes[stash] = Stake(active, (*parts, Unbonding(value_with, session)))
        self.emit(self.Unbonded(stash, value, session))

    @call(index=4, weight=STAKING)
    def withdraw_unbonded(self, origin: Origin) -> None:
        """Have everything back that has waited for long enough; who has no stake left has no key any more, either."""
        stash = origin.ensure_signed()
        stake = self._stake(stash)
        session = self.session()
        left = tuple(part for part in stake.unbonding if part.session > session)
        amount = stake.total - stake.active - sum(part.amount for part in left)
        if len(left) == len(stake.unbonding):
            raise self.NothingToWithdraw
        missing = self.balances.unreserve(stash, amount)
        assert not missing, f"0x{stash.hex()} lacks {missing} of its stake"
        if stake.active or left:
            self.stakes[stash] = Stake(stake.active, left)
        else:
            self.stakes.remove(stash)
            if stash in self.session_keys:
                self._drop_key(stash)
        self.emit(self.Withdrawn(stash, amount))

    @call(index=5, weight=PAIRINGS)
    def set_keys(self, origin: Origin, bls_key: BlsPublicKey, proof: BlsSignature) -> None:
        """Vote with this key from the next election on: for who has bonded. `proof`: whose key it is says so."""
        stash = origin.ensure_signed()
        self._stake(stash)
        if bls_key in self.key_owner:
            raise self.KeyTaken
        if not bls.verify_possession(bls_key, stash, proof):
            raise self.InvalidProof
        before = self.session_keys.get(stash)
        if before is not None:
            self.key_owner.remove(before)
        self._put_key(stash, bls_key)
        self.emit(self.KeysSet(stash, bls_key))

    @call(index=6, weight=STAKING)
    def purge_keys(self, origin: Origin) -> None:
        """Have no key any more: for who neither stands for election nor sits in a set."""
        stash = origin.ensure_signed()
        if stash not in self.session_keys:
            raise self.NoKeys
        self._ensure_not_validating(stash)
        self._drop_key(stash)

    @call(index=7, weight=STANDING)
    def validate(self, origin: Origin) -> None:
        """Stand for election, with a key and at least BondMin. When the list is full, the least stake makes room."""
        stash = origin.ensure_signed()
        stake, candidates = self._stake(stash), self.candidates.get()
        if stash in candidates:
            raise self.AlreadyCandidate
        if stash not in self.session_keys:
            raise self.NoKeys
        if stake.active < self.bond_min:
            raise self.InsufficientBond(f"expected at least {self.bond_min}, got {stake.active}")
        if len(candidates) >= CANDIDATES_MAX:
            least, weakest = min((self.stakes[account].active, account) for account in candidates)
            if least >= stake.active:
                raise self.TooManyCandidates(f"the least of them has {least}, this account has {stake.active}")
            validators_sessions.chill(self, weakest, ChillReason.OUTBID)
        self.candidates.put(tuple(sorted((*self.candidates.get(), stash))))
        self.emit(self.CandidateAdded(stash))

    @call(index=8, weight=STAKING)
    def chill(self, origin: Origin) -> None:
        """Stand for election no more: keep the node running until this session and the next are over."""
        stash = origin.ensure_signed()
        if stash not in self.candidates.get():
            raise self.NotCandidate
        validators_sessions.chill(self, stash, ChillReason.OWN_WISH)

    @call(index=9, weight=EVIDENCE, dispatch_class=DispatchClass.OPERATIONAL)
    def report_double_vote(self, origin: Origin, evidence: DoubleVote) -> None:
        """Slash a validator that voted twice: whoever saw it reports it, without a signature and without a fee."""
        origin.ensure_none()
        validators_offences.punish(self, evidence)

    def validate_unsigned(self, call: Call) -> Unsigned | None:
        """Evidence speaks for itself."""
        if call.info.name != "report_double_vote":
            return None
        (evidence,) = call.args
        return validators_offences.validate(self, evidence)

    def inherent_required(self) -> bool:
        """Genesis has no seal: block 1 carries none."""
        return self.system.height > 1

    def create_inherent(self, data: InherentData) -> tuple[Seal]:
        """The parent's seal."""
        if data.parent_seal is None:
            raise AssertionError(f"the author of block {self.system.height} has no seal of its parent")
        return (data.parent_seal,)

    def on_initialize(self) -> Weight:
        """Check that the proposer may propose, by its signature of the height, and turn the beacon."""
        height = self.system.height
        try:
            digest = consensus_digest(self.system.digest.get().logs)
        except ScaleError as error:
            raise InvalidBlock(f"block {height}: digest: {error}") from error
        primary = self.validator_set().primary(height, digest.view)
        message = beacon_message(self.system.genesis_hash(), height)
        if not bls.verify(primary.bls_key, message, digest.beacon):
            raise InvalidBlock(
                f"block {height}: expected the beacon signature of 0x{primary.bls_key.hex()}, the primary of view"
                f" {digest.view}, got 0x{digest.beacon.hex()}"
            )
        self.beacon.put(blake2_256(self.beacon.get() + digest.beacon))
        self.proposer.put(primary.account)
        used = PAIRINGS.ref_time
        if self.closing.exists():
            used += SETTLEMENT.ref_time
        if validators_sessions.is_last(self):
            used += ELECTION.ref_time
        return Weight(used)

    def on_finalize(self) -> None:
        """End the session with its last block."""
        if validators_sessions.is_last(self):
            validators_sessions.rotate(self)

    def author(self) -> bytes:
        """The account that proposed the block."""
        return self.proposer.get()

    def randomness(self) -> Hash:
        """The block's beacon value."""
        return self.beacon.get()

    def validator_set(self) -> ValidatorSet:
        """The set that votes on the open block; after a block's end, on the next."""
        return ValidatorSet(self.set_id.get(), tuple(self.authorities.get()))

    def recorded_set(self, set_id: int) -> ValidatorSet:
        """A set whose votes can still be held against it; KeyError for any other."""
        return ValidatorSet(set_id, self.sets[set_id].authorities)

    def session(self) -> int:
        """The open block's session."""
        return validators_sessions.session_of(self.system.height, self.rules.get().session_blocks)

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"authorities": [{"account": address, "bls": "0x…", "proof": "0x…"}, …]}`: the first set.

        Each bonds BondMin of what the balances' genesis gave it, and stands for election. `sessionBlocks` and
        `unbondingSessions` may be set, too.
        """
        section = Section(self.info.attribute, config)
        found: list[Authority] = []
        for path, item in section.items("authorities"):
            found.append(self._read_authority(path, item, found))
        session_blocks, unbonding_sessions = SESSION_BLOCKS, UNBONDING_SESSIONS
        if "sessionBlocks" in section:
            session_blocks = section.integer("sessionBlocks", 1, SESSION_BLOCKS_MAX)
        if "unbondingSessions" in section:
            unbonding_sessions = section.integer("unbondingSessions", UNBONDING_SESSIONS_MIN, UNBONDING_SESSIONS_MAX)
        section.finish()
        if not 1 <= len(found) <= AUTHORITIES_MAX:
            raise GenesisError(
                f"{section.at('authorities')}: expected 1 to {AUTHORITIES_MAX} validators, got {len(found)}"
            )
        for number, authority in enumerate(found):
            try:
                self.balances.reserve(authority.account, self.bond_min)
            except DispatchError as error:
                raise GenesisError(
                    f"{section.at('authorities')}[{number}]: the account cannot bond {self.bond_min}: {error}"
                ) from error
            self.stakes[authority.account] = Stake(self.bond_min, ())
            self._put_key(authority.account, authority.bls_key)
        self.rules.put(Rules(session_blocks, unbonding_sessions))
        self.candidates.put(tuple(sorted(authority.account for authority in found)))
        self.authorities.put(found)
        self.queued.put(found)
        self.sets[0] = SetRecord(1, tuple(found))
        self.participation.put((0,) * len(found))
        self.beacon.put(blake2_256(encode(list[Authority], found)))

    def check(self) -> None:
        validators_invariants.check(self)

    def _read_authority(self, path: str, item: object, others: list[Authority]) -> Authority:
        entry = Section(path, item)
        authority = Authority(entry.account("account"), entry.octets("bls", bls.PUBLIC_KEY_BYTES))
        proof = entry.octets("proof", bls.SIGNATURE_BYTES)
        entry.finish()
        if not bls.verify_possession(authority.bls_key, authority.account, proof):
            raise GenesisError(
                f"{path}.proof: expected a proof of possession of {entry.at('bls')} for {entry.at('account')}, "
                "got one that does not verify: the `proof` of potchain key inspect is for the account beside it"
            )
        if any(authority.account == other.account or authority.bls_key == other.bls_key for other in others):
            raise GenesisError(f"{path}: {show(entry.value('account'))}: account or key appears twice")
        return authority

    def _stake(self, stash: bytes) -> Stake:
        stake = self.stakes.get(stash)
        if stake is None:
            raise self.NotBonded
        return stake

    def _put_key(self, stash: bytes, bls_key: bytes) -> None:
        self.session_keys[stash] = bls_key
        self.key_owner[bls_key] = stash

    def _drop_key(self, stash: bytes) -> None:
        self.key_owner.remove(self.session_keys[stash])
        self.session_keys.remove(stash)
        self.emit(self.KeysPurged(stash))

    def _ensure_not_validating(self, stash: bytes) -> None:
        if stash in self.candidates.get() or validators_sessions.is_seated(self, stash):
            raise self.StillValidating
