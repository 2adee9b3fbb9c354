"""The import rules between packages: who may see whom, read from the source itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genesis.guard.files import check_file

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("chain", "runtime", "consensus", "trainer", "genesis")

# One third-party library a file at most: a codec cannot quietly come to depend on a signature library.
PRIMITIVE_LIBRARIES = {"nacl", "sr25519", "bip39", "xxhash", "py_arkworks_bls12381", "py_ecc", "msgpack"}


def sources(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that the file imports, at its top or inside a function, as a dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the package"
            assert node.module
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


def is_under(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def third_party(names: set[str]) -> set[str]:
    return {top(name) for name in names} - set(sys.stdlib_module_names) - set(PACKAGES)


@pytest.mark.parametrize("path", list(sources("chain/primitives")), ids=str)
def test_a_primitive_sees_only_primitives_and_at_most_one_library(path: Path) -> None:
    names = imports(path)
    ours = {name for name in names if top(name) in PACKAGES}
    assert all(is_under(name, "chain", "chain.primitives") for name in ours)
    assert {name for name in ours if not is_under(name, "chain.primitives")} <= {"chain"}
    libraries = third_party(names)
    assert libraries <= PRIMITIVE_LIBRARIES
    assert len(libraries) <= 1


# What tests import is no part of a block.
RUNTIME = [path for path in sources("runtime") if path.name != "testing.py"]


@pytest.mark.parametrize("path", RUNTIME, ids=str)
def test_the_runtime_is_deterministic_by_the_rules_that_hold_for_everybodys_modules(path: Path) -> None:
    assert [str(finding) for finding in check_file(path).findings] == []


@pytest.mark.parametrize("path", list(sources("consensus")), ids=str)
def test_consensus_sees_primitives_and_only_its_gadget_sees_trio(path: Path) -> None:
    names = imports(path)
    for name in names:
        if top(name) in PACKAGES:
            assert is_under(name, "consensus", "chain.primitives"), name
    assert third_party(names) <= ({"trio", "outcome"} if path.name == "gadget.py" else set())


@pytest.mark.parametrize("path", list(sources("trainer")), ids=str)
def test_the_trainer_reaches_the_chain_only_through_its_rpc_client(path: Path) -> None:
    for name in imports(path):
        if top(name) in PACKAGES:
            of_chain = ("primitives", "rpc.client", "tasks", "terms", "display", "wallet.known")
            allowed = ("trainer", *(f"chain.{module}" for module in of_chain))
            assert is_under(name, *allowed) or name in {"chain", "chain.rpc"}, name


@pytest.mark.parametrize("path", list(sources("genesis")), ids=str)
def test_genesis_sees_only_primitives_and_the_runtime(path: Path) -> None:
    for name in imports(path):
        if top(name) in PACKAGES:
            assert is_under(name, "genesis", "chain.primitives", "runtime"), name


@pytest.mark.parametrize("path", list(sources("chain")), ids=str)
def test_only_the_command_line_reaches_the_trainer_and_nobody_imports_jax(path: Path) -> None:
    names = imports(path)
    assert not {top(name) for name in names} & {"jax", "jaxlib", "flax", "optax"}
    if not path.name.startswith("cli"):
        assert "trainer" not in {top(name) for name in names}


@pytest.mark.parametrize("path", list(sources("chain/light")), ids=str)
def test_the_light_client_needs_no_node_and_only_its_client_sees_trio(path: Path) -> None:
    names = imports(path)
    for name in names:
        if top(name) in PACKAGES:
            allowed = ("chain.light", "chain.primitives", "chain.printable", "chain.rpc.link", "chain.rpc.errors")
            assert is_under(name, *allowed, "runtime", "genesis") or name == "chain", name
    assert third_party(names) <= ({"trio"} if path.name == "client.py" else set())


SANS_IO = [
    "consensus/replica.py",
    "consensus/messages.py",
    "chain/pool.py",
    "chain/net/frames.py",
    "chain/net/book.py",
    "chain/rpc/protocol.py",
    "chain/light/verify.py",
    "chain/light/follower.py",
    "chain/light/age.py",
    "chain/sync/planner.py",
    "chain/sync/proving.py",
    "chain/sync/progress.py",
    "chain/sync/warp_plan.py",
]


@pytest.mark.parametrize("path", SANS_IO)
def test_a_core_never_awaits(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor)]
