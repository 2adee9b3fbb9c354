"""What a network's processes take, sample by sample: memory, descriptors, threads, disk, and what nodes say of it.

Rule: a sample is read from the kernel and from the nodes' metrics alone, and changes nothing. Linux has it so.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from processes import TICKS
from prometheus_client.parser import text_string_to_metric_families

SCRAPE_SECONDS_MAX = 10.0
KIB_LINE = re.compile(r"^(Pss_Anon|Pss_File): +(\d+) kB$", re.MULTILINE)
# What is read of a node's metrics: gauges, and counters of which differences count.
METRICS = {
    "loop tasks": "potchain_event_loop_tasks",
    "lag seconds": "potchain_event_loop_lag_seconds_sum",
    "lag count": "potchain_event_loop_lag_seconds_count",
    "pool ready": "substrate_ready_transactions_number",
    "pool future": "potchain_pool_future_transactions",
    "pool bytes": "potchain_pool_bytes",
    "peers": "substrate_sub_libp2p_peers_count",
    "rpc connections": "potchain_rpc_connections",
    "rpc subscriptions": "potchain_rpc_subscriptions",
    "rpc waiting bytes": "potchain_rpc_waiting_bytes",
    "database bytes": "potchain_database_live_bytes",
    "database file bytes": "potchain_database_file_bytes",
    "blob bytes": "potchain_blobs_bytes",
    "blocks": "potchain_blocks_imported_total",
    "transactions": "potchain_transactions_included_total",
    "views changed": "potchain_consensus_views_changed_total",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one time, in seconds since the first: values by process and by what they are of."""

    time: float
    pids: Mapping[str, int]
    values: Mapping[str, Mapping[str, float]]

    def encode(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Sample:
        """Read a line."""
        return cls(**json.loads(line))


class Sampler:
    """Samples a launcher and all that it started. Its data folder names them; `metrics` are the nodes' ports."""

    def __init__(self, launcher: int, data: Path, metrics: Mapping[str, int]) -> None:
        self._launcher = launcher
        self._data = data
        self._metrics = metrics
        self._began = time.monotonic()

    def sample(self) -> Sample:
        """Everything now; a process or a node that has just ended is left out. Takes a second: for a thread."""
        pids = {"launcher": self._launcher, "clients": os.getpid()}
        pids |= json.loads((self._data / "processes.json").read_text())
        engines = self._engines()
        values: dict[str, dict[str, float]] = {}
        for name, pid in pids.items():
            own = _process(pid)
            if own is None:
                continue
            values[name] = own
            if name in engines:
                own["engines"] = len(engines[name])
                own["engines memory"] = sum(each["memory"] for each in engines[name])
            own |= self._disk(name)
            if name in self._metrics:
                own |= _scraped(self._metrics[name])
        return Sample(time.monotonic() - self._began, {name: pids[name] for name in values}, values)

    def _engines(self) -> dict[str, list[dict[str, float]]]:
        """Those of each worker and auditor, also those that have lost it: their arguments name its folder."""
        pattern = re.compile(re.escape(f"{self._data}/").encode() + rb"([^/]+)/engines/")
        found: dict[str, list[dict[str, float]]] = {folder.parent.name: [] for folder in self._data.glob("*/engines")}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                match = pattern.search((entry / "cmdline").read_bytes())
                if match and (values := _process(int(entry.name))):
                    found.setdefault(match[1].decode(), []).append(values)
        return found

    def _disk(self, name: str) -> dict[str, float]:
        folder = self._data / name
        logs = [_allocated(file) for file in self._data.glob(f"{name}.log*")]
        found = {"log bytes": float(sum(logs))} if logs else {}
        if not folder.is_dir():
            return found
        files = {file: _allocated(file) for file in folder.rglob("*")}
        chain, blobs = ({each for each in files if (folder / part) in each.parents} for part in ("chain", "blobs"))
        # A node says better what its database has: the file never shrinks.
        found["files bytes"] = float(sum(size for file, size in files.items() if file not in chain | blobs))
        found["blob files bytes"] = float(sum(files[file] for file in blobs))
        return found


def _process(pid: int) -> dict[str, float] | None:
    """Memory of its own and of mapped files (MiB), descriptors, threads, CPU seconds; None where it is gone."""
    folder = Path("/proc", str(pid))
    try:
        kib = dict(KIB_LINE.findall((folder / "smaps_rollup").read_text()))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return {
            "memory": int(kib["Pss_Anon"]) / 1024,
            "mapped": int(kib["Pss_File"]) / 1024,
            "descriptors": len(os.listdir(folder / "fd")),
            "threads": int(fields[17]),
            "cpu": (int(fields[11]) + int(fields[12])) / TICKS,
        }
    except (OSError, KeyError):
        return None


def _allocated(file: Path) -> int:
    """Bytes of the disk, not of the file: one may have holes."""
    try:
        return file.lstat().st_blocks * 512
    except OSError:
        return 0


def _scraped(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_SECONDS_MAX) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return {what: totals[name] for what, name in METRICS.items() if name in totals}
