"""Reads a genesis file: every field is checked, and an error names the field, what was expected and what came.

The file says three things: what the chain is called and how fast it runs, where its nodes are found, and the
configuration from which the runtime builds its first state. Only the last enters the genesis hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES_MAX = 16 * 1024 * 1024  # far above any real file: ten thousand endowed accounts take 1 MB


class GenesisError(ValueError):
    """The genesis file cannot be used; the message is one line that says which field, and what to do."""


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
        return f"{self.host}:{self.port}"


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
    runtime: Mapping[str, Mapping[str, object]]

    def validator_key(self, name: str) -> tuple[int, DevelopmentKey] | None:
        """The development validator of that name and its place in the list, or None."""
        validators = self.development.validators if self.development else ()
        return next(((i, key) for i, key in enumerate(validators) if key.name == name), None)


class _Object:
    """One JSON object being read: every field is asked for once, and none may be left over."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise GenesisError(f"{where or 'the file'}: expected an object, got {_kind(value)}")
        self._left: dict[str, object] = dict(value)
        self._where = where

    def _path(self, field: str) -> str:
        return f"{self._where}.{field}" if self._where else field

    def take(self, field: str) -> tuple[object, str]:
        if field not in self._left:
            raise GenesisError(f"{self._path(field)}: missing; add it to the genesis file")
        return self._left.pop(field), self._path(field)

    def has(self, field: str) -> bool:
        return field in self._left

    def text(self, field: str, choices: tuple[str, ...] = ()) -> str:
        value, where = self.take(field)
        if not isinstance(value, str) or not value:
            raise GenesisError(f"{where}: expected a text, got {_kind(value)}")
        if choices and value not in choices:
            raise GenesisError(f"{where}: expected one of {', '.join(choices)}, got {value!r}")
        return value

    def integer(self, field: str, low: int, high: int) -> int:
        value, where = self.take(field)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise GenesisError(f"{where}: expected an integer from {low} to {high}, got {_kind(value)}")
        return value

    def nested(self, field: str) -> _Object:
        return _Object(*self.take(field))

    def items(self, field: str) -> Iterator[tuple[object, str]]:
        value, where = self.take(field)
        if not isinstance(value, list):
            raise GenesisError(f"{where}: expected a list, got {_kind(value)}")
        return ((item, f"{where}[{i}]") for i, item in enumerate(value))

    def mapping(self, field: str) -> Mapping[str, Mapping[str, object]]:
        value, where = self.take(field)
        if not isinstance(value, dict):
            raise GenesisError(f"{where}: expected an object, got {_kind(value)}")
        for name, item in value.items():
            if not isinstance(item, dict):
                raise GenesisError(f"{where}.{name}: expected an object, got {_kind(item)}")
        return value

    def done(self) -> None:
        if self._left:
            field = sorted(self._left)[0]
            raise GenesisError(f"{self._path(field)}: unknown field; remove it, or check its spelling")


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
        return _spec(path, _Object(_parse(raw), ""))
    except GenesisError as error:
        raise GenesisError(f"genesis file {path}: {error}") from None


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw, object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError as error:
        raise GenesisError(f"not UTF-8 text: bad byte at offset {error.start}") from None
    except json.JSONDecodeError as error:
        raise GenesisError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise GenesisError("nested too deeply") from None


def _spec(path: Path, fields: _Object) -> GenesisSpec:
    spec = GenesisSpec(
        path=path,
        name=fields.text("name"),
        id=_identifier(fields.text("id")),
        chain_type=fields.text("chainType", ("Development", "Local", "Live")),
        properties=_properties(fields.nested("properties")),
        timing=_timing(fields.nested("consensus")),
        bootnodes=tuple(_address(value, where) for value, where in fields.items("bootnodes")),
        blobs=path.parent / fields.text("blobs") if fields.has("blobs") else None,
        development=_development(fields.nested("development")) if fields.has("development") else None,
        runtime=fields.mapping("runtime"),
    )
    fields.done()
    return spec


def _properties(fields: _Object) -> Properties:
    properties = Properties(
        token_symbol=fields.text("tokenSymbol"),
        token_decimals=fields.integer("tokenDecimals", 0, 38),
        ss58_format=fields.integer("ss58Format", 0, 16383),
    )
    fields.done()
    return properties


def _timing(fields: _Object) -> Timing:
    block_time_ms = fields.integer("blockTimeMs", 50, 60_000)
    timeout_ms = fields.integer("timeoutMs", block_time_ms, 600_000)
    timing = Timing(block_time_ms, timeout_ms, fields.integer("timeoutMsMax", timeout_ms, 600_000))
    fields.done()
    return timing


def _development(fields: _Object) -> Development:
    development = Development(
        validators=tuple(_key(value, where) for value, where in fields.items("validators")),
        workers=tuple(_key(value, where) for value, where in fields.items("workers")),
        aggregators=tuple(_key(value, where) for value, where in fields.items("aggregators")),
    )
    fields.done()
    names = [key.name for key in (*development.validators, *development.workers, *development.aggregators)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GenesisError(f"development: two keys are called {twice!r}; give each process a name of its own")
    return development


def _key(value: object, where: str) -> DevelopmentKey:
    fields = _Object(value, where)
    key = DevelopmentKey(name=_identifier(fields.text("name")), uri=fields.text("key"))
    fields.done()
    return key


def _identifier(text: str) -> str:
    """Names of chains and processes become names of folders."""
    if not text.replace("_", "").replace("-", "").isalnum() or not text.isascii():
        raise GenesisError(f"{text!r}: expected a name of letters, digits, '-' and '_'")
    return text


def _address(value: object, where: str) -> Address:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise GenesisError(f"{where}: expected HOST:PORT, got {value!r}")
    return Address(host, int(port))


def parse_address(text: str) -> Address:
    """HOST:PORT as given on the command line; raises GenesisError."""
    return _address(text, "--bootnode")


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GenesisError(f"{twice}: given twice in one object; keep one")
    return dict(pairs)


def _kind(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
