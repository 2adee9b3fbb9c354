"""Who may ask what: unsafe methods for the node's own machine, browsers for the pages that its operator trusts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from chain.rpc.access import EVERY_INTERFACE, LOOPBACK, Access, Origins, RpcMethods, WrongOrigin
from chain.rpc.protocol import Limits
from tests.rpc.kit import Served, served
from tests.rpc.test_server import exchange

UNSAFE = {"jsonrpc": "2.0", "id": 1, "method": "system_peers"}
SAFE = {"jsonrpc": "2.0", "id": 2, "method": "system_name"}
EVIL = "https://evil.example"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\norigin: %b\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


async def post(it: Served, body: object, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        return await http.post(it.http, json=body, headers=headers)


@pytest.mark.parametrize(
    ("host", "methods", "serves_unsafe"),
    [
        (LOOPBACK, RpcMethods.AUTO, True),
        ("::1", RpcMethods.AUTO, True),
        (EVERY_INTERFACE, RpcMethods.AUTO, False),
        ("192.0.2.1", RpcMethods.AUTO, False),
        (LOOPBACK, RpcMethods.SAFE, False),
        (LOOPBACK, RpcMethods.UNSAFE, True),
        (EVERY_INTERFACE, RpcMethods.SAFE, False),
        (EVERY_INTERFACE, RpcMethods.UNSAFE, True),
    ],
)
def test_unsafe_methods_are_for_those_who_cannot_be_elsewhere(
    host: str, methods: RpcMethods, serves_unsafe: bool
) -> None:
    assert Access(host, methods).serves_unsafe is serves_unsafe


@pytest.mark.parametrize("access", [Access(methods=RpcMethods.SAFE), Access(EVERY_INTERFACE)], ids=["safe", "external"])
async def test_an_unsafe_call_is_refused_in_substrates_words_and_the_others_beside_it_are_answered(
    tmp_path: Path, access: Access
) -> None:
    async with served(tmp_path, access=access) as it:
        refused, answered = (await post(it, [UNSAFE, SAFE])).json()
        error = refused["error"]
        assert (error["code"], error["message"]) == (-32601, "RPC call is unsafe to be called externally")
        assert "--rpc-methods unsafe" in error["data"]
        assert answered["result"] == "potchain"
        listed = (await post(it, {**SAFE, "method": "rpc_methods"})).json()["result"]["methods"]
        assert "system_peers" in listed, "as in Substrate, the list is of what there is"
        async with open_websocket_url(it.url) as connection:
            assert (await converse(connection, UNSAFE))["error"] == error


async def test_whoever_says_unsafe_gets_it_on_every_interface(tmp_path: Path) -> None:
    async with served(tmp_path, access=Access(EVERY_INTERFACE, RpcMethods.UNSAFE)) as it:
        assert (await post(it, UNSAFE)).json()["result"] == []


async def converse(connection: WebSocketConnection, call: object) -> Any:
    await connection.send_message(json.dumps(call))
    return json.loads(await connection.get_message())


# --- pages


@pytest.mark.parametrize(
    "origin",
    [
        *("http://localhost:3000", "http://127.0.0.1:8080", "https://localhost", "http://LOCALHOST:1"),
        "https://polkadot.js.org",
    ],
)
def test_pages_of_this_machine_and_polkadots_apps_are_trusted_by_default(origin: str) -> None:
    assert Origins().trust(origin)


@pytest.mark.parametrize(
    "origin",
    [
        *(
            EVIL,
            "null",
            "",
            "http://polkadot.js.org",
            "https://polkadot.js.org.evil.example",
            "https://polkadotxjs.org",
        ),
        *("http://localhost.evil.example", "http://localhost:1.evil.example", "http://localhost:3000, " + EVIL),
        *("http://evil.example/http://localhost:3000", "http://localhost:3000\n", "file://"),
    ],
)
def test_no_other_page_is(origin: str) -> None:
    assert not Origins().trust(origin)


def test_an_operator_names_the_pages_or_all() -> None:
    origins = Origins.parse(" https://Wallet.example , null,chrome-extension://abcdef ,http://[::1]:*")
    for trusted in ("https://wallet.example", "null", "chrome-extension://abcdef", "http://[::1]:9000", "http://[::1]"):
        assert origins.trust(trusted)
    for other in ("https://polkadot.js.org", "http://localhost:3000", "https://wallet.example:444"):
        assert not origins.trust(other)
    assert Origins.parse("all").trust(EVIL)


@pytest.mark.parametrize(
    "text", ["", "example.org", "https://example.org/", "https://a,", "all,null", "*", "https://*.example.org", "nullx"]
)
def test_what_is_no_origin_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongOrigin, match=r"expected all, or origins such as https://example\.org"):
        Origins.parse(text)


async def test_a_page_that_is_not_trusted_is_refused_over_http_and_websocket_with_the_flag(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        for origin in (EVIL, "null"):
            refused = await post(it, SAFE, origin=origin)
            assert (refused.status_code, "--rpc-cors" in refused.text, origin in refused.text) == (403, True, True)
            assert "access-control-allow-origin" not in refused.headers
            handshake = await exchange(it, HANDSHAKE % origin.encode())
            assert handshake.startswith(b"HTTP/1.1 403 ")
            assert b"--rpc-cors" in handshake
            async with httpx.AsyncClient(verify=False, trust_env=False) as http:
                preflight = {"origin": origin, "access-control-request-method": "POST"}
                assert (await http.options(it.http, headers=preflight)).status_code == 403
                blob = it.http + "/blobs/0x" + "00" * 32
                assert (await http.put(blob, content=b"", headers={"origin": origin})).status_code == 403


async def test_a_trusted_page_is_answered_and_its_browser_told_so(tmp_path: Path) -> None:
    origin = "http://localhost:3000"
    async with served(tmp_path) as it:
        answered = await post(it, SAFE, origin=origin)
        assert answered.json()["result"] == "potchain"
        assert answered.headers["access-control-allow-origin"] == origin
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            preflight = {
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type",
            }
            allowed = await http.options(it.http, headers=preflight)
        assert (allowed.status_code, allowed.headers["access-control-allow-headers"]) == (200, "content-type")
        async with open_websocket_url(it.url, extra_headers=[(b"Origin", origin.encode())]) as connection:
            assert (await converse(connection, SAFE))["result"] == "potchain"


async def test_with_all_origins_every_page_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path, access=Access(origins=Origins.parse("all"))) as it:
        assert (await post(it, SAFE, origin=EVIL)).json()["result"] == "potchain"
        async with open_websocket_url(it.url, extra_headers=[(b"Origin", EVIL.encode())]) as connection:
            assert (await converse(connection, SAFE))["result"] == "potchain"


# --- pace


async def test_the_rate_holds_for_a_kept_http_connection_and_each_has_its_own(tmp_path: Path) -> None:
    limits = Limits(requests_per_second=50, requests_burst=5)
    async with served(tmp_path, limits=limits) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        started = trio.current_time()
        for _ in range(3):
            answers = (await http.post(it.http, json=[SAFE] * 5)).json()
            assert [answer["result"] for answer in answers] == ["potchain"] * 5
        assert trio.current_time() - started >= 0.15
        assert it.server.connections == 1
