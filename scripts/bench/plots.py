"""Draws the curves of a table that all.py has written, and the parts of a block and a round, as SVG files.

    .venv/bin/python scripts/bench/plots.py docs/plots/growth.json [--into FOLDER]

Equal figures give equal bytes. The thin line through a cost's last point is how it should have come there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tables import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # stories of training are the tests'


def main() -> None:
    """Draw every curve of which the table has something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="a table's JSON")
    parser.add_argument("--into", type=Path, help="the folder of the plots, the table's unless told")
    options = parser.parse_args()
    try:
        from drawing import drawn  # a node's environment lacks matplotlib
    except ModuleNotFoundError as error:
        sys.exit(f"expected {error.name}, which scripts/setup requirements-dev.txt installs")
    into: Path = options.into or options.table.parent
    into.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn(Table.decode(options.table.read_text())).items():
        (into / name).write_bytes(svg)
        print(into / name)


if __name__ == "__main__":
    main()
