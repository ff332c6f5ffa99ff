# SPDX-License-Identifier: Apache-2.0
"""
How many events there were, by time and by what they have in common: counted in the database, of tallies.

For pages and plots, which would read a million leaves otherwise. Tallies are made from leaves and
can be made again (``spec/evidence-log.md``, section 3): nothing here is evidence by itself.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, final

import sqlalchemy as sa

from lacre.audit.leaves import microseconds
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import TALLY

__all__ = ["Count", "Dimension", "LogCounts", "Narrowed"]

Dimension = Literal["status", "principal", "class", "action", "place", "purpose"]
_HOUR = 3600 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowed:
    """What the counted events have in common; None asks nothing. *actions* are any of several."""

    actions: Collection[str] | None = None
    principal: str | None = None
    status: str | None = None
    class_: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """*events* of one *name*, in the hours from *begin* on."""

    begin: dt.datetime
    name: str
    events: int


@final
class LogCounts:
    """Counts of *log*."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def by(
        self,
        *dimensions: Dimension,
        since: dt.datetime,
        until: dt.datetime,
        hours: int,
        narrowed: Narrowed | None = None,
    ) -> dict[str, list[Count]]:
        """
        Return the counts from *since* on and before *until*, in steps of *hours* from *since*, by each of *dimensions*.

        The tallies are read once: they are summed by all of the dimensions together, and those sums by each.
        """
        start, step = microseconds(since), hours * _HOUR
        # Whole steps from *since*: the remainder is taken off in integers, which every database has.
        begin = (TALLY.c.hour - (TALLY.c.hour - start) % step).label("begin")
        names, events = [TALLY.c[each] for each in dimensions], sa.func.sum(TALLY.c.events)
        summed = (
            sa.select(begin, *names, events.label("events"))
            .where(*_conditions(since, until, narrowed))
            .group_by(begin, *names)
        )
        if len(dimensions) == 1:
            with self._log.reading() as connection:
                return {
                    dimensions[0]: [
                        _count(row[0], row[1], row[2]) for row in connection.execute(summed)
                    ]
                }
        once = summed.cte("once")
        each_by = [
            sa.select(
                sa.literal(each), once.c.begin, once.c[each], sa.func.sum(once.c.events)
            ).group_by(once.c.begin, once.c[each])
            for each in dimensions
        ]
        found: dict[str, list[Count]] = {each: [] for each in dimensions}
        with self._log.reading() as connection:
            for row in connection.execute(sa.union_all(*each_by)):
                found[row[0]].append(_count(row[1], row[2], row[3]))
        return found


def _conditions(
    since: dt.datetime, until: dt.datetime, narrowed: Narrowed | None
) -> list[sa.ColumnElement[bool]]:
    wanted = Narrowed() if narrowed is None else narrowed
    found = [TALLY.c.hour >= microseconds(since), TALLY.c.hour < microseconds(until)]
    if wanted.actions is not None:
        found.append(TALLY.c.action.in_(sorted(wanted.actions)))
    for name in ("principal", "status", "class", "place"):
        value = getattr(wanted, "class_" if name == "class" else name)
        if value is not None:
            found.append(TALLY.c[name] == value)
    return found


def _count(begin: int, name: str, events: int) -> Count:
    return Count(begin=_moment(int(begin)), name=name, events=int(events))


def _moment(micros: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(micros // 1_000_000, dt.UTC)
