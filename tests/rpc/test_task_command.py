"""`potchain task new` and `cancel`, and the same from Python: what they cost is known before anything is sent."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from chain.cli import main
from chain.cli_tasks import _waiting_line
from chain.display import Pace, time_left
from chain.primitives import ss58
from chain.rpc.client import Client
from chain.tasks import Offer, TaskRefused, create, quote, upload
from chain.terms import by_flag, resolve
from runtime.modules import training_storage
from runtime.modules.training_policy import PICO, Adam, Descent, Policy, Sgd
from runtime.modules.training_types import TaskStatus
from tests.rpc.kit import ALICE, BOB, CHARLIE, POT, Served, served
from tests.trainer.kit import small_task
from trainer import task as tasks
from trainer.dataset import parse
from trainer.market import Market
from trainer.task import Built

POLICY = Policy(2, 120, 20, 120, 1, 230_000, 510_000, 20, 1)
ADAM = Descent(Adam(10**9, 9 * 10**11, 999 * 10**9, 10**4))


def offer(**changes: object) -> Offer:
    small = small_task()
    terms: dict[str, object] = {
        "name": "small",
        "program_root": small.program_root,
        "dataset_root": small.dataset_root,
        "params_root": small.params_root,
        "blobs": small.blobs,
        "optimizer": ADAM,
        "policy": POLICY,
        "rounds": 3,
        "price_per_slot": POT,
    }
    return Offer(**{**terms, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task as `potchain task export` leaves it."""
    path = tmp_path_factory.mktemp("task") / "small"
    small = small_task()
    manifest = parse(small.blobs[small.dataset_root])
    roots = (small.program_root, small.dataset_root, small.params_root)
    built = Built("small", small.program, small.theta, manifest, *roots, small.blobs, {}, costs=None)  # type: ignore[arg-type]
    tasks.save(built, path)
    return path


async def run(
    it: Served, capsys: pytest.CaptureFixture[str], *words: str | Path, exit_code: int = 0
) -> tuple[list[str], str]:
    with trio.fail_after(60), pytest.raises(SystemExit) as ended:
        await trio.to_thread.run_sync(main, ["task", *map(str, words), "--node", it.url])
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == exit_code, printed
    return printed.out.splitlines(), printed.err


@pytest.mark.slow
async def test_a_task_is_measured_priced_uploaded_and_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        words = ("new", folder, "--key", "//Bob", "--rounds", "5", "--slots", "2", "--price", "1")
        dry, _ = await run(it, capsys, *words, "--dry-run")
        assert dry[-1] == "nothing was sent: --dry-run"
        assert (it.node.ledger.head.height, it.node.blobs.bytes_used) == (0, 0)
        assert re.fullmatch(
            r"machines    one thread, eight threads.*: honest results differ by \S+e-0[78] at most", dry[1]
        )
        assert dry[2] == "tolerance   0.51 steps; honest values need 0.5000, and 20 in a million may be off further"
        assert [line.rpartition(", ")[0] for line in dry[3:6]] == [
            "cheat       one sample of 32 left out: found in 4 of 4",
            "cheat       scaled by 5 %: found in 4 of 4",
            "cheat       one step stale: found in 4 of 4",
        ]
        printed, _ = await run(it, capsys, *words, "-y")
        assert printed[1:13] == dry[1:13]  # The measurement is kept.
        printed = printed[6:]
        assert printed.pop(0) == f"owner       {ss58.encode(BOB.public)}, who has 10,000 POT"
        assert printed[0].startswith("training    adam at rate 0.001, constant schedule")
        assert printed[1] == "escrow      10 POT: 5 rounds of 2 slots at 1 POT; what is not spent comes back"
        held = await client.read(lambda chain: chain.training.storage[1])
        assert re.fullmatch(
            r"storage     0\.\d+ POT are kept ready for 1\.9 MiB; the time that the task takes is paid from it, "
            "and a week for its model, the rest comes back",
            printed[2],
        )
        assert held.deposit == Decimal(printed[2].split()[1]) * POT
        assert printed[4] == "audits      23% of all slots, recomputed by 1 each"
        assert printed[5] == "evaluated   after each round, on the held-out rows"
        assert printed[7] == "workers     offer 0 slots at this moment: rounds have no more, until others come"
        assert "small is task 1, created in block " in printed[-2]
        assert printed[-1] == "watch it: potchain task watch 1"
        task = await client.read(lambda chain: chain.training.tasks[1])
        assert (task.name, task.owner, task.escrow) == (b"small", BOB.public, 10 * POT)
        assert (task.program_root, task.rounds, task.policy) == (small_task().program_root, 5, POLICY)
        assert all(it.node.blobs.get(root) == data for root, data in small_task().blobs.items())
        fee = 10_000 * POT - (await client.account(BOB.public)).free - task.escrow - held.deposit
        assert printed[3] == f"fee         0.{fee:012d}".rstrip("0") + " POT"

        _, error = await run(it, capsys, "fetch", "1", "-o", "/proc/nowhere", exit_code=2)
        assert error == "error: cannot write /proc/nowhere: No such file or directory; choose another file with -o\n"
        printed, _ = await run(it, capsys, "cancel", "1", "--key", "//Bob")
        assert printed[-1].endswith("task 1 ends with what has begun of it")
        assert (await client.read(lambda chain: chain.training.tasks[1])).status is TaskStatus.CANCELLED
        _, error = await run(it, capsys, "cancel", "0", "--key", "//Bob", exit_code=1)
        assert "Training.NotOwner" in error


async def test_a_model_that_nobody_keeps_any_more_is_said_to_be_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_storage, "AFTER_BLOCKS", 2)
    async with served(tmp_path) as it:
        await run(it, capsys, "cancel", "0", "--key", "//Alice")
        for _ in range(3):
            await it.node.seal()
        _, error = await run(it, capsys, "fetch", "0", "-o", tmp_path / "model", exit_code=2)
        assert re.search(r"nodes kept its model until block \d, which is over; nobody paid for more", error)
        _, error = await run(it, capsys, "keep", "0", "--key", "//Alice", "-y", exit_code=2)
        assert "Nothing is kept of the task any more" in error


async def test_a_task_is_kept_longer_for_what_was_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        before = await client.read(lambda chain: chain.training.storage[0])
        printed, _ = await run(it, capsys, "keep", "0", "--days", "10", "--key", "//Alice", "-y")
        after = await client.read(lambda chain: chain.training.storage[0])
        assert after.until == before.until + 10 * 86_400
        more = f"{(after.deposit - before.deposit) / POT:.12f}".rstrip("0") + " POT"
        assert printed == [
            f"it costs {more} to keep what is kept of task 0 until block {after.until:,}",
            f"kept until block {after.until:,}, for {more}",
        ]
        for words, message in (
            (("0", "--key", "//Bob", "-y"), "extend_storage failed in block"),
            (("0", "--key", "//Alice", "--days", "365", "-y"), "Storage is sold for 1 block to a year"),
            (("7", "--key", "//Alice", "-y"), "task 7 cannot be kept for 30 days more: No such task"),
            (("0", "--key", "//Alice"), "nobody is there to be asked: add --yes; nothing was sent"),
        ):
            _, error = await run(it, capsys, "keep", *words, exit_code=2)
            assert message in error
        until = await trio.to_thread.run_sync(Market(it.url, "//Alice").keep, 0, 5)
        assert until == after.until + 5 * 86_400


@pytest.mark.parametrize(
    ("words", "message", "exit_code"),
    [
        (("--price", "0.0001"), "the chain would refuse this task: A task pays at least PricePerSlotMin", 1),
        (("--price", "60"), "A slot that is worth so much needs more audits", 1),
        (("--price", "1", "--audited", "0.22"), "A slot that is worth so much needs more audits", 1),
        (("--auditors", "2"), "the chain would refuse this task: Slots 1-64", 1),  # there is one validator
        (("--price", "much"), "price: expected an amount such as 1.5, got 'much'", 2),
        (("--learning-rate", "fast"), "--learning-rate: expected 1e-12 to 1,000, got 'fast'", 2),
        (("--slots", "300"), "expected 1 to 64, got '300'", 2),
        (("--rounds", "1000000"), "has 10,000 POT, too little for 1,600,098.", 2),
    ],
)
async def test_what_cannot_be_is_refused_before_it_costs_anything(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    words: tuple[str, ...],
    message: str,
    exit_code: int,
) -> None:
    async with served(tmp_path) as it:
        _, error = await run(it, capsys, "new", folder, "--key", "//Bob", "-y", *words, exit_code=exit_code)
        assert message in error
        assert error.count("\n") == 1
        assert it.node.ledger.head.height == 0
        assert it.node.blobs.bytes_used == 0


async def test_nothing_is_sent_without_consent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it:
        words = ("new", folder, "--key", "//Bob")
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        _, error = await run(it, capsys, *words, exit_code=2)
        assert error == "error: nobody is there to be asked: add --yes; nothing was sent\n"
        assert (it.node.ledger.head.height, it.node.blobs.bytes_used) == (0, 0)


async def test_a_folder_that_is_no_task_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    async with served(tmp_path / "node") as it:
        _, error = await run(it, capsys, "new", tmp_path / "empty", "--key", "//Bob", "-y", exit_code=2)
        assert "expected a folder that `potchain task export` wrote" in error


async def test_blobs_that_the_node_has_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await upload(client, offer())
        monkeypatch.setattr(client, "put_blob", None)
        told: list[int] = []
        await upload(client, offer(), told.append)
        assert told[-1] == offer().size == sum(map(len, small_task().blobs.values()))


async def test_what_nodes_would_not_fetch_from_one_another_is_no_task(tmp_path: Path) -> None:
    """Adam's state is twice the parameters: of nine million it is more than a node takes, though they are not."""
    root = b"\7" * 32
    blobs = {**small_task().blobs, root: bytes(36_000_000)}
    sgd = Descent(Sgd(PICO, 0))
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        with pytest.raises(TaskRefused, match=r"at most 67,108,864 bytes.*, got 72,\d+,\d+ in the optimiser's state; "):
            await quote(client, BOB, offer(params_root=root, blobs=blobs))
        assert (await quote(client, BOB, offer(params_root=root, blobs=blobs, optimizer=sgd))).affordable
        with pytest.raises(TaskRefused, match=r"got 68,000,000 in the parameters; "):
            await quote(client, BOB, offer(params_root=root, blobs={**blobs, root: bytes(68_000_000)}, optimizer=sgd))


async def test_who_cannot_pay_is_told_what_it_takes(tmp_path: Path, folder: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        costs = await quote(client, BOB, offer())
        assert (costs.escrow, costs.free, costs.affordable) == (6 * POT, 10_000 * POT, True)
        assert costs.wanted == 6 * POT + costs.deposit + costs.fee
        assert not (await quote(client, CHARLIE, offer())).affordable
        with pytest.raises(TaskRefused, match=r"expected at least 160\.\S+ POT on the account, got 0 POT: nothing was"):
            await Market(it.url, "//Charlie")._offered(tasks.load(folder), resolve(by_flag({"auditors": "1"})))
        task, height = await create(client, ALICE, offer())
        assert (task, height) == (1, it.node.ledger.head.height)
        assert (await client.read(lambda chain: chain.training.storage[1])).deposit == costs.deposit


async def test_a_watch_says_what_a_task_waits_for_and_what_became_of_a_cancelled_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ""
    async with served(tmp_path) as it, trio.open_nursery() as nursery:

        async def watch() -> None:
            with pytest.raises(SystemExit) as ended:
                await trio.to_thread.run_sync(main, ["task", "watch", "0", "--node", it.url])
            assert not ended.value.code
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        with trio.fail_after(60):
            while "waits for workers" not in told:
                await it.node.seal()
                await trio.sleep(0.01)
                told += capsys.readouterr().out
            async with Client.connect(it.url) as client:
                assert (await client.transact(ALICE, "training.cancel_task", task=0)).ok
            while not nursery.cancel_scope.cancel_called:
                await it.node.seal()
                await trio.sleep(0.01)
    lines = [line.partition("task     ")[2] for line in (told + capsys.readouterr().out).splitlines()]
    assert lines[:3] == [
        "digits: 0 of 3 rounds are final; Ctrl-C ends the watch",
        "round 0 waits for workers: none is registered; potchain worker --key KEY starts one",
        "digits is cancelled after 0 of 3 rounds, 0 POT paid in all",
    ]
    assert lines[3] == "its model: potchain task fetch 0 -o model.safetensors"


def test_a_round_that_does_not_begin_waits_for_whom_the_chain_says() -> None:
    busy = {"active": True, "capacity": 4, "taken": 4, "paused": []}
    late = {"active": True, "capacity": 2, "taken": 0, "paused": [1, 3]}
    gone = {"active": False, "capacity": 9, "taken": 0, "paused": []}
    task = {"id": 3, "round": 5}
    for workers, what in (
        ([gone, busy, busy], "8 of the 8 seats of 2 workers have other slots"),
        ([late], "1 worker paused after a slot that came to nothing"),
        (
            [busy, late, late],
            "4 of the 4 seats of 1 worker have other slots; 2 workers paused after a slot that came to nothing",
        ),
    ):
        assert _waiting_line(task, workers) == f"round 5 waits for workers: {what}"


def test_a_watch_says_how_long_a_task_still_takes() -> None:
    pace = Pace(9)
    # The watch began in the midst of round 9, of which it has seen who knows how little.
    assert (pace.seconds_left(9, 50, 99.0), pace.seconds_left(10, 50, 100.0)) == (None, None)
    assert pace.seconds_left(10, 50, 130.0) is None
    assert pace.seconds_left(15, 50, 115.0) == 105.0
    assert pace.seconds_left(15, 16, 115.0) == 3.0
    assert pace.seconds_left(16, 16, 118.0) is None
    assert [time_left(seconds) for seconds in (3.0, 105.0, 150_015.0)] == [
        "about 3 s left",
        "about 2 min left",
        "about 2 d left",
    ]
