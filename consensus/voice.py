"""What one validator says at one height: its votes as signed messages, each signed once however often it is sent."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from chain.primitives import bls
from chain.primitives.seal import Phase, ValidatorSet
from consensus.events import CastViewChange, CastVote, Propose
from consensus.host import RunInThread, Signer
from consensus.messages import PrePrepare, Standing, ViewChange, Vote
from consensus.proof import Verifier

# A view signs three messages at most; resends of the last few views' cost nothing.
SIGNATURES_MAX: Final = 8


class BlsSigner:
    """A signer that has its key in memory, and the `past` ones that a set may still name; `name` is the first ever."""

    def __init__(
        self, secret_key: bytes, run: RunInThread, *, past: Sequence[bytes] = (), name: bytes | None = None
    ) -> None:
        self._secret_keys = {bls.public_key(each): each for each in (secret_key, *past)}
        self._name = self.public_keys[0] if name is None else name
        self._run = run

    @property
    def name(self) -> bytes:
        return self._name

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        return tuple(self._secret_keys)

    async def sign(self, message: bytes, public_key: bytes) -> bytes:
        return await self._run(partial(bls.sign, self._secret_keys[public_key], message))


def place_of(signer: Signer | None, validators: ValidatorSet) -> int | None:
    """The signer's index in a set; None where it has no place there."""
    own = () if signer is None else signer.public_keys
    return next((place for place, each in enumerate(validators.authorities) if each.bls_key in own), None)


class Voice:
    """Turns what the replica casts into messages. `me` is the signer's place in the set; None has nothing to say."""

    def __init__(self, signer: Signer | None, verifier: Verifier) -> None:
        self.me = place_of(signer, verifier.validators)
        self._signer = signer
        self._verifier = verifier
        self._signatures: dict[bytes, bytes] = {}

    async def vote(self, cast: CastVote) -> Vote:
        """Return a prepare or a commit."""
        message = self._verifier.vote_message(cast.height, cast.view, cast.phase, cast.digest)
        return Vote(cast.height, cast.view, cast.phase, cast.digest, self._index, await self._sign(message))

    async def proposal(self, cast: Propose) -> tuple[PrePrepare, Vote]:
        """Return a proposal, and the prepare that it carries."""
        vote = await self.vote(CastVote(cast.height, cast.view, Phase.PREPARE, cast.digest))
        return PrePrepare(cast.height, cast.view, cast.digest, vote.signature, cast.payload, cast.new_view), vote

    async def change(self, cast: CastViewChange) -> ViewChange:
        """Return a view change."""
        signature = await self._sign(self._verifier.change_message(cast.height, cast.view, cast.lock))
        return ViewChange(cast.height, cast.view, self._index, cast.lock, signature)

    async def standing(self, height: int, nonce: bytes, remembers: bool) -> Standing:
        """Return the answer to who asks where this validator stands."""
        signature = await self._sign(self._verifier.standing_message(height, nonce, remembers))
        return Standing(height, nonce, remembers, self._index, signature)

    @property
    def _index(self) -> int:
        assert self.me is not None, "a replica without a place in the set casts no votes"
        return self.me

    async def _sign(self, message: bytes) -> bytes:
        assert self._signer is not None, "a replica without a key casts no votes"
        signature = self._signatures.get(message)
        if signature is None:
            key = self._verifier.validators.authorities[self._index].bls_key
            signature = await self._signer.sign(message, key)
            while len(self._signatures) >= SIGNATURES_MAX:
                del self._signatures[next(iter(self._signatures))]
            self._signatures[message] = signature
        return signature
