"""docs/wallet.md, followed to the letter: every command of it, in its order, against a real ledger and RPC server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import trio

from chain.cli import main
from chain.primitives import ss58
from chain.rpc.client import Client
from tests.docs.pages import ROOT, commands
from tests.rpc.kit import POT, served

PAGE = (ROOT / "docs" / "wallet.md").read_text()
PAYEE = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
SECONDS_MAX = 300


@pytest.mark.slow
async def test_the_page_leads_from_no_account_to_a_payment_signed_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (calls,) = re.findall(r"<!-- file: calls.json -->\n```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "calls.json").write_text(calls)
    password = tmp_path / "password"  # what people type
    password.touch(0o600)
    password.write_text("correct horse\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    address, said = "", ""
    with trio.fail_after(SECONDS_MAX):
        async with served(tmp_path / "node") as it, Client.connect(it.url) as client:
            for line in commands("docs/wallet.md"):
                program, *words = shlex.split(line.replace("ADDRESS", address))
                assert program == "potchain"
                needs_no_node = words[0] == "key" or words[:2] == ["tx", "sign"]
                words += [] if needs_no_node else ["--node", it.url]
                words += ["--password-filename", str(password)] if words[0] == "key" or "me" in words[3:] else []
                words += ["--memory", "1"] if words[0] == "key" else []  # its password is worth no more
                with pytest.raises(SystemExit) as ended:
                    await trio.to_thread.run_sync(main, words)
                printed = capfd.readouterr()
                assert not ended.value.code, (line, printed)
                said += printed.out
                if words[:2] == ["key", "new"]:
                    (address,) = re.findall(r"ed25519 +address (\S+)", printed.out)
            assert (await client.account(ss58.decode(address))).nonce == 5
            # The transfer, the call of @calls.json, the batch of it, and the payment.
            assert (await client.account(ss58.decode(PAYEE))).free == 45 * POT // 10
    assert "Balances.Burned  who " in said
    assert "decoded by the runtime that is installed here" in said
    assert "Balances.ExistentialDeposit, constant\n0.001 POT\n" in said
