"""What a challenge costs a validator that is wrong, and earns one that is right.

Rule: a bond is reserved on its challenger's account for as long as the challenge stands, which is until its attempt at
a round is settled or ends: then it is given back or burned. What who was right earns is a part of what the wrong slot's
worker lost.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.modules.rewards import PPM
from runtime.modules.training_rounds import refilled, upheld
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import CHALLENGE_REFUTED, RoundState


def stake(training: TrainingSchema, account: bytes) -> None:
    """Reserve a challenge's bond, and count it; TooManyChallenges or InsufficientBalance where that cannot be."""
    count = refilled(training.challenges[account], training.system.height)
    if not count.left:
        raise training.TooManyChallenges
    training.balances.reserve(account, training.challenge_bond)
    training.challenges[account] = replace(count, left=count.left - 1)


def uphold(training: TrainingSchema, account: bytes, slashed: int) -> int:
    """Give the bond back with a part of what the worker lost, all of which is burned already; how much that is."""
    give_back(training, account)
    training.challenges[account] = upheld(training.challenges[account], training.system.height)
    reward = share_of(training, slashed)
    if reward:
        training.balances.mint(account, reward)
    return reward


def refute(training: TrainingSchema, account: bytes) -> None:
    """Burn the bond, and let a validator that is refuted again and again run out of challenges."""
    count = training.challenges[account]
    # One was counted when it was made.
    left = max(0, count.left - (CHALLENGE_REFUTED - 1))
    training.challenges[account] = replace(count, refuted=count.refuted + 1, left=left)
    burned = training.balances.slash_reserved(account, training.challenge_bond)
    assert burned == training.challenge_bond, f"0x{account.hex()} lacks {training.challenge_bond - burned} of its bond"


def share_of(training: TrainingSchema, burned: int) -> int:
    """What finding a fault earns of what it cost."""
    return burned * training.challenge_reward_ppm // PPM


def drop(training: TrainingSchema, state: RoundState) -> None:
    """Give the bonds of an attempt back that ended without a verdict."""
    for account in challengers(state):
        give_back(training, account)


def challengers(state: RoundState) -> list[bytes]:
    """Who has a bond in a running round, once for each challenge."""
    return [slot.challenger for slot in state.slots if slot.challenger is not None]


def give_back(training: TrainingSchema, account: bytes) -> None:
    """Free the bond of a challenge about which nothing was found."""
    missing = training.balances.unreserve(account, training.challenge_bond)
    assert not missing, f"0x{account.hex()} lacks {missing} of its bond"
