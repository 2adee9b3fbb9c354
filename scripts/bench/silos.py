"""What silos that have other classes of digits each do to a model, and what a fifth that poisons it does.

    .venv/bin/python scripts/bench/silos.py [--rounds 12]

The least and the most that each adds in a round, in shares of the held-out loss before it: below zero, it helps. The
poisoner has 300 rows of all classes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from figures import machine, record

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the silos in this process are the tests'

from tests.trainer.silos import CLASSES_OF, Model, by_class, mislabelled, perceptron, softmax, steps, train  # noqa: E402

POISONED = 300
ATTACKS = {"wrong labels": 1.0, "sign flip, 3 times as long": -3.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="how many are trained")
    parser.add_argument("--short", action="store_true", help="two rounds of one model")
    options = parser.parse_args()
    models = {"softmax": softmax()} if options.short else {"softmax": softmax(), "perceptron": perceptron()}
    print(machine())
    names = ["-".join(map(str, (classes[0], classes[-1]))) for classes in CLASSES_OF]
    print(f"{'':<64}" + "".join(f"{name:>18}" for name in [*names, "poisoned"]))
    for name, model in models.items():
        for count in (8,) if options.short else (2, 4, 8, 16):
            for attack, distort in ATTACKS.items():
                _print(
                    f"{name}, {count} local steps, {attack}",
                    model,
                    count,
                    distort,
                    2 if options.short else options.rounds,
                )


def _print(what: str, model: Model, count: int, distort: float, rounds: int) -> None:
    """The least and the most that each silo adds, in company and alone, while the honest are believed."""
    labels = mislabelled(POISONED) if distort == 1 else (mislabelled(POISONED)[0], (mislabelled(POISONED)[1] + 9) % 10)
    found = [scores for scores, _ in train(model, [*by_class(), labels], steps(count), rounds, 4, distort)]
    for kind, columns in (
        ("in company", list(zip(*(scores.harms for scores in found), strict=True))),
        ("alone", list(zip(*(scores.alone for scores in found), strict=True))),
    ):
        honest = [share for column in columns[:-1] for share in column]
        record(f"{what}, {kind}: added by the honest, at most", [max(honest)], "of the loss")
        record(f"{what}, {kind}: added by the poisoner, at least", [min(columns[-1])], "of the loss", better="more")
        spans = (f"{min(column):+.1%} {max(column):+.1%}" for column in columns)
        print(f"{f'{what}, {kind}':<64}" + "".join(f"{span:>18}" for span in spans), flush=True)


if __name__ == "__main__":
    main()
