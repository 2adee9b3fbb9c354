"""Metrics of the network: who is connected, what goes to and fro, and who is refused."""

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
NETWORK_BYTES: Final = Metric(
    "substrate_sub_libp2p_network_bytes_total", Kind.COUNTER, "Bytes of messages, before encryption.", ("direction",)
)
BYTES: Final = Metric(
    "potchain_net_bytes_total", Kind.COUNTER, "Bytes of messages by kind, before encryption.", ("direction", "kind")
)
FRAMES: Final = Metric("potchain_net_frames_total", Kind.COUNTER, "Messages by kind.", ("direction", "kind"))
OPENED: Final = Metric(
    "substrate_sub_libp2p_connections_opened_total",
    Kind.COUNTER,
    "Connections whose handshake was done, by who dialled.",
    ("direction",),
)
CLOSED: Final = Metric("potchain_net_disconnections_total", Kind.COUNTER, "Peers that went away, or were sent away.")
REFUSED: Final = Metric(
    "potchain_net_handshakes_refused_total",
    Kind.COUNTER,
    "Handshakes that ended in a refusal, by whose it was, and why.",
    ("by", "reason"),
)
FAILED: Final = Metric(
    "potchain_net_handshakes_failed_total", Kind.COUNTER, "Inbound connections that did not speak the protocol."
)
SLOW: Final = Metric(
    "potchain_net_peers_slow_total", Kind.COUNTER, "Peers that were dropped since they did not take what was sent."
)
DEFERRED: Final = Metric(
    "potchain_net_gossip_deferred_total", Kind.COUNTER, "Messages of gossip that a peer was too busy for, and asks for."
)
BANS: Final = Metric("potchain_net_bans_total", Kind.COUNTER, "Bans of peers for what they did.")


def collected(network: Network) -> Iterator[Family]:
    """What the network counts."""
    roles, traffic = Counter(peer.role for peer in network.peers()), network.traffic
    yield PEERS.of(roles.total())
    yield PEERS_BY_ROLE.each({(role.name.lower(),): roles[role] for role in Role})
    totals = Counter({"in": 0, "out": 0})
    for (direction, _), count in traffic.bytes.items():
        totals[direction] += count
    yield NETWORK_BYTES.each({(direction,): count for direction, count in totals.items()})
    yield BYTES.each(traffic.bytes)
    yield FRAMES.each(traffic.frames)
    yield OPENED.each({(direction,): count for direction, count in traffic.connections.items()})
    yield CLOSED.of(traffic.disconnections)
    yield REFUSED.each(traffic.refused)
    yield FAILED.of(traffic.handshakes_failed)
    yield SLOW.of(traffic.slow_peers)
    yield DEFERRED.of(traffic.gossip_deferred)
    yield BANS.of(traffic.bans)
