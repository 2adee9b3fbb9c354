"""JSON-RPC 2.0 as pure functions: bytes to requests, answers to text, and the limits that hold for all of it.

Nothing that a client can send raises anything but `RpcError`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Generic, NoReturn, TypeVar

from chain.primitives.blob import FETCHED_BYTES_MAX
from chain.rpc.errors import Code, RpcError

T = TypeVar("T")

TYPE_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server grants; each number says why."""

    # A transaction has 1 MiB at most, which is 2 MiB of hex. Reading JSON holds the interpreter: 40 ms at this size.
    request_bytes_max: int = 9 * 256 * 1024
    # A page of 1,000 storage keys or the metadata is 0.2 MB; a block's transactions, 1.5 MiB at most, 3 MiB of hex.
    response_bytes_max: int = 4 * 1024 * 1024
    # polkadot.js asks for at most a dozen things at once; a batch holds its connection until it is answered.
    batch_max: int = 50
    # A wallet or dashboard uses about ten; Substrate grants 1,024.
    subscriptions_max: int = 256
    # On all connections together: each wakes at every block, and sending to one costs some 0.2 ms.
    subscriptions_total_max: int = 4096
    # 256 clients at 50 kB each; Substrate's default is 100.
    connections_max: int = 256
    # A WebSocket keeps its place for as long as it likes: a quarter is left for blobs and plain requests.
    websockets_max: int = 192
    # Per connection: the server answers ~3,000 a second in all, so that one client cannot take more than its share.
    requests_per_second: float = 1000.0
    requests_burst: int = 2000
    # Of transactions that one connection sends one after the other: half of what is checked in one visit to a thread.
    together_max: int = 32
    # What may wait for one client: a minute of heads on each of several subscriptions.
    outbox_messages_max: int = 1024
    outbox_bytes_max: int = 8 * 1024 * 1024
    # What may wait for all clients; past it, the one that lets most wait is dropped.
    waiting_bytes_max: int = 128 * 1024 * 1024
    # Training blobs (parameters, updates, data sets) are up to 64 MiB: 16 million float32 parameters.
    blob_bytes_max: int = FETCHED_BYTES_MAX
    # A client that takes nothing for this long is gone, or too slow to be worth the memory of what waits for it.
    send_seconds: float = 15.0
    # From connecting to a whole request, and between requests of a kept-alive HTTP connection.
    idle_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call; `id` is None with `notification` for a call that wants no answer."""

    id: str | int | float | None
    method: str
    params: list[object] | dict[str, object]
    notification: bool


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry that is no request, with the answer that it gets."""

    id: str | int | float | None
    error: RpcError


@dataclass(frozen=True, slots=True)
class Message:
    """What one HTTP body or WebSocket message holds."""

    entries: tuple[Request | Malformed, ...]
    batch: bool


def parse(text: str | bytes, limits: Limits) -> Message:
    """The requests of one message; a message that is no JSON, or too long, is one `Malformed` entry."""
    if len(text) > limits.request_bytes_max:
        return _refused(
            Code.OVERSIZED_REQUEST,
            "Request is too big",
            f"{len(text)} bytes, at most {limits.request_bytes_max}",
        )
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        return _refused(Code.PARSE_ERROR, "Parse error", "nested too deeply")
    except ValueError as error:
        return _refused(Code.PARSE_ERROR, "Parse error", str(error)[:200])
    if not isinstance(value, list):
        return Message((_request(value),), batch=False)
    if not value:
        return _refused(Code.INVALID_REQUEST, "Invalid request", "an empty batch")
    if len(value) > limits.batch_max:
        return _refused(
            Code.BATCH_TOO_LARGE, "The batch request was too large", f"{len(value)} calls, at most {limits.batch_max}"
        )
    return Message(tuple(_request(entry) for entry in value), batch=True)


def _refused(code: Code, message: str, data: str) -> Message:
    return Message((Malformed(None, RpcError(code, message, data)),), batch=False)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _request(value: object) -> Request | Malformed:
    if not isinstance(value, dict):
        return Malformed(None, _invalid(f"expected an object, got {TYPE_NAMES.get(type(value), 'null')}"))
    number = value.get("id")
    if isinstance(number, bool) or not isinstance(number, str | int | float | None) or number in (inf, -inf):
        return Malformed(None, _invalid("id: expected a string or a number"))
    if value.get("jsonrpc") != "2.0":
        return Malformed(number, _invalid('jsonrpc: expected "2.0"'))
    method = value.get("method")
    if not isinstance(method, str) or len(method) > 128:
        return Malformed(number, _invalid("method: expected a string of at most 128 characters"))
    params = value.get("params")
    if params is None:
        params = []
    if not isinstance(params, list | dict):
        return Malformed(number, _invalid("params: expected an array or an object"))
    return Request(number, method, params, notification="id" not in value)


def _invalid(reason: str) -> RpcError:
    return RpcError(Code.INVALID_REQUEST, "Invalid request", reason)


def encode(value: object) -> str:
    """Compact JSON text."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def result(number: object, value: object, limits: Limits) -> str:
    """The answer to a call that succeeded; an error answer when it is longer than the limit."""
    text = f'{{"jsonrpc":"2.0","id":{encode(number)},"result":{_text(value)}}}'
    if len(text) > limits.response_bytes_max:
        size = f"{len(text)} bytes, at most {limits.response_bytes_max}: ask for less at once"
        return failure(number, RpcError(Code.OVERSIZED_RESPONSE, "Response is too big", size))
    return text


def failure(number: object, error: RpcError) -> str:
    """The answer to a call that failed."""
    body: dict[str, object] = {"code": int(error.code), "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return encode({"jsonrpc": "2.0", "id": number, "error": body})


class Encoded(str):
    """A value that is JSON text already: written in a thread, or once for many."""

    __slots__ = ()


class WrittenOnce(Generic[T]):
    """What all subscribers are about to be sent, written for the first of them."""

    def __init__(self) -> None:
        self._written: tuple[T, Encoded] | None = None

    def text(self, value: T, json_of: Callable[[T], object]) -> Encoded:
        """The text of `json_of(value)`; the same value is not written twice in a row."""
        if self._written is None or self._written[0] is not value:
            self._written = value, Encoded(encode(json_of(value)))
        return self._written[1]


def _text(value: object) -> str:
    return value if isinstance(value, Encoded) else encode(value)


def notification(method: str, subscription: str, value: object) -> str:
    """One item of a subscription."""
    params = f'{{"subscription":{encode(subscription)},"result":{_text(value)}}}'
    return f'{{"jsonrpc":"2.0","method":{encode(method)},"params":{params}}}'


class RateLimit:
    """A token bucket: `burst` calls at once, `per_second` on average. Time is an argument (seconds, monotonic)."""

    __slots__ = ("_burst", "_per_second", "_tokens", "_updated")

    def __init__(self, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._updated = now

    def delay(self, count: int, now: float) -> float:
        """Take `count` calls; how many seconds to wait before answering them so that the rate holds."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._per_second) - count
        self._updated = now
        return max(0.0, -self._tokens / self._per_second)
