"""`explorer_prepare*`: transactions for a page to have signed by a wallet, with what they cost and what speaks against.

Nothing is sent here, and nothing believed: a wallet shows what it signs, and the pool judges what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from chain.primitives import ss58
from chain.primitives.scale import U32, codec_of, compact_encode
from chain.primitives.types import (
    ERA,
    EXTRINSIC_VERSION,
    ExtrinsicSignature,
    Id,
    Mortal,
    Sr25519Signature,
    encode_extrinsic,
)
from chain.protection import protecting
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.methods_state import runtime_call
from chain.rpc.methods_system import system_account_next_index
from chain.rpc.methods_training import task_of
from chain.rpc.params import AccountParam, Index32, Whole, WrongParameter
from chain.rpc.readable import Reader
from chain.rpc.registry import Registry
from chain.rpc.told_blocks import ss58_prefix
from runtime.calls import Call
from runtime.metadata import EXTENSIONS
from runtime.modules import training_storage
from runtime.modules.training import Training
from runtime.modules.training_policy import SLOTS_MAX
from runtime.modules.training_types import ROUNDS_MAX, Terms
from runtime.types import DispatchError, RuntimeDispatchInfo

registry = Registry()

# Somebody reads and signs it: four minutes of one-second blocks, as long as the chain knows the block that it names.
ERA_BLOCKS: Final = 256
# Its life begins so far behind the head that nodes which are a few blocks behind know the block that it names.
BIRTH_DEPTH: Final = 4
AMOUNT_MAX: Final = (1 << 128) - 1

_INFO = codec_of(RuntimeDispatchInfo)


def decode_amount(value: object) -> int:
    """Planck, as a decimal string: a browser's numbers are too short for them."""
    if not isinstance(value, str) or not value.isascii() or not value.isdecimal() or len(value) > 39:
        raise WrongParameter("planck as a decimal string")
    if int(value) > AMOUNT_MAX:
        raise WrongParameter(f"at most {AMOUNT_MAX} planck")
    return int(value)


Amount = Annotated[int, decode_amount]
Rounds = Annotated[int, Whole(1, ROUNDS_MAX)]
Slots = Annotated[int, Whole(1, SLOTS_MAX)]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A call, and what it takes from its sender besides the fee."""

    call: Call
    taken: int
    # What is taken, by name, for people; in planck.
    costs: dict[str, str]
    problems: list[str]


@registry.awaits("explorer_prepareTransfer")
async def explorer_prepare_transfer(
    context: Context, sender: AccountParam, dest: AccountParam, amount: Amount
) -> dict[str, Any]:
    """A transfer, ready to sign: `payload` is what wallets call SignerPayloadJSON.

    The extrinsic is 0x84, the sender's MultiAddress, the wallet's signature, `extra` and the payload's `method`, behind
    its compact length. `problems` say why it would fail or be refused; `fee` and `costs` are decimal planck.
    """
    nonce = await system_account_next_index(context, sender)
    return await context.in_thread(_transfer, context, sender, nonce, dest, amount)


def _transfer(context: Context, sender: bytes, nonce: int, dest: bytes, amount: int) -> dict[str, Any]:
    call = context.runtime.call("balances.transfer_keep_alive", dest=dest, value=amount)
    problems = []
    with context.state(None) as state:
        chain: Any = context.runtime.at(state)
        least = chain.balances.existential_deposit
        held = chain.system.account[dest].data
    if amount == 0:
        problems.append("an amount above 0 is expected")
    elif amount < least and held.free + held.reserved == 0:
        problems.append("the receiver has no tokens yet, and an account begins with at least the existential deposit")
    if dest == sender:
        problems.append("sender and receiver are the same account")
    return _prepared(context, sender, nonce, _Wanted(call, amount, {"amount": str(amount)}, problems))


@registry.awaits("explorer_prepareTask")
async def explorer_prepare_task(
    context: Context,
    sender: AccountParam,
    source: Index32,
    name: str,
    rounds: Rounds,
    slots: Slots,
    price_per_slot: Amount,
    go_on: bool,
) -> dict[str, Any]:
    """A new task, ready to sign as in `explorer_prepareTransfer`, with program, data and terms of the task `source`.

    It begins where that began, or, to `goOn`, with the parameters that it has come to. As many slots are audited as the
    price asks for; escrow and deposit are reserved, and what they do not spend comes back.
    """
    nonce = await system_account_next_index(context, sender)
    arguments = (source, name, rounds, slots, price_per_slot, bool(go_on))
    return await context.in_thread(_task, context, sender, nonce, *arguments)


def _task(
    context: Context,
    sender: bytes,
    nonce: int,
    source: int,
    name: str,
    rounds: int,
    slots: int,
    price: int,
    go_on: bool,
) -> dict[str, Any]:
    if not context.runtime.has(Training):
        raise RpcError(Code.TRAINING_NOT_FOUND, "No training", "this chain's runtime lacks the module Training")
    problems = []
    with context.state(None) as state:
        chain: Any = context.runtime.at(state)
        training = chain.training
        found = task_of(training, source)
        kept = training.storage[source]
        if kept.ended_at is not None and state.header.height >= kept.until:
            problems.append(f"the blobs of task {source} are not kept any more: take one that runs")
        terms = Terms(
            owner=sender,
            name=name.encode(),
            program_root=found.program_root,
            dataset_root=found.dataset_root,
            params_root=found.params_root if go_on else kept.params_root,
            optimizer=found.optimizer,
            policy=protecting(chain, replace(found.policy, slots=slots), price),
            rounds=rounds,
            price_per_slot=price,
            storage=kept.claim,
        )
        if terms.policy.is_federated:
            problems.append("its silos would have to be admitted one by one: use `potchain task new` and `task admit`")
        try:
            training.ensure_acceptable(terms)
        except DispatchError as error:
            problems.append(f"the chain would refuse it: {error}")
        deposit = training_storage.deposit(training, terms)
    escrow = price * slots * rounds
    call = context.runtime.call(
        "training.create_task",
        name=terms.name,
        program_root=terms.program_root,
        dataset_root=terms.dataset_root,
        params_root=terms.params_root,
        optimizer=terms.optimizer,
        policy=terms.policy,
        rounds=rounds,
        price_per_slot=price,
        storage=terms.storage,
    )
    costs = {"escrow": str(escrow), "deposit": str(deposit)}
    return _prepared(context, sender, nonce, _Wanted(call, escrow + deposit, costs, problems))


def _prepared(context: Context, sender: bytes, nonce: int, wanted: _Wanted) -> dict[str, Any]:
    runtime, ledger, prefix = context.runtime, context.backend.ledger, ss58_prefix(context)
    method = runtime.encode_call(wanted.call)
    era = Mortal.at(ERA_BLOCKS, max(0, ledger.head.height - BIRTH_DEPTH))
    birth = era.birth(ledger.head.height)
    birth_hash = ledger.hash_at(birth)
    assert birth_hash is not None, f"block {birth} is not above the head"
    # What a signature says changes nothing of a fee.
    signed = ExtrinsicSignature(Id(sender), Sr25519Signature(bytes(64)), era, nonce, 0)
    raw = encode_extrinsic(method, signed)
    with context.state(None) as state:
        chain: Any = runtime.at(state)
        answer = runtime_call(context, state, "TransactionPaymentApi_query_info", raw + U32.encode(len(raw)))
        fee = _INFO.decode(answer).partial_fee
        free = chain.system.account[sender].data.free
        least = chain.balances.existential_deposit
    if free < wanted.taken + fee + least:
        wanted.problems.append("the account has too little for this, the fee, and what an account keeps")
    reader = Reader(prefix)
    return {
        "payload": {
            "address": ss58.encode(sender, prefix),
            "blockHash": hexed(birth_hash),
            "blockNumber": hex(birth),
            "era": hexed(ERA.encode(era)),
            "genesisHash": hexed(ledger.genesis_hash),
            "method": hexed(method),
            "nonce": hex(nonce),
            "specVersion": hex(runtime.spec_version),
            "tip": hex(0),
            "transactionVersion": hex(runtime.transaction_version),
            "signedExtensions": [name for name, *_ in EXTENSIONS],
            "version": EXTRINSIC_VERSION,
        },
        "publicKey": hexed(sender),
        "extra": hexed(ERA.encode(era) + compact_encode(nonce) + compact_encode(0)),
        **reader.call(wanted.call),
        "costs": wanted.costs,
        "fee": str(fee),
        "free": str(free),
        "existentialDeposit": str(least),
        "problems": wanted.problems,
    }
