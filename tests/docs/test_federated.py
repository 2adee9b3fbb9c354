"""docs/federated.md, followed to the letter on a real chain with three real silos: for two rounds instead of sixty."""

from __future__ import annotations

import re
import runpy
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
from safetensors.numpy import load_file

from chain.cli import main
from chain.cli_silos import silo_files
from chain.primitives.keys import Keypair
from tests.docs.pages import ROOT, commands
from tests.trainer.network import VALIDATORS, Lines, Network, network, reporter
from trainer.auditor import attend
from trainer.node import open_node
from trainer.sandbox import open_engines
from trainer.silo import contribute

EXAMPLE = (ROOT / "docs" / "examples" / "clinics.py").read_text()
SECONDS_MAX = 300


async def potchain(chain: Network, words: list[str]) -> None:
    needs_a_node = words[0] == "tx" or words[1] != "check"
    with pytest.raises(SystemExit) as ended:
        await trio.to_thread.run_sync(main, [*words, *(["--node", chain.url] if needs_a_node else [])])
    assert not ended.value.code, words


@pytest.mark.slow
async def test_the_page_leads_from_three_clinics_files_to_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs" / "examples").mkdir(parents=True)
    assert EXAMPLE.count('"rounds": 60') == 1
    (tmp_path / "docs" / "examples" / "clinics.py").write_text(EXAMPLE.replace('"rounds": 60', '"rounds": 2'))
    lines: Lines = []
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(SECONDS_MAX))
        chain = await stack.enter_async_context(network(tmp_path / "node", rounds=1))
        # One engine for all silos, and one for both auditors: starting them takes longer than all they compute.
        engines = [await stack.enter_async_context(open_engines(tmp_path / name)) for name in ("silos", "auditors")]
        nursery = await stack.enter_async_context(trio.open_nursery())
        for index, keys in enumerate(VALIDATORS):
            node = await stack.enter_async_context(open_node([chain.url], keys.account))
            folder, report = tmp_path / f"auditor{index}", reporter(lines, f"auditor {index}")
            nursery.start_soon(partial(attend, node, engines[1], folder, report=report))
        for program, *words in map(str.split, commands("docs/federated.md")):
            if program == ".venv/bin/python":
                await trio.to_thread.run_sync(partial(runpy.run_path, words[0], run_name="__main__"))
            elif words[0] == "worker":
                key, name, data = (words[words.index(option) + 1] for option in ("--key", "--name", "--data"))
                node = await stack.enter_async_context(open_node([chain.url], Keypair.from_uri(key)))
                run = partial(contribute, node, engines[0], tmp_path / name, silo_files([data]))
                nursery.start_soon(partial(run, report=reporter(lines, name)))
            else:
                assert program == ".venv/bin/potchain"
                await potchain(chain, words)
        nursery.cancel_scope.cancel()
        record = chain.modules(lambda modules: modules.training.history[1, 1])
        weights = chain.modules(lambda modules: modules.training.weights[1, 1])

    printed = capsys.readouterr().out
    assert "clinic2.npz: 600 patients" in printed
    assert "audits      100% of all slots, scored on held-out rows by 1 each" in printed
    assert "clinics is task 1" in printed
    assert "admit its silos: potchain task admit 1 ADDRESS" in printed
    assert len(re.findall("is admitted to task 1 with up to 600 samples", printed)) == 3
    assert [slot.accepted for slot in record.slots] == [True] * 3, "\n".join(lines)
    assert sorted(weights) == [400, 500, 600]
    assert {name: array.shape for name, array in load_file(tmp_path / "clinics.safetensors").items()} == {
        "b": (6,),
        "w": (8, 6),
    }
