"""What the running tasks name stays in the store, from the block that names it, whoever else fills the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
import trio.testing

from chain.blob_keeper import MANIFEST_BYTES_MAX, BlobKeeper, manifest_roots
from chain.blobs import BlobStore
from chain.primitives.blob import blob_root
from chain.primitives.keys import Keypair
from chain.primitives.types import sign_extrinsic
from chain.rpc.broadcast import Broadcast
from genesis.spec import load
from runtime.modules.training_sizes import Claim
from runtime.modules.training_types import Phase, commitment_of
from runtime.potchain import RUNTIME
from tests.rpc.kit import ALICE, BOB, POT, TASK, MiniNode, open_ledger

TESTNET = Path(__file__).resolve().parent.parent.parent / "genesis" / "testnet.json"
ROOTS = {name: bytes.fromhex(str(TASK[name])[2:]) for name in ("programRoot", "datasetRoot", "paramsRoot")}


class Chain:
    """A node in miniature and its keeper."""

    def __init__(self, path: Path) -> None:
        ledger, executive = open_ledger(path / "db")
        self.blobs = BlobStore(path / "blobs", 1 << 20)
        self.node = MiniNode(ledger, executive, self.blobs)
        self.keeper = BlobKeeper(ledger, self.blobs)

    def look(self, what: Any) -> Any:
        with self.node.ledger.state() as state:
            return what(RUNTIME.at(state).training)

    async def call(self, signer: Keypair, call: str, /, **arguments: Any) -> None:
        """Include a call in the next block."""
        with self.node.ledger.state() as state:
            nonce = RUNTIME.at(state).system.account[signer.public].nonce
        raw = sign_extrinsic(
            signer,
            RUNTIME.encode_call(RUNTIME.call(call, **arguments)),
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self.node.ledger.genesis_hash,
        )
        await self.node.submit(raw)
        await self.node.seal()
        with self.node.ledger.state() as state:
            assert RUNTIME.at(state).system.account[signer.public].nonce == nonce + 1

    async def until(self, phase: Phase) -> Any:
        """Seal blocks until the first task's round is in this phase."""
        while (found := self.look(lambda training: training.rounds[0])).phase is not phase:
            await self.node.seal()
        return found


async def test_a_task_s_blobs_are_kept_from_the_start(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.keeper.keep()
    assert all(chain.blobs.wants(root) for root in ROOTS.values())
    assert not chain.blobs.wants(bytes(32))
    chain.node.ledger.close()


async def test_a_data_set_s_parts_are_kept_once_its_manifest_is_here(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    folder = load(TESTNET).blobs
    assert folder is not None
    (manifest,) = (data for file in folder.iterdir() if len(manifest_roots(data := file.read_bytes())) == 4)
    parts = manifest_roots(manifest)
    assert {file.name for file in folder.iterdir()} >= {root.hex() for root in parts}
    await chain.call(
        ALICE,
        "training.create_task",
        name=b"mine",
        program_root=b"\1" * 32,
        dataset_root=blob_root(manifest),
        params_root=b"\2" * 32,
        optimizer=chain.look(lambda training: training.tasks[0].optimizer),
        policy=chain.look(lambda training: training.tasks[0].policy),
        rounds=1,
        price_per_slot=POT,
        storage=Claim(7_000, 120_000, 20_000),
    )
    chain.keeper.keep()
    assert chain.blobs.wants(blob_root(manifest))
    assert not any(chain.blobs.wants(root) for root in parts)
    chain.blobs.put(manifest)
    chain.keeper.keep()
    assert all(chain.blobs.wants(root) for root in parts)
    assert all(chain.blobs.wants(root) for root in ROOTS.values())
    chain.node.ledger.close()


async def test_an_update_is_kept_from_its_reveal_and_a_model_from_its_first_mention(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    update, salt, model = blob_root(b"update"), b"\5" * 32, b"\6" * 32
    await chain.call(BOB, "training.register_worker", capacity=1)
    attempt = (await chain.until(Phase.COMMIT)).attempt
    at = {"task": 0, "round": 0, "attempt": attempt}
    for slot in (0, 1):
        commitment = commitment_of(BOB.public, 0, 0, attempt, slot, salt, update)
        await chain.call(BOB, "training.commit", **at, slot=slot, commitment=commitment)
    await chain.until(Phase.REVEAL)
    chain.blobs.put(b"update")
    chain.keeper.keep()
    assert not chain.blobs.wants(update)
    await chain.call(BOB, "training.reveal", **at, slot=0, salt=salt, update_root=update)
    chain.keeper.keep()
    assert chain.blobs.wants(update)
    await chain.call(BOB, "training.register_aggregator")
    await chain.until(Phase.AUDIT)
    await chain.call(BOB, "training.aggregate", **at, accepted=b"\1", params_root=model, optimizer_root=bytes(32))
    await chain.call(ALICE, "training.confirm", **at, params_root=b"\7" * 32, optimizer_root=b"\x08" * 32)
    chain.keeper.keep()
    assert all(chain.blobs.wants(root) for root in (model, b"\7" * 32, b"\x08" * 32))
    chain.node.ledger.close()


async def test_the_keeper_follows_the_chain(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.keeper.run, chain.node.heads)
        with trio.fail_after(60):
            while not all(chain.blobs.wants(root) for root in ROOTS.values()):
                await trio.testing.wait_all_tasks_blocked()
            await chain.node.seal()
        nursery.cancel_scope.cancel()
    chain.node.ledger.close()


async def test_who_cares_for_the_newest_value_alone_never_lags() -> None:
    heads: Broadcast[int] = Broadcast()
    with heads.subscribe(newest=True) as receiver:
        for height in range(1000):
            heads.publish(height)
        assert await anext(receiver) == 999


def test_what_is_no_manifest_names_nothing() -> None:
    for data in (b"", b"\xc1", b"\x81" * 2000, bytes(MANIFEST_BYTES_MAX + 1), b"\x01", b"\xc4\x20" + bytes(31)):
        assert manifest_roots(data) == frozenset()
    many = b"\xdc\x00\x20" + b"".join(b"\xc4\x20" + bytes([number]) * 32 for number in range(32))
    assert manifest_roots(many) == frozenset()
    assert manifest_roots(b"\x81\xa1x" + many) == frozenset()
