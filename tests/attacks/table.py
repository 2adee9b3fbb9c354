"""The table of attacks: of each, what was tried, what its accounts had before and after, and what the model became."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

from runtime.modules.balances import POT
from tests.attacks.campaign import HOSTILE_PROGRAM, REJECTED, Attack, Statement, Story
from tests.attacks.models import Model, Outcome
from tests.trainer.cheats import KINDS, WITHIN_TOLERANCE

HEADINGS = ("attack", "tried", "answered", "had", "slashed", "fees", "paid", "burned", "has", "the model", "blocks")
# What the cheats that are no functions of their own try.
TRIED = {
    "copied commitment": "Commits to what another has committed to, and reveals what the other revealed.",
    "repeated commitment": "Its own commitment and reveal of another round, attempt or slot, once more.",
    "withholding": "Commits, and never reveals.",
    "sybils": "Three names of one purse, which bonds for two of them; both say nothing.",
    "lying aggregator": "Sums to a model that nobody computed.",
    "lying auditor": "Attests, one of four, to a model that nobody computed.",
    "false challenge": "Challenges what is right.",
    "replay of another's transaction": "A worker's signed transactions, sent again by another.",
    "replay on another chain": "A transaction that was signed for another chain.",
    "another's reveal under one's own name": "A worker's salt and root, revealed by an account that has no slot.",
    "votes of another height, view, block, chain": "A block's seal, held up as one of another.",
    "a beacon of one's choice": "Random bytes, the signature of another height, another's signature.",
    "hostile program": f"A task whose program is {HOSTILE_PROGRAM}.",
    "two heads under one key": "Two votes of one validator at one height and view, shown to the chain twice.",
}
ANSWERS = {
    "REJECTED": "rejected",
    "NOT_REVEALED": "slot missed",
    "NO_COMMITMENT": "nobody computes it",
    "taken": "taken as evidence",
    "AggregatorSlashed": "found false",
    "ChallengeRefuted": "refuted",
}


def rows(story: Story, outcomes: dict[int, Outcome]) -> Iterator[tuple[str, ...]]:
    """A row for each attack, as text."""
    touched = {round_ for attack in story.attacks for round_, _ in attack.at}
    usual = median(story.blocks(round_) for round_ in story.records if round_ not in touched)
    for attack in story.attacks:
        statement = story.of(attack)
        rounds = sorted({round_ for round_, _ in attack.at if round_ in story.records})
        yield (
            words(attack),
            str(attack.times),
            answers(attack),
            *amounts(statement),
            model(story, attack, outcomes, rounds),
            f"{median(map(story.blocks, rounds)):.0f} ({usual:.0f})" if rounds else "",
        )


def words(attack: Attack) -> str:
    """What was tried."""
    tried = {**KINDS, **WITHIN_TOLERANCE}.get(attack.name)
    text = TRIED[attack.name] if tried is None else tried.__doc__
    return f"{attack.name}: {str(text).removesuffix('.')}"


def answers(attack: Attack) -> str:
    """What the chain said, each answer once."""
    counted = Counter(ANSWERS.get(answer, answer.removeprefix("Training.")) for answer in attack.said)
    return ", ".join(counted)


def amounts(statement: Statement) -> tuple[str, ...]:
    """What was there, what became of it, and what is there."""
    gained = statement.earned + statement.collected + statement.received
    taken = (statement.slashed, statement.fees, gained, statement.spent)
    signs = ("-", "-", "+", "-")
    middle = (f"{sign}{pot(amount)}" if amount else "" for sign, amount in zip(signs, taken, strict=True))
    return pot(statement.before), *middle, pot(statement.after)


def model(story: Story, attack: Attack, outcomes: dict[int, Outcome], rounds: list[int]) -> str:
    """What became of the model in the rounds of an attack."""
    if not rounds:
        return ""
    if any(outcomes[round_].params_root != story.records[round_].params_root for round_ in rounds):
        return "ANOTHER THAN THE HONEST MAKE"
    if attack.name in WITHIN_TOLERANCE:
        return f"led off by {max(outcomes[round_].led_astray for round_ in rounds):.1e} of a step"
    return "does without it" if attack.name in REJECTED else "as without it"


def pot(planck: int) -> str:
    """An amount to the last planck."""
    whole, rest = divmod(planck, POT)
    return f"{whole:,}" if not rest else f"{whole:,}.{rest:012}".rstrip("0")


def markdown(story: Story, outcomes: dict[int, Outcome]) -> Iterator[str]:
    """The table, as the documentation has it."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield f"|{'---|' * len(HEADINGS)}"
    for row in rows(story, outcomes):
        yield f"| {' | '.join(row)} |"


def summary(story: Story, found: Model, untouched: Model) -> str:
    """What became of the model, and of the same rounds without any attack."""
    return (
        f"{len(story.records)} rounds in {max(story.events)} blocks; held-out loss {found.loss:.4f} and accuracy "
        f"{found.accuracy:.1%}; where nobody cheats {untouched.loss:.4f} and {untouched.accuracy:.1%}"
    )
