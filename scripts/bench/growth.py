"""Measures what a block, a round and a node cost as what they are made of grows, beside how each cost should grow.

    .venv/bin/python scripts/bench/growth.py [workers parameters keys chain] [--full]

Times are processor time. In brackets is the power of the size that a column grew by since the row above: 0 is flat, 1
is linear, bold is more than was named for the column. What a block costs as validators grow is finality.py's; plots.py
draws all of them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from figures import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # stories of training are the tests'

import grow_chain
import grow_keys
import grow_parameters
import grow_workers

CURVES = ("workers", "parameters", "keys", "chain")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"of {', '.join(CURVES)}; all of them unless told")
    parser.add_argument("--full", action="store_true", help="ten million keys and a million blocks, too")
    parser.add_argument("--short", action="store_true", help="two small sizes of each, to see that the benchmark works")
    options = parser.parse_args()
    if unknown := sorted({*options.curves} - {*CURVES}):
        parser.error(f"expected curves among {', '.join(CURVES)}; got {', '.join(unknown)}")
    print(machine())
    for name in options.curves or CURVES:
        measure(name, short=options.short, full=options.full)


def measure(curve: str, *, short: bool, full: bool) -> None:
    """Measure one curve, at few sizes, at those of the table or at those that take hours, too."""
    match curve:
        case "workers":
            grow_workers.measure(grow_workers.SHORT if short else grow_workers.USUAL)
        case "parameters":
            grow_parameters.measure(grow_parameters.SHORT if short else grow_parameters.USUAL)
        case "keys":
            grow_keys.measure(grow_keys.SHORT if short else grow_keys.FULL if full else grow_keys.USUAL)
        case "chain":
            grow_chain.measure(grow_chain.SHORT if short else grow_chain.FULL if full else grow_chain.USUAL)


if __name__ == "__main__":
    main()
