# SPDX-License-Identifier: Apache-2.0
"""
One thing and then another: a key changed and rows read, rows read and a file made, a grant and its end.

Does not count within windows alone (`lacre.audit.detection.evaluators.windows`).
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lacre.audit.detection.evaluator import Evaluator, Groups
from lacre.audit.detection.evaluators.windows import Window
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.observation import LATENESS, Observation
from lacre.audit.detection.rule import How, Rule, span
from lacre.audit.detection.sketch import Distinct, Trail

__all__ = ["After", "Before", "Grants", "Widened"]

_RIGHTS = 10_000  # rights in use that are kept


@dataclass(slots=True)
class _Begun:
    at: float = -1.0
    window: Window = field(default_factory=Window)
    uses: int = 0

    def kept(self) -> Any:
        return [self.at, self.window.kept(), self.uses]

    @classmethod
    def again(cls, kept: Any) -> "_Begun":
        at, window, uses = kept
        return cls(at, Window.again(window), uses)


class After(Evaluator):
    """So many rows or uses within the window after a trigger of the same group."""

    how: ClassVar[How] = How.AFTER

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._begun: Groups[_Begun] = Groups(_Begun)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        rule = self.rule
        group = self.group(seen)
        if self.triggers(seen):
            begun = _Begun(seen.at)
            begun.window.trail.add(seen.position, seen.at, seen.late)
            self._begun.set(group, begun)
            return
        held = self._begun.get(group)
        if held is None or not self.about(seen) or not 0 <= seen.at - held.at <= rule.within:
            return
        count = held.window.add(seen, seen.rows)
        held.uses += seen.uses
        found = held.uses if rule.what == "uses" else count
        if held.window.tells(found, rule.threshold):
            ago = span(seen.at - held.at)
            yield self.finding(group, held.window.trail, seen=seen, found=found, says={"ago": ago})

    def passes(self, now: float) -> Iterable[Finding]:
        for group, begun in self._begun.items():
            if begun.at + self.rule.within + LATENESS < now:
                self._begun.drop(group)
        return ()

    def kept(self) -> Any:
        return self._begun.kept(_Begun.kept)

    def restore(self, kept: Any) -> None:
        self._begun.restore(kept, _Begun.again)

    @property
    def dropped(self) -> int:
        return self._begun.dropped


class Before(Evaluator):
    """So many different rows in the window before a trigger of the same group. Windows are made of halves."""

    how: ClassVar[How] = How.BEFORE

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._halves: Groups[dict[int, Window]] = Groups(dict)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        rule = self.rule
        half = rule.within / 2
        group = self.group(seen)
        now = int(seen.at // half)
        if self.about(seen):
            self._halves.at(group).setdefault(now, Window()).add(seen, seen.rows)
        elif self.triggers(seen) and (halves := self._halves.get(group)) is not None:
            some = [window for number, window in sorted(halves.items()) if now - 1 <= number <= now]
            count = Distinct.of_all(window.distinct for window in some).count() if some else 0
            told = max((window.told for window in some), default=0)
            if count < rule.threshold or count < 2 * told:
                return
            trail = Trail()
            for window in some:
                window.told = count
                trail.join(window.trail)
            trail.add(seen.position, seen.at, seen.late)
            yield self.finding(group, trail, seen=seen, found=count)

    def passes(self, now: float) -> Iterable[Finding]:
        half = self.rule.within / 2
        for group, halves in self._halves.items():
            for number in [each for each in halves if (each + 2) * half + LATENESS < now]:
                del halves[number]
            if not halves:
                self._halves.drop(group)
        return ()

    def kept(self) -> Any:
        return self._halves.kept(
            lambda halves: [[number, window.kept()] for number, window in halves.items()]
        )

    def restore(self, kept: Any) -> None:
        self._halves.restore(
            kept, lambda halves: {number: Window.again(window) for number, window in halves}
        )

    @property
    def dropped(self) -> int:
        return self._halves.dropped


class Widened(Evaluator):
    """After a change of the policy, a right (the rule that allowed a look) is used that never was before."""

    how: ClassVar[How] = How.WIDENED

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._used: Groups[list[int]] = Groups(lambda: [1], most=_RIGHTS)
        self._changed: tuple[float, tuple[int, int]] | None = None

    def feed(self, seen: Observation) -> Iterable[Finding]:
        if self.triggers(seen):
            # The first policy that a log hears of widens nothing.
            if seen.members.get("before"):
                self._changed = (seen.at, seen.position)
            return
        if not self.about(seen):
            return
        columns = seen.members.get("columns", ()) if seen.action == "bulk" else (seen.members,)
        rights = dict.fromkeys(
            str(each["rule"]) for each in columns if each.get("outcome") == "allowed"
        )
        for right in rights:
            new = self._used.get(right) is None
            self._used.at(right)
            changed = self._changed
            if new and changed is not None and 0 <= seen.at - changed[0] <= self.rule.within:
                trail = Trail()
                trail.add(changed[1], changed[0], False)
                trail.add(seen.position, seen.at, seen.late)
                ago = span(seen.at - changed[0])
                yield self.finding(
                    (right,), trail, principal=seen.principal, item=right, says={"ago": ago}
                )

    def kept(self) -> Any:
        return [self._used.kept(list), self._changed]

    def restore(self, kept: Any) -> None:
        used, changed = kept
        self._used.restore(used, list)
        self._changed = None if changed is None else (changed[0], (changed[1][0], changed[1][1]))

    @property
    def dropped(self) -> int:
        return self._used.dropped


@dataclass(slots=True)
class _Grant:
    asked: float = -1.0
    by: str = ""
    over: str = ""
    at: list[int] = field(default_factory=list)

    def kept(self) -> Any:
        return [self.asked, self.by, self.over, self.at]


class Grants(Evaluator):
    """What becomes of a grant: used when it is over, approved by whom it is for, approved at once (`what`)."""

    how: ClassVar[How] = How.GRANT

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._grants: Groups[_Grant] = Groups(_Grant)

    def feed(self, seen: Observation) -> Iterable[Finding]:
        rule, members = self.rule, seen.members
        grant = self._grants.at((str(members["grant"]),))
        if seen.step == "requested":
            grant.asked, grant.by, grant.at = seen.at, seen.principal, list(seen.position)
        trail = Trail()
        if grant.at:
            trail.add((grant.at[0], grant.at[1]), grant.asked, False)
        if seen.step in ("revoked", "expired"):
            grant.over = f"was {seen.step}"
        trail.add(seen.position, seen.at, seen.late)
        group = self.group(seen)
        if rule.what == "over" and seen.step == "used":
            if ended := grant.over or _ended(str(members["until"]), seen.at):
                yield self.finding(group, trail, seen=seen, ended=ended)
        elif seen.step == "approved" and rule.what == "self":
            if seen.principal in (grant.by, members["beneficiary"]):
                yield self.finding(group, trail, seen=seen, requested=grant.by)
        elif (
            seen.step == "approved"
            and rule.what == "haste"
            and grant.asked >= 0
            and seen.at - grant.asked < rule.threshold
        ):
            yield self.finding(group, trail, seen=seen, found=round(seen.at - grant.asked))

    def kept(self) -> Any:
        return self._grants.kept(_Grant.kept)

    def restore(self, kept: Any) -> None:
        self._grants.restore(kept, lambda grant: _Grant(*grant))

    @property
    def dropped(self) -> int:
        return self._grants.dropped


def _ended(until: str, at: float) -> str:
    try:
        end = dt.datetime.fromisoformat(until).timestamp()
    except ValueError:
        return ""  # a grant without an end
    return f"ended {span(at - end)} before" if at > end else ""
