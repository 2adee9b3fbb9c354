"""What the importer tells of a new head, to whom, and in which order."""

from __future__ import annotations

from pathlib import Path

from chain.importer import Imported
from chain.primitives.types import Block
from chain.rpc.backend import Sealing
from tests.chain.test_author import BOB, Machine


async def test_a_block_is_told_once_its_pool_first_then_its_seal_then_its_header(tmp_path: Path) -> None:
    machine = Machine(tmp_path, BOB)
    told: list[object] = []
    machine.importer._on_imported = told.append
    with machine.importer.seals.listen(told.append), machine.importer.heads.listen(told.append):
        payload = await machine.build(1)
        block = Block.decode(payload)
        decides = machine.importer.validators(1)
        await machine.commit(1, payload)
        await machine.commit(1, payload)
    imported, sealing, header = told
    assert isinstance(imported, Imported)
    assert (imported.executed.block, imported.validators) == (block, decides)
    assert sealing == Sealing(machine.seal(1, block), decides)
    assert header == block.header
    machine.ledger.close()
