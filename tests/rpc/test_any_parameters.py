"""Every method that `rpc_methods` lists, asked with whatever JSON can say: an answer or a readable refusal."""

from __future__ import annotations

import json
import logging
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from chain.primitives import ss58
from chain.rpc.errors import Code
from chain.rpc.protocol import Limits
from tests.rpc.kit import ALICE, served

ACCOUNT = "0x" + ALICE.public.hex()
DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 1.5, 1e308, 10**9, 2**32, 2**64, 10**4000),
    *("", "0x", "0x0", "0xzz", "0x 00", "0X00", ACCOUNT, ss58.encode(ALICE.public), "x" * 5000, "\ud800", "a\0b", "é"),
    *("0x" + "00" * 32, "0x" + "ff" * 300, "0x" + "ab" * 5000, "../../etc/passwd"),
    *("Core_version", "Metadata_metadata_at_version", "TransactionPaymentApi_query_info"),
    *("TaggedTransactionQueue_validate_transaction", "AccountNonceApi_account_nonce"),
    *([], [1] * 10, [[]], ["0x00"] * 300, ["0x" + "00" * 300], list(range(2000)), {}, {"a": 1}, DEEP),
]


def check(asked: list[tuple[str, Any]], answers: list[Any]) -> None:
    """Each is answered, or refused with a code that means something and words that fit on a screen."""
    assert [answer["id"] for answer in answers] == list(range(len(asked)))
    for (method, parameters), answer in zip(asked, answers, strict=True):
        error = answer.get("error")
        if error is not None:
            shown = (method, str(parameters)[:200], error)
            assert error["code"] in set(Code) - {Code.INTERNAL_ERROR}, shown
            assert error["message"], shown
            assert len(json.dumps(error)) < 1000, shown


async def test_any_parameters_are_answered_or_refused_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    rng = Random(7)
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False, timeout=60) as http:
        await it.node.seal()
        known = ["0x" + it.node.ledger.head_hash.hex(), "0x" + it.node.ledger.head.parent_hash.hex()]
        values = [*VALUES, *known]

        async def ask(calls: list[Any]) -> list[Any]:
            headers = {"content-type": "application/json"}
            return list((await http.post(it.http, content=json.dumps(calls).encode(), headers=headers)).json())

        (listed,) = await ask([{"jsonrpc": "2.0", "id": 1, "method": "rpc_methods"}])
        asked = [
            (method, parameters)
            for method in listed["result"]["methods"]
            for parameters in (
                *([value] for value in values),
                *([rng.choice(values) for _ in range(rng.randint(2, 5))] for _ in range(20)),
                *({}, {"at": known[0]}, {"nothing": 1}),
            )
        ]
        calls = iter(
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, (method, parameters) in enumerate(asked)
        )
        answers: list[Any] = []
        while batch := list(islice(calls, 50)):
            answers += await ask(batch)
        check(asked, answers)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_any_parameters_about_what_a_connection_has_are_answered_or_refused_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    rng = Random(8)
    limits = Limits(requests_burst=10**6, subscriptions_max=4)
    async with served(tmp_path, limits=limits) as it, open_websocket_url(it.url, max_message_size=32 << 20) as one:
        known = "0x" + (await it.node.seal()).hash.hex()

        async def ask(calls: list[tuple[str, Any]]) -> list[Any]:
            batch = [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
                for number, (method, parameters) in enumerate(calls)
            ]
            await one.send_message(json.dumps(batch).encode())
            with trio.fail_after(60):
                while isinstance(message := json.loads(await one.get_message()), dict):
                    pass  # Events of what was started.
            return list(message)

        ((listed,), (started,)) = await ask([("rpc_methods", [])]), await ask([("chainHead_v1_follow", [True])])
        follow = started["result"]
        values = [*VALUES, known, follow, "1", [{"key": "0x", "type": "descendantsValues"}], [known, known]]
        new = ("chainHead", "chainSpec", "archive", "transaction", "childstate")
        methods = [name for name in listed["result"]["methods"] if name.startswith(new)]
        methods.sort(key=lambda name: name.endswith(("unpin", "unfollow")))  # Last: they take away what others act on.
        assert len(methods) > 25
        calls = iter(
            (method, parameters)
            for method in methods
            for parameters in (
                *([value] for value in values),
                *([follow, value] for value in values),
                *([follow, known, value] for value in values),
                *([follow, known, rng.choice(values), rng.choice(values), rng.choice(values)] for _ in range(20)),
                {"followSubscription": follow, "hash": known, "items": rng.choice(values)},
            )
        )
        while batch := list(islice(calls, 50)):
            check(batch, await ask(batch))
        (answer,) = await ask([("system_name", [])])
        assert answer["result"] == "potchain"
        await trio.aclose_forcefully(one._stream)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
