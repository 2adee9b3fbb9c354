"""From a checkpoint to a node's newest block, one validator set at a time: what to ask, and what follows from answers.

A generator yields what to ask of the node (`Ask`) and is sent the answer; it returns what it has proven. Whatever the
node answers, a checkpoint only ever moves to a block that the set which decides it has sealed.

The state after a block names the set that decides the next. So the last block that a set has sealed hands over to the
next set: one answer with its header, its seal and a proof carries a follower over a whole session.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from chain.light.checkpoint import Checkpoint
from chain.light.errors import Behind, Contradicted, Fork, LightError, Unprovable, Untrue, Withheld
from chain.light.verify import check_proof, check_seal, read_handover, read_hash, read_header, read_proof, read_seal
from chain.primitives.hashing import Hash
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal
from chain.primitives.types import Header
from runtime.composition import Runtime, View
from runtime.handover import handover_keys
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.validators import Validators

T = TypeVar("T")

# A read looks at a handful of values, each a question to the node; what wants more does not belong in a light client.
READS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Ask:
    """A call of the node's RPC; the answer is its result as JSON gave it."""

    method: str
    params: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """A block is proven to be final: it can be kept. There is no answer to this."""

    checkpoint: Checkpoint


Steps = Generator[Ask | Reached, Any, T]


def follow(runtime: Runtime[View], start: Checkpoint) -> Steps[Checkpoint]:
    """The newest block that the node has, proven to be final; raises LightError."""
    head_hash = read_hash((yield Ask("chain_getFinalizedHead", ())), "the hash of the newest block")
    if head_hash == start.block_hash:
        return start
    head = read_header((yield Ask("chain_getHeader", (_hex(head_hash),))), head_hash)
    if head.height < start.height:
        raise Behind(f"the node is at block {head.height}, and block {start.height} is known to be final: it is behind")
    if head.height == start.height:
        raise Contradicted(
            f"block {start.height} is known to be 0x{start.block_hash.hex()}, and the node shows 0x{head_hash.hex()}: "
            "it is forged, or of another chain"
        )
    seal = read_seal((yield Ask("consensus_getSeal", (_hex(head_hash),))), head.height, head_hash)
    at = start
    while seal.set_id != at.validators.set_id:
        if seal.set_id < at.validators.set_id:
            raise Untrue(
                f"the seal of block {head.height} is of validator set {seal.set_id}, "
                f"and set {at.validators.set_id} has decided since block {at.height}: it is forged"
            )
        at = hand_over(runtime, at, (yield Ask("consensus_getHandover", (at.validators.set_id,))))
        yield Reached(at)
    _check_later(at, head, seal)
    proven = ProvenState(head_hash, head.state_root)
    keys = handover_keys(runtime)
    if at.height > 0:
        keys.append(runtime.at(proven).module(System).block_hash.key(at.height))
    yield from proven.fetch(keys)
    reached = _checkpoint(runtime, at.genesis_hash, head, proven, ancestor=at)
    yield Reached(reached)
    return reached


def hand_over(runtime: Runtime[View], at: Checkpoint, answer: object) -> Checkpoint:
    """The checkpoint at the last block of the set that decides after another checkpoint; raises LightError."""
    return reach(runtime, at, *read_handover(answer, at.validators.set_id))


def reach(runtime: Runtime[View], at: Checkpoint, header: Header, seal: Seal, proof: list[bytes]) -> Checkpoint:
    """The same, of a block with its seal and the proof of `handover_keys`, however they came."""
    _check_later(at, header, seal)
    proven = ProvenState(header.hash, header.state_root)
    proven.take(proof, handover_keys(runtime))
    reached = _checkpoint(runtime, at.genesis_hash, header, proven)
    if reached.validators.set_id <= at.validators.set_id:
        raise Untrue(
            f"expected block {header.height} to hand over from validator set {at.validators.set_id} to a later one, "
            f"but set {reached.validators.set_id} decides block {header.height + 1}, too"
        )
    return reached


def _check_later(at: Checkpoint, header: Header, seal: Seal) -> None:
    """That a block is one that the set has sealed which decides after a checkpoint."""
    check_seal(at.validators, at.genesis_hash, seal)
    if header.height <= at.height:
        raise Untrue(f"expected a block of validator set {at.validators.set_id} after {at.height}, got {header.height}")


def trusted(runtime: Runtime[View], genesis_hash: Hash, block_hash: Hash) -> Steps[Checkpoint]:
    """The checkpoint of a block whose hash is known from somewhere better than this node: the hash proves the rest."""
    header = read_header((yield Ask("chain_getHeader", (_hex(block_hash),))), block_hash)
    if header.height == 0:
        raise LightError(f"block 0x{block_hash.hex()} is a genesis block: give the genesis file instead")
    proven = ProvenState(block_hash, header.state_root)
    try:
        yield from proven.fetch(handover_keys(runtime))
    except Withheld as error:
        raise Withheld(f"{error}; of a block of the last minutes any node can prove the state") from None
    checkpoint = _checkpoint(runtime, genesis_hash, header, proven)
    yield Reached(checkpoint)
    return checkpoint


def _checkpoint(
    runtime: Runtime[View],
    genesis_hash: Hash,
    header: Header,
    proven: ProvenState,
    *,
    ancestor: Checkpoint | None = None,
) -> Checkpoint:
    """What the state after a block says of the time, of the next set, and of the blocks that came before."""
    view = runtime.at(proven)
    system = view.module(System)
    try:
        genesis = system.genesis_hash()
        if genesis != genesis_hash:
            raise Untrue(
                f"block {header.height} is of the chain of genesis 0x{genesis.hex()}, not 0x{genesis_hash.hex()}"
            )
        if ancestor is not None:
            # Chains remember some hundred hashes: over a longer way the seals alone have to be believed.
            known = genesis if ancestor.height == 0 else system.block_hash.get(ancestor.height)
            if known not in (None, ancestor.block_hash):
                raise Fork(
                    f"block {header.height} is sealed and names 0x{known.hex()} as block {ancestor.height}, which is "
                    f"known to be 0x{ancestor.block_hash.hex()}: validators have sealed two chains"
                )
        time_ms, decides_next = view.module(Timestamp).now.get(), view.module(Validators).validator_set()
    except (ScaleError, ValueError, KeyError) as error:
        raise _of_another_runtime(runtime, error) from None
    return Checkpoint(genesis_hash, header.height, header.hash, header.state_root, time_ms, decides_next)


def read(runtime: Runtime[View], at: Checkpoint, look: Callable[[Any], T]) -> Steps[T]:
    """What `look` sees in the runtime's modules after a block: it runs again as values arrive, so it must be pure.

    Raises Unprovable when it lists keys: proofs are of keys that the client names, and show no list to be complete.
    """
    proven = ProvenState(at.block_hash, at.state_root)
    view = runtime.at(proven)
    for _ in range(READS_MAX):
        try:
            return look(view)
        except _Needed as needed:
            key = needed.key
        except (ScaleError, ValueError) as error:
            raise _of_another_runtime(runtime, error) from None
        yield from proven.fetch([key])
    raise LightError(f"a read needed more than {READS_MAX} storage values: read less at once")


class _Needed(Exception):
    """A storage value that was asked for and is not proven yet."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


class ProvenState:
    """A state reader over what was proven of the state after one block."""

    def __init__(self, block_hash: Hash, state_root: Hash) -> None:
        self._block_hash = block_hash
        self._state_root = state_root
        self._values: dict[bytes, bytes | None] = {}

    def fetch(self, keys: list[bytes]) -> Steps[None]:
        """Ask for some keys' values with their proof."""
        answer = yield Ask("state_getReadProof", ([_hex(key) for key in keys], _hex(self._block_hash)))
        self._values |= read_proof(answer, self._block_hash, self._state_root, keys)

    def take(self, proof: list[bytes], keys: list[bytes]) -> None:
        """Take some keys' values from their proof."""
        self._values |= check_proof(proof, self._block_hash, self._state_root, keys)

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        if key not in self._values:
            raise _Needed(key)
        return self._values[key]

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:  # noqa: ARG002
        """Refuse: a node could leave keys out."""
        raise Unprovable(
            f"the keys that begin with 0x{prefix.hex()}: nodes prove values by key, not that a list is whole"
        )


def _of_another_runtime(runtime: Runtime[View], error: Exception) -> LightError:
    return LightError(
        f"the chain's state does not read as that of the runtime {runtime.version.spec_name} "
        f"{runtime.version.spec_version} ({error}): use the release that the chain runs, or give its --genesis FILE"
    )


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()
