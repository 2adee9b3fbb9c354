"""Values of any SCALE type from a random source, and bytes that are like others: what fuzzing starts from.

Every kind of codec has one arm in `sample` and one in `smallest`; a kind that has none is a TypeError.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeVar

from chain.primitives.scale import (
    Array,
    Bool,
    Bytes,
    Codec,
    Compact,
    Enum,
    FieldlessEnum,
    FixedBytes,
    Int,
    Newtype,
    Option,
    ScaleError,
    Str,
    Struct,
    Tuple,
    Vec,
    compact_encode,
)
from chain.primitives.types import EraCodec, Mortal, WireExtrinsic
from runtime.calls import CallCodec, CallInfo
from runtime.composition import EventCodec, EventRecordCodec
from runtime.types import EventRecord

T = TypeVar("T")
TEXTS = ("", "digits", "Zoë", "\0", "0x00", "//Alice", "𝄞", "a" * 70)
# Lengths at which formats change how they write a length.
LENGTHS = (0, 1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 256)
TRIES = 20


def natural(rng: Random, bits: int) -> int:
    """A number of at most so many bits: at an edge of some encoding, or of any length."""
    if rng.random() < 0.3:
        edge = 1 << rng.choice([width for width in (0, 6, 7, 8, 14, 16, 30, 32, 64, bits) if width <= bits])
        return min(max(0, edge + rng.choice((-1, 0, 1))), (1 << bits) - 1)
    return rng.getrandbits(rng.randint(1, bits))


def octets(rng: Random) -> bytes:
    """Bytes of any length up to a few hundred."""
    return rng.randbytes(rng.choice(LENGTHS) if rng.random() < 0.3 else rng.randint(0, 12))


def sample(codec: Codec[Any], rng: Random) -> Any:
    """A value of the type, or ScaleError where a class's own rules refuse what was drawn."""
    match codec:
        case Int():
            value = natural(rng, 8 * codec.size - codec.signed)
            return -value if codec.signed and rng.random() < 0.5 else value
        case Compact():
            return natural(rng, 8 * codec.inner.size)
        case Bool():
            return rng.random() < 0.5
        case Bytes():
            return octets(rng)
        case Str():
            return rng.choice(TEXTS)
        case FixedBytes():
            return rng.randbytes(codec.size)
        case Vec():
            return codec.container(sample(codec.inner, rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 5))))
        case Array():
            return [sample(codec.inner, rng) for _ in range(codec.count)]
        case Tuple():
            return tuple(sample(inner, rng) for inner in codec.inner)
        case Option():
            return None if rng.random() < 0.4 else sample(codec.inner, rng)
        case FieldlessEnum():
            return rng.choice(list(codec.cls))
        case Enum():
            return sample(rng.choice(list(codec.variants.values())), rng)
        case EventRecordCodec():
            return EventRecord(*(sample(inner, rng) for _, inner in _record_fields(codec)))
        case Struct():
            return _made(codec, rng)
        case EraCodec():
            return None if rng.random() < 0.3 else Mortal.at(1 << rng.randint(1, 17), rng.getrandbits(32))
        case WireExtrinsic():
            body = octets(rng)
            return compact_encode(len(body)) + body
        case CallCodec():
            carries = rng.random() < 0.3  # Two calls in each that carries some: nests end soon.
            call = rng.choice([call for call in calls_of(codec) if carries or not carries_calls(call)])
            return call.bind(tuple(sample(inner, rng) for _, inner in call.arguments))
        case EventCodec():
            event = rng.choice([event for module in codec.modules for event in module.events.values()])
            return sample(event.codec, rng)
        case Newtype():
            return sample(codec.inner, rng)
        case _:
            raise TypeError(f"no sample of a {type(codec).__name__}: add an arm for it here")


def calls_of(codec: CallCodec) -> list[CallInfo]:
    """The calls of a runtime."""
    return [call for module in codec.modules for call in module.calls.values()]


def carries_calls(call: CallInfo) -> bool:
    """Whether a call's arguments hold calls."""
    return any(_holds(inner, CallCodec) for _, inner in call.arguments)


def _holds(codec: Codec[Any], kind: type[Codec[Any]]) -> bool:
    match codec:
        case Vec() | Option() | Array():
            return _holds(codec.inner, kind)
        case Tuple():
            return any(_holds(inner, kind) for inner in codec.inner)
        case _:
            return isinstance(codec, kind)


def _made(codec: Struct[T], rng: Random) -> T:
    for _ in range(TRIES):
        values = [sample(inner, rng) for _, inner in codec.fields]
        try:
            return codec.cls(*values)
        except ValueError:  # The class has rules of its own.
            continue
    raise ScaleError(f"no {codec.cls.__name__} in {TRIES} tries")


def _record_fields(codec: EventRecordCodec) -> list[tuple[str, Codec[Any]]]:
    """Those fields that a record has in Python: not every one on the wire is kept."""
    names = {field.name for field in dataclasses.fields(EventRecord)}
    return [(name, inner) for name, inner in codec.fields if name in names]


def smallest(codec: Codec[Any]) -> Any:
    """A value that takes the fewest bytes."""
    match codec:
        case Int() | Compact():
            return 0
        case Bool():
            return False
        case Bytes():
            return b""
        case Str():
            return ""
        case FixedBytes():
            return bytes(codec.size)
        case Vec():
            return codec.container()
        case Array():
            return [smallest(codec.inner)] * codec.count
        case Tuple():
            return tuple(map(smallest, codec.inner))
        case Option() | EraCodec():
            return None
        case FieldlessEnum():
            return min(codec.cls)
        case Enum():
            return min(map(smallest, codec.variants.values()), key=lambda value: len(codec.encode(value)))
        case EventRecordCodec():
            return EventRecord(*(smallest(inner) for _, inner in _record_fields(codec)))
        case Struct():
            return _made(codec, Random(0)) if _has_rules(codec.cls) else codec.cls(*_smallest_fields(codec))
        case WireExtrinsic():
            return b"\0"
        case CallCodec():
            calls = [call for call in calls_of(codec) if not any(inner is codec for _, inner in call.arguments)]
            made = (call.bind(tuple(smallest(inner) for _, inner in call.arguments)) for call in calls)
            return min(made, key=lambda call: (len(codec.encode(call)), not carries_calls(call.info)))
        case EventCodec():
            events = (event for module in codec.modules for event in module.events.values())
            return min((smallest(event.codec) for event in events), key=lambda event: len(codec.encode(event)))
        case Newtype():
            return smallest(codec.inner)
        case _:
            raise TypeError(f"no smallest {type(codec).__name__}: add an arm for it here")


def _has_rules(cls: type) -> bool:
    return hasattr(cls, "__post_init__")


def _smallest_fields(codec: Struct[Any]) -> list[Any]:
    return [smallest(inner) for _, inner in codec.fields]


def densest(codec: Codec[Any], size: int) -> Iterator[Any]:
    """Values of about `size` bytes that hold as many items as that can: one for each vector that the type has."""
    match codec:
        case Vec():
            item = smallest(codec.inner)
            yield codec.container([item] * (size // max(1, len(codec.inner.encode(item)))))
        case Newtype() | Option():
            yield from densest(codec.inner, size)
        case Tuple():
            for place, inner in enumerate(codec.inner):
                rest = list(map(smallest, codec.inner))
                yield from ((*rest[:place], value, *rest[place + 1 :]) for value in densest(inner, size))
        case EventRecordCodec():
            pass
        case Struct() if not _has_rules(codec.cls):
            for place, (_, inner) in enumerate(codec.fields):
                rest = _smallest_fields(codec)
                yield from (codec.cls(*rest[:place], value, *rest[place + 1 :]) for value in densest(inner, size))
        case Enum():
            for struct in codec.variants.values():
                yield from densest(struct, size)
        case CallCodec():
            for call in calls_of(codec):
                if not any(inner is codec for _, inner in call.arguments):
                    inner = Tuple(*(argument for _, argument in call.arguments))
                    yield from map(call.bind, densest(inner, size))
        case _:
            pass


def mutated(rng: Random, data: bytes, other: bytes) -> bytes:
    """Bytes that are `data` but for a few changes, each of a kind that parsers are known to fall for."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randint(0, len(out))
        match rng.randint(0, 8):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randint(0, 7)
            case 1 if out:
                out[at % len(out)] = rng.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                del out[at:]
            case 3:
                out += rng.randbytes(rng.randint(1, 4))
            case 4:
                del out[at : at + rng.randint(1, 8)]
            case 5:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 6:
                length = compact_encode(natural(rng, rng.choice((8, 16, 32, 64))))
                out[at : at + len(length) * rng.randint(0, 1)] = length
            case 7:
                out[at:at] = out[at : at + rng.randint(1, 64)]
            case _:
                start = rng.randint(0, len(other))
                out[at : at + rng.randint(0, 64)] = other[start : start + rng.randint(1, 64)]
    return bytes(out)


def pick(rng: Random, values: Sequence[T]) -> T:
    """One of several."""
    return values[rng.randrange(len(values))]


# What a program may not expect where it reads JSON or msgpack; some of it only JSON can say.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**32, 2**64, -(2**63), 10**4000, 1.5, 1e308, float("inf")),
    *("", "0x", "0x00", "\ud800", "é", "x" * 300, "10.5", "0x" + "00" * 32),
    *([], {}, [[]], [0] * 20, {"": 0}, {"a": {}}, [None]),
)


def changed(rng: Random, value: Any) -> Any:
    """The value with one of its parts replaced, removed, repeated or renamed."""
    match value:
        case dict() if value and rng.random() < 0.8:
            key = pick(rng, list(value))
            out = dict(value)
            match rng.randint(0, 9):
                case 0:
                    del out[key]
                case 1:
                    out[pick(rng, (*TEXTS, *value))] = pick(rng, ODD_VALUES)
                case _:
                    out[key] = changed(rng, value[key])
            return out
        case list() if value and rng.random() < 0.8:
            at = rng.randrange(len(value))
            match rng.randint(0, 9):
                case 0:
                    return value[:at] + value[at + 1 :]
                case 1:
                    return [*value, value[at]]
                case _:
                    return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
        case _:
            return pick(rng, ODD_VALUES)


def as_json(value: Any) -> bytes:
    """JSON text, with numbers that have no end as the standard library reads them: too large ones."""
    return json.dumps(value).replace("-Infinity", "-1e999").replace("Infinity", "1e999").encode()


def dense_json(size: int) -> Iterator[bytes]:
    """JSON that is short to write and costly to hold."""
    for item in ("[]", "{}", '{"a":0}', "1e9", '"aé"'):
        yield f"[{','.join([item] * (size // (len(item) + 1)))}]".encode()
    yield b"[" * size
    yield b"[" * (size // 2) + b"]" * (size // 2)
    yield ('"' + "a" * size + '\U0001f600"').encode()


def dense_msgpack(size: int) -> Iterator[bytes]:
    """Msgpack values that are short to write and costly to hold."""
    count = size.to_bytes(4, "big")
    for item in (b"\x90", b"\x80", b"\x00", b"\xc0", b"\xa0", b"\xcb" + bytes(8)):
        some = size // len(item)
        yield b"\xdd" + some.to_bytes(4, "big") + item * some
    yield (
        b"\xdf"
        + (size // 3).to_bytes(4, "big")
        + b"".join(b"\xcd" + key.to_bytes(2, "big") + b"\x90" for key in range(size // 4))
    )
    yield (b"\xdd" + count) * (size // 5)
    yield b"\x91" * size
    yield b"\xdd" + count + b"\x91\x90" * (size // 2)
