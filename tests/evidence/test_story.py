# SPDX-License-Identifier: Apache-2.0
"""Three days of thirty principals: who is found, by what, and who is not."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lacre.stores.log.reader import LogReader
from tests.evidence.story import (
    BEGIN,
    CAST,
    DAY,
    GUILTY,
    MARKS,
    PAGE,
    Told,
    firsts,
    kept,
    stolen,
    story,
    table,
    tamper,
    trials,
    verified,
    watched,
)
from tests.stores.log.stage import Stage

pytestmark = pytest.mark.any_sqlalchemy


@dataclass(frozen=True, slots=True)
class Known:
    """The story as it was told: its events, its log, and what was found in it before somebody edited it."""

    events: list[object]
    stage: Stage
    told: list[Told]
    verified: tuple[str, str]
    edited: int


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    events = story()
    stage = kept(tmp_path_factory.mktemp("story"), events)
    told = watched(LogReader(stage.log).after())
    before = verified(stage)
    edited = tamper(stage)
    yield Known(list(events), stage, told, (before, verified(stage)), edited)
    stage.close()


def test_the_story_is_the_same_each_time(known: Known) -> None:
    """Two tellings of one seed are equal to the id; everybody of the cast has a part, but who edits."""
    events = story()

    assert events == known.events
    assert len(CAST) == 30
    assert {event.principal for event in events} == set(CAST) - {"user:dba"}


def test_who_is_found_by_what(known: Known) -> None:
    """The two thieves, the careless job and the contractor are found, each by the rules that are meant for them."""
    found = {name: set(rules) for name, rules in firsts(known.told).items()}

    assert found == {
        "user:nina": {"slow-drip"},
        "user:iris": {"own-baseline", "many-rows", "slow-drip"},
        "svc:report": {"bulk-access", "many-fields", "automated-process", "many-rows"},
        "user:otto": {"grant-over", "denied-burst"},
    }


def test_the_honest_night_shift_is_not_flagged(known: Known) -> None:
    """Four people who work at night, and twice as much in one of them, have no finding; nor has anybody honest."""
    about = {told.finding.principal for told in known.told}

    assert not [name for name in about if name.startswith("user:night")]
    assert about <= set(GUILTY)


def test_what_the_slow_thief_had_by_then(known: Known) -> None:
    """She is found after two whole days, with two thirds of what she takes in three."""
    told = firsts(known.told)["user:nina"]["slow-drip"]

    assert told.at >= BEGIN + 2 * DAY
    assert stolen(known.events, "user:nina", told.at) == 160  # type: ignore[arg-type]
    assert stolen(known.events, "user:nina") == 240  # type: ignore[arg-type]


def test_the_administrator_is_found_by_verifying_and_by_nothing_else(known: Known) -> None:
    """A log that verified does not after the edit; the rules, asked again, have lost the fast thief and know nobody who did it."""
    again = firsts(watched(LogReader(known.stage.log).after(), "many-rows", "own-baseline"))
    before, after = known.verified

    assert known.edited > 3000
    assert before == "right"
    assert after.startswith("integrity edited")
    assert "completeness" not in after
    assert again.keys().isdisjoint({"user:dba", "user:iris"})


def test_the_page_says_who_was_found(known: Known) -> None:
    """The first table of the page is what was found: `python -m tests.evidence.story` writes it anew."""
    made = table(known.events, known.told, known.verified[1])  # type: ignore[arg-type]
    text = PAGE.read_text("utf-8")

    assert text.partition(MARKS[0])[2].startswith(made)
    assert f"The story is {len(known.events):,} events" in text


@pytest.mark.long
def test_the_page_says_what_becomes_of_slower_thieves() -> None:
    """The second table of the page is what other draws of the story give."""
    text = PAGE.read_text("utf-8")

    assert text.partition(MARKS[1])[2].startswith(trials())
