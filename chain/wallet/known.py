"""What is known here of a chain without any node: the runtime that is installed.

Rule: what this program has itself, no node tells it otherwise. A signature binds the runtime's version and the chain's
genesis, but not how a node describes its calls or what it takes a token for: who lies about these would have somebody
sign another call, or a thousand times the amount, than is shown.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from chain.display import POTS
from chain.rpc.client import ClientError
from chain.wallet.node import Chain
from runtime.composition import Runtime
from runtime.potchain import RUNTIME

# Where metadata says its version, behind four letters.
_VERSION: Final = 4


class Versioned(Protocol):
    """What says which runtime it is for: a chain, or a transaction."""

    @property
    def spec_name(self) -> str: ...
    @property
    def spec_version(self) -> int: ...
    @property
    def transaction_version(self) -> int: ...


def is_of(runtime: Runtime[Any], told: Versioned) -> bool:
    """Whether a runtime is the one that something is for, as far as that says so."""
    version = runtime.version
    return (version.spec_name, version.spec_version, version.transaction_version) == (
        told.spec_name,
        told.spec_version,
        told.transaction_version,
    )


def is_known(chain: Chain) -> bool:
    """Whether the runtime that a node says to have is installed here, so that its calls are known without it."""
    return is_of(RUNTIME, chain)


def check_known(chain: Chain) -> None:
    """ClientError where a node describes otherwise what is known here; nothing may be signed by what it says."""
    if is_known(chain) and chain.token.decimals != POTS.decimals:
        raise ClientError(
            f"{chain.client.url} says that a token has {chain.token.decimals} decimals, but on this chain it has "
            f"{POTS.decimals}: every amount would be another than is shown. Ask another node; nothing was sent"
        )
    if is_known(chain) and chain.metadata.raw != RUNTIME.metadata(chain.metadata.raw[_VERSION]):
        raise ClientError(
            f"{chain.client.url} describes the runtime {chain.spec_name} {chain.spec_version} otherwise than it is "
            "installed here: it would have another call signed than is shown, or a runtime was changed without a new "
            "version. Ask another node; nothing was sent"
        )
