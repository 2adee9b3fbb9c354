"""How commands reach a node: who watches is told what is waited for where that takes a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chain.display import waiting
from chain.rpc.client import Client
from chain.wallet.known import Known


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client of the node at `url`, to ask it; raises what `Client.connect` does."""
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            client = await stack.enter_async_context(Client.connect(url))
        yield client


@asynccontextmanager
async def connected_to_sign(url: str, known: Known) -> AsyncIterator[Client]:
    """A client of the node at `url`, to sign by what is known of its chain; raises what `check_node` does, too."""
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            client = await stack.enter_async_context(Client.connect(url, known.runtime, known.genesis_hash))
            await known.check_node(client)
        yield client
