"""What Substrate has for operators and old tools: unsafe methods, bounded ones, and names from long ago."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from chain.net.reserved import RESERVED_MAX
from chain.primitives import bls, ss58
from chain.primitives.hashing import blake2_256, storage_prefix
from chain.primitives.merkle import verify_proof
from chain.primitives.scale import encode
from chain.rpc import methods_state
from chain.rpc.access import Access, RpcMethods
from chain.rpc.client import Client
from chain.rpc.errors import Code
from chain.rpc.multiaddr import NodeAddress
from runtime.faults import DispatchFault
from runtime.potchain import RUNTIME
from tests.rpc.kit import ALICE, KEYS, POT, served
from tests.rpc.test_client import transfer_raw
from tests.rpc.test_server import ask, call, refusal, websocket

NUMBER = "0x" + storage_prefix("System", "Number").hex()
UNSAFE = (
    *("author_hasKey", "author_hasSessionKeys", "author_removeExtrinsic"),
    *("state_getPairs", "state_queryStorage"),
    *("system_peers", "system_addReservedPeer", "system_removeReservedPeer"),
    *("system_addLogFilter", "system_resetLogFilter", "system_dryRun", "system_dryRunAt"),
)


async def test_what_substrate_calls_unsafe_is_refused_to_strangers_whatever_they_say(tmp_path: Path) -> None:
    async with served(tmp_path, access=Access(methods=RpcMethods.SAFE)) as it:
        refused = []
        for method in (await ask(it, "rpc_methods"))["methods"]:
            async with httpx.AsyncClient(verify=False, trust_env=False) as http:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": ["nonsense"]}
                error = (await http.post(it.http, json=body)).json().get("error", {})
            if error.get("message") == "RPC call is unsafe to be called externally":
                refused.append(method)
        assert refused == sorted(UNSAFE)


async def test_a_transaction_is_taken_out_of_the_pool_and_not_taken_in_again(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.seals_at_once = False
        first, second, unknown = (transfer_raw(it, nonce) for nonce in range(3))
        hashes = ["0x" + blake2_256(bytes.fromhex(raw[2:])).hex() for raw in (first, second)]
        async with client.subscribe("author_submitAndWatchExtrinsic", first) as updates:
            assert await anext(updates) == "ready"
            await ask(it, "author_submitExtrinsic", second)
            asked = [{"hash": hashes[0]}, {"extrinsic": second}, {"extrinsic": unknown}]
            assert await ask(it, "author_removeExtrinsic", asked) == hashes
            with trio.fail_after(60):
                assert await anext(updates) == "invalid"
        assert await ask(it, "author_pendingExtrinsics") == []
        assert (await refusal(it, "author_submitExtrinsic", first))["code"] == Code.TEMPORARILY_BANNED
        wrongs: list[object] = [
            "0x00",
            [{}],
            [{"hash": "0x00"}],
            [{"hash": hashes[0], "extrinsic": first}],
            [hashes[0]] * 300,
        ]
        for wrong in wrongs:
            assert (await refusal(it, "author_removeExtrinsic", wrong))["code"] == Code.INVALID_PARAMS


async def test_a_validator_says_whether_it_acts_with_a_key(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        account, votes = "0x" + KEYS.account.public.hex(), "0x" + bls.public_key(KEYS.bls_secret).hex()
        assert await ask(it, "author_hasKey", account, "acco") is True
        assert await ask(it, "author_hasKey", votes, "pbft") is True
        assert await ask(it, "author_hasKey", votes, "acco") is False
        assert await ask(it, "author_hasKey", "0x" + ALICE.public.hex()[:-2] + "00", "acco") is False
        assert await ask(it, "author_hasSessionKeys", votes) is True
        assert await ask(it, "author_hasSessionKeys", account) is False
        assert "acco or pbft" in (await refusal(it, "author_hasKey", account, "babe"))["data"]


async def test_keys_and_pairs_come_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as it:
        first = await it.node.seal()
        await it.node.seal()
        at = "0x" + first.hash.hex()
        prefix = "0x" + storage_prefix("System", "Account").hex()
        keys = await ask(it, "state_getKeys", prefix)
        assert keys == await ask(it, "state_getKeysPaged", prefix, 1000)
        assert len(keys) >= 3
        pairs = await ask(it, "state_getPairs", NUMBER, at)
        assert pairs == [[NUMBER, "0x01000000"]]
        assert await ask(it, "state_getPairs", prefix) == [
            [key, await ask(it, "state_getStorage", key)] for key in keys
        ]
        monkeypatch.setattr(methods_state, "KEYS_MAX", len(keys) - 1)
        for method in ("state_getKeys", "state_getPairs"):
            error = await refusal(it, method, prefix)
            assert (error["code"], "state_getKeysPaged" in error["data"]) == (Code.OVERSIZED_RESPONSE, True)
        monkeypatch.setattr(methods_state, "KEYS_MAX", 100)
        monkeypatch.setattr(methods_state, "VALUES_BYTES_MAX", 100)
        assert (await refusal(it, "state_getPairs", prefix))["code"] == Code.OVERSIZED_RESPONSE


async def test_a_range_of_blocks_shows_where_keys_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path, history=5) as it:
        hashes = ["0x" + (await it.node.seal()).hash.hex() for _ in range(6)]
        absent = "0x" + "ff" * 32
        expected: list[dict[str, Any]] = [
            {"block": at, "changes": [[NUMBER, "0x" + height.to_bytes(4, "little").hex()]]}
            for height, at in enumerate(hashes[2:5], start=3)
        ]
        expected[0]["changes"].append([absent, None])
        query = "state_queryStorage"
        assert await ask(it, query, [NUMBER, absent], hashes[2], hashes[4]) == expected
        assert len(await ask(it, query, [NUMBER], hashes[2])) == 4, "up to the head"
        assert [entry["block"] for entry in await ask(it, query, [absent], hashes[2])] == [hashes[2]]
        assert await ask(it, query, [], hashes[2]) == []
        error = await refusal(it, query, [NUMBER], hashes[4], hashes[2])
        assert (error["code"], error["message"]) == (
            Code.BLOCK_RANGE,
            "Cannot resolve a block range [5 ... 3]: it ends before it begins",
        )
        assert "State already discarded" in (await refusal(it, query, [NUMBER], hashes[0]))["message"]
        assert "UnknownBlock" in (await refusal(it, query, [NUMBER], "0x" + "ab" * 32))["message"]
        assert "UnknownBlock" in (await refusal(it, query, [NUMBER], hashes[2], "0x" + "ab" * 32))["message"]
        monkeypatch.setattr(methods_state, "BLOCK_READS_MAX", 6)
        error = await refusal(it, query, [NUMBER, absent], hashes[2], hashes[5])
        assert error["message"] == "Cannot resolve a block range [3 ... 6]: at most 3 blocks for so many keys"
        assert len(await ask(it, query, [NUMBER, absent], hashes[3], hashes[5])) == 3


async def test_old_names_of_subscriptions_still_work(tmp_path: Path) -> None:
    async with served(tmp_path) as it, websocket(it) as connection:
        number = (await call(connection, "subscribe_newHead"))["result"]
        note = json.loads(await connection.get_message())
        assert (note["method"], note["params"]["result"]["number"]) == ("chain_newHead", "0x0")
        assert (await call(connection, "unsubscribe_newHead", number))["result"] is True


STATE_CALLS: dict[str, tuple[object, ...]] = {
    "state_getStorage": (NUMBER,),
    "state_getStorageHash": (NUMBER,),
    "state_getStorageSize": (NUMBER,),
    "state_queryStorageAt": ([NUMBER],),
    "state_getKeys": (NUMBER,),
    "state_getPairs": (NUMBER,),
    "state_getKeysPaged": (NUMBER, 10, None),
    "state_getReadProof": ([NUMBER],),
    "state_call": ("Core_version", "0x"),
    "payment_queryInfo": ("TRANSFER",),
    "payment_queryFeeDetails": ("TRANSFER",),
    "system_dryRun": ("TRANSFER",),
}


@pytest.mark.parametrize("method", STATE_CALLS)
async def test_state_calls_run_against_the_block_asked_for_and_say_when_they_cannot(
    tmp_path: Path, method: str
) -> None:
    async with served(tmp_path, history=3) as it:
        it.node.seals_at_once = False
        transfer = transfer_raw(it, 0)
        given = [transfer if value == "TRANSFER" else value for value in STATE_CALLS[method]]
        headers = [await it.node.seal() for _ in range(3)]
        await ask(it, "author_submitExtrinsic", transfer)
        headers.append(await it.node.seal())
        kept = {header.height: await ask(it, method, *given, "0x" + header.hash.hex()) for header in headers[1:]}
        assert await ask(it, method, *given) == kept[4]
        if method in ("state_getStorage", "state_queryStorageAt", "state_getReadProof", "system_dryRun"):
            assert kept[3] != kept[4]
        discarded = await refusal(it, method, *given, "0x" + headers[0].hash.hex())
        assert (discarded["code"], discarded["message"]) == (
            Code.STATE_CLIENT,
            "Client error: State already discarded",
        )
        unknown = await refusal(it, method, *given, "0x" + "ab" * 32)
        assert (unknown["code"], unknown["message"]) == (Code.STATE_CLIENT, "Client error: UnknownBlock")


async def test_a_peer_is_reserved_by_the_address_that_its_own_node_tells(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        (own,) = await ask(it, "system_localListenAddresses")
        assert own == f"/ip4/127.0.0.1/tcp/30333/p2p/{await ask(it, 'system_localPeerId')}"
        assert "another node's" in (await refusal(it, "system_addReservedPeer", own))["data"]
        peer = "ab" * 32
        for address in (f"/ip6/2001:db8::1/tcp/30333/p2p/{peer}", f"/dns/node-1.example.org/tcp/1/p2p/{peer}"):
            assert await ask(it, "system_addReservedPeer", address) is None
            assert await ask(it, "system_reservedPeers") == [peer]
        assert it.node.reserved == {b"\xab" * 32: ("node-1.example.org", 1)}
        assert await ask(it, "system_removeReservedPeer", peer) is None
        assert "system_reservedPeers" in (await refusal(it, "system_removeReservedPeer", peer))["data"]
        for number in range(RESERVED_MAX):
            await ask(it, "system_addReservedPeer", f"/ip4/192.0.2.1/tcp/1/p2p/{number:064x}")
        error = await refusal(it, "system_addReservedPeer", f"/ip4/192.0.2.1/tcp/1/p2p/{peer}")
        assert error["message"] == "Too many reserved peers"


@pytest.mark.parametrize(
    "text",
    [
        *("", "192.0.2.1:30333", "/ip4/192.0.2.1/tcp/30333", "/ip4/192.0.2.1/tcp/30333/p2p/"),
        *(f"/ip4/192.0.2.1/tcp/30333/p2p/{'AB' * 32}", f"/ip4/192.0.2.1/tcp/30333/p2p/{'ab' * 32}/"),
        *(f"/ip4/::1/tcp/1/p2p/{'ab' * 32}", f"/ip6/192.0.2.1/tcp/1/p2p/{'ab' * 32}"),
        *(f"/ip4/192.0.2.1/tcp/0/p2p/{'ab' * 32}", f"/ip4/192.0.2.1/tcp/65536/p2p/{'ab' * 32}"),
        *(f"/ip4/192.0.2.1/udp/1/p2p/{'ab' * 32}", f"/dns/-bad/tcp/1/p2p/{'ab' * 32}", f"/dns//tcp/1/p2p/{'ab' * 32}"),
        *(f"/ip4/192.0.2.1/tcp/\u0661/p2p/{'ab' * 32}", f"/ip4/192.0.2.1/tcp/1/p2p/{'ab' * 32}\n"),
    ],
)
def test_what_is_no_nodes_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an address such as /ip4/"):
        NodeAddress.parse(text)


async def test_logs_are_turned_up_and_back_while_the_node_runs(tmp_path: Path) -> None:
    network, rpc = logging.getLogger("potchain.net"), logging.getLogger("potchain.rpc")
    before = [network.getEffectiveLevel(), rpc.getEffectiveLevel()]
    async with served(tmp_path) as it:
        try:
            assert await ask(it, "system_addLogFilter", "potchain.net=debug, potchain.rpc=off") is None
            assert (network.isEnabledFor(logging.DEBUG), rpc.isEnabledFor(logging.CRITICAL)) == (True, False)
            await ask(it, "system_addLogFilter", "error,potchain.rpc=info")
            assert (logging.getLogger("potchain").level, rpc.level) == (logging.ERROR, logging.INFO)
            for wrong in ("", "loud", "potchain.net", "potchain.net=", "asyncio=debug", "potchain.nothing=info", ","):
                error = await refusal(it, "system_addLogFilter", wrong)
                assert (error["code"], "a part among block, round" in error["data"]) == (Code.INVALID_PARAMS, True)
            assert "at most 1024" in (await refusal(it, "system_addLogFilter", "info," * 1000 + "info"))["data"]
            assert rpc.level == logging.INFO
        finally:
            assert await ask(it, "system_resetLogFilter") is None
    assert [network.getEffectiveLevel(), rpc.getEffectiveLevel()] == before


async def test_a_dry_run_says_what_would_come_of_a_transaction_and_changes_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        await it.node.seal()
        before = (it.node.ledger.head, await ask(it, "system_accountNextIndex", ss58.encode(ALICE.public)))
        assert await ask(it, "system_dryRun", transfer_raw(it, 0)) == "0x0000"
        failed = await ask(it, "system_dryRun", transfer_raw(it, 0, value=10**9 * POT))
        with it.node.ledger.state() as state:
            error = it.node.executive.dry_run(state, bytes.fromhex(transfer_raw(it, 0, value=10**9 * POT)[2:])).error
        assert error is not None
        assert failed == "0x0001" + encode(DispatchFault, RUNTIME.fault_of(error)).hex()
        assert await ask(it, "system_dryRun", transfer_raw(it, 1)) == "0x010002", "too early"
        assert await ask(it, "system_dryRun", "0x00") == "0x010000", "no call"
        assert (it.node.ledger.head, it.node.pool.everything()) == (before[0], [])
        await ask(it, "author_submitExtrinsic", transfer_raw(it, 0, value=POT))
        with trio.fail_after(60):
            while it.node.ledger.head == before[0]:
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert await ask(it, "system_dryRun", transfer_raw(it, 0)) == "0x010003", "its nonce is used now"
        at = "0x" + before[0].hash.hex()
        assert await ask(it, "system_dryRunAt", transfer_raw(it, 0), at) == "0x0000", "and was not then"
        assert before[1] == 0


async def test_that_there_is_no_child_trie_is_proven(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        header = await it.node.seal()
        child = b":child_storage:default:anything"
        found = await ask(it, "state_getChildReadProof", "0x" + child.hex(), ["0x00", "0x01"])
        proof = [bytes.fromhex(node[2:]) for node in found["proof"]]
        assert found["at"] == "0x" + header.hash.hex()
        assert verify_proof(header.state_root, [child], proof) == {child: None}
