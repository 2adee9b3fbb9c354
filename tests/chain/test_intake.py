"""What comes into the pool, and what becomes of who sends what can never come in."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from chain.importer import Importer
from chain.intake import BATCH, QUEUE_BYTES_MAX, QUEUE_MAX, Intake
from chain.pool import AlreadyImported, Pool
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.seal import ValidatorSet
from chain.primitives.types import Id, encode_extrinsic, sign_extrinsic
from chain.rpc.broadcast import Broadcast
from runtime.potchain import RUNTIME
from runtime.types import InvalidReason, InvalidTransaction
from tests.rpc.kit import ALICE, BOB, CHARLIE, open_ledger

CALL = RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=Id(BOB.public), value=1))


class Network:
    """Remembers what the intake asks of the network."""

    def __init__(self) -> None:
        self.gossiped: list[bytes] = []
        self.postponed: list[bytes] = []
        self.points: dict[bytes, float] = {}

    def gossip_transactions(self, transactions: list[bytes]) -> None:
        self.gossiped += transactions

    def postpone_transactions(self, transactions: list[bytes]) -> None:
        self.postponed += transactions

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        assert reason
        self.points[peer] = self.points.get(peer, 0.0) + points


class Setting:
    def __init__(self, path: Path) -> None:
        self.ledger, executive = open_ledger(path)
        self.pool, self.network = Pool(), Network()
        self.behind = False
        self.importer = Importer(self.ledger, self.validators_after, lambda _: None)
        self.intake = Intake(
            self.ledger, executive, self.pool, cast(Any, self.network), lambda: self.behind, self.importer.at_rest
        )

    def validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self.ledger.state(block_hash) as state:
            return RUNTIME.at(state).validators.validator_set()

    def transfer(self, sender: Keypair = ALICE, nonce: int = 0, genesis: bytes | None = None) -> bytes:
        return sign_extrinsic(
            sender,
            CALL,
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=genesis or self.ledger.genesis_hash,
        )


@asynccontextmanager
async def setting(path: Path) -> AsyncIterator[Setting]:
    it = Setting(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.intake.run, Broadcast())
        yield it
        nursery.cancel_scope.cancel()
    it.ledger.close()


async def until(condition: Any) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)


async def test_a_client_is_told_and_what_it_sends_is_passed_on_once(tmp_path: Path) -> None:
    async with setting(tmp_path) as it:
        raw = it.transfer()
        found = await it.intake.submit(raw)
        assert found in it.pool
        assert it.network.gossiped == [raw]
        with pytest.raises(AlreadyImported):
            await it.intake.submit(raw)
        with pytest.raises(InvalidTransaction, match="malformed"):
            await it.intake.submit(b"garbage")
        assert it.network.points == {}


async def test_who_gossips_what_no_node_can_have_checked_pays_for_it(tmp_path: Path) -> None:
    async with setting(tmp_path) as it:
        honest, careless, liar = b"honest", b"careless", b"liar"
        good = it.transfer()
        # Valid elsewhere or later: a nonce that is used, an account that has nothing yet.
        it.intake.gossiped(honest, [good, it.transfer(CHARLIE), it.transfer(BOB, 7)])
        it.intake.gossiped(careless, [it.transfer(BOB, 1, genesis=bytes(32))])
        it.intake.gossiped(liar, [b"garbage", encode_extrinsic(CALL)])
        await until(lambda: liar in it.network.points)
        assert it.network.points == {careless: 1.0, liar: 20.0}
        assert good in it.network.gossiped
        assert len(it.pool) == 2


async def test_what_clients_submit_at_once_is_judged_together_and_each_is_told_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits: list[int] = []
    judge = Intake._judge

    def counting(self: Intake, transactions: Sequence[bytes]) -> list[Any]:
        visits.append(len(transactions))
        return judge(self, transactions)

    monkeypatch.setattr(Intake, "_judge", counting)
    told: dict[int, object] = {}
    async with setting(tmp_path) as it:

        async def submit(nonce: int, raw: bytes) -> None:
            try:
                told[nonce] = await it.intake.submit(raw)
            except InvalidTransaction as error:
                told[nonce] = error.reason

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, 0, it.transfer(nonce=0))
            async with trio.open_nursery() as impatient:
                impatient.start_soon(submit, -1, it.transfer(BOB))
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()  # It goes away while it waits, or while the thread rests before it.
            for nonce in range(1, BATCH + 2):
                genesis = bytes(32) if nonce == 7 else None
                nursery.start_soon(submit, nonce, it.transfer(nonce=nonce, genesis=genesis))
        assert len(visits) <= 4
        assert [nonce for nonce, said in told.items() if said is InvalidReason.BAD_PROOF] == [7]
        assert set(range(BATCH + 2)) <= told.keys()
        assert len(it.pool) == sum(isinstance(said, bytes) for said in told.values())


async def test_what_cannot_be_judged_keeps_nothing_that_comes_later_from_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Intake._judge
    async with setting(tmp_path) as it:
        poison = it.transfer(BOB)

        def failing(self: Intake, transactions: Sequence[bytes]) -> list[Any]:
            if poison in transactions:
                raise OSError("the disk is gone")
            return judge(self, transactions)

        monkeypatch.setattr(it.intake._submitted, "_judge", failing.__get__(it.intake))

        async def submit(raw: bytes) -> None:
            with suppress(OSError):
                await it.intake.submit(raw)

        with trio.fail_after(60):
            async with trio.open_nursery() as impatient:
                impatient.start_soon(submit, it.transfer())
                impatient.start_soon(submit, poison)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()  # It may be that nobody is left to be told of it.
            await submit(it.transfer(nonce=1))
            assert await it.intake.submit(it.transfer(nonce=2)) in it.pool
            with pytest.raises(OSError, match="the disk is gone"):
                await it.intake.submit(poison)


async def test_what_comes_while_a_block_is_made_is_judged_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.intake.YIELD_SECONDS_MAX", 60.0)
    done = threading.Event()
    async with setting(tmp_path) as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.importer.run, lambda: done.wait(60))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(it.intake.submit, it.transfer())
        it.intake.gossiped(b"peer", [it.transfer(BOB)])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(it.pool) == 0
        done.set()
        await until(lambda: len(it.pool) == 2)


async def test_a_validator_judges_nothing_from_when_a_block_is_due_until_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with setting(tmp_path) as it:
        rested: list[float] = []

        async def rest() -> None:
            await it.importer.at_rest(1.0)
            rested.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            await rest()  # No block has been: none is due.
            monkeypatch.setattr(it.importer, "_imported_at", trio.current_time())
            await trio.sleep(0.5)
            await rest()
            await trio.sleep(0.5)
            nursery.start_soon(rest)
            await trio.sleep(3.0)
            await it.importer.run(lambda: None)  # It is built, and not there yet.
            await trio.sleep(1.0)
            assert rested == [0.0, 0.5]
            monkeypatch.setattr(it.importer, "_imported_at", trio.current_time())
            await it.importer.run(lambda: None)
        assert rested == [0.0, 0.5, 5.0]


async def test_blocks_that_follow_each_other_for_ever_keep_nothing_from_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chain.intake.YIELD_SECONDS_MAX", 0.01)
    done = threading.Event()
    async with setting(tmp_path) as it, trio.open_nursery() as nursery:
        nursery.start_soon(it.importer.run, lambda: done.wait(60))
        await trio.testing.wait_all_tasks_blocked()
        assert await it.intake.submit(it.transfer()) in it.pool
        it.intake.gossiped(b"peer", [it.transfer(BOB)])
        await until(lambda: len(it.pool) == 2)
        done.set()


async def test_gossip_that_there_is_no_room_for_is_asked_for_again(tmp_path: Path) -> None:
    it = Setting(tmp_path)
    it.intake.gossiped(b"peer", [b"%d" % number for number in range(QUEUE_MAX - 1)])
    it.intake.gossiped(b"peer", [b"last", b"one", b"more"])
    it.intake.gossiped(b"peer", [b"and another"])
    assert it.network.postponed == [b"one", b"more", b"and another"]
    it.ledger.close()


async def test_gossip_that_waits_takes_bounded_memory_however_large_it_is(tmp_path: Path) -> None:
    async with setting(tmp_path) as it:
        it.behind = True
        large, small = bytes(QUEUE_BYTES_MAX // 3), b"small"
        it.intake.gossiped(b"peer", [large, large, large, large, small])
        it.intake.gossiped(b"another", [small])
        assert it.network.postponed == [large, small, small]
        await until(lambda: len(it.network.postponed) == 6)
        it.network.postponed.clear()
        it.intake.gossiped(b"peer", [large, large, large])  # There is room again.
        assert it.network.postponed == []


async def test_a_node_that_is_behind_judges_no_gossip_and_asks_for_it_later(tmp_path: Path) -> None:
    async with setting(tmp_path) as it:
        it.behind = True
        raw, foreign = it.transfer(), it.transfer(nonce=1, genesis=bytes(32))
        it.intake.gossiped(b"peer", [raw, foreign])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (it.network.postponed, it.network.points, len(it.pool)) == ([raw, foreign], {}, 0)
        it.behind = False
        it.intake.gossiped(b"peer", [raw])
        await until(lambda: len(it.pool) == 1)
