"""How commands reach a node: who watches is told what is waited for where that takes a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chain.cli_common import UserError
from chain.display import waiting
from chain.rpc.client import Client
from chain.wallet.known import Known
from runtime.framework import Module


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client of the node at `url`, to ask it; raises what `Client.connect` does."""
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            client = await stack.enter_async_context(Client.connect(url))
        yield client


@asynccontextmanager
async def connected_to_sign(url: str, known: Known, module: type[Module]) -> AsyncIterator[Client]:
    """A client of the node at `url`, to sign calls of a module by what is known of its chain.

    Raises what `Client.connect` and `Known.check_node` do, and UserError where the chain has no such module.
    """
    if not known.runtime.has(module):
        raise UserError(f"the chain's runtime, {known.source}, lacks the module {module.__name__}: nothing was sent")
    async with AsyncExitStack() as stack:
        with waiting(f"waiting for {url} to answer …"):
            client = await stack.enter_async_context(Client.connect(url, known.runtime, known.genesis_hash))
            await known.check_node(client)
        yield client
