"""Where nodes were found: the addresses at which they answered us with their keys, for the day when bootnodes do not.

The rule: nothing is in here on anybody's word. The number of addresses is bounded, and so is that of each part of the
internet, so that whoever has many addresses in one place has few places here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Final

from chain.checked_file import UnusableFile
from chain.net.dialer import Bootnode
from chain.net.reputation import is_address
from chain.primitives.scale import FixedBytes, ScaleError, codec_of, u16, u64

# A committee of 64 and several times as many full nodes; 100 bytes each.
ENTRIES_MAX: Final = 256
# Of one /16 (IPv4) or /32 (IPv6), which is what one provider or one attacker has.
GROUP_ENTRIES_MAX: Final = 16
# Of addresses that mean something on one network alone, where all nodes are neighbours.
LOCAL_ENTRIES_MAX: Final = 128
# Who does not answer is asked again after twice the time, up to an hour.
RETRY_S_FIRST: Final = 30
RETRY_S_MAX: Final = 3600
# An address that has not worked for so long, and did not when it was tried so often, belongs to somebody else now.
STALE_S: Final = 14 * 86_400
STALE_FAILURES: Final = 8
# Others are told of a node that worked within a day.
FRESH_S: Final = 86_400

# 256 addresses of at most 64 characters take some 30 kB.
FILE_BYTES_MAX: Final = 64 * 1024
MAGIC: Final = b"potpeers1"


@dataclass(frozen=True, slots=True)
class Entry:
    """A node's address. `worked_at` is when it last answered there, in seconds of Unix time."""

    identity: Annotated[bytes, FixedBytes(32)]
    host: str
    port: u16
    worked_at: u64


_ENTRIES: Final = codec_of(list[Entry])


@dataclass(slots=True)
class _Trials:
    failures: int = 0
    retry_at: int = 0


def group_of(host: str) -> tuple[str, int]:
    """Which part of the internet an address is in, and how many addresses of it are kept."""
    address = ipaddress.ip_address(host.split("%", 1)[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if not address.is_global:
        return "local", LOCAL_ENTRIES_MAX
    network = ipaddress.ip_network(f"{address}/{16 if address.version == 4 else 32}", strict=False)
    return str(network), GROUP_ENTRIES_MAX


class AddressBook:
    """Addresses by identity. Times are seconds of Unix time."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._trials: dict[bytes, _Trials] = {}

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def worked(self, identity: bytes, host: str, port: int, now: int) -> None:
        """The node has answered there, to us, with its key. Who is worst makes room for it."""
        self._entries[identity] = Entry(identity, host, port, now)
        self._trials.pop(identity, None)
        group, group_max = group_of(host)
        self._make_room([one for one in self._entries if group_of(self._entries[one].host)[0] == group], group_max)
        self._make_room(list(self._entries), ENTRIES_MAX)

    def failed(self, identity: bytes, now: int) -> None:
        """The node was dialled where it was last found, and did not answer; nothing where it never was found."""
        entry = self._entries.get(identity)
        if entry is None:
            return
        trials = self._trials.setdefault(identity, _Trials())
        trials.failures += 1
        trials.retry_at = now + min(RETRY_S_MAX, RETRY_S_FIRST << min(trials.failures - 1, 16))
        if trials.failures >= STALE_FAILURES and now - entry.worked_at > STALE_S:
            self._forget(identity)

    def due(self, now: int, busy: Container[bytes]) -> Iterator[Bootnode]:
        """Yield whom to dial now, who worked last first; `busy` are those who are connected or being dialled."""
        for entry in sorted(self._entries.values(), key=lambda entry: -entry.worked_at):
            trials = self._trials.get(entry.identity)
            if entry.identity not in busy and (trials is None or trials.retry_at <= now):
                yield Bootnode(entry.host, entry.port, entry.identity)

    def fresh(self, now: int) -> list[Entry]:
        """Who has answered lately: what others may be told."""
        return [entry for entry in self._entries.values() if now - entry.worked_at <= FRESH_S]

    def encode(self) -> bytes:
        """All of it, for the next start."""
        return _ENTRIES.encode(sorted(self._entries.values(), key=lambda entry: entry.identity))

    def restore(self, content: bytes, now: int) -> None:
        """Take in what `encode` has written; raises UnusableFile, with nothing taken in."""
        try:
            entries: list[Entry] = _ENTRIES.decode(content)
        except ScaleError as error:
            raise UnusableFile(str(error)) from None
        identities = [entry.identity for entry in entries]
        if len(entries) > ENTRIES_MAX or identities != sorted(set(identities)):
            raise UnusableFile(f"expected at most {ENTRIES_MAX} nodes by ascending identity, got {len(entries)}")
        for entry in entries:
            if not is_address(entry.host) or len(entry.host) > 64 or not entry.port:
                raise UnusableFile(f"expected the address of a node, got port {entry.port} of {entry.host[:64]!r}")
        for entry in entries:
            # A clock that was wrong must not keep an address for ever.
            self._entries[entry.identity] = replace(entry, worked_at=min(entry.worked_at, now))

    def _make_room(self, members: list[bytes], count_max: int) -> None:
        if len(members) > count_max:
            self._forget(max(members, key=self._badness))

    def _badness(self, identity: bytes) -> tuple[int, int]:
        trials = self._trials.get(identity)
        return 0 if trials is None else trials.failures, -self._entries[identity].worked_at

    def _forget(self, identity: bytes) -> None:
        del self._entries[identity]
        self._trials.pop(identity, None)
