"""What must be true at the end of a run, whatever was done: of each node's chain, of its state, of the logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chain.primitives.hashing import Hash
from chain.rpc.client import Client
from chain.rpc.link import Link
from tests.perturbation.history import History
from tests.perturbation.observer import block_body, hashes

# What a log must not hold: an exception that nobody took, and a task that ended with one.
BAD_LINES: Final = ("Traceback (most recent call last)", "a fault of ours")


async def check_chain(history: History, node: str, link: Link, height: int) -> None:
    """Read a node's whole chain up to a height again, and compare it with all that was ever told."""
    chain: dict[int, tuple[Hash, Sequence[bytes]]] = {}
    for at, block_hash in enumerate(await hashes(link, height)):
        body = None if block_hash is None else await block_body(link, block_hash)
        if block_hash is not None and body is not None:
            chain[at] = block_hash, body
    history.check_chain(node, chain, height)


async def check_state(client: Client, at: Hash) -> list[str]:
    """Money is neither made nor lost, and nobody has signed two votes."""
    issuance, accounts, offences = await client.read(
        lambda chain: (
            chain.balances.total_issuance.get(),
            list(chain.system.account.items()),
            list(chain.validators.offences.items()),
        ),
        at="0x" + at.hex(),
    )
    balances = sum(info.data.free + info.data.reserved for _, info in accounts)
    found = []
    if issuance != balances:
        found.append(f"issuance is {issuance}, and the balances add up to {balances}")
    for (set_id, account), offence in offences:
        found.append(f"evidence on chain: 0x{account.hex()} of set {set_id} signed two votes: {offence}")
    return found


def check_logs(logs: Mapping[str, Path]) -> list[str]:
    """No log shows an exception that nobody expected."""
    found = []
    for name, path in sorted(logs.items()):
        text = path.read_text(errors="replace") if path.exists() else ""
        found += [f"{name}'s log has {text.count(bad)} times: {bad} ({path})" for bad in BAD_LINES if bad in text]
    return found
