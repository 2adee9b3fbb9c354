"""What each aggregation makes of updates in files, in the order that a set has: for processes with other hash seeds.

`python -m tests.trainer.robust_roots FOLDER PARAMETERS` prints as JSON, for each folder `NAME/ROUND` in it, the root of
what `NAME` makes of its files, and the order in which these were taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chain.primitives.blob import blob_root
from tests.trainer.plain_robust import AGGREGATORS
from trainer import robust
from trainer.codecs import INT8


def main() -> None:
    """Aggregate and print."""
    base, length = Path(sys.argv[1]), int(sys.argv[2])
    found: dict[str, tuple[str, list[str]]] = {}
    for folder in sorted(base.glob("*/*")):
        # Text is hashed with the seed, so that another seed is another order.
        names = list({path.name for path in folder.iterdir()})
        updates = [INT8.decode((folder / name).read_bytes(), length, 0) for name in names]
        combined = robust.combine(AGGREGATORS[folder.parent.name], updates)
        found[str(folder.relative_to(base))] = blob_root(combined.tobytes()).hex(), names
    print(json.dumps(found))


if __name__ == "__main__":
    main()
