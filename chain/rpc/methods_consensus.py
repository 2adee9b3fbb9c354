"""`consensus_*`: where agreement on the next block stands, and who made which block final. Validators go by address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chain.ledger import StatePruned, UnknownBlock
from chain.primitives import ss58
from chain.primitives.scale import codec_of
from chain.primitives.seal import Seal, ValidatorSet
from chain.rpc.backend import Sealing
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context, hexed
from chain.rpc.methods_chain import header_json
from chain.rpc.params import BlockHash, Index32
from chain.rpc.protocol import WrittenOnce
from chain.rpc.registry import Registry
from runtime.modules.validators import Validators

registry = Registry()

_SEAL = codec_of(Seal)


@registry.sync("consensus_state")
def consensus_state(context: Context) -> dict[str, Any] | None:
    """Height, view, phase, who has voted in it and who is missing; null where no consensus runs, as on a full node."""
    state = context.backend.consensus_state()
    if state is None:
        return None
    validators = context.backend.validators(state.height)
    return {
        "height": state.height,
        "view": state.view,
        "phase": state.phase,
        "primary": _addresses(context, [state.primary])[0],
        "setId": validators.set_id,
        "validators": validators.n,
        "quorum": validators.quorum,
        "voted": _addresses(context, state.voted),
        "missing": _addresses(context, state.missing),
    }


@registry.thread("consensus_getSeal")
def consensus_get_seal(context: Context, hash: BlockHash | None = None) -> dict[str, Any] | None:
    """What makes a block final, the head without a hash; null for genesis and unknown blocks, which have no seal."""
    header = context.header(hash)
    seal = None if header is None else context.backend.ledger.seal(header.hash)
    if header is None or seal is None:
        return None
    return _seal_json(context, seal, _sealed_by(context, header.parent_hash, seal))


@registry.thread("consensus_getHandover")
def consensus_get_handover(context: Context, set_id: Index32) -> dict[str, Any] | None:
    """The last block of a validator set: header, seal, and a proof of who came after it; null while it decides.

    The proof is of the keys Validators.SetId, Validators.Authorities, Timestamp.Now and System.BlockHash of 0, in this
    order, and is there where the state is pruned.
    """
    handover = context.backend.ledger.handover(set_id)
    if handover is None:
        return None
    return {
        "header": header_json(handover.header),
        "seal": hexed(_SEAL.encode(handover.seal)),
        "proof": [hexed(node) for node in handover.proof],
    }


@registry.subscription("consensus_subscribeSeals", ends=("consensus_unsubscribeSeals",), notification="consensus_seal")
@asynccontextmanager
async def consensus_subscribe_seals(context: Context) -> AsyncIterator[AsyncGenerator[object]]:
    """The seal of every block from now on, in order."""
    with context.backend.seals.subscribe() as receiver:
        yield _seals(context, receiver)


_newest = WrittenOnce[Sealing]()


async def _seals(context: Context, receiver: Receiver[Sealing]) -> AsyncGenerator[object]:
    def seal_json(sealing: Sealing) -> dict[str, Any]:
        return _seal_json(context, sealing.seal, sealing.validators)

    async for sealing in receiver:
        yield _newest.text(sealing, seal_json)


def _sealed_by(context: Context, parent: bytes, seal: Seal) -> ValidatorSet | None:
    """The set that sealed a block: its parent's state names it, and later ones, for as long as its votes count."""
    for at in (parent, None):
        try:
            with context.backend.ledger.state(at) as state:
                return context.runtime.at(state).module(Validators).recorded_set(seal.set_id)
        except (UnknownBlock, StatePruned, KeyError):
            continue
    return None


def _seal_json(context: Context, seal: Seal, validators: ValidatorSet | None) -> dict[str, Any]:
    """A seal with its bytes; who voted is null where the validator set is known no more."""
    voters = missing = None
    if validators is not None:
        voted = set(seal.voter_indices(validators.n))
        accounts = [authority.account for authority in validators.authorities]
        voters = _addresses(context, [account for i, account in enumerate(accounts) if i in voted])
        missing = _addresses(context, [account for i, account in enumerate(accounts) if i not in voted])
    return {
        "height": seal.height,
        "view": seal.view,
        "setId": seal.set_id,
        "blockHash": hexed(seal.block_hash),
        "voters": voters,
        "missing": missing,
        "signature": hexed(seal.signature),
        "encoded": hexed(_SEAL.encode(seal)),
    }


def _addresses(context: Context, accounts: Sequence[bytes]) -> list[str]:
    prefix = context.backend.properties["ss58Format"]
    assert isinstance(prefix, int)
    return [ss58.encode(account, prefix) for account in accounts]
