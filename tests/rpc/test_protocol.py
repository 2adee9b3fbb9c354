"""JSON-RPC framing: whatever comes in, an answer goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.rpc import protocol
from chain.rpc.errors import Code, RpcError
from chain.rpc.protocol import Limits, Malformed, Message, RateLimit, Request

LIMITS = Limits(request_bytes_max=1000, batch_max=3, response_bytes_max=200)


def only(text: str | bytes) -> Request | Malformed:
    message = protocol.parse(text, LIMITS)
    assert not message.batch
    (entry,) = message.entries
    return entry


def refusal(text: str | bytes) -> tuple[int, object]:
    entry = only(text)
    assert isinstance(entry, Malformed)
    return entry.error.code, entry.error.data


def test_a_call_is_read_with_its_id_and_parameters() -> None:
    text = '{"jsonrpc":"2.0","id":7,"method":"chain_getHeader","params":["0x00"]}'
    assert only(text) == Request(7, "chain_getHeader", ["0x00"], notification=False)


def test_absent_parameters_are_an_empty_list_and_an_absent_id_asks_for_no_answer() -> None:
    assert only('{"jsonrpc":"2.0","method":"m"}') == Request(None, "m", [], notification=True)


def test_a_batch_keeps_the_good_calls_beside_the_bad_ones() -> None:
    message = protocol.parse('[{"jsonrpc":"2.0","id":1,"method":"m"},4]', LIMITS)
    assert message.batch
    assert message.entries[0] == Request(1, "m", [], notification=False)
    assert isinstance(message.entries[1], Malformed)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", Code.PARSE_ERROR, "Expecting"),
        (b"\xff\xfe{", Code.PARSE_ERROR, "codec"),
        ("[" * 999, Code.PARSE_ERROR, ""),
        ('{"a": NaN}', Code.PARSE_ERROR, "NaN is not JSON"),
        ("[]", Code.INVALID_REQUEST, "an empty batch"),
        ("[1,2,3,4]", Code.BATCH_TOO_LARGE, "4 calls, at most 3"),
        (" " * 1001, Code.OVERSIZED_REQUEST, "1001 bytes, at most 1000"),
        ("null", Code.INVALID_REQUEST, "expected an object"),
        ('{"id":1,"method":"m"}', Code.INVALID_REQUEST, "jsonrpc"),
        ('{"jsonrpc":"2.0","id":{},"method":"m"}', Code.INVALID_REQUEST, "id"),
        ('{"jsonrpc":"2.0","id":1e999,"method":"m"}', Code.INVALID_REQUEST, "id"),
        ('{"jsonrpc":"2.0","id":1,"method":5}', Code.INVALID_REQUEST, "method"),
        ('{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}', Code.INVALID_REQUEST, "params"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(text: str | bytes, code: Code, words: str) -> None:
    found, data = refusal(text)
    assert found == code
    assert words in str(data)


def test_an_id_that_json_cannot_write_back_is_not_written_back() -> None:
    for text in ('{"jsonrpc":"2.0","id":1e999,"method":"m"}', '{"id":-1e999}'):
        entry = only(text)
        assert isinstance(entry, Malformed)
        assert '"id": null' in protocol.failure(entry.id, entry.error).replace('":', '": ')


def test_deep_nesting_within_the_size_limit_is_refused() -> None:
    entry = protocol.parse("[" * 100_000 + "]" * 100_000, Limits()).entries[0]
    assert isinstance(entry, Malformed)
    assert entry.error.code in (Code.PARSE_ERROR, Code.INVALID_REQUEST)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(protocol.parse(data, LIMITS), Message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=7), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100)
@given(json_values)
def test_every_json_value_gives_entries_that_can_be_answered(value: Any) -> None:
    for entry in protocol.parse(json.dumps(value)[:1000], LIMITS).entries:
        answer = json.loads(protocol.failure(entry.id, RpcError(1, "m")))
        assert answer == {"jsonrpc": "2.0", "id": entry.id, "error": {"code": 1, "message": "m"}}


def test_an_answer_that_is_too_long_becomes_an_error_that_says_so() -> None:
    answer = json.loads(protocol.result(3, "x" * 500, LIMITS))
    assert answer["id"] == 3
    assert answer["error"]["code"] == Code.OVERSIZED_RESPONSE
    assert "at most 200" in answer["error"]["data"]


def test_a_rate_limit_lets_a_burst_through_and_then_spaces_calls() -> None:
    limit = RateLimit(per_second=10, burst=5, now=0.0)
    assert [limit.delay(1, 0.0) for _ in range(5)] == [0.0] * 5
    assert limit.delay(1, 0.0) == pytest.approx(0.1)
    assert limit.delay(1, 10.0) == 0.0
