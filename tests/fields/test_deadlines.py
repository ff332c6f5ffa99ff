# SPDX-License-Identifier: Apache-2.0
"""What day it is, by whose word, and what is refused after a deadline."""

import datetime as dt
from dataclasses import dataclass

import pytest

from lacre.errors import ConfigurationError, KeyStoreUnreachable, PlaintextFound
from lacre.fields.column_state import ColumnState
from lacre.fields.deadlines import Deadlines, latest_of


@dataclass
class Target:
    """A column of lacre.toml."""

    deadline: dt.date | None = dt.date(2026, 6, 30)
    class_: str = "pii"
    store: str = "main"


class Clock:
    """A clock that tells what it was set to."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self.seconds = dt.datetime.fromisoformat(text + "+00:00").timestamp()

    def __call__(self) -> float:
        return self.seconds


class States:
    """What the key store says of any column; how often it was asked."""

    def __init__(self, state: ColumnState | None = None) -> None:
        self.state, self.asked = state, 0

    def __call__(self, store: str, table: str, column: str, class_: str) -> ColumnState | None:
        self.asked += 1
        return self.state


def deadlines(clock: Clock, states: States, **witnesses: object) -> Deadlines:
    return Deadlines({"customers.cpf": Target()}, present=states, clock=clock, witnesses=witnesses)  # type: ignore[arg-type]


def refuse(found: Deadlines) -> None:
    found.refuse_overdue("customers", ["id", "cpf"])


def test_the_deadline_is_the_last_day() -> None:
    """On the day itself plaintext is still taken, on the next it is refused."""
    clock, states = Clock("2026-06-30T23:59:59"), States(ColumnState.DUAL)
    found = deadlines(clock, states)
    refuse(found)
    clock.set("2026-07-01T00:00:00")

    with pytest.raises(PlaintextFound, match=r"customers\.cpf .*deadline was 2026-06-30"):
        refuse(found)


@pytest.mark.parametrize("state", [None, ColumnState.PLAINTEXT, ColumnState.DUAL])
def test_whatever_is_not_encrypted_is_refused(state: ColumnState | None) -> None:
    """No row, `plaintext` and `dual` alike: dual has plaintext's protection."""
    with pytest.raises(PlaintextFound):
        refuse(deadlines(Clock("2027-01-01T00:00:00"), States(state)))


def test_an_encrypted_column_is_not_asked_for_again() -> None:
    """Once it is encrypted nothing is refused, and the key store is left alone."""
    states = States(ColumnState.ENCRYPTED)
    found = deadlines(Clock("2027-01-01T00:00:00"), states)
    refuse(found)
    refuse(found)

    assert states.asked == 1


def test_a_clock_that_is_set_back_does_not_reopen() -> None:
    """What a process saw once is never unseen."""
    clock = Clock("2026-07-02T00:00:00")
    found = deadlines(clock, States())
    with pytest.raises(PlaintextFound):
        refuse(found)
    clock.set("2020-01-01T00:00:00")

    with pytest.raises(PlaintextFound, match="it is 2026-07-02"):
        refuse(found)


@pytest.mark.parametrize("word", ["the key store", "the newest evidence"])
def test_a_process_that_starts_with_a_wrong_clock_hears_others(word: str) -> None:
    """A new process with its clock set back learns the time from records, and says from which."""
    later = Clock("2026-07-05T00:00:00")
    found = deadlines(Clock("2020-01-01T00:00:00"), States(), **{word: later})

    with pytest.raises(PlaintextFound, match=f"it is 2026-07-05 by {word}"):
        refuse(found)


def test_a_witness_that_fails_is_passed_over() -> None:
    """A key store that does not answer cannot make it earlier, nor stop what the clock allows."""

    def unreachable() -> float:
        raise KeyStoreUnreachable("gone")

    clock = Clock("2026-06-01T00:00:00")
    refuse(deadlines(clock, States(), store=unreachable, other=lambda: None))
    clock.set("2026-07-01T00:00:00")

    with pytest.raises(PlaintextFound):
        refuse(deadlines(clock, States(), store=unreachable))


def test_a_column_that_was_taken_back_is_refused_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its deadline a column was seen encrypted and then taken back: a process that runs refuses it five minutes later at the latest."""
    states, passed = States(ColumnState.ENCRYPTED), [0.0]
    monkeypatch.setattr("lacre.fields.deadlines.time.monotonic", lambda: passed[0])
    found = deadlines(Clock("2026-07-01T00:00:00"), states)
    refuse(found)
    states.state = ColumnState.PLAINTEXT
    passed[0] = 299.0
    refuse(found)
    passed[0] = 301.0

    with pytest.raises(PlaintextFound):
        refuse(found)


def test_columns_without_a_deadline_are_never_asked_for() -> None:
    """Other columns and tables cost nothing."""
    states = States()
    found = deadlines(Clock("2027-01-01T00:00:00"), states)
    found.refuse_overdue("customers", ["name"])
    found.refuse_overdue("orders", ["cpf"])

    assert states.asked == 0
    assert found.watched("customers") == {"cpf"}


def test_a_standing_counts_days() -> None:
    """Days left are whole days in UTC, negative after the deadline, none without one."""
    clock = Clock("2026-06-20T12:00:00")
    targets = {"customers.cpf": Target(), "customers.name": Target(deadline=None)}
    found = Deadlines(targets, present=States(ColumnState.DUAL), clock=clock)
    cpf, name = found.standings()
    clock.set("2026-07-03T00:00:00")

    assert (cpf.days_left, cpf.overdue, name.days_left) == (10, False, None)
    assert (found.standings()[0].days_left, found.standings()[0].overdue) == (-3, True)


def test_a_name_without_a_table_is_refused() -> None:
    """A column is named with its table."""
    with pytest.raises(ConfigurationError, match="names no column"):
        Deadlines({"cpf": Target()}, present=States())


def test_times_that_are_none_are_left_out() -> None:
    """Of texts that anyone may have written, only RFC 3339 with a zone counts."""
    texts = ["2026-01-02T03:04:05Z", None, "", "tomorrow", "2030-01-01T00:00:00", "9" * 400]

    assert latest_of(texts) == dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC).timestamp()
    assert latest_of([]) is None
