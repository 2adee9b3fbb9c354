"""Blocks as explorers show them: extrinsics decoded, each with its outcome and its events. For the reading threads.

Rule: a block is decoded once, however many pages show it, and what is kept of blocks is bounded in bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from chain.ledger import StatePruned
from chain.primitives import ss58
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import compact_decode
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.types import Block, Extrinsic, Header, Id, decode_extrinsic, is_signed
from chain.rpc.context import Context, hexed
from chain.rpc.protocol import Encoded, encode
from chain.rpc.readable import Reader
from runtime.modules.system import System
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import Validators
from runtime.types import ApplyExtrinsic, EventRecord, Initialization

# A screen of them; a full block has four thousand. The others are counted.
EXTRINSICS_TOLD_MAX: Final = 100
# Of a block, in the order in which they came: decoding them takes some ten milliseconds of a thread.
EVENTS_READ_MAX: Final = 2000
EVENTS_OF_EXTRINSIC_MAX: Final = 64
EVENTS_OF_HOOKS_MAX: Final = 100
# As JSON text. A quiet block takes 5 kB, a full one some 200 kB: the states that a node keeps by default, and more.
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
NO_EVENTS: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Piece:
    """An extrinsic, or an event of the block's own, as JSON; `accounts` are those that it names."""

    text: Encoded
    accounts: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class ToldBlock:
    """A block: `head` is the JSON object of all but its parts."""

    height: int
    hash: Hash
    timestamp_ms: int | None
    read_bytes: int  # of its extrinsics, told and not
    head: dict[str, Any]
    extrinsics: tuple[Piece, ...]
    hooks: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """About what it takes in memory."""
        pieces = (*self.extrinsics, *self.hooks)
        return 2000 + sum(len(piece.text) + 100 * (1 + len(piece.accounts)) for piece in pieces)

    def text(self) -> Encoded:
        """The whole of it as a JSON object."""
        extrinsics = list_text(piece.text for piece in self.extrinsics)
        hooks = list_text(piece.text for piece in self.hooks)
        return Encoded(f'{encode(self.head)[:-1]},"extrinsics":{extrinsics},"hooks":{hooks}}}')


class ToldBlocks:
    """What was told of blocks before, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hash, ToldBlock] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def at(self, context: Context, height: int) -> ToldBlock | None:
        """The block of a height; None where this node's chain has none."""
        block_hash = context.backend.ledger.hash_at(height)
        return None if block_hash is None else self.of(context, block_hash)

    def of(self, context: Context, block_hash: Hash) -> ToldBlock | None:
        """The block of a hash."""
        with self._lock:
            found = self._kept.get(block_hash)
            if found is not None:
                self._kept.move_to_end(block_hash)
                return found
        block = context.backend.ledger.block(block_hash)
        if block is None:
            return None
        told = _tell(context, block)
        with self._lock:  # A race only tells it twice.
            if block_hash not in self._kept:
                self._kept[block_hash] = told
                self._bytes += told.size
            while self._bytes > KEPT_BYTES_MAX:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= gone.size
        return told


def _tell(context: Context, block: Block) -> ToldBlock:
    prefix = ss58_prefix(context)
    events, are_all = _events_of(context, block)
    by_extrinsic: dict[int, list[object]] = {}
    hooks: list[Piece] = []
    for record in events or ():
        if isinstance(record.phase, ApplyExtrinsic):
            by_extrinsic.setdefault(record.phase.index, []).append(record.event)
        elif len(hooks) < EVENTS_OF_HOOKS_MAX:
            hooks.append(_hook(context, prefix, record))
    extrinsics: list[Piece] = []
    timestamp, parent_seal = None, None
    for index, raw in enumerate(block.extrinsics[:EXTRINSICS_TOLD_MAX]):
        decoded = decode_extrinsic(raw, context.runtime.call_codec)
        if decoded.call.path == "timestamp.set":
            timestamp = int(decoded.call.args[0])
        elif decoded.call.path == "validators.note_seal":
            parent_seal = decoded.call.args[0]
        extrinsics.append(_extrinsic(context, prefix, index, raw, decoded, by_extrinsic.get(index, ())))
    header, seal = block.header, context.backend.ledger.seal(block.hash)
    size = sum(map(len, block.extrinsics))
    head = {
        "height": header.height,
        "hash": hexed(block.hash),
        "parentHash": hexed(header.parent_hash),
        "stateRoot": hexed(header.state_root),
        "extrinsicsRoot": hexed(header.extrinsics_root),
        "timestamp": timestamp,
        "view": None if seal is None else header.consensus.view,
        "author": None if seal is None else _author(context, prefix, header, seal),
        "bytes": size,
        "extrinsicCount": len(block.extrinsics),
        "transactionCount": sum(map(is_signed, block.extrinsics)),
        "parentSeal": None if parent_seal is None else _participation(context, prefix, parent_seal),
        # False: the state with the events is pruned here, or there were more than a page shows.
        "eventsKept": events is not None,
        "eventsComplete": are_all,
    }
    return ToldBlock(header.height, block.hash, timestamp, size, head, tuple(extrinsics), tuple(hooks))


def ss58_prefix(context: Context) -> int:
    """How addresses of this chain begin."""
    prefix = context.backend.properties["ss58Format"]
    assert isinstance(prefix, int)
    return prefix


def _events_of(context: Context, block: Block) -> tuple[list[EventRecord] | None, bool]:
    """The events of a block, and whether that is all of them; None where its state is pruned."""
    try:
        with context.backend.ledger.state(block.hash) as state:
            raw = state.get(context.runtime.at(state).module(System).events.key) or NO_EVENTS
    except StatePruned:
        return None, False
    count, offset = compact_decode(raw, 0)
    found = []
    for _ in range(min(count, EVENTS_READ_MAX)):
        record, offset = context.runtime.event_record_codec.decode_at(raw, offset)
        found.append(record)
    return found, count <= EVENTS_READ_MAX


def recorded_set(context: Context, set_id: int) -> ValidatorSet | None:
    """A validator set by its number, for as long as its votes can be held against it."""
    with context.backend.ledger.state() as state:
        try:
            return context.runtime.at(state).module(Validators).recorded_set(set_id)
        except KeyError:
            return None


def _author(context: Context, prefix: int, header: Header, seal: Seal) -> str | None:
    deciding = recorded_set(context, seal.set_id)
    if deciding is None:
        return None
    return ss58.encode(deciding.primary(header.height, header.consensus.view).account, prefix)


def _participation(context: Context, prefix: int, seal: Seal) -> dict[str, Any]:
    """Who has helped to seal the parent, with the votes that came late, and who has not."""
    validators = recorded_set(context, seal.set_id)
    voters = missing = None
    if validators is not None:
        voted = set(seal.voter_indices(validators.n))
        names = [ss58.encode(each.account, prefix) for each in validators.authorities]
        voters = [name for index, name in enumerate(names) if index in voted]
        missing = [name for index, name in enumerate(names) if index not in voted]
    return {"view": seal.view, "setId": seal.set_id, "voters": voters, "missing": missing}


def _extrinsic(
    context: Context, prefix: int, index: int, raw: bytes, extrinsic: Extrinsic, events: Sequence[object]
) -> Piece:
    reader = Reader(prefix)
    signed = extrinsic.signature
    fee, fault, ended = None, None, False
    for event in events:
        match event:
            case TransactionPayment.TransactionFeePaid(_, paid, _):
                fee = str(paid)
            case System.ExtrinsicSuccess():
                ended = True
            case System.ExtrinsicFailed(dispatch_error=error):
                ended, fault = True, context.runtime.explain(error)
    told = {
        "index": index,
        "hash": hexed(blake2_256(raw)),
        "bytes": len(raw),
        "signer": reader.account(signed.address.account) if signed and isinstance(signed.address, Id) else None,
        "nonce": signed.nonce if signed else None,
        "tip": str(signed.tip) if signed else None,
        **reader.call(extrinsic.call),
        "fee": fee,
        # None where the events that say so are not here.
        "ok": fault is None if ended else None,
        "error": fault,
        "events": [event_json(context, reader, event) for event in events[:EVENTS_OF_EXTRINSIC_MAX]],
    }
    return Piece(Encoded(encode(told)), frozenset(reader.accounts))


def _hook(context: Context, prefix: int, record: EventRecord) -> Piece:
    reader = Reader(prefix)
    when = "initialization" if isinstance(record.phase, Initialization) else "finalization"
    told = {"phase": when, **event_json(context, reader, record.event)}
    return Piece(Encoded(encode(told)), frozenset(reader.accounts))


def event_json(context: Context, reader: Reader, event: object) -> dict[str, Any]:
    """An event by its module and name, with its fields."""
    info = context.runtime.event_codec.info_of(event)
    values = tuple(getattr(event, name) for name, _ in info.codec.fields)
    return {"event": f"{info.module.attribute}.{info.name}", "data": reader.fields(info.codec.fields, values)}


def list_text(texts: Iterable[str]) -> Encoded:
    """JSON texts as a JSON list."""
    return Encoded(f"[{','.join(texts)}]")
