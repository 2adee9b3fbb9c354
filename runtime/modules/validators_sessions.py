"""How sessions follow each other: who is elected, when the set changes, and what a session's seals were worth.

Rule: a set is known one session before it votes, and the set's number changes exactly when the set does. The last block
of a session turns to the next set; the first one of the next carries the last one's seal, and settles the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from chain.primitives.seal import Authority
from runtime.modules.validators_schema import ValidatorsSchema
from runtime.modules.validators_types import (
    AUTHORITIES_FLOOR,
    AUTHORITIES_MAX,
    ChillReason,
    Closing,
    SetRecord,
)

# Who has helped to seal less than one block in this many is offline. Proposers choose whose late votes they take; while
# two thirds of them are honest, nobody who votes in time is left out of half of the blocks.
PRESENT_ONE_IN: Final = 2


def session_of(height: int, session_blocks: int) -> int:
    """Which session a height from 1 on belongs to."""
    return (height - 1) // session_blocks


def elect(incumbents: Sequence[bytes], stakes: Mapping[bytes, int], seats: int = AUTHORITIES_MAX) -> list[bytes]:
    """Who follows `incumbents`, of the candidates that `stakes` names: the greatest stakes, as far as it is safe.

    [P25] Nobody knows whether a newcomer's node runs. So there are never more of them at once than faults are
    tolerated, or one in a set of one or two, which tolerates none anyway; and where too few candidates are left,
    incumbents that wanted to leave stay. Incumbents keep their order, and newcomers follow by stake: a set that is
    the same is equal.
    """
    staying = [account for account in incumbents if account in stakes]
    newcomers = sorted((account for account in stakes if account not in incumbents), key=lambda a: (-stakes[a], a))
    least = min(AUTHORITIES_FLOOR, len(incumbents))
    admitted = 0
    while admitted < len(newcomers):
        size = min(seats, max(least, len(staying) + admitted + 1))
        tolerated = (size - 1) // 3
        if admitted + 1 > (max(tolerated, 1) if staying and len(incumbents) < 3 else tolerated):
            break
        admitted += 1
    # The sort is stable: of equal stakes whoever sits stays, so that no seat goes back and forth.
    eligible = [*staying, *newcomers[:admitted]]
    chosen = set(sorted(eligible, key=lambda account: -stakes[account])[:seats])
    for account in incumbents:
        if len(chosen) < least:
            chosen.add(account)
    return [account for account in (*incumbents, *newcomers) if account in chosen]


def seat(incumbents: Sequence[Authority], elected: Sequence[bytes], keys: Mapping[bytes, bytes]) -> list[Authority]:
    """The elected with the keys that they vote with: those that `keys` names, as far as it is safe.

    [P25] A key that an incumbent has changed is of a node that nobody has heard, as a newcomer's. So together there are
    never more of them at once than faults are tolerated, or one; who is not among them votes with its old key for
    another session, unless another account has taken that. The first in the set's order are the first to change.
    """
    before = {authority.account: authority.bls_key for authority in incumbents}
    named = set(keys.values())
    room = max((len(elected) - 1) // 3, 1) - sum(account not in before for account in elected)
    seated = []
    for account in elected:
        key = keys[account]
        if before.get(account, key) != key:
            if room > 0 or before[account] in named:
                room -= 1
            else:
                key = before[account]
        seated.append(Authority(account, key))
    return seated


def is_last(validators: ValidatorsSchema) -> bool:
    """Whether the open block is its session's last."""
    return validators.system.height % validators.rules.get().session_blocks == 0


def settle(validators: ValidatorsSchema, closing: Closing) -> None:
    """Pay who sealed the session's blocks; chill who missed too many of them, and pay it nothing."""
    blocks = validators.rules.get().session_blocks
    authorities = validators.sets[closing.set_id].authorities
    for authority, sealed in zip(authorities, closing.participation, strict=True):
        account = authority.account
        if sealed * PRESENT_ONE_IN < blocks:
            chill(validators, account, ChillReason.OFFLINE)
            continue
        amount = validators.block_reward * sealed // len(authorities)
        validators.minted.put(validators.minted.get() + amount)
        validators.balances.mint(account, amount)
        validators.emit(validators.Rewarded(closing.session, account, sealed, amount))
    validators.closing.kill()


def rotate(validators: ValidatorsSchema) -> None:
    """End the session with the open block: the queued set decides the next height, and another one is elected."""
    height = validators.system.height
    session = session_of(height, validators.rules.get().session_blocks)
    set_id, queued = validators.set_id.get(), validators.queued.get()
    validators.closing.put(Closing(session, set_id, validators.participation.get()))
    if queued != validators.authorities.get():
        set_id += 1  # [P23] Votes of one set are none of another's.
        validators.set_id.put(set_id)
        validators.authorities.put(queued)
        validators.sets[set_id] = SetRecord(height + 1, tuple(queued))
        accounts = tuple(authority.account for authority in queued)
        validators.emit(validators.SetChanged(set_id, height + 1, accounts))
    validators.participation.put((0,) * len(queued))
    stakes = {account: validators.stakes[account].active for account in validators.candidates.get()}
    elected = elect([authority.account for authority in queued], stakes)
    keys = {account: validators.session_keys[account] for account in elected}
    validators.queued.put(seat(queued, elected, keys))
    forget(validators, session + 1)
    validators.emit(validators.NewSession(session + 1, set_id))


def forget(validators: ValidatorsSchema, session: int) -> None:
    """Drop what can be held against nobody any more, now that `session` begins."""
    rules = validators.rules.get()
    oldest, newest = validators.oldest_set.get(), validators.set_id.get()
    while oldest < newest:
        last_height = validators.sets[oldest + 1].first_height - 1
        if session_of(last_height, rules.session_blocks) + rules.unbonding_sessions > session:
            break
        validators.sets.remove(oldest)
        oldest += 1
    validators.oldest_set.put(oldest)
    # A session later than evidence is stale: a pool judges it on the state after a session's last block, by the session
    # of that block, and would take a second report of what the chain had just forgotten.
    if session > rules.unbonding_sessions:
        validators.offences.clear(session - rules.unbonding_sessions - 1)


def is_seated(validators: ValidatorsSchema, account: bytes) -> bool:
    """Whether an account sits in this session's set or in the next one's."""
    return any(authority.account == account for authority in (*validators.authorities.get(), *validators.queued.get()))


def chill(validators: ValidatorsSchema, account: bytes, reason: ChillReason) -> None:
    """Take an account off the candidates' list, if it is there."""
    candidates = validators.candidates.get()
    if account in candidates:
        validators.candidates.put(tuple(other for other in candidates if other != account))
        validators.emit(validators.Chilled(account, reason))
