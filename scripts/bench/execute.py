"""Executes blocks of signed transfers on a ledger on disk and prints what each part of that takes.

    taskset -c 1 .venv/bin/python scripts/bench/execute.py [--blocks 7] [--profile]

Every transfer has a sender and a receiver of its own. A block is built on one ledger and executed on another, each the
first time with signatures that nobody has verified, and then again with all of them verified.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from figures import Figures, heading, machine, profiled, show, show_rate

from chain.ledger import ExecutedBlock, Ledger
from chain.primitives import bls
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.merkle import ordered_root
from chain.primitives.seal import Phase, Seal, beacon_message, bitmap, vote_message
from chain.primitives.types import Block, decode_extrinsic, sign_extrinsic
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BLOCK_TIME_MS, ENDOWMENT, GENESIS_TIME_MS, POT, bls_secret, genesis_config
from runtime.types import InherentData

GOAL = 2500.0  # transactions a second


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=7, help="how many samples of each figure")
    parser.add_argument("--transfers", type=int, default=1000, help="how many a block holds")
    parser.add_argument("--accounts", type=int, default=20_000, help="how many the chain has")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("--short", action="store_true", help="two small blocks, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.blocks, options.transfers, options.accounts = 2, 20, 60
    print(machine())
    for scheme in Scheme:
        measure(scheme, options.blocks, options.transfers, options.accounts, options.profile)


def sampled(scheme: Scheme, blocks: int, transfers: int, accounts: int, profile: bool) -> Figures:
    """Blocks of transfers signed in one scheme: a sample of each figure for each block."""
    senders = [Keypair.from_seed(hashlib.sha256(b"sender %d" % index).digest(), scheme) for index in range(transfers)]
    others = [hashlib.sha256(b"receiver %d" % index).digest() for index in range(accounts - transfers)]
    balances = dict.fromkeys([ALICE.public, *(sender.public for sender in senders), *others], ENDOWMENT)
    genesis = Executive(RUNTIME).genesis(genesis_config(validators=[ALICE], balances=balances))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        executive = Executive(RUNTIME)
        author = _open(Path(folder) / "author", Executive(RUNTIME), genesis)
        importer = _open(Path(folder) / "importer", executive, genesis)
        try:
            for number in range(blocks + 1 + profile):
                first = number * transfers % len(others)
                receivers = (others[first:] + others)[:transfers]
                raws = [
                    transfer(author.genesis_hash, sender, receiver, number)
                    for sender, receiver in zip(senders, receivers, strict=True)
                ]
                if number > blocks:
                    executed = propose(author, raws)
                    with profiled(f"executing {transfers} transfers, {scheme.name.lower()}, not verified before"):
                        importer.execute(executed.block)
                else:  # the first one warms up
                    _measure_block(figures if number else Figures(), author, importer, executive, raws)
        finally:
            author.close()
            importer.close()
    return figures


def measure(scheme: Scheme, blocks: int, transfers: int, accounts: int, profile: bool) -> None:
    """Print what such blocks take."""
    figures = sampled(scheme, blocks, transfers, accounts, profile)
    heading(f"{transfers} transfers a block, {scheme.name.lower()}, {accounts} accounts, {blocks} blocks")
    for name in ("propose, first", "propose, verified", "decode block", "execute, first", "execute, verified"):
        show(name, figures[name])
    show("  of it: signatures", figures["execute, first"] - figures["execute, verified"])
    show("  of it: decode transactions", figures["decode transactions"])
    show("  of it: dispatch", figures["runtime"] - figures["decode transactions"])
    show("  of it: extrinsics root", figures["extrinsics root"])
    show("  of it: state root", figures["execute, verified"] - figures["runtime"] - figures["extrinsics root"])
    show("commit to LMDB", figures["commit"])
    show_rate("decode and execute, first", transfers, figures["decode block"] + figures["execute, first"], GOAL)
    show_rate("decode and execute, verified", transfers, figures["decode block"] + figures["execute, verified"], GOAL)
    show_rate("transfers proposed, first", transfers, figures["propose, first"], GOAL)
    show_rate("transfers proposed, verified", transfers, figures["propose, verified"], GOAL)


def _measure_block(
    figures: Figures, author: Ledger, importer: Ledger, executive: Executive, raws: Sequence[bytes]
) -> None:
    """Take one sample of each figure; `executive` is the importer's, which knows the signatures by then."""
    with figures.sample("propose, first"):
        propose(author, raws)
    with figures.sample("propose, verified"):
        proposed = propose(author, raws)
    payload = proposed.block.encode()
    with figures.sample("decode block"):
        block = Block.decode(payload)
    with figures.sample("execute, first"):
        executed = importer.execute(block)
    with figures.sample("execute, verified"):
        importer.execute(block)
    with figures.sample("decode transactions"):
        for raw in block.extrinsics:
            decode_extrinsic(raw, RUNTIME.call_codec)
    with figures.sample("extrinsics root"):
        ordered_root(block.extrinsics)
    with importer.state() as state, figures.sample("runtime"):
        executive.execute(state, block.header, block.extrinsics)
    assert executed.executed.changes == proposed.executed.changes
    seal = sealed(author, proposed)
    author.commit(proposed, seal)
    with figures.sample("commit"):
        importer.commit(executed, seal)


def _open(path: Path, executive: Executive, genesis: dict[bytes, bytes]) -> Ledger:
    return Ledger.open(path, executive=executive, genesis_state=genesis, genesis_name="bench")


def transfer(genesis_hash: bytes, sender: Keypair, receiver: bytes, nonce: int) -> bytes:
    return sign_extrinsic(
        sender,
        RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=receiver, value=POT)),
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=genesis_hash,
    )


def propose(ledger: Ledger, raws: Sequence[bytes]) -> ExecutedBlock:
    """A block with all the transactions, on the head."""
    height = ledger.head.height + 1
    inherent = InherentData(GENESIS_TIME_MS + height * BLOCK_TIME_MS, ledger.seal(ledger.head_hash))
    beacon = bls.sign(bls_secret(ALICE), beacon_message(ledger.genesis_hash, height))
    executed, rejected = ledger.propose(height, 0, beacon, inherent, raws)
    assert not rejected, rejected
    included = executed.block.extrinsics[-len(raws) :]
    assert included == list(raws), f"expected {len(raws)} transactions in the block, got {len(included)}"
    return executed


def sealed(ledger: Ledger, executed: ExecutedBlock) -> Seal:
    message = vote_message(ledger.genesis_hash, 0, executed.height, 0, Phase.COMMIT, executed.hash)
    return Seal(executed.height, 0, 0, executed.hash, bitmap([0], 1), bls.sign(bls_secret(ALICE), message))


if __name__ == "__main__":
    main()
