"""docs/train-a-model.md, followed to the letter on a real chain with real workers: for two rounds instead of sixty."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from safetensors.numpy import load_file

from chain.cli import main
from tests.docs.pages import ROOT, commands
from tests.trainer.network import EVE, FERDIE, Lines, audit_and_aggregate, network, reporter
from trainer.task import build
from trainer.worker import run_worker

PAGE = (ROOT / "docs" / "train-a-model.md").read_text()
NEEDS_A_NODE = ("new", "watch", "fetch")
SECONDS_MAX = 300


def blocks(kind: str) -> list[str]:
    """The page's blocks of a kind."""
    found = re.findall(r"^```(\w*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    return [re.sub(r"\b60\b", "2", text) for name, text in found if name == kind]


def test_the_file_on_the_page_is_a_task() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    program = build(names["task"]).program
    assert (program.parameters, program.batch, program.evaluate_batch) == (8 * 64 + 64, 128, 512)


@pytest.mark.slow
async def test_the_page_leads_from_a_file_to_a_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "examples"))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    lines: Lines = []
    with trio.fail_after(SECONDS_MAX):
        async with network(tmp_path / "node", rounds=1) as chain, trio.open_nursery() as nursery:
            await audit_and_aggregate(nursery, chain, tmp_path, lines)
            for key in (EVE, FERDIE):
                report = reporter(lines, key.public.hex()[:4])
                nursery.start_soon(partial(run_worker, [chain.url], key, tmp_path / key.public.hex(), report=report))
            for line in commands("docs/train-a-model.md", "From the command line"):
                program, *words = re.sub(r"\b60\b", "2", line).split()
                assert program == ".venv/bin/potchain"
                words += ["--node", chain.url] if words[1] in NEEDS_A_NODE else []
                with pytest.raises(SystemExit) as ended:
                    await trio.to_thread.run_sync(main, words)
                assert not ended.value.code, line
            printed = capsys.readouterr().out
            _, used, source = blocks("python")
            await trio.to_thread.run_sync(exec, used, {})
            assert re.fullmatch(r"right on new points: 0\.\d+\n", capsys.readouterr().out)
            await trio.to_thread.run_sync(exec, source.replace("ws://127.0.0.1:9944", chain.url), {})
            trained = capsys.readouterr().out.splitlines()
            nursery.cancel_scope.cancel()

    assert "nothing was sent: --dry-run" in printed
    assert "spirals is task 1" in printed
    assert "4,482 parameters in 6 tensors" in printed
    assert len(load_file(tmp_path / "spirals.safetensors")) == 6
    assert [line[:15] for line in trained if line.startswith("round")] == ["round    0 of 2", "round    1 of 2"]
    (loss,) = re.findall(r"round    1 of 2  loss ([0-9.]+)", "\n".join(trained))
    assert float(trained[-1]) == pytest.approx(float(loss), abs=1e-3)
    sys.modules.pop("spirals", None)
