"""People of a simulated chain of whole nodes: they pay each other, stake, come and go as validators, and never give up.

Pools are lost in crashes, so whoever sent a transaction sends it again until it is final, as wallets do.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

import trio

from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.types import Id, sign_extrinsic
from chain.simulation.monitor import expect
from chain.simulation.whole import BOND, SENDERS, WholeLedger, WholeWorld, gossip, offer
from runtime.calls import Call
from runtime.potchain import RUNTIME

if TYPE_CHECKING:
    from chain.simulation.cluster import Cluster

PAID: Final = 10**12
# How often one of them pays, and how long each waits before it sends again what is not final.
PAY_MS: Final = 400
AGAIN_MS: Final = 3000


class Account:
    """A key, and what it has signed so far, by nonce."""

    def __init__(self, key: Keypair) -> None:
        self.key = key
        self.sent: list[bytes] = []


class People:
    """All who send transactions: some who pay validators, and the validators themselves."""

    def __init__(self, world: WholeWorld, cluster: Cluster, rng: Random) -> None:
        self._world = world
        self._cluster = cluster
        self._rng = rng
        self._senders = [Account(key) for key in world.senders]
        self._stashes = [Account(key) for key in world.stashes]
        self._again_at = AGAIN_MS / 1000
        self._intents = sorted(self._draw(), key=lambda intent: intent[0])

    async def run(self) -> None:
        """Do all that until cancelled."""
        while True:
            await trio.sleep(PAY_MS / 1000)
            number = self._rng.randrange(SENDERS)
            paid = RUNTIME.call("balances.transfer_allow_death", dest=Id(self._receiver(number)), value=PAID)
            self._send(self._senders[number], paid)
            while self._intents and self._intents[0][0] <= 1000 * trio.current_time():
                _, stash, call = self._intents.pop(0)
                self._send(stash, call)
            if trio.current_time() > self._again_at:
                self.again()

    def again(self) -> None:
        """Send what is not final to everybody."""
        self._again_at = trio.current_time() + AGAIN_MS / 1000
        for account in (*self._senders, *self._stashes):
            if account.sent:
                for raw in account.sent[self.observer.nonce(account.key.public) :]:
                    for node in self._cluster.nodes:
                        offer(node, raw)

    def check(self) -> None:
        """Whatever was sent is final, once, and the paid have what they were paid."""
        observer = self.observer
        owed = {stash.key.public: self._world.endowment - BOND for stash in self._stashes}
        for number, sender in enumerate(self._senders):
            owed[self._receiver(number)] += PAID * len(sender.sent)
        for account in (*self._senders, *self._stashes):
            who, final = account.key.public, observer.nonce(account.key.public)
            expect(final == len(account.sent), f"{who.hex()} sent {len(account.sent)} transactions; {final} are final")
        for stash in self._stashes:
            if not stash.sent:  # Who sent something has paid fees; who sent nothing may have earned some.
                who, amount = stash.key.public, owed[stash.key.public]
                expect(observer.free(who) >= amount, f"{who.hex()} is owed {amount}, has {observer.free(who)}")

    @property
    def observer(self) -> WholeLedger:
        """The ledger that is furthest, of those that are honest."""
        ledger = max(self._cluster.honest, key=lambda node: node.head).ledger
        assert isinstance(ledger, WholeLedger)
        return ledger

    def _receiver(self, number: int) -> bytes:
        return self._stashes[number % self._world.n].key.public

    def _draw(self) -> list[tuple[int, Account, Call]]:
        """What changes the set, and when: a newcomer joins and maybe somebody leaves, or a key moves to its machine."""
        rng, n, found = self._rng, self._world.n, list[tuple[int, Account, Call]]()
        silent = {member for member, kind in self._cluster.liars.items() if kind == "silence"}
        for member in range(n, len(self._stashes)):
            secret, at = self._world.secrets[member], rng.randrange(2000)
            other = self._stashes[rng.choice([other for other in range(n) if other not in silent])]
            if rng.random() < 0.3:
                found.append((at, other, _key_named(other, secret)))
                continue
            stash, stand = self._stashes[member], RUNTIME.call("validators.validate")
            bond = RUNTIME.call("validators.bond", value=2 * BOND)
            found += [(at, stash, bond), (at, stash, _key_named(stash, secret)), (at, stash, stand)]
            if rng.random() < 0.7:
                left = at + rng.randrange(5000)
                found.append((left, other, RUNTIME.call("validators.chill")))
                if rng.random() < 0.5:
                    found.append((left + rng.randrange(1000, 5000), other, stand))
        return found

    def _send(self, account: Account, call: Call) -> None:
        raw = sign_extrinsic(
            account.key,
            RUNTIME.encode_call(call),
            nonce=len(account.sent),
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self._world.genesis_hash,
        )
        account.sent.append(raw)
        # To one node, which passes it on.
        first = self._rng.choice(self._cluster.nodes)
        if offer(first, raw):
            gossip(first, raw)


def _key_named(stash: Account, secret: bytes) -> Call:
    """The call that makes a key the account's."""
    proof = bls.prove_possession(secret, stash.key.public)
    return RUNTIME.call("validators.set_keys", bls_key=bls.public_key(secret), proof=proof)
