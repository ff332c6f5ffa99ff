# SPDX-License-Identifier: Apache-2.0
"""
The uses of values in a period, counted: by day, field, class, outcome, purpose.

From the log's tallies, a day at a time, so that a period of millions of entries costs little
memory. Names of principals are counted and forgotten here: a snapshot has none.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection

from lacre.stores.log.counting import masked_by_day
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader

__all__ = ["USES", "access_facts"]

# What counts as the use of a value. Jobs of the operator (`reencrypt`, `protect`) are none.
USES = frozenset({"look", "legacy-look", "bulk", "search", "candidates", "encrypt"})
_SEARCHES = frozenset({"search", "candidates"})
_KEPT = 200  # fields and purposes that are named; the others are one line


def access_facts(
    log: AuditLog, since: dt.datetime, until: dt.datetime, purposes: Collection[str] | None
) -> dict[str, object]:
    """Return what a snapshot says of the uses from *since*, a midnight, to *until*."""
    reader = LogReader(log)
    people: set[str] = set()
    fields: dict[tuple[str, str], list[int]] = {}
    days: dict[dt.date, Counter[str]] = {}
    by: dict[str, Counter[str]] = {
        name: Counter() for name in ("action", "status", "class", "purpose")
    }
    entries = values = searches = unlisted = events = 0
    masks = masked_by_day(log, since, until)
    begin = since
    while begin < until:
        end = min(begin + dt.timedelta(days=1), until)
        day = days[begin.date()] = Counter()
        for tally in reader.tallies(begin, end):
            events += tally.events
            if tally.action not in USES:
                continue
            entries += tally.events
            values += tally.count
            people.add(tally.principal)
            day[tally.status] += tally.events
            by["action"][tally.action] += tally.events
            by["status"][tally.status] += tally.events
            by["class"][tally.class_ or "several"] += tally.events
            by["purpose"][tally.purpose] += tally.events
            place = fields.setdefault((tally.place or "several", tally.class_ or "several"), [0, 0])
            place[0] += tally.events
            place[1] += tally.count
            if tally.action in _SEARCHES:
                searches += tally.events
            if purposes is not None and tally.purpose not in purposes:
                unlisted += tally.events
        begin = end
    masked = sum(masks.values())
    return {
        "events": events,
        "entries": entries,
        "values": values,
        "principals": len(people),
        "searches": searches,
        "denied": by["status"]["prevented"],
        "failed": by["status"]["failed"],
        "masked": masked,
        "unlisted": unlisted,
        "fields": _fields(fields),
        "days": [_day(date, found, masks.get(date, 0)) for date, found in sorted(days.items())],
        "actions": _most(by["action"]),
        "statuses": _most(by["status"]),
        "classes": _most(by["class"]),
        "purposes": _most(by["purpose"]),
    }


def _day(date: dt.date, found: Counter[str], masked: int) -> list[object]:
    # Date, allowed, masked, denied, failed. A mask is within the policy, and no plaintext.
    good = found["compliant"] + found["transitional"]
    return [date.isoformat(), max(good - masked, 0), masked, found["prevented"], found["failed"]]


def _most(counted: Counter[str]) -> list[list[object]]:
    order = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(number for _, number in order[_KEPT:])
    return [[name, number] for name, number in order[:_KEPT]] + ([["others", rest]] if rest else [])


def _fields(found: dict[tuple[str, str], list[int]]) -> list[list[object]]:
    order = sorted(found.items(), key=lambda each: (-each[1][0], each[0]))
    shown: list[list[object]] = [[place, class_, *numbers] for (place, class_), numbers in order[:_KEPT]]  # fmt: skip
    rest = order[_KEPT:]
    if rest:
        shown.append(["others", "several", sum(n[0] for _, n in rest), sum(n[1] for _, n in rest)])
    return shown
