"""The wallet's codec, which knows a chain by its metadata alone, against the runtime's own types."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chain.cli_wallet import words_of
from chain.display import Token
from chain.primitives.keys import Scheme
from chain.primitives.scale import ScaleError
from chain.wallet.codec import VALUES_MAX, Codec, WordError
from chain.wallet.metadata import Item, Metadata, MetadataError
from chain.wallet.node import for_people, storage_key
from genesis.spec import load
from runtime.composition import Runtime
from runtime.metadata_types import Composite, Field, FixedArray, TupleOf, Type
from runtime.potchain import RUNTIME
from runtime.storage import StorageInfo
from runtime.testing import ALICE
from tests.fuzz.samples import calls_of, sample

SAMPLES = 6
NAMES_CHAIN = Path(__file__).parent.parent / "third_party" / "genesis.json"
WORDS = words_of(Scheme.ED25519, Token("POT", 12), 42)
CODECS = {version: Codec(Metadata.parse(RUNTIME.metadata(version)), WORDS) for version in (14, 15)}
CODEC = CODECS[15]
PEOPLE = for_people(CODEC, Token("POT", 12))
ITEMS = {f"{module.name}.{item.name}": item for module in RUNTIME.modules for item in module.storage.values()}


def as_json(value: Any) -> Any:
    """What a program gets that reads what `--json` prints."""
    return json.loads(json.dumps(value))


def encodings(codec: Any, seed: str) -> list[bytes]:
    """Some values of a runtime's type, encoded by it."""
    rng = Random(seed)
    found: list[bytes] = []
    while len(found) < SAMPLES:
        try:
            found.append(codec.encode(sample(codec, rng)))
        except ScaleError:  # A field that its class refuses.
            continue
    return found


@pytest.mark.parametrize("version", CODECS)
@pytest.mark.parametrize("call", calls_of(RUNTIME.call_codec), ids=lambda call: call.path)
def test_what_the_runtime_makes_of_a_call_is_read_and_written_by_metadata_alone(call: Any, version: int) -> None:
    codec = CODECS[version]
    for seed in range(SAMPLES):
        rng = Random(f"{call.path} {seed}")
        try:
            made = call.bind(tuple(sample(inner, rng) for _, inner in call.arguments))
            raw = made.encode()
        except ScaleError:
            continue
        shown = codec.decode(codec.metadata.call_type, raw)
        assert list(shown) == [call.path]
        assert list(shown[call.path] or ()) == [name.rstrip("_") for name, _ in call.arguments]
        assert codec.encode(codec.metadata.call_type, as_json(shown)) == raw
        assert RUNTIME.call_codec.decode(codec.encode(codec.metadata.call_type, shown)) == made


@pytest.mark.parametrize("version", CODECS)
@pytest.mark.parametrize("name", ITEMS)
def test_what_the_runtime_stores_is_read_by_metadata_alone(name: str, version: int) -> None:
    codec, info = CODECS[version], ITEMS[name]
    _, item = codec.metadata.item(*name.split("."))
    assert isinstance(item, Item)
    for raw in encodings(info.value, name):
        assert codec.encode(item.value, as_json(codec.decode(item.value, raw))) == raw
    assert item.entry.default == info.default_bytes
    for number, key in zip(item.keys, info.keys, strict=True):
        for raw in encodings(key, f"{name} key"):
            assert codec.encode(number, as_json(codec.decode(number, raw))) == raw


@pytest.mark.parametrize("name", [name for name, info in ITEMS.items() if info.keys])
def test_storage_keys_are_those_of_the_runtime(name: str) -> None:
    info: StorageInfo = ITEMS[name]
    _, item = CODEC.metadata.item(*name.split("."))
    assert isinstance(item, Item)
    keys = tuple(sample(codec, Random(name)) for codec in info.keys)
    encoded = [codec.encode(key) for codec, key in zip(info.keys, keys, strict=True)]
    module = next(module for module in RUNTIME.modules if module.name == item.module)
    accessor = getattr(RUNTIME.at(_Nothing()).module(module.cls), info.attribute)
    assert storage_key(item, encoded) == accessor.key(keys if len(keys) > 1 else keys[0])
    assert storage_key(item, []) == info.prefix


class _Nothing:
    """A state that is empty."""

    def get(self, key: bytes) -> None:
        return None

    def keys(self, prefix: bytes, after: bytes | None = None) -> Any:
        return iter(())


@pytest.mark.parametrize("name", ["System.Events", "Training.Tasks", "Validators.Closing", "Multisig.Multisigs"])
def test_bytes_that_are_damaged_are_refused_or_read_as_what_they_are(name: str) -> None:
    """Every byte string has at most one value: the decoder is as strict as the runtime's own."""
    info = ITEMS[name]
    _, item = CODEC.metadata.item(*name.split("."))
    assert isinstance(item, Item)
    rng, refused = Random(name), 0
    for raw in encodings(info.value, name):
        for _ in range(10):
            damaged = bytearray(raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.3 else raw)
            if damaged:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            try:
                value = CODEC.decode(item.value, bytes(damaged))
            except ScaleError:
                refused += 1
                with pytest.raises(ScaleError):
                    info.value.decode(bytes(damaged))
            else:
                assert CODEC.encode(item.value, value) == bytes(damaged)
    assert refused


def test_amounts_are_shown_to_people_with_their_unit_and_read_back() -> None:
    raw = RUNTIME.encode_call(RUNTIME.call("balances.burn", value=1_500 * 10**12 + 5, keep_alive=True))
    shown = PEOPLE.decode(CODEC.metadata.call_type, raw)
    assert shown == {"balances.burn": {"value": "1,500.000000000005 POT", "keep_alive": True}}
    assert PEOPLE.encode(CODEC.metadata.call_type, shown) == raw


def hostile(*definitions: Any) -> Codec:
    """A codec of a metadata that has these types alone."""
    types = {number: Type((), (), definition, ()) for number, definition in enumerate(definitions)}
    return Codec(replace(CODEC.metadata, types=types, call_type=-1, event_type=-1), WORDS)


def test_types_that_never_end_are_refused_and_take_no_time() -> None:
    endless = hostile(Composite((Field(None, 0, None),)))
    doubling = hostile(*(TupleOf((number + 1, number + 1)) for number in range(60)), TupleOf(()))
    many = hostile(FixedArray(2**32 - 1, 1), TupleOf(()))
    with pytest.raises(ScaleError, match="nested at most 192 deep"):
        endless.decode(0, b"")
    with pytest.raises(WordError, match="nested at most 192 deep"):
        endless.encode(0, 7)
    for codec in (doubling, many):
        with pytest.raises(ScaleError, match=f"at most {VALUES_MAX} values"):
            codec.decode(0, b"")
    with pytest.raises(MetadataError, match="mentions type 9"):
        hostile(TupleOf((9,))).decode(0, b"")


@pytest.mark.parametrize("version", CODECS)
def test_metadata_that_is_damaged_is_refused_or_read(version: int) -> None:
    raw, rng, refused = RUNTIME.metadata(version), Random(version), 0
    for _ in range(25):
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        try:
            Metadata.parse(bytes(damaged[: rng.choice((len(raw), rng.randrange(len(raw))))]))
        except MetadataError:
            refused += 1
    assert refused > 10
    for other in (b"", b"meta", b"meta\x0d", b"meta\x0e", raw + b"\0", b"\0" * (1 << 22)):
        with pytest.raises(MetadataError):
            Metadata.parse(other)


def test_a_chain_of_other_modules_is_known_by_its_metadata() -> None:
    other: Runtime[Any] = load(NAMES_CHAIN).runtime
    codec = Codec(Metadata.parse(other.metadata(15)), WORDS)
    raw = other.encode_call(other.call("names.give", name=b"bob", to=ALICE.public))
    address = WORDS.address(ALICE.public)
    assert codec.decode(codec.metadata.call_type, raw) == {"names.give": {"name": "0x626f62", "to": address}}
    assert codec.encode(codec.metadata.call_type, {"names.give": {"name": "bob", "to": address}}) == raw
