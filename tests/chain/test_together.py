"""Blocks that come together: one transaction of the database for all, and otherwise as if they had come one by one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import pytest

from chain.importer import TOGETHER_SECONDS_MAX, CannotFollow, Imported, Importer
from chain.ledger import Ledger, SealedBlock
from chain.primitives.seal import ValidatorSet
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, ENDOWMENT, POT
from runtime.types import InvalidBlock
from tests.chain import test_warp
from tests.chain.test_ledger import check_state, extend, free, open_at, opened, transfer
from tests.consensus.network import inline

TOGETHER = 7


def blocks_of(ledger: Ledger) -> list[SealedBlock]:
    return [SealedBlock.decode(each) for each in ledger.sealed_blocks(1, 1000, 1 << 30)]


def chain_of(path: Path, length: int, *, history: int | None = 256) -> list[SealedBlock]:
    """Blocks of one transfer each, made one by one."""
    with opened(path, history=history) as ledger:
        for nonce in range(length):
            extend(ledger, transfer(ledger, ALICE, BOB, POT, nonce))
        return blocks_of(ledger)


def wrong(sealed: SealedBlock) -> SealedBlock:
    """A block that says another state than it ends in."""
    return replace(sealed, block=replace(sealed.block, header=replace(sealed.block.header, state_root=bytes(32))))


def importer_of(ledger: Ledger, told: list[Imported], stopwatch: Callable[[], float] = time.monotonic) -> Importer:
    def validators_after(block_hash: bytes) -> ValidatorSet:
        with ledger.state(block_hash) as state:
            return RUNTIME.at(state).module(Validators).validator_set()

    return Importer(ledger, validators_after, told.append, run=inline, stopwatch=stopwatch)


@pytest.mark.parametrize("history", [3, None])
def test_blocks_taken_together_leave_what_they_leave_one_by_one(tmp_path: Path, history: int | None) -> None:
    blocks = chain_of(tmp_path / "source", 10, history=history)
    with opened(tmp_path / "source", history=history) as one_by_one, opened(tmp_path / "copy", history=history) as copy:
        assert [each.hash for each in copy.extend(blocks[:TOGETHER])] == [each.block.hash for each in blocks[:TOGETHER]]
        assert [each.height for each in copy.extend(blocks[TOGETHER:])] == [8, 9, 10]
        assert (copy.head, copy.best, copy.oldest_state) == (one_by_one.head, one_by_one.best, one_by_one.oldest_state)
        assert blocks_of(copy) == blocks
        with copy._store.read() as left, one_by_one._store.read() as right:
            assert left.counts() == right.counts()
            assert (list(left.entries()), list(left.node_ids())) == (list(right.entries()), list(right.node_ids()))
        for sealed in blocks[copy.oldest_state :]:
            check_state(copy, sealed.block.hash)


def test_those_before_one_that_does_not_execute_are_taken(tmp_path: Path) -> None:
    blocks = chain_of(tmp_path / "source", 4)
    with opened(tmp_path / "copy") as copy:
        assert [each.height for each in copy.extend([*blocks[:2], wrong(blocks[2]), blocks[3]])] == [1, 2]
        check_state(copy, copy.head_hash)
        with pytest.raises(InvalidBlock, match="expected state root"):
            copy.extend([wrong(blocks[2]), blocks[3]])
        assert copy.best == (2, blocks[1].block.hash)
        assert [each.height for each in copy.extend(blocks[2:])] == [3, 4]


def test_what_ends_the_work_in_the_middle_leaves_the_chain_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = chain_of(tmp_path / "source", 5)
    with opened(tmp_path / "copy") as copy:
        execute, head = copy._executive.execute, copy.best
        calls = iter(range(5))

        def fail_at_last(*arguments: object) -> object:
            assert next(calls) < 4, "the machine fails"
            return execute(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(copy._executive, "execute", fail_at_last)
        with pytest.raises(AssertionError, match="the machine fails"):
            copy.extend(blocks)
        monkeypatch.undo()
        assert (copy.best, copy.hash_at(1)) == (head, None)
        check_state(copy, copy.head_hash)
        assert len(copy.extend(blocks)) == 5


def test_blocks_that_another_set_decides_are_left(tmp_path: Path) -> None:
    blocks = test_warp.blocks()
    ends = [each.block.header.height for each, after in pairwise(blocks) if each.seal.set_id != after.seal.set_id]
    with test_warp.opened(tmp_path / "copy") as copy:
        assert [copy.extend(blocks[copy.head.height :])[-1].height for _ in ends] == ends
        assert copy.extend(blocks[copy.head.height :])[-1].height == len(blocks)


async def test_the_importer_tells_of_each_block_and_of_who_has_sealed_it(tmp_path: Path) -> None:
    blocks, told = test_warp.blocks(), list[Imported]()
    heads: list[int] = []
    with test_warp.opened(tmp_path / "copy") as copy:
        importer = importer_of(copy, told)
        with importer.heads.listen(lambda header: heads.append(header.height)):
            while importer.best()[0] < len(blocks):
                await importer.import_blocks(blocks)
            await importer.import_blocks(blocks)
        assert heads == [each.executed.height for each in told] == list(range(1, len(blocks) + 1))
        assert [each.validators.set_id for each in told] == [sealed.seal.set_id for sealed in blocks]
        assert [importer.validators(each.executed.height) for each in told] == [each.validators for each in told]
        assert importer.times.imported.count == len(blocks)


async def test_what_takes_long_is_committed_in_parts(tmp_path: Path) -> None:
    blocks, told = chain_of(tmp_path / "source", 8), list[Imported]()
    seconds = count(step=TOGETHER_SECONDS_MAX * 0.4)
    with opened(tmp_path / "copy") as copy:
        importer = importer_of(copy, told, lambda: float(next(seconds)))
        heads = []
        while importer.best()[0] < len(blocks):
            await importer.import_blocks(blocks)
            heads.append(importer.best()[0])
        assert heads == [3, 6, 8]
        assert [each.executed.height for each in told] == list(range(1, 9))


async def test_blocks_of_a_set_that_decides_no_more_are_passed_over(tmp_path: Path) -> None:
    """Whoever fetched them found them sealed by a set that consensus has meanwhile seen to its end."""
    blocks = test_warp.blocks()
    end = next(place for place, sealed in enumerate(blocks) if sealed.seal.set_id != blocks[0].seal.set_id)
    with test_warp.opened(tmp_path / "copy", end) as copy:
        importer = importer_of(copy, [])
        late = replace(blocks[end], seal=replace(blocks[end].seal, set_id=blocks[0].seal.set_id))
        await importer.import_blocks([blocks[end - 1], late])
        assert importer.best()[0] == end
        await importer.import_blocks(blocks[end - 1 :])
        assert importer.best()[0] > end


async def test_a_sealed_block_that_does_not_execute_ends_the_node_once_it_is_next(tmp_path: Path) -> None:
    blocks = chain_of(tmp_path / "source", 3)
    with opened(tmp_path / "copy") as copy:
        importer = importer_of(copy, [])
        await importer.import_blocks([blocks[0], wrong(blocks[1])])
        assert importer.best()[0] == 1
        with pytest.raises(CannotFollow, match="a quorum sealed block 2, and this node cannot follow: expected state"):
            await importer.import_blocks([wrong(blocks[1]), blocks[2]])


def follow_for_ever(source: Path, path: Path) -> None:
    with opened(source) as ledger:
        blocks = blocks_of(ledger)
    copy = open_at(path, history=4)
    while copy.head.height < len(blocks):
        print(copy.extend(blocks[copy.head.height :][:TOGETHER])[-1].height, flush=True)
    sys.stdin.read()


def test_a_node_killed_while_it_catches_up_keeps_all_that_it_committed(tmp_path: Path) -> None:
    blocks = chain_of(tmp_path / "source", 28)
    path = tmp_path / "copy"
    script = f"from {__name__} import follow_for_ever, Path; import sys; follow_for_ever(*map(Path, sys.argv[1:]))"
    command = [sys.executable, "-c", script, str(tmp_path / "source"), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        returned = [int(child.stdout.readline()) for _ in range(2)]
        child.kill()
        returned += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
    with opened(path, history=4) as copy:
        assert copy.head.height >= returned[-1]
        assert copy.head.height % TOGETHER == 0 or copy.head.height == len(blocks)
        assert free(copy, BOB) == ENDOWMENT + copy.head.height * POT
        for sealed in blocks[copy.oldest_state - 1 : copy.head.height]:
            check_state(copy, sealed.block.hash)
        assert blocks_of(copy) == blocks[: copy.head.height]
