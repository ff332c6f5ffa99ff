# SPDX-License-Identifier: Apache-2.0
"""
The keys page: every key of the key store, how old it is, and what is due.

Key ids and counts only; a wrapped key is never read into a page. Subject keys are counted, because
there may be millions.
"""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lacre.dashboard.plots import Bucket, Series, stacked
from lacre.dashboard.rendering import Asked, Shown
from lacre.dashboard.sources import Sources
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState

__all__ = ["show"]

_AT_ONCE = 200
_AGES = ((30, "to 30 days"), (90, "31 to 90"), (180, "91 to 180"), (365, "181 to 365"), (730, "1 to 2 years"), (10**6, "over 2 years"))  # fmt: skip
_SHORT = ("30 d", "90 d", "180 d", "1 y", "2 y", "older")
_KINDS = {
    KeyState.ACTIVE: "good",
    KeyState.PENDING: "5",
    KeyState.DECRYPT_ONLY: "compliant",
    KeyState.DISABLED: "prevented",
    KeyState.COMPROMISED: "failed",
    KeyState.DESTROYED: "other",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    key: str
    tenant: str
    class_: str
    kind: str
    version: int
    state: KeyState
    created: str
    age: int | None
    due: str
    late: bool
    parent: str


def show(sources: Sources, asked: Asked) -> Shown:
    """Show the keys, those that are asked for."""
    now = sources.now()
    rows = sources.keys.rows()
    due = sources.due()
    tenant, class_ = asked.text("tenant"), asked.text("class")
    states = {str(each) for each in KeyState} | {"all", "live"}
    state = asked.among("state", dict.fromkeys(states), "live")
    chosen = [
        row
        for row in rows
        if tenant in (None, row.scope.tenant)
        and class_ in (None, row.scope.class_)
        and (
            state == "all"
            or str(row.state) == state
            or (state == "live" and row.state is not KeyState.DESTROYED)
        )
    ]
    begin = _number(asked.text("from"))
    lines = [_line(sources, row, now) for row in chosen[begin : begin + _AT_ONCE]]
    subjects = [
        each
        for each in sources.keys.subject_keys()
        if tenant in (None, each.tenant) and class_ in (None, each.class_)
    ]
    return Shown(
        template="keys.html",
        context={
            "lines": lines,
            "subjects": subjects,
            "due": due,
            "total": len(chosen),
            "begin": begin,
            "next": begin + _AT_ONCE if begin + _AT_ONCE < len(chosen) else None,
            "before": max(begin - _AT_ONCE, 0) if begin else None,
            "ages": _ages(rows, now),
            "tenants": sorted({row.scope.tenant for row in rows} - {"-"}),
            "classes": sorted(sources.policy.file.classes),
            "states": ["live", "all", *(str(each) for each in KeyState)],
            "asked": {"tenant": tenant, "class": class_, "state": state},
        },
    )


def _ages(rows: Sequence[KeyRow], now: dt.datetime) -> Markup:
    counted: Counter[tuple[KeyState, int]] = Counter()
    for row in rows:
        if row.state is KeyState.DESTROYED:
            continue
        days = _age(row, now)
        place = next(n for n, (most, _) in enumerate(_AGES) if days is None or days <= most)
        counted[row.state, len(_AGES) - 1 if days is None else place] += 1
    series = [
        Series(name=str(state).replace("_", " "), kind=kind, values=[counted[state, n] for n in range(len(_AGES))])
        for state, kind in _KINDS.items()
    ]  # fmt: skip
    buckets = [Bucket(short=_SHORT[n], full=name) for n, (_, name) in enumerate(_AGES)]
    return stacked("Keys by age", buckets, series, what="keys", head="age")


def _line(sources: Sources, row: KeyRow, now: dt.datetime) -> _Line:
    after = sources.policy.rotates_after(row.scope)
    mine = row.scope.kind not in (KeyKind.SEAL, KeyKind.BUCKET)
    created = _moment(row.created)
    by = created + after if after and created and mine and row.state is KeyState.ACTIVE else None
    return _Line(
        key=row.key_id.hex(),
        tenant=row.scope.tenant,
        class_=row.scope.class_,
        kind=str(row.scope.kind),
        version=row.version,
        state=row.state,
        created=row.created[:10],
        age=_age(row, now),
        due="" if by is None else f"{by:%Y-%m-%d}",
        late=by is not None and by <= now,
        parent=row.parent if "://" in row.parent else row.parent[:8],
    )


def _age(row: KeyRow, now: dt.datetime) -> int | None:
    created = _moment(row.created)
    return None if created is None else max((now - created).days, 0)


def _moment(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _number(text: str | None) -> int:
    return int(text[:9]) if text and text.isascii() and text.isdecimal() else 0
