"""A new training task from this side of the RPC: what it costs, its blobs, its transaction.

Rule: nothing is uploaded or paid before the chain's own guards have taken the terms, and the task is created only when
the node has every blob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from chain import terms as asked
from chain.display import Token
from chain.primitives.blob import FETCHED_BYTES_MAX
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.protection import protecting
from chain.rpc.client import Client, ClientError
from chain.wallet.known import Known
from runtime.modules import training_storage
from runtime.modules.training import Training
from runtime.modules.training_policy import PPM, Descent, Policy
from runtime.modules.training_sizes import DAY_BLOCKS, Claim, optimizer_bytes_max, running_bytes
from runtime.modules.training_types import Terms
from runtime.types import DispatchError

# How often blobs that the node has lost again meanwhile (others fill its room for uploads, too) are sent anew.
UPLOAD_TRIES = 3


class TaskRefused(ClientError):
    """The chain would not have this task; the message says why. Nothing was paid."""


class Made(Protocol):
    """What `trainer.task` makes of a task: its name, its roots and its blobs."""

    @property
    def name(self) -> str: ...
    @property
    def program_root(self) -> Hash: ...
    @property
    def dataset_root(self) -> Hash: ...
    @property
    def params_root(self) -> Hash: ...
    @property
    def blobs(self) -> Mapping[Hash, bytes]: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A task as it is offered to the workers of a chain: its blobs by root, and its terms; the price is in planck."""

    name: str
    program_root: Hash
    dataset_root: Hash
    params_root: Hash
    blobs: Mapping[Hash, bytes]
    optimizer: Descent
    policy: Policy
    rounds: int
    price_per_slot: int

    @classmethod
    def of(cls, made: Made, terms: asked.Terms, token: Token) -> Offer:
        """What is offered for a task by what its owner asks for; TermsError where the price is no amount."""
        try:
            price = token.parse(terms.price)
        except ValueError as error:
            raise asked.TermsError(f"price: {error}") from None
        roots = made.program_root, made.dataset_root, made.params_root
        return cls(made.name, *roots, made.blobs, terms.optimizer, terms.policy, terms.rounds, price)

    @property
    def escrow(self) -> int:
        """What is reserved when the task is created; what it does not spend comes back."""
        return self.price_per_slot * self.policy.slots * self.rounds

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(map(len, self.blobs.values()))

    @property
    def storage(self) -> Claim:
        """What the owner claims of the blobs."""
        return claim_of(self)

    def terms(self, owner: bytes) -> Terms:
        """The same as the runtime takes it."""
        return Terms(owner=owner, **self.arguments())

    def described(self, costs: Quote, token: Token) -> list[str]:
        """What it costs, in words."""
        federated, audited = self.policy.is_federated, f"{self.policy.audited_ppm / PPM:.0%} of all slots"
        how = "scored on held-out rows" if federated else "recomputed"
        every = self.policy.evaluate_rounds
        often = "each round" if every == 1 else f"the first round, every {every:,} rounds and the last"
        lines = [
            f"training    {asked.learning_line(self.optimizer, self.policy)}",
            f"escrow      {token.format(costs.escrow)}: {self.rounds} rounds of {self.policy.slots} slots at "
            f"{token.format(self.price_per_slot)}; what is not spent comes back",
            f"storage     {token.format(costs.deposit)} are kept ready for {costs.storage_bytes / 2**20:,.1f} MiB; the "
            "time that the task takes is paid from it, and a week for its model, the rest comes back",
            f"fee         {token.format(costs.fee)}",
            f"audits      {audited}, {how} by {self.policy.auditors_per_slot} each",
            f"evaluated   after {often}, on the held-out rows",
            f"upload      {self.size:,} bytes",
        ]
        if federated:
            lines.append("silos       are yours to admit, each by `potchain task admit`: nobody else trains it")
        elif costs.seats < self.policy.slots:
            lines.append(
                f"workers     offer {costs.seats} slots at this moment: rounds have no more, until others come"
            )
        return lines

    def arguments(self) -> dict[str, Any]:
        """The arguments of `create_task`."""
        return {
            "name": self.name.encode(),
            "program_root": self.program_root,
            "dataset_root": self.dataset_root,
            "params_root": self.params_root,
            "optimizer": self.optimizer,
            "policy": self.policy,
            "rounds": self.rounds,
            "price_per_slot": self.price_per_slot,
            "storage": self.storage,
        }


def claim_of(made: Made) -> Claim:
    """How long a task's blobs are: whatever is neither program nor parameters belongs to the data set."""
    sizes = {root: len(data) for root, data in made.blobs.items()}
    program, params = sizes[made.program_root], sizes[made.params_root]
    return Claim(program_bytes=program, dataset_bytes=sum(sizes.values()) - program - params, parameters=params // 4)


def ensure_fetched(made: Made, optimizer: Descent) -> None:
    """TaskRefused where a task has a blob, or will have an optimiser's state, that nodes do not take from peers."""
    names = {made.program_root: "the program", made.params_root: "the parameters"}
    sizes = [(len(data), names.get(root, "an array of the data set")) for root, data in made.blobs.items()]
    sizes.append((optimizer_bytes_max(claim_of(made), optimizer), "the optimiser's state"))
    size, name = max(sizes)
    if size > FETCHED_BYTES_MAX:
        raise TaskRefused(
            f"expected blobs of at most {FETCHED_BYTES_MAX:,} bytes, which is what nodes fetch from one another, got "
            f"{size:,} in {name}; take fewer parameters or rows"
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """What a task costs its owner at most, and what the owner has; all in planck."""

    escrow: int
    deposit: int  # for the blobs; what the time that they are kept does not cost comes back
    storage_bytes: int  # what is kept of it at most
    fee: int
    free: int
    kept: int  # what an account keeps
    seats: int  # how many slots the workers of this moment could train at once

    @property
    def wanted(self) -> int:
        """What leaves the free balance."""
        return self.escrow + self.deposit + self.fee

    @property
    def affordable(self) -> bool:
        return self.free >= self.wanted + self.kept


async def offered(client: Client, owner: Keypair, made: Made, terms: asked.Terms, token: Token) -> tuple[Offer, Quote]:
    """What is offered for a task, with as many audits as its price needs, and what it costs.

    TermsError where the price is no amount, TaskRefused where the chain would refuse the terms.
    """
    offer = Offer.of(made, terms, token)
    if not terms.audited_said:
        offer = await protected(client, offer)
    return offer, await quote(client, owner, offer)


async def protected(client: Client, offer: Offer) -> Offer:
    """The offer with so many more of its slots audited, in per cent, as its price needs; all where none is enough."""
    policy = await client.read(lambda chain: protecting(chain, offer.policy, offer.price_per_slot))
    return replace(offer, policy=policy)


def require_training(known: Known) -> None:
    """TaskRefused where a chain has no tasks."""
    if not known.runtime.has(Training):
        raise TaskRefused(f"the chain's runtime, {known.source}, lacks the module Training: nothing was sent")


async def quote(client: Client, owner: Keypair, offer: Offer) -> Quote:
    """What a task costs; TaskRefused when the chain would refuse its terms."""
    terms = offer.terms(owner.public)
    ensure_fetched(offer, offer.optimizer)
    try:
        await client.read(lambda chain: chain.training.ensure_acceptable(terms))
    except DispatchError as error:
        raise TaskRefused(f"the chain would refuse this task: {error}") from None
    fee = await client.fee(owner, "training.create_task", **offer.arguments())
    deposit, kept, seats = await client.read(
        lambda chain: (
            training_storage.deposit(chain.training, terms),
            chain.balances.existential_deposit,
            chain.training.seat_count.get(),
        )
    )
    size = running_bytes(terms.storage, terms.optimizer, terms.policy)
    free = (await client.account(owner.public)).free
    return Quote(offer.escrow, deposit, size, fee, free, kept, seats)


async def upload(client: Client, offer: Offer, progress: Callable[[int], None] | None = None) -> None:
    """Store at the node what it does not have; `progress` is told how many bytes are there."""
    for _ in range(UPLOAD_TRIES):
        done, sent = 0, 0
        for root, data in offer.blobs.items():
            if not await client.has_blob(root):
                await client.put_blob(data)
                sent += 1
            done += len(data)
            if progress is not None:
                progress(done)
        if not sent:
            return
    raise ClientError(f"{client.url} keeps losing blobs of this task: its room for uploads is too small, ask another")


async def create(client: Client, owner: Keypair, offer: Offer) -> tuple[int, int]:
    """Create the task and return its number and the height at which it is final; TaskRefused when that failed."""
    receipt = await client.transact(owner, "training.create_task", **offer.arguments())
    if not receipt.ok:
        raise TaskRefused(f"create_task failed in block {receipt.height}: {receipt.error}; only its fee was paid")
    (task,) = [event.task for event in receipt.events if isinstance(event, Training.TaskCreated)]
    return task, receipt.height


async def price_of_keeping(client: Client, task: int, days: int) -> tuple[int, int]:
    """What it costs to keep a task's blobs for so many days more, and until which block; TaskRefused if they are not.

    Of a finished task it is paid, whoever pays; of a running one it is reserved for as much more time.
    """
    try:
        found: tuple[int, int] = await client.read(
            lambda chain: training_storage.extension(chain.training, task, days * DAY_BLOCKS)
        )
    except DispatchError as error:
        raise TaskRefused(f"task {task} cannot be kept for {days} days more: {error}") from None
    return found


async def keep(client: Client, payer: Keypair, task: int, days: int) -> tuple[int, int]:
    """Have a task's blobs kept for so many days more; what was paid or reserved, and until which block."""
    receipt = await client.transact(payer, "training.extend_storage", task=task, blocks=days * DAY_BLOCKS)
    if not receipt.ok:
        raise TaskRefused(f"extend_storage failed in block {receipt.height}: {receipt.error}; only its fee was paid")
    (extended,) = [event for event in receipt.events if isinstance(event, Training.StorageExtended)]
    return extended.amount, extended.until
