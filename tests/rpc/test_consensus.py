"""`consensus_*`: where agreement stands, and who made a block final, by address and with the bytes to check it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.primitives import ss58
from chain.primitives.scale import codec_of
from chain.primitives.seal import Authority, Seal, ValidatorSet, bitmap, verify_seal
from chain.rpc import methods_consensus
from chain.rpc.backend import Sealing
from chain.rpc.context import Context
from tests.rpc.kit import KEYS, served
from tests.rpc.test_server import ask, call, websocket

VALIDATOR = ss58.encode(KEYS.account.public)
SEAL = codec_of(Seal)


async def test_the_state_names_the_set_who_voted_and_who_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it:
        await it.node.seal()
        assert await ask(it, "consensus_state") == {
            "height": 2,
            "view": 0,
            "phase": "prepare",
            "primary": VALIDATOR,
            "setId": 0,
            "validators": 1,
            "quorum": 1,
            "voted": [],
            "missing": [VALIDATOR],
        }
        monkeypatch.setattr(it.node, "consensus_state", lambda: None)
        assert await ask(it, "consensus_state") is None, "a full node takes no part"


async def test_a_seal_is_told_decoded_and_as_the_bytes_that_a_light_client_checks(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it:
        headers = [await it.node.seal() for _ in range(4)]
        for header in headers:  # The states of the first are pruned; who sealed them is known all the same.
            at = "0x" + header.hash.hex()
            found = await ask(it, "consensus_getSeal", at)
            seal = SEAL.decode(bytes.fromhex(found.pop("encoded")[2:]))
            assert verify_seal(it.node.validators(header.height), it.node.ledger.genesis_hash, seal)
            assert found == {
                "height": header.height,
                "view": 0,
                "setId": 0,
                "blockHash": at,
                "voters": [VALIDATOR],
                "missing": [],
                "signature": "0x" + seal.signature.hex(),
            }
        assert (await ask(it, "consensus_getSeal"))["height"] == 4
        assert await ask(it, "consensus_getSeal", "0x" + it.node.ledger.genesis_hash.hex()) is None
        assert await ask(it, "consensus_getSeal", "0x" + "ab" * 32) is None
        context = Context(it.node)
        other = Seal(1, 0, 7, bytes(32), b"\1", bytes(96))
        assert methods_consensus._sealed_by(context, headers[2].hash, other) is None
        unknown = methods_consensus._seal_json(context, other, None)
        assert (unknown["setId"], unknown["voters"], unknown["missing"]) == (7, None, None)


async def test_seals_are_pushed_in_order_with_who_is_missing(tmp_path: Path) -> None:
    accounts = [bytes([number]) * 32 for number in range(4)]
    validators = ValidatorSet(3, tuple(Authority(account, account[:1] * 48) for account in accounts))
    addresses = [ss58.encode(account) for account in accounts]
    async with served(tmp_path) as it, websocket(it) as connection, websocket(it) as other:
        subscription = (await call(connection, "consensus_subscribeSeals"))["result"]
        await call(other, "consensus_subscribeSeals")
        header = await it.node.seal()
        it.node.seals.publish(Sealing(Seal(2, 1, 3, bytes(32), bitmap([0, 1, 3], 4), bytes(96)), validators))
        notes = [json.loads(await connection.get_message()) for _ in range(2)]
        assert [json.loads(await other.get_message())["params"]["result"] for _ in range(2)] == [
            note["params"]["result"] for note in notes
        ]
        assert {note["method"] for note in notes} == {"consensus_seal"}
        assert {note["params"]["subscription"] for note in notes} == {subscription}
        first, second = (note["params"]["result"] for note in notes)
        assert first == await ask(it, "consensus_getSeal", "0x" + header.hash.hex())
        assert (second["view"], second["setId"]) == (1, 3)
        assert second["voters"] == [addresses[0], addresses[1], addresses[3]]
        assert second["missing"] == [addresses[2]]
        assert (await call(connection, "consensus_unsubscribeSeals", subscription))["result"] is True
        await it.node.seal()
        assert (await call(connection, "system_name"))["result"] == "potchain"
