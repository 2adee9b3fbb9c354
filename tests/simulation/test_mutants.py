"""The check of the checks stays usable: each mistake still fits the code, and one of them is found here and now."""

from __future__ import annotations

import pytest

from scripts.mutants import MUTANTS, ROOT, Mutant, attempt


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_fits_the_code_in_one_place(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    assert mutant.new != mutant.old
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_a_short_quorum_is_found_with_the_command_that_shows_it() -> None:
    found = attempt(MUTANTS[0], seeds=20)
    assert found is not None
    assert found[0].startswith("potchain simulate --seed ")
