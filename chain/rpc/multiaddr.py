"""Addresses of nodes as Substrate writes them: `/ip4/192.0.2.1/tcp/30333/p2p/PEER`.

PEER is what `system_localPeerId` says: a node's ed25519 public key, 64 hex digits.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_HOST_NAME = re.compile(r"(?!-)[a-zA-Z0-9-]{1,63}(\.[a-zA-Z0-9-]{1,63}){0,7}\Z")
_PEER = re.compile(r"[0-9a-f]{64}\Z")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node listens, and who it is."""

    host: str
    port: int
    identity: bytes

    def __str__(self) -> str:
        try:
            kind = f"ip{ipaddress.ip_address(self.host).version}"
        except ValueError:
            kind = "dns"
        return f"/{kind}/{self.host}/tcp/{self.port}/p2p/{self.identity.hex()}"

    @classmethod
    def parse(cls, text: str) -> NodeAddress:
        """ValueError says what was expected."""
        match text.split("/"):
            case ["", kind, host, "tcp", port, "p2p", peer] if (
                _is_host(kind, host) and _PORT.match(port) and int(port) < 65536 and _PEER.match(peer)
            ):
                return cls(host, int(port), bytes.fromhex(peer))
        raise ValueError("an address such as /ip4/192.0.2.1/tcp/30333/p2p/ and the peer's id, 64 hex digits")


def _is_host(kind: str, host: str) -> bool:
    if kind in ("dns", "dns4", "dns6"):
        return _HOST_NAME.match(host) is not None
    try:
        return kind == f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return False
