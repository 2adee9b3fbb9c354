"""What a vote cast twice costs: evidence judged, a stake slashed, once for each validator and session.

Rule: nobody is framed, and nobody is slashed for what its stake was not bonded for. The evidence is of a set that is on
record, of a height that this set decided, and of a session whose stakes cannot have been withdrawn.
"""

from __future__ import annotations

from chain.primitives.offence import DoubleVote, verify_double_vote
from chain.primitives.scale import AccountId, codec_of, u32
from chain.primitives.seal import ValidatorSet
from runtime.modules.validators_schema import ValidatorsSchema
from runtime.modules.validators_sessions import chill, session_of
from runtime.modules.validators_types import ChillReason, Offence, Stake, Unbonding
from runtime.types import U64_MAX, DispatchError, InvalidReason, InvalidTransaction, Unsigned

_TAG = codec_of(tuple[bytes, u32, AccountId])


def judge(validators: ValidatorsSchema, evidence: DoubleVote) -> tuple[int, bytes]:
    """[P26] In which session whose stake is slashed for it; a DispatchError says why nobody's. Signatures come last."""
    rules, height = validators.rules.get(), validators.system.height
    record = validators.sets.get(evidence.set_id)
    if record is None:
        raise validators.UnknownSet(f"expected set {validators.oldest_set.get()} to {validators.set_id.get()}")
    # While a height is being decided its double votes are known already, and the state is that of its parent.
    following = validators.sets.get(evidence.set_id + 1)
    last_height = height + 1 if following is None else following.first_height - 1
    if not record.first_height <= evidence.height <= last_height:
        raise validators.WrongHeight(f"set {evidence.set_id} decides {record.first_height} to {last_height}")
    session = session_of(evidence.height, rules.session_blocks)
    if session + rules.unbonding_sessions <= session_of(height, rules.session_blocks):
        raise validators.StaleEvidence(f"the votes are of session {session}")
    if evidence.voter >= len(record.authorities):
        raise validators.InvalidEvidence(f"set {evidence.set_id} has no validator {evidence.voter}")
    account = record.authorities[evidence.voter].account
    if (session, account) in validators.offences:
        raise validators.AlreadyReported(f"0x{account.hex()} was found out in session {session}")
    deciding = ValidatorSet(evidence.set_id, record.authorities)
    if not verify_double_vote(deciding, validators.system.genesis_hash(), evidence):
        raise validators.InvalidEvidence(f"0x{account.hex()} did not sign both of them")
    return session, account


def validate(validators: ValidatorsSchema, evidence: DoubleVote) -> Unsigned:
    """What the pool is told of evidence: InvalidTransaction for what is not to be included."""
    try:
        session, account = judge(validators, evidence)
    except validators.InvalidEvidence as error:
        raise InvalidTransaction(InvalidReason.BAD_PROOF, f"evidence: {error}") from None
    except DispatchError as error:
        raise InvalidTransaction(InvalidReason.STALE, f"evidence: {error}") from None
    rules = validators.rules.get()
    # As long as it can be held against the validator; the first block of a session decides nothing for it any more.
    last_block = (session + rules.unbonding_sessions) * rules.session_blocks
    tag = _TAG.encode((b"potchain/offence", session, account))
    return Unsigned(tag, U64_MAX, max(1, last_block - validators.system.height))


def punish(validators: ValidatorsSchema, evidence: DoubleVote) -> None:
    """Burn a part of the offender's whole stake, and let it stand for election no more."""
    session, account = judge(validators, evidence)
    stake = validators.stakes[account]
    left = Stake(
        _less(validators, stake.active),
        tuple(Unbonding(_less(validators, part.amount), part.session) for part in stake.unbonding),
    )
    amount = stake.total - left.total
    slashed = validators.balances.slash_reserved(account, amount)
    assert slashed == amount, f"0x{account.hex()} lacks {amount - slashed} of its stake"
    validators.stakes[account] = left
    validators.offences[session, account] = Offence(evidence.height, amount)
    validators.emit(validators.OffenceReported(session, account, evidence.height, amount))
    chill(validators, account, ChillReason.OFFENCE)


def fine(validators: ValidatorsSchema, account: bytes, amount: int) -> int:
    """Burn up to `amount` of an active stake, half of it at most, and return how much.

    Whoever sits in a set goes on having a bond. One that is left with less than BondMin stands for election no more.
    """
    stake = validators.stakes.get(account)
    fined = 0 if stake is None else min(amount, stake.active // 2)
    if stake is None or not fined:
        return 0
    slashed = validators.balances.slash_reserved(account, fined)
    assert slashed == fined, f"0x{account.hex()} lacks {fined - slashed} of its stake"
    validators.stakes[account] = Stake(stake.active - fined, stake.unbonding)
    if stake.active - fined < validators.bond_min:
        chill(validators, account, ChillReason.OFFENCE)
    return fined


def _less(validators: ValidatorsSchema, amount: int) -> int:
    return amount - amount * validators.slash_percent // 100
