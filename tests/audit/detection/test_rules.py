# SPDX-License-Identifier: Apache-2.0
"""Each rule: a story in which it fires, and one close to it in which it must not."""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from lacre.audit.detection.engine import Detector
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.rule import Hours, How
from lacre.audit.detection.rules import RULES
from lacre.audit.event import Event, Outcome
from lacre.audit.leaves import Leaf
from tests.audit.detection.entries import (
    DAY,
    HOUR,
    MINUTE,
    answer,
    budget,
    bulk,
    grant,
    heartbeat,
    key,
    leaves,
    look,
    policy,
    protection,
    rewrap,
    search,
    secret,
    sequencing,
)

Story = Callable[[], Iterable[Event] | list[Leaf]]


def days_of(count: int, rows: int, *, principal: str = "user:ana", extra: int = 0) -> list[Event]:
    """So many days of eight hours, so many other rows an hour."""
    seen = iter(range(abs(hash_of(principal)), 10**9))
    return [
        look(day * DAY + (9 + hour) * HOUR, [next(seen) for _ in range(rows + extra)], principal=principal)
        for day in range(count)
        for hour in range(8)
    ]  # fmt: skip


def hash_of(principal: str) -> int:
    return sum(map(ord, principal)) * 1000


def team(extra: int, size: int = 6) -> list[Event]:
    """A team of which each reads 10 rows an hour for three days; one of it *extra* more; and somebody who wakes on the fourth."""
    events = [event for n in range(size - 1) for event in days_of(3, 10, principal=f"user:{n}")]
    events += days_of(3, 10, principal="user:eve", extra=extra)
    return [*sorted(events, key=lambda event: event.time), look(3 * DAY + HOUR, [1])]


def hours_of(count: int, hour: int) -> list[Event]:
    return [look(day * DAY + hour * HOUR) for day in range(count)]


WORKING = Hours(days=frozenset(range(5)), begin=dt.time(8), end=dt.time(18), zone=dt.UTC)

# The rule, what fires it, and what must not.
STORIES: dict[str, tuple[Story, Story]] = {
    "bulk-access": (lambda: [bulk(0)], lambda: [look(0)]),
    "over-budget": (lambda: [bulk(0, step="over-budget")], lambda: [bulk(0)]),
    "many-rows": (
        lambda: [look(n, range(n * 10, n * 10 + 10)) for n in range(120)],
        lambda: [look(n, range(n % 90 * 10, n % 90 * 10 + 10)) for n in range(500)],
    ),
    "own-baseline": (
        lambda: [*days_of(1, 10), look(DAY + 9 * HOUR, range(50))],
        lambda: [*days_of(1, 40), look(DAY + 9 * HOUR, range(50))],
    ),
    "slow-drip": (lambda: team(extra=14), lambda: team(extra=3)),
    "many-fields": (
        lambda: [look(n, column=f"c{n}", origin={"correlation": "r1"}) for n in range(6)],
        lambda: [look(n, column=f"c{n}", origin={"correlation": f"r{n // 5}"}) for n in range(30)],
    ),
    "automated-process": (
        lambda: [look(0, origin={"reason": "AUTOMATED_PROCESS"})],
        lambda: [look(0, origin={"reason": "TICKET-7"})],
    ),
    "first-access": (
        lambda: [look(0), look(2 * DAY, class_="banking")],
        lambda: [look(0), look(HOUR, class_="banking"), look(2 * DAY, class_="banking")],
    ),
    "new-purpose": (
        lambda: [look(0), look(2 * DAY, purpose="marketing")],
        lambda: [look(0), look(2 * DAY), look(2 * DAY, purpose="marketing", outcome=Outcome.DENIED)],
    ),
    "outside-hours": (lambda: [look(3 * HOUR)], lambda: [look(9 * HOUR)]),
    "unusual-hour": (
        lambda: [*hours_of(10, 9), look(10 * DAY + 3 * HOUR)],
        lambda: [*hours_of(10, 9), look(10 * DAY + 10 * HOUR), *hours_of(5, 10)],
    ),
    "search-misses": (
        lambda: [each for n in range(60) for each in (search(n), answer(n, n % 4 == 0), look(n, [n]))] + [look(3 * HOUR)],
        lambda: [each for n in range(60) for each in (search(n), answer(n))] + [look(3 * HOUR)],
    ),
    "many-searches": (
        lambda: [search(n) for n in range(500)],
        lambda: [search(n * 60) for n in range(500)],
    ),
    "failure-burst": (
        lambda: [look(n, outcome=Outcome.FAILED) for n in range(5)],
        lambda: [look(n * HOUR, outcome=Outcome.FAILED) for n in range(9)],
    ),
    "denied-burst": (
        lambda: [look(n, outcome=Outcome.DENIED) for n in range(20)],
        lambda: [look(n * MINUTE, outcome=Outcome.DENIED) for n in range(40)],
    ),
    "looks-then-bulk": (
        lambda: [look(0, range(120)), bulk(HOUR, principal="user:ana")],
        lambda: [look(0, range(120)), bulk(HOUR, principal="user:rui"), bulk(9 * HOUR, principal="user:ana")],
    ),
    "legacy-after-cutover": (
        lambda: [protection(0, "encrypted"), look(HOUR, legacy=True)],
        lambda: [look(0, legacy=True), protection(HOUR, "dual"), look(2 * HOUR, legacy=True), protection(3 * HOUR, "encrypted")],
    ),
    "dormant-account": (
        lambda: [look(0), look(31 * DAY)],
        lambda: [look(0), look(20 * DAY), look(40 * DAY)],
    ),
    "stale-key": (lambda: [look(0, cache="stale")], lambda: [look(0, cache="fetched")]),
    "honeytoken-touched": (lambda: [search(0), answer(0, rows=[666])], lambda: [search(0), answer(0, rows=[667]), look(0, [667])]),
    "grant-over": (
        lambda: [grant(8 * DAY, "used", "user:rui")],
        lambda: [grant(0, "used", "user:rui"), grant(9 * DAY, "requested", "user:rui")],
    ),
    "breakglass-granted": (
        lambda: [grant(0, "executed", "user:ana", breakglass=True)],
        lambda: [grant(0, "executed", "user:ana"), grant(9, "approved", "user:ana", breakglass=True)],
    ),
    "breakglass-without-ticket": (
        lambda: [grant(0, "used", "user:rui", breakglass=True)],
        lambda: [grant(0, "used", "user:rui", breakglass=True, reason="INC-9"), grant(9, "used", "user:rui")],
    ),
    "self-approval": (
        lambda: [grant(0, "requested", "user:ana"), grant(HOUR, "approved", "user:rui")],
        lambda: [grant(0, "requested", "user:rui"), grant(HOUR, "approved", "user:ana")],
    ),
    "hasty-approval": (
        lambda: [grant(0, "requested", "user:rui"), grant(5, "approved", "user:ana")],
        lambda: [grant(0, "requested", "user:rui"), grant(MINUTE, "approved", "user:ana")],
    ),
    "key-change-then-bulk": (
        lambda: [rewrap(0, "user:ana"), look(MINUTE, range(120))],
        lambda: [key(0, version=1, principal="user:ana"), rewrap(0), look(MINUTE, range(120))],
    ),
    "key-destruction-burst": (
        lambda: [key(n, state="destroyed") for n in range(20)],
        lambda: [key(n, state="decrypt_only") for n in range(99)],
    ),
    "policy-changed": (lambda: [policy(0)], lambda: [policy(0, before="")]),
    "policy-widened": (
        lambda: [policy(0, "aa" * 32, "classes.pii.rights.guest: decrypt")],
        lambda: [policy(0, ""), policy(HOUR), policy(2 * DAY)],
    ),
    "new-right": (
        lambda: [look(0), policy(HOUR), look(2 * HOUR, rule="classes.pii.rights.guest: decrypt")],
        lambda: [look(0), policy(HOUR), look(2 * HOUR), look(3 * DAY, rule="classes.pii.rights.guest: decrypt")],
    ),
    "unprotected": (lambda: [protection(0, "plaintext")], lambda: [protection(0, "dual")]),
    "secret-burst": (
        lambda: [secret(n) for n in range(100)],
        lambda: [secret(n * 10) for n in range(100)],
    ),
    "budget-spent": (lambda: [budget(0)], lambda: [look(0)]),
    "log-silent": (
        lambda: [heartbeat(0), heartbeat(10 * MINUTE)],
        lambda: [heartbeat(0), heartbeat(MINUTE), sequencing(2 * MINUTE, "rested"), sequencing(HOUR, "began")],
    ),
    "sequencer-lost": (lambda: [sequencing(0, "took-over")], lambda: [sequencing(0, "began")]),
    "clock-skew": (
        lambda: leaves([look(0)], late=-5 * MINUTE),
        lambda: leaves([look(0)], late=12 * HOUR),
    ),
    "missing-events": (
        lambda: leaves([look(0), look(1), look(HOUR)], writer="ab" * 16, numbers=[1, 4, 5]),
        lambda: leaves([look(0), look(1), look(2), look(HOUR)], writer="ab" * 16, numbers=[1, 3, 2, 4]),
    ),
}  # fmt: skip

# What is counted of searches whose answers are not in the log, and of one statement that asks for many.
SEARCHES: dict[str, tuple[Story, int]] = {
    "few looks": (lambda: [*(search(n) for n in range(60)), look(70, range(9))], 1),
    "a look each": (lambda: [each for n in range(60) for each in (search(n), look(n, [n]))], 0),
    "looks for what was missed": (lambda: [*(each for n in range(60) for each in (search(n), answer(n, 0))), look(70, range(60))], 1),
    "one list, few hits": (lambda: [*(search(n) for n in range(60)), answer(61, 5, searches=60), look(70, range(60))], 1),
    "one list, many hits": (lambda: [*(search(n) for n in range(60)), answer(61, 30, searches=60), answer(62, 20, searches=0)], 0),
}  # fmt: skip

EVALUATED = [rule for rule in RULES.values() if rule.how is not How.CARRIED]


def findings(name: str, story: Iterable[Event] | list[Leaf]) -> list[Finding]:
    rule = replace(RULES[name], hours=WORKING)
    given = list(story)
    log = given if given and isinstance(given[0], Leaf) else leaves(given)  # type: ignore[arg-type]
    detector = Detector([rule], key=b"k" * 16, honeytokens=lambda entry: ["t1"] if "666" in entry.members.get("rows", ()) else [])  # fmt: skip
    return [finding for leaf in log for finding in detector.feed(leaf)]  # type: ignore[arg-type]


def test_every_rule_has_its_two_stories() -> None:
    """A rule that is evaluated has a story in which it fires and one in which it does not."""
    assert set(STORIES) == {rule.id for rule in EVALUATED}


@pytest.mark.parametrize("name", STORIES)
def test_a_rule_fires_where_it_should(name: str) -> None:
    """A finding says its rule, its threshold and what was found, in words, and where in the log."""
    rule = RULES[name]
    some = findings(name, STORIES[name][0]())

    assert {finding.rule for finding in some} == {name}
    finding: Any = some[0]
    assert finding.facts["threshold"] == rule.threshold
    assert finding.facts["title"] == rule.title
    assert finding.evidence
    assert finding.first <= finding.last
    assert "{" not in finding.summary
    assert "?" not in finding.summary


@pytest.mark.parametrize("name", STORIES)
def test_a_rule_is_quiet_where_it_should_be(name: str) -> None:
    """A story that is close to the finding is none."""
    assert findings(name, STORIES[name][1]()) == []


def test_a_policy_that_widens_says_what() -> None:
    """The finding quotes what the policy gives now."""
    (finding,) = findings("policy-widened", STORIES["policy-widened"][0]())

    assert finding.summary.endswith("did not: classes.pii.rights.guest: decrypt")


@pytest.mark.parametrize("name", SEARCHES)
def test_hits_are_counted_where_they_are_known(name: str) -> None:
    """Answers say what was found; looks stand for hits only of searches that have none in the log."""
    story, count = SEARCHES[name]

    assert len(findings("search-misses", [*story(), look(3 * HOUR)])) == count  # type: ignore[list-item]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_says_what_a_reader_needs(rule: Any) -> None:
    """Every rule says where it is from, what it may mean, what to do first and what gets past it."""
    assert all([rule.title, rule.source, rule.means, rule.do, rule.misses, rule.says])
    assert rule.misses.endswith(".")
