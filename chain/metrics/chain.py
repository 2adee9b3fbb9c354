"""Metrics of the chain itself: how high it is, and which program follows it in what role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain import __version__
from chain.metrics.metric import Kind, Metric
from chain.sync.progress import SyncStatus

BUILD: Final = Metric(
    "substrate_build_info", Kind.GAUGE, "1, with the program's name and version.", ("name", "version")
)
ROLES: Final = Metric("substrate_node_roles", Kind.GAUGE, "What the node runs as: 1 a full node, 4 a validator.")
HEIGHT: Final = Metric(
    "substrate_block_height",
    Kind.GAUGE,
    "The newest block's height, which is final here as soon as it is the best, and the best that a peer claims.",
    ("status",),
)
SYNCING: Final = Metric(
    "substrate_sub_libp2p_is_major_syncing", Kind.GAUGE, "1 while the node is behind what its peers have."
)
SYNC_RATE: Final = Metric(
    "potchain_sync_blocks_per_second",
    Kind.GAUGE,
    "How fast the node catches up; of a state that is being fetched, its keys.",
)
SYNC_STALLED: Final = Metric(
    "potchain_sync_stalled", Kind.GAUGE, "1 while the node is behind and nothing has come for some seconds."
)

FULL, AUTHORITY = 1, 4  # Substrate's numbers


def collected(height: int, sync: SyncStatus, *, has_keys: bool) -> Iterator[Family]:
    """`has_keys` says whether the node has a validator's."""
    yield BUILD.each({("potchain", __version__): 1})
    yield ROLES.of(AUTHORITY if has_keys else FULL)
    target = max(sync.target, height)
    yield HEIGHT.each({("best",): height, ("finalized",): height, ("sync_target",): target})
    yield SYNCING.of(sync.syncing)
    yield SYNC_RATE.of(sync.per_second)
    yield SYNC_STALLED.of(sync.syncing and sync.stalled is not None)
