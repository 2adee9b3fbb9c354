"""What a slot may be worth at most, so that a wrong one is a loss: the arithmetic behind PriceTooHigh.

Rule: exact, in integers; of what is only bounded (the validators on a cheat's side) the worst case counts.
"""

from __future__ import annotations

from runtime.modules.training_policy import PPM


def worth_max(auditors: int, audited_ppm: int, loss: int) -> int:
    """The most planck that a slot may be worth, price and emission, where a cheat that is found costs `loss`.

    Less than a third of the validators are on a cheat's side, so that all auditors of a slot are with less than
    e = 3^-a; at least one is honest with c = 1 - e. Slots are audited in two draws, from the beacons of two blocks:
    the first takes each with h = p / 2, the second each of the others with r = p / (2 - p), so that p are audited.
    Whoever lets the turn pass that one of these beacons comes from has that draw once more, and takes the better:

    - the first: it is found when both have an honest auditor for it, or else, unless one has none but friends, when
      the second draw finds it: (h·c)² + ((1 - h·e)² - (h·c)²) · r·c
    - the second: it is found by the first, or by both second ones: h·c + (1 - h) · (r·c)²

    No validator has turns at two heights in a row. With d the less of the two, (1 - d) · worth <= d · loss.
    """
    friendly = 1
    for _ in range(auditors):
        friendly *= 3
    # Every chance below is over this: h·c = honest / half and h·e = audited_ppm / half, r·c = honest / rest.
    honest = audited_ppm * (friendly - 1)
    half, rest = 2 * PPM * friendly, (2 * PPM - audited_ppm) * friendly
    whole = half * half * rest
    unsafe = (half - audited_ppm) * (half - audited_ppm)
    first_again = honest * honest * rest + (unsafe - honest * honest) * honest
    # (1 - h) / rest = 1 / half · (half - audited_ppm · friendly) / rest, and the numerator is rest.
    second_again = honest * half * rest + honest * honest * half
    found = min(first_again, second_again)
    return loss * found // (whole - found)
