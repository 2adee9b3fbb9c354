"""Fuzz targets of the runtime: what it stores and is asked, and every call with whatever arguments.

A call may fail; anything but a DispatchError would stop every node of the chain at the same block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any

from chain.primitives.keys import Keypair
from chain.primitives.scale import U8, Codec, ScaleError, Struct, Tuple, Vec, compact_decode, compact_encode
from chain.primitives.types import (
    ExtrinsicSignature,
    Id,
    Mortal,
    decode_extrinsic,
    encode_extrinsic,
    sender_and_nonce,
    sign_extrinsic,
)
from runtime.api import ANSWERS, UnknownApi
from runtime.calls import Call
from runtime.modules.system import System
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, EVE, TestChain
from runtime.types import DispatchError, InvalidTransaction, Origin
from tests.fuzz.samples import densest, mutated, pick, sample
from tests.fuzz.target import Target, scale_target
from tests.runtime.training_kit import Story

CALL = RUNTIME.call_codec


def stored_types() -> tuple[Codec[Any], ...]:
    """Everything that the modules keep, by key and value, and everything that they tell."""
    items = [item for module in RUNTIME.modules for item in module.storage.values()]
    found = [codec for item in items for codec in (item.value, *item.keys)]
    found += [constant.codec for module in RUNTIME.modules for constant in module.constants.values()]
    return tuple(dict.fromkeys((*found, RUNTIME.event_record_codec, Vec(RUNTIME.event_record_codec))))


# --- extrinsics ----------------------------------------------------------------------------------------------------

_SIGNATURE: Struct[ExtrinsicSignature] = Struct(ExtrinsicSignature)


def _extrinsic(data: bytes) -> tuple[Any, ExtrinsicSignature | None]:
    sender = sender_and_nonce(data)
    found = decode_extrinsic(data, CALL)
    signed = found.signature
    if signed is not None and isinstance(signed.address, Id):
        assert sender == (signed.address.account, signed.nonce)
    else:
        assert sender is None
    return found.call, signed


def _some_extrinsic(rng: Random) -> bytes:
    call = CALL.encode(sample(CALL, rng))
    return encode_extrinsic(call, None if rng.random() < 0.2 else sample(_SIGNATURE, rng))


def _dense_extrinsics(size: int) -> Iterator[bytes]:
    for call in densest(CALL, size):
        with suppress(ScaleError):  # The type bounds its items.
            yield encode_extrinsic(CALL.encode(call))


# --- a chain to ask ------------------------------------------------------------------------------------------------


@cache
def chain() -> TestChain:
    """A chain with a task, workers and a round that has begun."""
    return Story().chain


def _signed(keypair: Keypair, call: bytes, nonce: int, era: Mortal | None = None) -> bytes:
    return sign_extrinsic(
        keypair,
        call,
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=chain().genesis_hash,
        era=era,
        era_hash=chain().header.hash if era else None,
    )


def _validity(data: bytes) -> None:
    chain().executive.validate_after(chain().tree, chain().header.hash, data)


def _some_transaction(rng: Random) -> bytes:
    """Signed as it should be, or nearly."""
    era = Mortal.at(64, chain().header.height) if rng.random() < 0.3 else None
    keypair = pick(rng, (ALICE, BOB, EVE, Keypair.from_seed(rng.randbytes(32))))
    raw = _signed(keypair, CALL.encode(sample(CALL, rng)), rng.randint(0, 2), era)
    if rng.random() < 0.5:
        return raw
    _, start = compact_decode(raw, 0)
    changed = mutated(rng, raw[start:], raw)
    return compact_encode(len(changed)) + changed


_NAMES = sorted(ANSWERS)


def _api(data: bytes) -> bytes:
    name = _NAMES[data[0] % len(_NAMES)] if data else "Core_nothing"
    return chain().executive.call_api(chain().tree, name, data[1:])


def _some_api_call(rng: Random) -> bytes:
    raw = _some_extrinsic(rng)
    arguments = (b"", rng.randbytes(4), rng.randbytes(32), raw + len(raw).to_bytes(4, "little"))
    validate = bytes((rng.randint(0, 2),)) + raw + rng.randbytes(32)
    return bytes((rng.randrange(len(_NAMES)),)) + pick(rng, (*arguments, validate))


# --- calls ---------------------------------------------------------------------------------------------------------

_ORIGINS: tuple[Keypair | Origin, ...] = (ALICE, BOB, EVE, Origin.root(), Origin.none())
_CALLS = Vec(Tuple(U8, CALL))


@cache
def _inherents() -> list[bytes]:
    return chain().begin().inherents(chain().inherent_data(chain().seal()))


# With them root may write whatever it likes: no module can work after that.
_UNCHECKED = ("system.set_storage", "system.kill_storage", "system.kill_prefix")


def _all_calls(value: Any) -> Iterator[Call]:
    """A call, and those inside of it."""
    match value:
        case Call():
            yield value
            yield from _all_calls(value.args)
        case list() | tuple():
            for item in value:
                yield from _all_calls(item)


def _calls(data: bytes) -> None:
    """Make calls one after the other in a block of their own and end it; then the modules' invariants must hold."""
    calls = _CALLS.decode(data)
    if any(call.path in _UNCHECKED for call in _all_calls(calls)):
        raise ScaleError("nothing is known of such a state")
    builder = chain().begin()
    for raw in _inherents():
        builder.apply(raw)
    for number, call in calls:
        origin = _ORIGINS[number % len(_ORIGINS)]
        with suppress(DispatchError, InvalidTransaction):
            if isinstance(origin, Origin):
                builder.modules.dispatch(call, origin)
            else:
                nonce = builder.modules.module(System).account[origin.public].nonce
                builder.apply(_signed(origin, CALL.encode(call), nonce))
    builder.finish()
    for module in builder.modules.modules:
        module.check()


def _alike(rng: Random, call: Any) -> Any:
    """The call about accounts and tasks that there are."""
    known: dict[type, Callable[[Any], Any]] = {
        bytes: lambda value: pick(rng, (ALICE, BOB, EVE)).public if len(value) == 32 else value,
        int: lambda value: pick(rng, (0, 1, 2, value)),
        Id: lambda _: Id(pick(rng, (ALICE, BOB, EVE)).public),
    }
    changed = (
        known.get(type(value), lambda value: value)(value) if rng.random() < 0.7 else value for value in call.args
    )
    return call.info.bind(tuple(changed))


def _some_calls(rng: Random) -> bytes:
    calls = [_alike(rng, sample(CALL, rng)) for _ in range(rng.randint(1, 5))]
    return _CALLS.encode([(rng.randrange(len(_ORIGINS)), call) for call in calls])


TARGETS = (
    scale_target("stored", *stored_types()),
    scale_target("call", CALL, Tuple(CALL, CALL)),
    Target(
        "extrinsic",
        _extrinsic,
        (ScaleError,),
        _some_extrinsic,
        lambda found: encode_extrinsic(CALL.encode(found[0]), found[1]),
        _dense_extrinsics,
    ),
    Target("validity", _validity, (InvalidTransaction,), _some_transaction, dense=_dense_extrinsics),
    Target("runtime-api", _api, (ScaleError, UnknownApi, InvalidTransaction), _some_api_call),
    Target("dispatch", _calls, (ScaleError,), _some_calls, slow=True),
)
