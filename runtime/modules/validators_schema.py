"""What Validators declares: storage, constants, errors and events."""

from __future__ import annotations

from chain.primitives.scale import H256, AccountId, Balance, u32
from chain.primitives.seal import Authority, BlsPublicKey
from runtime.framework import Constant, Module, event
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.modules.validators_types import (
    AUTHORITIES_MAX,
    CANDIDATES_MAX,
    NO_STAKE,
    SESSION_BLOCKS,
    UNBONDING_MAX,
    UNBONDING_SESSIONS,
    ChillReason,
    Closing,
    Offence,
    Rules,
    SetRecord,
    Stake,
)
from runtime.storage import Hasher, StorageMap, StorageValue
from runtime.types import DispatchError


class ValidatorsSchema(Module):
    """Stakes, sessions and the validator set, the beacon and participation."""

    system: System
    balances: Balances

    authorities = StorageValue[list[Authority]](default=[], doc="The validators, in the order that views rotate.")
    set_id = StorageValue[u32](default=0, doc="The number of the validator set; every vote is bound to it.")
    beacon = StorageValue[H256](default=bytes(32), doc="The randomness of the block: unknown before it.")
    proposer = StorageValue[AccountId](default=bytes(32), doc="The account that proposed the block.")
    participation = StorageValue[tuple[u32, ...]](
        default=(), doc="How many blocks of this session each validator has helped to seal, in the set's order."
    )
    queued = StorageValue[list[Authority]](default=[], doc="The validators of the next session.")
    closing = StorageValue[Closing](doc="The session that ended with the parent block, in the first block after it.")
    sets = StorageMap[u32, SetRecord](
        hasher=Hasher.TWOX_64_CONCAT, doc="Validator sets by number: those whose votes can still be held against them."
    )
    oldest_set = StorageValue[u32](default=0, doc="The least number in Sets.")
    stakes = StorageMap[AccountId, Stake](default=NO_STAKE, doc="What each account has bonded.")
    candidates = StorageValue[tuple[AccountId, ...]](default=(), doc="Who stands for election, ascending.")
    session_keys = StorageMap[AccountId, BlsPublicKey](doc="The BLS key that an account would vote with.")
    key_owner = StorageMap[BlsPublicKey, AccountId](doc="Whose session key it is.")
    offences = StorageMap[tuple[u32, AccountId], Offence](
        hasher=(Hasher.TWOX_64_CONCAT, Hasher.BLAKE2_128_CONCAT),
        doc="Who was found to have voted twice, by session: once in each is all that is held against it.",
    )
    minted = StorageValue[Balance](default=0, doc="Everything that validators were ever paid by the chain.")
    rules = StorageValue[Rules](
        default=Rules(SESSION_BLOCKS, UNBONDING_SESSIONS), doc="The length of sessions and of unbonding, from genesis."
    )

    authorities_max = Constant[u32](AUTHORITIES_MAX, doc="The most validators that a set may have.")
    candidates_max = Constant[u32](CANDIDATES_MAX, doc="The most accounts that may stand for election.")
    unbonding_max = Constant[u32](UNBONDING_MAX, doc="The most parts of a stake that may be unbonding.")
    # Ten times a worker's bond: a validator's vote decides about all of them.
    bond_min = Constant[Balance](1000 * POT, doc="The least stake that an account may bond.")
    # A quarter of what slots may earn at most: validators check, workers work.
    # A fork takes a third of a set, and costs each of them this; it ends the validator, and is no ruin for who ran
    # one key on two machines.
    slash_percent = Constant[u32](10, doc="What voting twice costs, in percent of all that is bonded.")
    block_reward = Constant[Balance](
        POT, doc="What a block is worth to its validators: each that helped to seal it earns its equal part."
    )

    class InvalidSeal(DispatchError):
        """The seal is not a quorum's for the parent block."""

        index = 0

    class AlreadyBonded(DispatchError):
        """The account has bonded: bond_extra adds to it."""

        index = 1

    class NotBonded(DispatchError):
        """The account has bonded nothing, or not as much."""

        index = 2

    class InsufficientBond(DispatchError):
        """The stake would be less than BondMin."""

        index = 3

    class StillValidating(DispatchError):
        """The account is a candidate, or sits in this session's set or the next's: chill, and wait until it is over."""

        index = 4

    class TooManyUnbonding(DispatchError):
        """As many parts of the stake are unbonding as there may be: withdraw those that can be."""

        index = 5

    class NothingToWithdraw(DispatchError):
        """No part of the stake has waited for long enough."""

        index = 6

    class InvalidProof(DispatchError):
        """The proof of possession is not of this key for this account."""

        index = 7

    class KeyTaken(DispatchError):
        """The key is an account's already."""

        index = 8

    class NoKeys(DispatchError):
        """The account has set no session key."""

        index = 9

    class AlreadyCandidate(DispatchError):
        """The account stands for election already."""

        index = 10

    class NotCandidate(DispatchError):
        """The account does not stand for election."""

        index = 11

    class TooManyCandidates(DispatchError):
        """There are as many candidates as there may be, and none has less stake."""

        index = 12

    class UnknownSet(DispatchError):
        """The votes are of a set that there is not, or whose votes count no more."""

        index = 13

    class WrongHeight(DispatchError):
        """The set did not decide this height."""

        index = 14

    class StaleEvidence(DispatchError):
        """The votes are older than the unbonding time."""

        index = 15

    class InvalidEvidence(DispatchError):
        """The two votes are not one validator's of this set, or do not contradict each other."""

        index = 16

    class AlreadyReported(DispatchError):
        """The validator was found to have voted twice in this session."""

        index = 17

    @event(index=0)
    class Bonded:
        """An account bonded some of its balance."""

        stash: AccountId
        amount: Balance

    @event(index=1)
    class Unbonded:
        """A part of a stake leaves: it can be withdrawn once the session has begun."""

        stash: AccountId
        amount: Balance
        session: u32

    @event(index=2)
    class Withdrawn:
        """What had unbonded is the account's to spend."""

        stash: AccountId
        amount: Balance

    @event(index=3)
    class KeysSet:
        """An account has another session key, from the next election on."""

        stash: AccountId
        bls_key: BlsPublicKey

    @event(index=4)
    class KeysPurged:
        """An account has no session key any more."""

        stash: AccountId

    @event(index=5)
    class CandidateAdded:
        """An account stands for election."""

        stash: AccountId

    @event(index=6)
    class Chilled:
        """An account does not stand for election any more. It serves until the sets that it sits in have served."""

        stash: AccountId
        reason: ChillReason

    @event(index=7)
    class NewSession:
        """A session begins with the next block, with the set of this number."""

        session: u32
        set_id: u32

    @event(index=8)
    class SetChanged:
        """From this height on, this set decides."""

        set_id: u32
        first_height: u32
        validators: tuple[AccountId, ...]

    @event(index=9)
    class Rewarded:
        """A validator was paid for the blocks of a session that it helped to seal."""

        session: u32
        validator: AccountId
        blocks: u32
        amount: Balance

    @event(index=10)
    class OffenceReported:
        """A validator voted twice at a height, and lost a part of its stake."""

        session: u32
        validator: AccountId
        height: u32
        slashed: Balance
