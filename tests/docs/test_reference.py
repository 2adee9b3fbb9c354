"""docs/reference/ says what the code does: a change of either without the other fails here."""

from __future__ import annotations

from scripts.reference import FOLDER, pages


def test_the_reference_is_what_the_code_would_write() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == pages(), "run scripts/reference.py"
