"""Validators: who votes, the beacon that every draw comes from, and who took part.

Each block's proposer signs the height with its BLS key: a signature that it cannot choose. Hashed into the beacon, it
gives draws that nobody knew before the block. The block also carries its parent's seal, so that participation is on
chain.
"""

from __future__ import annotations

from collections.abc import Mapping

from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import H256, AccountId, ScaleError, encode, u32
from chain.primitives.seal import Authority, Seal, ValidatorSet, beacon_message, verify_seal
from chain.primitives.types import consensus_digest
from runtime.framework import Constant, Module, call
from runtime.genesis import Section, show
from runtime.limits import MILLISECOND
from runtime.modules.system import System
from runtime.storage import StorageMap, StorageValue
from runtime.types import DispatchClass, DispatchError, GenesisError, InherentData, InvalidBlock, Origin, Weight

# Verifying one aggregate signature takes two pairings.
PAIRINGS = Weight(5 * MILLISECOND)


class Validators(Module):
    """The validator set, the beacon and participation."""

    inherent = "note_seal"

    system: System

    authorities = StorageValue[list[Authority]](default=[], doc="The validators, in the order that views rotate.")
    set_id = StorageValue[u32](default=0, doc="The number of the validator set; every vote is bound to it.")
    beacon = StorageValue[H256](default=bytes(32), doc="The randomness of the block: unknown before it.")
    proposer = StorageValue[AccountId](default=bytes(32), doc="The account that proposed the block.")
    participation = StorageMap[AccountId, u32](default=0, doc="How many blocks each validator has helped to seal.")

    # PBFT's traffic grows with the square of the validators: beyond a hundred, a second is too short for a block.
    authorities_max = Constant[u32](100, doc="The most validators that a set may have.")

    class InvalidSeal(DispatchError):
        """The seal is not a quorum's for the parent block."""

        index = 0

    @call(index=0, weight=PAIRINGS, dispatch_class=DispatchClass.MANDATORY)
    def note_seal(self, origin: Origin, seal: Seal) -> None:
        """Record who sealed the parent block: every block from height 2 on carries its parent's seal."""
        origin.ensure_none()
        height, parent = self.system.height - 1, self.system.parent_hash.get()
        if (seal.height, seal.block_hash) != (height, parent):
            raise self.InvalidSeal(
                f"expected a seal of block {height} 0x{parent.hex()}, got {seal.height} 0x{seal.block_hash.hex()}"
            )
        validators = self.validator_set()
        if not verify_seal(validators, self.system.genesis_hash(), seal):
            raise self.InvalidSeal(
                f"expected the votes of {validators.quorum} of {validators.n} validators of set {validators.set_id}"
                f" for block {height}, got voters 0x{seal.voters.hex()} of set {seal.set_id} with a signature that"
                " does not verify"
            )
        for index in seal.voter_indices(validators.n):
            voter = validators.authorities[index].account
            self.participation[voter] = self.participation[voter] + 1

    def inherent_required(self) -> bool:
        """Genesis has no seal: block 1 carries none."""
        return self.system.height > 1

    def create_inherent(self, data: InherentData) -> tuple[Seal]:
        """The parent's seal."""
        if data.parent_seal is None:
            raise AssertionError(f"the author of block {self.system.height} has no seal of its parent")
        return (data.parent_seal,)

    def on_initialize(self) -> Weight:
        """Check that the proposer may propose, by its signature of the height, and turn the beacon."""
        height = self.system.height
        try:
            digest = consensus_digest(self.system.digest.get().logs)
        except ScaleError as error:
            raise InvalidBlock(f"block {height}: digest: {error}") from error
        primary = self.validator_set().primary(height, digest.view)
        message = beacon_message(self.system.genesis_hash(), height)
        if not bls.verify(primary.bls_key, message, digest.beacon):
            raise InvalidBlock(
                f"block {height}: expected the beacon signature of 0x{primary.bls_key.hex()}, the primary of view"
                f" {digest.view}, got 0x{digest.beacon.hex()}"
            )
        self.beacon.put(blake2_256(self.beacon.get() + digest.beacon))
        self.proposer.put(primary.account)
        return PAIRINGS

    def author(self) -> bytes:
        """The account that proposed the block."""
        return self.proposer.get()

    def randomness(self) -> Hash:
        """The block's beacon value."""
        return self.beacon.get()

    def validator_set(self) -> ValidatorSet:
        """The set that votes on the next block."""
        return ValidatorSet(self.set_id.get(), tuple(self.authorities.get()))

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"authorities": [{"account": address, "bls": "0x…", "proof": "0x…"}, …]}`."""
        section = Section(self.info.attribute, config)
        found: list[Authority] = []
        for path, item in section.items("authorities"):
            entry = Section(path, item)
            authority = Authority(entry.account("account"), entry.octets("bls", bls.PUBLIC_KEY_BYTES))
            proof = entry.octets("proof", bls.SIGNATURE_BYTES)
            entry.finish()
            if not bls.verify_possession(authority.bls_key, proof):
                raise GenesisError(
                    f"{path}.proof: expected a proof of possession of {entry.at('bls')}, got one that does not verify"
                )
            for earlier in found:
                if authority.account == earlier.account or authority.bls_key == earlier.bls_key:
                    raise GenesisError(f"{path}: {show(entry.value('account'))}: account or key appears twice")
            found.append(authority)
        section.finish()
        if not 1 <= len(found) <= self.authorities_max:
            raise GenesisError(
                f"{section.at('authorities')}: expected 1 to {self.authorities_max} validators, got {len(found)}"
            )
        self.authorities.put(found)
        self.beacon.put(blake2_256(encode(list[Authority], found)))

    def check(self) -> None:
        """The set is one that can vote, and nobody took part in more blocks than there were."""
        accounts = {authority.account for authority in self.validator_set().authorities}
        height = self.system.height
        for who, blocks in self.participation.items():
            assert who in accounts, f"{who.hex()} takes part and is no validator"
            assert blocks < max(height, 1), f"{who.hex()} took part in {blocks} blocks at height {height}"
