"""Tries every attack on training on a running chain, and prints what became of each: its money, and the model.

    .venv/bin/python scripts/attacks.py [--times 1] [--lines]

Four nodes vote, honest and dishonest participants compute in JAX, and every attacker has a key of its own. Amounts are
in POT, to the last planck. The last column says how many blocks a round with the attack took, and one without any.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the attacks are the tests'

from tests.attacks.campaign import campaign  # noqa: E402
from tests.attacks.models import outcomes  # noqa: E402
from tests.attacks.table import markdown, summary  # noqa: E402


def main() -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="how often each attack is tried, all at the same time")
    parser.add_argument("--lines", action="store_true", help="show what nodes and participants say meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as quiet:
        if not options.lines:
            quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(Path(os.devnull).open("w"))))
        story = trio.run(campaign, Path(folder), options.times)
    found, model, untouched = outcomes(story)
    wrong = [round_ for round_, outcome in found.items() if outcome.params_root != story.records[round_].params_root]
    unexplained = [attack.name for attack in story.attacks if not story.of(attack).explained]
    print(*markdown(story, found), "", summary(story, model, untouched), sep="\n")
    if wrong or unexplained:
        sys.exit(f"rounds that honest updates do not make: {wrong}; amounts that nothing explains: {unexplained}")


if __name__ == "__main__":
    main()
