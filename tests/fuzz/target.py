"""What a fuzz target is, and what holds for every decoder of bytes that anybody may send.

The rule: bytes are refused with the declared error, or they are what the value that they mean encodes to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from chain.primitives.scale import Codec, ScaleError
from tests.fuzz.samples import densest, pick, sample

# An empty list in a list is the most that Python makes of one byte: 80 bytes. Who builds such objects of what strangers
# send has to bound their number.
OBJECT_GROWTH = 90


def _none(size: int) -> Iterator[bytes]:
    """Nothing grows in memory."""
    del size
    return iter(())


@dataclass(frozen=True)
class Target:
    """One decoder of untrusted bytes.

    `encode` gives the only bytes that a value may come from; None where a value has several spellings by design.
    `dense` makes inputs of about so many bytes that hold as many items as that can; each byte of them may take `growth`
    bytes of memory. `slow`: milliseconds an input.
    """

    name: str
    decode: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    sample: Callable[[Random], bytes]
    encode: Callable[[Any], bytes] | None = None
    dense: Callable[[int], Iterator[bytes]] = _none
    growth: int = OBJECT_GROWTH
    slow: bool = False


def check(target: Target, data: bytes) -> bool:
    """Whether the target takes the bytes. Anything that it raises but its own errors is a finding."""
    try:
        value = target.decode(data)
    except target.errors:
        return False
    if target.encode is not None:
        encoded = target.encode(value)
        assert encoded == data, f"{target.name} takes {data.hex()}, which it would write as {encoded.hex()}"
    return True


def scale_target(name: str, *codecs: Codec[Any]) -> Target:
    """A target of several SCALE types: the first two bytes say which of them the others are."""

    def decode(data: bytes) -> tuple[int, Any]:
        number = int.from_bytes(data[:2], "big")
        if number >= len(codecs) or len(data) < 2:
            raise ScaleError("no such type")
        return number, codecs[number].decode(data[2:])

    def encode(value: tuple[int, Any]) -> bytes:
        return value[0].to_bytes(2, "big") + codecs[value[0]].encode(value[1])

    def some(rng: Random) -> bytes:
        number = rng.randrange(len(codecs))
        while True:
            try:
                return encode((number, sample(codecs[number], rng)))
            except ScaleError:
                continue

    def dense(size: int) -> Iterator[bytes]:
        for number, codec in enumerate(codecs):
            for value in densest(codec, size):
                try:
                    yield encode((number, value))
                except ScaleError:  # The type bounds its items.
                    continue

    return Target(name, decode, (ScaleError,), some, encode, dense)


def whole_target(
    name: str, codec: Codec[Any], decode: Callable[[bytes], Any], errors: tuple[type[Exception], ...]
) -> Target:
    """A target that reads one SCALE type through a function of its own."""

    def some(rng: Random) -> bytes:
        while True:
            try:
                return codec.encode(sample(codec, rng))
            except ScaleError:
                continue

    def dense(size: int) -> Iterator[bytes]:
        for value in densest(codec, size):
            try:
                yield codec.encode(value)
            except ScaleError:  # The type bounds its items.
                continue

    return Target(name, decode, errors, some, codec.encode, dense)


def one_of(*samples: bytes) -> Callable[[Random], bytes]:
    """A sample is one of these."""
    return lambda rng: pick(rng, samples)
