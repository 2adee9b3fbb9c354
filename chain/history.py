"""How many states a node keeps when nobody says: apart from the ledger, whose database a command line need not load."""

from __future__ import annotations

from typing import Final

# States of so many recent blocks stay readable by default, as Substrate nodes keep them.
HISTORY: Final = 256
