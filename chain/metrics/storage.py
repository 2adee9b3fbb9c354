"""Metrics of what a node keeps on its disk: the database, blobs, and the room that is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric as Family

from chain.blobs import BlobStore
from chain.ledger import Ledger
from chain.metrics.metric import Kind, Metric

FILE: Final = Metric("potchain_database_file_bytes", Kind.GAUGE, "How large the database's file is; it never shrinks.")
LIVE: Final = Metric(
    "potchain_database_live_bytes",
    Kind.GAUGE,
    "How much of the file has something in it; the rest is used again before the file grows.",
)
MAP: Final = Metric(
    "potchain_database_map_bytes", Kind.GAUGE, "The address space that the file may grow into before it is doubled."
)
STATES: Final = Metric("potchain_states_kept", Kind.GAUGE, "How many blocks have a state that can be read.")
BLOBS: Final = Metric("potchain_blobs_bytes", Kind.GAUGE, "What the blobs of tasks take.")
BLOBS_MAX: Final = Metric("potchain_blobs_bytes_max", Kind.GAUGE, "What the blobs of tasks may take at most.")
FREE: Final = Metric("potchain_disk_free_bytes", Kind.GAUGE, "Room for this user on the disk of the data folder.")
SIZE: Final = Metric("potchain_disk_size_bytes", Kind.GAUGE, "The size of the disk of the data folder.")


def collected(ledger: Ledger, blobs: BlobStore, folder: Path) -> Iterator[Family]:
    """Asks the system and the database: for a thread."""
    sizes = ledger.sizes()
    yield FILE.of(sizes.file_bytes)
    yield LIVE.of(sizes.live_bytes)
    yield MAP.of(sizes.map_bytes)
    yield STATES.of(ledger.head.height - ledger.oldest_state + 1)
    yield BLOBS.of(blobs.bytes_used)
    yield BLOBS_MAX.of(blobs.bytes_max)
    disk = os.statvfs(folder)
    yield FREE.of(disk.f_bavail * disk.f_frsize)
    yield SIZE.of(disk.f_blocks * disk.f_frsize)
