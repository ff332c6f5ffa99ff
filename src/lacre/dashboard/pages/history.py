# SPDX-License-Identifier: Apache-2.0
"""
Accesses over time, as plots: which range is shown, in which steps, and what is counted.

Counts are of tallies, which the sequencer keeps by the hour. Knows no request and no template.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lacre.audit.event import Status
from lacre.dashboard.plots import Bucket, Series, stacked
from lacre.stores.log.counts import Dimension, LogCounts, Narrowed

__all__ = ["ACCESSES", "RANGES", "History", "Range", "Span", "quarters", "range_of"]

# What is an access: a value was read, or asked about.
ACCESSES = frozenset({"look", "legacy-look", "bulk", "search", "candidates"})
Href = Callable[[dt.datetime, dt.datetime], str]
_MOST = 6  # colours
_HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a plot is about: *steps* steps of *hours*, called *name*."""

    name: str
    hours: int
    steps: int

    @property
    def word(self) -> str:
        return "hour" if self.hours == 1 else "day" if self.hours == 24 else f"{self.hours} hours"

    @property
    def length(self) -> dt.timedelta:
        return self.hours * self.steps * _HOUR


RANGES = {
    "24h": Range(name="24 hours", hours=1, steps=24),
    "7d": Range(name="7 days", hours=6, steps=28),
    "30d": Range(name="30 days", hours=24, steps=30),
    "90d": Range(name="90 days", hours=24, steps=90),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range that ends at a moment: its beginning, its end, and the beginning of each of its steps."""

    range: Range
    since: dt.datetime
    until: dt.datetime

    @property
    def steps(self) -> list[dt.datetime]:
        return [self.since + n * self.range.hours * _HOUR for n in range(self.range.steps)]

    def buckets(self, href: Href) -> list[Bucket]:
        """Return the places of bars; *href* says where the one of a beginning and an end leads."""
        step, found = self.range.hours * _HOUR, []
        for begin in self.steps:
            short = f"{begin:%H:%M}" if self.range.hours == 1 else f"{begin:%d %b}"
            full = f"{begin:%Y-%m-%d}" if self.range.hours == 24 else f"{begin:%Y-%m-%d %H:%M}"
            found.append(Bucket(short=short, full=full, href=href(begin, begin + step)))
        return found


def quarters(span: Span) -> Span:
    """Return *span*, which is of days, in steps of six hours."""
    found = Range(name=span.range.name, hours=6, steps=span.range.steps * 4)
    return Span(range=found, since=span.since, until=span.until)


def range_of(name: str, now: dt.datetime) -> Span:
    """Return the range of that name, up to *now*: whole steps, of days in UTC."""
    found = RANGES[name]
    step = found.hours * _HOUR
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    # The end of the step that is under way.
    until = day + ((now - day) // step + 1) * step
    return Span(range=found, since=until - found.length, until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Accesses in the steps of a span, by dimension and name."""

    span: Span
    counted: Mapping[str, Mapping[str, Sequence[int]]]

    @classmethod
    def of(
        cls, counts: LogCounts, span: Span, narrowed: Narrowed, *dimensions: Dimension
    ) -> "History":
        """Count by *dimensions*."""
        place = {begin: number for number, begin in enumerate(span.steps)}
        counted: dict[str, dict[str, list[int]]] = {each: {} for each in dimensions}
        found = counts.by(
            *dimensions, since=span.since, until=span.until, hours=span.range.hours, narrowed=narrowed
        )  # fmt: skip
        for dimension, listed in found.items():
            names = counted[dimension]
            for each in listed:
                values = names.setdefault(each.name, [0] * span.range.steps)
                values[place[each.begin]] += each.events
        return cls(span=span, counted=counted)

    def within(self, span: Span) -> "History":
        """Return the part of it that is in *span*, whose steps are as long."""
        begin = self.span.steps.index(span.since)
        end = begin + span.range.steps
        counted = {
            dimension: {name: values[begin:end] for name, values in names.items()}
            for dimension, names in self.counted.items()
        }
        return History(span=span, counted=counted)

    def names(self, dimension: Dimension) -> list[str]:
        """Return the names there are, those with most accesses first."""
        found = self.counted[dimension]
        return sorted(found, key=lambda name: (-sum(found[name]), name))

    def plot(self, dimension: Dimension, href: Href) -> Markup:
        """Return the plot by *dimension*: of outcomes each, of others those with most and the rest."""
        word = self.span.range.word
        title = (
            f"Accesses by {'outcome' if dimension == 'status' else dimension}, each {word}, in UTC"
        )
        series = self._statuses() if dimension == "status" else self._most(dimension)
        return stacked(title, self.span.buckets(href), series, what="accesses", head=word)

    def _statuses(self) -> list[Series]:
        found, none = self.counted["status"], [0] * self.span.range.steps
        return [
            Series(name=str(each), kind=str(each), values=found.get(each, none)) for each in Status
        ]

    def _most(self, dimension: Dimension) -> list[Series]:
        found, order = self.counted[dimension], self.names(dimension)
        series = [
            Series(name=name or "none", kind=str(number + 1), values=found[name])
            for number, name in enumerate(order[:_MOST])
        ]
        if others := order[_MOST:]:
            values = [sum(each) for each in zip(*(found[name] for name in others), strict=True)]
            series.append(Series(name=f"{len(others)} others", kind="other", values=values))
        return series
