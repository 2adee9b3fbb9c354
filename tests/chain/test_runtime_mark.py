"""A folder that is opened with other code than it was made with: tried on its last blocks, told, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chain.ledger import Ledger
from chain.primitives.scale import u32
from chain.runtime_mark import BLOCKS_TRIED_MAX, Mark, RuntimeChanged, check_mark
from chain.store import GenesisMismatch
from genesis.spec import load
from runtime.composition import Runtime, View
from runtime.executive import Executive
from runtime.framework import Module
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import Validators
from runtime.storage import StorageValue
from runtime.testing import ALICE, genesis_config
from runtime.types import Weight
from tests.chain.test_ledger import extend

OLD, NEW = Mark(bytes(32), bytes(32)), Mark(b"\1" * 32, bytes(32))


def runtime(step: int, spec_version: int = 1) -> Runtime[View]:
    """A runtime in which each block adds a step to a tally: another step makes other states of the same blocks."""

    class Tally(Module):
        tally = StorageValue[u32](default=0)

        def on_initialize(self) -> Weight | None:
            self.tally.put(self.tally.get() + step)
            return None

    modules = {0: System, 1: Timestamp, 2: Balances, 3: TransactionPayment, 4: Validators, 9: Tally}
    return Runtime(view=View, spec_name="tally", spec_version=spec_version, transaction_version=1, modules=modules)


@contextmanager
def opened(folder: Path, used: Runtime[View]) -> Iterator[Ledger]:
    executive = Executive(used)
    state = executive.genesis(genesis_config(validators=[ALICE]))
    ledger = Ledger.open(folder, executive=executive, genesis_state=state, genesis_name="tally")
    try:
        yield ledger
    finally:
        ledger.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty blocks with a step of one."""
    with opened(tmp_path, runtime(1)) as ledger:
        assert check_mark(ledger, OLD, is_development=False) is None
        for _ in range(20):
            extend(ledger)
    return tmp_path


def test_the_same_runtime_is_not_worth_a_word(folder: Path) -> None:
    with opened(folder, runtime(1)) as ledger:
        assert check_mark(ledger, OLD, is_development=False) is None


def test_code_that_was_changed_and_gives_the_same_is_told_once(folder: Path) -> None:
    with opened(folder, runtime(1)) as ledger:
        news = check_mark(ledger, NEW, is_development=False)
        assert news == (f"tally 1 has changed since the last start: the last {BLOCKS_TRIED_MAX} blocks end as they did")
        assert check_mark(ledger, NEW, is_development=False) is None
        other_words = Mark(NEW.sources, b"\2" * 32)
        news = check_mark(ledger, other_words, is_development=False)
        assert news is not None
        assert news.endswith("; wallets see other metadata under the same version")


def test_code_that_gives_another_state_is_refused_and_refused_again(folder: Path) -> None:
    with opened(folder, runtime(2)) as ledger:
        for _ in range(2):
            with pytest.raises(RuntimeChanged, match="block 20 would end in another state"):
                check_mark(ledger, NEW, is_development=False)
    with opened(folder, runtime(1)) as ledger:
        assert check_mark(ledger, OLD, is_development=False) is None


def test_a_development_chain_goes_on_with_other_code_and_says_so(folder: Path) -> None:
    with opened(folder, runtime(2)) as ledger:
        news = check_mark(ledger, NEW, is_development=True)
        assert (
            news
            == "tally 1 has changed: block 20 would end in another state; going on, as the chain is for development"
        )
        extend(ledger)
        assert ledger.head.height == 21


def test_a_folder_of_an_earlier_release_has_no_mark_and_gets_one(folder: Path) -> None:
    with opened(folder, runtime(1)) as ledger:
        ledger.keep_runtime_mark(b"unreadable")
        assert check_mark(ledger, NEW, is_development=False) is None
        assert check_mark(ledger, OLD, is_development=False) is not None


def test_a_runtime_of_another_spec_version_makes_another_chain(folder: Path) -> None:
    with pytest.raises(GenesisMismatch, match="and the spec_version of its runtime"), opened(folder, runtime(1, 2)):
        pass


def test_a_mark_follows_the_source_of_a_chain_wherever_it_lies(tmp_path: Path) -> None:
    third_party = Path(__file__).resolve().parents[1] / "third_party"
    package = "marked_chain"  # a name that nothing else has imported
    shutil.copytree(third_party / "fragile_chain", tmp_path / package)
    chain = tmp_path / package / "chain.py"
    chain.write_text(chain.read_text().replace("fragile_chain", package))
    spec = json.loads((third_party / "genesis.json").read_text())
    spec["runtime"] = f"{package}.chain:RUNTIME"
    del spec["genesis"]["names"]
    (tmp_path / "genesis.json").write_text(json.dumps(spec))
    read = load(tmp_path / "genesis.json")
    before = Mark.of(read)
    assert Mark.of(read) == before
    module = tmp_path / package / "fragile.py"
    module.write_text(module.read_text() + "\n# a word more\n")
    after = Mark.of(read)
    assert (after.metadata, after.sources != before.sources) == (before.metadata, True)
