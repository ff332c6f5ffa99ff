# SPDX-License-Identifier: Apache-2.0
"""
Rules in words: what each counts, and the page of all of them.

`docs/reference/detection-rules.md` is that page; a test compares. Does not evaluate.
"""

from collections.abc import Callable, Iterable, Mapping

from lacre.audit.detection.rule import How, Rule, span
from lacre.audit.detection.rules import RULES

__all__ = ["measure", "page"]


def _number(number: float) -> str:
    return f"{number:,g}"


def _share(rule: Rule) -> str:
    return f"{_number(rule.least)} searches or more in {span(rule.within)} of the clock, of which fewer than {_number(rule.threshold * 100)} % found something"


_WHAT = {"uses": "uses or values", "rows": "different rows or subjects", "columns": "different columns", "events": "events"}  # fmt: skip
_GRANTS: Mapping[str, Callable[[Rule], str]] = {
    "over": lambda rule: "each use after `until`, or after it was revoked",
    "self": lambda rule: "each approval by who asked or benefits",
    "haste": lambda rule: f"each approval less than {_number(rule.threshold)} s after the request",
}

_MEASURES: Mapping[How, Callable[[Rule], str]] = {
    How.EACH: lambda rule: f"each; what follows within {span(rule.within)} is told together",
    How.SUM: lambda rule: f"{_number(rule.threshold)} {_WHAT[rule.what]} within any {span(rule.within)}",
    How.DISTINCT: lambda rule: f"{_number(rule.threshold)} {_WHAT[rule.what]} in {span(rule.within)} of the clock",
    How.BASELINE: lambda rule: f"more rows in an hour than the median of its own active hours + {_number(rule.threshold)} × MAD, more than in the third of its busiest hours, and {_number(rule.least)} at least; after a day, and {_number(rule.after)} active hours",
    How.PEERS: lambda rule: f"more rows in {span(rule.within)} than the median of its kind and roles + {_number(rule.threshold)} × MAD, and {_number(rule.least)} at least; of {_number(rule.after)} principals or more, once a day, over whole days, two at least",
    How.FIRST: lambda rule: f"each, once a principal is known for {span(rule.after)}",
    How.HOURS: lambda rule: f"each hour of the day in UTC, if it never was within one hour of it; after {_number(rule.after)} days on which it read",
    How.DORMANT: lambda rule: f"each return after {span(rule.within)}",
    How.SHARE: _share,
    How.AFTER: lambda rule: f"{_number(rule.threshold)} {_WHAT[rule.what]} within {span(rule.within)} after it",
    How.BEFORE: lambda rule: f"{_number(rule.threshold)} {_WHAT[rule.what]} within {span(rule.within)} before it",
    How.WIDENED: lambda rule: f"each right that is used for the first time within {span(rule.within)} after a change",
    How.GRANT: lambda rule: _GRANTS[rule.what](rule),
    How.SILENCE: lambda rule: f"more than {_number(rule.threshold)} s between two leaves, or since the last; three heartbeats of `[audit]`",
    How.SKEW: lambda rule: f"{_number(rule.threshold)} s after the moment of sequencing, or {span(rule.least)} before",
    How.NUMBERS: lambda rule: f"each number that has not come {span(rule.within)} after a higher one",
    How.CARRIED: lambda rule: "each; found by another command",
}  # fmt: skip


def measure(rule: Rule) -> str:
    """Return what is a finding of *rule*, in words."""
    return _MEASURES[rule.how](rule)


def page(rules: Iterable[Rule] = tuple(RULES.values())) -> str:
    """Return the rules as Markdown: a table, and a section of each."""
    some = list(rules)
    lines = ["| rule | severity | what is a finding |", "|---|---|---|"]
    lines += [
        f"| [`{rule.id}`](#{rule.id}) {rule.title.lower()} | {rule.severity} | {measure(rule)} |"
        for rule in some
    ]
    for rule in some:
        alike = " and ".join(f"`{name}`" for name in rule.by) or "the log"
        lines += [
            "",
            f"## {rule.id}",
            "",
            f"{rule.title}.",
            "",
            f"* **Finding**: {measure(rule)}.",
            f"* **Counted for each**: {alike}.",
            f"* **May mean**: {rule.means}",
            f"* **Do first**: {rule.do}",
            f"* **Gets past it**: {rule.misses}",
            f"* **Severity**: {rule.severity}. **Source**: {rule.source}.",
        ]
    return "\n".join(lines) + "\n"
