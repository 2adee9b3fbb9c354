"""Runs a test's scenario in a simulated cluster: on virtual time, with stub signatures, from a seed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from chain.simulation.clock import run_virtually
from chain.simulation.cluster import Cluster, World
from chain.simulation.crypto import stub_signatures

Scenario = Callable[[Cluster, trio.Nursery], Awaitable[None]]


def play(
    scenario: Scenario, n: int, seed: int = 0, liars: Mapping[int, str] | None = None, world: World | None = None
) -> Cluster:
    """Run a scenario to its end, and return the cluster as it then was."""

    async def main() -> Cluster:
        cluster = Cluster(n, seed, liars, world)
        async with trio.open_nursery() as nursery:
            await scenario(cluster, nursery)
            nursery.cancel_scope.cancel()
        return cluster

    with stub_signatures():
        return run_virtually(seed, main)
