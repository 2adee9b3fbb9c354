"""`potchain query` and `potchain account` against a real node: what they print, and what they say to a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chain.primitives import ss58
from chain.rpc.client import Client
from tests.rpc.kit import ALICE, BOB, POT, TASK, served
from tests.wallet.conftest import Command

BOBS = ss58.encode(BOB.public)


async def asked(potchain: Command, *arguments: str) -> Any:
    """What a command answers to a program."""
    return json.loads(await potchain(*arguments, "--json"))


async def test_a_value_a_default_and_a_constant_are_shown_with_their_units(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        node = ("--node", it.url)
        assert await potchain("query", "Balances", "TotalIssuance", *node) == (
            "Balances.TotalIssuance at block 0\n31,000 POT\n"
        )
        assert await potchain("query", "balances", "existential_deposit", *node) == (
            "Balances.ExistentialDeposit, constant\n0.001 POT\n"
        )
        assert await potchain("query", "System", "Account", BOBS, *node) == (
            f"System.Account {BOBS} at block 0\n"
            "nonce          0\n"
            "consumers      0\n"
            "providers      1\n"
            "sufficients    0\n"
            "data.free      10,000 POT\n"
            "data.reserved  0 POT\n"
            "data.frozen    0 POT\n"
            "data.flags     0 POT\n"
        )
        assert await potchain("query", "Balances", "Locks", "//Bob", *node) == (
            "Balances.Locks //Bob at block 0, nothing stored: this is the default\nnone\n"
        )
        assert await potchain("query", "Training", "Tasks", "7", *node) == (
            "Training.Tasks 7 at block 0, nothing stored\n"
        )


async def test_programs_get_json_whose_wide_integers_are_text(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        node = ("--node", it.url)
        block = {"height": 0, "hash": "0x" + it.node.ledger.head_hash.hex()}
        assert await asked(potchain, "query", "Balances", "TotalIssuance", *node) == {
            "block": block,
            "module": "Balances",
            "item": "TotalIssuance",
            "keys": [],
            "stored": True,
            "value": "31000000000000000",
        }
        absent = await asked(potchain, "query", "Training", "Tasks", "7", *node)
        assert (absent["keys"], absent["stored"], absent["value"]) == ([7], False, None)
        task = (await asked(potchain, "query", "Training", "Tasks", "0", *node))["value"]
        assert task["owner"] == TASK["owner"]
        assert (task["price_per_slot"], task["policy"]["slots"]) == (str(POT), 2)
        assert bytes.fromhex(task["name"][2:]) == b"digits"
        assert await asked(potchain, "query", "Training", "CapacityMax", *node) == {
            "module": "Training",
            "item": "CapacityMax",
            "constant": True,
            "value": 16,
        }


async def test_a_map_is_listed_up_to_a_limit_and_by_its_first_keys(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path, others=300) as it, Client.connect(it.url) as client:
        node = ("--node", it.url)
        everyone = await asked(potchain, "query", "System", "Account", "--limit", "1000", *node)
        assert (len(everyone["entries"]), everyone["more"]) == (303, False)
        known = {entry["keys"][0]: entry["value"] for entry in everyone["entries"]}
        assert int(known[BOBS]["data"]["free"]) == (await client.account(BOB.public)).free
        some = await asked(potchain, "query", "System", "Account", "--limit", "280", *node)
        assert (some["entries"], some["more"]) == (everyone["entries"][:280], True)
        listed = await potchain("query", "System", "Account", "--limit", "2", *node)
        assert listed.splitlines()[0] == "System.Account at block 0: the first 2 entries (more with --limit)"
        assert len(listed.splitlines()) == 3
        sets = await asked(potchain, "query", "Validators", "Sets", *node)
        assert [entry["keys"] for entry in sets["entries"]] == [[0]]
        plants = await asked(potchain, "query", "Training", "PlantBeacons", "0", *node)
        assert (plants["entries"], plants["more"]) == ([], False)


async def test_a_block_is_named_by_its_height_or_its_hash(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        node = ("--node", it.url)
        await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=POT)
        first = "0x" + it.node.ledger.hash_at(0).hex()  # type: ignore[union-attr]
        for at, free in [("0", 10_000 * POT), ("1", 10_001 * POT), (first, 10_000 * POT)]:
            found = await asked(potchain, "query", "System", "Account", BOBS, "--at", at, *node)
            assert int(found["value"]["data"]["free"]) == free
            assert (await asked(potchain, "account", BOBS, "--at", at, *node))["free"] == str(free)
        assert await potchain("account", BOBS, "--at", "9", *node, exit_code=1) == (
            "error: there is no block 9 yet: the newest is 1\n"
        )
        assert await potchain("account", BOBS, "--at", "0x" + "00" * 32, *node, exit_code=1) == (
            f"error: the node has no block 0x{'00' * 32}: give a height, or the hash of a block of this chain\n"
        )


async def test_an_account_is_shown_with_whatever_the_chain_stores_under_its_address(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        node = ("--node", it.url)
        free, reserved = (found := await client.account(ALICE.public)).free, found.reserved
        shown = await asked(potchain, "account", "//Alice", *node)
        assert {name: shown[name] for name in ("address", "public", "nonce", "free", "reserved", "frozen")} == {
            "address": ss58.encode(ALICE.public),
            "public": "0x" + ALICE.public.hex(),
            "nonce": 0,
            "free": str(free),
            "reserved": str(reserved),
            "frozen": "0",
        }
        assert shown["stored"]["Validators.Stakes"] == {"active": str(1_000 * POT), "unbonding": []}
        for same in (ss58.encode(ALICE.public), "0x" + ALICE.public.hex()):
            assert await asked(potchain, "account", same, *node) == shown
        lines = (await potchain("account", "//Alice", *node)).splitlines()
        assert lines[0] == "at block 0"
        assert "Validators.Stakes.active     1,000 POT" in lines
        other = await asked(potchain, "account", "//Alice", "--scheme", "sr25519", *node)
        assert (other["free"], other["stored"]) == ("10000000000000000", {})


async def test_what_there_is_to_query_is_listed(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        node = ("--node", it.url)
        modules = (await potchain("query", *node)).splitlines()
        assert "Balances            3 stored, 3 constant" in modules
        assert (await potchain("query", "Sudo", *node)).splitlines() == [
            "Key",
            "    The AccountId of the sudo key.",
        ]
        described = await asked(potchain, "query", "Sudo", *node)
        assert described == {
            "module": "Sudo",
            "items": [{"name": "Key", "keys": [], "docs": "The AccountId of the sudo key."}],
            "constants": [],
        }


MISTAKES = [
    ("Balance", "no module is called 'Balance': did you mean Balances?"),
    (
        "Balances totl",
        "no item of Balances is called 'totl': there is TotalIssuance, Locks, Reserves, ExistentialDeposit, "
        "MaxLocks, MaxReserves",
    ),
    ("Training History 1 2 3", "Training.History takes 2 keys (a number (u32), a number (u32)), got 3"),
    ("Balances TotalIssuance 1", "Balances.TotalIssuance takes no keys, got 1"),
    ("Balances MaxLocks 1", "Balances.MaxLocks is a constant and takes no keys, got 1"),
    ("Training History x", "key 1 of Training.History: expected a whole number (u32), got 'x'"),
    (
        "Training History 4294967296",
        "key 1 of Training.History: expected a number from 0 to 4294967295 (u32), got 4294967296",
    ),
    ("System EventTopics 0x12", "key 1 of System.EventTopics: expected 0x and 64 hex digits, got 2 of them"),
]


async def test_a_query_for_what_there_is_not_says_what_there_is(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        for words, error in MISTAKES:
            assert await potchain("query", *words.split(), "--node", it.url, exit_code=2) == f"error: {error}\n"
