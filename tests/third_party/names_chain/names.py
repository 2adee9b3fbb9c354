"""Names: short names that accounts hold for a term, against a deposit that comes back when the name is free again.

Rule: every name is in `expiring` under the block that frees it, so that a block touches only what ends in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chain.primitives.scale import AccountId, Balance, scale_path, u32
from runtime.framework import Constant, Module, call, event
from runtime.genesis import Section, account, show
from runtime.limits import MICROSECOND
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.storage import Hasher, StorageMap, StorageValue
from runtime.types import DispatchError, GenesisError, Origin, Weight

LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
# As many names as a block full of claims can hold end in one block: `free` must not cost more than `claim`.
FREE: Final = Weight(250 * MICROSECOND)


@scale_path("names_chain::Holding")
@dataclass(frozen=True, slots=True)
class Holding:
    """A name that is taken: by whom, until which block, and who gets which deposit back."""

    owner: AccountId
    expires_at: u32
    payer: AccountId
    deposit: Balance


class Names(Module):
    """Names that accounts hold for a term."""

    system: System
    balances: Balances

    term = StorageValue[u32](default=14_400, doc="For how many blocks a name is held after it was claimed or renewed.")
    holdings = StorageMap[bytes, Holding](doc="The names that are taken.")
    expiring = StorageMap[tuple[u32, bytes], bool](
        default=False,
        hasher=(Hasher.TWOX_64_CONCAT, Hasher.BLAKE2_128_CONCAT),
        doc="The names that a block frees, by its height.",
    )

    deposit = Constant[Balance](2 * POT, doc="What is reserved while a name is held.")
    length_min = Constant[u32](3, doc="The fewest letters of a name.")
    length_max = Constant[u32](32, doc="The most letters of a name.")

    class BadName(DispatchError):
        """A name has 3 to 32 lower-case letters, digits and hyphens."""

        index = 0

    class Taken(DispatchError):
        """Somebody holds the name."""

        index = 1

    class NotOwner(DispatchError):
        """The signer does not hold the name."""

        index = 2

    @event(index=0)
    class Claimed:
        """An account holds a name from now on, until the block `expires_at`."""

        name: bytes
        owner: AccountId
        expires_at: u32

    @event(index=1)
    class Renewed:
        """A name is held for longer."""

        name: bytes
        expires_at: u32

    @event(index=2)
    class Given:
        """A name has a new owner."""

        name: bytes
        owner: AccountId

    @event(index=3)
    class Freed:
        """Nobody holds the name any more: it was released, or its term has ended."""

        name: bytes

    @call(index=0, weight=Weight(300 * MICROSECOND))
    def claim(self, origin: Origin, name: bytes) -> None:
        """Hold a name that nobody holds; the deposit is reserved."""
        who = origin.ensure_signed()
        if not self._is_name(name):
            raise self.BadName
        if name in self.holdings:
            raise self.Taken
        self.balances.reserve(who, self.deposit)
        expires_at = self._hold(name, who, who, self.deposit)
        self.emit(self.Claimed(name, who, expires_at))

    @call(index=1, weight=Weight(250 * MICROSECOND))
    def renew(self, origin: Origin, name: bytes) -> None:
        """Hold a name for a whole term from this block on."""
        held = self._owned(origin.ensure_signed(), name)
        self.expiring.remove((held.expires_at, name))
        expires_at = self._hold(name, held.owner, held.payer, held.deposit)
        self.emit(self.Renewed(name, expires_at))

    @call(index=2, weight=Weight(120 * MICROSECOND))
    def give(self, origin: Origin, name: bytes, to: AccountId) -> None:
        """Make another account the owner; the deposit still comes back to who paid it."""
        held = self._owned(origin.ensure_signed(), name)
        self.holdings[name] = Holding(to, held.expires_at, held.payer, held.deposit)
        self.emit(self.Given(name, to))

    @call(index=3, weight=Weight(250 * MICROSECOND))
    def release(self, origin: Origin, name: bytes) -> None:
        """Free a name before its term ends; the deposit comes back at once."""
        self._owned(origin.ensure_signed(), name)
        self._free(name)

    def on_initialize(self) -> Weight:
        """Free the names whose term ends with this block."""
        ended = [name for _, name in self.expiring.keys(self.system.height)]
        for name in ended:
            self._free(name)
        return FREE.times(len(ended))

    def owner_of(self, name: bytes) -> bytes | None:
        """Who holds a name; for other modules."""
        held = self.holdings.get(name)
        return None if held is None else held.owner

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"term": blocks, "names": [[name, address], …]}`: those names are held without a deposit, for one term."""
        section = Section(self.info.attribute, config)
        if "term" in section:
            self.term.put(section.integer("term", 1, 1 << 24))
        for path, item in section.items("names"):
            if not isinstance(item, list) or len(item) != 2:
                raise GenesisError(f"{path}: expected [name, address], got {show(item)}")
            name = item[0].encode() if isinstance(item[0], str) else b""
            if not self._is_name(name):
                limits = f"{self.length_min} to {self.length_max}"
                raise GenesisError(f"{path}[0]: expected {limits} of a-z, 0-9 and -, got {show(item[0])}")
            if name in self.holdings:
                raise GenesisError(f"{path}[0]: {item[0]} appears twice; name each once")
            owner = account(f"{path}[1]", item[1])
            self._hold(name, owner, owner, 0)
        section.finish()

    def check(self) -> None:
        """Every name ends once, and not in the past; every deposit is reserved."""
        deposits: dict[bytes, int] = {}
        for name, held in self.holdings.items():
            assert held.expires_at > self.system.height, f"{name!r} should be free: {held}"
            assert (held.expires_at, name) in self.expiring, f"{name!r} never ends: {held}"
            deposits[held.payer] = deposits.get(held.payer, 0) + held.deposit
        assert len(list(self.expiring.keys())) == len(list(self.holdings.keys())), "a name that nobody holds ends"
        for payer, deposit in deposits.items():
            reserved = self.balances.reserved(payer)
            assert reserved >= deposit, f"{payer.hex()} has {reserved} reserved for deposits of {deposit}"

    def _is_name(self, name: bytes) -> bool:
        return self.length_min <= len(name) <= self.length_max and all(letter in LETTERS for letter in name)

    def _owned(self, who: bytes, name: bytes) -> Holding:
        held = self.holdings.get(name)
        if held is None or held.owner != who:
            raise self.NotOwner
        return held

    def _hold(self, name: bytes, owner: bytes, payer: bytes, deposit: int) -> int:
        expires_at = self.system.height + self.term.get()
        self.holdings[name] = Holding(owner, expires_at, payer, deposit)
        self.expiring[expires_at, name] = True
        return expires_at

    def _free(self, name: bytes) -> None:
        held = self.holdings[name]
        self.balances.unreserve(held.payer, held.deposit)
        self.holdings.remove(name)
        self.expiring.remove((held.expires_at, name))
        self.emit(self.Freed(name))
