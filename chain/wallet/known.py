"""What is known here of a chain without any node: the runtime that is installed, or that of a genesis file.

Rule: what this program has itself, no node tells it otherwise. A signature binds the runtime's version and the chain's
genesis, but not how a node describes its calls or what it takes a token for: who lies about these would have somebody
sign another call, or a thousand times the amount, than is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from chain.display import POTS, Token, token_of
from chain.light.checkpoint import Checkpoint
from chain.primitives.hashing import Hash
from chain.rpc.client import Client, ClientError
from chain.rpc.errors import OtherChain
from chain.rpc.transactions import unhex
from chain.wallet.node import Chain
from genesis.spec import load
from runtime.composition import Runtime
from runtime.modules.system import SS58_PREFIX
from runtime.potchain import RUNTIME
from runtime.types import GenesisError

# Where metadata says its version, behind four letters.
_VERSION: Final = 4
_GENESIS_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")


class Versioned(Protocol):
    """What says which runtime it is for: a chain, or a transaction."""

    @property
    def spec_name(self) -> str: ...
    @property
    def spec_version(self) -> int: ...
    @property
    def transaction_version(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a person's own machine says of a chain: its runtime, how amounts and accounts look, and maybe which it is.

    `source` is whose word it is.
    """

    runtime: Runtime[Any] = RUNTIME
    token: Token = POTS
    prefix: int = SS58_PREFIX
    genesis_hash: Hash | None = None  # None for whichever chain a node has.
    source: str = "installed here"

    @classmethod
    def of(cls, text: str | None) -> Known:
        """By a genesis file, which names a runtime; by a genesis hash, or nothing: the installed one. GenesisError."""
        if text is None:
            return cls()
        if text.startswith("0x"):
            if not _GENESIS_HASH.fullmatch(text):
                raise GenesisError(f"--genesis: expected a file, or 0x and 64 hex digits, got {text[:80]!r}")
            return cls(genesis_hash=bytes.fromhex(text[2:]))
        spec = load(Path(text))
        properties = spec.properties
        token = Token(properties.token_symbol, properties.token_decimals)
        return cls(spec.runtime, token, properties.ss58_format, Checkpoint.of(spec).genesis_hash, f"that of {text}")

    def describes(self, told: Versioned) -> bool:
        """Whether its runtime is the one that something is for, so that calls are known without a node."""
        version = self.runtime.version
        return (version.spec_name, version.spec_version, version.transaction_version) == (
            told.spec_name,
            told.spec_version,
            told.transaction_version,
        )

    def check(self, chain: Chain, *, trust_node: bool) -> None:
        """ClientError where nothing may be signed by what a node says: of another chain, of a runtime that is not known
        here, unless its word is taken for that, or otherwise of one that is."""
        url = chain.client.url
        self._check_genesis(url, chain.genesis_hash)
        if not self.describes(chain):
            if trust_node:
                return
            known = self.runtime.version
            raise ClientError(
                f"{url} runs {chain.spec_name} {chain.spec_version}, of which nothing is known here (the runtime "
                f"{self.source} is {known.spec_name} {known.spec_version}), so it alone says what would be signed: "
                "give --genesis FILE of a chain with a runtime of its own, or --trust-node to believe what this node "
                "says of calls and amounts. Nothing was sent"
            )
        self._check_token(url, chain.token)
        if chain.metadata.raw != self.runtime.metadata(chain.metadata.raw[_VERSION]):
            raise ClientError(
                f"{url} describes the runtime {chain.spec_name} {chain.spec_version} otherwise than {self._here}: it "
                "would have another call signed than is shown, or a runtime was changed without a new version. Ask "
                "another node; nothing was sent"
            )

    async def check_chain(self, client: Client) -> None:
        """OtherChain where the node of a client is of another one."""
        if self.genesis_hash is not None:
            self._check_genesis(client.url, unhex(await client.request("chain_getBlockHash", 0)))

    async def check_node(self, client: Client) -> None:
        """ClientError where nothing may be signed by what the node of a client, who has this runtime, says of amounts,
        or where it is of another chain."""
        await self.check_chain(client)
        self._check_token(client.url, (await token_of(client))[0])

    def _check_genesis(self, url: str, found: Hash) -> None:
        if self.genesis_hash is not None and self.genesis_hash != found:
            raise OtherChain(url, found, self.genesis_hash)

    def _check_token(self, url: str, found: Token) -> None:
        if found.decimals != self.token.decimals:
            raise ClientError(
                f"{url} says that a token has {found.decimals} decimals, and by what is known here it has "
                f"{self.token.decimals}: every amount would be another than is shown. Ask another node, or give the "
                "chain's --genesis FILE if its token is another; nothing was sent"
            )

    @property
    def _here(self) -> str:
        return "it is installed here" if self.runtime is RUNTIME else f"{self.source} is"


# Whichever chain a node has, of the runtime that is installed here.
ANY_CHAIN: Final = Known()
