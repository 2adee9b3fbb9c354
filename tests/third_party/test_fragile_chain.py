"""A module with bugs: whoever meets one changes nothing and stops nobody; a hook that raises stops the node loudly."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from fragile_chain.chain import RUNTIME
from real_node import SECONDS_MAX, free_port, running

from chain.author import Author
from chain.importer import CannotFollow, Importer
from chain.intake import Intake
from chain.ledger import ExecutedBlock, Ledger
from chain.node_life import open_ledger
from chain.pool import Fate, Pool, PoolLimits, TemporarilyBanned
from chain.pool_keeper import encode_pool, pool_file
from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.merkle import ordered_root
from chain.primitives.seal import Phase, Seal, ValidatorSet, beacon_message, bitmap, vote_message
from chain.primitives.types import Block, ConsensusDigest, Header, encode_extrinsic, sign_extrinsic
from chain.proposing import Rejected
from chain.rpc.client import Client
from chain.rpc.errors import RpcError, TransactionDropped
from consensus.host import InvalidProposal
from genesis.spec import load
from runtime.block import DigestLog
from runtime.calls import Call
from runtime.executive import Executive
from runtime.panic import Exhausted, HookPanicked, Panicked
from runtime.testing import ALICE, BOB, TestChain, bls_secret, genesis_config
from runtime.types import InherentData, InvalidBlock, InvalidReason

HERE = Path(__file__).resolve().parent
NOW = 1_700_000_000_000
DOWN, BUY = RUNTIME.call("fragile.down"), RUNTIME.call("fragile.buy", what=b"plum")
DIG, HOARD = RUNTIME.call("fragile.dig", depth=100_000), RUNTIME.call("fragile.hoard", tebibytes=1 << 20)
UP = RUNTIME.call("fragile.up")


def forwarded(call: Call, times: int = 1) -> Call:
    for _ in range(times):
        call = RUNTIME.call("fragile.forward", inner=call)
    return call


def sign(who: Keypair, call: Call | bytes, nonce: int, genesis: Hash) -> bytes:
    return sign_extrinsic(
        who,
        call if isinstance(call, bytes) else RUNTIME.encode_call(call),
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=genesis,
    )


# What nobody can say the weight of cannot be bound to its arguments here, either: call 5 of module 10, no parts.
SHARE = bytes((10, 5)) + bytes(4)


# --- the executive ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "where", "raised"),
    [
        (DOWN, "fragile.down", "ScaleError: "),
        (BUY, "fragile.buy", "KeyError: b'plum'"),
        (DIG, "fragile.dig", "RecursionError: "),
        (HOARD, "fragile.hoard", "MemoryError"),
        (forwarded(BUY, 3), "fragile.buy", "KeyError: b'plum'"),
        (SHARE, "the weight of fragile.share", "ZeroDivisionError: "),
    ],
)
def test_a_call_that_raises_what_none_may_is_no_transaction_and_leaves_nothing(
    call: Call | bytes, where: str, raised: str
) -> None:
    chain = TestChain(runtime=RUNTIME)
    before, events = chain.state_root(), len(chain.events)
    with pytest.raises(Panicked, match=re.escape(f"{where} raised {raised}")) as refused:
        chain.apply(sign(ALICE, call, 0, chain.genesis_hash))
    assert refused.value.reason is InvalidReason.CALL
    assert (chain.state_root(), len(chain.events)) == (before, events)
    assert chain.submit(ALICE, "fragile.up").error is None
    assert chain.modules.fragile.count.get() == 1
    assert chain.close().extrinsics == chain.blocks[-1][1]


def test_what_a_module_cannot_vouch_for_without_a_mistake_is_refused() -> None:
    chain = TestChain(runtime=RUNTIME)
    raw = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("fragile.anonymous")))
    with pytest.raises(Panicked, match=r"fragile\.validate_unsigned raised IndexError"):
        chain.apply(raw)
    with pytest.raises(Panicked, match=r"fragile\.validate_unsigned raised IndexError"):
        chain.executive.validate_after(chain.tree, chain.header.hash, raw)


def test_what_nobody_can_weigh_has_no_fee_and_no_validity() -> None:
    chain = TestChain(runtime=RUNTIME)
    raw = sign(ALICE, SHARE, 0, chain.genesis_hash)
    for ask in (
        lambda: chain.executive.query_info(chain.tree, raw),
        lambda: chain.executive.validate_after(chain.tree, chain.header.hash, raw),
        lambda: chain.executive.call_api(chain.tree, "TransactionPaymentCallApi_query_call_info", SHARE + bytes(4)),
    ):
        with pytest.raises(Panicked, match=r"the weight of fragile\.share raised ZeroDivisionError"):
            ask()


@pytest.mark.parametrize("hook", ["on_initialize", "inherent_required", "create_inherent", "tick", "on_finalize"])
def test_a_hook_that_raises_is_named_and_no_block_is_made(hook: str) -> None:
    chain = TestChain(runtime=RUNTIME)
    chain.call(ALICE, "fragile.arm", hook=hook.encode())
    with pytest.raises(HookPanicked, match=rf"no block \d can be made: fragile\.{hook} raised KeyError") as stopped:
        chain.run_blocks(2)
    assert isinstance(stopped.value.__cause__, KeyError)


# --- author, importer and pool ----------------------------------------------------------------------------------------


class Machine:
    """The one validator of a chain: its ledger, importer, pool and author, at a depth of the stack of its own."""

    def __init__(self, folder: Path) -> None:
        executive = Executive(RUNTIME)
        self.state = executive.genesis(genesis_config(validators=[ALICE]))
        self.ledger = Ledger.open(folder, executive=executive, genesis_state=self.state, genesis_name="fragile")
        self.importer = Importer(self.ledger, self._validators_after, lambda _: None)
        self.fates: list[tuple[Hash, Fate]] = []
        self.pool = Pool(PoolLimits(), lambda left: self.fates.append((left.hash, left.fate)))
        self.author = Author(self.importer, self.pool, [bls_secret(ALICE)], lambda: NOW)
        self.intake = Intake(
            self.ledger, executive, self.pool, cast(Any, _Network()), lambda: False, self.importer.at_rest
        )

    def _validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self.ledger.state(block_hash) as state:
            return RUNTIME.at(state).validators.validator_set()

    def sign(self, call: Call | bytes, who: Keypair = BOB, nonce: int = 0) -> bytes:
        return sign(who, call, nonce, self.ledger.genesis_hash)

    async def build(self) -> Block:
        height = self.ledger.head.height + 1
        return Block.decode(await self.author.build(height, 0, None))

    async def seal(self, block: Block) -> None:
        message = vote_message(self.ledger.genesis_hash, 0, block.header.height, 0, Phase.COMMIT, block.hash)
        seal = Seal(block.header.height, 0, 0, block.hash, bitmap([0], 1), bls.sign(bls_secret(ALICE), message))
        await self.author.commit(block.header.height, block.encode(), seal)

    def read(self) -> int:
        with self.ledger.state() as state:
            return RUNTIME.at(state).fragile.count.get()

    def with_extrinsic(self, block: Block, raw: bytes) -> Block:
        """What a proposer makes who includes what it should not; nothing that it claims of the state is right."""
        extrinsics = [*block.extrinsics, raw]
        header = block.header
        return Block(
            Header(header.parent_hash, header.height, header.state_root, ordered_root(extrinsics), header.digest),
            extrinsics,
        )


class _Network:
    def gossip_transactions(self, transactions: list[bytes]) -> None:
        """Nobody is there."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "chain")
    yield made
    made.ledger.close()


async def test_an_author_leaves_out_what_raises_bans_it_for_long_and_says_so_once(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [machine.sign(forwarded(BUY)), machine.sign(BUY, ALICE)]
    good = machine.sign(UP, nonce=0)
    for raw in bad:
        await machine.intake.submit(raw)
    block = await machine.build()
    assert len(block.extrinsics) == 1  # Timestamp's inherent
    assert sorted(machine.fates) == sorted((blake2_256(raw), Fate.INVALID) for raw in bad)
    with pytest.raises(TemporarilyBanned, match=r"fragile\.buy raised KeyError.* 1800000 ms"):
        machine.pool.precheck(bad[0], NOW)
    await machine.intake.submit(good)
    block = await machine.build()
    assert block.extrinsics[1:] == [good]
    await machine.seal(block)
    assert machine.read() == 1
    (told,) = caplog.records
    assert told.levelno == logging.ERROR
    text = told.getMessage()
    assert text.startswith("fragile.buy raised KeyError: ")
    assert "fragile.py" in text
    assert "self.count.put(PRICES[what])" in text
    assert "should raise a DispatchError" in text


@pytest.mark.parametrize("call", [DOWN, SHARE])
async def test_a_block_with_a_call_that_raises_is_refused_and_stops_nobody(
    machine: Machine, call: Call | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    block = await machine.build()
    wrong = machine.with_extrinsic(block, machine.sign(call))
    with pytest.raises(InvalidProposal, match=r"extrinsic 1: CALL: .*fragile\.\w+ raised"):
        await machine.author.check(1, 0, wrong.encode(), decided=False)
    assert len(caplog.records) == 1
    with pytest.raises(CannotFollow, match="a quorum sealed block 1"):
        await machine.seal(wrong)
    assert await machine.author.check(1, 0, block.encode(), decided=False) == block.hash


@pytest.mark.parametrize("call", [DIG, HOARD])
async def test_a_machine_that_runs_out_refuses_its_vote_and_judges_no_decided_block(
    machine: Machine, call: Call
) -> None:
    block = await machine.build()
    wrong = machine.with_extrinsic(block, machine.sign(call))
    with pytest.raises(Exhausted):
        machine.ledger.execute(wrong)
    with pytest.raises(InvalidProposal, match="this machine cannot execute block 1"):
        await machine.author.check(1, 0, wrong.encode(), decided=False)
    with pytest.raises(CannotFollow, match="this machine cannot execute block 1"):
        await machine.author.check(1, 0, wrong.encode(), decided=True)


def test_what_an_author_includes_is_executed_further_down_the_stack_too(machine: Machine) -> None:
    def raises_at(depth: int) -> bool:
        return build(depth)[1] != []

    def build(depth: int) -> tuple[ExecutedBlock, list[Rejected]]:
        raw = machine.sign(RUNTIME.call("fragile.dig", depth=depth))
        return machine.ledger.propose(1, 0, beacon, InherentData(NOW, None), [raw])

    beacon = bls.sign(bls_secret(ALICE), beacon_message(machine.ledger.genesis_hash, 1))
    low, high = 0, 2000
    while high - low > 1:  # the first depth that is too deep for an author here
        middle = (low + high) // 2
        low, high = (low, middle) if raises_at(middle) else (middle, high)
    executed, _ = build(low)
    assert len(executed.block.extrinsics) == 2

    def deeper(frames: int) -> None:
        if frames:
            deeper(frames - 1)
        else:
            assert machine.ledger.execute(executed.block).hash == executed.hash

    deeper(90)
    with pytest.raises(Exhausted):
        deeper(150)


async def test_a_transaction_after_which_a_hook_of_its_block_raises_is_left_out_alone(machine: Machine) -> None:
    poison = machine.sign(RUNTIME.call("fragile.arm", hook=b"on_finalize"), ALICE)
    good = [machine.sign(UP, BOB, nonce) for nonce in range(5)]
    for raw in [*good[:3], poison, *good[3:]]:
        await machine.intake.submit(raw)
    block = await machine.build()
    offered = [raw for raw in block.extrinsics[1:] if raw != poison]
    assert block.extrinsics[1:] == offered == good[: len(offered)]
    assert machine.fates == [(blake2_256(poison), Fate.INVALID)]
    with pytest.raises(TemporarilyBanned, match=r"fragile\.on_finalize raised KeyError.* 1800000 ms"):
        machine.pool.precheck(poison, NOW)
    await machine.seal(block)
    machine.pool.on_block(1, block.extrinsics)
    assert (await machine.build()).extrinsics[2:] == good[len(offered) :]


@pytest.mark.parametrize("hook", ["on_initialize", "tick"])
async def test_a_hook_that_raises_stops_the_author_and_a_block_that_meets_it_is_invalid(
    machine: Machine, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    await machine.intake.submit(machine.sign(RUNTIME.call("fragile.arm", hook=hook.encode())))
    first = await machine.build()
    await machine.seal(first)
    with pytest.raises(HookPanicked, match=rf"no block 2 can be made: fragile\.{hook} raised KeyError"):
        await machine.build()
    (told,) = caplog.records
    assert told.getMessage().startswith(f"no block 2 can be made: fragile.{hook} raised")
    beacon = bls.sign(bls_secret(ALICE), beacon_message(machine.ledger.genesis_hash, 2))
    digest: list[DigestLog] = [ConsensusDigest(0, beacon).item()]
    extrinsics: list[bytes] = []
    if hook == "tick":
        with machine.ledger.state() as state:
            builder = Executive(RUNTIME).begin(state, height=2, parent_hash=first.hash, digest=digest)
            extrinsics = builder.inherents(InherentData(NOW + 1000, machine.ledger.seal(first.hash)))
    block = Block(Header(first.hash, 2, bytes(32), ordered_root(extrinsics), digest), extrinsics)
    with pytest.raises(InvalidBlock, match=rf"fragile\.{hook} raised KeyError"):
        machine.ledger.execute(block)


async def test_what_panics_at_the_door_is_told_to_who_sends_it_and_not_judged_again(machine: Machine) -> None:
    raw = machine.sign(SHARE)
    with pytest.raises(Panicked, match=r"the weight of fragile\.share"):
        await machine.intake.submit(raw)
    with pytest.raises(TemporarilyBanned):
        await machine.intake.submit(raw)


# --- a whole node -----------------------------------------------------------------------------------------------------


def write_chain(folder: Path) -> Path:
    """The chain as its author hands it out: a genesis file, and beside it the package that it names."""
    shutil.copytree(HERE / "fragile_chain", folder / "fragile_chain", ignore=shutil.ignore_patterns("__pycache__"))
    spec = json.loads((HERE / "genesis.json").read_text())
    spec["runtime"] = "fragile_chain.chain:RUNTIME"
    spec["name"], spec["id"] = "Fragile", "fragile"
    spec["consensus"]["blockTimeMs"] = 500
    del spec["genesis"]["names"]
    genesis = folder / "genesis.json"
    genesis.write_text(json.dumps(spec))
    return genesis


@pytest.mark.slow
async def test_a_node_lives_with_what_its_pool_brings_back_and_a_restart_meets_it_no_more(tmp_path: Path) -> None:
    genesis = write_chain(tmp_path)
    ledger = open_ledger(load(genesis), tmp_path / "alice", Executive(RUNTIME))
    ledger.close()
    waiting = sign(BOB, DOWN, 0, ledger.genesis_hash)
    file = pool_file(tmp_path / "alice" / "pool.dat", ledger.genesis_hash)
    file.path.write_bytes(encode_pool([waiting], file))
    for start in (1, 2):
        with running(genesis, tmp_path, "--validator=alice") as url, trio.fail_after(SECONDS_MAX):
            async with Client.reconnecting([url], RUNTIME) as client:
                assert (await client.transact(ALICE, "fragile.up")).error is None
                with pytest.raises(TransactionDropped):
                    await client.transact(ALICE, "fragile.buy", what=b"plum")
                assert (await client.transact(BOB, "fragile.up")).error is None
                assert await client.read(lambda chain: chain.fragile.count.get()) == 2 * start
                weight_of = "TransactionPaymentCallApi_query_call_info"
                with pytest.raises(RpcError, match=r"the weight of fragile\.share raised ZeroDivisionError"):
                    await client.request("state_call", weight_of, f"0x{(SHARE + bytes(4)).hex()}")
        output = (tmp_path / "output").read_text()
        assert output.count("1 of 1 transactions that waited before this start still do") == 1
        assert output.count("bug      fragile.down raised ScaleError") == 1
        assert output.count("bug      fragile.buy raised KeyError") == start


@pytest.mark.slow
async def test_a_node_whose_runtime_lets_nobody_make_a_block_says_which_hook_and_stops(tmp_path: Path) -> None:
    genesis = write_chain(tmp_path)
    command = [sys.executable, "-m", "chain", f"--genesis={genesis}", f"--base-path={tmp_path}", "--validator=alice"]
    command += [f"--rpc-port={(rpc_port := free_port())}", f"--port={free_port()}", "--no-prometheus"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, cwd=tmp_path, capture_stdout=True, capture_stderr=True, check=False)
        ended: list[subprocess.CompletedProcess[bytes]] = []

        async def node() -> None:
            ended.append(await run())

        nursery.start_soon(node)
        with trio.fail_after(SECONDS_MAX):
            async with Client.reconnecting([f"ws://127.0.0.1:{rpc_port}"], RUNTIME) as client:
                await client.transact(ALICE, "fragile.arm", hook=b"on_initialize")
            while not ended:
                await trio.testing.wait_all_tasks_blocked(0.05)
    (node_end,) = ended
    assert node_end.returncode == 2
    error = node_end.stderr.decode()
    assert re.fullmatch(r"error: no block \d+ can be made: fragile\.on_initialize raised KeyError: .*\n", error), error
    assert "self.count.put(PRICES[hook])" in node_end.stdout.decode()
