"""A round that stands still is told with the names of those that it waits for, once in a while."""

from __future__ import annotations

from typing import Any, cast

from chain.display import Names
from chain.round_news import AGAIN_BLOCKS, IDLE, WAITED_BLOCKS, RoundNews
from runtime.testing import ALICE, BOB, CHARLIE, DAVE
from tests.chain.story import StoryLedger
from tests.runtime.training_kit import Story

NAMES = Names({CHARLIE.public: "charlie", DAVE.public: "dave"}, 42)


def news_of(story: Story) -> RoundNews:
    return RoundNews(cast(Any, StoryLedger(story)), NAMES)


def test_a_round_that_lacks_attestations_names_whose_auditors_are_silent() -> None:
    story = Story()
    news = news_of(story)
    story.to_audit()
    assert news.news() == []
    story.attest(ALICE, BOB)
    story.next(WAITED_BLOCKS + 1)
    line = "digits, round 0: 2 of 4 attested, 3 needed; missing charlie, dave"
    (told,) = news.news()
    assert (told.text, told.fields["missing"], told.fields["phase"]) == (line, ["charlie", "dave"], "audit")
    story.next()
    assert news.news() == []
    story.next(AGAIN_BLOCKS)
    assert [each.text for each in news.news()] == [line]
    story.attest(CHARLIE)
    story.next()
    assert news.news() == []


def test_a_round_without_workers_says_what_runs_one() -> None:
    story = Story(workers=())
    news = news_of(story)
    assert news.news() == []
    story.next(WAITED_BLOCKS)
    assert [each.text for each in news.news()] == [
        "digits, round 0: no worker is free to be drawn; potchain worker runs one"
    ]


def test_a_chain_on_which_nothing_trains_says_so_once() -> None:
    story = Story(tasks=0)
    news = news_of(story)
    assert [news.news() for _ in range(2)] == [[IDLE], []]
