# SPDX-License-Identifier: Apache-2.0
"""
The access explorer: filter, page on, follow a correlation id, and see one event with its proof.

Reads the log by `LogReader`; what it is asked is checked first. Verifies one leaf's inclusion;
`lacre audit verify` verifies the log.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from lacre.audit.entries import CATALOGUE
from lacre.audit.event import Status
from lacre.audit.leaves import Leaf, Position, shard_name
from lacre.dashboard.pages.history import ACCESSES, RANGES, History, range_of
from lacre.dashboard.proving import prove
from lacre.dashboard.rendering import Asked, Shown, Unusable, as_query
from lacre.dashboard.sources import Sources
from lacre.kms.signing import believed
from lacre.stores.log.counts import Dimension, Narrowed
from lacre.stores.log.proving import prove_event
from lacre.stores.log.reader import Filters

__all__ = ["Line", "explore", "one", "proof", "trail"]

_AT_ONCE = 50
_SEVERAL = dt.timedelta(days=7)
_BY = {"status": "outcome", "principal": "principal", "class": "class"}
_PEOPLE = 50  # that the form offers
_TRAIL = 200  # events of one correlation id that are shown
# Of these there is one a minute while nothing else happens. Whoever asks for them sees them.
_IDLE = frozenset({"heartbeat"})
# Who, what, why; then where from; last what programs want. What is not named is in the middle.
_ORDER = (
    "time", "action", "step", "status", "outcome", "rule", "principal", "roles", "purpose", "reason",
    "store", "table", "column", "columns", "class", "index", "count", "rows", "subjects", "subject",
    "key", "kind", "version", "state", "cache", "hits",
    "correlation", "ip", "agent", "tenant", "app", "env", "service", "code", "success", "id", "writer", "number",
)  # fmt: skip
_TEXTS = ("principal", "place", "tenant", "correlation", "resource")
_FORMS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


class Line:
    """One leaf, as a table shows it."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf

    def __getattr__(self, name: str) -> Any:
        return self.leaf.entry.members.get(name, "")

    @property
    def when(self) -> dt.datetime:
        return self.leaf.entry.time

    @property
    def position(self) -> str:
        return f"{self.leaf.shard}-{self.leaf.seq}"

    @property
    def path(self) -> str:
        return f"/accesses/{self.leaf.shard}/{self.leaf.seq}"

    @property
    def what(self) -> str:
        """Where it happened, or what it was about, in as few words as there are."""
        said = self.leaf.entry.members
        if "table" in said:
            columns = said.get("columns")
            named = [str(each.get("column", "")) for each in columns if isinstance(each, dict)] if isinstance(columns, list) else []  # fmt: skip
            column = said.get("column") or ", ".join(named)
            return ".".join(str(part) for part in (said["table"], column) if part)
        for name in ("rule", "grant", "anchor", "token", "secret", "shard", "step"):
            if said.get(name):
                return str(said[name])
        return " ".join(str(said[name]) for name in ("class", "kind", "state") if said.get(name))


def explore(sources: Sources, asked: Asked) -> Shown:
    """Show accesses, the newest first, and plots of what there was."""
    now = sources.now()
    filters = _filters(asked)
    before = _position(asked.text("before"))
    found = sources.reader.page(filters, before=before, limit=_AT_ONCE + 1)
    lines = [Line(leaf) for leaf in found[:_AT_ONCE]]
    name = asked.among("range", RANGES, "7d")
    span = range_of(name, now)
    by = asked.among("by", _BY, "status")
    kept = {each: asked.text(each) for each in (*_TEXTS, "since", "until", "action", "status", "class")}  # fmt: skip
    counted = not (filters.tenant or filters.correlation or filters.resource)
    plots, people = [], list[str]()
    if counted and before is None:
        narrowed = Narrowed(
            actions=ACCESSES if filters.action is None else (filters.action,),
            principal=filters.principal,
            status=filters.status,
            class_=filters.class_,
            place=filters.place,
        )

        def href(begin: dt.datetime, end: dt.datetime) -> str:
            return as_query(kept, range=name, since=f"{begin:%Y-%m-%dT%H:%M}", until=f"{end:%Y-%m-%dT%H:%M}")  # fmt: skip

        # Of a long range one plot at a time: of two dimensions and more the database sums for long.
        every: list[Dimension] = ["status", "principal", "class"]
        wanted = every if span.range.length <= _SEVERAL else [each for each in every if each == by]
        history = History.of(sources.counts, span, narrowed, *wanted)
        plots = [history.plot(each, href) for each in wanted]
        people = history.names("principal")[:_PEOPLE] if "principal" in wanted else []
    return Shown(
        template="accesses.html",
        context={
            "lines": lines,
            "asked": {**kept, "range": name},
            "filtered": any(kept.values()),
            "older": lines[-1].position if len(found) > _AT_ONCE else "",
            "first": before is None,
            "plots": plots,
            "counted": counted,
            "ranges": RANGES,
            "range": name,
            "by": "" if span.range.length <= _SEVERAL else by,
            "dimensions": _BY,
            "actions": sorted(CATALOGUE),
            "statuses": [str(each) for each in Status],
            "classes": sorted(sources.policy.file.classes),
            "people": sorted(people),
        },
    )


def trail(sources: Sources, asked: Asked) -> Shown:
    """Show what happened under one correlation id, in order, in every service that shares the log."""
    correlation = asked.path["correlation"].replace("\0", "\ufffd")
    found = sources.reader.page(Filters(correlation=correlation), limit=_TRAIL + 1)
    if not found:
        raise Unusable("No event in the log has this correlation id.", status=404)
    lines = [Line(leaf) for leaf in reversed(found[:_TRAIL])]
    return Shown(
        template="trail.html",
        context={
            "correlation": correlation,
            "lines": lines,
            "more": len(found) > _TRAIL,
            "took": lines[-1].when - lines[0].when,
            "principals": sorted({str(line.principal) for line in lines}),
        },
    )


def one(sources: Sources, asked: Asked) -> Shown:
    """Show one event in full, and whether the log proves it."""
    leaf = _leaf(sources, asked)
    members = leaf.entry.members
    return Shown(
        template="event.html",
        context={
            "line": Line(leaf),
            "members": [(name, _plain(members[name])) for name in sorted(members, key=_order)],
            "proof": prove(sources.kept(), sources.policy.file, leaf),
        },
    )


def proof(sources: Sources, asked: Asked) -> Shown:
    """Give the file that proves one event to whoever has the signer's public text, without the log."""
    leaf = _leaf(sources, asked)
    text = prove_event(sources.kept(), leaf.entry.id, believed(sources.policy.file))
    return Shown(file=(f"{shard_name(leaf.shard)}-{leaf.seq}.proof", text))


def _leaf(sources: Sources, asked: Asked) -> Leaf:
    shard, seq = asked.path["shard"], asked.path["seq"]
    leaf = None
    if (shard + seq).isascii() and (shard + seq).isdecimal() and len(shard) < 10 and len(seq) < 19:
        leaf = sources.reader.leaf(Position(int(shard), int(seq)))
    if leaf is None:
        raise Unusable("The log has no event at this place. Its month may be purged.", status=404)
    return leaf


def _filters(asked: Asked) -> Filters:
    action, status = asked.text("action"), asked.text("status")
    if action is not None and action not in CATALOGUE:
        raise Unusable("There is no event of this kind. The form lists those there are.")
    if status is not None and status not in tuple(Status):
        raise Unusable("There is no such outcome. The form lists those there are.")
    texts: Mapping[str, str | None] = {name: asked.text(name) for name in _TEXTS}
    if any("\0" in text for text in (*texts.values(), asked.text("class")) if text):
        raise Unusable("A filter holds a character that no event has.")
    return Filters(
        since=_time(asked.text("since")),
        until=_time(asked.text("until")),
        action=action,
        status=status,
        class_=asked.text("class"),
        without=_IDLE if action is None and texts["principal"] is None else frozenset(),
        **texts,
    )


def _time(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    for form in _FORMS:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    raise Unusable("A time is written as 2026-11-22T10:30, in UTC.")


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    shard, dash, seq = text.partition("-")
    if not (dash and shard.isascii() and shard.isdecimal() and seq.isascii() and seq.isdecimal()):
        raise Unusable("This is not a place in the log.")
    return Position(int(shard[:9]), int(seq[:18]))


def _order(name: str) -> tuple[float, str]:
    return (_ORDER.index(name) if name in _ORDER else _ORDER.index("correlation") - 0.5, name)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    if isinstance(value, dict):
        return "; ".join(f"{name} {_plain(each)}" for name, each in value.items())
    return str(value)
