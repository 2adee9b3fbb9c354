"""Reads a genesis file: every field is checked, and an error names the field, what was expected and what came.

The file says four things: what the chain is called and how fast it runs, where its nodes are found, which runtime
executes it, and the configuration from which the runtime builds its first state. Only the last enters the genesis hash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.keys import Keypair, KeyUriError
from genesis.runtimes import DEFAULT, load_runtime
from runtime.composition import Runtime, View
from runtime.genesis import Section, show
from runtime.modules.system import SS58_PREFIX
from runtime.modules.training import Training
from runtime.types import GenesisError

FILE_BYTES_MAX = 16 * 1024 * 1024  # far above any real file: ten thousand endowed accounts take 1 MB
TEXT_BYTES_MAX = 256  # names, symbols, paths and secret phrases are shorter
PORT_MAX = 65535
CHAIN_TYPES = ("Development", "Local", "Live")  # Substrate's

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


@dataclass(frozen=True, slots=True)
class Properties:
    """What wallets show: Substrate's `system_properties`."""

    token_symbol: str
    token_decimals: int
    ss58_format: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast blocks come, and how long a validator waits for a silent primary, in milliseconds."""

    block_time_ms: int
    timeout_ms: int
    timeout_ms_max: int


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens for its peers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DevelopmentKey:
    """A key that everybody knows, so that one command can run the whole network on one machine."""

    name: str
    uri: str


@dataclass(frozen=True, slots=True)
class Development:
    """The processes of a network that runs on one machine, with their well-known keys."""

    validators: tuple[DevelopmentKey, ...]
    workers: tuple[DevelopmentKey, ...]
    aggregators: tuple[DevelopmentKey, ...]


@dataclass(frozen=True, slots=True)
class GenesisSpec:
    """A chain specification as read from its file."""

    path: Path
    name: str
    id: str
    chain_type: str
    properties: Properties
    timing: Timing
    bootnodes: tuple[Address, ...]
    blobs: Path | None
    development: Development | None
    runtime_reference: str
    runtime: Runtime[View]
    genesis: Mapping[str, Mapping[str, object]]

    def validator_key(self, name: str) -> tuple[int, DevelopmentKey] | None:
        """The development validator of that name, or secret, and its place in the list, or None."""
        validators = self.development.validators if self.development else ()
        return next(((i, key) for i, key in enumerate(validators) if name in (key.name, key.uri)), None)


def load(path: Path) -> GenesisSpec:
    """Read and check the genesis file at `path`; raises GenesisError."""
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= FILE_BYTES_MAX else b""
    except OSError as error:
        raise GenesisError(
            f"cannot read genesis file {path}: {error.strerror}; give the path of one with --genesis"
        ) from None
    if size > FILE_BYTES_MAX:
        raise GenesisError(f"genesis file {path} has {size} bytes: at most {FILE_BYTES_MAX} are read")
    try:
        return _spec(path, Section("", _parse(raw)))
    except GenesisError as error:
        raise GenesisError(f"genesis file {path}: {error}") from None


def _parse(raw: bytes) -> object:
    try:
        value: object = json.loads(raw, object_pairs_hook=_no_duplicates)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise GenesisError(f"not UTF-8 text: bad byte at offset {error.start}") from None
    except json.JSONDecodeError as error:
        raise GenesisError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise GenesisError("nested too deeply") from None
    except UnicodeEncodeError:
        raise GenesisError(r"not text: an escape such as \ud800 is half of a character") from None
    except GenesisError:
        raise
    except ValueError as error:  # A number of more digits than Python reads.
        raise GenesisError(f"not JSON that can be read: {error}") from None
    return value


def _spec(path: Path, section: Section) -> GenesisSpec:
    spec = GenesisSpec(
        path=path,
        name=section.text("name", TEXT_BYTES_MAX),
        id=_identifier(section, "id"),
        chain_type=_chain_type(section),
        properties=_properties(section.section("properties")),
        timing=_timing(section.section("consensus")),
        bootnodes=tuple(_address(where, value) for where, value in section.items("bootnodes")),
        blobs=path.parent / section.text("blobs", TEXT_BYTES_MAX) if "blobs" in section else None,
        development=_development(section.section("development")) if "development" in section else None,
        runtime_reference=_reference(section),
        runtime=_runtime(section, path.parent),
        genesis=_genesis(section.section("genesis")),
    )
    section.finish()
    if spec.development and not spec.runtime.has(Training):
        for role in ("workers", "aggregators"):
            if getattr(spec.development, role):
                raise GenesisError(f"development.{role}: the runtime has no Training; remove them")
    return spec


def _chain_type(section: Section) -> str:
    chain_type = section.text("chainType", TEXT_BYTES_MAX)
    if chain_type not in CHAIN_TYPES:
        raise GenesisError(f"{section.at('chainType')}: expected one of {', '.join(CHAIN_TYPES)}, got {chain_type!r}")
    return chain_type


def _properties(section: Section) -> Properties:
    properties = Properties(
        token_symbol=section.text("tokenSymbol", TEXT_BYTES_MAX),
        token_decimals=section.integer("tokenDecimals", 0, 38),
        ss58_format=section.integer("ss58Format", 0, 16383),
    )
    section.finish()
    # Wallets are told twice: here, and in the runtime's metadata, which the genesis accounts are read by.
    if properties.ss58_format != SS58_PREFIX:
        raise GenesisError(
            f"{section.at('ss58Format')}: expected {SS58_PREFIX}, as the runtime has it, got {properties.ss58_format}"
        )
    return properties


def _timing(section: Section) -> Timing:
    block_time_ms = section.integer("blockTimeMs", 50, 60_000)
    timeout_ms = section.integer("timeoutMs", block_time_ms, 600_000)
    timing = Timing(block_time_ms, timeout_ms, section.integer("timeoutMsMax", timeout_ms, 600_000))
    section.finish()
    return timing


def _development(section: Section) -> Development:
    development = Development(
        validators=tuple(_key(where, value) for where, value in section.items("validators")),
        workers=tuple(_key(where, value) for where, value in section.items("workers")),
        aggregators=tuple(_key(where, value) for where, value in section.items("aggregators")),
    )
    section.finish()
    names: set[str] = set()
    for key in (*development.validators, *development.workers, *development.aggregators):
        if key.name in names:
            raise GenesisError(f"{section.path}: two keys are called {key.name!r}; give each process a name of its own")
        names.add(key.name)
    return development


def _key(where: str, value: object) -> DevelopmentKey:
    section = Section(where, value)
    key = DevelopmentKey(name=_identifier(section, "name"), uri=section.text("key", TEXT_BYTES_MAX))
    section.finish()
    try:
        Keypair.from_uri(key.uri)
    except KeyUriError as error:
        raise GenesisError(
            f"{section.at('key')}: expected a development key such as //Alice, got {show(key.uri)} ({error})"
        ) from None
    return key


def _reference(section: Section) -> str:
    return section.text("runtime", TEXT_BYTES_MAX) if "runtime" in section else DEFAULT


def _runtime(section: Section, folder: Path) -> Runtime[View]:
    """The runtime that the file names, or this project's own."""
    try:
        return load_runtime(_reference(section), folder)
    except GenesisError as error:
        raise GenesisError(f"{section.at('runtime')}: {error}") from None


def _genesis(section: Section) -> Mapping[str, Mapping[str, object]]:
    """Each module's part, which the module itself reads."""
    parts: dict[str, Mapping[str, object]] = {}
    for name in section.names:
        part = section.value(name)
        if not isinstance(part, dict):
            raise GenesisError(f"{section.at(name)}: expected an object, got {show(part)}")
        parts[name] = part
    return parts


def _identifier(section: Section, field: str) -> str:
    """Names of chains and processes become names of folders."""
    text = section.text(field, TEXT_BYTES_MAX)
    if not text.replace("_", "").replace("-", "").isalnum() or not text.isascii():
        raise GenesisError(f"{section.at(field)}: expected a name of letters, digits, '-' and '_', got {text!r}")
    return text


def _address(where: str, value: object) -> Address:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1] if ":" in host else ""  # An IPv6 address, whose own colons would be taken for the port's.
    elif ":" in host:
        host = ""
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        raise GenesisError(f"{where}: expected HOST:PORT, got {show(value)}")
    return Address(host, int(port))


def parse_address(text: str, flag: str = "--bootnode") -> Address:
    """HOST:PORT as given on the command line; raises GenesisError."""
    return _address(flag, text)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise GenesisError(f"{name[:TEXT_BYTES_MAX]}: given twice in one object; keep one")
        found[name] = value
    return found
