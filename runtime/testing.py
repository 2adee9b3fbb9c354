"""A chain in memory for module tests: real state tree, real signatures, real seals, no network and no disk.

A block is always open: calls land in it, and `run_blocks` closes it, checks every module's invariants and opens the
next. `call` dispatches without fee or nonce, so that a refused call can be shown to change nothing.

    chain = TestChain(runtime=RUNTIME)
    assert chain.call(BOB, "names.claim", name=b"bob") == [Names.Claimed(BOB.public, b"bob")]
    with chain.unchanged(Names.Taken):
        chain.call(ALICE, "names.claim", name=b"bob")
    chain.run_blocks(1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.merkle import MemoryTree, ordered_root
from chain.primitives.seal import Phase, Seal, ValidatorSet, beacon_message, bitmap, vote_message
from chain.primitives.types import ConsensusDigest, Header, Mortal, genesis_header, sign_extrinsic
from runtime.block import Applied, BlockBuilder, Executed
from runtime.calls import Call
from runtime.composition import Runtime, View
from runtime.executive import Executive
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME, Potchain
from runtime.storage import camel_case
from runtime.types import DispatchError, InherentData, Origin

if TYPE_CHECKING:  # the type `TestChain` alone is of this project's runtime; Python itself has such defaults from 3.13
    from typing_extensions import TypeVar as TypeVarWithDefault

    V = TypeVarWithDefault("V", bound=View, default=Potchain)
else:
    V = TypeVar("V")
E = TypeVar("E")

DEVELOPMENT: Final = tuple(
    Keypair.from_uri(f"//{name}") for name in ("Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie")
)
ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE = DEVELOPMENT
POT: Final = 10**12
ENDOWMENT: Final = 1_000_000 * POT
EXISTENTIAL_DEPOSIT: Final = POT // 1000
STAKE: Final = 1000 * POT  # what a validator of the first set bonds: BondMin
GENESIS_TIME_MS: Final = 1_700_000_000_000
BLOCK_TIME_MS: Final = 1000


def bls_secret(keypair: Keypair) -> bytes:
    """The BLS key that a test's validator votes with."""
    return bls.keygen(keypair.public)


@cache  # proving possession takes milliseconds, and every test chain has the same validators
def authority_config(keypair: Keypair) -> dict[str, object]:
    """A validator's entry in genesis."""
    secret = bls_secret(keypair)
    return {
        "account": ss58.encode(keypair.public),
        "bls": f"0x{bls.public_key(secret).hex()}",
        "proof": f"0x{bls.prove_possession(secret, keypair.public).hex()}",
    }


def genesis_config(
    *,
    validators: Sequence[Keypair] = (ALICE, BOB, CHARLIE, DAVE),
    balances: Mapping[bytes, int] | None = None,
    sessions: Mapping[str, int] | None = None,
    **modules: Mapping[str, object],
) -> dict[str, Mapping[str, object]]:
    """A genesis config: by default four validators, and an endowment for each of the six development accounts.

    A validator also has what it bonds, and what keeps its account alive. Further modules' parts go under their
    attributes: `genesis_config(names={"reserved": […]})`; `sessions` is what validators' part says of sessions.
    """
    if balances is None:
        balances = {keypair.public: ENDOWMENT for keypair in DEVELOPMENT}
    given = dict(balances)
    for keypair in validators:
        given[keypair.public] = given.get(keypair.public, EXISTENTIAL_DEPOSIT) + STAKE
    return {
        "balances": {"balances": [[ss58.encode(who), amount] for who, amount in given.items()]},
        "validators": {"authorities": [authority_config(keypair) for keypair in validators], **(sessions or {})},
        **{camel_case(attribute): config for attribute, config in modules.items()},
    }


class TestChain(Generic[V]):
    """A chain of any runtime, by default this project's own, whose open block tests act on.

    `validators` are the first set, and whoever is in the set seals every block; `balances` endows the accounts that
    begin with something, by default six development accounts; `sessions` may say `{"sessionBlocks": 5,
    "unbondingSessions": 3}`; every other keyword is a module's attribute with its genesis config.
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(
        self,
        *,
        runtime: Runtime[V] | None = None,
        validators: Sequence[Keypair] = (ALICE, BOB, CHARLIE, DAVE),
        balances: Mapping[bytes, int] | None = None,
        sessions: Mapping[str, int] | None = None,
        **modules: Mapping[str, object],
    ) -> None:
        self.runtime = cast(Runtime[V], RUNTIME) if runtime is None else runtime
        self.executive = Executive(self.runtime)
        self._people = {bls.public_key(bls_secret(keypair)): keypair for keypair in {*DEVELOPMENT, *validators}}
        state = self.executive.genesis(
            genesis_config(validators=validators, balances=balances, sessions=sessions, **modules)
        )
        self.tree = MemoryTree(state)
        self.header = genesis_header(self.tree.root_hash)
        self.genesis_hash = self.header.hash
        self.blocks: list[tuple[Header, list[bytes]]] = [(self.header, [])]
        self.absent: set[Keypair] = set()  # validators that do not vote for the blocks closed from now on
        self._events: list[object] = []
        self._check()
        self.deciding = self._next_set()  # who decides the open block
        self._open(seal=None)

    # --- reading ---

    @property
    def modules(self) -> V:
        """The modules over the open block."""
        return self.builder.modules

    @property
    def height(self) -> int:
        """The open block's height."""
        return self.builder.height

    @property
    def events(self) -> list[object]:
        """Every event since the chain began or `clear_events` was called, those of the open block included."""
        return self._events + [record.event for record in self.builder.log.records[self._seen :]]

    def clear_events(self) -> None:
        """Forget the events so far."""
        self._events.clear()
        self._seen = len(self.builder.log.records)

    def events_of(self, kind: type[E]) -> list[E]:
        """The events of one class, of those that `events` has."""
        return [event for event in self.events if isinstance(event, kind)]

    def free(self, keypair: Keypair) -> int:
        """An account's free balance."""
        return self.modules.module(Balances).free(keypair.public)

    def state_root(self) -> Hash:
        """The root of the state with the open block's changes so far."""
        return self._tree().root_hash

    # --- acting ---

    def call(self, origin: Keypair | Origin, path: str, **arguments: object) -> list[object]:
        """Dispatch a call in the open block, without fee or nonce, and return the events that it emitted.

        A keypair stands for its account, as the origin and among the arguments. A DispatchError undoes the call and
        propagates: expect one with `unchanged`.
        """
        records = self.builder.log.records
        before = len(records)
        self.builder.modules.dispatch(self.runtime.call(path, **_accounts(arguments)), _origin(origin))
        return [record.event for record in records[before:]]

    @contextmanager
    def unchanged(self, error: type[DispatchError]) -> Iterator[None]:
        """Expect the block to raise exactly this error and to leave the state root as it was."""
        before, events = self.state_root(), len(self.events)
        raised: DispatchError | None = None
        try:
            yield
        except DispatchError as caught:
            raised = caught
        assert type(raised) is error, f"expected {error.__name__}, got {raised!r}"
        assert self.state_root() == before, f"{error.__name__} left the state changed"
        assert len(self.events) == events, f"{error.__name__} left events behind"

    def prepare(self, origin: Keypair | Origin, path: str, **arguments: object) -> Prepared:
        """The same call, to be weighed instead of made: what a `benchmark` returns."""
        return Prepared(self.runtime, self._tree(), self.runtime.call(path, **_accounts(arguments)), _origin(origin))

    def sign(
        self,
        keypair: Keypair,
        path: str,
        *,
        nonce: int | None = None,
        tip: int = 0,
        era: Mortal | None = None,
        era_hash: Hash | None = None,
        genesis_hash: Hash | None = None,
        spec_version: int | None = None,
        **arguments: object,
    ) -> bytes:
        """A signed extrinsic for the open block, by default with the account's next nonce."""
        if nonce is None:
            nonce = self.modules.module(System).account[keypair.public].nonce
        return sign_extrinsic(
            keypair,
            self.runtime.encode_call(self.runtime.call(path, **_accounts(arguments))),
            nonce=nonce,
            spec_version=self.runtime.spec_version if spec_version is None else spec_version,
            transaction_version=self.runtime.transaction_version,
            genesis_hash=genesis_hash or self.genesis_hash,
            era=era,
            era_hash=era_hash,
            tip=tip,
        )

    def apply(self, raw: bytes) -> Applied:
        """Include an extrinsic in the open block; InvalidTransaction if it cannot be."""
        return self.builder.apply(raw)

    def submit(self, keypair: Keypair, path: str, **arguments: object) -> Applied:
        """Sign a call and include it, fee, nonce and all."""
        return self.apply(self.sign(keypair, path, **arguments))  # type: ignore[arg-type]

    def run_blocks(self, count: int) -> None:
        """Close the open block and open the next, `count` times; every module's invariants hold after each."""
        for _ in range(count):
            self.close()

    def run_to(self, height: int) -> None:
        """Run blocks until the one at `height` is open."""
        self.run_blocks(height - self.height)

    def close(self) -> Executed:
        """Close the open block, seal it and open the next; return what executing it gave."""
        executed = self.builder.finish()
        self._events += [record.event for record in executed.events[self._seen :]]
        self.tree.apply(executed.changes)
        self.header = Header(
            self.header.hash, self.height, self.tree.root_hash, ordered_root(executed.extrinsics), self.digest
        )
        self.blocks.append((self.header, executed.extrinsics))
        self._check()
        seal = self.seal()
        self.deciding = self._next_set()
        self._open(seal)
        return executed

    # --- blocks ---

    def begin(self, *, view: int = 0, beacon: bytes | None = None) -> BlockBuilder[V]:
        """A builder of the block after the last closed one, as its primary would begin it."""
        height = self.header.height + 1
        if beacon is None:
            primary = self._people[self._next_set().primary(height, view).bls_key]
            beacon = bls.sign(bls_secret(primary), beacon_message(self.genesis_hash, height))
        builder = self.executive.begin(
            self.tree, height=height, parent_hash=self.header.hash, digest=[ConsensusDigest(view, beacon).item()]
        )
        return cast(BlockBuilder[V], builder)  # an executive's runtime is any; this one's is the chain's

    def inherent_data(self, seal: Seal | None) -> InherentData:
        """What the author of the next block knows."""
        return InherentData(GENESIS_TIME_MS + (self.header.height + 1) * BLOCK_TIME_MS, seal)

    def _open(self, seal: Seal | None) -> None:
        self.builder = self.begin()
        self.digest = list(self.modules.module(System).digest.get().logs)
        self._seen = 0
        for raw in self.builder.inherents(self.inherent_data(seal)):
            self.builder.apply(raw)

    def seal(self) -> Seal:
        """The seal of the last closed block, by every validator of its set that is not absent."""
        header, deciding = self.header, self.deciding
        keypairs = [self._people[authority.bls_key] for authority in deciding.authorities]
        voters = [index for index, keypair in enumerate(keypairs) if keypair not in self.absent]
        message = vote_message(self.genesis_hash, deciding.set_id, header.height, 0, Phase.COMMIT, header.hash)
        # The sum of the keys signs as the sum of their signatures: one operation instead of one for each voter.
        secret = sum(int.from_bytes(bls_secret(keypairs[index])) for index in voters) % bls.SUBGROUP_ORDER
        signature = bls.sign(secret.to_bytes(bls.SECRET_KEY_BYTES), message)
        return Seal(header.height, 0, deciding.set_id, header.hash, bitmap(voters, deciding.n), signature)

    def _next_set(self) -> ValidatorSet:
        """Who decides the block after the last closed one."""
        return self.runtime.at(self.tree).module(Validators).validator_set()

    def _tree(self) -> MemoryTree:
        """The state with the open block's changes so far."""
        tree = MemoryTree()
        tree.root, tree.nodes, tree.next_id = self.tree.root, dict(self.tree.nodes), self.tree.next_id
        tree.apply(self.builder.overlay.changes())
        return tree

    def _check(self) -> None:
        for module in self.runtime.at(self.tree).modules:
            try:
                module.check()
            except AssertionError as error:
                error.add_note(f"an invariant of {module.info.name}, checked after block {self.header.height}")
                raise


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to be dispatched on a state, as often as somebody likes."""

    runtime: Runtime[View]
    tree: MemoryTree
    call: Call
    origin: Origin


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A case to weigh: `name` and `doc` say what is dear about it, `prepare` makes it ready."""

    name: str
    doc: str
    prepare: Callable[[], Prepared]


def benchmark(prepare: Callable[[], Prepared]) -> Benchmark:
    """Make a function a benchmark: `potchain module weigh FILE` measures what it prepared.

    Prepare each call at its dearest: the longest arguments, the fullest storage, the longest way through the code.
    """
    return Benchmark(prepare.__name__, (prepare.__doc__ or "").strip(), prepare)


def _origin(who: Keypair | Origin) -> Origin:
    return Origin.signed(who.public) if isinstance(who, Keypair) else who


def _accounts(arguments: Mapping[str, object]) -> dict[str, object]:
    return {name: value.public if isinstance(value, Keypair) else value for name, value in arguments.items()}
