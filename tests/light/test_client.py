"""The light client against real nodes and nodes that lie, stall and send garbage: over sockets, and as a command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.cli import main
from chain.light import client
from chain.light.checkpoint import Checkpoint, load
from chain.light.client import ask_nodes
from chain.light.errors import LightError
from chain.light.follower import Steps, follow, read
from chain.primitives import ss58
from chain.rpc.client import Client
from runtime.potchain import RUNTIME
from tests.light.kit import (
    TESTNET,
    Raw,
    SetChain,
    Stall,
    Tamper,
    counted,
    hexed,
    node_that_answers,
    reseal,
    tampered,
    write_genesis,
)
from tests.rpc.kit import ALICE, BOB, CHARLIE, POT, Served, genesis_config, served

ROOT = Path(__file__).resolve().parent.parent.parent
OLD = ("--max-age", "9999999999")  # the blocks of tests are of 2023

Command = Callable[..., Awaitable[tuple[str, str]]]
UNREACHED = "error: cannot reach ws://127.0.0.1:9: connection refused: is the node running?\n"


@pytest.fixture
def light(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs a command of the light client with a checkpoint file of its own; its output and its errors."""

    async def run(*arguments: str, exit_code: int = 0) -> tuple[str, str]:
        words = ["light", *arguments, f"--checkpoint={tmp_path / 'checkpoint.json'}"]
        with trio.fail_after(60), pytest.raises(SystemExit) as ended:
            await trio.to_thread.run_sync(main, words)
        printed = capfd.readouterr()
        assert (ended.value.code or 0) == exit_code, printed
        return printed.out, printed.err

    return run


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    """The genesis file of the node that tests run."""
    return write_genesis(tmp_path / "genesis.json", genesis_config())


@asynccontextmanager
async def proxy(real: str, method: str, change: Tamper) -> AsyncIterator[str]:
    """A node that passes everything on to a real one, and changes its answers to one method."""
    async with Client.connect(real) as connection:

        async def answer(asked: str, params: list[Any]) -> Any:
            found = await connection.request(asked, *params)
            return change(found) if asked == method else found

        async with node_that_answers(answer) as url:
            yield url


def plan_of(chain: SetChain) -> Callable[[], Steps[tuple[Checkpoint, None]]]:
    def plan() -> Steps[tuple[Checkpoint, None]]:
        return (yield from follow(RUNTIME, chain.genesis)), None

    return plan


async def with_blocks(it: Served, count: int) -> None:
    for _ in range(count):
        await it.node.seal()


# --- The command against a real node


async def test_a_balance_is_proven_against_a_real_node_from_genesis_and_then_from_the_checkpoint(
    tmp_path: Path, light: Command, genesis_file: Path
) -> None:
    bob = ss58.encode(BOB.public)
    async with served(tmp_path) as it:
        await with_blocks(it, 3)
        out, err = await light("balance", bob, f"--genesis={genesis_file}", "--node", it.url, *OLD)
        head = it.node.ledger.head
        block, balance = out.splitlines()
        assert block.startswith(f"block 3 0x{head.hash.hex()}, ")
        assert block.endswith(f" old, proven by {it.url}")
        assert balance == "10,000 POT free, 0 POT reserved, nonce 0"
        assert err.startswith("note: followed from genesis. ")

        async with Client.connect(it.url) as connection:
            receipt = await connection.transact(BOB, "balances.transfer_keep_alive", dest=CHARLIE.public, value=POT)
            assert receipt.ok
        # The checkpoint is of the year 2023 as well: its validators may have left long ago.
        out, err = await light("balance", bob, "--node", it.url, *OLD, exit_code=1)
        assert "error: the checkpoint, block 3, is " in err
        trusted = it.node.ledger.head_hash.hex()
        out, err = await light("balance", bob, "--node", it.url, *OLD, "--trust", trusted)
        assert out.startswith(f"block 4 0x{trusted}")
        assert out.splitlines()[1].endswith(" POT free, 0 POT reserved, nonce 1")
        assert err == ""
        memory = load(tmp_path / "checkpoint.json")
        assert memory is not None
        assert (memory.checkpoint.height, memory.checkpoint.block_hash) == (4, it.node.ledger.head_hash)
        out, err = await light("balance", ss58.encode(b"\5" * 32), "--node", it.url, *OLD, "--trust", trusted)
        assert out.splitlines()[1] == "0 POT free, 0 POT reserved, nonce 0"


async def test_the_next_start_goes_on_from_the_checkpoint_without_the_genesis_file(
    tmp_path: Path, light: Command
) -> None:
    chain = SetChain(sessions=3, start_ms=time.time_ns() // 10**6 - 20_000)
    genesis = write_genesis(tmp_path / "genesis.json", chain.config)
    calls = list[str]()
    async with node_that_answers(counted(chain.answer, calls)) as url:
        out, err = await light("head", f"--genesis={genesis}", "--node", url)
        assert out.splitlines()[1] == f"state root {hexed(chain.head.header.state_root)}"
        assert err.startswith("note: ")
        calls.clear()
        again, err = await light("head", "--node", url)
        assert (again.split()[:3], err) == (out.split()[:3], "")
        assert calls == ["chain_getFinalizedHead"]
        chain.extend()
        out, err = await light("head", "--node", url)
        assert (out.split()[:3], err) == (["block", "10", f"{hexed(chain.head.header.hash)},"], "")
    memory = load(tmp_path / "checkpoint.json")
    assert memory is not None
    assert memory.checkpoint == chain.checkpoint()


async def test_a_task_is_proven_against_a_real_node(tmp_path: Path, light: Command, genesis_file: Path) -> None:
    async with served(tmp_path) as it:
        await with_blocks(it, 1)
        common = (f"--genesis={genesis_file}", "--node", it.url, *OLD)
        out, _ = await light("task", "0", *common)
        assert out.splitlines()[1:] == [
            "digits: active, 0 of 3 rounds are final",
            "model 0x" + "33" * 32,
            f"minted 0 POT, escrow 6 POT, owner {ss58.encode(ALICE.public)}",
        ]


async def test_a_task_that_does_not_exist_is_proven_absent(tmp_path: Path, light: Command, genesis_file: Path) -> None:
    async with served(tmp_path) as it:
        await with_blocks(it, 1)
        _, err = await light("task", "7", f"--genesis={genesis_file}", "--node", it.url, *OLD, exit_code=1)
        assert "error: no task 7: 1 were created, numbered from 0" in err


async def test_any_storage_item_is_proven_and_shown_by_names_as_people_write_them(
    tmp_path: Path, light: Command, genesis_file: Path
) -> None:
    common = (f"--genesis={genesis_file}", *OLD)
    alice = ss58.encode(ALICE.public)
    async with served(tmp_path) as it:
        await with_blocks(it, 2)

        async def query(*words: str) -> tuple[Any, str]:
            (tmp_path / "checkpoint.json").unlink(missing_ok=True)  # of 2023, too
            out, err = await light("query", *words, *common, "--node", it.url)
            return json.loads(out.split("\n", 1)[1]), err

        assert (await query("System", "Number"))[0] == 2
        assert (await query("training", "next_task_id"))[0] == 1
        account, _ = await query("system", "account", alice)
        assert account["data"]["free"] > 9_000 * POT
        task, _ = await query("Training", "Tasks", "0")
        assert (task["owner"], task["status"]) == (alice, "Active")
        assert (await query("Training", "History", "0", "0"))[0] is None
        with it.node.ledger.state() as state:
            first = RUNTIME.at(state).system.block_hash[1]
        assert (await query("System", "BlockHash", "1"))[0] == f"0x{first.hex()}"
        nobody, err = await query("Balances", "Locks", f"0x{bytes(32).hex()}")
        assert (nobody, "nothing is stored there, and this is the default" in err) == ([], True)
        events, _ = await query("System", "Events")
        assert "System.ExtrinsicSuccess" in events[0]["event"]


async def test_a_query_of_what_there_is_not_lists_what_there_is(light: Command, genesis_file: Path) -> None:
    for words, message in [
        (("Balanced", "TotalIssuance"), "no module is called 'Balanced' (did you mean Balances?): there is System, "),
        (("Balances", "Total"), "no item of Balances is called 'Total'"),
        (("Balances", "Total"), "there is TotalIssuance, "),
        (("System", "Account"), "System Account takes 1 key (an address), got none"),
        (("System", "Account", "bob"), "expected an address, got 'bob' ("),
        (("System", "Number", "1"), "System Number takes no keys, got 1"),
        (("Training", "History", "0", "x"), "expected a number (u32), got 'x' ("),
        (("Training", "Tasks", "4294967296"), "expected a number (u32), got '4294967296' ("),
    ]:
        out, err = await light("query", *words, f"--genesis={genesis_file}", exit_code=2)
        assert (out, err.count("\n")) == ("", 1), err
        assert message in err


async def test_a_network_that_was_begun_anew_is_told_with_the_file_that_remembers_the_old_one(
    tmp_path: Path, light: Command
) -> None:
    now = time.time_ns() // 10**6 - 20_000
    old, new = SetChain(sessions=1, start_ms=now), SetChain(sessions=1, start_ms=now + 1_000)
    assert old.genesis == new.genesis
    genesis = write_genesis(tmp_path / "genesis.json", old.config)
    async with node_that_answers(old.answer) as url:
        await light("head", f"--genesis={genesis}", "--node", url)
    checkpoint = tmp_path / "checkpoint.json"
    before = checkpoint.read_bytes()
    advice = f"from {checkpoint}: remove that file if the network was begun anew, else ask other nodes"
    async with node_that_answers(new.answer) as url:
        for said in ("is known to be", "validators have sealed two chains"):
            _, err = await light("head", "--node", url, exit_code=1)
            assert said in err
            assert advice in err
            new.extend()
    assert checkpoint.read_bytes() == before


async def test_a_node_that_shows_nothing_new_since_2023_is_told_to_be_stale(
    tmp_path: Path, light: Command, genesis_file: Path
) -> None:
    async with served(tmp_path) as it:
        await with_blocks(it, 2)
        out, err = await light("head", f"--genesis={genesis_file}", "--node", it.url, exit_code=1)
        assert out == ""
        assert f"error: {it.url}: the newest block that it shows, 2, is " in err
        assert err.count("\n") == 1


async def test_genesis_is_a_head_like_any_other(tmp_path: Path, light: Command, genesis_file: Path) -> None:
    async with served(tmp_path) as it:
        out, err = await light("head", f"--genesis={genesis_file}", "--node", it.url)
        assert out.startswith(f"block 0 0x{it.node.ledger.genesis_hash.hex()}, genesis, proven by ")
        assert err == ""


LIES: list[tuple[str, Tamper, str]] = [
    ("chain_getHeader", lambda found: {**found, "stateRoot": "0x" + "00" * 32}, "it is forged"),
    ("consensus_getSeal", lambda found: reseal(found, view=3), "its signature is not that of the 1 validators"),
    ("consensus_getSeal", lambda found: reseal(found, voters=b"\0"), "expected the votes of 1 of 1 validators, got 0"),
    ("state_getReadProof", lambda found: {**found, "proof": found["proof"][1:]}, "does not hold"),
    ("chain_getFinalizedHead", lambda _: None, "does not tell the hash of the newest block"),
    ("chain_getHeader", lambda _: None, "does not give the header"),
    ("chain_getFinalizedHead", lambda _: Raw("}"), "has not answered chain_getFinalizedHead"),
    ("chain_getHeader", lambda _: Raw('{"jsonrpc":"2.0","id":2,"result":' + "[" * 100_000), "has not answered"),
    ("chain_getHeader", lambda _: Raw("x" * (client.MESSAGE_BYTES_MAX + 1)), "closed the connection"),
    ("chain_getFinalizedHead", lambda _: Stall(), "has not answered chain_getFinalizedHead in 1.5 s"),
]


@pytest.mark.parametrize(("method", "change", "words"), LIES, ids=[f"{case[0]}-{case[2]}" for case in LIES])
async def test_a_node_that_lies_or_stalls_is_named_in_one_line(
    tmp_path: Path,
    light: Command,
    genesis_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    change: Tamper,
    words: str,
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1.5)
    async with served(tmp_path) as it:
        await with_blocks(it, 2)
        async with proxy(it.url, method, change) as liar:
            out, err = await light("head", f"--genesis={genesis_file}", "--node", liar, *OLD, exit_code=1)
            assert (out, err.count("\n")) == ("", 1)
            assert err.startswith(f"error: {liar}")
            assert words in err
            assert not (tmp_path / "checkpoint.json").exists()
            # Beside an honest node it is warned of, and changes nothing.
            both = ("--node", liar, "--node", it.url)
            out, err = await light("head", f"--genesis={genesis_file}", *both, *OLD)
            assert out.startswith(f"block 2 0x{it.node.ledger.head_hash.hex()}")
            assert err.startswith(f"warning: {liar}")
            assert words in err


async def test_a_node_of_another_chain_is_refused(tmp_path: Path, light: Command) -> None:
    async with served(tmp_path) as it:
        await with_blocks(it, 1)
        _, err = await light("head", f"--genesis={TESTNET}", "--node", it.url, *OLD, exit_code=1)
        assert err.startswith(f"error: {it.url}: the seal of block 1: ")


async def test_a_checkpoint_of_another_chain_is_refused(tmp_path: Path, light: Command, genesis_file: Path) -> None:
    async with served(tmp_path) as it:
        await with_blocks(it, 1)
        await light("head", f"--genesis={genesis_file}", "--node", it.url, *OLD)
        _, err = await light("head", f"--genesis={TESTNET}", "--node", it.url, *OLD, exit_code=2)
        assert "is of the chain of genesis 0x" in err
        assert err.endswith("give another --checkpoint FILE, or remove that one if its chain is gone\n")


async def test_what_the_command_line_gets_wrong_ends_with_code_2(light: Command, genesis_file: Path) -> None:
    genesis = f"--genesis={genesis_file}"
    for words, message in [
        (("head",), "give the chain's --genesis FILE"),
        (("head", genesis, "--node", "http://127.0.0.1:1"), "--node: expected a node address such as ws://"),
        (("head", genesis, "--trust", "0x12"), "--trust: expected a block hash of 64 hex digits"),
        (("head", "--genesis=/nowhere"), "cannot read genesis file /nowhere"),
        (("balance", "bob", genesis), "expected an address such as 5Grw"),
        (("task", "-1", genesis), "see: potchain light task --help"),
        (("head", genesis, "--max-age", "-1"), "see: potchain light head --help"),
    ]:
        out, err = await light(*words, exit_code=2)
        assert (out, err.count("\n")) == ("", 1), err
        assert message in err


async def test_no_node_is_an_error_in_one_line(light: Command, genesis_file: Path) -> None:
    out, err = await light("head", f"--genesis={genesis_file}", "--node", "ws://127.0.0.1:9", exit_code=1)
    assert (out, err) == ("", UNREACHED)


def test_the_command_loads_no_database_no_array_library_and_no_node() -> None:
    program = (
        "import sys\nfrom chain.cli import main\n"
        "try: main(['light', 'head', '--genesis', 'genesis/testnet.json', '--checkpoint', '/nonexistent/c.json',"
        " '--node', 'ws://127.0.0.1:9'])\n"
        "except SystemExit as ended: assert ended.code == 1\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('lmdb', 'jax', 'numpy', 'rich', 'starlette',"
        " 'trainer') or name in ('chain.ledger', 'chain.store', 'chain.node', 'chain.net.network')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "[]\n", done
    assert done.stderr == UNREACHED


# --- Several nodes, and set changes over sockets


async def test_set_changes_are_followed_over_a_socket() -> None:
    chain = SetChain(sessions=4)
    async with node_that_answers(chain.answer) as url:
        with trio.fail_after(60):
            findings = await ask_nodes([url], plan_of(chain))
    assert (findings.best().head, findings.faults) == (chain.checkpoint(), [])
    assert findings.furthest == chain.checkpoint()


async def test_the_node_with_the_higher_head_wins_and_liars_are_named() -> None:
    chain = SetChain(sessions=3)
    lying = tampered(chain.answer, "consensus_getSeal", lambda found: reseal(found, view=9))
    async with (
        node_that_answers(chain.upto(4).answer) as behind,
        node_that_answers(chain.answer) as best,
        node_that_answers(lying) as liar,
    ):
        with trio.fail_after(60):
            findings = await ask_nodes([behind, liar, best, best], plan_of(chain))
    assert findings.best().url == best
    assert len(findings.answers) == 2
    assert [fault.url for fault in findings.faults] == [liar]


async def test_a_node_that_stalls_on_the_way_leaves_what_was_proven_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1.5)
    chain = SetChain(sessions=3)

    def answer(method: str, params: list[Any]) -> Any:
        return Stall() if (method, params) == ("consensus_getHandover", [1]) else chain.answer(method, params)

    async with node_that_answers(answer) as url:
        with trio.fail_after(60):
            findings = await ask_nodes([url], plan_of(chain))
    assert findings.furthest == chain.checkpoint(3)
    with pytest.raises(LightError, match=r"has not answered consensus_getHandover in 1\.5 s"):
        findings.best()


async def test_a_node_that_drips_answers_without_proving_anything_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PROGRESS_SECONDS", 0.5)
    chain = SetChain(sessions=1)

    async def answer(method: str, params: list[Any]) -> Any:
        await trio.sleep(0.2)
        return chain.answer(method, params)

    async with node_that_answers(answer) as url:
        with trio.fail_after(60):
            findings = await ask_nodes([url], plan_of(chain))
    assert str(findings.faults[0]) == f"{url}: it has proven nothing new for 0.5 s, whatever it answers"


async def test_a_slow_node_is_not_waited_for_once_another_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GRACE_SECONDS", 0.2)
    chain = SetChain(sessions=1)
    async with node_that_answers(chain.answer) as quick, node_that_answers(lambda *_: Stall()) as slow:
        with trio.fail_after(60):
            findings = await ask_nodes([slow, quick], plan_of(chain))
    assert findings.best().url == quick
    assert [str(fault) for fault in findings.faults] == [
        f"{slow}: it had 0.2 s more than another node, and has not answered"
    ]


async def test_a_read_over_a_socket_is_proven() -> None:
    chain = SetChain(sessions=1)

    def plan() -> Steps[tuple[Checkpoint, int]]:
        head = yield from follow(RUNTIME, chain.genesis)
        return head, (yield from read(RUNTIME, head, lambda view: view.balances.total_issuance.get()))

    async with node_that_answers(chain.answer) as url:
        with trio.fail_after(60):
            findings = await ask_nodes([url], plan)
    assert findings.best().value == RUNTIME.at(chain.head.tree).balances.total_issuance.get() > 0
