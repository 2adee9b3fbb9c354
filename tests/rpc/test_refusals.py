"""Every way in which a transaction is refused over RPC: Substrate's code and words, and the values that decided it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from chain.net.messages import TRANSACTION_BYTES_MAX
from chain.pool import PoolLimits
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.scale import compact_encode
from chain.primitives.types import (
    EcdsaSignature,
    Index,
    Mortal,
    decode_extrinsic,
    encode_extrinsic,
    sign_extrinsic,
)
from chain.rpc.errors import Code
from chain.rpc.methods_author import REASONS
from runtime.calls import Call
from runtime.potchain import RUNTIME
from runtime.types import InvalidReason, UnknownReason
from tests.rpc.kit import ALICE, BOB, CHARLIE, GENESIS_MS, POT, MiniNode, served

OTHER_GENESIS = b"\7" * 32


def remark(text: bytes = b"") -> Call:
    return RUNTIME.call("system.remark", remark=text)


class Sender:
    """Transactions for a node at height 1, at which ALICE has used nonce 0."""

    def __init__(self, node: MiniNode) -> None:
        self.node = node

    def sign(self, keypair: Keypair = ALICE, call: Call | None = None, **changes: Any) -> bytes:
        """A good remark of ALICE's but for the changes."""
        arguments: dict[str, Any] = {
            "nonce": 1 if keypair is ALICE else 0,
            "spec_version": RUNTIME.spec_version,
            "transaction_version": RUNTIME.transaction_version,
            "genesis_hash": self.node.ledger.genesis_hash,
        }
        return sign_extrinsic(keypair, RUNTIME.encode_call(call or remark()), **arguments | changes)

    def resigned(self, **changes: Any) -> bytes:
        """A good one with something else in its signature."""
        extrinsic = decode_extrinsic(self.sign(), RUNTIME.call_codec)
        assert extrinsic.signature is not None
        return encode_extrinsic(extrinsic.call_bytes, replace(extrinsic.signature, **changes))

    def before(self, call: bytes) -> bytes:
        """A good signature before whatever bytes."""
        extrinsic = decode_extrinsic(self.sign(), RUNTIME.call_codec)
        return encode_extrinsic(call, extrinsic.signature)

    def prefix(self, path: str) -> bytes:
        """A call's first two bytes."""
        return RUNTIME.call_info(path).prefix


MALFORMED = (Code.VERIFICATION, "Verification Error")
INVALID = (Code.INVALID_TRANSACTION, "Invalid Transaction")
UNKNOWN = (Code.UNKNOWN_VALIDITY, "Unknown Transaction Validity")
PARAMS = (Code.INVALID_PARAMS, "Invalid params")
MISMATCH = (
    f"{REASONS[InvalidReason.BAD_PROOF]}: the ed25519 signature of 0x{ALICE.public.hex()} does not match: "
    "sign for genesis 0x"
)
ALONE = ": only a block's author adds such extrinsics, at its head"

# What is sent; the code and message; what the data begin with.
REFUSED: dict[str, tuple[Callable[[Sender], bytes], tuple[Code, str], str]] = {
    # Bytes that are no transaction.
    "nothing": (
        lambda _: b"",
        MALFORMED,
        "malformed transaction: expected an extrinsic, got no bytes",
    ),
    "half of one": (
        lambda sender: sender.sign()[:50],
        MALFORMED,
        "malformed transaction: the extrinsic's length prefix says 105 bytes, got 48",
    ),
    "another version": (
        lambda _: b"\x08\x85\x00",
        MALFORMED,
        "malformed transaction: expected an extrinsic of version 4, got 5",
    ),
    "an unknown call": (
        lambda sender: sender.before(b"\xfe\x07"),
        MALFORMED,
        "malformed transaction: the runtime has no call 0xfe07 (module, call) at byte 0",
    ),
    "arguments that are too short": (
        lambda sender: sender.before(sender.prefix("balances.transfer_keep_alive") + b"\0\1\2"),
        MALFORMED,
        "malformed transaction: balances.transfer_keep_alive: dest: expected 32 bytes at byte 3, got 2",
    ),
    "bytes behind the arguments": (
        lambda sender: sender.before(RUNTIME.encode_call(remark()) + b"\1\2"),
        MALFORMED,
        "malformed transaction: expected the call to end at its byte 3, got 2 bytes more",
    ),
    "a number that is not in its shortest form": (
        lambda sender: sender.before(sender.prefix("system.remark") + b"\1\0"),
        MALFORMED,
        "malformed transaction: system.remark: remark: compact integer 0 at byte 2 is not in its shortest form",
    ),
    "a wrong call in a batch": (
        lambda sender: sender.before(sender.prefix("utility.batch") + b"\4" + sender.prefix("sudo.sudo") + b"\1\2\3"),
        MALFORMED,
        "malformed transaction: the runtime has no call 0x0102 (module, call) at byte 5",
    ),
    "calls that are nested too deep": (
        lambda sender: sender.before((sender.prefix("utility.batch") + b"\4") * 100),
        MALFORMED,
        "malformed transaction: expected calls nested at most 32 deep, got one more at byte 96",
    ),
    # Nobody vouches for it.
    "no signature": (
        lambda _: encode_extrinsic(RUNTIME.encode_call(remark())),
        UNKNOWN,
        "system.remark came without a signature" + ALONE,
    ),
    "a sender that cannot be looked up": (
        lambda sender: sender.resigned(address=Index(3)),
        UNKNOWN,
        "expected the sender as MultiAddress::Id, got Index",
    ),
    # InvalidTransaction, by reason.
    "a used nonce": (
        lambda sender: sender.sign(nonce=0),
        INVALID,
        "Transaction is outdated: nonce 0 was already used: the account's next nonce is 1",
    ),
    "nothing to pay with": (
        lambda sender: sender.sign(CHARLIE),
        INVALID,
        f"{REASONS[InvalidReason.PAYMENT]}: balance 0 cannot pay fee ",
    ),
    "a tip above the balance": (
        lambda sender: sender.sign(tip=10**9 * POT),
        INVALID,
        f"{REASONS[InvalidReason.PAYMENT]}: balance 99",
    ),
    "a forged signature": (
        lambda sender: sender.resigned(nonce=2),
        INVALID,
        MISMATCH,
    ),
    "another chain's": (
        lambda sender: sender.sign(genesis_hash=OTHER_GENESIS),
        INVALID,
        MISMATCH,
    ),
    "another runtime's": (
        lambda sender: sender.sign(spec_version=99),
        INVALID,
        MISMATCH,
    ),
    "another encoding's": (
        lambda sender: sender.sign(transaction_version=99),
        INVALID,
        MISMATCH,
    ),
    "a scheme that the chain has not": (
        lambda sender: sender.resigned(signature=EcdsaSignature(bytes(65))),
        INVALID,
        f"{REASONS[InvalidReason.BAD_PROOF]}: expected an ed25519 or sr25519 signature, got ECDSA",
    ),
    "an era that begins nowhere": (
        lambda sender: sender.sign(era=Mortal(64, 50), era_hash=bytes(32)),
        INVALID,
        (
            "Transaction has an ancient birth block: the era of 64 blocks begins at block 50, whose hash is not "
            "known at block 2: sign again for the latest block"
        ),
    ),
    "more calls than a block has room for": (
        lambda sender: sender.sign(call=RUNTIME.call("utility.batch", calls=[remark()] * 15_000)),
        INVALID,
        "Transaction would exhaust the block limits: utility.batch weighs ",
    ),
    "many more calls than that": (
        lambda sender: sender.before(
            sender.prefix("utility.batch") + compact_encode(10**5) + (sender.prefix("system.remark") + b"\0") * 10**5
        ),
        INVALID,
        "Transaction would exhaust the block limits: the first ",
    ),
    "what only an author adds": (
        lambda sender: sender.sign(call=RUNTIME.call("timestamp.set", now=1)),
        INVALID,
        f"{REASONS[InvalidReason.MANDATORY_VALIDATION]}: timestamp.set came with a signature{ALONE}",
    ),
    "a transaction above the limit": (
        lambda sender: sender.sign(call=remark(bytes(TRANSACTION_BYTES_MAX))),
        (Code.POOL_LIMIT, "Immediately Dropped"),
        (f"expected a transaction of at most {TRANSACTION_BYTES_MAX} bytes, which is the most that peers take "),
    ),
}
# Those that no submission meets: a nonce ahead of the account's waits in the pool, and this runtime's calls have no
# errors of their own here, no call that may not be made by whom it names, and no signed call that is mandatory.
UNREACHABLE = {InvalidReason.FUTURE, InvalidReason.CUSTOM, InvalidReason.BAD_MANDATORY, InvalidReason.BAD_SIGNER}


class Caller:
    """Speaks JSON-RPC to a node."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def answer(self, *params: object) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 1, "method": "author_submitExtrinsic", "params": params}
        return dict((await self._http.post(self._url, json=call)).json())

    async def error(self, *params: object) -> dict[str, Any]:
        return dict((await self.answer(*params))["error"])

    async def refusal(self, raw: bytes) -> dict[str, Any]:
        return await self.error("0x" + raw.hex())


async def test_a_bad_transaction_is_refused_with_substrates_code_and_what_is_wrong(tmp_path: Path) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        sender, caller = Sender(it.node), Caller(http, it.http)
        it.node.seals_at_once = False
        assert "result" in await caller.answer("0x" + sender.sign(nonce=0).hex())
        await it.node.seal()
        assert it.node.ledger.head.height == 1
        root = it.node.ledger.head.state_root
        for name, (sent, (code, message), data) in REFUSED.items():
            error = await caller.refusal(sent(sender))
            assert (error["code"], error["message"]) == (code, message), (name, error)
            assert error["data"].startswith(data), (name, error)
            assert len(error["data"]) < 500, (name, error)
        assert len(it.node.pool) == 0
        await it.node.seal()
        assert it.node.ledger.head.state_root != root  # A block changes it: nothing held the node up.


def test_every_reason_that_a_submission_can_meet_is_among_them() -> None:
    words = {data for _, (code, _), data in REFUSED.values() if code is Code.INVALID_TRANSACTION}
    met = {reason for reason, text in REASONS.items() if any(word.startswith(text) for word in words)}
    assert met | UNREACHABLE | {InvalidReason.CALL} == set(InvalidReason) == set(REASONS)
    assert len([1 for _, (code, _), _ in REFUSED.values() if code is Code.UNKNOWN_VALIDITY]) == len(UnknownReason)


@pytest.mark.parametrize(
    ("params", "data"),
    [
        ([], "parameter 1 (extrinsic) is missing"),
        ([7], "parameter 1 (extrinsic): expected 0x and hex digits, got 7"),
        (["04fg"], "parameter 1 (extrinsic): expected 0x and hex digits, got '04fg'"),
        (["0x123"], "parameter 1 (extrinsic): expected 0x and hex digits, got '0x123'"),
        (["0x00", 1], "expected at most 1 parameters, got 2"),
    ],
)
async def test_what_is_no_hex_is_a_wrong_parameter(tmp_path: Path, params: list[object], data: str) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        error = await Caller(http, it.http).error(*params)
        assert error == {"code": Code.INVALID_PARAMS, "message": "Invalid params", "data": data}


async def test_the_pools_refusals_name_what_is_there_and_what_helps(tmp_path: Path) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        node, sender, caller = it.node, Sender(it.node), Caller(http, it.http)
        node.seals_at_once = False
        first = sender.sign(nonce=0)
        first_hash = f"0x{blake2_256(first).hex()}"
        assert await caller.answer("0x" + first.hex()) == {"jsonrpc": "2.0", "id": 1, "result": first_hash}
        assert await caller.refusal(first) == {
            "code": Code.ALREADY_IMPORTED,
            "message": "Transaction Already Imported",
            "data": f"transaction {first_hash} is in the pool already",
        }

        longer = sender.sign(nonce=0, call=remark(bytes(1_000)))
        here = node.pool.get(blake2_256(first))
        assert here is not None
        error = await caller.refusal(longer)
        old, new = here.valid.priority, int(error["data"].partition("this one has ")[2].partition(":")[0])
        assert new <= old
        assert error == {
            "code": Code.PRIORITY_TOO_LOW,
            "message": f"Priority is too low: ({old} vs {new})",
            "data": f"transaction {first_hash} has nonce 0 and priority {old}, this one has {new}: "
            "a higher tip replaces it",
        }

        assert "result" in await caller.answer("0x" + sender.sign(nonce=5).hex())  # It waits for those before it.
        node.pool.limits = PoolLimits(sender_count_max=2)
        assert await caller.refusal(sender.sign(nonce=1)) == {
            "code": Code.POOL_LIMIT,
            "message": "Immediately Dropped",
            "data": "the sender has 2 transactions in the pool, the most allowed; send more when some are included",
        }
        node.pool.limits = PoolLimits(count_max=1)
        error = await caller.refusal(sender.sign(BOB, nonce=9))
        assert (error["code"], error["message"]) == (Code.POOL_LIMIT, "Immediately Dropped")
        assert error["data"].startswith(f"the pool is full (2 transactions, {node.pool.bytes_used} bytes)")
        assert error["data"].endswith(": a higher tip gets it in")

        node.pool.limits = PoolLimits()
        node.pool.ban(blake2_256(first), GENESIS_MS, "it paid nothing")
        assert await caller.refusal(first) == {
            "code": Code.TEMPORARILY_BANNED,
            "message": "Transaction is temporarily banned",
            "data": f"transaction {first_hash} was refused: it paid nothing; it can be sent again in 60000 ms",
        }
