"""All RPC methods of a node."""

from __future__ import annotations

from chain.rpc import (
    methods_archive,
    methods_author,
    methods_chain,
    methods_chainhead,
    methods_chainspec,
    methods_childstate,
    methods_consensus,
    methods_earnings,
    methods_explorer,
    methods_payment,
    methods_prepare,
    methods_state,
    methods_system,
    methods_training,
    methods_transaction,
)
from chain.rpc.registry import Registry
from runtime.composition import Runtime, View
from runtime.modules.training import Training


def all_methods(runtime: Runtime[View]) -> Registry:
    """A new table with every method that a chain of this runtime has; `rpc_methods` lists it."""
    registry = Registry()
    for part in (
        methods_archive.registry,
        methods_author.registry,
        methods_chain.registry,
        methods_chainhead.registry,
        methods_chainspec.registry,
        methods_childstate.registry,
        methods_consensus.registry,
        methods_explorer.registry,
        methods_payment.registry,
        methods_prepare.registry,
        methods_state.registry,
        methods_system.registry,
        methods_transaction.registry,
    ):
        registry.include(part)
    if runtime.has(Training):
        registry.include(methods_training.registry)
        registry.include(methods_earnings.registry)

    @registry.sync("rpc_methods")
    def rpc_methods(context: object) -> dict[str, object]:
        """What this table holds."""
        del context
        return {"methods": sorted(registry.methods)}

    return registry
