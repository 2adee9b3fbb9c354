"""Makes the genesis file of a new chain: of validators that have told their public keys, or of development keys.

What is written was read by the loader first: no file leaves here that a node would refuse.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.development import ACCOUNTS, authority, endowed, processes
from chain.primitives import bls, ss58
from chain.primitives.blob import blob_root
from chain.primitives.durable import PARTIAL, sync_folder
from chain.primitives.hashing import Hash
from chain.primitives.merkle import MemoryTree
from chain.primitives.types import genesis_header
from genesis.spec import GenesisSpec, load
from runtime.executive import Executive
from runtime.modules.balances import POT, Balances
from runtime.modules.system import SS58_PREFIX
from runtime.modules.validators import Validators
from runtime.state import DictState
from runtime.types import GenesisError

# What `potchain key inspect` prints of a key takes a kilobyte.
ENTRY_BYTES_MAX: Final = 16 * 1024
# A validator bonds a thousand of these, and pays fees from the rest.
ENDOWMENT_POT: Final = 2_000
DEVELOPMENT_VALIDATORS_MAX: Final = len(ACCOUNTS)

_BLOB_NAME: Final = re.compile("[0-9a-f]{64}")
_INSPECTED: Final = {
    "account": re.compile(r"^ed25519 +address (\S+)$", re.MULTILINE),
    "bls": re.compile(r"^validator +BLS +(\S+)$", re.MULTILINE),
    "proof": re.compile(r"^ +proof +(\S+)", re.MULTILINE),
}


class NewChainError(Exception):
    """The file cannot be made of this; the message says what was expected, what came, and what to do."""


@dataclass(frozen=True, slots=True)
class ValidatorEntry:
    """What a validator tells of its keys: its address, its BLS key, and the proof that it has that key's secret."""

    account: str
    bls: str
    proof: str

    @classmethod
    def read(cls, path: Path) -> ValidatorEntry:
        """From what `potchain key inspect KEY` printed, or the same three fields as JSON; NewChainError."""
        try:
            text = path.read_bytes()[: ENTRY_BYTES_MAX + 1].decode()
        except OSError as error:
            raise NewChainError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            text = ""
        if text.lstrip().startswith("{"):
            fields = _json_fields(text)
        else:
            fields = {name: found[1] for name, line in _INSPECTED.items() if (found := line.search(text))}
        if len(text) > ENTRY_BYTES_MAX or sorted(fields) != sorted(_INSPECTED):
            missing = ", ".join(sorted(_INSPECTED.keys() - fields.keys())) or "nothing else"
            raise NewChainError(
                f"{path}: expected what `potchain key inspect KEY` prints of a validator's key, or a JSON object of "
                f"{', '.join(_INSPECTED)}; missing: {missing}"
            )
        entry = cls(**fields)
        entry.check(str(path))
        return entry

    def check(self, where: str) -> None:
        """Whether the proof is one of this key for this account; NewChainError."""
        try:
            account = ss58.decode(self.account)
            key, proof = (bytes.fromhex(value.removeprefix("0x")) for value in (self.bls, self.proof))
            is_proven = bls.verify_possession(key, account, proof)
        except (ss58.Ss58Error, ValueError) as error:
            raise NewChainError(f"{where}: {error}") from None
        if not is_proven:
            raise NewChainError(
                f"{where}: the proof does not show that who has account {self.account} has the secret of the BLS key: "
                "it was changed on the way, or is of another key; ask for it again"
            )

    def as_json(self) -> dict[str, str]:
        return {"account": self.account, "bls": self.bls, "proof": self.proof}


def _json_fields(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


@dataclass(frozen=True, slots=True)
class Plan:
    """A chain that is to begin. Balances are in planck by address; times in milliseconds, sessions in blocks."""

    name: str
    id: str
    chain_type: str
    validators: Sequence[ValidatorEntry]
    balances: Mapping[str, int]
    bootnodes: Sequence[str]
    sudo: str | None
    block_time_ms: int
    session_blocks: int
    unbonding_sessions: int
    endowment: int = ENDOWMENT_POT * POT

    def document(self) -> dict[str, Any]:
        """The file's content."""
        balances = {**{entry.account: self.endowment for entry in self.validators}, **self.balances}
        modules: dict[str, Any] = {"balances": {"balances": [[who, amount] for who, amount in balances.items()]}}
        if self.sudo is not None:
            modules["sudo"] = {"key": self.sudo}
        modules["validators"] = {
            "authorities": [entry.as_json() for entry in self.validators],
            "sessionBlocks": self.session_blocks,
            "unbondingSessions": self.unbonding_sessions,
        }
        return {**self._head(), "bootnodes": list(self.bootnodes), "genesis": modules}

    def _head(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "id": self.id,
            "chainType": self.chain_type,
            "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": SS58_PREFIX},
            "consensus": {
                "blockTimeMs": self.block_time_ms,
                "timeoutMs": 2 * self.block_time_ms,
                "timeoutMsMax": min(600_000, 16 * self.block_time_ms),
            },
        }


def development(plan: Plan, count: int) -> dict[str, Any]:
    """The same chain of the first `count` development accounts, whose keys everybody knows, with their processes."""
    document = plan.document()
    names = ACCOUNTS[:count]
    return {
        **{key: value for key, value in document.items() if key != "genesis"},
        "development": {"validators": processes(names), "workers": [], "aggregators": []},
        "genesis": {
            **document["genesis"],
            "balances": {"balances": [*endowed(), *([who, amount] for who, amount in plan.balances.items())]},
            "validators": {
                **document["genesis"]["validators"],
                "authorities": [authority(name) for name in names],
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Checked:
    """A genesis file that a node would run, and what it makes."""

    spec: GenesisSpec
    genesis_hash: Hash
    validators: int
    issuance: int
    blobs: int


def check(path: Path) -> Checked:
    """Read a genesis file as a node does, to its first state and its blobs; raises GenesisError."""
    spec = load(path)
    try:
        state = Executive(spec.runtime).genesis(spec.genesis)
    except GenesisError as error:
        raise GenesisError(f"genesis file {path}: genesis.{error}") from None
    view = spec.runtime.at(DictState(dict(state)))
    return Checked(
        spec,
        genesis_header(MemoryTree(dict(state)).root_hash).hash,
        view.module(Validators).validator_set().n,
        view.module(Balances).total_issuance.get(),
        _check_blobs(spec),
    )


def _check_blobs(spec: GenesisSpec) -> int:
    """How many blobs lie beside the file; each has the root that it is called by."""
    if spec.blobs is None:
        return 0
    if not spec.blobs.is_dir():
        raise GenesisError(f"genesis file {spec.path}: blobs: expected a folder, got {spec.blobs}, which is none")
    files = [file for file in sorted(spec.blobs.iterdir()) if _BLOB_NAME.fullmatch(file.name)]
    for file in files:
        if blob_root(file.read_bytes()).hex() != file.name:
            raise GenesisError(f"genesis file {spec.path}: blobs: {file} has another root than its name says")
    return len(files)


def write(path: Path, document: Mapping[str, Any]) -> Checked:
    """Write a new file, once the loader takes it; NewChainError, GenesisError, and nothing is written."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n")
        try:
            checked = check(partial)
        except GenesisError as error:
            raise GenesisError(str(error).replace(str(partial), str(path))) from None
        path.hardlink_to(partial)  # Unlike a rename it takes the place of nothing.
        sync_folder(path.parent)
    except FileExistsError:
        raise NewChainError(f"{path} exists already and is left as it is; choose another name") from None
    except OSError as error:
        raise NewChainError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return checked
