"""What calls of the training protocol fail with. Indexes are part of the wire schema, and never reused."""

from __future__ import annotations

from runtime.types import DispatchError


class TrainingErrors:
    """The errors of `Training`."""

    class InvalidName(DispatchError):
        """A task's name is 1 to 64 bytes of UTF-8 text without control characters."""

        index = 0

    class InvalidOptimizer(DispatchError):
        """In 1e-12: rates and clips are 1 to 1e15, momentum and betas below 1e12, epsilon 1 to 1e12, shares to 1e12."""

        index = 1

    class InvalidPolicy(DispatchError):
        """Slots 1-64, phases 10 (commit 1) to 14,400 blocks, auditors 1-8; ppm audited 1-10^6, outlying 20-10^5."""

        index = 2

    class InvalidRounds(DispatchError):
        """A task has 1 to 1,000,000 rounds."""

        index = 3

    class PriceTooLow(DispatchError):
        """A task pays at least PricePerSlotMin for a slot."""

        index = 4

    class TooManyTasks(DispatchError):
        """As many tasks run as this chain runs at once; try again when one has completed."""

        index = 5

    class UnknownTask(DispatchError):
        """No such task is running: it never was created, or it is over."""

        index = 6

    class WrongRound(DispatchError):
        """The task is at another round: the call came too early or too late."""

        index = 7

    class WrongPhase(DispatchError):
        """The round is in another phase: it takes commitments first, then reveals, then challenges and attestations."""

        index = 8

    class UnknownSlot(DispatchError):
        """The round has no such slot."""

        index = 9

    class NotAssigned(DispatchError):
        """The slot was drawn for another worker."""

        index = 10

    class AlreadyCommitted(DispatchError):
        """The slot has a commitment already, which nothing replaces."""

        index = 11

    class NotCommitted(DispatchError):
        """The slot has no commitment to reveal."""

        index = 12

    class AlreadyRevealed(DispatchError):
        """The slot is revealed already."""

        index = 13

    class CommitmentMismatch(DispatchError):
        """The salt and the update root are not what the worker committed to."""

        index = 14

    class AlreadyRegistered(DispatchError):
        """The signer is registered already."""

        index = 15

    class NotRegistered(DispatchError):
        """The signer is not registered as what this call is for."""

        index = 16

    class WorkerAssigned(DispatchError):
        """The worker has a slot, or is drawn for one; it is not drawn again and can leave when those are final."""

        index = 17

    class AlreadyActive(DispatchError):
        """The worker is not paused for this task: there is nothing to resume."""

        index = 18

    class TooManyWorkers(DispatchError):
        """As many workers can be drawn as this chain has room for."""

        index = 19

    class TooManyAggregators(DispatchError):
        """As many aggregators are registered as this chain has room for."""

        index = 20

    class SameAggregate(DispatchError):
        """The aggregator has said exactly this already."""

        index = 21

    class NotAuthority(DispatchError):
        """Only a validator of the current set attests and challenges."""

        index = 22

    class InvalidBitmap(DispatchError):
        """The bitmap is one bit for each of the round's slots, in whole bytes, with no bit set beyond the last slot."""

        index = 23

    class NotRevealed(DispatchError):
        """The slot was not revealed: there is nothing to accept or to challenge."""

        index = 24

    class SlotNotChallenged(DispatchError):
        """A revealed slot is left out although nobody challenged it; challenge it first."""

        index = 25

    class RootsChanged(DispatchError):
        """Nothing is accepted, so the model and the optimiser must stay as they are."""

        index = 26

    class InvalidAccuracy(DispatchError):
        """An accuracy is at most 1,000,000 parts per million."""

        index = 27

    class AlreadyAttested(DispatchError):
        """The validator has attested exactly this already."""

        index = 28

    class AlreadyChallenged(DispatchError):
        """The slot is challenged already, or shown to be planted: once is enough for everybody to recompute it."""

        index = 29

    class WrongAttempt(DispatchError):
        """The round was opened again: what is said of an earlier attempt does not count for this one."""

        index = 30

    class NotOwner(DispatchError):
        """Only its owner cancels a task."""

        index = 31

    class AlreadyCancelled(DispatchError):
        """The task is cancelled already: it ends with what has begun."""

        index = 32

    class TooManyChallenges(DispatchError):
        """The validator has challenged too much that was right; try again in a hundred blocks."""

        index = 33

    class TooManyAggregates(DispatchError):
        """As many aggregators have been heard in this attempt as it has room for."""

        index = 34

    class AggregatorEngaged(DispatchError):
        """The aggregator has a word in a running round, and can leave when that is final."""

        index = 35

    class InvalidCapacity(DispatchError):
        """A worker offers to train 1 to CapacityMax slots of a round at once."""

        index = 36

    class BondWaits(DispatchError):
        """A bond is free LeaveBlocks after its worker was drawn no more; `workers` says from which height on."""

        index = 37

    class PriceTooHigh(DispatchError):
        """A slot that is worth so much needs more audits: less than a bond protects would be worth a cheat."""

        index = 38

    class InvalidCodec(DispatchError):
        """Top-k sends a share of 1 to 1,000,000 ppm, after a warm-up of at most 1,000,000 rounds."""

        index = 39

    class InvalidLocalSteps(DispatchError):
        """A slot takes 1 to 4,096 local steps, with an inner optimiser that keeps the bounds of InvalidOptimizer."""

        index = 40

    class InvalidAggregation(DispatchError):
        """Only the mean takes top-k. Wrong shares to 500,000 ppm, a radius of 1 to 10^9 ppm, iterations 1 to 100."""

        index = 41

    class InvalidVerification(DispatchError):
        """Harm 10^3-10^9 ppm, forfeit to 5 POT, weight to 2^24 (mean) or 1, silos to slots; audit all, no feedback."""

        index = 42

    class NotFederated(DispatchError):
        """The task is none whose data stay with silos: whoever is registered as a worker trains it."""

        index = 43

    class NotSilo(DispatchError):
        """The task's owner has not admitted this account as a silo."""

        index = 44

    class TooManySilos(DispatchError):
        """The task has as many silos as it has room for; its owner can expel one."""

        index = 45

    class InvalidSamples(DispatchError):
        """A silo has at most 2^24 samples, and says that it has no more than the task's owner admitted it with."""

        index = 46

    class RepeatedUpdate(DispatchError):
        """The same update was revealed for another slot of this round, or of the one before."""

        index = 47

    class InvalidStorage(DispatchError):
        """A program has 1 to 16,777,216 bytes, a data set 1 to 2^40, a model 1 to 134,217,728 parameters."""

        index = 48

    class StorageFull(DispatchError):
        """All tasks together may have StorageBytesMax kept: take a smaller model, fewer slots, or wait for others."""

        index = 49

    class StorageOver(DispatchError):
        """Nothing is kept of the task any more that could be kept longer."""

        index = 50

    class InvalidExtension(DispatchError):
        """Storage is sold for 1 block to a year, and not beyond a year from now."""

        index = 51

    class RevealsClosed(DispatchError):
        """The first of the two draws of this round's audits was made: nothing more is revealed."""

        index = 52

    class AlreadyConfirmed(DispatchError):
        """The validator has confirmed this attempt already; the sum is exact, so that there is nothing to correct."""

        index = 53

    class InvalidPlantKey(DispatchError):
        """The proof is not the key's over itself and the signer's account."""

        index = 54

    class NotPlanted(DispatchError):
        """The signer may not plant this slot: by its key's signature, or it has no key that is old enough."""

        index = 55

    class ShownTooEarly(DispatchError):
        """Auditors were drawn for the slot and have not spoken: show it when it is challenged, or when they agree."""

        index = 56

    class AlreadyShown(DispatchError):
        """The slot was shown to be planted already."""

        index = 57

    class SlotPlanted(DispatchError):
        """The slot is wrong, as its worker has shown, and nobody audits it: leave it out."""

        index = 58

    class WrongEvaluation(DispatchError):
        """The policy has this round evaluated and the attestation says nothing of it, or the other way round."""

        index = 59

    class InvalidChecks(DispatchError):
        """Slices: 1-4096 chunks each, 256 at most; int8 or int16, no norm clip, no Krum or centered clip, no scores."""

        index = 60

    class NotOnTrial(DispatchError):
        """No such aggregate of this task is on trial, or who checks it is not drawn yet."""

        index = 61

    class UnknownSlice(DispatchError):
        """The aggregate has fewer slices."""

        index = 62

    class AlreadyChecked(DispatchError):
        """The validator has said so already, or disputes a slice, or a quorum has found the slice right."""

        index = 63

    class Contradiction(DispatchError):
        """A slice cannot be right and wrong by the word of one validator."""

        index = 64

    class AggregatorUnheard(DispatchError):
        """An aggregate of the signer's came to nothing, as its blobs were not served: it is not heard for a while."""

        index = 65
