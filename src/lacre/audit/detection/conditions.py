# SPDX-License-Identifier: Apache-2.0
"""
Which entries a rule is about: its `Match` as one function, and the conditions that data does not say.

Does not keep anything between two entries.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter

from lacre.audit.detection.observation import Observation
from lacre.audit.detection.rule import Match, Rule

__all__ = ["TESTS", "grouping", "matches"]


def _reason_among(rule: Rule, seen: Observation) -> bool:
    return str(seen.members.get("reason", "")).casefold() in rule.words


def _no_reason(rule: Rule, seen: Observation) -> bool:
    return not seen.members.get("reason")


def _outside_hours(rule: Rule, seen: Observation) -> bool:
    return rule.hours is not None and not rule.hours.hold(seen.at)


def _not_first_policy(rule: Rule, seen: Observation) -> bool:
    return bool(seen.members.get("before"))


def _widens(rule: Rule, seen: Observation) -> bool:
    return bool(seen.members["widened"])


def _key_moved(rule: Rule, seen: Observation) -> bool:
    # The first version of a key is made by whoever writes first, and opens nothing yet.
    members = seen.members
    version = members.get("version")
    made = seen.action == "key" and version == 1 and members.get("state") in ("pending", "active")
    return not made and members.get("kind") != "subject"


def _honeytoken(rule: Rule, seen: Observation) -> bool:
    return bool(seen.tokens)


TESTS: Mapping[str, Callable[[Rule, Observation], bool]] = {
    "reason-among": _reason_among,
    "no-reason": _no_reason,
    "outside-hours": _outside_hours,
    "not-first-policy": _not_first_policy,
    "widens": _widens,
    "key-moved": _key_moved,
    "honeytoken": _honeytoken,
}


def matches(rule: Rule, match: Match) -> Callable[[Observation], bool]:
    """Return what says of an entry of one of the match's actions whether *rule* is about it."""
    checks: list[Callable[[Observation], bool]] = []
    if match.statuses:
        statuses = frozenset(match.statuses)
        checks.append(lambda seen: seen.status in statuses)
    if match.reads:
        checks.append(attrgetter("reads"))
    if match.actions:
        actions = frozenset(match.actions)
        checks.append(lambda seen: seen.action in actions)
    if match.steps:
        steps = frozenset(match.steps)
        checks.append(lambda seen: seen.step in steps)
    for name, texts in match.has.items():
        checks.append(partial(_has, name, texts))
    checks += [partial(TESTS[name], rule) for name in match.tests]
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        # Most rules: asked of most entries, so without a loop.
        first, second = checks
        return lambda seen: first(seen) and second(seen)
    return lambda seen: all(check(seen) for check in checks)


def _has(name: str, texts: tuple[str, ...], seen: Observation) -> bool:
    return str(seen.members.get(name, "")) in texts


def grouping(by: tuple[str, ...]) -> Callable[[Observation], tuple[str, ...]]:
    """Return what tells an entry from others of its rule: attributes of an `Observation`, or members of the entry."""
    if by == ("principal",):
        return lambda seen: (seen.principal,)
    parts = [
        attrgetter(name) if hasattr(Observation, name) else partial(_member, name) for name in by
    ]
    if len(parts) == 2:
        first, second = parts
        return lambda seen: (first(seen), second(seen))
    return lambda seen: tuple([part(seen) for part in parts])


def _member(name: str, seen: Observation) -> str:
    return str(seen.members.get(name, ""))
