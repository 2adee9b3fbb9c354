"""The ledger: only right blocks, each whole, once; the recent past by hash; the same chain after any kill."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import lmdb
import pytest

from chain.ledger import Conflict, ExecutedBlock, Ledger, NotNext, SealedBlock, StatePruned, UnknownBlock
from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.merkle import MemoryTree, ordered_root, verify_proof
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Phase, Seal, beacon_message, bitmap, vote_message
from chain.primitives.types import Block, Header, sign_extrinsic
from chain.store import DataFolderError, DataFolderLocked, GenesisMismatch
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BLOCK_TIME_MS, BOB, ENDOWMENT, GENESIS_TIME_MS, POT, bls_secret, genesis_config
from runtime.types import InherentData, InvalidBlock, InvalidReason

EXECUTIVE = Executive(RUNTIME)


@cache
def genesis_state(endowment: int = ENDOWMENT) -> Mapping[bytes, bytes]:
    """One validator, Alice: its vote is a quorum, so that seals are cheap."""
    balances = {ALICE.public: endowment, BOB.public: endowment}
    return EXECUTIVE.genesis(genesis_config(validators=[ALICE], balances=balances))


def open_at(path: Path, *, history: int | None = 256, endowment: int = ENDOWMENT) -> Ledger:
    return Ledger.open(
        path,
        executive=EXECUTIVE,
        genesis_state=dict(genesis_state(endowment)),
        genesis_name="test",
        history=history,
        map_bytes=1 << 20,
    )


@contextmanager
def opened(path: Path, *, history: int | None = 256) -> Iterator[Ledger]:
    ledger = open_at(path, history=history)
    try:
        yield ledger
    finally:
        ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "ledger") as one:
        yield one


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "other") as one:
        yield one


def transfer(ledger: Ledger, sender: Keypair, to: Keypair, value: int, nonce: int, genesis_hash: bytes = b"") -> bytes:
    call = RUNTIME.call("balances.transfer_keep_alive", dest=to.public, value=value)
    return sign_extrinsic(
        sender,
        RUNTIME.encode_call(call),
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=genesis_hash or ledger.genesis_hash,
    )


def propose(ledger: Ledger, *transactions: bytes, view: int = 0) -> ExecutedBlock:
    height = ledger.head.height + 1
    beacon = bls.sign(bls_secret(ALICE), beacon_message(ledger.genesis_hash, height))
    inherent = InherentData(GENESIS_TIME_MS + height * BLOCK_TIME_MS, ledger.seal(ledger.head_hash))
    executed, rejected = ledger.propose(height, view, beacon, inherent, transactions)
    assert rejected == []
    return executed


def seal_of(ledger: Ledger, executed: ExecutedBlock) -> Seal:
    message = vote_message(ledger.genesis_hash, 0, executed.height, 0, Phase.COMMIT, executed.hash)
    return Seal(executed.height, 0, 0, executed.hash, bitmap([0], 1), bls.sign(bls_secret(ALICE), message))


def extend(ledger: Ledger, *transactions: bytes) -> ExecutedBlock:
    executed = propose(ledger, *transactions)
    assert ledger.commit(executed, seal_of(ledger, executed))
    return executed


def free(ledger: Ledger, keypair: Keypair, block_hash: bytes | None = None) -> int:
    with ledger.state(block_hash) as state:
        return RUNTIME.at(state).balances.free(keypair.public)


def check_state(ledger: Ledger, block_hash: bytes) -> None:
    """Check that the state after a block, read key by key, is what its header commits to."""
    with ledger.state(block_hash) as state:
        values = {key: state.get(key) for key in state.keys(b"")}
        assert MemoryTree(values).root_hash == state.header.state_root
        height_in_state = RUNTIME.at(state).system.height
        assert height_in_state == state.header.height


def test_a_new_folder_begins_at_genesis_and_stays_there(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as ledger:
        root = MemoryTree(dict(genesis_state())).root_hash
        assert ledger.head == Header(bytes(32), 0, root, ordered_root([]), [])
        assert ledger.head_hash == ledger.genesis_hash == ledger.hash_at(0) == ledger.head.hash
        assert ledger.block(ledger.genesis_hash) == Block(ledger.head, [])
        assert ledger.seal(ledger.genesis_hash) is None
        assert free(ledger, ALICE) == ENDOWMENT
        genesis_hash = ledger.genesis_hash
    with opened(tmp_path / "ledger") as ledger:
        assert ledger.head_hash == ledger.genesis_hash == genesis_hash
        check_state(ledger, genesis_hash)


def test_a_block_that_one_node_builds_every_node_executes_to_the_same_state(ledger: Ledger, other: Ledger) -> None:
    executed = propose(ledger, transfer(ledger, ALICE, BOB, POT, 0))
    assert ledger.head.height == 0, "building moves nothing"
    again = other.execute(Block.decode(executed.block.encode()))
    assert (again.block, again.hash, again.executed.changes) == (
        executed.block,
        executed.hash,
        executed.executed.changes,
    )
    for one in (ledger, other):
        assert one.commit(executed if one is ledger else again, seal_of(ledger, executed))
        assert one.head == executed.block.header
        assert (one.best, one.head_hash, one.hash_at(1)) == ((1, executed.hash), executed.hash, executed.hash)
        assert one.header(executed.hash) == executed.block.header
        assert one.block(executed.hash) == executed.block
        assert one.seal(executed.hash) == seal_of(ledger, executed)
        assert free(one, BOB) == ENDOWMENT + POT
        check_state(one, executed.hash)


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for height in range(1, 5):
        with opened(path) as ledger:
            executed = extend(ledger, transfer(ledger, ALICE, BOB, POT, height - 1))
            assert executed.height == height
            assert free(ledger, BOB) == ENDOWMENT + height * POT


def test_a_proposal_names_the_transactions_that_cannot_be_and_leaves_those_that_are_early(ledger: Ledger) -> None:
    good, next_good = transfer(ledger, ALICE, BOB, POT, 0), transfer(ledger, ALICE, BOB, POT, 1)
    early = transfer(ledger, ALICE, BOB, POT, 9)
    elsewhere = transfer(ledger, BOB, ALICE, POT, 0, genesis_hash=b"\x01" * 32)
    garbage = b"\x08\x04\x00"
    beacon = bls.sign(bls_secret(ALICE), beacon_message(ledger.genesis_hash, 1))
    executed, rejected = ledger.propose(
        1, 0, beacon, InherentData(GENESIS_TIME_MS), [good, good, early, elsewhere, garbage, next_good]
    )
    assert executed.block.extrinsics[-2:] == [good, next_good]
    assert [(one.extrinsic, one.error.reason) for one in rejected] == [
        (good, InvalidReason.STALE),
        (elsewhere, InvalidReason.BAD_PROOF),
        (garbage, InvalidReason.CALL),
    ]


def test_a_proposal_ends_when_it_is_told_to(ledger: Ledger) -> None:
    offered = [transfer(ledger, ALICE, BOB, POT, nonce) for nonce in range(3)]
    beacon = bls.sign(bls_secret(ALICE), beacon_message(ledger.genesis_hash, 1))
    answers = iter([False, True])
    executed, _ = ledger.propose(1, 0, beacon, InherentData(GENESIS_TIME_MS), offered, lambda: next(answers))
    assert executed.block.extrinsics[1:] == offered[:1]


def test_only_the_next_height_is_proposed(ledger: Ledger) -> None:
    with pytest.raises(NotNext, match="expected to propose height 1, got 2"):
        ledger.propose(2, 0, bytes(96), InherentData(0), [])


def test_a_proposal_with_anothers_beacon_is_no_block(ledger: Ledger) -> None:
    beacon = bls.sign(bls_secret(BOB), beacon_message(ledger.genesis_hash, 1))
    with pytest.raises(InvalidBlock, match="beacon"):
        ledger.propose(1, 0, beacon, InherentData(GENESIS_TIME_MS), [])


def test_a_wrong_block_is_refused_with_what_was_expected_and_what_came(ledger: Ledger) -> None:
    extend(ledger)
    block = propose(ledger, transfer(ledger, ALICE, BOB, POT, 0)).block
    head, header = ledger.head_hash, block.header
    wrong = b"\x01" * 32
    cases = {
        f"expected parent 0x{head.hex()}, got 0x{wrong.hex()}": replace(header, parent_hash=wrong),
        "expected height 2, got 3": replace(header, height=3),
        f"expected extrinsics root 0x{header.extrinsics_root.hex()}, got 0x{wrong.hex()}": replace(
            header, extrinsics_root=wrong
        ),
        f"expected state root 0x{header.state_root.hex()}, got 0x{wrong.hex()}": replace(header, state_root=wrong),
    }
    for complaint, changed in cases.items():
        with pytest.raises(InvalidBlock) as caught:
            ledger.execute(Block(changed, block.extrinsics))
        assert str(caught.value) == complaint
    for extrinsics in (block.extrinsics[:-1], block.extrinsics[1:], [*block.extrinsics, block.extrinsics[-1]]):
        with pytest.raises(InvalidBlock):
            ledger.execute(Block(replace(header, extrinsics_root=ordered_root(extrinsics)), extrinsics))
    with pytest.raises(NotNext, match="expected to execute height 2, got 1"):
        ledger.execute(Block(replace(header, height=1), block.extrinsics))
    assert ledger.head_hash == head
    assert ledger.execute(block).hash == block.hash


def test_committing_a_block_twice_is_committing_it_once(ledger: Ledger) -> None:
    executed = propose(ledger)
    again = ledger.execute(executed.block)
    seal = seal_of(ledger, executed)
    assert ledger.commit(executed, seal)
    assert not ledger.commit(executed, seal)
    assert not ledger.commit(again, seal)
    extend(ledger)
    assert not ledger.commit(again, seal)
    assert ledger.head.height == 2
    check_state(ledger, ledger.head_hash)


def test_two_sealed_blocks_of_one_height_are_a_conflict(ledger: Ledger) -> None:
    one, two = propose(ledger), propose(ledger, transfer(ledger, ALICE, BOB, POT, 0))
    ledger.commit(one, seal_of(ledger, one))
    with pytest.raises(Conflict) as caught:
        ledger.commit(two, seal_of(ledger, two))
    assert one.hash.hex() in str(caught.value)
    assert two.hash.hex() in str(caught.value)
    assert (ledger.head_hash, ledger.hash_at(1)) == (one.hash, one.hash)


def test_a_seal_of_another_block_commits_nothing(ledger: Ledger) -> None:
    one, two = propose(ledger), propose(ledger, transfer(ledger, ALICE, BOB, POT, 0))
    with pytest.raises(ValueError, match="expected a seal of block 1"):
        ledger.commit(one, seal_of(ledger, two))
    assert ledger.head.height == 0


def test_a_block_that_is_not_on_the_head_is_not_committed(ledger: Ledger, other: Ledger) -> None:
    extend(other)
    beyond = propose(other)
    with pytest.raises(ValueError, match="expected a block on the head"):
        ledger.commit(beyond, seal_of(other, beyond))
    assert ledger.head.height == 0


@pytest.mark.parametrize("history", [1, 3, None])
def test_each_of_the_last_states_is_readable_and_provable_by_hash(tmp_path: Path, history: int | None) -> None:
    with opened(tmp_path / "ledger", history=history) as ledger:
        hashes = [extend(ledger, transfer(ledger, ALICE, BOB, POT, nonce)).hash for nonce in range(5)]
        hashes.insert(0, ledger.genesis_hash)
        kept = 6 if history is None else history
        for height, block_hash in enumerate(hashes):
            assert ledger.block(block_hash) is not None, "blocks are never pruned"
            if height <= 5 - kept:
                with pytest.raises(StatePruned, match=f"height {height} was pruned: the oldest .* is {6 - kept}"):
                    free(ledger, BOB, block_hash)
                continue
            assert free(ledger, BOB, block_hash) == ENDOWMENT + height * POT
            check_state(ledger, block_hash)
            with ledger.state(block_hash) as state:
                assert state.header.hash == block_hash
                some_key = next(state.keys(b""))
                absent = b"no such key"
                proof = state.prove([some_key, absent])
                shown = verify_proof(state.header.state_root, [some_key, absent], proof)
                assert shown == {some_key: state.get(some_key), absent: None}
                assert state.get(absent) is None
                assert next(state.keys(b"", some_key)) > some_key


def test_a_shorter_history_takes_effect_with_the_next_block(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger", history=None) as ledger:
        hashes = [extend(ledger).hash for _ in range(4)]
    with opened(tmp_path / "ledger", history=2) as ledger:
        free(ledger, BOB, hashes[0])
        hashes.append(extend(ledger).hash)
        for block_hash in hashes[:3]:
            with pytest.raises(StatePruned):
                free(ledger, BOB, block_hash)
        for block_hash in hashes[3:]:
            check_state(ledger, block_hash)


def test_a_much_shorter_history_takes_old_states_away_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.ledger.PRUNED_PER_COMMIT_MAX", 3)
    with opened(tmp_path / "ledger", history=None) as ledger:
        hashes = [ledger.genesis_hash, *(extend(ledger).hash for _ in range(8))]
    with opened(tmp_path / "ledger", history=2) as ledger:
        assert ledger.oldest_state == 0
        for oldest in (3, 6, 9, 11, 12):  # Three at once until it has caught up, then one for each block.
            hashes.append(extend(ledger).hash)
            assert ledger.oldest_state == oldest
            for height, block_hash in enumerate(hashes):
                if height < oldest:
                    with pytest.raises(StatePruned, match=f"the oldest that this node keeps is {oldest}"):
                        free(ledger, BOB, block_hash)
                else:
                    check_state(ledger, block_hash)


@pytest.mark.parametrize("history", [5, None])
def test_a_longer_history_keeps_what_is_there_and_brings_nothing_back(tmp_path: Path, history: int | None) -> None:
    with opened(tmp_path / "ledger", history=2) as ledger:
        hashes = [ledger.genesis_hash, *(extend(ledger).hash for _ in range(4))]
    with opened(tmp_path / "ledger", history=history) as ledger:
        assert ledger.oldest_state == 3
        hashes += [extend(ledger).hash for _ in range(4)]
        oldest = 3 if history is None else 4
        assert ledger.oldest_state == oldest
        for block_hash in hashes[oldest:]:
            check_state(ledger, block_hash)
        with pytest.raises(StatePruned, match=f"the oldest that this node keeps is {oldest}"):
            free(ledger, BOB, hashes[oldest - 1])
    with opened(tmp_path / "ledger", history=history) as ledger:
        assert ledger.oldest_state == oldest, "as before the restart"


def test_an_unknown_block_is_named(ledger: Ledger) -> None:
    unknown = b"\x07" * 32
    with pytest.raises(UnknownBlock, match=f"0x{unknown.hex()}"), ledger.state(unknown):
        pass
    found: list[object] = [ledger.header(unknown), ledger.block(unknown), ledger.seal(unknown), ledger.hash_at(1)]
    assert found == [None] * 4
    for odd in (b"", b"\x07" * 31, b"\x07" * 600):
        assert ledger.header(odd) is None


def test_who_is_behind_catches_up_from_sealed_blocks(ledger: Ledger, other: Ledger) -> None:
    for nonce in range(5):
        extend(ledger, transfer(ledger, ALICE, BOB, POT, nonce))
    while other.head_hash != ledger.head_hash:
        fetched = ledger.sealed_blocks(other.head.height + 1, 2, 1 << 20)
        assert 1 <= len(fetched) <= 2
        for encoded in fetched:
            sealed = SealedBlock.decode(encoded)
            assert sealed.encode() == encoded
            assert other.commit(other.execute(sealed.block), sealed.seal)
    check_state(other, other.head_hash)


def test_a_range_of_blocks_keeps_to_its_size_but_for_the_first(ledger: Ledger) -> None:
    for _ in range(3):
        extend(ledger)
    everything = ledger.sealed_blocks(0, 10, 1 << 20)
    assert len(everything) == 3, "genesis has no seal and is not sent"
    assert ledger.sealed_blocks(1, 3, 1) == everything[:1]
    assert ledger.sealed_blocks(2, 3, len(everything[1])) == everything[1:2]
    assert ledger.sealed_blocks(4, 3, 1 << 20) == ledger.sealed_blocks(1, 0, 1 << 20) == []
    with pytest.raises(ScaleError):
        SealedBlock.decode(everything[0] + b"\0")


def test_readers_in_other_threads_always_see_the_end_of_a_block(ledger: Ledger) -> None:
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(60):
                with ledger.state() as state:
                    assert RUNTIME.at(state).system.height == state.header.height
                    some = list(state.keys(b""))[::7]
                    proof = state.prove(some)
                    shown = verify_proof(state.header.state_root, some, proof)
                    assert shown == {key: state.get(key) for key in some}
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for nonce in range(10):
        extend(ledger, transfer(ledger, ALICE, BOB, POT, nonce))
    for reader in readers:
        reader.join()
    assert failures == []


def extend_for_ever(path: Path) -> None:
    ledger = open_at(path, history=4)
    while True:
        with ledger.state() as state:
            nonce = RUNTIME.at(state).system.account[ALICE.public].nonce
        print(extend(ledger, transfer(ledger, ALICE, BOB, POT, nonce)).height, flush=True)


def test_a_node_killed_at_any_moment_keeps_every_block_that_it_committed(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    script = f"from {__name__} import extend_for_ever, Path; import sys; extend_for_ever(Path(sys.argv[1]))"
    for blocks in (1, 6):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            returned = [int(child.stdout.readline()) for _ in range(blocks)]
            child.kill()
            returned += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        with opened(path, history=4) as ledger:
            assert ledger.head.height >= returned[-1]
            assert free(ledger, BOB) == ENDOWMENT + ledger.head.height * POT
            for height in range(max(0, ledger.head.height - 3), ledger.head.height + 1):
                block_hash = ledger.hash_at(height)
                assert block_hash is not None
                check_state(ledger, block_hash)
            assert len(ledger.sealed_blocks(1, 1000, 1 << 30)) == ledger.head.height


def test_another_genesis_is_refused_with_both_hashes_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as ledger:
        extend(ledger)
        found = ledger.genesis_hash
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(GenesisMismatch) as caught:
        open_at(path, endowment=ENDOWMENT + 1)
    assert caught.value.found == found
    assert f"0x{caught.value.found.hex()}" in str(caught.value)
    assert f"0x{caught.value.expected.hex()}" in str(caught.value)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_second_node_on_one_folder_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger"), pytest.raises(DataFolderLocked, match="LOCK"):
        open_at(tmp_path / "ledger")


def test_a_head_that_is_not_what_its_hash_says_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as ledger:
        head_hash = extend(ledger).hash
    with lmdb.open(str(path), max_dbs=9) as environment:
        headers = environment.open_db(b"headers")
        with environment.begin(write=True) as txn:
            header = txn.get(head_hash, db=headers)
            assert header is not None
            txn.put(head_hash, bytes([header[0] ^ 1]) + header[1:], db=headers)
    with pytest.raises(DataFolderError, match="block 1 is not what its hash says"):
        open_at(path)


def test_a_history_of_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one state, got 0"):
        open_at(tmp_path / "ledger", history=0)
