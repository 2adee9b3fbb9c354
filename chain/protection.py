"""How many of a task's slots have to be audited for what they are worth: what the chain asks of a task, said before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runtime.modules.training_policy import PPM, Policy


def protecting(chain: Any, policy: Policy, price_per_slot: int) -> Policy:
    """The policy with so many more slots audited, in per cent, as the price needs; all where none is enough.

    `chain` are the runtime's modules over a state.
    """
    worth = price_per_slot + min(price_per_slot, chain.rewards.slot_emission)
    while policy.audited_ppm < PPM and chain.training.worth_max(policy) < worth:
        policy = replace(policy, audited_ppm=min(PPM, policy.audited_ppm + PPM // 100))
    return policy
