"""The block author and clocks that are wrong: proposals are held against the clock, decisions are not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from chain.author import Author, timestamp_of
from chain.importer import Importer
from chain.node_life import open_ledger
from chain.pool import Pool
from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash
from chain.primitives.seal import Phase, Seal, ValidatorSet, bitmap, vote_message
from chain.primitives.types import Block
from chain.validator_keys import ValidatorKeys
from consensus.gadget import Gadget, run_in_thread
from consensus.host import Premature, Timing
from consensus.voice import BlsSigner
from genesis.spec import load
from runtime.executive import Executive
from runtime.potchain import RUNTIME

SPEC = load(Path(__file__).resolve().parents[2] / "genesis" / "testnet.json")
assert SPEC.development is not None
KEYS = [ValidatorKeys.from_uri(key.uri) for key in SPEC.development.validators]
NOW = 1_700_000_000_000
ALICE, BOB, CHARLIE, DAVE = range(4)


class Clock:
    """Says what it is set to."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


class Machine:
    """A validator's ledger and author, with a clock of its own."""

    def __init__(self, folder: Path, validator: int, skew_ms: int = 0) -> None:
        self.clock = Clock(NOW + skew_ms)
        self.ledger = open_ledger(SPEC, folder / str(validator), Executive(RUNTIME))
        self.importer = Importer(self.ledger, self._validators_after, lambda _: None)
        self.author = Author(self.importer, Pool(), KEYS[validator].bls_secrets, self.clock)

    def _validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self.ledger.state(block_hash) as state:
            return RUNTIME.at(state).validators.validator_set()

    async def build(self, height: int, view: int = 0) -> bytes:
        return await self.author.build(height, view, None)

    async def proposed(self, height: int, payload: bytes, view: int = 0) -> bytes:
        return await self.author.check(height, view, payload, decided=False)

    async def decided(self, height: int, payload: bytes) -> bytes:
        return await self.author.check(height, 0, payload, decided=True)

    async def commit(self, height: int, payload: bytes) -> None:
        await self.author.commit(height, payload, self.seal(height, Block.decode(payload)))

    def seal(self, height: int, block: Block) -> Seal:
        message = vote_message(self.ledger.genesis_hash, 0, height, 0, Phase.COMMIT, block.hash)
        signature = bls.aggregate([bls.sign(keys.bls_secret, message) for keys in KEYS[:3]])
        return Seal(height, 0, 0, block.hash, bitmap(range(3), 4), signature)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Everybody's clock is right but Dave's, which is 40 s slow."""
    made = [Machine(tmp_path, validator, -40_000 if validator == DAVE else 0) for validator in range(4)]
    yield made
    for machine in made:
        machine.ledger.close()


async def test_p21_a_slow_clock_refuses_proposals_and_follows_decisions_and_is_told_once(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    dave = machines[DAVE]
    for height, primary in ((1, BOB), (2, CHARLIE)):
        payload = await machines[primary].build(height)
        with pytest.raises(Premature, match="40000 ms ahead of this clock"):
            await dave.proposed(height, payload)
        assert await dave.decided(height, payload) == Block.decode(payload).hash
        for machine in machines:
            machine.clock.ms += 1000
            await machine.commit(height, payload)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "block 1, which a quorum decided, is 40 s ahead of this machine's clock" in caplog.text


async def test_p21_a_validator_with_a_slow_clock_proposes_the_least_time_which_everybody_takes(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    for height, primary in ((1, BOB), (2, CHARLIE)):
        payload = await machines[primary].build(height)
        for machine in machines:
            machine.clock.ms += 1000
            await machine.commit(height, payload)
    before = timestamp_of(RUNTIME, Block.decode(payload))
    payload = await machines[DAVE].build(3)
    assert timestamp_of(RUNTIME, Block.decode(payload)) == before + 500  # Timestamp.minimum_period
    for machine in machines:
        assert await machine.proposed(3, payload) == Block.decode(payload).hash
    assert caplog.records == []


async def test_p21_a_validator_with_a_fast_clock_is_named_when_its_proposal_was_passed_over(
    machines: list[Machine], caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob, charlie = machines[ALICE], machines[BOB], machines[CHARLIE]
    bob.clock.ms += 31_000
    with pytest.raises(Premature):
        await alice.proposed(1, await bob.build(1))
    assert caplog.records == []
    payload = await charlie.build(1, view=1)
    await alice.commit(1, payload)
    assert f"validator {ss58.encode(KEYS[BOB].account.public)} proposed a block that is 31 s ahead" in caplog.text


@pytest.mark.parametrize("skew_ms", [-40_000, 40_000])
async def test_p21_a_validator_whose_clock_is_40_s_off_neither_stops_the_chain_nor_falls_behind(
    skew_ms: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machines = [Machine(tmp_path, validator, skew_ms if validator == DAVE else 0) for validator in range(4)]
    faults: list[tuple[bytes | None, str]] = []
    gadgets: list[Gadget] = []

    class Transport:
        def __init__(self, me: int) -> None:
            self.me = me

        def broadcast(self, frame: bytes) -> None:
            for other, gadget in enumerate(gadgets):
                if other != self.me:
                    gadget.deliver(bytes([self.me]), frame)

        def send(self, peer: bytes, frame: bytes) -> None:
            gadgets[peer[0]].deliver(bytes([self.me]), frame)

    for me, machine in enumerate(machines):
        gadgets.append(
            Gadget(
                machine.author,
                Transport(me),
                BlsSigner(KEYS[me].bls_secret, run_in_thread),
                tmp_path / f"{me}.wal",
                Timing(block_time_ms=20, timeout_ms=400, timeout_ms_max=400, resend_ms=100),
                1,
                on_fault=lambda peer, reason: faults.append((peer, reason)),
            )
        )
    with trio.fail_after(60):  # which machines that do other work may need
        async with trio.open_nursery() as nursery:
            for gadget in gadgets:
                await nursery.start(gadget.run)
            for machine in machines:
                with machine.importer.heads.subscribe() as heads:
                    while machine.ledger.head.height < 8:
                        await anext(heads)
            nursery.cancel_scope.cancel()
    assert len({machine.ledger.hash_at(8) for machine in machines}) == 1
    assert faults == []
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
    for machine in machines:
        machine.ledger.close()
