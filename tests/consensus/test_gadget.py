"""The gadget, with real signatures and logs, on a virtual clock: what a network of validators is seen to do."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.consensus.network import Network


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
async def test_validators_seal_a_block_every_block_time(n: int, tmp_path: Path, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, tmp_path, n)
        await network.start(*range(n))
        with trio.fail_after(10):
            await network.reach(5)
        assert trio.current_time() < 5.5
        assert [payload.split(b" ")[:3] for payload in network.agreed()[:5]] == [
            [b"%d" % height, b"0", b"%d" % (height % n)] for height in range(1, 6)
        ]
        assert all(not node.faults for node in network.nodes.values())
        nursery.cancel_scope.cancel()


async def test_a_killed_primary_does_not_stop_the_chain(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = Network(nursery, tmp_path, 4)
        await network.start(0, 1, 2, 3)
        with trio.fail_after(60):
            await network.reach(1)
            network.kill(2)  # The primary of height 2.
            await network.reach(6)
        nursery.cancel_scope.cancel()
    assert network.agreed()[1].split(b" ")[:3] == [b"2", b"1", b"3"]
