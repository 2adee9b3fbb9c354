"""Finds the runtime that a genesis file names as `module:NAME`: this project's own, or one that somebody else wrote.

A module of another's is looked for wherever Python finds packages, then beside the genesis file. It runs with the
node's rights: whoever runs a chain trusts its runtime. The determinism guard looks for its mistakes.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Final

from chain.primitives.hashing import Hash, blake2_256
from genesis.guard.files import Report, check_runtime
from runtime.composition import Runtime, View
from runtime.framework import Module
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import Validators
from runtime.types import GenesisError

_HOME: Final = Path(__file__).resolve().parents[1]  # where this project's own packages lie
DEFAULT: Final = "runtime.potchain:RUNTIME"
# What a node itself asks: accounts and nonces, block times, fees, and who seals.
REQUIRED: Final[tuple[type[Module], ...]] = (System, Timestamp, Balances, TransactionPayment, Validators)


def load_runtime(reference: str, folder: Path) -> Runtime[View]:
    """The runtime under `reference`, which the guard finds deterministic; GenesisError says what is wrong with it."""
    found = import_runtime(reference, folder)
    findings = check(reference, found).findings
    if findings:
        more = f" (the first of {len(findings)}; see: potchain module check {reference})" if findings[1:] else ""
        raise GenesisError(f"{reference} may give each validator another result: {findings[0]}{more}")
    return found


def sources_digest(reference: str, runtime: Runtime[View]) -> Hash:
    """A digest of all Python source that decides what a runtime makes of a block, wherever it lies."""
    ours = (file for package in ("runtime", "chain/primitives") for file in (_HOME / package).rglob("*.py"))
    files = {*ours, *check(reference, runtime).files} - {_HOME / "runtime" / "testing.py"}
    return blake2_256(b"".join(sorted(blake2_256(file.read_bytes()) for file in files)))


def check(reference: str, runtime: Runtime[View]) -> Report:
    """What the guard says of an imported runtime."""
    try:
        return check_runtime(reference.partition(":")[0], runtime)
    except OSError as error:
        raise GenesisError(f"{reference} cannot be examined: {error}") from None


def import_runtime(reference: str, folder: Path) -> Runtime[View]:
    """The runtime under `reference`, whatever the guard says of it; GenesisError if it is none that a node can run."""
    module_name, colon, name = reference.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise GenesisError(f"expected MODULE:NAME, such as {DEFAULT}, got {reference!r}")
    beside = str(folder.resolve())
    if beside not in sys.path:
        sys.path.append(beside)  # behind everything else: a file there hides no library
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, error) from error
        file = f"{error.name.replace('.', '/')}.py"
        raise GenesisError(f"no Python module {error.name}: put {file} into {beside}, or install it") from None
    except Exception as error:
        raise _broken(module_name, error) from error
    found = getattr(module, name, None)
    if not isinstance(found, Runtime):
        raise GenesisError(f"{module_name} has no Runtime {name}; got {type(found).__name__}")
    for cls in REQUIRED:
        if not found.has(cls):
            raise GenesisError(f"{reference} lacks the module {cls.__name__}, which every node needs")
    return found


def _broken(module_name: str, error: Exception) -> GenesisError:
    """What the chain's own code raised while it was imported, with the place: a node's operator can tell its author."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, SyntaxError) else f" ({place.filename}, line {place.lineno})"
    return GenesisError(f"{module_name} cannot be imported: {type(error).__name__}: {error}{where}")
