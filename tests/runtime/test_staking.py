"""Stakes, keys and candidates: what an account may do, and that nobody in a set is without bond or key."""

from __future__ import annotations

import pytest

from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.scale import AccountId
from runtime.executive import Executive
from runtime.modules.validators import Validators
from runtime.modules.validators_types import CANDIDATES_MAX, UNBONDING_MAX, ChillReason, Stake, Unbonding
from runtime.potchain import RUNTIME
from runtime.testing import (
    ALICE,
    BOB,
    CHARLIE,
    DAVE,
    ENDOWMENT,
    EVE,
    FERDIE,
    POT,
    STAKE,
    TestChain,
    bls_secret,
    genesis_config,
)
from runtime.types import DispatchError, GenesisError

SHORT = {"sessionBlocks": 3, "unbondingSessions": 4}


def keys_of(keypair: Keypair, account: Keypair | None = None) -> dict[str, bytes]:
    """The arguments of `set_keys` with the key that the test chain seals with for this validator, for an account."""
    secret = bls_secret(keypair)
    return {"bls_key": bls.public_key(secret), "proof": bls.prove_possession(secret, (account or keypair).public)}


def join(chain: TestChain, keypair: Keypair, value: int = 2 * STAKE) -> None:
    """Bond, set a key, stand for election."""
    chain.call(keypair, "validators.bond", value=value)
    chain.call(keypair, "validators.set_keys", **keys_of(keypair))
    chain.call(keypair, "validators.validate")


def accounts(chain: TestChain) -> list[AccountId]:
    return [authority.account for authority in chain.modules.validators.authorities.get()]


def stake(chain: TestChain, keypair: Keypair) -> Stake:
    return chain.modules.validators.stakes[keypair.public]


def test_the_first_set_has_bonded_and_stands_for_election() -> None:
    chain = TestChain()
    validators = chain.modules.validators
    everybody = [keypair.public for keypair in (ALICE, BOB, CHARLIE, DAVE)]
    assert accounts(chain) == everybody
    assert list(validators.candidates.get()) == sorted(everybody)
    assert [stake(chain, keypair) for keypair in (ALICE, BOB, CHARLIE, DAVE)] == [Stake(STAKE, ())] * 4
    assert chain.modules.balances.reserved(ALICE.public) == STAKE


def test_a_first_validator_that_cannot_bond_is_named() -> None:
    config = {**genesis_config(), "balances": {"balances": []}}
    with pytest.raises(GenesisError, match=r"validators\.authorities\[0\]: the account cannot bond 1000000000000000: "):
        Executive(RUNTIME).genesis(config)


def test_bonding_reserves_and_is_done_once() -> None:
    chain = TestChain()
    with chain.unchanged(Validators.InsufficientBond):
        chain.call(EVE, "validators.bond", value=STAKE - 1)
    with chain.unchanged(chain.modules.balances.InsufficientBalance):
        chain.call(EVE, "validators.bond", value=ENDOWMENT + 1)
    for path in ("bond_extra", "unbond"):
        with chain.unchanged(Validators.NotBonded):
            chain.call(EVE, f"validators.{path}", value=STAKE)
    assert Validators.Bonded(EVE.public, STAKE) in chain.call(EVE, "validators.bond", value=STAKE)
    with chain.unchanged(Validators.AlreadyBonded):
        chain.call(EVE, "validators.bond", value=STAKE)
    assert Validators.Bonded(EVE.public, POT) in chain.call(EVE, "validators.bond_extra", value=POT)
    assert stake(chain, EVE) == Stake(STAKE + POT, ())
    assert (chain.free(EVE), chain.modules.balances.reserved(EVE.public)) == (ENDOWMENT - STAKE - POT, STAKE + POT)
    chain.run_blocks(1)


def test_what_is_unbonded_comes_back_after_the_unbonding_time() -> None:
    chain = TestChain(sessions=SHORT)
    chain.call(EVE, "validators.bond", value=3 * STAKE)
    assert chain.call(EVE, "validators.unbond", value=STAKE) == [Validators.Unbonded(EVE.public, STAKE, 5)]
    chain.run_to(4)  # session 1
    chain.call(EVE, "validators.unbond", value=POT)
    chain.call(EVE, "validators.unbond", value=POT)
    assert stake(chain, EVE) == Stake(2 * STAKE - 2 * POT, (Unbonding(STAKE, 5), Unbonding(2 * POT, 6)))
    chain.run_to(15)  # the last block of session 4
    with chain.unchanged(Validators.NothingToWithdraw):
        chain.call(EVE, "validators.withdraw_unbonded")
    chain.run_to(16)
    assert Validators.Withdrawn(EVE.public, STAKE) in chain.call(EVE, "validators.withdraw_unbonded")
    assert stake(chain, EVE) == Stake(2 * STAKE - 2 * POT, (Unbonding(2 * POT, 6),))
    assert chain.free(EVE) == ENDOWMENT - 2 * STAKE
    chain.call(EVE, "validators.unbond", value=2 * STAKE - 2 * POT)
    chain.run_to(31)
    chain.call(EVE, "validators.withdraw_unbonded")
    assert EVE.public not in chain.modules.validators.stakes
    assert chain.free(EVE) == ENDOWMENT


def test_what_stays_is_enough_or_nothing() -> None:
    chain = TestChain()
    chain.call(EVE, "validators.bond", value=2 * STAKE)
    for value, error in (
        (0, Validators.NotBonded),
        (2 * STAKE + 1, Validators.NotBonded),
        (STAKE + 1, Validators.InsufficientBond),
    ):
        with chain.unchanged(error):
            chain.call(EVE, "validators.unbond", value=value)
    chain.call(EVE, "validators.unbond", value=2 * STAKE)
    with chain.unchanged(Validators.InsufficientBond):
        chain.call(EVE, "validators.bond_extra", value=STAKE - 1)
    chain.call(EVE, "validators.bond_extra", value=STAKE)


def test_as_many_parts_may_be_unbonding() -> None:
    chain = TestChain()
    parts = tuple(Unbonding(POT, session) for session in range(2000, 2000 + UNBONDING_MAX))
    chain.call(EVE, "validators.bond", value=2 * STAKE + UNBONDING_MAX * POT)
    chain.modules.validators.stakes[EVE.public] = Stake(2 * STAKE, parts)
    with chain.unchanged(Validators.TooManyUnbonding):
        chain.call(EVE, "validators.unbond", value=POT)


def test_a_key_is_somebodys_who_has_bonded_and_proves_that_it_has_it() -> None:
    chain = TestChain()
    with chain.unchanged(Validators.NotBonded):
        chain.call(EVE, "validators.set_keys", **keys_of(EVE))
    chain.call(EVE, "validators.bond", value=STAKE)
    with chain.unchanged(Validators.KeyTaken):
        chain.call(EVE, "validators.set_keys", **keys_of(ALICE))
    with chain.unchanged(Validators.InvalidProof):
        chain.call(EVE, "validators.set_keys", bls_key=keys_of(EVE)["bls_key"], proof=keys_of(FERDIE)["proof"])
    with chain.unchanged(Validators.InvalidProof):
        chain.call(EVE, "validators.set_keys", bls_key=bytes(48), proof=keys_of(EVE)["proof"])
    with chain.unchanged(Validators.NoKeys):
        chain.call(EVE, "validators.purge_keys")
    with chain.unchanged(Validators.NoKeys):
        chain.call(EVE, "validators.validate")
    chain.call(EVE, "validators.set_keys", **keys_of(EVE))
    chain.call(EVE, "validators.set_keys", **keys_of(FERDIE, EVE))
    assert chain.modules.validators.key_owner.get(keys_of(EVE)["bls_key"]) is None
    assert chain.call(EVE, "validators.purge_keys") == [Validators.KeysPurged(EVE.public)]
    chain.run_blocks(1)


def test_nobody_names_anothers_key_with_the_others_proof() -> None:
    chain = TestChain()
    chain.call(EVE, "validators.bond", value=STAKE)
    chain.call(FERDIE, "validators.bond", value=STAKE)
    # Seen in the pool, and sent first.
    with chain.unchanged(Validators.InvalidProof):
        chain.call(FERDIE, "validators.set_keys", **keys_of(EVE))
    chain.call(EVE, "validators.set_keys", **keys_of(EVE))
    # Nor once the key is free: what was proven of it is on chain for good.
    chain.call(EVE, "validators.purge_keys")
    with chain.unchanged(Validators.InvalidProof):
        chain.call(FERDIE, "validators.set_keys", **keys_of(EVE))
    assert keys_of(EVE)["bls_key"] not in chain.modules.validators.key_owner


def test_a_validator_keeps_its_bond_and_its_key_until_its_sessions_are_over() -> None:
    chain = TestChain(sessions=SHORT)
    join(chain, EVE)
    chain.run_to(3)
    with chain.unchanged(Validators.AlreadyCandidate):
        chain.call(DAVE, "validators.validate")
    for _ in range(2):  # as a candidate, and then as a member that was one
        with chain.unchanged(Validators.StillValidating):
            chain.call(DAVE, "validators.unbond", value=1)
        with chain.unchanged(Validators.StillValidating):
            chain.call(DAVE, "validators.purge_keys")
        if DAVE.public in chain.modules.validators.candidates.get():
            chilled = Validators.Chilled(DAVE.public, ChillReason.OWN_WISH)
            assert chain.call(DAVE, "validators.chill") == [chilled]
    with chain.unchanged(Validators.NotCandidate):
        chain.call(DAVE, "validators.chill")
    chain.run_to(6)  # elected out at the end of session 0, and out from session 2 on
    with chain.unchanged(Validators.StillValidating):
        chain.call(DAVE, "validators.unbond", value=STAKE)
    chain.run_to(7)
    assert accounts(chain) == [keypair.public for keypair in (ALICE, BOB, CHARLIE, EVE)]
    chain.call(DAVE, "validators.unbond", value=STAKE)
    chain.call(DAVE, "validators.purge_keys")
    chain.run_to(22)
    chain.call(DAVE, "validators.withdraw_unbonded")
    assert chain.modules.balances.reserved(DAVE.public) == 0


def test_when_the_list_is_full_the_least_stake_makes_room() -> None:
    chain = TestChain()
    validators = chain.modules.validators
    crowd = [number.to_bytes(32) for number in range(CANDIDATES_MAX - 4)]
    for number, account in enumerate(crowd):
        validators.stakes[account] = Stake(2 * STAKE + number, ())
    validators.candidates.put(tuple(sorted((*validators.candidates.get(), *crowd))))
    chain.call(EVE, "validators.bond", value=STAKE)
    chain.call(EVE, "validators.set_keys", **keys_of(EVE))
    with chain.unchanged(Validators.TooManyCandidates):
        chain.call(EVE, "validators.validate")
    chain.call(EVE, "validators.bond_extra", value=1)
    least = min(keypair.public for keypair in (ALICE, BOB, CHARLIE, DAVE))
    assert chain.call(EVE, "validators.validate") == [
        Validators.Chilled(least, ChillReason.OUTBID),
        Validators.CandidateAdded(EVE.public),
    ]
    assert len(validators.candidates.get()) == CANDIDATES_MAX


def test_a_candidate_has_the_least_bond() -> None:
    chain = TestChain()
    chain.call(EVE, "validators.bond", value=STAKE)
    chain.call(EVE, "validators.set_keys", **keys_of(EVE))
    chain.call(EVE, "validators.unbond", value=STAKE)
    with chain.unchanged(Validators.InsufficientBond):
        chain.call(EVE, "validators.validate")


@pytest.mark.parametrize("path", ["withdraw_unbonded", "validate"])
def test_who_has_bonded_nothing_cannot(path: str) -> None:
    chain = TestChain()
    error: type[DispatchError] = Validators.NotBonded
    with chain.unchanged(error):
        chain.call(EVE, f"validators.{path}")
