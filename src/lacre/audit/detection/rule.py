# SPDX-License-Identifier: Apache-2.0
"""
A rule of detection, as data: what it counts, for whom, over how long, from when on it is a finding.

`lacre.audit.detection.rules` has them all; `How` names the evaluators, which are few. Does not evaluate.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lacre.audit.detection.finding import Severity

__all__ = ["Hours", "How", "Match", "Rule", "span"]


class How(StrEnum):
    """What becomes of the entries that a rule matches. ``docs/reference/detection-rules.md`` has a line of each."""

    EACH = "each"
    SUM = "sum"
    DISTINCT = "distinct"
    BASELINE = "baseline"
    PEERS = "peers"
    FIRST = "first"
    HOURS = "hours"
    DORMANT = "dormant"
    SHARE = "share"
    AFTER = "after"
    BEFORE = "before"
    WIDENED = "widened"
    GRANT = "grant"
    SILENCE = "silence"
    SKEW = "skew"
    NUMBERS = "numbers"
    CARRIED = "carried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """
    Which entries. Empty asks nothing.

    *reads* asks that a value left; *has* that members of the entry are among some texts; *tests*
    names conditions that data does not say (`lacre.audit.detection.conditions`).
    """

    actions: tuple[str, ...]
    steps: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    reads: bool = False
    has: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Working hours: *days* from 0, Monday; *until* is not of them; a night shift ends before it begins."""

    days: frozenset[int]
    begin: dt.time
    end: dt.time
    zone: dt.tzinfo

    def hold(self, time: float) -> bool:
        """Return whether *time* is inside."""
        when = dt.datetime.fromtimestamp(time, self.zone)
        clock, day = when.time(), when.weekday()
        if self.begin <= self.end:
            return day in self.days and self.begin <= clock < self.end
        # A shift is of the day on which it begins.
        if clock < self.end:
            return (day - 1) % 7 in self.days
        return day in self.days and clock >= self.begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One rule.

    *threshold* is what is a finding, from there on (`says` says of what); *within* the window in
    seconds; *least* is below which it never is one; *after* how long, in seconds, or how many
    hours, are learned first; *by* tells apart who is counted; findings that
    agree in *alike*, where that is said, are of the same thing. *what* is counted; *words* are those
    it looks for. *means* is what it may be, *do* what to do first, *source* where it is from, *misses* what gets past it.
    *exempt* are principals it does not count, each with a reason; *off* is why it is not evaluated.
    """

    id: str
    title: str
    source: str
    severity: Severity
    how: How
    of: Match
    says: str
    means: str
    do: str
    misses: str
    by: tuple[str, ...] = ("principal",)
    alike: tuple[str, ...] = ()
    what: str = "events"
    threshold: float = 1
    within: float = 3600.0
    least: float = 0
    after: float = 0.0
    trigger: Match | None = None
    words: tuple[str, ...] = ()
    needs: str = ""
    hours: Hours | None = None
    exempt: Mapping[str, str] = field(default_factory=dict)
    off: str = ""

    @property
    def asleep(self) -> str:
        """Why it is not evaluated; empty where it is."""
        if self.off:
            return f"off: {self.off}"
        if self.needs == "hours" and self.hours is None:
            return "not configured: it needs hours"
        return ""


def span(seconds: float) -> str:
    """Return *seconds* in the largest unit that says it in words."""
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {name}" + ("s" if count != 1 else "")
    count = round(seconds)
    return f"{count} second" + ("s" if count != 1 else "")
