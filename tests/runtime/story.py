"""One story that touches every module, printed as state roots: run in processes that must agree."""

from __future__ import annotations

from runtime.testing import ALICE, BOB, CHARLIE, EVE, FERDIE, POT, TestChain


def state_roots() -> list[str]:
    """The state roots of a chain's first blocks, after transactions that succeed and fail."""
    chain = TestChain()
    roots = [chain.tree.root_hash.hex()]
    for worker in (EVE, FERDIE):
        chain.submit(worker, "training.register_worker")
    for height in range(4):
        chain.submit(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT + height)
        chain.submit(BOB, "balances.transfer_allow_death", dest=bytes((height,)) * 32, value=POT)
        chain.submit(CHARLIE, "balances.transfer_keep_alive", dest=ALICE, value=10**30)
        chain.submit(EVE, "system.remark_with_event", remark=b"%d" % height)
        chain.absent = {CHARLIE} if height % 2 else set()
        chain.close()
        roots.append(chain.tree.root_hash.hex())
    return roots


if __name__ == "__main__":
    print("\n".join(state_roots()))
