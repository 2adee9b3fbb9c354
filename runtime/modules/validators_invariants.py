"""What must hold of the validators' state after every block. For tests and simulations: it reads all of it."""

from __future__ import annotations

from runtime.modules.validators_schema import ValidatorsSchema
from runtime.modules.validators_sessions import session_of
from runtime.modules.validators_types import AUTHORITIES_MAX, CANDIDATES_MAX, UNBONDING_MAX


def check(validators: ValidatorsSchema) -> None:
    """Assert every invariant; an AssertionError says which one failed and with which values."""
    _check_sets(validators)
    _check_stakes(validators)
    _check_keys(validators)
    _check_participation(validators)


def _check_sets(validators: ValidatorsSchema) -> None:
    authorities, queued, set_id = validators.authorities.get(), validators.queued.get(), validators.set_id.get()
    for found in (authorities, queued):
        accounts = [authority.account for authority in found]
        assert 1 <= len(accounts) <= AUTHORITIES_MAX, f"a set of {len(accounts)}"
        assert len(set(accounts)) == len({authority.bls_key for authority in found}) == len(accounts)
        for account in accounts:
            assert validators.stakes[account].active, f"0x{account.hex()} sits in a set and has no bond"
            assert account in validators.session_keys, f"0x{account.hex()} sits in a set and has no keys"
    sets = dict(validators.sets.items())
    assert sorted(sets) == list(range(validators.oldest_set.get(), set_id + 1))
    assert sets[set_id].authorities == tuple(authorities)
    for number in range(validators.oldest_set.get(), set_id):
        assert sets[number].first_height < sets[number + 1].first_height
        assert sets[number].authorities != sets[number + 1].authorities, f"set {number + 1} is no other set"


def _check_stakes(validators: ValidatorsSchema) -> None:
    for account, amount in bound(validators).items():
        stake = validators.stakes[account]
        held = validators.balances.reserved(account)
        assert held >= amount > 0, f"0x{account.hex()} has {held} reserved, its stake says {amount}"
        assert len(stake.unbonding) <= UNBONDING_MAX
        sessions = [part.session for part in stake.unbonding]
        assert sessions == sorted(set(sessions)), f"0x{account.hex()}: {stake}"
    candidates = validators.candidates.get()
    assert len(candidates) <= CANDIDATES_MAX
    assert list(candidates) == sorted(set(candidates))
    for account in candidates:
        assert validators.stakes[account].active >= validators.bond_min
        assert account in validators.session_keys


def _check_keys(validators: ValidatorsSchema) -> None:
    keys = dict(validators.session_keys.items())
    assert {key: account for account, key in keys.items()} == dict(validators.key_owner.items())
    assert all(account in validators.stakes for account in keys)


def _check_participation(validators: ValidatorsSchema) -> None:
    height, rules = validators.system.height, validators.rules.get()
    assert len(validators.participation.get()) == len(validators.authorities.get())
    assert all(sealed <= rules.session_blocks for sealed in validators.participation.get())
    if height:
        assert validators.closing.exists() == (height % rules.session_blocks == 0)
    session = session_of(height, rules.session_blocks)
    assert all(reported + rules.unbonding_sessions >= session for (reported, _), _ in validators.offences.items())
    assert validators.minted.get() <= validators.block_reward * height


def bound(validators: ValidatorsSchema) -> dict[bytes, int]:
    """What stakes have reserved, by account; other modules may have reserved more."""
    return {account: stake.total for account, stake in validators.stakes.items()}
