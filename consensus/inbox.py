"""What waits for the gadget: its own events first, then peers' messages in turn, each peer within its own bounds."""

from collections import deque
from collections.abc import Callable
from typing import Final

from consensus.events import Event
from consensus.messages import FRAME_BYTES_MAX, Message, PrePrepare

# A height takes three messages from a peer; this is enough for one that falls behind by many, and for resends.
MESSAGES_PER_PEER_MAX: Final = 64
BYTES_PER_PEER_MAX: Final = 2 * FRAME_BYTES_MAX
# Validators and some that are not; the network bounds its connections well below.
PEERS_MAX: Final = 2048
# One message in so many is of whoever waits longest, since a validator that has just connected is a stranger, too.
STRANGERS_EVERY: Final = 4
# A peer that is a block ahead has cast its votes of one view, or of two.
EARLY_PER_PEER_MAX: Final = 8


class Imported:
    """The ledger has taken the block at `height` from elsewhere."""

    __slots__ = ("height",)

    def __init__(self, height: int) -> None:
        self.height = height


Received = tuple[bytes, Message]


class Inbox:
    """A bounded queue with one reader. What does not fit is dropped: whoever sent it will send it again."""

    def __init__(self) -> None:
        self._own: deque[Event | Imported] = deque()  # Bounded by what one height can have in flight.
        self._peers: dict[bytes, deque[tuple[Message, int]]] = {}  # The next to be served comes first.
        self._bytes: dict[bytes, int] = {}
        self._early: dict[bytes, list[Message]] = {}
        self._pops = 0
        self.dropped = 0  # messages of peers for which there was no room

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._own or self._peers)

    def push(self, event: Event | Imported) -> None:
        """Add something that this node itself found out."""
        self._own.append(event)

    def put(self, peer: bytes, message: Message, size: int) -> None:
        """Add a peer's message of `size` bytes, or drop it."""
        queue = self._peers.get(peer, ())
        has_place = bool(queue) or len(self._peers) < PEERS_MAX
        has_room = len(queue) < MESSAGES_PER_PEER_MAX and self._bytes.get(peer, 0) + size <= BYTES_PER_PEER_MAX
        if not (has_place and has_room):
            self.dropped += 1
            return
        self._peers.setdefault(peer, deque()).append((message, size))
        self._bytes[peer] = self._bytes.get(peer, 0) + size

    def pop(self, is_known: Callable[[bytes], bool] = lambda _: False) -> Event | Imported | Received | None:
        """Take the next thing to do out, if there is one: of peers, those known to be validators' before strangers."""
        if self._own:
            return self._own.popleft()
        if not self._peers:
            return None
        self._pops += 1
        strangers_turn = self._pops % STRANGERS_EVERY == 0
        first = next(iter(self._peers))
        peer = first if strangers_turn else next((peer for peer in self._peers if is_known(peer)), first)
        queue = self._peers.pop(peer)
        message, size = queue.popleft()
        if queue:  # To the end of the line.
            self._peers[peer] = queue
            self._bytes[peer] -= size
        else:
            del self._bytes[peer]
        return peer, message

    def hold(self, peer: bytes, message: Message) -> None:
        """Keep a message of the next height until it begins; of proposals only the first."""
        held = self._early.setdefault(peer, [])
        if len(self._early) > PEERS_MAX or len(held) >= EARLY_PER_PEER_MAX:
            return
        if isinstance(message, PrePrepare) and any(isinstance(other, PrePrepare) for other in held):
            return
        held.append(message)

    def release(self) -> None:
        """Queue what was held: its height begins, or is over and the reader drops it."""
        for peer, messages in self._early.items():
            for message in messages:
                self.put(peer, message, 0)
        self._early = {}
