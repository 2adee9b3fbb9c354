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

from chain.primitives import ss58
from chain.rpc.errors import Code
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
        assert [answer["id"] for answer in answers] == list(range(len(asked)))
        for (method, parameters), answer in zip(asked, answers, strict=True):
            error = answer.get("error")
            if error is not None:
                shown = (method, str(parameters)[:200], error)
                assert error["code"] in set(Code) - {Code.INTERNAL_ERROR}, shown
                assert error["message"], shown
                assert len(json.dumps(error)) < 1000, shown
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
