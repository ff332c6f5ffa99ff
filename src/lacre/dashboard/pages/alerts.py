# SPDX-License-Identifier: Apache-2.0
"""
Alerts: those that are open, what each stands on, and that somebody has seen to it.

To acknowledge is the only thing that the dashboard writes; `AlertStore` records who did.
"""

import json

from lacre.audit.alerts import Alert, AlertState
from lacre.audit.detection.finding import Severity
from lacre.audit.leaves import Position
from lacre.dashboard.pages.accesses import Line
from lacre.dashboard.rendering import Asked, Shown, Unusable
from lacre.dashboard.sources import Sources
from lacre.errors import MisuseError

__all__ = ["acknowledge", "listed", "one"]

_AT_ONCE = 50
_EVIDENCE = 25  # leaves of an alert that are shown
_STATES = {"open": AlertState.OPEN, "acknowledged": AlertState.ACKNOWLEDGED, "all": None}


def listed(sources: Sources, asked: Asked) -> Shown:
    """Show alerts, the newest first."""
    store = sources.alerts
    tally = store.tally()
    state = asked.among("state", _STATES, "open")
    before = asked.text("before")
    found = store.list(
        state=_STATES[state],
        before=None if before is None else _found(sources, before),
        limit=_AT_ONCE + 1,
    )
    return Shown(
        template="alerts.html",
        context={
            "alerts": found[:_AT_ONCE],
            "state": state,
            "states": list(_STATES),
            "older": found[_AT_ONCE - 1].id if len(found) > _AT_ONCE else "",
            "first": before is None,
            "tally": [(str(each), tally[each]) for each in reversed(Severity)],
        },
    )


def one(sources: Sources, asked: Asked) -> Shown:
    """Show one alert, and the events that it stands on."""
    return _one(sources, _found(sources, asked.path["id"]))


def acknowledge(sources: Sources, asked: Asked) -> Shown:
    """Acknowledge an alert, as the operator who runs the dashboard."""
    alert = _found(sources, asked.path["id"])
    try:
        with sources.acting():
            sources.alerts.acknowledge(alert.id, note=asked.form.get("note", "").strip()[:1000])
    except MisuseError as error:  # of two who do at once, one is told
        return _one(sources, _found(sources, alert.id), wrong=str(error), status=409)
    return Shown(leads=f"/alerts/{alert.id}")


def _one(sources: Sources, alert: Alert, *, wrong: str = "", status: int = 200) -> Shown:
    reader = sources.reader
    leaves = [reader.leaf(Position(*place)) for place in alert.evidence[:_EVIDENCE]]
    facts = [(name, _said(value)) for name, value in sorted(alert.facts.items())]
    return Shown(
        template="alert.html",
        context={
            "alert": alert,
            "lines": [Line(leaf) for leaf in leaves if leaf is not None],
            "gone": sum(leaf is None for leaf in leaves),
            "more": max(len(alert.evidence) - _EVIDENCE, 0),
            "facts": facts,
            "open": alert.state is AlertState.OPEN,
            "wrong": wrong,
        },
        status=status,
    )


def _found(sources: Sources, id_: str) -> Alert:
    try:
        return sources.alerts.get(id_)
    except MisuseError:
        raise Unusable("There is no alert of this id.", status=404) from None


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
