# SPDX-License-Identifier: Apache-2.0
"""
What evaluators share: groups in bounded number, and findings in words.

An evaluator is given the entries of its rule one by one, and told now and then how late it is.
Everything it remembers is JSON, given back by `kept` and taken by `restore`.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from lacre.audit.detection.conditions import grouping, matches
from lacre.audit.detection.finding import Finding, fingerprint
from lacre.audit.detection.observation import Observation
from lacre.audit.detection.rule import How, Rule, span
from lacre.audit.detection.sketch import Trail

__all__ = ["GROUPS", "Evaluator", "Group", "Groups", "moment"]

GROUPS = 20_000  # groups that a rule keeps at most: the ones seen longest ago are forgotten first

Group = tuple[str, ...]
T = TypeVar("T")


class Groups(Generic[T]):
    """State by group: at most *most* of them, those touched longest ago are dropped and counted."""

    def __init__(self, make: Callable[[], T], most: int = GROUPS) -> None:
        self._make = make
        self._most = most
        self._held: dict[Any, T] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._held)

    def at(self, group: Any) -> T:
        """Return the state of *group*, a new one if it has none."""
        held = self._held
        found = held.pop(group, None)
        if found is None:
            found = self._make()
            if len(held) >= self._most:
                del held[next(iter(held))]
                self.dropped += 1
        held[group] = found
        return found

    def get(self, group: Any) -> T | None:
        return self._held.get(group)

    def set(self, group: Any, state: T) -> None:
        self.at(group)
        self._held[group] = state

    def drop(self, group: Any) -> None:
        self._held.pop(group, None)

    def groups(self) -> list[Any]:
        return list(self._held)

    def values(self) -> list[T]:
        return list(self._held.values())

    def items(self) -> list[tuple[Any, T]]:
        return list(self._held.items())

    def kept(self, keep: Callable[[T], Any]) -> list[Any]:
        return [self.dropped, [[group, keep(state)] for group, state in self._held.items()]]

    def restore(self, kept: Any, again: Callable[[Any], T]) -> None:
        self.dropped, held = kept
        self._held = {
            tuple(group) if isinstance(group, list) else group: again(state)
            for group, state in held
        }


class Evaluator:
    """Evaluates one rule. *how* says which rules it can."""

    how: ClassVar[How]

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.about = matches(rule, rule.of)
        self.group = grouping(rule.by)
        self.triggers = (
            matches(rule, rule.trigger) if rule.trigger is not None else lambda seen: False
        )

    def may(self, seen: Observation) -> bool:
        """
        Return whether entries such as *seen* concern it.

        Decided once for all of one action, status and kind (whether values left, whether a planted
        row was touched); of whatever else they say, `feed` decides.
        """
        return any(
            (not match.actions or seen.action in match.actions)
            and (not match.statuses or seen.status in match.statuses)
            and (not match.reads or seen.reads)
            and ("honeytoken" not in match.tests or bool(seen.tokens))
            for match in (self.rule.of, self.rule.trigger)
            if match is not None
        )

    def feed(self, seen: Observation) -> Iterable[Finding]:
        """Take one entry of those actions."""
        raise NotImplementedError

    def passes(self, now: float) -> Iterable[Finding]:
        """Time goes by: nothing that counts before `LATENESS` ago will come any more."""
        return ()

    def kept(self) -> Any:
        """Everything that is remembered, as JSON."""
        return None

    def restore(self, kept: Any) -> None:
        """Remember what `kept` gave."""

    @property
    def dropped(self) -> int:
        """How many groups were forgotten because there were too many."""
        return 0

    def finding(
        self,
        group: Group,
        trail: Trail,
        *,
        seen: Observation | None = None,
        principal: str | None = None,
        says: Mapping[str, object] | None = None,
        more: int = 0,
        said: str = "",
        **facts: object,
    ) -> Finding:
        """
        Return the finding about *group* that *trail* is the evidence of.

        Args:
            more: how many more there were of what the summary *said* before.
        """
        rule = self.rule
        named = dict(zip(rule.by, group, strict=False))
        if principal is None:
            principal = named.get("principal") or (seen.principal if seen is not None else "")
        words: dict[str, object] = {
            "threshold": f"{rule.threshold:,g}",
            "window": span(rule.within),
            **({} if seen is None else _said(seen)),
            **named,
            **facts,
            **(says or {}),
            "principal": principal or "somebody",
        }
        summary = f"{more:,} more: {said}" if more else rule.says.format_map(_Words(words))
        same = tuple(named[name] for name in rule.alike) if rule.alike else group
        return Finding(
            rule=rule.id,
            severity=rule.severity,
            principal=principal,
            fingerprint=fingerprint(rule.id, *same),
            first=moment(trail.first),
            last=moment(trail.last),
            summary=summary,
            facts={
                "title": rule.title,
                "threshold": rule.threshold,
                "within": rule.within,
                **({"least": rule.least} if rule.least else {}),
                "group": named,
                **facts,
                "events": trail.events,
                **({"late": trail.late} if trail.late else {}),
            },
            evidence=trail.positions(),
        )


class _Words(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"

    def __getitem__(self, key: str) -> str:
        found = super().__getitem__(key) if key in self else "?"
        text = f"{found:,}" if isinstance(found, int) else str(found)
        # What applications wrote is shown, never obeyed.
        return "".join(c if c.isprintable() else "\ufffd" for c in text[:200])


def _said(seen: Observation) -> dict[str, object]:
    clock = dt.datetime.fromtimestamp(seen.at, dt.UTC).strftime("%H:%M")
    gained = seen.members.get("widened") or ()
    return {
        **{name: str(each) for name, each in seen.members.items() if isinstance(each, str | int)},
        "widened": "; ".join(map(str, gained)),
        "table": seen.table,
        "place": seen.place,
        "clock": clock,
    }


def moment(time: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(time, dt.UTC)
