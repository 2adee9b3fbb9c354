"""Metadata V14 and V15: how clients read the chain, generated from what the modules declare.

Nothing is described by hand that a codec can describe; types that Substrate has keep its paths, because clients find
some of them by path (addresses, signatures, the extrinsic, the era, account and dispatch info).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from chain.primitives import scale
from chain.primitives.scale import BYTES, HASH256, U8, U32, U64, U128, UNIT, Codec, Compact, Option, Vec, codec_of
from chain.primitives.types import ERA, EXTRINSIC_VERSION, MultiAddress, MultiSignature
from runtime.calls import CallCodec, CallInfo
from runtime.composition import EventCodec, Runtime
from runtime.framework import ModuleInfo
from runtime.metadata_registry import Registry
from runtime.metadata_types import (
    MAGIC,
    Composite,
    Definition,
    ExtrinsicV14,
    ExtrinsicV15,
    Field,
    Map,
    MetadataV14,
    MetadataV15,
    Modifier,
    OuterEnums,
    PalletConstant,
    PalletStorage,
    PalletV14,
    PalletV15,
    Parameter,
    Plain,
    RuntimeApi,
    RuntimeApiMethod,
    SignedExtension,
    StorageEntry,
    TupleOf,
    Type,
    TypeParameter,
    VariantField,
    Variants,
)
from runtime.storage import StorageInfo
from runtime.types import FeeDetails, RuntimeDispatchInfo, RuntimeVersion, Weight

VERSIONS: Final = (14, 15)

_FRAME = "frame_system::extensions::"
# Name, path, what the extrinsic carries, what is signed besides: the order of `signing_payload`.
EXTENSIONS: Final[tuple[tuple[str, str, Codec[Any] | None, Codec[Any]], ...]] = (
    ("CheckSpecVersion", _FRAME + "check_spec_version::CheckSpecVersion", None, U32),
    ("CheckTxVersion", _FRAME + "check_tx_version::CheckTxVersion", None, U32),
    ("CheckGenesis", _FRAME + "check_genesis::CheckGenesis", None, HASH256),
    ("CheckMortality", _FRAME + "check_mortality::CheckMortality", ERA, HASH256),
    ("CheckNonce", _FRAME + "check_nonce::CheckNonce", Compact(U32), UNIT),
    ("CheckWeight", _FRAME + "check_weight::CheckWeight", None, UNIT),
    ("ChargeTransactionPayment", "pallet_transaction_payment::ChargeTransactionPayment", Compact(U128), UNIT),
)

_VALIDITY = ("sp_runtime", "transaction_validity")


class RuntimeRegistry(Registry):
    """The registry with the types that only a composed runtime has."""

    def definition(self, codec: Codec[Any]) -> Definition:
        match codec:
            case CallCodec():
                return self._outer(codec.modules, lambda module: bool(module.calls), self.calls)
            case EventCodec():
                return self._outer(codec.modules, lambda module: bool(module.events), self.events)
            case _:
                return super().definition(codec)

    # --- modules ---

    def _outer(
        self, modules: Iterable[ModuleInfo], declares: Callable[[ModuleInfo], bool], inner: Callable[[ModuleInfo], int]
    ) -> Variants:
        """One variant a module, around the module's own enum."""
        return Variants(
            tuple(
                VariantField(module.name, (Field(None, inner(module), None),), module.index)
                for module in modules
                if declares(module)
            )
        )

    def calls(self, module: ModuleInfo) -> int:
        """A module's calls, with their documentation."""

        def call(info: CallInfo) -> VariantField:
            return VariantField(info.name, self.fields(info.arguments), info.index, info.docs)

        return self._module_enum(module, "Call", lambda: tuple(map(call, module.calls.values())))

    def events(self, module: ModuleInfo) -> int:
        """A module's events."""
        return self._module_enum(
            module,
            "Event",
            lambda: tuple(
                VariantField(info.name, self.fields(info.fields), info.index, info.docs)
                for info in module.events.values()
            ),
        )

    def errors(self, module: ModuleInfo) -> int:
        """A module's errors."""
        return self._module_enum(
            module,
            "Error",
            lambda: tuple(VariantField(info.name, (), info.index, info.docs) for info in module.errors.values()),
        )

    def runtime_error(self, runtime: Runtime[Any]) -> int:
        """All modules' errors."""
        path = (runtime.path, "RuntimeError")
        return self.add(
            path,
            lambda: Type(path, (), self._outer(runtime.modules, lambda module: bool(module.errors), self.errors), ()),
        )

    def _module_enum(self, module: ModuleInfo, kind: str, variants: Callable[[], tuple[VariantField, ...]]) -> int:
        crate = "frame_system" if module.name == "System" else f"pallet_{module.attribute}"
        path = (crate, "pallet", kind)
        return self.add(path, lambda: Type(path, (), Variants(variants()), ()))

    # --- extrinsic ---

    def extension(self, path: str, carried: Codec[Any] | None) -> int:
        """A signed extension as the extrinsic carries it."""
        segments = scale.split_path(path)
        fields = () if carried is None else (carried,)
        return self.add(
            segments, lambda: Type(segments, (), Composite(tuple(self.field(None, item) for item in fields)), ())
        )

    def extra(self) -> int:
        """All signed extensions."""
        return self.add(
            "extra",
            lambda: Type(
                (), (), TupleOf(tuple(self.extension(path, carried) for _, path, carried, _ in EXTENSIONS)), ()
            ),
        )

    def extrinsic(self, runtime: Runtime[Any]) -> int:
        """The extrinsic: opaque bytes, with the types that clients decode them by as parameters."""
        path = ("sp_runtime", "generic", "unchecked_extrinsic", "UncheckedExtrinsic")

        def describe() -> Type:
            params = (
                TypeParameter("Address", self.id(codec_of(MultiAddress))),
                TypeParameter("Call", self.id(runtime.call_codec)),
                TypeParameter("Signature", self.id(codec_of(MultiSignature))),
                TypeParameter("Extra", self.extra()),
            )
            return Type(path, params, Composite((Field(None, self.id(BYTES), None),)), ())

        return self.add(path, describe)

    # --- runtime APIs ---

    def fieldless(self, path: tuple[str, ...], *names: str) -> int:
        """An enum without fields whose variants count from 0."""
        return self.add(
            path, lambda: Type(path, (), Variants(tuple(VariantField(n, (), i) for i, n in enumerate(names))), ())
        )

    def validity(self) -> int:
        """`Result<ValidTransaction, TransactionValidityError>`."""

        def valid_transaction() -> Type:
            tags = Vec(BYTES)
            fields = (("priority", U64), ("requires", tags), ("provides", tags), ("longevity", U64))
            described = (*self.fields(fields), self.field("propagate", scale.BOOL))
            return Type((*_VALIDITY, "ValidTransaction"), (), Composite(described), ())

        def invalid() -> Type:
            names = ("Call", "Payment", "Future", "Stale", "BadProof", "AncientBirthBlock", "ExhaustsResources")
            later = ("BadMandatory", "MandatoryValidation", "BadSigner")
            variants = (
                *(VariantField(name, (), index) for index, name in enumerate(names)),
                VariantField("Custom", (self.field(None, U8),), 7),
                *(VariantField(name, (), index) for index, name in enumerate(later, start=8)),
            )
            return Type((*_VALIDITY, "InvalidTransaction"), (), Variants(variants), ())

        def unknown() -> Type:
            variants = (
                VariantField("CannotLookup", (), 0),
                VariantField("NoUnsignedValidator", (), 1),
                VariantField("Custom", (self.field(None, U8),), 2),
            )
            return Type((*_VALIDITY, "UnknownTransaction"), (), Variants(variants), ())

        def error() -> Type:
            return Type(
                (*_VALIDITY, "TransactionValidityError"),
                (),
                self._wrapping(("Invalid", self.add("invalid", invalid)), ("Unknown", self.add("unknown", unknown))),
                (),
            )

        def result() -> Type:
            ok, err = self.add("valid", valid_transaction), self.add("validity error", error)
            params = (TypeParameter("T", ok), TypeParameter("E", err))
            return Type(("Result",), params, self._wrapping(("Ok", ok), ("Err", err)), ())

        return self.add("validity", result)

    @staticmethod
    def _wrapping(*variants: tuple[str, int]) -> Variants:
        """Variants from 0, each around one type."""
        return Variants(
            tuple(
                VariantField(name, (Field(None, inner, None),), index) for index, (name, inner) in enumerate(variants)
            )
        )


def build(runtime: Runtime[Any], version: int) -> bytes:
    """The runtime's metadata with its magic and version; ValueError for a version other than 14 and 15."""
    match version:
        case 14:
            metadata: MetadataV14 | MetadataV15 = _v14(runtime)
        case 15:
            metadata = _v15(runtime)
        case _:
            raise ValueError(f"expected a metadata version of {VERSIONS}, got {version}")
    return MAGIC + bytes((version,)) + scale.encode(type(metadata), metadata)


def _v14(runtime: Runtime[Any]) -> MetadataV14:
    registry = RuntimeRegistry()
    pallets = tuple(PalletV14(*_pallet(registry, module)) for module in runtime.modules)
    extrinsic = ExtrinsicV14(registry.extrinsic(runtime), EXTRINSIC_VERSION, _extensions(registry))
    registry.id(runtime.event_codec)
    runtime_type = _runtime_type(registry, runtime)
    return MetadataV14(registry.types(), pallets, extrinsic, runtime_type)


def _v15(runtime: Runtime[Any]) -> MetadataV15:
    registry = RuntimeRegistry()
    pallets = tuple(PalletV15(*_pallet(registry, module), module.docs) for module in runtime.modules)
    uxt = registry.extrinsic(runtime)
    extrinsic = ExtrinsicV15(
        EXTRINSIC_VERSION,
        registry.id(codec_of(MultiAddress)),
        registry.id(runtime.call_codec),
        registry.id(codec_of(MultiSignature)),
        registry.extra(),
        _extensions(registry),
    )
    runtime_type = _runtime_type(registry, runtime)
    apis = _apis(registry, runtime, uxt)
    outer = OuterEnums(
        registry.id(runtime.call_codec), registry.id(runtime.event_codec), registry.runtime_error(runtime)
    )
    return MetadataV15(registry.types(), pallets, extrinsic, runtime_type, apis, outer, ())


def _pallet(
    registry: RuntimeRegistry, module: ModuleInfo
) -> tuple[str, PalletStorage | None, int | None, int | None, tuple[PalletConstant, ...], int | None, int]:
    """A module's description, in the order of the fields that both versions share."""
    entries = tuple(_storage_entry(registry, info) for info in module.storage.values())
    return (
        module.name,
        PalletStorage(module.name, entries) if entries else None,
        registry.calls(module) if module.calls else None,
        registry.events(module) if module.events else None,
        tuple(
            PalletConstant(info.name, registry.id(info.codec), info.codec.encode(info.value), info.docs)
            for info in module.constants.values()
        ),
        registry.errors(module) if module.errors else None,
        module.index,
    )


def _storage_entry(registry: RuntimeRegistry, info: StorageInfo) -> StorageEntry:
    if info.keys:
        key = info.keys[0] if len(info.keys) == 1 else scale.Tuple(*info.keys)
        kind: Plain | Map = Map(info.hashers, registry.id(key), registry.id(info.value))
    else:
        kind = Plain(registry.id(info.value))
    modifier = Modifier.OPTIONAL if info.optional else Modifier.DEFAULT
    return StorageEntry(info.name, modifier, kind, info.default_bytes, info.docs)


def _extensions(registry: RuntimeRegistry) -> tuple[SignedExtension, ...]:
    return tuple(
        SignedExtension(name, registry.extension(path, carried), registry.id(additional))
        for name, path, carried, additional in EXTENSIONS
    )


def _runtime_type(registry: RuntimeRegistry, runtime: Runtime[Any]) -> int:
    path = (runtime.path, "Runtime")
    return registry.add(path, lambda: Type(path, (), Composite(()), ()))


def _apis(registry: RuntimeRegistry, runtime: Runtime[Any], uxt: int) -> tuple[RuntimeApi, ...]:
    """The runtime APIs that `call_api` answers."""

    def method(name: str, output: int, *inputs: tuple[str, int], docs: str) -> RuntimeApiMethod:
        return RuntimeApiMethod(name, tuple(Parameter(*item) for item in inputs), output, (docs,))

    opaque = scale.Opaque("sp_core::OpaqueMetadata")
    source = registry.fieldless((*_VALIDITY, "TransactionSource"), "InBlock", "Local", "External")
    u32, block_hash, account = registry.id(U32), registry.id(HASH256), registry.id(scale.ACCOUNT_ID)
    size, call = ("len", u32), ("call", registry.id(runtime.call_codec))
    dispatch_info, fee_details = registry.id(codec_of(RuntimeDispatchInfo)), registry.id(codec_of(FeeDetails))
    weight = ("weight", registry.id(codec_of(Weight)))
    fees = (
        method("query_weight_to_fee", registry.id(U128), weight, docs="What a call's weight costs."),
        method("query_length_to_fee", registry.id(U128), ("length", u32), docs="What an extrinsic's bytes cost."),
    )
    return (
        RuntimeApi(
            "Core",
            (method("version", registry.id(codec_of(RuntimeVersion)), docs="The runtime's version."),),
            ("What every runtime answers.",),
        ),
        RuntimeApi(
            "Metadata",
            (
                method("metadata", registry.id(opaque), docs="The metadata of version 14."),
                method(
                    "metadata_at_version",
                    registry.id(Option(opaque)),
                    ("version", u32),
                    docs="The metadata of a version, if the runtime has it.",
                ),
                method("metadata_versions", registry.id(Vec(U32)), docs="The versions of metadata that there are."),
            ),
            ("How to read the chain.",),
        ),
        RuntimeApi(
            "TaggedTransactionQueue",
            (
                method(
                    "validate_transaction",
                    registry.validity(),
                    ("source", source),
                    ("tx", uxt),
                    ("block_hash", block_hash),
                    docs="Whether a transaction could be included after this block.",
                ),
            ),
            ("What a transaction pool asks.",),
        ),
        RuntimeApi(
            "AccountNonceApi",
            (method("account_nonce", u32, ("account", account), docs="The next nonce of an account."),),
            ("Nonces.",),
        ),
        RuntimeApi(
            "TransactionPaymentApi",
            (
                method("query_info", dispatch_info, ("uxt", uxt), size, docs="An extrinsic's weight and fee."),
                method("query_fee_details", fee_details, ("uxt", uxt), size, docs="An extrinsic's fee by its parts."),
                *fees,
            ),
            ("Fees.",),
        ),
        RuntimeApi(
            "TransactionPaymentCallApi",
            (
                method("query_call_info", dispatch_info, call, size, docs="A call's weight and fee."),
                method("query_call_fee_details", fee_details, call, size, docs="A call's fee by its parts."),
                *fees,
            ),
            ("Fees of calls that are not signed yet.",),
        ),
    )
