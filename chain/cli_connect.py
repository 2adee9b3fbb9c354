"""How commands reach a node: who watches is told what is waited for where that takes a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chain.display import waiting
from chain.rpc.client import Client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client of the node at `url`; raises what `Client.connect` does."""
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            client = await stack.enter_async_context(Client.connect(url))
        yield client
