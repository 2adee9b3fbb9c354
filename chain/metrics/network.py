"""Metrics of the network: who is connected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain.metrics.metric import Kind, Metric
from chain.net.messages import Role
from chain.net.network import Network

PEERS: Final = Metric("substrate_sub_libp2p_peers_count", Kind.GAUGE, "Connected peers.")
PEERS_BY_ROLE: Final = Metric(
    "potchain_net_peers", Kind.GAUGE, "Connected peers by what they say that they are.", ("role",)
)


def collected(network: Network) -> Iterator[Family]:
    """What the network counts."""
    roles = Counter(peer.role for peer in network.peers())
    yield PEERS.of(roles.total())
    yield PEERS_BY_ROLE.each({(role.name.lower(),): roles[role] for role in Role})
