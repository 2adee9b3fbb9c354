"""The ways in which a simulated validator lies: each keeps its own secrets and forges nobody's signature.

A liar runs the same gadget as everybody; it lies by what it tells whom, what it forgets, and what it makes up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from chain.ledger import SealedBlock
from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.scale import BYTES
from chain.primitives.seal import Phase, bitmap, vote_message
from chain.primitives.types import Block
from consensus.messages import (
    Certificate,
    Lock,
    Message,
    NewView,
    Payload,
    PrePrepare,
    Support,
    ViewChange,
    Vote,
    lock_digest,
    lock_of,
)

if TYPE_CHECKING:
    from chain.simulation.node import Node

# How likely a replayer passes a vote off for another as soon as it hears it.
AT_ONCE: Final = 0.5
# How likely an invalid proposer sends one receiver a valid block in the place of the one that it signed.
SWAPPED: Final = 0.3
# What a liar remembers of what others said, to say it again elsewhere.
REMEMBERED: Final = 64


class Liar:
    """Tells the truth; each kind of liar changes some of this."""

    is_silent = False
    censors = False

    def __init__(self, rng: Random) -> None:
        self.rng = rng

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        """What it sends to one receiver in place of a message."""
        return (message,)

    def hears(self, node: Node, message: Message) -> None:
        """Somebody told it something."""

    def on_crash(self, node: Node) -> None:
        """Its power was cut."""

    def claims(self, node: Node) -> tuple[int, Hash]:
        """The best block that it says it has."""
        return node.ledger.best()

    async def blocks(self, node: Node, start: int, count: int, found: list[bytes]) -> list[bytes] | None:
        """What it answers who asks for blocks, where the truth would be `found`."""
        return found

    def sign(self, node: Node, height: int, view: int, phase: Phase, digest: Hash) -> bytes:
        """Its own signature of whatever it likes."""
        message = vote_message(node.ledger.genesis_hash, node.validators.set_id, height, view, phase, digest)
        return bls.sign(node.secret, message)


class Twin(Liar):
    """One of two nodes with one key, which otherwise do what they should."""


class Silent(Liar):
    """Never says a word."""

    is_silent = True


class Hasty(Liar):
    """Asks for later views all the time, as if each had failed it."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._asked = (0, 0)

    def hears(self, node: Node, message: Message) -> None:
        if isinstance(message, Vote | PrePrepare | ViewChange) and message.height == node.head + 1:
            self._asked = max(self._asked, (message.height, message.view + 1))
            height, view = self._asked
            signature = self.sign(node, height, view, Phase.VIEW_CHANGE, lock_digest(None))
            if self.rng.random() < AT_ONCE:
                node.tell_all(ViewChange(height, view, node.index, None, signature))


class Censor(Liar):
    """Proposes blocks without anybody's transactions."""

    censors = True


class VoteDropper(Liar):
    """Sends each of its messages to some only, and drops more votes than others."""

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        return () if self.rng.random() < 0.5 else (message,)


class Equivocator(Liar):
    """Votes for what was proposed and for something else, and proposes two blocks: some hear one, some the other."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._other: dict[tuple[int, int], PrePrepare] = {}

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        match message:
            case Vote():
                return self._of_both(message, self._contrary(node, message))
            case PrePrepare(payload=bytes()):
                return self._of_both(message, self._second(node, message))
            case _:
                return (message,)

    def _of_both(self, true: Message, false: Message) -> Iterable[Message]:
        return self.rng.choice([(true,), (false,), (true, false), (false, true)])

    def _contrary(self, node: Node, vote: Vote) -> Vote:
        second = self._other.get((vote.height, vote.view))
        digest = second.digest if second is not None else bytes(31) + b"\7"
        signature = self.sign(node, vote.height, vote.view, vote.phase, digest)
        return replace(vote, digest=digest, signature=signature)

    def _second(self, node: Node, proposal: PrePrepare) -> PrePrepare:
        """Another block for the same place: as valid as the first, where it is made to be."""
        key = (proposal.height, proposal.view)
        if key not in self._other:
            payload = node.ledger.variant(proposal.payload or b"")
            digest = Block.decode(payload).hash
            signature = self.sign(node, proposal.height, proposal.view, Phase.PREPARE, digest)
            self._other = {key: replace(proposal, digest=digest, payload=payload, signature=signature)}
        return self._other[key]


class Amnesiac(Liar):
    """Loses its vote log whenever its power is cut, and its power is cut often: it votes again as if it never had."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._next = 0

    def on_crash(self, node: Node) -> None:
        node.disk.wipe()

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        if receiver.name == 0 and self.rng.random() < 0.05:
            node.kill()
        return (message,)


class Forger(Liar):
    """Claims locks that nobody has, begins views on proofs that prove nothing, and signs with others' names."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._payload: tuple[int, bytes] | None = None  # The last one proposed, with its height.

    def hears(self, node: Node, message: Message) -> None:
        if isinstance(message, PrePrepare) and message.payload is not None and message.height == node.head + 1:
            self._payload = (message.height, message.payload)

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        match message:
            case ViewChange():
                return (
                    (message, self._locked(node, message))
                    if self.rng.random() < 0.5
                    else (self._locked(node, message),)
                )
            case Vote():
                # It has shown who it is: a signature that is not its own is found out only in a quorum.
                own = self.rng.choice([message, replace(message, signature=self.rng.randbytes(bls.SIGNATURE_BYTES))])
                return (own, self._usurped(node, message), *self._usurping(node, message))
            case PrePrepare():
                return (*self._unlocked(node, message), message)
            case _:
                return (message,)

    def _certificate(self, node: Node, height: int, view: int, digest: Hash) -> Certificate:
        """A certificate of too few: its own genuine vote, and the names of some or of all."""
        n = node.validators.n
        own = self.sign(node, height, view, Phase.PREPARE, digest)
        voters = self.rng.choice([[node.index], range(node.validators.quorum), range(n)])
        return Certificate(height, view, digest, bitmap(voters, n), own)

    def _locked(self, node: Node, change: ViewChange) -> ViewChange:
        proposed = Block.decode(self._payload[1]).hash if self._payload is not None else bytes(32)
        digest = self.rng.choice([proposed, self.rng.randbytes(32)])
        lock = self._certificate(node, change.height, self.rng.randrange(change.view), digest)
        claim = lock_digest(lock_of(lock))
        return replace(
            change, lock=lock, signature=self.sign(node, change.height, change.view, Phase.VIEW_CHANGE, claim)
        )

    def _usurped(self, node: Node, vote: Vote) -> Vote:
        """Another validator's vote for something else, signed with its own key."""
        other = self.rng.randrange(node.validators.n)
        digest = self.rng.randbytes(32)
        return replace(
            vote, voter=other, digest=digest, signature=self.sign(node, vote.height, vote.view, vote.phase, digest)
        )

    def _usurping(self, node: Node, vote: Vote) -> Iterable[PrePrepare]:
        """A valid block other than the one that is voted for, in a later view that it leads, with a made-up proof."""
        n = node.validators.n
        view = vote.view + (node.index - node.validators.primary_index(vote.height, vote.view)) % n
        if view == vote.view or self._payload is None or self._payload[0] != vote.height or self.rng.random() < 0.5:
            return
        payload = node.ledger.variant(self._payload[1])
        digest = Block.decode(payload).hash
        signature = self.sign(node, vote.height, view, Phase.PREPARE, digest)
        yield self._unproven(node, PrePrepare(vote.height, view, digest, signature, payload, None))

    def _unlocked(self, node: Node, proposal: PrePrepare) -> Iterable[PrePrepare]:
        """Another block than the view changes allow, with them as they are or without, or with a lock made for it."""
        if proposal.view == 0 or proposal.payload is None or proposal.new_view is None:
            return
        payload = node.ledger.variant(proposal.payload)
        digest = Block.decode(payload).hash
        signature = self.sign(node, proposal.height, proposal.view, Phase.PREPARE, digest)
        false = replace(proposal, digest=digest, payload=payload, signature=signature)
        true = proposal.new_view
        if true.lock is None:
            yield self._unproven(node, false)
            return
        unlocked = tuple(support for support in true.changes if support.lock is None)
        earlier = self._certificate(node, proposal.height, true.lock.view, digest)
        later = self._certificate(node, proposal.height, proposal.view - 1, digest)
        claim = lock_of(later)
        signature = self.sign(node, proposal.height, proposal.view, Phase.VIEW_CHANGE, lock_digest(claim))
        others = tuple(support for support in true.changes if support.voter != node.index)
        mine = Support(node.index, claim, signature)
        for new_view in self.rng.sample(
            [
                true,
                NewView(true.changes, earlier),
                NewView((*others[: node.validators.quorum - 1], mine), later),
                NewView(unlocked, None),
            ],
            2,
        ):
            yield replace(false, new_view=new_view)

    def _unproven(self, node: Node, proposal: PrePrepare) -> PrePrepare:
        """A proposal as if for good reasons: too few view changes, one several times, forged, or with a forged lock."""
        if proposal.view == 0:
            return proposal
        own = Support(
            node.index, None, self.sign(node, proposal.height, proposal.view, Phase.VIEW_CHANGE, lock_digest(None))
        )
        quorum = node.validators.quorum
        forged = tuple(replace(own, voter=voter) for voter in range(quorum))
        lock = self._certificate(node, proposal.height, 0, proposal.digest)
        locked = tuple(replace(support, lock=Lock(0, proposal.digest)) for support in forged)
        new_view = self.rng.choice(
            [
                None,
                NewView((own,), None),
                NewView((own,) * quorum, None),
                NewView(forged, None),
                NewView(locked, lock),
            ]
        )
        return replace(proposal, new_view=new_view)


class Replayer(Liar):
    """Passes honest votes off for others: of another view, phase or height, of another set, or from another chain."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._heard: deque[Message] = deque(maxlen=REMEMBERED)

    def hears(self, node: Node, message: Message) -> None:
        if isinstance(message, Vote | ViewChange | PrePrepare):
            self._heard.append(message)
        if isinstance(message, Vote) and self.rng.random() < AT_ONCE:
            # While the others still vote: as one of the other phase, and of the next view.
            phase = Phase.COMMIT if message.phase is Phase.PREPARE else Phase.PREPARE
            node.tell_all(replace(message, phase=phase))
            node.tell_all(replace(message, view=message.view + 1))

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        yield message
        for old in self.rng.sample(self._heard, min(2, len(self._heard))):
            yield self._changed(old, message.height)
        if isinstance(message, Vote):
            yield from self._foreign(node, message)

    def _changed(self, old: Message, height: int) -> Message:
        match old:
            case Vote():
                return self.rng.choice(
                    [
                        old,
                        replace(old, view=old.view + 1),
                        replace(old, view=max(old.view - 1, 0)),
                        replace(old, height=height),
                        replace(old, phase=Phase.COMMIT if old.phase is Phase.PREPARE else Phase.PREPARE),
                        replace(old, digest=bytes(32)),
                    ]
                )
            case ViewChange():
                return self.rng.choice([old, replace(old, view=old.view + 1), replace(old, height=height)])
            case _:
                return old

    def _foreign(self, node: Node, vote: Vote) -> Iterable[Vote]:
        """What others have signed with the same keys on a test chain, or in an earlier set of this one."""
        other = self.rng.randrange(node.validators.n)
        digest = self.rng.randbytes(32)
        genesis, set_id = self.rng.choice(
            [(bytes(32), node.validators.set_id), (node.ledger.genesis_hash, node.validators.set_id ^ 1)]
        )
        message = vote_message(genesis, set_id, vote.height, vote.view, vote.phase, digest)
        yield replace(vote, voter=other, digest=digest, signature=node.foreign_signature(other, message))


class InvalidProposer(Liar):
    """Proposes blocks that nobody may accept: garbage, of a wrong parent, or not those that it signs."""

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        self._true, self._false = b"", b""

    def tells(self, node: Node, receiver: Node, message: Message) -> Iterable[Message]:
        if isinstance(message, Payload):
            return (replace(message, payload=node.ledger.variant(message.payload)),)
        if not isinstance(message, PrePrepare):
            return (message,)
        if message.payload is None:
            return ()
        if self.rng.random() < SWAPPED:
            return (replace(message, payload=node.ledger.variant(message.payload)),)
        if message.digest != self._true:
            self._true, self._false = message.digest, self._spoilt(message.payload)
        payload = self._false
        try:
            digest = Block.decode(payload).hash
        except ValueError:
            digest = bytes(31) + b"\1"
        signature = self.sign(node, message.height, message.view, Phase.PREPARE, digest)
        return (replace(message, digest=digest, payload=payload, signature=signature),)

    def _spoilt(self, payload: bytes) -> bytes:
        block = Block.decode(payload)
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.rng.randbytes(100)
        if kind == 1:
            return replace(block, header=replace(block.header, parent_hash=self.rng.randbytes(32))).encode()
        if kind == 2:
            return replace(block, header=replace(block.header, state_root=self.rng.randbytes(32))).encode()
        return replace(block, extrinsics=[BYTES.encode(self.rng.randbytes(16))]).encode()


class SyncLiar(Liar):
    """Claims blocks that it does not have, and answers who wants to catch up with lies, or not at all."""

    def claims(self, node: Node) -> tuple[int, Hash]:
        height, block_hash = node.ledger.best()
        return height + self.rng.randrange(20), block_hash

    async def blocks(self, node: Node, start: int, count: int, found: list[bytes]) -> list[bytes] | None:
        kind = self.rng.randrange(5)
        if kind == 0:
            await trio.sleep(60)
            return None
        if kind == 1 or not found:
            return []
        if kind == 2:
            return [self.rng.randbytes(200)]
        if kind == 3:  # A block of its own with another's seal, or a seal of its own votes alone.
            return [self._forged(node, found[0])]
        return found[:1] * 2

    def _forged(self, node: Node, sealed: bytes) -> bytes:
        true = SealedBlock.decode(sealed)
        header = replace(true.block.header, state_root=self.rng.randbytes(32))
        block = replace(true.block, header=header)
        own = self.sign(node, header.height, true.seal.view, Phase.COMMIT, block.hash)
        seal = replace(true.seal, block_hash=block.hash, signature=self.rng.choice([true.seal.signature, own]))
        return SealedBlock(block, seal).encode()


# Only a chain with transactions has anything to leave out.
CENSORSHIP: Final = "censorship"
LIARS: Final[dict[str, type[Liar]]] = {
    "silence": Silent,
    "twins": Twin,
    "vote-dropper": VoteDropper,
    "haste": Hasty,
    "equivocation": Equivocator,
    "amnesia": Amnesiac,
    "forgery": Forger,
    "replay": Replayer,
    "invalid-proposals": InvalidProposer,
    "sync-lies": SyncLiar,
    CENSORSHIP: Censor,
}
