"""The blockchain node: storage, ledger, pool, network, RPC and command line around the runtime."""

__version__ = "0.1.0"
