"""What tests of the pure parts need of validators: sets of any size, and a signature that nobody checks."""

from typing import Final

from chain.primitives.seal import Authority, ValidatorSet

SIGNATURE: Final = bytes(96)


def validator_set(n: int) -> ValidatorSet:
    return ValidatorSet(0, tuple(Authority(i.to_bytes(32, "big"), i.to_bytes(48, "big")) for i in range(n)))
