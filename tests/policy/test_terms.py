# SPDX-License-Identifier: Apache-2.0
"""Terms in years of the calendar and in days."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.policy.terms import Term


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("7 years", dt.date(2026, 11, 1), dt.date(2033, 11, 1)),
        ("7 years", dt.date(2024, 2, 29), dt.date(2031, 3, 1)),
        ("4 years", dt.date(2024, 2, 29), dt.date(2028, 2, 29)),
        ("1 year", dt.date(2026, 1, 31), dt.date(2027, 1, 31)),
        ("2555 days", dt.date(2026, 11, 1), dt.date(2033, 10, 30)),
    ],
)
def test_a_term_ends_on_its_day(text: str, begin: dt.date, end: dt.date) -> None:
    """Years end on the same day of the calendar, days after so many."""
    moment = dt.datetime.combine(begin, dt.time(), dt.UTC)

    assert Term.read(text).after(moment).date() == end
    assert str(Term.read(text)) == text


@given(st.dates(dt.date(2001, 1, 1), dt.date(2091, 1, 1)))
def test_2555_days_are_never_seven_years(begin: dt.date) -> None:
    """On no day do 2555 days reach as far as seven years, which is what the warning says."""
    moment = dt.datetime.combine(begin, dt.time(), dt.UTC)

    assert Term(days=2555).after(moment) < Term(years=7).after(moment)
    assert Term(days=2555).short_of() == (7, 2)


@pytest.mark.parametrize(("days", "short"), [(2557, None), (365, (1, 1)), (366, None), (90, None), (1826, (5, 1)), (2000, None)])  # fmt: skip
def test_days_are_short_of_the_years_they_are_taken_for(
    days: int, short: tuple[int, int] | None
) -> None:
    """A number of days near to whole years says how many it lacks, and another nothing."""

    assert Term(days=days).short_of() == short


@pytest.mark.parametrize(
    "text", ["", "7", "seven years", "0 years", "-1 days", "7 months", "101 years", 7, None]
)
def test_what_is_no_term_is_refused(text: object) -> None:
    """Anything else is a ValueError that says what one looks like."""

    with pytest.raises(ValueError, match="7 years"):
        Term.read(text)
