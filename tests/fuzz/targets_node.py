"""Fuzz targets of the node: what peers, validators, RPC clients and genesis files send it."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast

import msgpack

import genesis
from chain.blob_keeper import manifest_roots
from chain.keystore import KeyFile, KeyFileError
from chain.ledger import SEALED_BLOCK, SealedBlock
from chain.net.errors import PeerError
from chain.net.frames import FrameReader, frame
from chain.net.messages import bytes_max, pack, unpack
from chain.net.tls import identity_of
from chain.primitives import ss58
from chain.primitives.keys import Secret
from chain.primitives.scale import ScaleError
from chain.primitives.sealing import MEMORY_BYTES_MIN, Cost
from chain.rpc import protocol
from chain.rpc.errors import RpcError
from chain.rpc.link import Link, Stream, _Waiter
from chain.rpc.methods import all_methods
from chain.rpc.params import bind
from chain.rpc.protocol import Limits, Malformed
from chain.wallet_json import WalletExport
from consensus import messages as consensus
from consensus.records import RECORD
from consensus.wal import Wal, WalCorrupt, WalForeign, framed, head_of, padded
from genesis import spec
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.types import GenesisError
from tests.fuzz.samples import ODD_VALUES, as_json, changed, dense_json, dense_msgpack, mutated, pick, sample
from tests.fuzz.target import Target, scale_target, whole_target
from tests.net.kit import ALICE, BOB, certificates
from tests.net.test_wire import ONE_OF_EACH

# --- the network ---------------------------------------------------------------------------------------------------


def _frames(data: bytes) -> list[Any]:
    """All messages of a stream, which ends with one."""
    reader = FrameReader(bytes_max)
    reader.feed(data)
    found = []
    while (payload := reader.next()) is not None:
        found.append(unpack(payload))
    if reader.buffered:
        raise PeerError("more bytes are on their way")
    return found


def _dense_messages(size: int) -> Iterator[bytes]:
    for message in ONE_OF_EACH:
        prefix = pack(message)[4:6]  # The array's head and the kind.
        for value in dense_msgpack(min(size, (bytes_max(prefix[1]) or 0) - 16)):
            yield frame(prefix + value)


_CERTIFICATE, _ = certificates(ALICE, BOB)


# --- consensus -----------------------------------------------------------------------------------------------------

_IDENTITY = bytes(range(32))


def _log(data: bytes) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.wal"
        path.write_bytes(data)
        with Wal.open(path, _IDENTITY) as wal:
            return wal.records


def _some_log(rng: Random) -> bytes:
    """A log whose checksums are right, whatever its records say: what is read behind them is fuzzed too."""
    out, begun = b"", head_of(_IDENTITY)
    for _ in range(rng.randint(1, 3)):
        body = RECORD.encode(sample(RECORD, rng))
        if rng.random() < 0.3:
            body = mutated(rng, body, body)
        out, begun = out + padded(begun + framed(body)), b""
    return out


# --- RPC -----------------------------------------------------------------------------------------------------------

_METHODS = all_methods(RUNTIME).methods
_LIMITS = Limits()


def _requests(data: bytes) -> list[str]:
    """Parse a message, bind the parameters of its calls, and write every refusal, as a server does."""
    refused = []
    for entry in protocol.parse(data, _LIMITS).entries:
        if isinstance(entry, Malformed):
            error = entry.error
        else:
            method = _METHODS.get(entry.method)
            try:
                bind(getattr(method, "parameters", ()), entry.params)
                continue
            except RpcError as found:
                error = found
        text = protocol.failure(entry.id, error)
        assert len(text) < 6000, text  # The id is the client's own, 4,300 digits at most.
        assert json.loads(text)["error"]["code"] == error.code
        refused.append(text)
    return refused


def _some_request(rng: Random) -> bytes:
    values = (*ODD_VALUES, "0x" + rng.randbytes(32).hex(), "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", 7)
    name, method = pick(rng, sorted(_METHODS.items(), key=lambda item: item[0]))
    params: Any = [pick(rng, values) for _ in getattr(method, "parameters", ())]
    if rng.random() < 0.2:
        params = {parameter.name: pick(rng, values) for parameter in getattr(method, "parameters", ())}
    call = {"jsonrpc": "2.0", "id": pick(rng, (1, "a", None, 1.5)), "method": name, "params": params}
    return as_json(changed(rng, call) if rng.random() < 0.3 else pick(rng, (call, [call], [call, call])))


def _received(data: bytes) -> None:
    """What a client with one request and one subscription makes of what a node sends."""
    link = Link("ws://node", cast(Any, None))
    link._waiters[1] = _Waiter(None)
    link._streams["s"] = Stream("s")
    link._receive(data)
    assert link.lost is None


def _some_answer(rng: Random) -> bytes:
    value: Any = pick(rng, ODD_VALUES)
    messages: tuple[dict[str, Any], ...] = (
        {"jsonrpc": "2.0", "id": 1, "result": value},
        {
            "jsonrpc": "2.0",
            "id": 1,
            "error": {"code": pick(rng, (1010, *ODD_VALUES)), "message": "Invalid Transaction", "data": value},
        },
        {"jsonrpc": "2.0", "method": "chain_newHead", "params": {"subscription": "s", "result": value}},
    )
    message = pick(rng, messages)
    return as_json(changed(rng, message) if rng.random() < 0.7 else message)


# --- genesis -------------------------------------------------------------------------------------------------------

_FILE = Path(genesis.__file__).parent / "testnet.json"
_TESTNET: dict[str, Any] = json.loads(_FILE.read_text())


def _genesis_file(data: bytes) -> None:
    """Read the file and build its first state. Which Python module it names is the operator's word, not parsed here."""
    section = spec._parse(data)
    if isinstance(section, dict):
        section.pop("runtime", None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genesis.json"
        path.write_bytes(data if not isinstance(section, dict) else json.dumps(section).encode())
        found = spec.load(path)
    Executive(RUNTIME).genesis(found.genesis)


def _some_genesis(rng: Random) -> bytes:
    value = copy.deepcopy(_TESTNET)
    for _ in range(rng.randint(0, 2)):
        part = pick(rng, ("genesis", "consensus", "properties", "development", "bootnodes"))
        value[part] = changed(rng, value[part])
    return as_json(value)


def _some_manifest(rng: Random) -> bytes:
    split = {"x": rng.randbytes(32), "y": rng.randbytes(32), "count": 7}
    value = {"version": 1, "train": split, "held_out": split}
    packed: bytes = msgpack.packb(value)
    with suppress(ValueError, OverflowError):  # Msgpack has not all that JSON has.
        packed = msgpack.packb(changed(rng, value))
    return packed


# --- keys ----------------------------------------------------------------------------------------------------------

_WHEN = datetime(2026, 11, 26, tzinfo=UTC)
_KEY_FILES = [
    json.loads(KeyFile.of(Secret("//Alice"), password, created=_WHEN, cost=Cost(1, MEMORY_BYTES_MIN)).encode())
    for password in ("correct horse", None)
]
_WALLET_EXPORT = {
    "encoded": "AAAA",
    "encoding": {"content": ["pkcs8", "sr25519"], "type": ["none"], "version": "3"},
    "address": ss58.encode(ALICE.public),
    "meta": {"name": "Alice"},
}


def _some_key_file(rng: Random) -> bytes:
    value = pick(rng, _KEY_FILES)
    return (json.dumps(value if rng.random() < 0.3 else changed(rng, value), indent=1) + "\n").encode()


TARGETS = (
    Target("key-file", KeyFile.decode, (KeyFileError,), _some_key_file, KeyFile.encode),
    Target(
        "wallet-export",
        WalletExport.decode,
        (KeyFileError,),
        lambda rng: as_json(changed(rng, _WALLET_EXPORT)),
        dense=dense_json,
    ),
    Target(
        "frames",
        _frames,
        (PeerError,),
        lambda rng: b"".join(pack(pick(rng, ONE_OF_EACH)) for _ in range(rng.randint(1, 3))),
        lambda found: b"".join(map(pack, found)),
        _dense_messages,
        growth=8,
    ),
    Target("certificate", identity_of, (PeerError,), lambda _: _CERTIFICATE),
    whole_target("vote", consensus._MESSAGE, consensus.decode, (consensus.MalformedFrame,)),
    scale_target("record", RECORD),
    Target("vote-log", _log, (WalCorrupt, WalForeign), _some_log, slow=True),
    whole_target("sealed-block", SEALED_BLOCK, SealedBlock.decode, (ScaleError,)),
    Target("request", _requests, (), _some_request, dense=dense_json),
    Target("node-answer", _received, (), _some_answer, dense=dense_json),
    Target("genesis", _genesis_file, (GenesisError,), _some_genesis, dense=dense_json, slow=True),
    Target("manifest-roots", manifest_roots, (), _some_manifest, dense=lambda size: dense_msgpack(min(size, 4000))),
)
