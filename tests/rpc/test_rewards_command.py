"""`potchain reward explain`: the arithmetic of a round, recomputed and compared with what the chain did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.cli import main
from chain.primitives import ss58
from chain.primitives.seal import bitmap
from chain.rpc.client import Client
from runtime.modules.training_types import Phase, commitment_of
from runtime.potchain import RUNTIME
from tests.rpc.kit import ALICE, BOB, Served, served

SALT, UPDATE, MODEL = b"\1" * 32, b"\2" * 32, b"\3" * 32


async def final_round(it: Served, client: Client) -> None:
    """Have BOB train and sum round 0, and ALICE accept one slot of it; BOB's other slot is never revealed."""

    async def until(phase: Phase) -> Any:
        while True:
            with it.node.ledger.state() as state:
                found = RUNTIME.at(state).training.rounds[0]
            if found.phase is phase:
                return found
            await it.node.seal()

    async def say(who: Any, call: str, **arguments: object) -> None:
        receipt = await client.transact(who, f"training.{call}", **arguments)
        assert receipt.ok, receipt.error

    await say(BOB, "register_worker", capacity=2)
    await say(BOB, "register_aggregator")
    at = {"task": 0, "round": 0, "attempt": (await until(Phase.COMMIT)).attempt}
    for slot in (0, 1):
        made = commitment_of(BOB.public, 0, 0, at["attempt"], slot, SALT, UPDATE)
        await say(BOB, "commit", **at, slot=slot, commitment=made)
    await until(Phase.REVEAL)
    await say(BOB, "reveal", **at, slot=1, salt=SALT, update_root=UPDATE)
    await until(Phase.AUDIT)
    model = {"accepted": bitmap([1], 2), "params_root": MODEL, "optimizer_root": MODEL}
    await say(BOB, "aggregate", **at, **model)
    await say(ALICE, "attest", **at, **model, evaluation=(1, 1))


async def explained(
    it: Served, capsys: pytest.CaptureFixture[str], task: int = 0, round_: int = 0, exit_code: int = 0, more: str = ""
) -> tuple[str, str]:
    words = ["reward", "explain", str(task), str(round_), "--node", it.url, *more.split()]
    with trio.fail_after(60), pytest.raises(SystemExit) as ended:
        await trio.to_thread.run_sync(main, words)
    assert (ended.value.code or 0) == exit_code
    printed = capsys.readouterr()
    return printed.out, printed.err


async def test_every_unit_that_a_round_paid_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = ss58.encode(ALICE.public), ss58.encode(BOB.public)
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await final_round(it, client)
        head = it.node.ledger.head
        printed, errors = await explained(it, capsys)
        assert (printed.splitlines(), errors) == (
            [
                f"task 0 (digits), round 0, final in block {head.height} (0x{head.hash.hex()})",
                f"  slot 0   {bob}  not revealed",
                f"  slot 1   {bob}  accepted",
                f"price      1 x 1 POT, burned from the escrow of {alice}",
                "emission   1 x 1 POT",
                "worth      2 POT",
                "auditors   10%, shared by 1 who agreed: 0.2 POT each",
                "aggregator 5% for the first to say this model: 0.1 POT",
                "workers    the rest: 1.7 POT a slot",
                f"  worker     {bob}  1.7 POT",
                f"  auditor    {alice}  0.2 POT",
                f"  aggregator {bob}  0.1 POT",
                "paid       2 POT, as the chain's record and the block's events say",
            ],
            "",
        )
        printed, errors = await explained(it, capsys, more="--json")
        assert (json.loads(printed), errors) == (
            {
                "task": 0,
                "name": "digits",
                "round": 0,
                "block": {"height": head.height, "hash": f"0x{head.hash.hex()}"},
                "slots": [{"worker": bob, "outcome": "not revealed"}, {"worker": bob, "outcome": "accepted"}],
                "owner": alice,
                "pricePerSlot": "1000000000000",
                "emissionPerSlot": "1000000000000",
                "worth": "2000000000000",
                "minted": "2000000000000",
                "payments": [
                    {"role": "worker", "account": bob, "amount": "1700000000000"},
                    {"role": "auditor", "account": alice, "amount": "200000000000"},
                    {"role": "aggregator", "account": bob, "amount": "100000000000"},
                ],
                "comparedWith": "events",
                "ok": True,
            },
            "",
        )


async def test_a_watch_is_an_object_a_line_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ""
    async with served(tmp_path) as it, trio.open_nursery() as nursery:

        async def watch() -> None:
            with pytest.raises(SystemExit) as ended:
                await trio.to_thread.run_sync(main, ["task", "watch", "0", "--json", "--node", it.url])
            assert not ended.value.code
            nursery.cancel_scope.cancel()

        async with Client.connect(it.url) as client:
            await final_round(it, client)
            nursery.start_soon(watch)
            with trio.fail_after(60):
                while '"round"' not in told:
                    await it.node.seal()
                    await trio.sleep(0.01)
                    told += capsys.readouterr().out
                assert (await client.transact(ALICE, "training.cancel_task", task=0)).ok
                while not nursery.cancel_scope.cancel_called:
                    await it.node.seal()
                    await trio.sleep(0.01)
    begun, made, ended = map(json.loads, (told + capsys.readouterr().out).splitlines())
    assert (begun["event"], begun["name"], begun["round"], begun["status"]) == ("task", "digits", 1, "active")
    assert {**made, "loss": 0, "accuracy": 0} == {
        "event": "round",
        "task": 0,
        "round": 0,
        "loss": 0,
        "accuracy": 0,
        "accepted": 1,
        "planted": 0,
        "slots": 2,
        "minted": "2000000000000",
    }
    assert (ended["event"], ended["status"], ended["minted"]) == ("end", "cancelled", "2000000000000")


async def test_where_a_validator_stands_is_an_object_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path) as it:
        words = ["validator", "status", "--key", "//Alice", "--json", "--node", it.url]
        with trio.fail_after(60), pytest.raises(SystemExit):
            await trio.to_thread.run_sync(main, words)
    found = json.loads(capsys.readouterr().out)
    assert (found["address"], found["block"]) == (ss58.encode(ALICE.public), it.node.ledger.head.height)
    assert {name for name, value in found.items() if isinstance(value, str)} == {"address", "bonded", "key"}
    assert (found["isOwnKey"], found["seat"], found["seats"]) == (True, 0, 1)


async def test_a_round_whose_events_are_pruned_is_explained_by_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, history=2) as it, Client.connect(it.url) as client:
        await final_round(it, client)
        for _ in range(3):
            await it.node.seal()
        printed, errors = await explained(it, capsys)
        assert printed.splitlines()[-2:] == [
            "paid       2 POT, as the chain's record says",
            "           (the state with the events is pruned here: a node with --state-pruning archive has it)",
        ]
        assert not errors


async def test_a_round_that_is_not_final_or_does_not_exist_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await final_round(it, client)
        for task, round_, words, code in (
            (0, 1, "error: round 1 of task 0 is not final yet: potchain task watch 0", 2),
            (0, 7, "task 0 has no round 7: 1 of 3 rounds are final", 1),
            (5, 0, "no task 5: 1 were created, numbered from 0", 1),
        ):
            printed, error = await explained(it, capsys, task, round_, exit_code=code)
            assert not printed
            assert words in error
            assert error.count("\n") == 1
