"""Processor time of a network's processes by what they do, from the kernel: Linux alone has it so."""

from __future__ import annotations

import json
import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
ROLES = ("nodes", "workers", "worker engines", "auditors", "auditor engines", "aggregator")


class Ledger(dict[str, float]):
    """CPU seconds by role."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(ROLES, 0.0))

    def __sub__(self, other: Ledger) -> Ledger:
        """What was spent since."""
        found = Ledger()
        for role in self:
            found[role] = self[role] - other[role]
        return found

    @property
    def total(self) -> float:
        """Of all roles together."""
        return sum(self.values())


def seconds_by_role(data: Path) -> Ledger:
    """What the processes of a launcher with this data folder, and their engines, have spent so far."""
    stats = {int(path.name): fields for path in Path("/proc").glob("[0-9]*") if (fields := _stat(path))}
    found = Ledger()
    for name, pid in json.loads((data / "processes.json").read_text()).items():
        if pid not in stats:
            continue
        role = _role(name)
        found[role] += _own(stats[pid])
        for child in (other for other, fields in stats.items() if int(fields[1]) == pid):
            found[role.removesuffix("s") + " engines"] += _own(stats[child])
    return found


def _role(name: str) -> str:
    if name.endswith("-auditor"):
        return "auditors"
    if name == "aggregator":
        return "aggregator"
    return "workers" if name in ("eve", "ferdie") else "nodes"


def seconds_of(pid: int) -> float:
    """What a process that runs, with its children that have ended, has spent so far."""
    fields = _stat(Path("/proc") / str(pid))
    assert fields is not None, f"process {pid} has ended"
    return _own(fields)


def _stat(path: Path) -> list[str] | None:
    """The fields behind a process's name: state, parent, …; None where it has ended."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _own(fields: list[str]) -> float:
    """User and system time, with that of children that ended."""
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / TICKS
