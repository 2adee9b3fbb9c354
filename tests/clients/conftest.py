"""One node and one installation for all tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from tests.clients.kit import POT, ROOT, RunningNode, install, running_node

CROWD = 1100  # more accounts than clients read in one page


def genesis() -> dict[str, Any]:
    """The testnet's chain with one validator, which needs nobody else, two blocks a second, and a crowd of accounts."""
    spec: dict[str, Any] = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    spec["consensus"]["blockTimeMs"] = 500
    spec["bootnodes"] = []
    spec["blobs"] = str(ROOT / "genesis" / "blobs")
    spec["development"].update(validators=spec["development"]["validators"][:1], workers=[], aggregators=[])
    spec["genesis"]["validators"]["authorities"] = spec["genesis"]["validators"]["authorities"][:1]
    crowd = [ss58.encode(blake2_256(index.to_bytes(2))) for index in range(CROWD)]
    spec["genesis"]["balances"]["balances"] += [[address, POT] for address in crowd]
    return spec


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    base = tmp_path_factory.mktemp("clients")
    file = base / "genesis.json"
    file.write_text(json.dumps(genesis()))
    with running_node(file, base / "data") as running:
        yield running


@pytest.fixture(scope="session")
def npm() -> None:
    install()
