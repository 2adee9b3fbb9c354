"""What can go wrong over RPC, as types: a message always says what to do next.

`RpcError` crosses the wire with Substrate's codes; the others are the client's own.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """JSON-RPC 2.0's codes, jsonrpsee's limits, those of the JSON-RPC interface specification's `chainHead`, of
    Substrate's `author` and `state`, and our own."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    TOO_MANY_SUBSCRIPTIONS = -32006
    OVERSIZED_REQUEST = -32007
    OVERSIZED_RESPONSE = -32008
    BATCH_TOO_LARGE = -32010

    TOO_MANY_FOLLOWS = -32800
    NOT_PINNED = -32801
    FOLLOWS_NO_RUNTIME = -32802
    NOT_WAITING = -32803
    DUPLICATE_HASHES = -32804

    VERIFICATION = 1002
    INVALID_TRANSACTION = 1010
    UNKNOWN_VALIDITY = 1011
    TEMPORARILY_BANNED = 1012
    ALREADY_IMPORTED = 1013
    PRIORITY_TOO_LOW = 1014
    POOL_LIMIT = 1016

    BLOCK_RANGE = 4001
    STATE_CLIENT = 4003
    TRAINING_NOT_FOUND = 9001
    UNAVAILABLE = 9002


class RpcError(Exception):
    """An error answer of a node: `code` and `message` as Substrate's, `data` with the reason and its values."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        detail = "" if self.data is None else f": {self.data}"
        return f"{self.message}{detail} (code {self.code})"


class ClientError(Exception):
    """Anything that a client can report besides an error answer of the node."""


class OtherChain(ClientError):
    """A node is of another chain than the one that is to be signed for."""

    def __init__(self, url: str, found: bytes, expected: bytes) -> None:
        super().__init__(
            f"{url} is a node of the chain with genesis 0x{found.hex()}, and 0x{expected.hex()} is meant: ask a node "
            "of that chain. Nothing was sent"
        )


class NoAddress(ClientError):
    """What was given as a node's address is none."""


class ConnectionLost(ClientError):
    """The connection ended before the answer came."""


class CannotConnect(ConnectionLost):
    """No connection could be made."""


class RequestTimeout(ClientError):
    """The node is connected but did not answer in time."""


class SlowSubscriber(ClientError):
    """This program read a subscription more slowly than the node sent."""


class TransactionDropped(ClientError):
    """A transaction was not included: it expired, was replaced, or left the pool."""


class BlobError(ClientError):
    """A blob could not be stored or fetched whole and true."""


class BlobNotFound(BlobError):
    """No reachable node has the blob."""


class BlobTooLarge(BlobError):
    """The blob is there, and has more bytes than were asked for."""


class PortInUse(OSError):
    """The address to serve at is taken; the message names the port and the flag that changes it."""

    def __init__(self, host: str, port: int, flag: str = "--rpc-port") -> None:
        super().__init__(
            f"port {port} on {host} is in use: another node or program listens there; "
            f"stop it, or choose another port with {flag}"
        )
        self.port = port
        self.flag = flag
