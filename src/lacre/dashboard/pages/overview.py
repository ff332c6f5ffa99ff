# SPDX-License-Identifier: Apache-2.0
"""
The overview: what needs somebody's attention, and what there is to look at.

Each figure leads to its page. One that cannot be made says so, and the others are shown.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from lacre.audit.alerts import AlertState
from lacre.audit.detection.finding import Severity
from lacre.dashboard.pages.history import ACCESSES, History, quarters, range_of
from lacre.dashboard.plots import ring, spark
from lacre.dashboard.proving import Outcome, heads
from lacre.dashboard.rendering import Asked, Shown, as_query
from lacre.dashboard.sources import Sources
from lacre.errors import LacreError
from lacre.keys.rotation import Urgency
from lacre.stores.log.counts import Narrowed
from lacre.stores.log.reader import Filters

__all__ = ["show"]

_LISTED = 5
_DAYS = 30


def show(sources: Sources, asked: Asked) -> Shown:
    """Show the overview."""
    due = sources.due()
    columns, wrong = sources.columns()
    urgent = Counter(item.urgency for item in due)
    context: dict[str, Any] = {
        "due": due[:_LISTED],
        "overdue": urgent[Urgency.OVERDUE],
        "waiting": urgent[Urgency.WAITING],
        "soon": urgent[Urgency.SOON],
        "columns": len(columns),
        "encrypted": sum(each.done for each in columns),
        "late": sum(each.overdue for each in columns),
        "wrong": wrong,
        "counted": _counted(sources),
        "logged": sources.log is not None,
    }
    for name, make in (
        ("score", _score),
        ("alerts", _alerts),
        ("log", _log),
        ("uses", partial(_uses, root=asked.root)),
    ):
        context[name] = _tried(make, sources)
    return Shown(template="overview.html", context=context)


def _tried(make: Callable[[Sources], Any], sources: Sources) -> Any:
    if sources.log is None and make is not _score:
        return None
    try:
        return make(sources)
    except LacreError as error:
        return {"error": str(error), "hint": error.hint or ""}


def _counted(sources: Sources) -> dict[str, Any] | None:
    last = None if sources.coverage is None else sources.coverage.last
    if last is None:
        return None
    return {
        "when": last.when,
        "values": sum(each.values for each in last.found),
        "active": sum(each.active for each in last.found),
    }


def _score(sources: Sources) -> dict[str, Any]:
    latest = sources.report()
    if latest is None:
        return {"ring": ring("The score: not assessed", None), "latest": None}
    score = latest.assessment.tenths // 10
    said = f"The score: {score} of 100, {latest.assessment.status.lower()}"
    return {"ring": ring(said, score), "latest": latest}


def _alerts(sources: Sources) -> dict[str, Any]:
    store = sources.alerts
    tally = store.tally()
    return {
        "tally": [(str(each), tally[each]) for each in reversed(Severity) if tally[each]],
        "open": sum(tally.values()),
        "newest": store.list(state=AlertState.OPEN, limit=_LISTED),
    }


def _log(sources: Sources) -> dict[str, Any]:
    newest = sources.reader.newest()
    found = heads(sources.kept(), sources.policy.file)
    broken = any(each.outcome is Outcome.BROKEN for each in found)
    outcome = Outcome.BROKEN if broken else found[0].outcome if found else Outcome.WAITING
    quiet = dt.timedelta(seconds=2 * sources.policy.file.audit.heartbeat)
    # When it was sequenced: what came late through an outbox says nothing of the sequencer.
    heard = (
        None if newest is None else dt.datetime.fromtimestamp(newest.sequenced // 1_000_000, dt.UTC)
    )
    return {
        "newest": heard,
        "silent": heard is not None and sources.now() - heard > quiet,
        "heads": found,
        "outcome": outcome,
        "signed": found[0].size if found else 0,
        "verified": _verified(sources),
    }


def _verified(sources: Sources) -> dict[str, Any] | None:
    # What whoever verified last told the log. Entries are believed as far as who may write them.
    found = sources.reader.page(Filters(action="verification"), limit=1)
    if not found:
        return None
    members = found[0].entry.members
    return {
        "time": found[0].entry.time,
        "by": members["principal"],
        "answers": [(name, members[name]) for name in ("integrity", "completeness", "anchored")],
        "event": f"{found[0].shard}/{found[0].seq}",
    }


def _uses(sources: Sources, *, root: str) -> dict[str, Any]:
    narrowed = Narrowed(actions=ACCESSES)
    month, week = (range_of(name, sources.now()) for name in ("30d", "7d"))
    history = History.of(sources.counts, quarters(month), narrowed, "status")
    counted = history.counted["status"]
    whole = [sum(each) for each in zip(*counted.values(), strict=True)]
    days = [sum(whole[number : number + 4]) for number in range(0, len(whole), 4)]
    total, refused = sum(days), sum(counted.get("prevented", ()))

    def href(begin: dt.datetime, end: dt.datetime) -> str:
        return f"{root}/accesses" + as_query({}, since=f"{begin:%Y-%m-%dT%H:%M}", until=f"{end:%Y-%m-%dT%H:%M}")  # fmt: skip

    return {
        "spark": spark(f"Accesses on each of the last {_DAYS} days: {total:,} in all, {refused:,} prevented", days),
        "total": total,
        "refused": refused,
        "plot": history.within(week).plot("status", href),
    }  # fmt: skip
