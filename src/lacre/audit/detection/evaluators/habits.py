# SPDX-License-Identifier: Apache-2.0
"""
What is unlike before: a principal's own hours, its colleagues, its classes and purposes, its silence.

Medians and deviations from them, not means: one busy day does not move them. Each learns first, and
says nothing of whom it does not know; what was there while it learned is what it takes for usual.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, ClassVar

from lacre.audit.detection.evaluator import Evaluator, Groups
from lacre.audit.detection.evaluators.windows import Window
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import LATENESS, Observation
from lacre.audit.detection.rule import How, Rule, span
from lacre.audit.detection.sketch import Distinct, Trail

__all__ = ["WHOLE_DAYS", "Baseline", "Dormant", "First", "Hours", "Peers", "limit"]

_HOUR, _DAY = 3600, 86400
_PAST = 168  # active hours that a baseline is made of
_USUAL = 3  # so often in them, and it is usual
_ITEMS = 500  # classes, or purposes of classes, kept for a principal
WHOLE_DAYS = 2  # that peers are compared over at least: on a first morning, shifts differ


def limit(counts: Sequence[int], k: float, least: float) -> tuple[float, float]:
    """
    Return the median of *counts*, and the limit: k times the median deviation above it.

    The deviation counts as a tenth of the median at least: where all are nearly alike, one more is no finding.
    """
    middle = float(median(counts))
    deviation = float(median(abs(each - middle) for each in counts))
    return middle, max(least, middle + k * max(deviation, middle / 10, 1.0))


def _one(seen: Observation) -> Trail:
    trail = Trail()
    trail.add(seen.position, seen.at, seen.late)
    return trail


@dataclass(slots=True)
class _Habit:
    since: float = -1.0
    past: list[int] = field(default_factory=list)
    hours: dict[int, Window] = field(default_factory=dict)

    def kept(self) -> Any:
        hours = [[hour, window.kept()] for hour, window in self.hours.items()]
        return [self.since, self.past, hours]

    @classmethod
    def again(cls, kept: Any) -> "_Habit":
        since, past, hours = kept
        return cls(since, past, {hour: Window.again(window) for hour, window in hours})


class Baseline(Evaluator):
    """
    Different rows in one hour, against the principal's own active hours before.

    What it read in three of them is usual, however far above the median: some hours of a day are
    busier than others. A day is learned at least, for the same reason.
    """

    how: ClassVar[How] = How.BASELINE

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._habits: Groups[_Habit] = Groups(_Habit)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        rule, group = self.rule, self.group(seen)
        habit = self._habits.at(group)
        if habit.since < 0:
            habit.since = seen.at
        self._close(habit, seen.sequenced)
        window = habit.hours.setdefault(int(seen.at // _HOUR), Window())
        count = window.add(seen, seen.rows)
        learned = len(habit.past) >= rule.after and seen.at - habit.since >= _DAY
        if not learned or count < rule.least:
            return
        middle, most = limit(habit.past, rule.threshold, rule.least)
        most = max(most, sorted(habit.past)[-_USUAL:][0])
        if window.tells(count, most + 1):
            yield self.finding(
                group, window.trail, seen=seen, found=count, median=middle, limit=round(most, 1)
            )

    def _close(self, habit: _Habit, now: float) -> None:
        for hour in sorted(habit.hours):
            if (hour + 1) * _HOUR + LATENESS < now:
                habit.past = [*habit.past, habit.hours.pop(hour).distinct.count()][-_PAST:]

    def passes(self, now: float) -> Iterable[Finding]:
        for habit in self._habits.values():
            if habit.hours:
                self._close(habit, now)
        return ()

    def kept(self) -> Any:
        return self._habits.kept(_Habit.kept)

    def restore(self, kept: Any) -> None:
        self._habits.restore(kept, _Habit.again)

    @property
    def dropped(self) -> int:
        return self._habits.dropped


@dataclass(slots=True)
class _Peer:
    roles: str = ""
    days: dict[int, Distinct] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)
    told: int = 0

    def kept(self) -> Any:
        days = [[day, distinct.kept()] for day, distinct in self.days.items()]
        return [self.roles, days, self.trail.kept(), self.told]

    @classmethod
    def again(cls, kept: Any) -> "_Peer":
        roles, days, trail, told = kept
        held = {day: Distinct(distinct) for day, distinct in days}
        return cls(roles, held, Trail.again(trail), told)


class Peers(Evaluator):
    """
    Different rows over whole days of UTC, against all principals of a kind in the same roles; once a day.

    Of a kind is what has the same before the colon of its name: services and people are no colleagues.

    Over the last *within*, two whole days at least; *after* is how many principals it takes.
    """

    how: ClassVar[How] = How.PEERS

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._peers: Groups[_Peer] = Groups(_Peer)
        self._begun = -1
        self._told = -1

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if self.about(seen):
            day = int(seen.at // _DAY)
            peer = self._peers.at((seen.principal,))
            peer.roles = seen.roles
            peer.trail.add(seen.position, seen.at, seen.late)
            peer.days.setdefault(day, Distinct()).add(seen.rows)
            if self._begun < 0:
                self._begun = day
        return ()

    def passes(self, now: float) -> Iterable[Finding]:
        today = int((now - LATENESS) // _DAY)  # what is before it is over
        if today <= self._told:
            return
        self._told = today
        first = today - round(self.rule.within / _DAY)
        teams: dict[str, list[tuple[str, int, _Peer]]] = {}
        for (principal,), peer in self._peers.items():
            for day in [each for each in peer.days if each < first]:
                del peer.days[day]
            if not peer.days:
                self._peers.drop((principal,))
                continue
            whole = [distinct for day, distinct in peer.days.items() if day < today]
            if whole:
                count = Distinct.of_all(whole).count()
                team = f"{principal.partition(':')[0]}: {peer.roles}"
                teams.setdefault(team, []).append((principal, count, peer))
        days = today - max(first, self._begun)
        if days >= WHOLE_DAYS:
            for roles, members in teams.items():
                yield from self._compared(roles, members, days)

    def _compared(
        self, roles: str, team: Sequence[tuple[str, int, _Peer]], days: int
    ) -> Iterable[Finding]:
        rule = self.rule
        if len(team) < rule.after:
            return
        middle, most = limit([count for _, count, _ in team], rule.threshold, rule.least)
        for principal, count, peer in team:
            trail, peer.trail = peer.trail, Trail()
            if count > most:
                yield self.finding(
                    (principal,),
                    trail,
                    principal=principal,
                    found=count,
                    median=middle,
                    limit=round(most, 1),
                    days=days,
                    peers=len(team),
                    roles=roles,
                )

    def kept(self) -> Any:
        return [self._peers.kept(_Peer.kept), self._begun, self._told]

    def restore(self, kept: Any) -> None:
        peers, self._begun, self._told = kept
        self._peers.restore(peers, _Peer.again)

    @property
    def dropped(self) -> int:
        return self._peers.dropped


@dataclass(slots=True)
class _Known:
    since: float = -1.0
    items: list[str] = field(default_factory=list)


class First(Evaluator):
    """A class, or a purpose of one, that a principal never had, once the principal is known."""

    how: ClassVar[How] = How.FIRST

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._known: Groups[_Known] = Groups(_Known)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        rule = self.rule
        group = self.group(seen)
        known = self._known.at(group)
        if known.since < 0:
            known.since = seen.at
        items = seen.purposes if rule.what == "purposes" else seen.classes
        for item in items:
            if item in known.items:
                continue
            known.items = [*known.items, item][-_ITEMS:]
            if seen.at - known.since >= rule.after:
                ago = span(seen.at - known.since)
                yield self.finding((*group, item), _one(seen), seen=seen, item=item, known=ago)

    def kept(self) -> Any:
        return self._known.kept(lambda known: [known.since, known.items])

    def restore(self, kept: Any) -> None:
        self._known.restore(kept, lambda known: _Known(*known))

    @property
    def dropped(self) -> int:
        return self._known.dropped


class Hours(Evaluator):
    """An hour of the day, in UTC, at which a principal never was, nor within one of it."""

    how: ClassVar[How] = How.HOURS

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        # The day it was last seen on, on how many, and at which hours, as bits.
        self._seen: Groups[list[int]] = Groups(lambda: [-1, 0, 0])

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        group = self.group(seen)
        state = self._seen.at(group)
        day, hour = int(seen.at // _DAY), int(seen.at % _DAY // _HOUR)
        near = 1 << hour | 1 << (hour + 1) % 24 | 1 << (hour - 1) % 24
        strange = not state[2] & near and state[1] >= self.rule.after
        days = state[1]
        if day > state[0]:
            state[0], state[1] = day, state[1] + 1
        state[2] |= 1 << hour
        if strange:
            yield self.finding((*group, str(hour)), _one(seen), seen=seen, hour=hour, days=days)

    def kept(self) -> Any:
        return self._seen.kept(list)

    def restore(self, kept: Any) -> None:
        self._seen.restore(kept, list)

    @property
    def dropped(self) -> int:
        return self._seen.dropped


class Dormant(Evaluator):
    """A principal comes back after so long."""

    how: ClassVar[How] = How.DORMANT

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._last: Groups[list[float]] = Groups(lambda: [-1.0])

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if not self.about(seen):
            return
        group = self.group(seen)
        state = self._last.at(group)
        before, state[0] = state[0], max(state[0], seen.at)
        if before >= 0 and seen.at - before >= self.rule.within:
            slept = seen.at - before
            yield self.finding(
                group, _one(seen), seen=seen, found=round(slept), says={"ago": span(slept)}
            )

    def kept(self) -> Any:
        return self._last.kept(list)

    def restore(self, kept: Any) -> None:
        self._last.restore(kept, list)

    @property
    def dropped(self) -> int:
        return self._last.dropped
