"""How a node with an empty data folder begins: Substrate's `--sync`, with two of its values."""

from __future__ import annotations

from enum import StrEnum


class SyncMode(StrEnum):
    """`FULL` executes every block from genesis on; `WARP` begins with a recent state that validators have sealed."""

    FULL = "full"
    WARP = "warp"
