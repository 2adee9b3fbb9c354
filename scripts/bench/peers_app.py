"""py-evm's part of peers.py, for the Python that has it: builds blocks of transfers and imports them elsewhere.

    PYTHON scripts/bench/peers_app.py BLOCKS TRANSFERS

Prints its version, and wall and processor seconds of each block, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from eth import constants  # type: ignore[import-not-found]
from eth.chains.base import MiningChain  # type: ignore[import-not-found]
from eth.consensus import NoProofConsensus  # type: ignore[import-not-found]
from eth.db.atomic import AtomicDB  # type: ignore[import-not-found]
from eth.vm.forks import LondonVM  # type: ignore[import-not-found]
from eth_keys.datatypes import PrivateKey

GAS = 21_000  # of a transfer
FEE = 10**10
RICH = 10**24
# A block may be twice as full as its target, and the limit falls a little with each that is emptier.
ROOM = 3

seconds: dict[str, list[tuple[float, float]]] = {"build": [], "import": []}


def main() -> None:
    """Measure and print."""
    blocks, transfers = map(int, sys.argv[1:])
    senders = [PrivateKey(hashlib.sha256(b"sender %d" % index).digest()) for index in range(transfers)]
    receivers = [hashlib.sha256(b"receiver %d" % index).digest()[:20] for index in range(transfers)]
    author, importer = chain(senders), chain(senders)
    for nonce in range(blocks + 1):
        transactions = [signed(author, *pair, nonce) for pair in zip(senders, receivers, strict=True)]
        with sample("build"):
            block = author.mine_all(transactions)[0].imported_block
        # By way of bytes, so that nobody knows the senders yet.
        decode = importer.get_vm().get_transaction_builder().decode
        fresh = block.copy(transactions=tuple(decode(each.encode()) for each in block.transactions))
        with sample("import"):
            imported = importer.import_block(fresh).imported_block
        assert imported.hash == block.hash
        assert len(imported.transactions) == transfers
    assert importer.get_vm().state.get_balance(receivers[0]) == blocks + 1
    # The first one warms up.
    print(json.dumps({"version": version("py-evm"), **{name: taken[1:] for name, taken in seconds.items()}}))


@contextmanager
def sample(name: str) -> Iterator[None]:
    """Time the body."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))


def chain(rich: list[Any]) -> Any:
    """A chain in memory that asks for no proof of work."""
    london = LondonVM.configure(consensus_class=NoProofConsensus)
    made = MiningChain.configure(vm_configuration=((constants.GENESIS_BLOCK_NUMBER, london),), chain_id=1337)
    empty = {"nonce": 0, "code": b"", "storage": {}}
    return made.from_genesis(
        AtomicDB(),
        {"difficulty": 1, "gas_limit": ROOM * GAS * max(len(rich), 100), "timestamp": 1},
        {key.public_key.to_canonical_address(): {"balance": RICH, **empty} for key in rich},
    )


def signed(on: Any, sender: Any, receiver: bytes, nonce: int) -> Any:
    """A transfer."""
    unsigned = on.create_unsigned_transaction(nonce=nonce, gas_price=FEE, gas=GAS, to=receiver, value=1, data=b"")
    return unsigned.as_signed_transaction(sender, chain_id=1337)


if __name__ == "__main__":
    main()
