"""`chainSpec_v1_*`: what the genesis file says of the chain, as the JSON-RPC interface specification has it."""

from __future__ import annotations

from chain.rpc.context import Context, hexed
from chain.rpc.registry import Registry

registry = Registry()


@registry.sync("chainSpec_v1_chainName")
def chain_spec_v1_chain_name(context: Context) -> str:
    """The chain's name."""
    return context.backend.chain_name


@registry.sync("chainSpec_v1_genesisHash")
def chain_spec_v1_genesis_hash(context: Context) -> str:
    """The hash of block 0."""
    return hexed(context.backend.ledger.genesis_hash)


@registry.sync("chainSpec_v1_properties")
def chain_spec_v1_properties(context: Context) -> dict[str, object]:
    """The token's symbol and decimals, and the SS58 prefix of addresses."""
    return dict(context.backend.properties)
