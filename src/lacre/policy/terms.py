# SPDX-License-Identifier: Apache-2.0
"""
Terms: how long something is kept, in years of the calendar or in days.

Seven years are 2557 days or 2556, never 2555: a term in days is short of the years it is taken
for, and `Term.short_of` says by how many. Decides nothing about what is kept.
"""

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BeforeValidator

__all__ = ["Term", "TermText"]

_TEXT = re.compile(r"([1-9][0-9]{0,4}) (year|day)s?")


@dataclass(frozen=True, slots=True)
class Term:
    """*years* of the calendar, or *days*; one of the two is 0."""

    years: int = 0
    days: int = 0

    @classmethod
    def read(cls, value: object) -> Self:
        """Read ``"7 years"`` or ``"2555 days"``; raise `ValueError` for anything else."""
        if isinstance(value, cls):
            return value
        found = _TEXT.fullmatch(value) if isinstance(value, str) else None
        if found is None or (found[2] == "year" and int(found[1]) > 100):
            raise ValueError('a term is a number of years or of days: "7 years", "2557 days"')
        return cls(years=int(found[1])) if found[2] == "year" else cls(days=int(found[1]))

    def after(self, moment: dt.datetime) -> dt.datetime:
        """Return the moment this term after *moment*. After 29 February, where there is none: 1 March."""
        if self.days:
            return moment + dt.timedelta(days=self.days)
        year = moment.year + self.years
        if (moment.month, moment.day) == (2, 29) and not calendar.isleap(year):
            return moment.replace(year=year, month=3, day=1)
        return moment.replace(year=year)

    def short_of(self) -> tuple[int, int] | None:
        """
        Return the years that days are taken for, and how many days they are short of them.

        None of a term in years, and of one that is short of no years within a week.
        """
        if not self.days:
            return None
        # Seven years have two leap days at most; a century's year without one is a day less.
        years = round(self.days / 365.25)
        longest = max(
            (dt.date(begin + years, 1, 1) - dt.date(begin, 1, 1)).days
            for begin in range(2001, 2029)
        )
        short = longest - self.days
        return (years, short) if years and 0 < short <= 7 else None

    def __str__(self) -> str:
        number, unit = (self.years, "year") if self.years else (self.days, "day")
        return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


TermText = Annotated[Term, BeforeValidator(Term.read)]
