"""A chain of hand-made blocks whose validator sets change, what a node answers about it, and nodes that lie."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from chain.light.checkpoint import Checkpoint
from chain.light.errors import LightError, Withheld
from chain.light.follower import Ask, Steps
from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.merkle import EMPTY_ROOT, MemoryTree
from chain.primitives.scale import codec_of
from chain.primitives.seal import Authority, Phase, Seal, ValidatorSet, bitmap, vote_message
from chain.primitives.types import ConsensusDigest, Header, genesis_header
from chain.rpc.methods_chain import header_json
from runtime.executive import Executive
from runtime.framework import EventLog
from runtime.handover import handover_keys
from runtime.potchain import RUNTIME
from runtime.state import Overlay
from runtime.testing import GENESIS_TIME_MS, bls_secret, genesis_config

T = TypeVar("T")

_SEAL = codec_of(Seal)
BLOCK_MS = 1000
TESTNET = Path(__file__).resolve().parent.parent.parent / "genesis" / "testnet.json"


def hexed(octets: bytes) -> str:
    return "0x" + octets.hex()


def unhexed(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@cache
def keypairs(set_id: int, n: int) -> tuple[Keypair, ...]:
    """A set's members: each set shares all but one with the set before."""
    return tuple(Keypair.from_uri(f"//Validator{set_id + number}") for number in range(n))


@cache
def validator_set(set_id: int, n: int) -> ValidatorSet:
    members = keypairs(set_id, n)
    return ValidatorSet(set_id, tuple(Authority(each.public, bls.public_key(bls_secret(each))) for each in members))


def signed_by(members: Sequence[Keypair], message: bytes) -> bytes:
    """The aggregate of everybody's signatures, made with the sum of their keys."""
    secret = sum(int.from_bytes(bls_secret(each)) for each in members) % bls.SUBGROUP_ORDER
    return bls.sign(secret.to_bytes(bls.SECRET_KEY_BYTES), message)


def copied(tree: MemoryTree) -> MemoryTree:
    """A tree that stays as this one is now."""
    other = MemoryTree()
    other.root, other.nodes, other.next_id = tree.root, dict(tree.nodes), tree.next_id
    return other


@dataclass(frozen=True)
class Made:
    """A block, its seal and the state after it."""

    header: Header
    seal: Seal | None
    tree: MemoryTree


class Blocks:
    """Blocks with their seals and the states after them, and what an honest node that keeps them all answers."""

    def __init__(self, genesis: MemoryTree) -> None:
        self.blocks = [Made(genesis_header(genesis.root_hash), None, genesis)]
        self.genesis_hash = self.blocks[0].header.hash

    @property
    def head(self) -> Made:
        return self.blocks[-1]

    def upto(self, height: int, *more: Made) -> Self:
        """The same chain up to a height, and what somebody says comes after."""
        other = copy.copy(self)
        other.blocks = [*self.blocks[: height + 1], *more]
        return other

    def checkpoint(self, height: int | None = None) -> Checkpoint:
        """What an honest follower knows at a height, by default the head's."""
        made = self.head if height is None else self.blocks[height]
        view = RUNTIME.at(made.tree)
        return Checkpoint(
            self.genesis_hash,
            made.header.height,
            made.header.hash,
            made.header.state_root,
            view.timestamp.now.get(),
            view.validators.validator_set(),
        )

    def made(self, block_hash: str) -> Made | None:
        return next((made for made in self.blocks if made.header.hash == unhexed(block_hash)), None)

    def handover(self, set_id: int) -> dict[str, Any] | None:
        """The last block that a set has sealed, once its state names another set."""
        for made in self.blocks:
            if made.seal is not None and made.seal.set_id == set_id:
                validators = RUNTIME.at(made.tree).validators
                if validators.set_id.get() != set_id:
                    return {
                        "header": header_json(made.header),
                        "seal": encoded_seal(made.seal)["encoded"],
                        "proof": [hexed(node) for node in made.tree.prove(handover_keys(RUNTIME))],
                    }
        return None

    def answer(self, method: str, params: list[Any]) -> Any:
        """What an honest node that keeps every state answers."""
        match method:
            case "chain_getFinalizedHead":
                return hexed(self.head.header.hash)
            case "chain_getHeader":
                made = self.made(params[0])
                return None if made is None else header_json(made.header)
            case "consensus_getSeal":
                made = self.made(params[0])
                return None if made is None or made.seal is None else encoded_seal(made.seal)
            case "consensus_getHandover":
                return self.handover(params[0])
            case "state_getReadProof":
                keys, block_hash = params
                made = self.made(block_hash)
                assert made is not None
                proof = made.tree.prove([unhexed(key) for key in keys])
                return {"at": block_hash, "proof": [hexed(node) for node in proof]}
        raise AssertionError(f"a light client asks nothing of this kind: {method}")


class SetChain(Blocks):
    """Sessions of `session` blocks, each with a set of its own of `n` validators; real states, seals and proofs.

    The last block of a session names the next set in its state, as on every chain; `salt` makes it another chain.
    """

    def __init__(
        self, *, sessions: int, session: int = 3, n: int = 4, salt: int = 0, start_ms: int = GENESIS_TIME_MS
    ) -> None:
        self.session, self.n, self.start_ms = session, n, start_ms
        members = keypairs(0, n)
        self.config = genesis_config(validators=members, balances={each.public: 10**18 + salt for each in members})
        self.genesis = Checkpoint.genesis(RUNTIME, self.config)
        super().__init__(MemoryTree(dict(Executive(RUNTIME).genesis(self.config))))
        for _ in range(sessions * session):
            self.extend()

    def extend(self, changes: Callable[[Any, Overlay], None] = lambda _view, _state: None) -> Made:
        """Make the next block; `changes` may spoil its state."""
        parent = self.head
        height = parent.header.height + 1
        overlay = Overlay(parent.tree)
        view = RUNTIME.over(overlay, EventLog())
        view.system.block_hash[height - 1] = parent.header.hash
        view.timestamp.now.put(self.start_ms + height * BLOCK_MS)
        if height % self.session == 0:
            view.validators.set_id.put(height // self.session)
            view.validators.authorities.put(list(validator_set(height // self.session, self.n).authorities))
        changes(view, overlay)
        tree = copied(parent.tree)
        tree.apply(overlay.changes())
        digest = ConsensusDigest(0, bytes(96)).item()
        header = Header(parent.header.hash, height, tree.root_hash, EMPTY_ROOT, [digest])
        self.blocks.append(Made(header, self.seal(header), tree))
        return self.head

    def seal(self, header: Header, set_id: int | None = None) -> Seal:
        """A genuine seal of a header by a whole set, by default the one that decides it."""
        number = (header.height - 1) // self.session if set_id is None else set_id
        message = vote_message(self.genesis_hash, number, header.height, 0, Phase.COMMIT, header.hash)
        signature = signed_by(keypairs(number, self.n), message)
        return Seal(header.height, 0, number, header.hash, bitmap(range(self.n), self.n), signature)


Answers = Callable[[str, list[Any]], Any]
Tamper = Callable[[Any], Any]


def tampered(answers: Answers, method: str, change: Tamper) -> Answers:
    """The same answers, but for one method's."""

    def answer(asked: str, params: list[Any]) -> Any:
        found = answers(asked, params)
        return change(found) if asked == method else found

    return answer


def counted(answers: Answers, calls: list[str]) -> Answers:
    """The same answers, with a list of what was asked."""

    def answer(method: str, params: list[Any]) -> Any:
        calls.append(method)
        return answers(method, params)

    return answer


def work_through(steps: Steps[T], answers: Answers) -> T:
    """Go through a plan with answers from a function, as JSON carries them, without network or time."""
    try:
        step = next(steps)
        while True:
            if not isinstance(step, Ask):
                step = next(steps)
                continue
            try:
                answer = json.loads(json.dumps(answers(step.method, json.loads(json.dumps(step.params)))))
            except LightError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        found: T = done.value
        return found


def write_genesis(path: Path, config: Mapping[str, Mapping[str, object]]) -> Path:
    """The genesis file of a chain of the tests."""
    spec = json.loads(TESTNET.read_text())
    for key in ("blobs", "development"):
        spec.pop(key)
    path.write_text(json.dumps({**spec, "bootnodes": [], "genesis": config}))
    return path


def encoded_seal(seal: Seal) -> dict[str, str]:
    return {"encoded": hexed(_SEAL.encode(seal))}


def reseal(answer: dict[str, Any], **changes: Any) -> dict[str, str]:
    """A seal as a node gives it, with some of its fields changed."""
    return encoded_seal(replace(_SEAL.decode(unhexed(answer["encoded"])), **changes))


def withheld(why: str) -> Any:
    """In place of an answer: the node refuses."""
    raise Withheld(why)


class Stall:
    """In place of an answer: none ever comes."""


@dataclass(frozen=True)
class Raw:
    """In place of an answer: these very characters."""

    text: str


@asynccontextmanager
async def node_that_answers(answers: Callable[[str, list[Any]], Any]) -> AsyncIterator[str]:
    """A WebSocket server whose answers a function gives, maybe an async one; its address."""

    async def converse(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                call = json.loads(await socket.get_message())
                found = answers(call["method"], call["params"])
                if hasattr(found, "__await__"):
                    found = await found
                if isinstance(found, Stall):
                    continue
                answer = {"jsonrpc": "2.0", "id": call["id"], "result": found}
                await socket.send_message(found.text if isinstance(found, Raw) else json.dumps(answer))
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, converse, "127.0.0.1", 0, None)
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()
