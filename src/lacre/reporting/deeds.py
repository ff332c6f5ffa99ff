# SPDX-License-Identifier: Apache-2.0
"""
What the log says was done: erasures, drills, manual controls, anchors, alerts, other policies.

Few entries each, read by their action. Pseudonyms and principals are compared here and not
passed on: a snapshot has none.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from lacre.audit.alerts import Alert, AlertState
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.reader import Filters, Leaf, LogReader

__all__ = ["alert_facts", "anchor_facts", "done_controls", "drill_facts", "entries", "erasure_facts", "policies_in_use", "reconciliation_facts"]  # fmt: skip

_PAGE = 500
_KEPT = 1000  # alerts that a snapshot lists
_EVIDENCE = 20  # positions of each


def entries(reader: LogReader, action: str, since: dt.datetime | None = None, until: dt.datetime | None = None) -> Iterator[Leaf]:  # fmt: skip
    """Yield the entries of *action*, the newest first."""
    filters = Filters(action=action, since=since, until=until)
    before = None
    while found := reader.page(filters, before, _PAGE):
        yield from found
        if len(found) < _PAGE:
            return
        before = found[-1].position


def done_controls(reader: LogReader) -> dict[str, tuple[dt.datetime, str]]:
    """Return when each manual control was done last, and the SHA-256 of its proof."""
    found: dict[str, tuple[dt.datetime, str]] = {}
    for leaf in entries(reader, "control"):
        members = leaf.entry.members
        found.setdefault(str(members["control"]), (leaf.entry.time, str(members["proof"])))
    return found


def drill_facts(reader: LogReader, now: dt.datetime) -> dict[str, object]:
    """Return when a rehearsed restore passed last, and how many days ago."""
    for leaf in entries(reader, "recovery"):
        if leaf.entry.members["step"] == "drilled":
            when = leaf.entry.time
            return {"last": when.date().isoformat(), "days": max((now - when).days, 0)}
    return {"last": None, "days": None}


def anchor_facts(reader: LogReader) -> list[dict[str, object]]:
    """Return of each anchor and month the newest head that was put there."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for leaf in entries(reader, "anchor"):
        members = leaf.entry.members
        where = (str(members["anchor"]), str(members["shard"]))
        one = {"anchor": where[0], "shard": where[1], "size": members["size"], "at": members["time"]}  # fmt: skip
        if where not in found or _number(found[where]["size"]) < _number(members["size"]):
            found[where] = one
    return [found[where] for where in sorted(found)]


def reconciliation_facts(
    reader: LogReader, since: dt.datetime, until: dt.datetime
) -> dict[str, object] | None:
    """Return what the last comparison with key services' logs in the period found; None without one."""
    for leaf in entries(reader, "reconciliation", since, until):
        members = leaf.entry.members
        return {
            "assessed": _number(members["calls"]) + _number(members["unseen"]),
            "passed": _number(members["matched"]),
            "since": members["since"],
            "until": members["until"],
        }
    return None


def policies_in_use(reader: LogReader, since: dt.datetime, until: dt.datetime) -> list[str]:
    """Return the digests of policies that processes began to work by in the period."""
    found = {str(leaf.entry.members["policy"]) for leaf in entries(reader, "policy", since, until)}
    return sorted(found)


def erasure_facts(
    reader: LogReader,
    since: dt.datetime,
    until: dt.datetime,
    *,
    now: dt.datetime,
    within: dt.timedelta,
    certificates: Mapping[str, Mapping[str, Any]],
) -> dict[str, object]:
    """
    Return what became of the shreddings that began in the period.

    Args:
        certificates: the newest certificate of each pseudonym, verified.
    """
    began: dict[str, dt.datetime] = {}
    ended: dict[str, dt.datetime] = {}
    held = 0
    # What began in the period may end after it.
    for leaf in entries(reader, "erasure", since):
        members = leaf.entry.members
        step, subject = members["step"], str(members["subject"])
        if step == "certified":
            ended[subject] = leaf.entry.time
        elif leaf.entry.time < until:
            if step == "shred":
                began[subject] = leaf.entry.time
            held += step == "refused"
    certified = {subject: ended[subject] - when for subject, when in began.items() if subject in ended}  # fmt: skip
    waiting = [now - when for subject, when in began.items() if subject not in ended]
    facts = [_certified(certificates[subject]) for subject in certified if subject in certificates]
    overdue = sum(each > within for each in waiting)
    return {
        "certified": len(certified),
        "open": len(waiting),
        "overdue": overdue,
        "late": overdue + sum(each > within for each in certified.values()),
        "held": held,
        "irrecoverable": sum(each["verdict"] == "irrecoverable" for each in facts),
        "certificates": sorted(facts, key=lambda each: str(each["shredded"]))[-_KEPT:],
    }


def _certified(body: Mapping[str, Any]) -> dict[str, object]:
    # Days from the shredding until nobody can read it; None while nobody can say.
    begun, final = str(body["shredded_at"]), body.get("irrecoverable_at")
    days = None
    if isinstance(final, str):
        days = max((dt.datetime.fromisoformat(final) - dt.datetime.fromisoformat(begun)).days, 0)
    return {
        "certificate": str(body["sha256"]),
        "shredded": begun[:10],
        "verdict": str(body["verdict"]),
        "irrecoverable": final[:10] if isinstance(final, str) else None,
        "days": days,
    }


def alert_facts(
    store: AlertStore,
    since: dt.datetime,
    until: dt.datetime,
    *,
    now: dt.datetime,
    within: dt.timedelta,
) -> list[dict[str, object]]:
    """Return the alerts that were raised in the period, the newest first: rule and evidence, not about whom."""
    facts: list[dict[str, object]] = []
    before: Alert | None = None
    while page := store.list(before=before, limit=_PAGE):
        for alert in page:
            if alert.raised < since:
                return facts
            if alert.raised < until and len(facts) < _KEPT:
                facts.append(_alerted(alert, now=now, within=within))
        before = page[-1]
    return facts


def _alerted(alert: Alert, *, now: dt.datetime, within: dt.timedelta) -> dict[str, object]:
    seen = alert.acknowledged if alert.state is AlertState.ACKNOWLEDGED else None
    return {
        "rule": alert.rule,
        "severity": str(alert.severity),
        "times": alert.times,
        "state": str(alert.state),
        "raised": _text(alert.raised),
        "first": _text(alert.first),
        "last": _text(alert.last),
        "acknowledged": None if seen is None else _text(seen),
        "late": (seen or now) - alert.raised > within,
        "evidence": [list(position) for position in alert.evidence[:_EVIDENCE]],
    }


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _number(found: object) -> int:
    return found if isinstance(found, int) else 0
