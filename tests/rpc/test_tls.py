"""Behind a proxy that speaks TLS a node is reached by wss://, for requests, transactions and blobs alike."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from chain.rpc.client import CannotConnect, Client
from tests.rpc.kit import ALICE, BOB, served
from tests.rpc.tls import make_authority, terminated

ROOT = Path(__file__).resolve().parent.parent.parent


async def test_a_client_asks_pays_and_stores_blobs_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = make_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with trio.fail_after(60):
        async with (
            served(tmp_path / "db") as it,
            terminated(context, it.server.port) as url,
            Client.connect(url) as client,
        ):
            assert await client.request("system_chain") == "potchain test"
            receipt = await client.transact(ALICE, "balances.transfer_allow_death", dest=BOB.public, value=5)
            assert (receipt.ok, receipt.error) == (True, None)
            blob = bytes(range(256)) * 1_000
            assert await client.get_blob(await client.put_blob(blob), len(blob)) == blob


async def test_a_node_whose_certificate_nobody_vouches_for_is_refused_with_the_reason(tmp_path: Path) -> None:
    _, context = make_authority(tmp_path)
    with trio.fail_after(60):
        async with served(tmp_path / "db") as it, terminated(context, it.server.port) as url:
            with pytest.raises(
                CannotConnect, match=r"no TLS with it: its certificate is not trusted here \(unable to get local issuer"
            ):
                async with Client.connect(url):
                    pass
            with pytest.raises(CannotConnect, match="no TLS with it: "):  # The node itself speaks none.
                async with Client.connect(f"wss://127.0.0.1:{it.server.port}"):
                    pass


@pytest.mark.slow
async def test_a_worker_reaches_its_node_by_one_outgoing_connection_over_tls(tmp_path: Path) -> None:
    authority, context = make_authority(tmp_path)
    with trio.fail_after(60):
        async with served(tmp_path / "db") as it, terminated(context, it.server.port) as url:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "chain", "worker", "--key=//Bob", f"--node={url}", f"--base-path={tmp_path}"],
                stdout=-1,
                env={**os.environ, "SSL_CERT_FILE": str(authority)},
                cwd=ROOT,
            )
            assert process.stdout is not None
            said = b""
            try:
                while b"registered: can be drawn" not in said:
                    piece = await process.stdout.receive_some(4096)
                    assert piece, said.decode()
                    said += piece
                assert f"the node at {url} answers" in said.decode()
            finally:
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0
