"""Metadata is what clients read the chain by: theirs agree with ours on every byte, and its schema is pinned.

After a deliberate change of the schema: `python -m tests.runtime.test_metadata --rewrite`, then explain every line of
the diff. A call, event or error never changes its index, and a storage item never its key.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from chain.primitives import scale, ss58
from chain.primitives.keys import Keypair, verify
from chain.primitives.scale import Codec, Newtype, Vec
from chain.primitives.types import (
    ConsensusDigest,
    Digest,
    Mortal,
    decode_extrinsic,
    scheme_of,
    signing_payload,
)
from runtime.api import ANSWERS
from runtime.faults import OK, DispatchFailed, FaultModule, FaultToken, ModuleError, TokenFault
from runtime.metadata import EXTENSIONS, build
from runtime.metadata_registry import Registry
from runtime.metadata_types import (
    MAGIC,
    CompactOf,
    Composite,
    Field,
    FixedArray,
    Map,
    MetadataV14,
    MetadataV15,
    PalletV15,
    Primitive,
    Sequence,
    TupleOf,
    Type,
    Variants,
)
from runtime.modules.balances import Balances
from runtime.modules.sudo import Sudo
from runtime.modules.utility import Utility
from runtime.potchain import RUNTIME
from runtime.types import AccountData, AccountInfo, ApplyExtrinsic, EventRecord

GOLDEN = Path(__file__).parent / "schema.golden"
ALICE = Keypair.from_uri("//Alice")
BOB = Keypair.from_uri("//Bob")

# The names and paths under which clients look types up.
SUBSTRATE_PATHS = {
    "frame_system::AccountInfo",
    "frame_system::EventRecord",
    "frame_system::Phase",
    "frame_support::dispatch::DispatchInfo",
    "frame_support::dispatch::DispatchClass",
    "frame_support::dispatch::Pays",
    "pallet_balances::types::AccountData",
    "pallet_transaction_payment::ChargeTransactionPayment",
    "primitive_types::H256",
    "sp_core::crypto::AccountId32",
    "sp_runtime::DispatchError",
    "sp_runtime::ModuleError",
    "sp_runtime::MultiSignature",
    "sp_runtime::generic::era::Era",
    "sp_runtime::generic::unchecked_extrinsic::UncheckedExtrinsic",
    "sp_runtime::multiaddress::MultiAddress",
    "sp_version::RuntimeVersion",
    "sp_weights::weight_v2::Weight",
}


def v14() -> MetadataV14:
    return scale.decode(MetadataV14, build(RUNTIME, 14)[5:])


def v15() -> MetadataV15:
    return scale.decode(MetadataV15, build(RUNTIME, 15)[5:])


class Client:
    """A client that knows the chain by its metadata V14 alone, as py-substrate-interface does."""

    def __init__(self) -> None:
        base = pytest.importorskip("scalecodec.base")
        presets = pytest.importorskip("scalecodec.type_registry")
        self._bytes = base.ScaleBytes
        self.config = base.RuntimeConfigurationObject(ss58_format=42, implements_scale_info=True)
        self.config.update_type_registry(presets.load_type_registry_preset("core"))
        self.metadata = self.config.create_scale_object("MetadataVersioned", self._bytes(build(RUNTIME, 14)))
        self.metadata.decode()
        self.config.add_portable_registry(self.metadata)

    def storage(self, module: str, item: str, data: bytes) -> Any:
        function = self.metadata.get_metadata_pallet(module).get_storage_function(item)
        return self.decode(function.get_value_type_string(), data)

    def decode(self, type_string: str, data: bytes) -> Any:
        return self.config.create_scale_object(type_string, self._bytes(data), metadata=self.metadata).decode()

    def encode(self, type_string: str, value: Any) -> bytes:
        made = self.config.create_scale_object(type_string, metadata=self.metadata)
        made.encode(value)
        return bytes(made.data.data)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.mark.parametrize("version", [14, 15])
def test_metadata_is_its_own_canonical_encoding(version: int) -> None:
    encoded = build(RUNTIME, version)
    assert encoded[:5] == MAGIC + bytes((version,))
    layout = {14: MetadataV14, 15: MetadataV15}[version]
    assert scale.encode(layout, scale.decode(layout, encoded[5:])) == encoded[5:]
    assert RUNTIME.metadata(version) == encoded
    with pytest.raises(ValueError, match="got 13"):
        build(RUNTIME, 13)


@pytest.mark.parametrize("metadata", [v14(), v15()], ids=["v14", "v15"])
def test_every_type_is_described_once_and_every_mention_has_a_description(metadata: MetadataV14 | MetadataV15) -> None:
    assert [entry.number for entry in metadata.types] == list(range(len(metadata.types)))
    for number in mentions(metadata):
        assert number < len(metadata.types)
    described = ["::".join(entry.type.path) for entry in metadata.types]
    assert set(described) >= SUBSTRATE_PATHS
    for path in SUBSTRATE_PATHS:
        assert described.count(path) == 1


def mentions(value: object) -> set[int]:
    """The registry ids anywhere in a description."""
    if isinstance(value, tuple | list):
        return set().union(*map(mentions, value))
    slots = getattr(value, "__slots__", ())
    found = set().union(*(mentions(getattr(value, name)) for name in slots))
    for name in slots:
        number = getattr(value, name)
        if (name == "type" or name.endswith("_type")) and isinstance(number, int):
            found.add(number)
    return found


def test_the_modules_keep_their_names_and_indexes() -> None:
    assert [(pallet.name, pallet.index) for pallet in v14().pallets] == [
        ("System", 0),
        ("Timestamp", 1),
        ("Balances", 2),
        ("TransactionPayment", 3),
        ("Validators", 4),
        ("Training", 5),
        ("Rewards", 6),
        ("Utility", 7),
        ("Sudo", 8),
        ("Multisig", 9),
    ]


def test_what_a_wallet_shows_is_explained() -> None:
    for module in RUNTIME.modules:
        assert any(module.docs), module.name
        for kind in (module.calls, module.events, module.errors, module.storage, module.constants):
            for item in kind.values():
                assert any(item.docs), f"{module.name}.{item.name}"


def test_metadata_offers_the_runtime_api_functions_that_are_answered() -> None:
    described = {f"{api.name}_{method.name}" for api in v15().apis for method in api.methods}
    assert described == set(ANSWERS)


def test_the_signed_extensions_stand_in_the_order_of_the_payload() -> None:
    era, era_hash = Mortal.at(64, 100), b"\7" * 32
    signed = {"CheckSpecVersion": 2, "CheckTxVersion": 3, "CheckGenesis": b"\5" * 32, "CheckMortality": era_hash}
    carried = {"CheckMortality": era, "CheckNonce": 9, "ChargeTransactionPayment": 4}
    parts = [codec.encode(carried[name]) for name, _, codec, _ in EXTENSIONS if codec is not None]
    parts += [codec.encode(signed.get(name, ())) for name, _, _, codec in EXTENSIONS]
    assert signing_payload(b"call", era, 9, 4, 2, 3, b"\5" * 32, era_hash) == b"call" + b"".join(parts)


def test_a_client_composes_and_signs_a_transfer_that_is_read_as_it_was_meant(client: Client) -> None:
    call = {
        "call_module": "Balances",
        "call_function": "transfer_keep_alive",
        "call_args": {"dest": ss58.encode(BOB.public), "value": 12_345_678_901_234_567_890},
    }
    call_bytes = client.encode("Call", call)
    assert call_bytes == RUNTIME.encode_call(
        RUNTIME.call("balances.transfer_keep_alive", dest=BOB.public, value=12_345_678_901_234_567_890)
    )
    genesis, birth = b"\1" * 32, b"\2" * 32
    era = Mortal.at(64, 1000)
    signature = ALICE.sign(signing_payload(call_bytes, era, 7, 3, 1, 1, genesis, birth))
    raw = client.encode(
        "Extrinsic",
        {
            **call,
            "account_id": f"0x{ALICE.public.hex()}",
            "signature": f"0x{signature.hex()}",
            "signature_version": 0,
            "nonce": 7,
            "era": {"period": 64, "current": 1000},
            "tip": 3,
        },
    )
    extrinsic = decode_extrinsic(raw, RUNTIME.call_codec)
    signed = extrinsic.signature
    assert signed is not None
    assert (signed.era, signed.nonce, signed.tip) == (era, 7, 3)
    scheme = scheme_of(signed.signature)
    assert scheme is not None
    payload = signing_payload(extrinsic.call_bytes, signed.era, 7, 3, 1, 1, genesis, birth)
    assert verify(scheme, ALICE.public, payload, signed.signature.signature)
    assert extrinsic.call.path == "balances.transfer_keep_alive"


def test_a_client_composes_calls_in_calls(client: Client) -> None:
    remark = {"call_module": "System", "call_function": "remark", "call_args": {"remark": "0x0102"}}
    batch = {"call_module": "Utility", "call_function": "batch_all", "call_args": {"calls": [remark, remark]}}
    sudo = {"call_module": "Sudo", "call_function": "sudo", "call_args": {"call": batch}}
    inner = RUNTIME.call("system.remark", remark=b"\1\2")
    made = RUNTIME.call("sudo.sudo", call=RUNTIME.call("utility.batch_all", calls=[inner, inner]))
    assert client.encode("Call", sudo) == made.encode()
    read = client.decode("Call", made.encode())
    assert read["call_args"][0]["value"]["call_args"][0]["value"][1]["call_function"] == "remark"


def test_a_client_reads_how_inner_calls_ended_and_topics(client: Client) -> None:
    poor = FaultModule(ModuleError(2, b"\0\0\0\0"))
    records = [
        EventRecord(ApplyExtrinsic(1), Utility.BatchInterrupted(3, poor), (b"\7" * 32,)),
        EventRecord(ApplyExtrinsic(1), Sudo.Sudid(OK)),
        EventRecord(ApplyExtrinsic(1), Utility.ItemFailed(FaultToken(TokenFault.FROZEN))),
        EventRecord(ApplyExtrinsic(1), Utility.DispatchedAs(DispatchFailed(poor))),
    ]
    read = client.storage("System", "Events", Vec(RUNTIME.event_record_codec).encode(records))
    module = {"Module": {"index": 2, "error": "0x00000000"}}
    assert [event["attributes"] for event in read] == [
        {"index": 3, "error": module},
        {"sudo_result": {"Ok": ()}},
        {"error": {"Token": "Frozen"}},
        {"result": {"Err": module}},
    ]
    assert read[0]["topics"] == ["0x" + "07" * 32]


def test_a_client_reads_accounts_events_and_the_digest(client: Client) -> None:
    account = AccountInfo(nonce=3, providers=1, data=AccountData(free=10**18, reserved=7))
    read = client.storage("System", "Account", scale.encode(AccountInfo, account))
    assert (read["nonce"], read["data"]["free"], read["data"]["reserved"]) == (3, 10**18, 7)
    transfer = EventRecord(ApplyExtrinsic(1), Balances.Transfer(ALICE.public, BOB.public, 5))
    (event,) = client.storage("System", "Events", Vec(RUNTIME.event_record_codec).encode([transfer]))
    assert (event["extrinsic_idx"], event["event"]["event_id"]) == (1, "Transfer")
    assert event["attributes"] == {"from": ss58.encode(ALICE.public), "to": ss58.encode(BOB.public), "amount": 5}
    digest = Digest([ConsensusDigest(1, bytes(96)).item()])
    (item,) = client.storage("System", "Digest", scale.encode(Digest, digest))["logs"]
    assert item["PreRuntime"][0] in ("PBFT", "0x50424654")


def test_a_client_reads_every_default_and_constant(client: Client) -> None:
    for pallet in v14().pallets:
        for entry in pallet.storage.entries if pallet.storage else ():
            if entry.modifier:
                client.storage(pallet.name, entry.name, entry.default)
        for constant in pallet.constants:
            client.decode(f"scale_info::{constant.type}", constant.value)


def test_a_codec_of_an_unknown_kind_is_not_described_wrongly() -> None:
    class Strange(Codec[int]):
        pass

    with pytest.raises(TypeError, match="cannot describe Strange"):
        Registry().id(Strange())
    registry = Registry()
    assert registry.id(Newtype("a::B", scale.U8)) == registry.id(Newtype("a::B", scale.U8))
    assert registry.id(Newtype("a::C", scale.U8)) != registry.id(Newtype("a::B", scale.U8))


def test_the_schema_is_the_pinned_one() -> None:
    assert schema(v15()) == GOLDEN.read_text(), f"see how to rewrite it in {__file__}"


# --- the schema as text --------------------------------------------------------------------------------------------


def schema(metadata: MetadataV15) -> str:
    """Everything that clients depend on, one item a line."""
    types = [entry.type for entry in metadata.types]

    def name(number: int) -> str:
        generic = types[number].path in ((), ("Option",), ("Result",))
        return describe(types[number]) if generic else short(number)

    def short(number: int) -> str:
        return "::".join(types[number].path)

    def describe(entry: Type) -> str:
        match entry.definition:
            case Primitive(kind):
                return kind.name
            case Sequence(inner):
                return f"[{name(inner)}]"
            case FixedArray(length, inner):
                return f"[{name(inner)}; {length}]"
            case CompactOf(inner):
                return f"compact {name(inner)}"
            case TupleOf(inner):
                return f"({', '.join(map(name, inner))})"
            case Variants(variants) if entry.path == ("Option",):
                return f"{name(variants[1].fields[0].type)}?"
            case Composite(items):
                return fields(items)
            case Variants(variants):
                return " | ".join(f"{item.index} {item.name}{fields(item.fields)}" for item in variants)

    def fields(items: tuple[Field, ...]) -> str:
        if not items:
            return ""
        return f"({', '.join(f'{item.name}: {name(item.type)}' if item.name else name(item.type) for item in items)})"

    def variants(kind: str, number: int | None) -> list[str]:
        definition = types[number].definition if number is not None else Variants(())
        assert isinstance(definition, Variants)
        return [f"  {kind} {item.index} {item.name}{fields(item.fields)}" for item in definition.variants]

    def module(pallet: PalletV15) -> list[str]:
        lines = ["", f"{pallet.index} {pallet.name}"]
        for entry in pallet.storage.entries if pallet.storage else ():
            keys = ""
            if isinstance(entry.type, Map):
                hashers = ", ".join(hasher.name.lower() for hasher in entry.type.hashers)
                keys = f"[{name(entry.type.key_type)} by {hashers}]"
            default = f" = 0x{entry.default.hex()}" if entry.modifier else "?"
            lines.append(f"  storage {entry.name}{keys}: {name(entry.type.value_type)}{default}")
        lines += variants("call", pallet.call_type) + variants("event", pallet.event_type)
        lines += variants("error", pallet.error_type)
        # What a runtime's version counts changes with every release: the schema is what it counts.
        lines += [
            f"  constant {item.name}: {name(item.type)}"
            + ("" if item.name == "Version" else f" = 0x{item.value.hex()}")
            for item in pallet.constants
        ]
        return lines

    lines = ["extrinsic version " + str(metadata.extrinsic.version)]
    lines += [
        f"  {item.identifier}: {describe(types[item.type])} / {name(item.additional_type)}"
        for item in metadata.extrinsic.signed_extensions
    ]
    for pallet in metadata.pallets:
        lines += module(pallet)
    for api in metadata.apis:
        lines += ["", f"api {api.name}"]
        for method in api.methods:
            inputs = ", ".join(f"{item.name}: {name(item.type)}" for item in method.inputs)
            lines.append(f"  {method.name}({inputs}) -> {name(method.output_type)}")
    lines += ["", "types"]
    lines += sorted(
        f"  {'::'.join(entry.path)} = {describe(entry)}"
        for entry in types
        # Modules' own enums stand above; of the era's 256 variants nothing can be learnt.
        if len(entry.path) > 1 and entry.path[-2] not in ("pallet", "era")
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    assert sys.argv[1:] == ["--rewrite"], "expected --rewrite"
    GOLDEN.write_text(schema(v15()))
