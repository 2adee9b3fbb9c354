"""`system_*`: who this node is, how it is connected, and the next nonce of an account."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from chain import log
from chain.net.reserved import TooManyReserved
from chain.primitives.scale import U32, encode
from chain.rpc.backend import Backend
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.multiaddr import NodeAddress
from chain.rpc.params import AccountParam, BlockHash, Hex, HexBytes, WrongParameter, decode_text
from chain.rpc.registry import Registry
from runtime.faults import DispatchFault
from runtime.types import InvalidTransaction, UnknownTransaction

registry = Registry()

try:
    VERSION = version("potchain")
except PackageNotFoundError:  # Run from a checkout that was never installed.
    VERSION = "0.0.0"


def decode_node_address(value: object) -> NodeAddress:
    """A node's address with its peer id."""
    try:
        return NodeAddress.parse(decode_text(value))
    except ValueError as error:
        raise WrongParameter(str(error)) from None


def decode_peer_id(value: object) -> bytes:
    """A peer's id, as `peer_id` writes it."""
    if not isinstance(value, str):
        raise WrongParameter("a peer's id, 64 hex digits")
    return Hex(32)(f"0x{value.removeprefix('0x')}")


def decode_log_directives(value: object) -> dict[str, int]:
    """Levels by log."""
    try:
        return log.parse_levels(decode_text(value))
    except ValueError as error:
        raise WrongParameter(str(error)) from None


NodeAddressParam = Annotated[NodeAddress, decode_node_address]
PeerIdParam = Annotated[bytes, decode_peer_id]
LogDirectives = Annotated[dict[str, int], decode_log_directives]


def health(backend: Backend) -> dict[str, Any]:
    """What `system_health` and GET /health answer."""
    return {
        "peers": len(backend.peers()),
        "isSyncing": backend.sync_status.syncing,
        "shouldHavePeers": backend.chain_type != "Development",
    }


def peer_id(identity: bytes) -> str:
    """A node's public key as text, as logs show its head: clients take what begins with 0x for encoded bytes."""
    return identity.hex()


@registry.sync("system_name")
def system_name(context: Context) -> str:
    """The name of this software."""
    del context
    return "potchain"


@registry.sync("system_version")
def system_version(context: Context) -> str:
    """The version of this software."""
    del context
    return VERSION


@registry.sync("system_chain")
def system_chain(context: Context) -> str:
    """The chain's name."""
    return context.backend.chain_name


@registry.sync("system_chainType")
def system_chain_type(context: Context) -> str:
    """Development, Local or Live."""
    return context.backend.chain_type


@registry.sync("system_properties")
def system_properties(context: Context) -> dict[str, object]:
    """The token's symbol and decimals, and the SS58 prefix of addresses."""
    return dict(context.backend.properties)


@registry.sync("system_health")
def system_health(context: Context) -> dict[str, Any]:
    """How many peers there are, whether there should be any, and whether the node is catching up."""
    return health(context.backend)


@registry.sync("system_nodeRoles")
def system_node_roles(context: Context) -> list[str]:
    """Authority for a validator, Full for another node."""
    return list(context.backend.node_roles)


@registry.sync("system_localPeerId")
def system_local_peer_id(context: Context) -> str:
    """This node's id among peers, as libp2p writes an ed25519 key."""
    return peer_id(context.backend.local_identity)


@registry.sync("system_localListenAddresses")
def system_local_listen_addresses(context: Context) -> list[str]:
    """Each as another node's `system_addReservedPeer` takes it."""
    backend = context.backend
    return [str(NodeAddress(host, port, backend.local_identity)) for host, port in backend.listen_addresses]


@registry.sync("system_peers", unsafe=True)
def system_peers(context: Context) -> list[dict[str, Any]]:
    """The peers, with the newest block that each has told of."""
    return [
        {
            "peerId": peer_id(peer.id),
            "roles": "AUTHORITY" if peer.is_validator else "FULL",
            "address": peer.address,
            "bestHash": hexed(peer.best_hash),
            "bestNumber": peer.best_height,
        }
        for peer in context.backend.peers()
    ]


@registry.sync("system_addReservedPeer", unsafe=True)
def system_add_reserved_peer(context: Context, peer: NodeAddressParam) -> None:
    """Stay connected to a node, and let it go for no other, until it is removed or this node stops."""
    if peer.identity == context.backend.local_identity:
        raise RpcError(Code.INVALID_PARAMS, "Invalid params", "expected another node's address, got this one's own")
    try:
        context.backend.reserve_peer(peer.host, peer.port, peer.identity)
    except TooManyReserved as error:
        raise RpcError(Code.UNAVAILABLE, "Too many reserved peers", str(error)) from None


@registry.sync("system_removeReservedPeer", unsafe=True)
def system_remove_reserved_peer(context: Context, peer_id: PeerIdParam) -> None:
    """Let go of a reserved node, as if it had never been one."""
    if not context.backend.release_peer(peer_id):
        raise RpcError(
            Code.INVALID_PARAMS, "Invalid params", "no such peer is reserved: system_reservedPeers lists them"
        )


@registry.sync("system_reservedPeers")
def system_reserved_peers(context: Context) -> list[str]:
    """The ids of peers whose connections are always kept."""
    return [peer_id(identity) for identity in context.backend.reserved_peers()]


@registry.sync("system_addLogFilter", unsafe=True)
def system_add_log_filter(context: Context, directives: LogDirectives) -> None:
    """Log more or less from now on, such as `potchain.net=debug`."""
    del context
    log.set_levels(directives)


@registry.sync("system_resetLogFilter", unsafe=True)
def system_reset_log_filter(context: Context) -> None:
    """Log as at the start."""
    del context
    log.reset_levels()


@registry.thread("system_dryRun", "system_dryRunAt", unsafe=True)
def system_dry_run(context: Context, extrinsic: HexBytes, at: BlockHash | None = None) -> str:
    """What would come of an extrinsic after a block: Substrate's `ApplyExtrinsicResult`."""
    with context.state(at) as state:
        try:
            applied = context.backend.executive.dry_run(state, extrinsic)
        except UnknownTransaction as error:
            return hexed(bytes((1, 1, error.reason)))
        except InvalidTransaction as error:
            context.backend.ledger.panics.tell(error)
            return hexed(bytes((1, 0, error.reason)))
    if applied.error is None:
        return hexed(bytes((0, 0)))
    return hexed(bytes((0, 1)) + encode(DispatchFault, context.runtime.fault_of(applied.error)))


@registry.sync("system_syncState")
def system_sync_state(context: Context) -> dict[str, Any]:
    """Substrate's three numbers, and what it says in its log alone: how fast, how long, and what is waited for."""
    status = context.backend.sync_status
    left = status.seconds_left
    return {
        "startingBlock": context.starting_height,
        "currentBlock": status.height,
        "highestBlock": status.target,
        "phase": status.phase,
        "perSecond": round(status.per_second, 1),
        "secondsLeft": None if left is None else round(left),
        "stateKeys": None if status.state is None else status.state.keys,
        "stateBytes": None if status.state is None else status.state.bytes,
        "stalled": status.stalled,
    }


@registry.awaits("system_accountNextIndex", "account_nextIndex")
async def system_account_next_index(context: Context, account: AccountParam) -> int:
    """The nonce for the account's next transaction, behind those that wait in the pool."""
    backend = context.backend
    while True:
        head = backend.ledger.head_hash
        nonce = await context.in_thread(nonce_at_head, context, account)
        if backend.ledger.head_hash == head:  # Else a block came in between: nonce and pool would not match.
            return backend.pool.next_nonce(account, nonce)


def nonce_at_head(context: Context, account: bytes) -> int:
    """The nonce that the head's state expects of an account."""
    with context.state(None) as state:
        return U32.decode(context.backend.executive.call_api(state, "AccountNonceApi_account_nonce", account))
