"""The JSON Schema of genesis files, for editors and other programs: made of the bounds and tables that the loader has.

What a schema cannot say only the loader says: that proofs verify, that no account comes twice, that sums fit. What the
loader takes the schema takes.
"""

from __future__ import annotations

from typing import Any

from chain.primitives import bls
from genesis.spec import CHAIN_TYPES, TEXT_BYTES_MAX
from runtime.genesis import U128_MAX
from runtime.modules.balances import Balances
from runtime.modules.system import SS58_PREFIX
from runtime.modules.training_policy import (
    AGGREGATIONS,
    BOUNDS,
    CHECKS,
    CLIPS,
    CODECS,
    DECAYS,
    OPTIMIZERS,
    VERIFICATIONS,
    Descent,
    LocalSteps,
    Policy,
    Schedule,
    json_name,
)
from runtime.modules.training_sizes import DATASET_BYTES_MAX, PARAMETERS_MAX, PROGRAM_BYTES_MAX
from runtime.modules.training_types import ACTIVE_TASKS_MAX, NAME_BYTES_MAX, ROUNDS_MAX
from runtime.modules.validators_types import (
    AUTHORITIES_MAX,
    SESSION_BLOCKS_MAX,
    UNBONDING_SESSIONS_MAX,
    UNBONDING_SESSIONS_MIN,
)
from runtime.potchain import RUNTIME
from runtime.storage import camel_case

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def genesis_schema() -> Schema:
    """The whole of it."""
    modules = {
        "balances": _balances(),
        "sudo": _record({}, key=ADDRESS),
        "validators": _validators(),
        "training": _record({}, tasks=_list(_task(), ACTIVE_TASKS_MAX)),
    }
    process = _record({"name": _identifier(), "key": _text(TEXT_BYTES_MAX)})
    processes = {role: _list(process) for role in ("validators", "workers", "aggregators")}
    return {
        "$schema": DRAFT,
        "title": "potchain genesis file",
        **_record(
            {
                "name": _text(TEXT_BYTES_MAX),
                "id": _identifier(),
                "chainType": {"enum": list(CHAIN_TYPES)},
                "properties": _record(
                    {
                        "tokenSymbol": _text(TEXT_BYTES_MAX),
                        "tokenDecimals": _integer(0, 38),
                        "ss58Format": {"const": SS58_PREFIX},
                    }
                ),
                # That a time-out is no shorter than a block, and no longer than the longest, only the loader says.
                "consensus": _record(
                    {
                        "blockTimeMs": _integer(50, 60_000),
                        "timeoutMs": _integer(50, 600_000),
                        "timeoutMsMax": _integer(50, 600_000),
                    }
                ),
                "genesis": {"type": "object", "properties": modules, "additionalProperties": {"type": "object"}},
            },
            bootnodes=_list({"type": "string", "pattern": r"^.+:[1-9][0-9]{0,4}$"}),
            blobs=_text(TEXT_BYTES_MAX),
            development=_record({}, **processes),
            runtime={**_text(TEXT_BYTES_MAX), "pattern": r"^[^:]+:[^:]+$"},
        ),
        # Another runtime has other modules, which read their parts themselves.
        "if": {"not": {"required": ["runtime"]}},
        "then": {"properties": {"genesis": {"propertyNames": {"enum": sorted(_parts())}}}},
    }


def _parts() -> set[str]:
    return {camel_case(module.attribute) for module in RUNTIME.modules}


# --- what values are ---

# Base58 of a prefix, 32 bytes and a checksum; whether it is right only the loader says.
ADDRESS: Schema = {"type": "string", "pattern": "^[1-9A-HJ-NP-Za-km-z]{40,60}$"}


def _integer(low: int, high: int) -> Schema:
    # Readers of JSON that know doubles alone would round what a u128 may be, and refuse it then.
    return {"type": "integer", "minimum": low} | ({"maximum": high} if high < U128_MAX else {})


def _text(bytes_max: int) -> Schema:
    return {"type": "string", "maxLength": bytes_max}


def _identifier() -> Schema:
    return {**_text(TEXT_BYTES_MAX), "pattern": "^[A-Za-z0-9_-]*[A-Za-z0-9][A-Za-z0-9_-]*$"}


def _octets(size: int) -> Schema:
    return {"type": "string", "pattern": f"^0x[0-9a-f]{{{2 * size}}}$"}


def _list(items: Schema, count_max: int | None = None) -> Schema:
    return {"type": "array", "items": items} | ({} if count_max is None else {"maxItems": count_max})


def _record(required: dict[str, Schema], **optional: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": {**required, **optional}, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _one_of(kinds: tuple[type, ...]) -> Schema:
    """An object with one field, which names the choice."""
    return {"oneOf": [_record({json_name(kind): _numbers(kind)}) for kind in kinds]}


def _numbers(kind: type) -> Schema:
    return _record(_bounds(kind))


def _bounds(kind: type) -> dict[str, Schema]:
    return {camel_case(name): _integer(low, high) for name, (low, high) in BOUNDS[kind].items()}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [{"type": "null"}, schema]}


# --- the modules' parts ---


def _balances() -> Schema:
    pair = {
        "type": "array",
        "prefixItems": [ADDRESS, _integer(Balances.existential_deposit.value(RUNTIME), U128_MAX)],
        "items": False,
        "minItems": 2,
    }
    return _record({}, balances=_list(pair))


def _validators() -> Schema:
    authority = _record(
        {"account": ADDRESS, "bls": _octets(bls.PUBLIC_KEY_BYTES), "proof": _octets(bls.SIGNATURE_BYTES)}
    )
    return _record(
        {"authorities": {**_list(authority, AUTHORITIES_MAX), "minItems": 1}},
        sessionBlocks=_integer(1, SESSION_BLOCKS_MAX),
        unbondingSessions=_integer(UNBONDING_SESSIONS_MIN, UNBONDING_SESSIONS_MAX),
    )


def _task() -> Schema:
    storage = {
        "programBytes": _integer(1, PROGRAM_BYTES_MAX),
        "datasetBytes": _integer(1, DATASET_BYTES_MAX),
        "parameters": _integer(1, PARAMETERS_MAX),
    }
    return _record(
        {
            "owner": ADDRESS,
            "name": _text(NAME_BYTES_MAX),
            **{root: _octets(32) for root in ("programRoot", "datasetRoot", "paramsRoot")},
            "optimizer": _descent(),
            "policy": _policy(),
            "rounds": _integer(1, ROUNDS_MAX),
            "pricePerSlot": _integer(0, U128_MAX),
            "storage": _record(storage),
        }
    )


def _descent() -> Schema:
    schedule = _record({"decay": _one_of(DECAYS), **_bounds(Schedule)})
    return _record({"rule": _one_of(OPTIMIZERS)}, schedule=schedule, clip=_or_null(_one_of(CLIPS)), **_bounds(Descent))


def _policy() -> Schema:
    local_steps = _record({"inner": _descent(), **_bounds(LocalSteps)})
    return _record(
        _bounds(Policy),
        codec=_one_of(CODECS),
        localSteps=_or_null(local_steps),
        aggregation=_one_of(AGGREGATIONS),
        verification=_one_of(VERIFICATIONS),
        checks=_one_of(CHECKS),
    )
