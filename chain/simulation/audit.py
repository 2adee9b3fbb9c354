"""What a chain of whole nodes has to show at its end: who paid for voting twice, and what a light client makes of it.

The rule: all of it is worked out anew, from the blocks alone, and compared with the state that they have led to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from chain.light.checkpoint import Checkpoint
from chain.light.follower import Ask, follow
from chain.primitives.offence import DoubleVote
from chain.primitives.scale import codec_of, compact_decode
from chain.primitives.seal import Seal
from chain.primitives.types import SIGNED_BIT, decode_extrinsic, encode_extrinsic
from chain.rpc.methods_chain import header_json
from chain.simulation.cluster import Cluster
from chain.simulation.monitor import expect
from chain.simulation.whole import BOND, WholeLedger, WholeWorld
from runtime.modules.validators import Validators
from runtime.modules.validators_sessions import session_of
from runtime.potchain import RUNTIME

_SEAL: Final = codec_of(Seal)
# How many blocks a report may take to get on chain, in calm weather: the next proposers may be liars.
REPORT_BLOCKS_MAX: Final = 4


def check_offences(world: WholeWorld, cluster: Cluster, observer: WholeLedger, healed: int) -> None:
    """Whoever voted twice is slashed on chain, once for each session; nobody else is; nothing is held against it again.

    In the calm since height `healed`, whoever was accused must be.
    """
    monitor, head = cluster.monitor, observer.best()[0]
    slashed: set[tuple[int, int]] = set()  # Session and member.
    reports = list(_reports(observer, head))
    stakes = {stash.public: BOND for stash in world.stashes[: world.n]}
    stakes |= {stash.public: 2 * BOND for stash in world.stashes[world.n :] if observer.nonce(stash.public)}
    for height, evidence in reports:
        what = f"the evidence in block {height} of votes at height {evidence.height}"
        deciders = monitor.deciders(evidence.height)
        member = deciders.members[evidence.voter]
        session = session_of(evidence.height, world.session_blocks)
        expect(member in cluster.liars, f"{what} slashes validator {member}, who is honest")
        expect(evidence.set_id == deciders.validators.set_id, f"{what} is of another set")
        expect((session, member) not in slashed, f"{what} slashes validator {member} once more")
        expect(session + world.unbonding_sessions > session_of(height, world.session_blocks), f"{what} is stale")
        slashed.add((session, member))
        account = deciders.validators.authorities[evidence.voter].account
        stakes[account] -= stakes[account] * world.slash_percent // 100
    with observer.state() as state:
        validators = RUNTIME.at(state).module(Validators)
        found = {account: stake.total for account, stake in validators.stakes.items()}
        candidates = set(validators.candidates.get())
    expect(found == stakes, f"stakes are {found}, and what was bonded less what was slashed is {stakes}")
    for member, kind in cluster.liars.items():
        for height in monitor.accused.get(member, ()):
            if kind == "equivocation" and healed < height <= head - REPORT_BLOCKS_MAX:
                expected = (session_of(height, world.session_blocks), member)
                expect(expected in slashed, f"validator {member} voted twice at height {height} and was not slashed")
        # The first session is over, and the seal of its last block has settled it.
        if kind == "silence" and member < world.n and head > world.session_blocks:
            absent = world.stashes[member].public not in candidates
            expect(absent, f"validator {member} was never heard, and still stands for election")
    for _, evidence in reports:
        for again in _again(evidence):
            call = RUNTIME.call("validators.report_double_vote", evidence=again)
            taken = observer.submit(encode_extrinsic(RUNTIME.encode_call(call)))
            expect(not taken, f"evidence that was on chain would be taken again, as {again}")


def check_light(world: WholeWorld, observer: WholeLedger) -> None:
    """A light client that knows genesis alone gets to the very head, over this chain's blocks, by seals and proofs."""
    start = Checkpoint(world.genesis_hash, 0, world.genesis_hash, world.genesis_state_root, 0, world.validators)
    steps = follow(RUNTIME, start)
    answer: Any = None
    reached = start
    try:
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, Ask):
                answer = _answer(observer, step)
            else:
                reached = step.checkpoint
                known = observer.chain.hash_at(reached.height)
                expect(known == reached.block_hash, f"a light client took another block {reached.height}")
    except StopIteration:
        pass
    height, head_hash = observer.best()
    expect((reached.height, reached.block_hash) == (height, head_hash), f"a light client stopped at {reached.height}")
    expect(reached.validators == observer.validators(height + 1), f"a light client has another set after {height}")


def _reports(observer: WholeLedger, head: int) -> Iterator[tuple[int, DoubleVote]]:
    """The evidence in the chain, with the height of the block that it is in."""
    for height in range(1, head + 1):
        block_hash = observer.chain.hash_at(height)
        block = None if block_hash is None else observer.chain.block(block_hash)
        assert block is not None
        for raw in block.extrinsics:
            _, start = compact_decode(raw, 0)
            if not raw[start] & SIGNED_BIT:
                call = decode_extrinsic(raw, RUNTIME.call_codec).call
                if call.info.name == "report_double_vote":
                    yield height, call.args[0]


def _again(evidence: DoubleVote) -> Iterator[DoubleVote]:
    """The same evidence, and what somebody may make of it."""
    yield evidence
    yield replace(evidence, first=evidence.second, second=evidence.first)
    yield replace(evidence, second=evidence.first)
    yield replace(evidence, set_id=evidence.set_id + 1)
    yield replace(evidence, height=evidence.height + 1)
    yield replace(evidence, view=evidence.view + 1)
    yield replace(evidence, voter=evidence.voter ^ 1)


def _answer(observer: WholeLedger, ask: Ask) -> object:
    """What an honest node's RPC answers a light client."""
    chain = observer.chain
    match ask.method, ask.params:
        case "chain_getFinalizedHead", ():
            return _hex(chain.head_hash)
        case "chain_getHeader", (str(block_hash),):
            header = chain.header(_octets(block_hash))
            return None if header is None else header_json(header)
        case "consensus_getSeal", (str(block_hash),):
            seal = chain.seal(_octets(block_hash))
            return None if seal is None else {"encoded": _hex(_SEAL.encode(seal))}
        case "consensus_getHandover", (int(set_id),):
            handover = chain.handover(set_id)
            if handover is None:
                return None
            return {
                "header": header_json(handover.header),
                "seal": _hex(_SEAL.encode(handover.seal)),
                "proof": [_hex(node) for node in handover.proof],
            }
        case "state_getReadProof", (list(keys), str(block_hash)):
            with observer.state(_octets(block_hash)) as state:
                proof = state.prove([_octets(key) for key in keys])
            return {"at": block_hash, "proof": [_hex(node) for node in proof]}
    raise AssertionError(f"a light client asks nothing of this kind: {ask}")


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()


def _octets(text: str) -> bytes:
    return bytes.fromhex(text[2:])
