"""Planted faults, live: a worker reveals wrong updates where it may, and an auditor that does not look pays for it."""

from __future__ import annotations

import stat
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain.primitives import bls
from chain.validator_keys import ValidatorKeys
from runtime.modules import training_plants
from runtime.modules.training import Training
from runtime.modules.training_schema import TrainingSchema
from tests.trainer.network import EVE, POT, VALIDATORS, Lines, network, one_engine, reporter
from trainer import plants
from trainer.audit import Tolerance, compare
from trainer.auditor import TaskAuditor, attend
from trainer.codecs import INT8
from trainer.files import Pending, PendingFiles, kept_secret
from trainer.node import open_node
from trainer.plants import Planter, PlantRules, spoiled
from trainer.views import RoundView
from trainer.worker import work

PATIENCE_SECONDS = 240
TOLERANCE = Tolerance(micro_steps=510_000, outliers_ppm=20)


class Lazy(TaskAuditor):
    """Attests to slots that it has not computed, until everybody has to."""

    async def _recompute(self, view: RoundView) -> None:
        slots = (slot if slot.planted else replace(slot, auditors=()) for slot in view.slots)
        await super()._recompute(replace(view, slots=tuple(slots)))


@pytest.mark.slow
async def test_an_auditor_that_does_not_look_pays_and_an_honest_one_and_the_worker_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: Lines = []
    honest, lazy = VALIDATORS
    # Half of all slots, from the first round on: what takes thousands of rounds elsewhere.
    monkeypatch.setattr(TrainingSchema.plant_ppm, "_value", 500_000)
    monkeypatch.setattr(TrainingSchema.plant_key_blocks, "_value", 1)
    # Blocks come ten times as fast here, on a machine that may be busy with other things.
    monkeypatch.setattr(training_plants, "PLANT_BLOCKS", 15)
    monkeypatch.setattr(training_plants, "REJECTED_PLANT_BLOCKS", 200)
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=1000) as chain, one_engine(tmp_path) as engines:

            async def audit(name: str, keys: ValidatorKeys, servant: type[TaskAuditor]) -> None:
                async with open_node([chain.url], keys.account) as node:
                    await attend(node, engines, tmp_path / name, report=reporter(lines, name), servant=servant)

            async def train() -> None:
                planter = Planter(kept_secret(tmp_path / "plant.key"), EVE.public)
                async with open_node([chain.url], EVE) as node:
                    report = reporter(lines, "eve")
                    await work(node, engines, tmp_path / "eve", report=report, capacity=2, planter=planter)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(audit, "honest", honest, TaskAuditor))
                nursery.start_soon(partial(audit, "lazy", lazy, Lazy))
                nursery.start_soon(train)

                def enough(modules: Any) -> Any:
                    records = dict(modules.training.history.items())
                    fines = chain.told(Training.AuditorFined)
                    if not fines or not any(slot.planted for record in records.values() for slot in record.slots):
                        return None
                    stakes = [modules.validators.stakes[keys.account.public].active for keys in VALIDATORS]
                    return records, fines, stakes, modules.training.workers[EVE.public]

                records, fines, stakes, worker = await chain.until(enough)
                nursery.cancel_scope.cancel()

    assert {fine.validator for fine in fines} == {lazy.account.public}
    assert stakes == [1_000 * POT, 1_000 * POT - sum(fine.amount for fine in fines)]
    paid = [slot for record in records.values() for slot in record.slots if slot.accepted or slot.planted]
    assert all(not (slot.accepted and slot.planted) for slot in paid)
    assert (worker.bond, worker.rejected) == (200 * POT, 0)
    assert worker.accepted == sum(slot.accepted for slot in paid)
    assert worker.earned == sum(record.minted * 9 // 10 for record in records.values())


def test_a_worker_and_the_chain_agree_on_which_slots_are_planted() -> None:
    planter, beacon = Planter(b"s" * 32, EVE.public), bytes(range(32))
    assert bls.verify_possession(planter.key, EVE.public, planter.possession)
    rules = PlantRules(planter.key, since=3, key_blocks=40, share_ppm=250_000)
    found = {slot: planter.proof(rules, 43, beacon, 1, 2, 3, slot) for slot in range(40)}
    for slot, proof in found.items():
        message = training_plants.message_of(beacon, 1, 2, 3, slot)
        assert plants.message_of(beacon, 1, 2, 3, slot) == message
        signature = bls.sign(bls.keygen(b"s" * 32), message)
        assert proof == (signature if training_plants.is_chosen(signature, 250_000) else None)
    assert 0 < sum(proof is not None for proof in found.values()) < 40
    chosen = next(slot for slot, proof in found.items() if proof is not None)
    assert planter.proof(rules, 42, beacon, 1, 2, 3, chosen) is None
    assert planter.proof(replace(rules, key=None), 43, beacon, 1, 2, 3, chosen) is None


def test_a_planted_update_is_as_long_as_the_right_one_and_an_audit_finds_it() -> None:
    meant = np.random.default_rng(3).standard_normal(5_000).astype(np.float32)
    for proof in (b"\0", b"\1"):
        update = spoiled(INT8, meant, TOLERANCE, 0, proof)
        assert update is not None
        assert not compare(update, meant, TOLERANCE).right
        assert len(update.encode()) == len(INT8.quantise(meant, 0).encode())
    # Of nothing, a twentieth is nothing: who planted it would be said to have called a right slot wrong.
    assert spoiled(INT8, np.zeros(5_000, np.float32), TOLERANCE, 0, b"\0") is None


def test_what_shows_a_planted_slot_is_on_disk_before_the_commitment_and_its_key_is_the_users_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "worker" / "plant.key"
    secret = kept_secret(path)
    assert (len(secret), kept_secret(path)) == (32, secret)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pending, update = PendingFiles(tmp_path / "pending"), INT8.quantise(np.ones(10, np.float32), 0).encode()
    kept = Pending(b"s" * 32, b"r" * 32, update, b"p" * 96)
    pending.put((0, 1, 2, 3), b"h" * 32, kept)
    found = PendingFiles(tmp_path / "pending").get((0, 1, 2, 3), b"h" * 32)
    assert found is not None
    assert (found.salt, found.update, found.plant_proof) == (kept.salt, kept.update, kept.plant_proof)
