"""`potchain tx` against a real node: what it shows and asks, what it sends, and what it says of what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import typer

from chain import cli_send
from chain.cli_send import tell_waiting
from chain.cli_wallet import words_of
from chain.display import Progress
from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.rpc.access import Access, RpcMethods
from chain.rpc.client import Client
from chain.wallet.node import open_chain
from tests.rpc.kit import ALICE, BOB, CHARLIE, POT, Served, served
from tests.wallet.conftest import Command

ALICES, BOBS = ss58.encode(ALICE.public), ss58.encode(BOB.public)
NEW_ACCOUNT = ss58.encode(Keypair.from_uri("//Nobody").public)
KEEP_ALIVE = ("tx", "call", "balances.transfer_keep_alive")


def written(amount: int) -> str:
    """An amount of tokens as the commands show it."""
    whole, part = divmod(amount, POT)
    return f"{whole:,}.{part:012d}".rstrip("0").rstrip(".")


async def refusal(potchain: Command, *arguments: str, exit_code: int = 2) -> str:
    """What a command says when it refuses: one line on standard error that begins with `error: `."""
    message = await potchain(*arguments, exit_code=exit_code)
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def untouched(it: Served) -> bool:
    """Whether nothing was sent."""
    return it.node.ledger.head.height == 0 and len(it.node.pool) == 0


# --- transfer ------------------------------------------------------------------------------------------------------


async def test_a_transfer_says_what_it_costs_where_it_is_final_and_what_it_did(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        to = ss58.encode(CHARLIE.public)
        printed = await potchain("tx", "transfer", to, "1.5", "--from", "//Bob", "--yes", "--node", it.url)
        left = (await client.account(BOB.public)).free
        fee = written(10_000 * POT - 15 * POT // 10 - left)
        raw = it.node.ledger.block(it.node.ledger.head_hash).extrinsics[-1]  # type: ignore[union-attr]
        transaction = blake2_256(raw).hex()
        assert printed.splitlines() == [
            "balances.transfer_keep_alive",
            f"    dest   {to}",
            "    value  1.5 POT",
            f"from   {BOBS}",
            "nonce  0, valid until block 64",
            f"fee    {fee} POT at most",
            f"left   {written(left)} POT of 10,000 POT",
            f"final in block 1 (0x{it.node.ledger.head_hash.hex()})",
            f"transaction 0x{transaction}, fee {fee} POT",
            f"    Balances.Withdraw  who {BOBS}, amount {fee} POT",
            f"    System.NewAccount  account {to}",
            f"    Balances.Endowed  account {to}, free_balance 1.5 POT",
            f"    Balances.Transfer  from {BOBS}, to {to}, amount 1.5 POT",
            f"    TransactionPayment.TransactionFeePaid  who {BOBS}, actual_fee {fee} POT, tip 0 POT",
            f"the sender has {written(left)} POT left",
        ]


async def test_a_transfer_that_cannot_succeed_is_refused_before_it_costs_a_fee(
    tmp_path: Path, potchain: Command
) -> None:
    mistyped = BOBS[:-1] + ("A" if BOBS[-1] != "A" else "B")
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        free = (await client.account(ALICE.public)).free
        for key, to, amount, words in [
            (
                "//Alice",
                BOBS,
                "10000",
                f"has {written(free)} POT, too little for 10,000 POT, the fee, and the 0.001 POT",
            ),
            (
                "//Alice",
                BOBS,
                "1" + "0" * 40,
                "expected an amount up to 340,282,366,920,938,463,463,374,607.431768211455 POT",
            ),
            ("//Alice", BOBS, "0", "expected an amount above 0"),
            ("//Alice", BOBS, "many", "expected an amount with its unit, such as 1.5POT, 3mPOT or 7planck, got 'many'"),
            ("//Alice", BOBS, "1,5", "with commas at thousands alone, got '1,5'"),
            ("//Alice", BOBS, "-1", "see: potchain tx transfer --help"),
            ("//Alice", NEW_ACCOUNT, "100µPOT", "begins with at least 0.001 POT, got 0.0001 POT"),
            ("//Alice", ALICES, "1", "is the sender's own address"),
            ("//Alice", "bob", "1", "expected an address such as 5Grw"),
            ("//Alice", mistyped, "1", "a character is mistyped"),
            ("//Charlie", BOBS, "1", "has 0 POT"),
            ("", BOBS, "1", "got nothing"),
        ]:
            send = ("tx", "transfer", to, amount, "--from", key, "--yes", "--node", it.url)
            assert words in await refusal(potchain, *send)
        assert untouched(it)


async def test_a_sender_whose_tokens_are_in_the_secrets_other_account_is_told_so(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        wallet = Keypair.from_uri("//Dora", Scheme.SR25519)
        await client.transact(ALICE, "balances.transfer_keep_alive", dest=wallet.public, value=5 * POT)
        send = ("tx", "transfer", BOBS, "1", "--from", "//Dora", "--yes", "--node", it.url)
        message = await refusal(potchain, *send)
        assert f"sr25519 account {ss58.encode(wallet.public)} has 5 POT: add --scheme sr25519" in message
        assert "final in block 2" in await potchain(*send, "--scheme", "sr25519")


async def test_a_transfer_that_fails_in_its_block_says_why_and_what_that_cost(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        amount = (await client.account(ALICE.public)).free - 11 * POT // 10_000
        send = ("tx", "transfer", BOBS, written(amount), "--from", "//Alice", "--yes", "--node", it.url)
        message = await refusal(potchain, *send, exit_code=1)
        block = f"block 1 (0x{it.node.ledger.head_hash.hex()})"
        assert message.startswith(
            f"error: failed in {block}: Balances.Expendability: Transfer/payment would kill account. Only the fee of 0."
        )


# --- calls ---------------------------------------------------------------------------------------------------------


async def test_any_call_is_made_from_words_and_programs_get_json(tmp_path: Path, potchain: Command) -> None:
    photo = tmp_path / "photo"
    photo.write_bytes(b"\x00\x01")
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        options = ("--from", "//Alice", "--yes", "--json", "--node", it.url)
        sent = json.loads(await potchain(*KEEP_ALIVE, "--dest", BOBS, "--value=1.5POT", *options))
        assert (sent["ok"], sent["error"], sent["finalized"], sent["inner"]) == (True, None, True, [])
        assert sent["block"] == {"height": 1, "hash": "0x" + it.node.ledger.head_hash.hex()}
        moved = {"from": ALICES, "to": BOBS, "amount": str(15 * POT // 10)}
        assert {"Balances.Transfer": moved} in sent["events"]
        assert (await client.account(BOB.public)).free == 100_015 * POT // 10
        noted = json.loads(await potchain("tx", "call", "system.remark_with_event", "--remark", f"@{photo}", *options))
        (event,) = (each for each in noted["events"] if "System.Remarked" in each)
        assert event["System.Remarked"]["hash"] == "0x" + blake2_256(b"\0\1").hex()
        failed = await potchain(
            *KEEP_ALIVE, "--dest", BOBS, "--value", "1000000POT", *options[:-2], *options[-2:], exit_code=1
        )
        assert "Balances.InsufficientBalance: Balance too low to send value." in failed


async def test_calls_in_calls_are_json_from_the_command_line_or_from_a_file(tmp_path: Path, potchain: Command) -> None:
    calls = tmp_path / "calls.json"
    calls.write_text(json.dumps([{"balances.transfer_keep_alive": {"dest": BOBS, "value": "2POT"}}] * 3))
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        options = ("--from", "//Alice", "--yes", "--node", it.url)
        await potchain("tx", "call", "utility.batch_all", "--calls", f"@{calls}", *options)
        await potchain("tx", "call", "utility.batch_all", "--calls", calls.read_text(), *options)
        assert (await client.account(BOB.public)).free == 10_012 * POT


MISTAKES = [
    ("balances.brun", "no call of balances is called 'brun': did you mean burn?"),
    ("balance.burn", "no module is called 'balance': did you mean balances?"),
    ("burn", "expected a call such as balances.transfer_keep_alive, got 'burn'"),
    ("balances.burn", "balances.burn needs --value (an amount), --keep-alive (true or false)"),
    ("balances.burn --value 1POT", "balances.burn needs --keep-alive (true or false)"),
    ("balances.burn --valu 1POT", "balances.burn has no argument --valu: it takes --value, --keep-alive"),
    ("balances.burn --value", "--value: expected a value behind it"),
    ("balances.burn 1POT", "expected an argument of the call as --NAME VALUE, got '1POT'"),
    ("balances.burn --value 1POT --value 2POT", "--value is given twice"),
    (
        "--value 1POT balances.burn",
        "expected MODULE.CALL before its arguments; --list shows the calls that there are",
    ),
    (
        "balances.burn --keep-alive true --value 1",
        "--value: expected an amount with its unit, such as 1.5POT, 3mPOT or 7planck, got '1'",
    ),
    ("balances.burn --value 1POT --keep-alive 1", "--keep-alive: expected true or false, got '1'"),
    (
        "validators.set_keys --bls-key 0x00 --proof 0x00",
        "--bls-key: expected 0x and 96 hex digits, got 2 of them",
    ),
    ("system.remark --remark 0xyz", "--remark: expected text, or 0x and hex digits, got '0xyz'"),
    ("system.remark --remark @nowhere", "cannot read nowhere: No such file or directory"),
    ("training.register_worker --capacity 70000", "--capacity: expected a number from 0 to 65535 (u16), got 70000"),
    (
        "sudo.sudo --call balances.burn",
        "--call: expected JSON, got 'balances.burn' (Expecting value: line 1 column 1 (char 0))",
    ),
    (
        'sudo.sudo --call {"balances.burn":{}}',
        "--call: balances.burn: value, keep_alive missing: expected value, keep_alive",
    ),
    (
        'utility.batch --calls [{"balances.burn":{"value":0.5,"keep_alive":true}}]',
        "--calls: expected whole numbers, and amounts with their unit as in \"1.5POT\", got '0.5'",
    ),
    ('utility.batch --calls [{"a":1,"a":2}]', "--calls: 'a' appears twice in JSON"),
    (
        "utility.dispatch_as --as-origin system:Rot --call {}",
        "--as-origin: expected one of Root, Signed, None, got 'Rot'",
    ),
    (
        "validators.chill --tip 1",
        "--tip: expected an amount with its unit, such as 1.5POT, 3mPOT or 7planck, got '1'",
    ),
    (
        "balances.burn --value 1POT --keep-alive true --era 1000",
        "--era: expected 4 to 256 blocks, or immortal, got '1000'",
    ),
]


async def test_a_call_that_cannot_be_made_says_what_was_expected(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        for words, error in MISTAKES:
            call = ("tx", "call", *words.split(), "--from", "//Alice", "--yes", "--node", it.url)
            assert await potchain(*call, exit_code=2) == f"error: {error}\n"
        assert untouched(it)


async def test_an_argument_that_is_named_as_an_option_goes_behind_two_hyphens() -> None:
    from chain.cli_calls import arguments_of

    assert arguments_of(["--from", "x", "--Keep_Alive=a=b"]) == {"from": "x", "Keep-Alive": "a=b"}


async def test_a_call_and_a_module_are_described_by_the_chain(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        node = ("--node", it.url)
        assert (await potchain(*KEEP_ALIVE, "--help", *node)).splitlines() == [
            "potchain tx call balances.transfer_keep_alive --dest … --value … --from KEY",
            "    Transfer some liquid free balance to another account; fail rather than remove the sender's account.",
            "--dest   an address",
            "--value  an amount",
        ]
        described = json.loads(await potchain("tx", "call", "utility.batch", "--help", "--json", *node))
        assert described["arguments"] == {"calls": 'a list as JSON, each a call as JSON, {"module.call": {…}}'}
        listed = [line.split()[0] for line in (await potchain("tx", "call", "--list", "sudo", *node)).splitlines()]
        assert listed == ["sudo.sudo", "sudo.sudo_unchecked_weight", "sudo.set_key", "sudo.sudo_as", "sudo.remove_key"]
        everything = json.loads(await potchain("tx", "call", "--list", "--json", *node))
        assert {"sudo.sudo", "training.create_task"} <= {each["call"] for each in everything}


# --- asking, trying, waiting ---------------------------------------------------------------------------------------


async def test_nothing_is_signed_before_somebody_agreed(
    tmp_path: Path, potchain: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it:
        send = ("tx", "transfer", BOBS, "1", "--from", "//Alice", "--node", it.url)
        assert await potchain(*send, exit_code=2) == (
            "error: nobody is there to be asked: add --yes to sign at once, or --dry-run; nothing was sent\n"
        )
        assert await potchain(*send, "--json", exit_code=2) == (
            "error: --json asks nobody: add --yes to sign at once, or --dry-run; nothing was sent\n"
        )
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        answers, asked = [False, True], []

        def confirm(question: str) -> bool:
            asked.append(question)
            return answers.pop(0)

        monkeypatch.setattr(typer, "confirm", confirm)
        assert (await potchain(*send)).splitlines()[-1] == "nothing was sent"
        assert untouched(it)
        assert "final in block 1" in await potchain(*send)
        assert asked == ["sign and send it?"] * 2


async def test_a_dry_run_says_what_would_come_of_it_and_sends_nothing(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        options = ("--from", "//Alice", "--dry-run", "--node", it.url)
        tried = await potchain(*KEEP_ALIVE, "--dest", BOBS, "--value", "1POT", *options)
        assert tried.splitlines()[-1] == "it would succeed; nothing was sent: --dry-run"
        assert json.loads(await potchain(*KEEP_ALIVE, "--dest", BOBS, "--value", "1POT", "--json", *options)) == {
            "dryRun": True,
            "ok": True,
            "error": None,
        }
        assert await potchain(*KEEP_ALIVE, "--dest", BOBS, "--value", "1000000POT", *options, exit_code=1) == (
            "error: it would fail: Balances.InsufficientBalance: Balance too low to send value. Nothing was sent\n"
        )
        assert await potchain(
            *KEEP_ALIVE, "--dest", BOBS, "--value", "1POT", "--nonce", "7", *options, exit_code=1
        ) == (
            "error: it would fail: InvalidTransaction.Future: no block would include it, and it costs nothing. "
            "Nothing was sent\n"
        )
        assert untouched(it)


async def test_a_node_that_tries_nothing_for_others_is_named(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path, access=Access(methods=RpcMethods.SAFE)) as it:
        tried = ("tx", "transfer", BOBS, "1", "--from", "//Alice", "--dry-run", "--node", it.url)
        message = await refusal(potchain, *tried, exit_code=1)
        assert message.startswith(f"error: {it.url} does not try transactions for others (")
        assert message.endswith("ask a node of your own with --node, on its own machine; nothing was sent\n")


async def test_a_command_waits_for_as_long_as_it_is_told(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        it.node.seals_at_once = False
        options = ("--from", "//Alice", "--yes", "--node", it.url)
        pooled = await potchain("tx", "transfer", BOBS, "1", *options, "--watch", "none")
        assert pooled.splitlines()[-1].startswith("in the pool: transaction 0x")
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 1)
        await it.node.seal()
        it.node.seals_at_once = True
        included = await potchain("tx", "transfer", BOBS, "1", *options, "--watch", "included")
        assert f"in block 2 (0x{it.node.ledger.head_hash.hex()})" in included.splitlines()


async def test_who_watches_is_told_that_no_block_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_send, "WAIT_SECONDS", 0.02)

    def words(*chain: Any) -> Any:
        return words_of(Scheme.ED25519, *chain)

    async with served(tmp_path) as it, open_chain(it.url, words) as chain:
        told = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_waiting, chain, Progress(watched=True))
            with trio.fail_after(60):
                while "in no block after 0 s, with the chain at height 0; waiting …" not in told:
                    await trio.sleep(0.01)
                    told += capfd.readouterr().out
            nursery.cancel_scope.cancel()


# --- batch ---------------------------------------------------------------------------------------------------------


async def test_a_batch_is_made_whole_or_as_far_as_one_says(tmp_path: Path, potchain: Command) -> None:
    file = tmp_path / "calls.json"
    pay = [{"balances.transfer_keep_alive": {"dest": BOBS, "value": value}} for value in ("1POT", "1000000POT", "2POT")]
    file.write_text(json.dumps(pay))
    short = "Balances.InsufficientBalance: Balance too low to send value."
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        free = 10_000 * POT
        batch = ("tx", "batch", str(file), "--from", "//Alice", "--yes", "--node", it.url)
        for on_failure, paid, words in [
            ((), 0, f"failed in block 1 (0x…): {short} Only the fee"),
            (("--on-failure", "stop"), POT, f"included in block 2 (0x…), but call 1 of the batch failed: {short}"),
            (("--on-failure", "go-on"), 3 * POT, f"included in block 3 (0x…), but a call of the batch failed: {short}"),
        ]:
            message = await refusal(potchain, *batch, *on_failure, exit_code=1)
            head = it.node.ledger.head_hash.hex()
            assert words in message.replace(head, "…")
            free += paid
            assert (await client.account(BOB.public)).free == free
        del pay[1]
        file.write_text(json.dumps(pay))
        assert "final in block 4" in await potchain(*batch)


async def test_a_file_that_is_no_batch_is_named(tmp_path: Path, potchain: Command) -> None:
    file = tmp_path / "calls.json"
    mistakes = {
        "{}": "expected a JSON list of calls",
        "[]": "expected a JSON list of calls",
        "[1": "expected JSON, got '[1' (Expecting ',' delimiter: line 1 column 3 (char 2))",
        "[1]": 'utility.batch_all: calls[0]: expected a call such as {"balances.burn": {"value": "1POT", …}}, got 1',
        '[{"validators.bond": {"value": "@/etc/passwd"}}]': "utility.batch_all: calls[0]: validators.bond: value: "
        "expected an amount with its unit, such as 1.5POT, 3mPOT or 7planck, got '@/etc/passwd'",
    }
    async with served(tmp_path) as it:
        for text, error in mistakes.items():
            file.write_text(text)
            batch = ("tx", "batch", str(file), "--from", "//Alice", "--yes", "--node", it.url)
            assert await refusal(potchain, *batch) == f"error: {file}: {error}\n"
        assert untouched(it)


async def test_a_file_that_others_wrote_puts_no_file_of_this_machine_on_chain(
    tmp_path: Path, potchain: Command
) -> None:
    secret, file = tmp_path / "secret", tmp_path / "calls.json"
    secret.write_text("mine")
    file.write_text(json.dumps([{"system.remark_with_event": {"remark": f"@{secret}"}}]))
    async with served(tmp_path) as it:
        batch = ("tx", "batch", str(file), "--from", "//Alice", "--yes", "--json", "--node", it.url)
        sent = json.loads(await potchain(*batch))
        (event,) = (each for each in sent["events"] if "System.Remarked" in each)
        assert event["System.Remarked"]["hash"] == "0x" + blake2_256(f"@{secret}".encode()).hex()


# --- without network -----------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(tmp_path: Path, potchain: Command) -> Callable[..., Any]:
    """Prepares a transfer from Alice to Bob; the file."""

    async def prepare(it: Served, *options: str) -> Path:
        file = tmp_path / "transfer.json"
        await potchain(
            *("tx", "prepare", "balances.transfer_keep_alive", "--dest", BOBS, "--value", "1POT", "--from", ALICES),
            *("-o", str(file), "--node", it.url, *options),
        )
        return file

    return prepare


async def test_a_transaction_is_signed_where_there_is_no_network(
    tmp_path: Path, potchain: Command, prepared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        file, signed = await prepared(it), tmp_path / "signed"
        sign = ("tx", "sign", str(file), "--from", "//Alice", "-o", str(signed), "--yes")
        with monkeypatch.context() as offline:
            offline.setattr("socket.socket.connect", _no_network)
            shown = (await potchain(*sign)).splitlines()
        genesis = it.node.ledger.hash_at(0).hex()  # type: ignore[union-attr]
        assert shown == [
            "balances.transfer_keep_alive",
            f"    dest   {BOBS}",
            "    value  1 POT",
            f"from   {ALICES}",
            "nonce  0, valid until block 256",
            "tip    0 POT",
            f"chain  genesis 0x{genesis}, potchain 1",
            "decoded by the runtime that is installed here",
            f"written to {signed}; send it from a machine with network: potchain tx submit {signed}",
        ]
        assert untouched(it)
        assert "left as it is" in await refusal(potchain, *sign)
        submit = ("tx", "submit", str(signed), "--node", it.url)
        assert (await potchain(*submit, "--dry-run")) == "it would succeed; nothing was sent: --dry-run\n"
        assert (await potchain(*submit)).splitlines()[0].startswith("final in block 1 (0x")
        assert (await client.account(BOB.public)).free == 10_001 * POT
        assert "nonce 0 was already used" in await refusal(potchain, *submit, exit_code=1)


def _no_network(*arguments: object) -> None:
    raise AssertionError("signing reached for the network")


async def test_a_file_cannot_have_something_else_signed_than_is_shown(
    tmp_path: Path, potchain: Command, prepared: Callable[..., Any]
) -> None:
    async with served(tmp_path) as it:
        file, signed = await prepared(it, "--era", "immortal"), tmp_path / "signed"
        original = json.loads(file.read_text())
        other_runtime = {"spec_version": 2}
        changes: list[tuple[dict[str, Any], int, str]] = [
            ({"prefix": 0}, 0, f"    dest   {BOBS}"),
            ({"metadata": "0x00"}, 0, "    value  1 POT"),
            (other_runtime, 0, "    value  1,000,000,000,000 planck"),
            (other_runtime, 0, "warning: decoded by what the file says of the chain, which nothing here confirms"),
            (
                {"call": original["call"] + "00"},
                2,
                "the call is none of this chain's: expected the value to end at byte",
            ),
            ({"account": "0x" + BOB.public.hex()}, 2, f"is to be signed by {BOBS}, and the key is of {ALICES}"),
            (
                {"era_hash": "0x" + "11" * 32},
                2,
                "era_hash: expected the genesis hash, since the transaction is immortal",
            ),
            ({"nonce": -1}, 2, "nonce: expected a number from 0 to 4294967295"),
            ({"format": "else"}, 2, "expected the file that potchain tx prepare writes"),
            ({"spec_name": "a\x1b[2Jb"}, 2, "spec_name: expected a short text"),
            ({**other_runtime, "metadata": "0x00"}, 2, "the file's metadata: expected metadata of version 14 or 15"),
        ]
        for change, exit_code, words in changes:
            file.write_text(json.dumps({**original, **change}))
            signed.unlink(missing_ok=True)
            sign = ("tx", "sign", str(file), "--from", "//Alice", "-o", str(signed), "--yes")
            said = await potchain(*sign, exit_code=exit_code)
            assert words in said, change
            assert signed.exists() == (exit_code == 0)


async def test_a_file_that_is_not_signed_is_not_sent(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        file = tmp_path / "file"
        for text in ("", "0x", "0x1", "{}", "0x" + "00" * 99):
            file.write_text(text)
            assert "expected" in await refusal(potchain, "tx", "submit", str(file), "--node", it.url)
        assert untouched(it)
