"""Answers requests: finds the method, reads its parameters, runs it where it belongs, turns errors into answers.

The event loop is never held: ledger reads and executions run in a few threads of their own, so that no number of
clients takes the threads that blocks and votes need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import trio

from chain.log import Log
from chain.pace import Threads
from chain.rpc import protocol
from chain.rpc.backend import Backend
from chain.rpc.calls import UNKNOWN, Calls
from chain.rpc.connection import Connection
from chain.rpc.context import Context
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import bind, quote
from chain.rpc.protocol import Limits, Malformed, Message, Request
from chain.rpc.registry import Async, Registry, Subscription, Sync, Threaded, Unsubscribe, Within

log = Log("rpc")

# Parsing this much JSON takes about a millisecond: longer texts go to a thread.
LOOP_BYTES_MAX = 64 * 1024
# What Python takes for a short value in a list, beside its own bytes.
ENTRY_BYTES = 64
# The parser never lets go of the interpreter: one long text at a time, and then four times as long for the node.
LONG_TEXTS = 1
LONG_TEXTS_REST = 4.0
# Substrate's words, which tools for operators look for.
UNSAFE = "RPC call is unsafe to be called externally"
UNSAFE_REMEDY = "ask a node that serves its own machine alone, or one started with --rpc-methods unsafe"


class Dispatcher:
    """Answers the messages of all connections of one server."""

    def __init__(self, backend: Backend, registry: Registry, limits: Limits, *, serves_unsafe: bool) -> None:
        self._context = Context(backend)
        self._serves_unsafe = serves_unsafe
        self._methods = registry.methods
        self._limits = limits
        self.calls = Calls()
        self._long_texts = Threads(LONG_TEXTS, LONG_TEXTS_REST)

    async def read(self, text: str | bytes) -> Message:
        """The requests of one message."""
        if LOOP_BYTES_MAX < len(text) <= self._limits.request_bytes_max:
            return await self._long_texts.run(protocol.parse, text, self._limits)
        return protocol.parse(text, self._limits)

    def goes_together(self, message: Message, length: int) -> bool:
        """Whether a message of such a length may be answered while others like it are, on the same connection."""
        match message.entries:
            case [Request(method=name)] if not message.batch and length <= LOOP_BYTES_MAX:
                method = self._methods.get(name)
                return isinstance(method, Async) and method.together
            case _:
                return False

    async def answer(self, message: Message, connection: Connection | None) -> str | None:
        """The text to send back; None when every call was a notification. `connection` is None over plain HTTP."""
        answers = []
        room = self._limits.response_bytes_max
        for entry in message.entries:
            answer = await self._answer_one(entry, connection)
            if answer is not None:
                room -= len(answer)
                if room < 0:
                    size = f"the batch's answers exceed {self._limits.response_bytes_max} bytes: ask for less at once"
                    answer = protocol.failure(entry.id, RpcError(Code.OVERSIZED_RESPONSE, "Response is too big", size))
                answers.append(answer)
        if not answers:
            return None
        return f"[{','.join(answers)}]" if message.batch else answers[0]

    async def _answer_one(self, entry: Request | Malformed, connection: Connection | None) -> str | None:
        if isinstance(entry, Malformed):
            return protocol.failure(entry.id, entry.error)
        method = entry.method if entry.method in self._methods else UNKNOWN
        over, is_error, began_at = "http" if connection is None else "ws", True, trio.current_time()
        self.calls.begin(over, method)
        try:
            answer = await self._call(entry, connection)
            is_error = False
        except RpcError as error:
            answer = protocol.failure(entry.id, error)
        except Exception as error:
            log.exception(f"{entry.method} failed: this is a bug in the node, not in the request", method=entry.method)
            reason = f"{type(error).__name__}: see the node's log"
            answer = protocol.failure(entry.id, RpcError(Code.INTERNAL_ERROR, "Internal error", reason))
        self.calls.end(over, method, trio.current_time() - began_at, is_error=is_error)
        return None if entry.notification else answer

    async def _call(self, request: Request, connection: Connection | None) -> str:
        """The text of the answer; that of a method which reads is written in the thread too, since it may be long."""
        method = self._methods.get(request.method)
        if isinstance(method, Sync | Threaded | Async) and method.unsafe and not self._serves_unsafe:
            raise RpcError(Code.METHOD_NOT_FOUND, UNSAFE, f"{request.method}: {UNSAFE_REMEDY}")
        match method:
            case None:
                reason = f"{quote(request.method)}: rpc_methods lists what there is"
                raise RpcError(Code.METHOD_NOT_FOUND, "Method not found", reason)
            case Sync():
                await trio.lowlevel.checkpoint()
                return self._result(request, method.call, self._context, *bind(method.parameters, request.params))
            case Threaded():
                arguments = bind(method.parameters, request.params)
                return await self._context.in_thread(self._result, request, method.call, self._context, *arguments)
            case Async():
                value = await method.call(self._context, *bind(method.parameters, request.params))
                return protocol.result(request.id, value, self._limits)
            case Subscription():
                arguments = bind(method.parameters, request.params)
                opener = partial(method.open, self._context, *arguments)
                number = await _connection(connection, request).subscribe(
                    method.terms, opener, _held_bytes(request.params)
                )
                return protocol.result(request.id, number, self._limits)
            case Unsubscribe():
                given = request.params if isinstance(request.params, list) else list(request.params.values())
                found = _connection(connection, request).unsubscribe(method.notification, given[0] if given else None)
                return self._result(request, method.answer, found)
            case Within():
                await trio.lowlevel.checkpoint()
                named, *arguments = bind(method.parameters, request.params)
                dialogue = _connection(connection, request).dialogue(method.of, str(named))
                return self._result(request, method.call, dialogue, *arguments)
            case _:
                assert_never(method)

    def _result(self, request: Request, call: Callable[..., object], *arguments: object) -> str:
        return protocol.result(request.id, call(*arguments), self._limits)


def _held_bytes(params: object) -> int:
    """About what parameters take in memory while they are kept. Their handler has read them: they are not deep."""
    match params:
        case str():
            return len(params) // 2  # Most are hex.
        case list():
            return sum(ENTRY_BYTES + _held_bytes(entry) for entry in params)
        case dict():
            return sum(ENTRY_BYTES + _held_bytes(entry) for entry in params.values())
        case _:
            return 0


def _connection(connection: Connection | None, request: Request) -> Connection:
    if connection is None:
        reason = f"{request.method}: subscriptions need a WebSocket connection, this is plain HTTP"
        raise RpcError(Code.METHOD_NOT_FOUND, "Method not found", reason)
    return connection
