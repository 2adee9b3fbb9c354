"""Whatever is signed: blocks execute as they were built, nobody pays more than was quoted, and all invariants hold.

A failure names its seed: `pytest tests/runtime/test_whatever_is_signed.py -k seed1` replays it.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import pytest

from chain.primitives import ss58
from chain.primitives.merkle import MemoryTree
from chain.primitives.scale import Codec, Compact, FixedBytes, Int, Option, ScaleError, Tuple, Vec
from runtime.calls import Call, CallCodec
from runtime.modules.multisig import multi_account
from runtime.modules.utility import derivative_account
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, TestChain
from runtime.types import InvalidTransaction
from tests.fuzz.samples import calls_of, carries_calls, sample

PEOPLE: Final = (ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE)
TEAM: Final = sorted(keypair.public for keypair in PEOPLE[:3])
ACCOUNTS: Final = (*(keypair.public for keypair in PEOPLE), multi_account(TEAM, 2), derivative_account(ALICE.public, 0))
AMOUNTS: Final = (0, 1, 2, POT // 1000, POT, 10 * POT, ENDOWMENT)
# Root may write what no module can read, and then the chain stops, as it says.
RAW: Final = ("system.set_storage", "system.kill_storage", "system.kill_prefix")


def value(codec: Codec[Any], rng: Random) -> Any:
    """A value that often means something: an account that exists, an amount that somebody has, a call with such."""
    match codec:
        case FixedBytes() if codec.size == 32 and rng.random() < 0.9:
            return rng.choice(ACCOUNTS)
        case Int() | Compact() if rng.random() < 0.6:
            return min(codec.maximum, rng.choice(AMOUNTS))
        case Vec():
            return codec.container(value(codec.inner, rng) for _ in range(rng.choice((0, 1, 2, 2, 3))))
        case Tuple():
            return tuple(value(inner, rng) for inner in codec.inner)
        case Option():
            return None if rng.random() < 0.5 else value(codec.inner, rng)
        case CallCodec():
            nests = rng.random() < 0.4
            info = rng.choice(
                [call for call in calls_of(codec) if call.path not in RAW and carries_calls(call) <= nests]
            )
            return info.bind(tuple(value(inner, rng) for _, inner in info.arguments))
        case _:
            return sample(codec, rng)


def some_call(rng: Random) -> Call:
    """A call that can be encoded."""
    while True:
        call: Call = value(RUNTIME.call_codec, rng)
        try:
            call.encode()
        except ScaleError:  # a field that its class refuses
            continue
        return call


@pytest.mark.parametrize("seed", range(1, 9), ids="seed{}".format)
def test_whatever_is_signed_blocks_execute_as_they_were_built(seed: int) -> None:
    rng = Random(seed)
    chain = TestChain(sudo={"key": ss58.encode(ALICE.public)})
    included = 0
    for _ in range(3):
        parent = MemoryTree({key: raw for key in chain.tree.keys(b"") if (raw := chain.tree.get(key)) is not None})
        for _ in range(25):
            who, call, tip = rng.choice(PEOPLE), some_call(rng), rng.choice((0, 0, 5))
            if rng.random() < 0.2:
                who, call = ALICE, RUNTIME.call("sudo.sudo", call=call)
            raw = chain.sign(who, call.path, tip=tip, **call.arguments)
            before, events = chain.builder.overlay.changes(), len(chain.builder.log.records)
            try:
                applied = chain.apply(raw)
            except InvalidTransaction:
                assert (chain.builder.overlay.changes(), len(chain.builder.log.records)) == (before, events)
            else:
                included += 1
                assert applied.fee <= chain.executive.query_info(chain.tree, raw).partial_fee + tip
        built = chain.close()
        assert chain.executive.execute(parent, chain.header, built.extrinsics) == built
    assert included > 20
