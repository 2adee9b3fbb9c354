"""Who may ask an RPC server for what: the address that it listens on, the methods that it answers, the pages it trusts.

As in Substrate: unsafe methods are answered where nobody but this machine can ask, and a browser is answered only for
pages of an origin that the operator trusts. What is no browser says no origin, and is not asked for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from chain.rpc.params import quote

LOOPBACK: Final = "127.0.0.1"
EVERY_INTERFACE: Final = "0.0.0.0"
ANY: Final = "all"
# A page of this machine, such as a dashboard in development, and the apps that most people open a new chain with.
LOCAL: Final = (
    "http://localhost:*",
    "http://127.0.0.1:*",
    "https://localhost:*",
    "https://127.0.0.1:*",
    "https://polkadot.js.org",
)
# `null` is what a browser says for a page from a file.
_ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:([0-9]{1,5}|\*))?")


class RpcMethods(StrEnum):
    """Which methods a server answers."""

    AUTO = "auto"
    SAFE = "safe"
    UNSAFE = "unsafe"


class WrongOrigin(ValueError):
    """Not an origin, nor a list of them; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins whose pages a browser may let ask: `scheme://host`, with `:port` or `:*`; None for all."""

    trusted: tuple[str, ...] | None = LOCAL

    @classmethod
    def parse(cls, text: str) -> Origins:
        """Read `all`, or origins separated by commas; raises WrongOrigin."""
        if text.strip() == ANY:
            return cls(None)
        trusted = tuple(part.strip().lower() for part in text.split(","))
        for origin in trusted:
            if not _ORIGIN.fullmatch(origin):
                raise WrongOrigin(
                    f"expected {ANY}, or origins such as https://example.org or http://localhost:*, separated by "
                    f"commas and without a path, got {quote(origin)}"
                )
        return cls(trusted)

    @property
    def pattern(self) -> str:
        """A regular expression for what browsers send."""
        if self.trusted is None:
            return ".*"
        return "|".join(re.escape(each).replace(r":\*", "(:[0-9]{1,5})?") for each in self.trusted)

    def trust(self, origin: str) -> bool:
        """Whether pages of this origin may ask."""
        return re.fullmatch(self.pattern, origin.lower()) is not None


@dataclass(frozen=True, slots=True)
class Access:
    """What one server grants, and to whom."""

    host: str = LOOPBACK
    methods: RpcMethods = RpcMethods.AUTO
    origins: Origins = Origins()

    @property
    def is_external(self) -> bool:
        """Whether other machines can reach the server."""
        return not ip_address(self.host).is_loopback

    def page(self, port: int) -> str:
        """Where a browser on this machine finds the dashboard."""
        host = LOOPBACK if self.host == EVERY_INTERFACE else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/"

    @property
    def serves_unsafe(self) -> bool:
        """Whether unsafe methods are answered."""
        return self.methods is RpcMethods.UNSAFE or (self.methods is RpcMethods.AUTO and not self.is_external)
