"""The messages between nodes: one frozen dataclass each, packed as the msgpack array [kind, field…].

The rule: `unpack` accepts exactly the types, counts and sizes written here, and nothing that it returns needs a check.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import msgpack

from chain.net.errors import PeerError
from chain.net.frames import frame
from chain.primitives.blob import CHUNK_BYTES

# Raised with every change that an older release would not understand; both sides must say the same. Whatever else
# changes, a hello begins with its kind and this number, and has 512 bytes at most: so each side can tell the other why.
PROTOCOL_VERSION = 2

KIB = 1024
MIB = 1024 * KIB
# What msgpack adds around a message's bytes: the array, the kind, ids and per-item headers.
SLACK_BYTES = 16 * KIB
# A proposal carries a whole block (5 MiB at most, as in Substrate) and its proofs.
CONSENSUS_BYTES_MAX = 8 * MIB
# One block always fits; ranges are cut near BLOCKS_BYTES_WISHED so that a vote never waits long behind an answer.
BLOCKS_BYTES_MAX = 8 * MIB
BLOCKS_BYTES_WISHED = 2 * MIB
BLOCKS_COUNT_MAX = 256
TRANSACTION_BYTES_MAX = 1 * MIB
TRANSACTIONS_COUNT_MAX = 256
# A pull-repair announcement of 1,024 hashes is 34 kB.
HASHES_COUNT_MAX = 1024
# Sixteen chunks (1 MiB) an answer: few round trips, and a vote waits at most for one such frame.
CHUNKS_COUNT_MAX = 16
# A Merkle path over the largest blob is 24 hashes.
PROOF_HASHES_MAX = 24
# Session changes an answer: 25 kB each for a hundred validators.
HANDOVERS_COUNT_MAX = 16
# A header has no more than its digest items, a seal a bit for each validator.
HEADER_BYTES_MAX = 16 * KIB
SEAL_BYTES_MAX = KIB
# The proof of a handover: four paths through the tree, and the validators.
HANDOVER_NODES_MAX = 64
HANDOVER_NODE_BYTES_MAX = 32 * KIB
# A part of a state is read from the tree in some 20 ms, and checked in as many; one that is a single large value, such
# as the events of a full block, has room, too.
STATE_BYTES_WISHED = 256 * KIB
STATE_BYTES_MAX = 8 * MIB
# `merkle_chunks` counts eight bytes for a node's place, so that an answer of the wished size has no more.
STATE_NODES_MAX = 32 * 1024
# Keys of the state have 256 bytes at most.
STATE_KEY_BYTES_MAX = 256
PEERS_COUNT_MAX = 32
REASON_CHARS_MAX = 200
HOST_CHARS_MAX = 64


class Role(enum.IntEnum):
    """What a node says it is; only validators are sent consensus frames."""

    FULL = 0
    VALIDATOR = 1


class Refusal(enum.IntEnum):
    """Why a node will not talk to another."""

    PROTOCOL = 1
    GENESIS = 2
    IDENTITY = 3
    SELF = 4
    BANNED = 5
    FULL = 6
    DUPLICATE = 7
    TWIN = 8


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of both sides. `instance` is drawn at start, so that a restart is told from a duplicate.

    `lowest` is the lowest height from which on the sender has every block.
    """

    protocol: int
    genesis_hash: bytes
    height: int
    block_hash: bytes
    lowest: int
    role: Role
    listen_port: int
    instance: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The last message before a node hangs up on purpose."""

    code: Refusal
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a `Pong` with the same nonce."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a `Ping`."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Consensus:
    """A frame of the consensus gadget, opaque to the network."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Transactions:
    """Extrinsics as encoded, pushed or asked for."""

    transactions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HaveTransactions:
    """Hashes of transactions that the sender can give (pull repair)."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WantTransactions:
    """Asks for the transactions with these hashes."""

    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The sender's best sealed block."""

    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class GetBlocks:
    """Asks for up to `count` sealed blocks from height `start` upwards."""

    request: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Sealed blocks in height order, fewer than asked for when the sender has or sends fewer."""

    request: int
    blocks: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetChunks:
    """Asks for `count` chunks of a blob from `index` on."""

    request: int
    root: bytes
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks with their Merkle paths; none at all when the sender lacks the blob."""

    request: int
    total_length: int
    chunks: tuple[tuple[bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True)
class GetHandovers:
    """Asks for the last blocks of up to `count` validator sets from number `set_id` on."""

    request: int
    set_id: int
    count: int


@dataclass(frozen=True, slots=True)
class Handovers:
    """Of sets in the order of their numbers: header, seal, and the proof of who came next. None of a set that decides
    still."""

    request: int
    handovers: tuple[tuple[bytes, bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True)
class GetState:
    """Asks for a part of the state after a block: what comes after the key `after`, or, if that is empty, the first."""

    request: int
    block_hash: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class StateNodes:
    """Nodes of the state tree, as `chain.primitives.merkle_chunks` has them; none when the sender lacks that state.

    `keys` is how many keys its newest state has: an estimate of what there is to fetch, and nothing depends on it.
    """

    request: int
    keys: int
    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Peers:
    """Nodes that the sender is connected to: (identity, host as the sender sees it, listening port)."""

    peers: tuple[tuple[bytes, str, int], ...]


Message = (
    Hello
    | Refused
    | Ping
    | Pong
    | Consensus
    | Transactions
    | HaveTransactions
    | WantTransactions
    | Status
    | GetBlocks
    | Blocks
    | GetChunks
    | Chunks
    | Peers
    | GetHandovers
    | Handovers
    | GetState
    | StateNodes
)
Request = GetBlocks | GetChunks | GetHandovers | GetState
Answer = Blocks | Chunks | Handovers | StateNodes
ANSWERS: dict[type[Request], type[Answer]] = {
    GetBlocks: Blocks,
    GetChunks: Chunks,
    GetHandovers: Handovers,
    GetState: StateNodes,
}


class _Payload:
    """A payload that is read value by value, each in its shortest form.

    Nothing is built that a field has no place for: a frame of empty lists, decoded first and checked then, took eighty
    times its eight megabytes and seconds of the event loop.
    """

    __slots__ = ("_data", "_unpacker")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._unpacker = msgpack.Unpacker(
            raw=False, max_buffer_size=len(data), max_array_len=0, max_map_len=0, max_ext_len=0
        )
        self._unpacker.feed(data)

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return int(self._unpacker.tell())

    def scalar(self) -> Any:
        """Whatever is no container."""
        start = self.position
        value = self._unpacker.unpack()
        size = self.position - start
        match value:
            case int():  # Signed and unsigned forms are of the same sizes.
                is_shortest = msgpack.packb(value) == self._data[start : start + size]
            case bytes():
                is_shortest = size - len(value) == (2 if len(value) < 1 << 8 else 3 if len(value) < 1 << 16 else 5)
            case str():
                length = len(value.encode())
                head = 1 if length < 1 << 5 else 2 if length < 1 << 8 else 3 if length < 1 << 16 else 5
                is_shortest = size - length == head
            case _:
                is_shortest = True
        if not is_shortest:
            raise PeerError(f"expected the shortest form, got {_shown(value)} in {size} bytes")
        return value

    def count(self, low: int, high: int) -> int:
        """How many items the list has that begins here."""
        start = self.position
        count: int = self._unpacker.read_array_header()
        size = self.position - start
        if not low <= count <= high or size != (1 if count < 16 else 3):
            raise PeerError(f"expected a list of {low} to {high} items, got one of {count} with a head of {size} bytes")
        return count


_Read = Callable[[_Payload], Any]
_E = TypeVar("_E", bound=enum.IntEnum)


def _between(low: int, high: int) -> _Read:
    def read(payload: _Payload) -> int:
        value = payload.scalar()
        if type(value) is not int or not low <= value <= high:
            raise PeerError(f"expected an integer from {low} to {high}, got {_shown(value)}")
        return value

    return read


def _bytes(low: int, high: int) -> _Read:
    def read(payload: _Payload) -> bytes:
        value = payload.scalar()
        if type(value) is not bytes or not low <= len(value) <= high:
            raise PeerError(f"expected {low} to {high} bytes, got {_shown(value)}")
        return value

    return read


def _text(chars_max: int) -> _Read:
    def read(payload: _Payload) -> str:
        value = payload.scalar()
        if type(value) is not str or len(value) > chars_max or not value.isprintable():
            raise PeerError(f"expected a printable text of at most {chars_max} characters, got {_shown(value)}")
        return value

    return read


def _one_of(kind: type[_E]) -> _Read:
    def read(payload: _Payload) -> _E:
        value = payload.scalar()
        if type(value) is not int or value not in kind.__members__.values():
            raise PeerError(f"expected a {kind.__name__}, got {_shown(value)}")
        return kind(value)

    return read


def _many(read_item: _Read, low: int, high: int) -> _Read:
    def read(payload: _Payload) -> tuple[Any, ...]:
        return tuple([read_item(payload) for _ in range(payload.count(low, high))])

    return read


def _all(*reads: _Read) -> _Read:
    def read(payload: _Payload) -> tuple[Any, ...]:
        payload.count(len(reads), len(reads))
        return tuple([read_item(payload) for read_item in reads])

    return read


def _shown(value: Any) -> str:
    match value:
        case bytes() | str():
            return f"{type(value).__name__} of {len(value)}"
        case int():
            return f"{type(value).__name__} of {value.bit_length()} bits"
        case _:
            return type(value).__name__


@dataclass(frozen=True, slots=True)
class _Kind:
    number: int
    type: type[Any]
    bytes_max: int
    names: tuple[str, ...]
    fields: _Read


def _kind(number: int, message: type[Any], bytes_max: int, *reads: _Read) -> _Kind:
    names = tuple(field.name for field in fields(message))
    if len(names) != len(reads):
        raise TypeError(f"{message.__name__} has {len(names)} fields, got {len(reads)} ways to read them")
    return _Kind(number, message, bytes_max, names, _all(_between(number, number), *reads))


_HASH = _bytes(32, 32)
_U16, _U32, _U64 = (_between(0, (1 << bits) - 1) for bits in (16, 32, 64))
_PORT = _between(1, 65535)
_HELLO = _between(0, 0)

_KINDS = (
    _kind(0, Hello, 512, _U32, _HASH, _U32, _HASH, _U32, _one_of(Role), _U16, _U64),
    _kind(1, Refused, KIB, _one_of(Refusal), _text(REASON_CHARS_MAX)),
    _kind(2, Ping, 32, _U64),
    _kind(3, Pong, 32, _U64),
    _kind(4, Consensus, CONSENSUS_BYTES_MAX + SLACK_BYTES, _bytes(1, CONSENSUS_BYTES_MAX)),
    _kind(
        5,
        Transactions,
        2 * TRANSACTION_BYTES_MAX + SLACK_BYTES,
        _many(_bytes(1, TRANSACTION_BYTES_MAX), 1, TRANSACTIONS_COUNT_MAX),
    ),
    _kind(6, HaveTransactions, HASHES_COUNT_MAX * 34 + 64, _many(_HASH, 1, HASHES_COUNT_MAX)),
    _kind(7, WantTransactions, TRANSACTIONS_COUNT_MAX * 34 + 64, _many(_HASH, 1, TRANSACTIONS_COUNT_MAX)),
    _kind(8, Status, 64, _U32, _HASH),
    _kind(9, GetBlocks, 64, _U32, _U32, _between(1, BLOCKS_COUNT_MAX)),
    _kind(10, Blocks, BLOCKS_BYTES_MAX + SLACK_BYTES, _U32, _many(_bytes(1, BLOCKS_BYTES_MAX), 0, BLOCKS_COUNT_MAX)),
    _kind(11, GetChunks, 96, _U32, _HASH, _U32, _between(1, CHUNKS_COUNT_MAX)),
    _kind(
        12,
        Chunks,
        CHUNKS_COUNT_MAX * (CHUNK_BYTES + PROOF_HASHES_MAX * 34) + SLACK_BYTES,
        _U32,
        _U64,
        _many(_all(_bytes(0, CHUNK_BYTES), _many(_HASH, 0, PROOF_HASHES_MAX)), 0, CHUNKS_COUNT_MAX),
    ),
    _kind(13, Peers, 8 * KIB, _many(_all(_HASH, _text(HOST_CHARS_MAX), _PORT), 0, PEERS_COUNT_MAX)),
    _kind(14, GetHandovers, 64, _U32, _U32, _between(1, HANDOVERS_COUNT_MAX)),
    _kind(
        15,
        Handovers,
        2 * MIB,
        _U32,
        _many(
            _all(
                _bytes(1, HEADER_BYTES_MAX),
                _bytes(1, SEAL_BYTES_MAX),
                _many(_bytes(1, HANDOVER_NODE_BYTES_MAX), 1, HANDOVER_NODES_MAX),
            ),
            0,
            HANDOVERS_COUNT_MAX,
        ),
    ),
    _kind(16, GetState, 64 + STATE_KEY_BYTES_MAX, _U32, _HASH, _bytes(0, STATE_KEY_BYTES_MAX)),
    _kind(
        17,
        StateNodes,
        # Each node has a head of one to five bytes.
        STATE_BYTES_MAX + 5 * STATE_NODES_MAX + SLACK_BYTES,
        _U32,
        _U64,
        _many(_bytes(1, STATE_BYTES_MAX), 0, STATE_NODES_MAX),
    ),
)
_BY_NUMBER = {kind.number: kind for kind in _KINDS}
_BY_TYPE = {kind.type: kind for kind in _KINDS}
KIND_NAMES = {kind.number: kind.type.__name__.lower() for kind in _KINDS}
_BOUNDS = {kind.number: kind.bytes_max for kind in _KINDS}
# Before both hellos were accepted nothing else may come, so that a stranger can make us hold at most a kilobyte.
_HANDSHAKE_BOUNDS = {number: _BOUNDS[number] for number in (0, 1)}


def bytes_max(kind: int) -> int | None:
    """The largest payload of this kind, None when there is no such kind."""
    return _BOUNDS.get(kind)


def handshake_bytes_max(kind: int) -> int | None:
    """As `bytes_max`, of the kinds that a connection opens with."""
    return _HANDSHAKE_BOUNDS.get(kind)


def pack(message: Message) -> bytes:
    """The message as one whole frame, length included."""
    kind = _BY_TYPE[type(message)]
    payload: bytes = msgpack.packb([kind.number, *[getattr(message, name) for name in kind.names]])
    if len(payload) > kind.bytes_max:
        raise ValueError(f"{kind.type.__name__} of {len(payload)} bytes exceeds the bound of {kind.bytes_max}")
    return frame(payload)


def hello_version(payload: bytes) -> int | None:
    """The protocol version in a hello, also in one of which this version knows no more; None in anything else."""
    read = _Payload(payload)
    try:
        read.count(2, 15)
        _HELLO(read)
        version: int = _U32(read)
    except (PeerError, ValueError, msgpack.UnpackException):
        return None
    return version


def unpack(payload: bytes) -> Message:
    """The message of a payload; `PeerError` when it is not exactly one well-formed message, as `pack` writes it."""
    kind = _BY_NUMBER.get(payload[1]) if len(payload) >= 2 else None
    if kind is None or len(payload) > kind.bytes_max:
        raise PeerError(f"a payload of {len(payload)} bytes is no message")
    read = _Payload(payload)
    try:
        _, *values = kind.fields(read)
    except (ValueError, msgpack.UnpackException) as error:
        raise PeerError(f"malformed msgpack: {type(error).__name__}") from error
    if read.position != len(payload):
        raise PeerError(f"a {kind.type.__name__} ends at byte {read.position}, got {len(payload)} bytes")
    message: Message = kind.type(*values)
    return message
