"""What a light client remembers: the newest block that it knows to be final, and who decides the one after it.

A checkpoint is all that the next start needs, a few kilobytes in one file, replaced as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chain.light.errors import CheckpointError
from chain.primitives.bls import PUBLIC_KEY_BYTES
from chain.primitives.durable import make_folder, replace_file
from chain.primitives.hashing import Hash
from chain.primitives.merkle import MemoryTree
from chain.primitives.seal import Authority, ValidatorSet
from chain.primitives.types import genesis_header
from runtime.composition import Runtime, View
from runtime.executive import Executive
from runtime.modules.validators import Validators
from runtime.state import DictState
from runtime.types import GenesisError

if TYPE_CHECKING:
    from genesis.spec import GenesisSpec

VERSION: Final = 1
# A hundred authorities take 20 kB.
FILE_BYTES_MAX: Final = 256 * 1024
_U32_MAX: Final = 2**32 - 1
_U64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A block known to be final. `time_ms` is its own time, 0 at genesis; `validators` decide the next block."""

    genesis_hash: Hash
    height: int
    block_hash: Hash
    state_root: Hash
    time_ms: int
    validators: ValidatorSet

    @classmethod
    def genesis(cls, runtime: Runtime[View], config: Mapping[str, Mapping[str, object]]) -> Checkpoint:
        """Where every chain begins, from the runtime's part of its genesis file; raises GenesisError."""
        state = Executive(runtime).genesis(config)
        header = genesis_header(MemoryTree(dict(state)).root_hash)
        validators = runtime.at(DictState(state)).module(Validators).validator_set()
        return cls(header.hash, 0, header.hash, header.state_root, 0, validators)

    @classmethod
    def of(cls, spec: GenesisSpec) -> Checkpoint:
        """Where the chain of a genesis file begins; raises GenesisError."""
        try:
            return cls.genesis(spec.runtime, spec.genesis)
        except GenesisError as error:
            raise GenesisError(f"genesis file {spec.path}: genesis.{error}") from None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is in the file: the checkpoint, which runtime reads the chain's state, and how amounts are shown."""

    checkpoint: Checkpoint
    runtime: str
    token_symbol: str
    token_decimals: int


def load(path: Path) -> Memory | None:
    """The memory in a file, None where there is no file; raises CheckpointError for anything else."""
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        if len(raw) > FILE_BYTES_MAX:
            raise ValueError(f"expected at most {FILE_BYTES_MAX} bytes")
        return _read(json.loads(raw))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{path} is no checkpoint of this program ({what}): remove it, and start again from --genesis FILE"
        ) from None


def save(path: Path, memory: Memory) -> None:
    """Replace the file; raises OSError. Whatever happens meanwhile, it holds the old checkpoint or the new one."""
    make_folder(path.parent)
    # Two commands at once each write a whole file, and the last one stays.
    replace_file(path, json.dumps(_written(memory), indent=1).encode())


def _written(memory: Memory) -> dict[str, object]:
    checkpoint = memory.checkpoint
    return {
        "version": VERSION,
        "runtime": memory.runtime,
        "tokenSymbol": memory.token_symbol,
        "tokenDecimals": memory.token_decimals,
        "genesisHash": checkpoint.genesis_hash.hex(),
        "height": checkpoint.height,
        "blockHash": checkpoint.block_hash.hex(),
        "stateRoot": checkpoint.state_root.hex(),
        "timeMs": checkpoint.time_ms,
        "setId": checkpoint.validators.set_id,
        "authorities": [[each.account.hex(), each.bls_key.hex()] for each in checkpoint.validators.authorities],
    }


def _read(value: Any) -> Memory:
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError(f"expected an object of version {VERSION}")
    authorities = tuple(
        Authority(_octets(account, 32), _octets(bls_key, PUBLIC_KEY_BYTES)) for account, bls_key in value["authorities"]
    )
    checkpoint = Checkpoint(
        _octets(value["genesisHash"], 32),
        _integer(value["height"], _U32_MAX),
        _octets(value["blockHash"], 32),
        _octets(value["stateRoot"], 32),
        _integer(value["timeMs"], _U64_MAX),
        ValidatorSet(_integer(value["setId"], _U32_MAX), authorities),
    )
    decimals = _integer(value["tokenDecimals"], 38)
    return Memory(checkpoint, _text(value["runtime"]), _text(value["tokenSymbol"]), decimals)


def _octets(value: object, size: int) -> bytes:
    octets = bytes.fromhex(_text(value))
    if len(octets) != size:
        raise ValueError(f"expected {size} bytes, got {len(octets)}")
    return octets


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {value!r}")
    return value


def _integer(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"expected an integer from 0 to {most}, got {value!r}")
    return value
