"""What a node is told from outside: who it is, where it listens, what it keeps, and whom it knows by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chain.key_source import KeySource
from chain.keystore import KeyFileError, NoSuchKey, read_secret, write_private
from chain.net.network import head_of
from chain.pool import PoolLimits
from chain.primitives.keys import Keypair, Scheme
from chain.rpc.access import EVERY_INTERFACE, LOOPBACK, Access
from chain.rpc.protocol import Limits
from chain.sync.mode import SyncMode
from chain.validator_keys import ValidatorKeys
from consensus.lookback import Past
from genesis.spec import Address, GenesisSpec


@dataclass(frozen=True, slots=True)
class NodeRole:
    """Who this node is: `offset` is its place among the development validators, which its default ports follow."""

    name: str
    offset: int
    keys: ValidatorKeys | None
    is_known: bool = False  # Whether everybody has its keys: there may be several chains of them on one machine.

    @classmethod
    def of(cls, spec: GenesisSpec, validator: KeySource | None, name: str | None) -> NodeRole:
        """The role that --validator and --name ask for; KeyFileError where there is no such key."""
        if validator is None:
            return cls(name or "full-node", len(spec.development.validators) if spec.development else 0, None)
        known = spec.validator_key(validator.text)
        if known is not None:
            offset, key = known
            return cls(name or key.name, offset, ValidatorKeys.from_uri(key.uri), is_known=True)
        try:
            return cls(name or validator.name or "validator", 0, validator.validator())
        except NoSuchKey as error:
            names = ", ".join(key.name for key in spec.development.validators) if spec.development else ""
            others = f"; the genesis file's development validators are {names}" if names else ""
            raise KeyFileError(f"--validator: {error}{others}") from None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All that a node is told from outside."""

    spec: GenesisSpec
    role: NodeRole
    data_path: Path
    rpc_port: int
    port: int
    bootnodes: tuple[Address, ...]
    access: Access
    limits: Limits
    history: int | None  # how many states stay readable, None for all
    sync: SyncMode  # how an empty data folder begins
    pool_limits: PoolLimits
    supervised: bool
    listen_host: str = LOOPBACK  # where peers reach this node
    metrics: tuple[str, int] | None = None  # where Prometheus asks: host and port
    public: Address | None = None  # where others find this node, if that is not where they see it
    past: Past = Past.UNKNOWN  # What a validator without a vote log takes for its key's past.


def is_own(address: Address, config: NodeConfig) -> bool:
    """Whether a bootnode is plainly this node; one that turns out to be is not dialled again either."""
    is_everywhere = config.listen_host in (LOOPBACK, EVERY_INTERFACE, "::")
    hosts = (config.listen_host, LOOPBACK, "localhost") if is_everywhere else (config.listen_host,)
    return address.port == config.port and address.host in hosts


def names_of_nodes(spec: GenesisSpec) -> Callable[[bytes], str]:
    """What logs call a node: the name of the development validator whose it is, or the head of its id."""
    known = spec.development.validators if spec.development else ()
    names = {ValidatorKeys.from_uri(key.uri).node.public: key.name for key in known}
    return lambda identity: names.get(identity) or head_of(identity)


def node_key(path: Path) -> Keypair:
    """A full node's own identity: made at the first start, kept in its data folder."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, f"0x{os.urandom(32).hex()}\n".encode())
    return read_secret(path).keypair(Scheme.ED25519)
