"""Every attack on training that we know of, one after another on one running chain, and what came of each.

Rule: an attack is told by the blocks: what its accounts had before and after, and which events explain the difference.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trio

from chain.ledger import NotNext
from chain.primitives import bls
from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.offence import DoubleVote, SignedDigest
from chain.primitives.seal import Phase, ValidatorSet, beacon_message, verify_seal, vote_message
from chain.primitives.types import Id, encode_extrinsic, sign_extrinsic
from chain.rpc.client import RpcError
from runtime.extensions import decode_transaction
from runtime.modules.balances import POT, Balances
from runtime.modules.training import Training
from runtime.modules.training_policy import Descent, Sgd
from runtime.modules.training_sizes import Claim
from runtime.modules.training_types import ReopenReason, RoundRecord
from runtime.modules.transaction_payment import TransactionPayment
from runtime.potchain import RUNTIME, Potchain
from runtime.types import Finalization, InherentData, InvalidBlock
from tests.attacks.attackers import (
    Copycat,
    FalseAlarm,
    FalseSum,
    FalseWord,
    Notes,
    Repeater,
    Speaker,
    Withholder,
)
from tests.attacks.ground import LIAR, RATE, VALIDATORS, WORKERS, Ground, ground
from tests.trainer import corpus
from tests.trainer.cheats import KINDS, WITHIN_TOLERANCE, Insistent
from trainer import artifact, dataset, optimizers
from trainer.dataset import Manifest, Split
from trainer.follow import follow
from trainer.node import RpcNode
from trainer.views import TaskView
from trainer.worker import MakeServant, TaskWorker

BOND = 100 * POT
HOSTILE_PROGRAM = "a callback into Python"


@dataclass
class Attack:
    """Who attacked, from when to when, in which attempts of which rounds, and what the chain answered."""

    name: str
    keys: list[Keypair]
    times: int
    begin: int = 0
    end: int = 0
    at: list[tuple[int, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Statement:
    """What accounts had before and after some blocks, free, reserved and staked, and what became of it (planck)."""

    before: int
    after: int
    fees: int  # paid for transactions
    slashed: int
    earned: int  # minted for slots, audits, sums
    spent: int  # burned of an escrow
    received: int  # from others, less what was given to them
    collected: int  # the fees of the blocks that they authored

    @property
    def explained(self) -> bool:
        """Whether these are all of the difference."""
        gained = self.earned + self.received + self.collected
        return self.after == self.before + gained - self.fees - self.slashed - self.spent


@dataclass
class Story:
    """What happened, read from the chain before it ended."""

    attacks: list[Attack]
    events: dict[int, list[Any]]
    holdings: dict[int, dict[bytes, int]]
    records: dict[int, RoundRecord]
    blobs: dict[Hash, bytes]
    seed: Hash
    lines: list[str]

    def statement(self, keys: Sequence[Keypair], begin: int, end: int) -> Statement:
        """What became of what accounts had, in the blocks after `begin` up to `end`."""
        mine = {key.public for key in keys}
        fees = slashed = earned = spent = received = collected = 0
        for height in range(begin + 1, end + 1):
            for record in self.events[height]:
                match record.event:
                    case TransactionPayment.TransactionFeePaid(who, paid, _) if who in mine:
                        fees += paid
                    case Balances.Slashed(who, amount) if who in mine:
                        slashed += amount
                    case Balances.Minted(who, amount) if who in mine:
                        earned += amount
                    case Balances.Burned(who, amount) if who in mine:
                        spent += amount
                    case Balances.Transfer(source, dest, amount):
                        received += amount * ((dest in mine) - (source in mine))
                    case Balances.Deposit(who, amount) if who in mine and isinstance(record.phase, Finalization):
                        collected += amount
        before, after = (sum(self.holdings[height].get(who, 0) for who in mine) for height in (begin, end))
        return Statement(before, after, fees, slashed, earned, spent, received, collected)

    def of(self, attack: Attack) -> Statement:
        """What became of an attack's accounts."""
        return self.statement(attack.keys, attack.begin, attack.end)

    def blocks(self, round_: int) -> int:
        """How many blocks a round took, all of its attempts."""
        opened = [
            height
            for height, records in self.events.items()
            for record in records
            if isinstance(record.event, Training.RoundOpened) and (record.event.task, record.event.round) == (0, round_)
        ]
        return self.records[round_].finalised_at - min(opened)

    def cheated(self, round_: int) -> set[int]:
        """The slots of a final round in which somebody cheated with what it revealed, in the attempt that won."""
        record = self.records[round_]
        cheats = {
            key.public
            for attack in self.attacks
            for key in attack.keys
            if (round_, record.attempt) in attack.at and attack.name in REJECTED
        }
        return {index for index, slot in enumerate(record.slots) if slot.worker in cheats}


# What an audit has to find.
REJECTED = {*KINDS, "sybils"}


def key_of(name: str, number: int) -> Keypair:
    """An attacker's key."""
    return Keypair.from_uri(f"//Mallory//{name}//{number}")


def keys_of(name: str, times: int) -> list[Keypair]:
    """As many attackers as an attack is tried times."""
    return [key_of(name, number) for number in range(times)]


SYBIL_NAMES = 3
SYBIL_BONDS = 2


async def campaign(folder: Path, times: int) -> Story:
    """Try everything, each so many times."""
    cheats = {kind: keys_of(kind, times) for kind in (*KINDS, *WITHIN_TOLERANCE)}
    others = {
        name: keys_of(name, times)
        for name in ("copied commitment", "withholding", "repeated commitment", "lying aggregator", "hostile program")
    }
    sybils = [key_of("sybils", number) for number in range(SYBIL_NAMES)]
    outsider = key_of("outsider", 0)
    rich = [outsider, *(key for keys in (*cheats.values(), *others.values()) for key in keys)]
    attacks: list[Attack] = []
    async with ground(folder, [*rich, sybils[0]]) as here:
        attacks += await by_updates(here, cheats, others, sybils)
        attacks += await by_words(here, times, others["lying aggregator"])
        attacks += await by_bytes(here, outsider)
        attacks += await by_program(here, others["hostile program"])
        attacks += await by_votes(here, outsider)
        return Story(
            attacks=attacks,
            events=here.events,
            holdings=here.holdings,
            records=here.records,
            blobs=here.blobs,
            seed=here.first.read(lambda chain: chain.training.tasks[0].seed),
            lines=here.lines,
        )


async def by_updates(
    here: Ground, cheats: dict[str, list[Keypair]], others: dict[str, list[Keypair]], sybils: list[Keypair]
) -> list[Attack]:
    """Everything that workers can do, all at once: who is drawn for a slot, cheats in it."""
    begin = here.height
    named = {**cheats, **{name: others[name] for name in BREACHES}, "sybils": sybils[:SYBIL_BONDS]}
    attacks = {name: Attack(name, keys, len(keys), begin) for name, keys in named.items()}
    attacks["sybils"].keys = sybils
    attacks["sybils"].said += await _divide(here, sybils)
    tried: dict[bytes, list[tuple[int, int]]] = {}
    notes: dict[bytes, Notes] = {}
    async with trio.open_nursery() as nursery:
        for name, keys in named.items():
            for number, key in enumerate(keys):
                servant: MakeServant
                if name in BREACHES:
                    notes[key.public] = Notes()
                    servant = partial(_noting, BREACHES[name], notes[key.public])
                else:
                    tried[key.public] = []
                    servant = partial(_insisting, "zeros" if name == "sybils" else name, tried[key.public])
                life = partial(here.works, f"{name} {number}", key, 1, servant)
                if name in WITHIN_TOLERANCE:
                    here.nursery.start_soon(life)
                else:
                    nursery.start_soon(_until_caught, here, key, life)
        await here.until(lambda _: all(tried[key.public] for kind in WITHIN_TOLERANCE for key in cheats[kind]))
    await here.rounds()
    for attack in attacks.values():
        attack.end = here.height
        for key in attack.keys:
            attack.at += tried.get(key.public, [])
            if key.public in notes:
                attack.at += notes[key.public].at
                attack.said += notes[key.public].said
        attack.said += [slash.reason.name for key in attack.keys for slash in here.slashes(key)]
        if attack.name in WITHIN_TOLERANCE:
            workers = {key.public for key in attack.keys}
            final = [here.records[round_] for round_, _ in attack.at if round_ in here.records]
            tries = [slot for record in final for slot in record.slots if slot.worker in workers]
            attack.said = ["accepted" if slot.accepted else "not accepted" for slot in tries]
    return list(attacks.values())


# What breaks the protocol and not the arithmetic.
BREACHES: dict[str, type[Withholder]] = {
    "copied commitment": Copycat,
    "withholding": Withholder,
    "repeated commitment": Repeater,
}


async def _until_caught(here: Ground, key: Keypair, life: Callable[[], Awaitable[None]]) -> None:
    """Live until a part of the bond is gone: who was caught once is not drawn again."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life)
        await here.first.until(lambda chain: 0 < chain.training.workers[key.public].bond < BOND)
        nursery.cancel_scope.cancel()


def _insisting(kind: str, at: list[tuple[int, int]], *given: Any) -> TaskWorker:
    servant = Insistent(*given, kinds=[kind], tried={})
    servant.at = at
    return servant


def _noting(made: type[Withholder], notes: Notes, *given: Any) -> TaskWorker:
    servant = made(*given)
    servant.notes = notes
    return servant


async def _divide(here: Ground, sybils: list[Keypair]) -> list[str]:
    """One purse for many names: two bonds are all that it buys. What the chain says of the third name."""
    first, second, third = sybils
    async with here.node(first) as node:
        for key, value in ((second, BOND + 10 * POT), (third, 20 * POT)):
            assert await node.transact("balances.transfer_keep_alive", dest=Id(key.public), value=value) is None
    async with here.node(third) as node:
        return [str(await node.transact("training.register_worker", capacity=1))]


async def by_words(here: Ground, times: int, summers: list[Keypair]) -> list[Attack]:
    """What aggregators and auditors can say: models that nobody computed, challenges of what is right."""
    false_sum = Attack("lying aggregator", summers, times, here.height)
    for key in summers:
        async with speaking(here, FalseSum, key, VALIDATORS[0]) as (node, notes):
            assert await node.transact("training.register_aggregator") is None
            await here.until(partial(_is_no_aggregator, key))
        false_sum.at += notes.at
    false_sum.end = here.height
    false_sum.said = [type(event).__name__ for event in _events(here, Training.AggregatorSlashed)]

    account = here.members[LIAR].keys.account
    false_word = Attack("lying auditor", [account], times, here.height)
    here.auditors[LIAR].cancel()
    async with speaking(here, FalseWord, account, LIAR) as (_, notes):
        # The last that it lied about is final when a later one is spoken about.
        await here.until(lambda _: len({round_ for round_, _ in notes.at}) > times)
        await here.rounds(0)
    here.nursery.start_soon(here.audits, LIAR)
    false_word.at, false_word.times, false_word.end = notes.at, len(notes.at), here.height
    agreed = [account.public in here.records[round_].attesters for round_, _ in notes.at if round_ in here.records]
    false_word.said = ["agreed on" if each else "no quorum" for each in agreed]

    alarm = Attack("false challenge", [account], times, here.height)
    async with speaking(here, FalseAlarm, account, LIAR, honest=_publics(WORKERS.values()), times=times) as (_, notes):
        await here.until(lambda chain: chain.training.challenges[account.public].refuted >= times)
    alarm.at, alarm.end = notes.at, here.height
    alarm.said = [type(event).__name__ for event in _events(here, Training.ChallengeRefuted)]
    return [false_sum, false_word, alarm]


def _is_no_aggregator(key: Keypair, chain: Potchain) -> bool:
    return key.public not in chain.training.aggregators


def _publics(keys: Iterable[Keypair]) -> set[bytes]:
    return {key.public for key in keys}


@asynccontextmanager
async def speaking(
    here: Ground, kind: type[Speaker], key: Keypair, name: str, **known: object
) -> AsyncIterator[tuple[RpcNode, Notes]]:
    """Somebody that speaks about rounds at a node, for as long as the scope lasts, and what it notes."""
    notes, report = Notes(), here.report(kind.__name__)

    def serve(task: TaskView) -> Speaker:
        speaker = kind(task, node, notes, report)
        for what, value in known.items():
            setattr(speaker, what, value)
        return speaker

    async with here.node(key, name) as node, trio.open_nursery() as nursery:
        nursery.start_soon(follow, node, serve, report)
        yield node, notes
        nursery.cancel_scope.cancel()


async def by_bytes(here: Ground, outsider: Keypair) -> list[Attack]:
    """What anybody can do with bytes that others signed, and a proposer with the beacon."""
    ledger, genesis_hash = here.first.ledger, here.first.ledger.genesis_hash
    account = here.members[LIAR].keys.account
    attacks = []

    def attempt(name: str, keys: list[Keypair]) -> Attack:
        attacks.append(Attack(name, keys, 0, here.height))
        return attacks[-1]

    async with here.node(outsider) as node:
        replay = attempt("replay of another's transaction", [outsider])
        for raw in _signed_by(here, WORKERS["eve"])[-2:]:
            replay.said.append(await _refusal(node, raw))
        replay.end = here.height
        other = attempt("replay on another chain", [outsider])
        call = RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=Id(account.public), value=POT))
        other.said.append(
            await _refusal(
                node,
                sign_extrinsic(
                    outsider,
                    call,
                    nonce=0,
                    spec_version=RUNTIME.spec_version,
                    transaction_version=RUNTIME.transaction_version,
                    genesis_hash=secrets.token_bytes(32),
                ),
            )
        )
        other.end = here.height
        borrowed = attempt("another's reveal under one's own name", [outsider])
        arguments = next(
            call.arguments
            for raw in reversed(_signed_by(here, WORKERS["eve"]))
            if (call := decode_transaction(RUNTIME, raw).call).path == "training.reveal"
        )
        view = await node.round(0)
        place = {**arguments, "round": view.round, "attempt": view.attempt}
        borrowed.said.append(str(await node.transact("training.reveal", **place)))
        here.read_to(ledger.head.height)
        borrowed.end = here.height

    votes = attempt("votes of another height, view, block, chain", [])
    height = ledger.head.height
    seal, validators = here.first.seal(height), here.first.read(lambda chain: chain.validators.validator_set())
    assert verify_seal(validators, genesis_hash, seal)
    for wrong in (
        replace(seal, height=height + 1),
        replace(seal, view=seal.view + 1),
        replace(seal, block_hash=ledger.hash_at(height - 1) or b""),
    ):
        votes.said.append(f"valid: {verify_seal(validators, genesis_hash, wrong)}")
    votes.said.append(f"valid: {verify_seal(validators, secrets.token_bytes(32), seal)}")

    grinding = attempt("a beacon of one's choice", [account])
    for choice in range(3):
        grinding.said.append(await trio.to_thread.run_sync(_proposed_with, here, choice))
    for each in attacks:
        each.times, each.end = len(each.said), each.end or here.height
    return attacks


def _signed_by(here: Ground, key: Keypair) -> list[bytes]:
    """The transactions of an account, from the blocks."""
    found = []
    for height in range(1, here.height + 1):
        block = here.first.ledger.block(here.first.ledger.hash_at(height) or b"")
        assert block is not None
        for raw in block.extrinsics:
            signed = decode_transaction(RUNTIME, raw).signature
            if signed is not None and signed.address == Id(key.public):
                found.append(raw)
    return found


async def _refusal(node: RpcNode, raw: bytes) -> str:
    """Why the node does not take a transaction."""
    try:
        await node._client.request("author_submitExtrinsic", "0x" + raw.hex())
    except RpcError as error:
        return str(error.data).split(":")[0]
    return "taken"


def _proposed_with(here: Ground, choice: int) -> str:
    """What becomes of a block of the liar's turn with a beacon that its key did not make for it."""
    ledger = here.first.ledger
    while True:
        height, parent = ledger.head.height + 1, ledger.head_hash
        validators: ValidatorSet = here.first.read(lambda chain: chain.validators.validator_set())
        secret = here.members[LIAR].keys.bls_secret
        view = next(
            v for v in range(4) if validators.primary(height, v).account == here.members[LIAR].keys.account.public
        )
        other = bls.sign(secret, beacon_message(ledger.genesis_hash, height + 4))
        anothers = bls.sign(here.first.keys.bls_secret, beacon_message(ledger.genesis_hash, height))
        beacon = (secrets.token_bytes(96), other, anothers)[choice]
        inherent = InherentData(int(time.time() * 1000), ledger.seal(parent))
        try:
            ledger.propose(height, view, beacon, inherent, [])
        except InvalidBlock as error:
            return "InvalidBlock" if "expected the beacon signature" in str(error) else str(error)
        except NotNext:
            continue  # Another block came in between.
        return "taken"


async def by_program(here: Ground, keys: list[Keypair]) -> list[Attack]:
    """A task whose program would break out of whoever computes it."""
    attack = Attack("hostile program", keys, len(keys), here.height)
    for key in keys:
        async with here.node(key) as node:
            attack.said.append(await _offer_hostile(here, node))
    attack.end = here.height
    return [attack]


async def _offer_hostile(here: Ground, node: RpcNode) -> str:
    """Create the task, see an attempt at it end, and take back what is left; why it ended."""
    program = artifact.encode(corpus.shipped(corpus.hostile()[HOSTILE_PROGRAM][0]))
    rows = bytes(64)
    split = Split(blob_root(rows), blob_root(rows), len(rows))
    manifest = dataset.encode(Manifest(split, split))
    theta = optimizers.encode_params(np.zeros(corpus.PARAMETERS, np.float32))
    for data in (program, manifest, rows, theta):
        await node.put_blob(data)
    error = await node.transact(
        "training.create_task",
        name=b"hostile",
        program_root=blob_root(program),
        dataset_root=blob_root(manifest),
        params_root=blob_root(theta),
        optimizer=Descent(Sgd(RATE, 0)),
        policy=replace(here.first.read(lambda chain: chain.training.tasks[0].policy), slots=2, commit_blocks=4),
        rounds=1,
        price_per_slot=POT,
        storage=Claim(len(program), len(manifest) + len(rows), corpus.PARAMETERS),
    )
    assert error is None, error
    task = here.first.read(lambda chain: chain.training.next_task_id.get()) - 1
    # Whoever is drawn for it leaves it alone.
    await here.until(lambda chain: chain.training.rounds[task].attempt > 0)
    assert await node.transact("training.cancel_task", task=task) is None
    await here.until(lambda chain: task not in chain.training.active_tasks.get())
    reopened = [event.reason for event in _events(here, Training.RoundReopened) if event.task == task]
    return ReopenReason(reopened[0]).name


async def by_votes(here: Ground, outsider: Keypair) -> list[Attack]:
    """Two votes of one validator for two blocks of one height and view: what anybody may show to the chain."""
    member, ledger = here.members[LIAR], here.first.ledger
    attack = Attack("two heads under one key", [member.keys.account], 1, here.height)
    validators: ValidatorSet = here.first.read(lambda chain: chain.validators.validator_set())
    voter = [authority.account for authority in validators.authorities].index(member.keys.account.public)
    for height in (ledger.head.height, ledger.head.height - 1):

        def signed(digest: bytes, at: int = height) -> SignedDigest:
            message = vote_message(ledger.genesis_hash, validators.set_id, at, 0, Phase.COMMIT, digest)
            return SignedDigest(digest, bls.sign(member.keys.bls_secret, message))

        first, second = sorted((signed(bytes(32)), signed(ledger.hash_at(height) or b"")), key=lambda each: each.digest)
        evidence = DoubleVote(validators.set_id, height, 0, Phase.COMMIT, voter, first, second)
        call = RUNTIME.call("validators.report_double_vote", evidence=evidence)
        async with here.node(outsider) as node:
            attack.said.append(await _refusal(node, encode_extrinsic(RUNTIME.encode_call(call))))
        await here.until(lambda chain: chain.validators.offences.get((0, member.keys.account.public)))
    attack.end = here.height
    return [attack]


def _events(here: Ground, kind: type[Any]) -> list[Any]:
    return [record.event for each in here.events.values() for record in each if isinstance(record.event, kind)]
