"""What Validators stores: stakes, sets, sessions; and the numbers that its rules are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chain.primitives.scale import Balance, scale_path, u32
from chain.primitives.seal import Authority

# PBFT's traffic grows with the square of the validators: beyond a hundred, a second is too short for a block.
AUTHORITIES_MAX: Final = 100
# A set of four tolerates one fault, a smaller one none: no set that has come to four falls below it.
AUTHORITIES_FLOOR: Final = 4
# Twice the seats: an election reads every candidate's stake. Whoever comes when the list is full displaces the least.
CANDIDATES_MAX: Final = 2 * AUTHORITIES_MAX
# Substrate's number; what is unbonded in one session is one part, and parts that can be withdrawn make room.
UNBONDING_MAX: Final = 32
# Ten minutes of one-second blocks: long enough to tell who is offline from who restarts, and it bounds how often
# followers of the chain have to learn a new set.
SESSION_BLOCKS: Final = 600
# A week of such sessions: as long as votes can be held against a validator, and its money is there to be slashed.
UNBONDING_SESSIONS: Final = 1008
# Who was elected sits in a session that begins one session later, and can be known to be gone only after it.
UNBONDING_SESSIONS_MIN: Final = 2
SESSION_BLOCKS_MAX: Final = 100_000
UNBONDING_SESSIONS_MAX: Final = 10_000


@scale_path("potchain_validators::Unbonding")
@dataclass(frozen=True, slots=True)
class Unbonding:
    """A part of a stake that leaves: it can be withdrawn once session `session` has begun."""

    amount: Balance
    session: u32


@scale_path("potchain_validators::Stake")
@dataclass(frozen=True, slots=True)
class Stake:
    """What an account has reserved here: `active` counts in elections, and all of it can be slashed."""

    active: Balance
    unbonding: tuple[Unbonding, ...]

    @property
    def total(self) -> int:
        """All that is reserved."""
        return self.active + sum(part.amount for part in self.unbonding)


NO_STAKE: Final = Stake(0, ())


@scale_path("potchain_validators::SetRecord")
@dataclass(frozen=True, slots=True)
class SetRecord:
    """A validator set and the first height that it decided; it decided all up to the next set's first."""

    first_height: u32
    authorities: tuple[Authority, ...]


@scale_path("potchain_validators::Closing")
@dataclass(frozen=True, slots=True)
class Closing:
    """A session that is over but for the seal of its last block, which the block after it carries."""

    session: u32
    set_id: u32
    participation: tuple[u32, ...]


@scale_path("potchain_validators::Offence")
@dataclass(frozen=True, slots=True)
class Offence:
    """At which height a validator voted twice, and what it cost."""

    height: u32
    slashed: Balance


@scale_path("potchain_validators::Rules")
@dataclass(frozen=True, slots=True)
class Rules:
    """What the genesis file may set: how many blocks a session has, and how many sessions unbonding takes."""

    session_blocks: u32
    unbonding_sessions: u32


@scale_path("potchain_validators::ChillReason")
class ChillReason(IntEnum):
    """Why an account is no candidate any more."""

    OWN_WISH = 0
    OUTBID = 1  # the list was full, and somebody with more stake came
    OFFLINE = 2
    OFFENCE = 3
