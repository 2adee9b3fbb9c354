"""The JSON Schema of genesis files says no other than the loader, as far as a schema can say it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.development import one_machine_chain
from chain.new_chain import check
from genesis.schema import genesis_schema
from runtime.types import GenesisError

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs" / "genesis.schema.json"
TYPES: dict[str, type | tuple[type, ...]] = {"object": dict, "array": list, "string": str, "null": type(None)}


def faults(schema: Any, value: Any, path: str = "") -> Iterator[str]:
    """What a value breaks of a schema: the keywords that ours uses, as draft 2020-12 has them, and no others."""
    if schema is False:
        yield f"{path}: may not be"
        return
    known = {"$schema", "title", "type", "properties", "required", "additionalProperties", "propertyNames", "items"}
    known |= {"prefixItems", "minItems", "maxItems", "pattern", "maxLength", "minimum", "maximum", "enum", "const"}
    known |= {"oneOf", "not", "if", "then"}
    assert schema.keys() <= known, schema.keys() - known
    wanted = schema.get("type")
    if wanted == "integer":
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = wanted is None or isinstance(value, TYPES[wanted])
    if not fits:
        yield f"{path}: expected {wanted}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: none of {schema['enum']}"
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        yield f"{path}: not {schema['const']}"
    if "oneOf" in schema and sum(not list(faults(one, value)) for one in schema["oneOf"]) != 1:
        yield f"{path}: not one of the choices"
    if "not" in schema and not list(faults(schema["not"], value)):
        yield f"{path}: is what it may not be"
    if "if" in schema and not list(faults(schema["if"], value)):
        yield from faults(schema["then"], value, path)
    match value:
        case dict():
            properties = schema.get("properties", {})
            yield from (f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value)
            for name, inner in value.items():
                yield from faults(schema.get("propertyNames", {}), name, f"{path}.{name}")
                yield from faults(properties.get(name, schema.get("additionalProperties", {})), inner, f"{path}.{name}")
        case list():
            prefix = schema.get("prefixItems", [])
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                yield f"{path}: {len(value)} items"
            for number, item in enumerate(value):
                inner = prefix[number] if number < len(prefix) else schema.get("items", {})
                yield from faults(inner, item, f"{path}[{number}]")
        case str():
            if len(value) > schema.get("maxLength", len(value)) or not re.search(schema.get("pattern", ""), value):
                yield f"{path}: text {value[:40]!r}"
        case int():
            if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
                yield f"{path}: {value}"


def test_the_file_in_docs_is_what_the_code_says() -> None:
    assert json.loads(SCHEMA.read_text()) == genesis_schema(), (
        "run: .venv/bin/potchain genesis schema > docs/genesis.schema.json"
    )


@pytest.mark.parametrize("path", [ROOT / "genesis/testnet.json", ROOT / "tests/third_party/genesis.json"], ids=str)
def test_genesis_files_that_nodes_run_are_taken(path: Path) -> None:
    assert list(faults(genesis_schema(), json.loads(path.read_text()))) == []


def small() -> dict[str, Any]:
    """A chain with one task, whose blobs nobody asks for."""
    testnet = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    chain: dict[str, Any] = dict(one_machine_chain("Small", "small", "runtime.potchain:RUNTIME"))
    del chain["runtime"]
    chain["genesis"]["training"] = testnet["genesis"]["training"]
    chain["genesis"]["sudo"] = testnet["genesis"]["sudo"]
    chain["bootnodes"] = ["127.0.0.1:1"]
    plain: dict[str, Any] = json.loads(json.dumps(chain))
    return plain


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        # One of many endowed accounts is as good as all.
        if not (path == ("genesis", "balances", "balances") and name):
            yield from leaves(inner, (*path, name))


def changed(document: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> dict[str, Any]:
    other = copy.deepcopy(document)
    holder: Any = other
    for name in path[:-1]:
        holder = holder[name]
    change(holder, path[-1])
    return other


def put(value: Any) -> Callable[[Any, Any], None]:
    return lambda holder, name: holder.__setitem__(name, value)


def remove(holder: Any, name: Any) -> None:
    del holder[name]


def misspell(holder: Any, name: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{name}x"] = holder.pop(name)


CHANGES: dict[str, Callable[[Any, Any], None]] = {
    "nothing": put(None),
    "a number": put(7),
    "a fraction": put(1.5),
    "below": put(-1),
    "huge": put(1 << 140),
    "true": put(True),
    "text": put("nonsense text"),
    "no text": put(""),
    "long text": put("x" * 300),
    "a list": put([]),
    "a list of numbers": put([1]),
    "an object": put({}),
    "an object with a field": put({"one": 1}),
    "missing": remove,
    "misspelt": misspell,
}
# What the loader alone can say: sums, what belongs together, and what a name or an address really is.
DEEPER = (
    "expected HOST:PORT", "SS58", "the balances sum", "the account cannot bond", "does not verify",
    "timeoutMs", "keys are called", "development key such as", "no Python module", "MODULE:NAME", "blobs", "2^128",
    "appears twice", "tasks[0]: ", "name of letters", "validators, got",
)  # fmt: skip


def test_whatever_is_changed_in_a_file_schema_and_loader_agree_about_it(tmp_path: Path) -> None:
    document, file, schema = small(), tmp_path / "genesis.json", genesis_schema()

    def refusal(other: dict[str, Any]) -> str:
        file.write_text(json.dumps(other))
        try:
            check(file)
        except GenesisError as error:
            return str(error)
        return ""

    assert refusal(document) == ""
    assert list(faults(schema, document)) == []
    disagreed: list[str] = []
    both = 0
    # Every third: numbers of one kind are many, and each file is read to its first state.
    pairs = [(path, what) for path in leaves(document) for what in CHANGES][::3]
    for path, what in pairs:
        other = changed(document, path, CHANGES[what])
        found, told = list(faults(schema, other)), refusal(other)
        both += bool(found)
        if found and not told:
            disagreed.append(f"{path} {what}: only the schema refuses: {found}")
        if told and not found and not any(part in told for part in DEEPER):
            disagreed.append(f"{path} {what}: only the loader refuses: {told}")
    assert disagreed == []
    assert both > 300
