"""All RPC methods of a node."""

from __future__ import annotations

from chain.rpc import methods_author, methods_chain, methods_payment, methods_state, methods_system, methods_training
from chain.rpc.registry import Registry


def all_methods() -> Registry:
    """A new table with every method; `rpc_methods` lists it."""
    registry = Registry()
    for part in (
        methods_author.registry,
        methods_chain.registry,
        methods_payment.registry,
        methods_state.registry,
        methods_system.registry,
        methods_training.registry,
    ):
        registry.include(part)

    @registry.sync("rpc_methods")
    def rpc_methods(context: object) -> dict[str, object]:
        """What this table holds."""
        del context
        return {"methods": sorted(registry.methods)}

    return registry
