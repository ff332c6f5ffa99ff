# SPDX-License-Identifier: Apache-2.0
"""
What happens within a window: each, many, many different, few of many.

`Many` slides: any window of that length is one. `Different` and `Share` go by the clock: hours of
the day are windows, so twice the threshold less two fits across the turn of one. Does not compare
with what was before (`lacre.audit.detection.evaluators.habits`).
"""

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lacre.audit.detection.evaluator import Evaluator, Group, Groups
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import LATENESS, Observation, hashed
from lacre.audit.detection.rule import How, Rule
from lacre.audit.detection.sketch import Distinct, Trail

__all__ = ["Different", "Each", "Many", "Share", "Window"]

_COLUMNS = 10_000  # names of columns whose hashes are kept


@dataclass(slots=True)
class _Quiet:
    """After a finding: what is alike is gathered until *until*, and told together."""

    until: float
    trail: Trail = field(default_factory=Trail)
    weight: int = 0
    principal: str = ""
    said: str = ""
    group: Group = ()

    def add(self, seen: Observation, weight: int) -> None:
        self.trail.add(seen.position, seen.at, seen.late)
        self.weight += weight

    def kept(self) -> Any:
        return [self.until, self.trail.kept(), self.weight, self.principal, self.said, self.group]

    @classmethod
    def again(cls, kept: Any) -> "_Quiet":
        until, trail, weight, principal, said, group = kept
        return cls(until, Trail.again(trail), weight, principal, said, tuple(group))


class Each(Evaluator):
    """Each entry is a finding; those of a group that follow within the window are told together."""

    how: ClassVar[How] = How.EACH

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._quiet: Groups[_Quiet] = Groups(lambda: _Quiet(0.0))

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        group = self.group(seen)
        quiet = self._quiet.get(group)
        if quiet is not None and seen.at < quiet.until:
            quiet.add(seen, 1)
            return
        if quiet is not None:
            yield from self._rest(group, quiet)
        trail = Trail()
        trail.add(seen.position, seen.at, seen.late)
        finding = self.finding(group, trail, seen=seen, found=1)
        until = seen.at + self.rule.within
        self._quiet.set(group, _Quiet(until, principal=seen.principal, said=finding.summary))
        yield finding

    def passes(self, now: float) -> Iterable[Finding]:
        for group, quiet in self._quiet.items():
            if quiet.until + LATENESS < now:
                self._quiet.drop(group)
                yield from self._rest(group, quiet)

    def _rest(self, group: Group, quiet: _Quiet) -> Iterable[Finding]:
        if quiet.weight:
            yield self.finding(
                group,
                quiet.trail,
                principal=quiet.principal,
                more=quiet.weight,
                said=quiet.said,
                found=quiet.weight,
            )

    def kept(self) -> Any:
        return self._quiet.kept(_Quiet.kept)

    def restore(self, kept: Any) -> None:
        self._quiet.restore(kept, _Quiet.again)

    @property
    def dropped(self) -> int:
        return self._quiet.dropped


# When, how many, where, whether late; in the order of time.
_Seen = tuple[float, int, tuple[int, int], bool]


class Many(Evaluator):
    """So many, of events or of what they count, in some window of that length."""

    how: ClassVar[How] = How.SUM

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._seen: Groups[list[_Seen]] = Groups(list)
        self._quiet: Groups[_Quiet] = Groups(lambda: _Quiet(0.0))

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        rule = self.rule
        group = self.group(seen)
        weight = seen.uses if rule.what == "uses" else 1
        quiet = self._quiet.get(group)
        if quiet is not None and seen.at < quiet.until:
            quiet.add(seen, weight)
            return
        held = self._seen.at(group)
        insort(held, (seen.at, weight, seen.position, seen.late))
        # Older ones are in no window with whatever comes: nothing counts before `LATENESS` ago.
        del held[: bisect_right(held, (seen.sequenced - LATENESS - rule.within,))]
        window = _fullest(held, seen.at, rule.within)
        found = sum(each[1] for each in window)
        if found < rule.threshold:
            return
        trail = Trail()
        for at, _, position, late in window:
            trail.add(position, at, late)
        self._seen.drop(group)
        finding = self.finding(group, trail, seen=seen, found=found)
        until = seen.at + rule.within
        self._quiet.set(group, _Quiet(until, principal=seen.principal, said=finding.summary))
        yield finding

    def passes(self, now: float) -> Iterable[Finding]:
        for group, quiet in self._quiet.items():
            if quiet.until + LATENESS < now:
                self._quiet.drop(group)
                if quiet.weight:
                    yield self.finding(
                        group,
                        quiet.trail,
                        principal=quiet.principal,
                        more=quiet.weight,
                        said=quiet.said,
                        found=quiet.weight,
                    )
        for group, held in self._seen.items():
            if held[-1][0] + self.rule.within + LATENESS < now:
                self._seen.drop(group)

    def kept(self) -> Any:
        return [self._seen.kept(list), self._quiet.kept(_Quiet.kept)]

    def restore(self, kept: Any) -> None:
        seen, quiet = kept
        self._seen.restore(seen, lambda held: [(a, w, (p[0], p[1]), n) for a, w, p, n in held])
        self._quiet.restore(quiet, _Quiet.again)

    @property
    def dropped(self) -> int:
        return self._seen.dropped


def _fullest(held: list[_Seen], at: float, within: float) -> list[_Seen]:
    # The window that has what is at *at* in it, and the most besides.
    if held[-1][0] == at:
        return held[bisect_right(held, (at - within,)) :]
    best: list[_Seen] = []
    most = 0
    for begin, each in enumerate(held):
        if each[0] <= at - within:
            continue
        if each[0] > at:
            break
        window = held[begin : bisect_right(held, (each[0] + within,))]
        if (weight := sum(one[1] for one in window)) > most:
            best, most = window, weight
    return best


@dataclass(slots=True)
class Window:
    """What is different in one window, and how many were told already."""

    distinct: Distinct = field(default_factory=Distinct)
    trail: Trail = field(default_factory=Trail)
    told: int = 0

    def add(self, seen: Observation, items: tuple[int, ...]) -> int:
        self.distinct.add(items)
        self.trail.add(seen.position, seen.at, seen.late)
        return self.distinct.count()

    def tells(self, count: int, threshold: float) -> bool:
        """Whether *count* is to be told: at the threshold, and then each time that it has doubled."""
        if count < threshold or count < 2 * self.told:
            return False
        self.told = count
        return True

    def kept(self) -> Any:
        return [self.distinct.kept(), self.trail.kept(), self.told]

    @classmethod
    def again(cls, kept: Any) -> "Window":
        distinct, trail, told = kept
        return cls(Distinct(distinct), Trail.again(trail), told)


class Different(Evaluator):
    """So many different rows, or columns, in a window of the clock."""

    how: ClassVar[How] = How.DISTINCT

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._windows: Groups[Window] = Groups(Window)
        self._quiet: Groups[_Quiet] = Groups(lambda: _Quiet(0.0))
        self._columns: dict[str, int] = {}

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        rule = self.rule
        group = self.group(seen)
        items = seen.rows if rule.what == "rows" else self._hashed(seen)
        window = self._windows.at((*group, str(int(seen.at // rule.within))))
        count = window.add(seen, items)
        if not window.tells(count, rule.threshold):
            return
        finding = self.finding(group, window.trail, seen=seen, found=count)
        if rule.alike:
            # Windows of requests are many: the first of those that are alike is told, and the others together.
            quiet = self._quiet.get(finding.fingerprint)
            if quiet is not None and seen.at < quiet.until:
                quiet.add(seen, 1)
                return
            if quiet is not None:
                yield from self._rest(quiet)
            until = seen.at + rule.within
            said = _Quiet(until, principal=seen.principal, said=finding.summary, group=group)
            self._quiet.set(finding.fingerprint, said)
        yield finding

    def _rest(self, quiet: _Quiet) -> Iterable[Finding]:
        if quiet.weight:
            yield self.finding(
                quiet.group,
                quiet.trail,
                principal=quiet.principal,
                more=quiet.weight,
                said=quiet.said,
                found=quiet.weight,
            )

    def _hashed(self, seen: Observation) -> tuple[int, ...]:
        known = self._columns
        for column in seen.columns:
            if column not in known:
                if len(known) >= _COLUMNS:
                    known.clear()
                known[column] = hashed(column, seen.key)
        return tuple([known[column] for column in seen.columns])

    def passes(self, now: float) -> Iterable[Finding]:
        for key in self._windows.groups():
            if (int(key[-1]) + 1) * self.rule.within + LATENESS < now:
                self._windows.drop(key)
        for same, quiet in self._quiet.items():
            if quiet.until + LATENESS < now:
                self._quiet.drop(same)
                yield from self._rest(quiet)

    def kept(self) -> Any:
        return [self._windows.kept(Window.kept), self._quiet.kept(_Quiet.kept)]

    def restore(self, kept: Any) -> None:
        windows, quiet = kept
        self._windows.restore(windows, Window.again)
        self._quiet.restore(quiet, _Quiet.again)

    @property
    def dropped(self) -> int:
        return self._windows.dropped


@dataclass(slots=True)
class _Searches:
    asked: int = 0
    answered: int = 0
    found: int = 0
    trail: Trail = field(default_factory=Trail)
    looks: dict[str, int] = field(default_factory=dict)

    def kept(self) -> Any:
        return [self.asked, self.answered, self.found, self.trail.kept(), self.looks]

    @classmethod
    def again(cls, kept: Any) -> "_Searches":
        asked, answered, found, trail, looks = kept
        return cls(asked, answered, found, Trail.again(trail), looks)


class Share(Evaluator):
    """
    Few hits for many searches, in a window of the clock; told when the window is over.

    Of searches that have no answer in the log, looks stand for hits: those at the column that was
    looked at most, because whoever reads four columns of a hit found one row.
    """

    how: ClassVar[How] = How.SHARE

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._windows: Groups[_Searches] = Groups(_Searches)

    def may(self, seen: Observation) -> bool:
        return seen.reads or super().may(seen)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        asks = self.about(seen)
        if not asks and not len(self._windows):
            return ()
        key = (*self.group(seen), str(int(seen.at // self.rule.within)))
        if asks:
            window = self._windows.at(key)
            if seen.action == "answer":
                window.answered += seen.number("searches")
                window.found += seen.number("found")
            else:
                window.asked += seen.uses
                window.trail.add(seen.position, seen.at, seen.late)
        elif (held := self._windows.get(key)) is not None and seen.reads:
            held.looks[seen.place] = held.looks.get(seen.place, 0) + seen.uses
        return ()

    def passes(self, now: float) -> Iterable[Finding]:
        rule = self.rule
        for key, window in self._windows.items():
            if (int(key[-1]) + 1) * rule.within + LATENESS >= now:
                continue
            self._windows.drop(key)
            unknown = max(0, window.asked - window.answered)
            found = window.found + min(unknown, max(window.looks.values(), default=0))
            if window.asked >= rule.least and found < rule.threshold * window.asked:
                yield self.finding(
                    key[:-1], window.trail, found=found, searches=window.asked, unknown=unknown
                )

    def kept(self) -> Any:
        return self._windows.kept(_Searches.kept)

    def restore(self, kept: Any) -> None:
        self._windows.restore(kept, _Searches.again)

    @property
    def dropped(self) -> int:
        return self._windows.dropped
