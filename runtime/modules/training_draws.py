"""Draws from the beacon: who trains which slot, who audits whom.

A draw depends on the beacon, the task, the round, the attempt and its purpose, and on nothing that anybody can choose
after the beacon is known; every outcome is equally likely (rejection, never a bare modulo).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from chain.primitives.hashing import blake2_256
from chain.primitives.scale import H256, codec_of, u32
from runtime.modules.training_policy import PPM

T = TypeVar("T")

_INPUT = codec_of(tuple[H256, u32, u32, u32, bytes, u32])
_RANGE: Final = 1 << 64


class Draws:
    """A stream of uniform integers for one purpose (`label`) of one attempt at one round."""

    __slots__ = ("_attempt", "_beacon", "_counter", "_label", "_round", "_task", "_words")

    def __init__(self, beacon: bytes, task: int, round_: int, attempt: int, label: bytes) -> None:
        self._beacon = beacon
        self._task = task
        self._round = round_
        self._attempt = attempt
        self._label = label
        self._counter = 0
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            fields = (self._beacon, self._task, self._round, self._attempt, self._label, self._counter)
            digest = blake2_256(_INPUT.encode(fields))
            self._counter += 1
            self._words = [int.from_bytes(digest[at : at + 8], "little") for at in (24, 16, 8, 0)]
        return self._words.pop()

    def below(self, bound: int) -> int:
        """A uniform integer in [0, bound), for 1 <= bound <= 2**64."""
        limit = _RANGE - _RANGE % bound
        while (word := self._word()) >= limit:
            pass
        return word % bound

    def shuffled(self, bound: int, count: int) -> Iterator[int]:
        """`count` of the integers in [0, bound) in random order, none twice (Fisher and Yates, the first steps).

        Only what was moved is remembered, so that the steps that are taken are all that it costs.
        """
        moved: dict[int, int] = {}
        for index in range(count):
            other = index + self.below(bound - index)
            yield moved.get(other, other)
            moved[other] = moved.get(index, index)

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` of the items in random order, none twice."""
        return [items[index] for index in self.shuffled(len(items), count)]


def assign_slots(
    draws: Draws,
    seats: int,
    owner: Callable[[int], tuple[bytes, int]],
    free: Callable[[bytes], int],
    slots: int,
    kept: Sequence[bytes | None] = (),
    looked_at_max: int | None = None,
) -> list[bytes]:
    """The worker of each slot: the free ones of so many seats in random order, none twice, `slots` of them at most.

    `owner` says whose a seat is, and which of its owner's; the first so many as `free` says are free. Seats are looked
    at in random order until there are enough, and no more than `looked_at_max` of them.

    Whoever has half of a round's slots has no more, as long as a seat of anybody else is looked at: a single worker
    neither decides what a model becomes nor leaves most of a round undone when it dies. A slot that is `kept` for a
    worker stays with it while it has a free seat.
    """
    most = (slots + 1) // 2
    places: list[bytes | None] = [None] * slots
    taken: dict[bytes, int] = {}
    for index, worker in enumerate(kept[:slots]):
        if worker is not None and taken.get(worker, 0) < free(worker):
            taken[worker] = taken.get(worker, 0) + 1
            places[index] = worker
    staying = dict(taken)
    wanted = places.count(None)
    order: list[bytes] = []
    put_off: list[bytes] = []
    for seat in draws.shuffled(seats, seats if looked_at_max is None else min(seats, looked_at_max)):
        if len(order) == wanted:
            break
        worker, number = owner(seat)
        if number + staying.get(worker, 0) >= free(worker):
            continue
        if taken.get(worker, 0) < most:
            taken[worker] = taken.get(worker, 0) + 1
            order.append(worker)
        else:
            put_off.append(worker)
    drawn = iter([*order, *put_off])
    filled = (next(drawn, None) if place is None else place for place in places)
    return [worker for worker in filled if worker is not None]


def chosen_half(halves: Sequence[Draws], audited_ppm: int) -> Draws | None:
    """The one of two streams, from the beacons of two blocks, that has a slot audited; None: it is not audited.

    Each decides on half of the share of slots that are audited, so that who lets one block's turn pass has half of
    the draw once more, and never all of it.
    """
    first, second = halves
    if first.below(2 * PPM) < audited_ppm:
        return first
    return second if second.below(2 * PPM - audited_ppm) < audited_ppm else None


def draw_auditors(
    draws: Draws, present: Sequence[bytes], validators: Sequence[bytes], worker: bytes, count: int
) -> list[bytes]:
    """The validators that must recompute a slot: of those that are present, where these are enough.

    A validator never audits its own contribution.
    """
    others = [validator for validator in present if validator != worker]
    if len(others) < count:
        others = [validator for validator in validators if validator != worker]
    return draws.sample(others, min(count, len(others)))
