"""Who may connect: points against identities and addresses that fade with time, bans that grow with repetition.

The rule: a loopback address is never banned, since on a development network many honest nodes share it; there only the
identity answers for what it did.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

BAN_POINTS = 100.0
# A peer that was merely slow once is clean again within a minute.
POINTS_FADE_PER_SECOND = 1.0
BAN_S_FIRST = 60.0
BAN_S_MAX = 3600.0
# Identities and addresses remembered, 100 bytes each; the one touched longest ago is forgotten first.
RECORDS_MAX = 4096
# Strangers in the middle of a handshake. A whole development network behind one address starts within this bound.
STRANGERS_PER_ADDRESS_MAX = 16
STRANGERS_MAX = 64
# An honest handshake takes under a tenth of it: past it, a stranger has to make room for the next.
STRANGER_PATIENCE_S = 1.0
# A failed handshake costs the address this much, so that ten in a few seconds ban it.
FAILED_HANDSHAKE_POINTS = 10.0

_K = TypeVar("_K", bytes, str)


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    at: float = 0.0
    banned_until: float = 0.0
    bans: int = 0


@dataclass(slots=True, eq=False)
class _Stranger:
    address: str
    since: float
    hang_up: Callable[[], None]


def is_address(host: str) -> bool:
    """Whether this is the address of one machine: no name, no wildcard, no group."""
    address_text, scoped, scope = host.partition("%")
    # Scopes are names of devices; what else might follow, libraries would try to make a domain's name of.
    if scoped and not (scope.isascii() and scope.isalnum()):
        return False
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)


def is_loopback(host: str) -> bool:
    """Whether the address is this machine's own."""
    try:
        address = ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


class Reputation:
    """Points and bans by identity (bytes) and by address (str). Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes | str, _Record] = OrderedDict()
        # In the middle of a handshake, the one that came first in front.
        self._strangers: dict[_Stranger, None] = {}
        self._strangers_at: Counter[str] = Counter()

    def penalise(self, who: bytes | str, points: float, now: float) -> bool:
        """Add points; True when that bans the peer from now on."""
        if isinstance(who, str) and is_loopback(who):
            return False
        record = self._records.setdefault(who, _Record(at=now))
        self._records.move_to_end(who)
        while len(self._records) > RECORDS_MAX:
            self._records.popitem(last=False)
        record.points = max(0.0, record.points - (now - record.at) * POINTS_FADE_PER_SECOND) + points
        record.at = now
        if record.points < BAN_POINTS:
            return False
        record.points = 0.0
        record.banned_until = now + min(BAN_S_MAX, BAN_S_FIRST * 2.0**record.bans)
        record.bans = min(record.bans + 1, 16)
        return True

    def banned_for(self, who: bytes | str, now: float) -> float:
        """Seconds until the ban ends, 0 when there is none."""
        record = self._records.get(who)
        return 0.0 if record is None else max(0.0, record.banned_until - now)

    @contextmanager
    def stranger(self, address: str, now: float, hang_up: Callable[[], None]) -> Iterator[bool]:
        """Holds one place for a connection whose handshake is not done; yields False when there is no place.

        `hang_up` is called when the stranger takes so long that its place goes to another.
        """
        if self.banned_for(address, now) > 0.0 or not self._has_place(address, now):
            yield False
            return
        stranger = _Stranger(address, now, hang_up)
        self._strangers[stranger] = None
        self._strangers_at[address] += 1
        try:
            yield True
        finally:
            self._forget_stranger(stranger)

    def _has_place(self, address: str, now: float) -> bool:
        """Whether another stranger may come; who hangs in its handshake goes for it."""
        crowded = self._strangers_at[address] >= STRANGERS_PER_ADDRESS_MAX
        if not crowded and len(self._strangers) < STRANGERS_MAX:
            return True
        for stranger in self._strangers:
            if now - stranger.since < STRANGER_PATIENCE_S:
                return False
            if not crowded or stranger.address == address:
                self._forget_stranger(stranger)
                stranger.hang_up()
                return True
        return False

    def _forget_stranger(self, stranger: _Stranger) -> None:
        if stranger in self._strangers:
            del self._strangers[stranger]
            self._strangers_at[stranger.address] -= 1
            if self._strangers_at[stranger.address] == 0:
                del self._strangers_at[stranger.address]
