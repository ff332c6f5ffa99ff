# SPDX-License-Identifier: Apache-2.0
"""
Reading the evidence log: in its order, by page, and in tallies.

Implements ``spec/evidence-log.md``, section 3. Verifies nothing: it returns what is stored
(`lacre.audit.verification` says whether that is what was signed).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, final

import sqlalchemy as sa

from lacre.audit.entries import Entry
from lacre.audit.leaves import Leaf, Position, microseconds
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, LEAF, NOTABLE, SHARD, TALLY, TOUCHED

__all__ = ["Filters", "Leaf", "LogReader", "Position", "Shard", "SignedHead", "Tally"]

_AT_ONCE = 2000  # leaves of one statement, where all are read
_LEAF = (LEAF.c.shard, LEAF.c.seq, LEAF.c.sequenced, LEAF.c.entry, LEAF.c.hash)
_NEWEST_FIRST = (LEAF.c.time.desc(), LEAF.c.shard.desc(), LEAF.c.seq.desc())


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """
    What leaves of a page have in common; None asks nothing.

    *since* and *until* are of the events' own time, the second not included. *place* is
    ``store.table.column``, *resource* a row's surrogate id or a subject's pseudonym; *without* are
    actions that are left out.
    """

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    principal: str | None = None
    action: str | None = None
    status: str | None = None
    class_: str | None = None
    place: str | None = None
    tenant: str | None = None
    correlation: str | None = None
    resource: str | None = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many *events* of one kind there were in one *hour* (its beginning), and the *count* of rows they name."""

    hour: dt.datetime
    principal: str
    action: str
    status: str
    class_: str
    place: str
    purpose: str
    events: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A checkpoint as it is stored: *note* is what was signed, *time* in microseconds since 1970."""

    shard: int
    size: int
    time: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A month of the log: *state* is open, closed or purged, *hold* why it is not purged, or None."""

    shard: int
    state: str
    hold: str | None


@final
class LogReader:
    """Reads *log*. Each page is a statement of its own: nothing is held open between two."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def after(
        self,
        position: Position | None = None,
        limit: int | None = None,
        filters: Filters | None = None,
    ) -> Iterator[Leaf]:
        """Yield the leaves after *position* that *filters* let through, in the log's order; from its beginning without one."""
        wanted = Filters() if filters is None else filters
        left = limit
        while left is None or left > 0:
            some = _AT_ONCE if left is None else min(left, _AT_ONCE)
            # Read one by one: an entry that is none hides none of those before it.
            found = self._after(position, some, wanted)
            yield from map(_leaf, found)
            if len(found) < some:
                return
            position = Position(found[-1].shard, found[-1].seq)
            left = None if left is None else left - some

    def _after(self, position: Position | None, limit: int, wanted: Filters) -> Sequence[Any]:
        order = _matching(wanted).order_by(LEAF.c.shard, LEAF.c.seq).limit(limit)
        if position is not None:
            order = order.where(sa.tuple_(LEAF.c.shard, LEAF.c.seq) > sa.tuple_(*position))
        with self._log.reading() as connection:
            return connection.execute(order).all()

    def leaf(self, position: Position) -> Leaf | None:
        """Return the leaf at *position*, or None."""
        one = sa.select(*_LEAF).where(LEAF.c.shard == position[0], LEAF.c.seq == position[1])
        with self._log.reading() as connection:
            row = connection.execute(one).one_or_none()
        return None if row is None else _leaf(row)

    def find(self, id: str) -> Leaf | None:  # noqa: A002 - as entries call it
        """Return the leaf of the entry with this *id*, 32 hex digits, or None."""
        one = sa.select(*_LEAF).where(LEAF.c.id == bytes.fromhex(id))
        with self._log.reading() as connection:
            row = connection.execute(one).one_or_none()
        return None if row is None else _leaf(row)

    def page(
        self, filters: Filters | None = None, before: Position | None = None, limit: int = 50
    ) -> list[Leaf]:
        """
        Return leaves that *filters* let through, the newest event first.

        Args:
            before: the position of the last leaf of the page before.
        """
        wanted = Filters() if filters is None else filters
        query = _matching(wanted)
        with self._log.reading() as connection:
            if before is not None:
                at = sa.select(LEAF.c.time).where(
                    LEAF.c.shard == before[0], LEAF.c.seq == before[1]
                )
                time = connection.execute(at).scalar()
                if time is None:
                    return []
                # The first alone is what an index finds the beginning by.
                query = query.where(
                    LEAF.c.time <= time,
                    sa.tuple_(LEAF.c.time, LEAF.c.shard, LEAF.c.seq) < sa.tuple_(time, *before),
                )
            found = connection.execute(query.order_by(*_NEWEST_FIRST).limit(limit)).all()
        return [_leaf(row) for row in found]

    def tallies(
        self, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> list[Tally]:
        """Return the tallies of the hours that begin at or after *since* and before *until*, in order."""
        query = sa.select(TALLY).order_by(*TALLY.primary_key)
        if since is not None:
            query = query.where(TALLY.c.hour >= microseconds(since))
        if until is not None:
            query = query.where(TALLY.c.hour < microseconds(until))
        names = [each.name for each in fields(Tally)][1:]
        with self._log.reading() as connection:
            return [
                Tally(hour=_moment(row[0]), **dict(zip(names, row[1:], strict=True)))
                for row in connection.execute(query)
            ]

    def newest(self) -> Leaf | None:
        """Return the last leaf in the log's order, or None of an empty log."""
        last = sa.select(*_LEAF).order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc()).limit(1)
        with self._log.reading() as connection:
            row = connection.execute(last).one_or_none()
        return None if row is None else _leaf(row)

    def checkpoint(self, shard: int, size: int | None = None) -> SignedHead | None:
        """Return the newest checkpoint of *shard*, or that of exactly *size* leaves; None where there is none."""
        query = sa.select(CHECKPOINT).where(CHECKPOINT.c.shard == shard)
        if size is not None:
            query = query.where(CHECKPOINT.c.size == size)
        with self._log.reading() as connection:
            row = connection.execute(
                query.order_by(CHECKPOINT.c.size.desc()).limit(1)
            ).one_or_none()
        return None if row is None else SignedHead(**row._asdict())

    def checkpoints(self, shard: int) -> list[SignedHead]:
        """Return every checkpoint of *shard*, the smallest tree first."""
        query = sa.select(CHECKPOINT).where(CHECKPOINT.c.shard == shard)
        with self._log.reading() as connection:
            rows = connection.execute(query.order_by(CHECKPOINT.c.size)).all()
        return [SignedHead(**row._asdict()) for row in rows]

    def shards(self) -> list[Shard]:
        """Return the months there are, the oldest first."""
        with self._log.reading() as connection:
            rows = connection.execute(sa.select(SHARD).order_by(SHARD.c.shard)).all()
        return [Shard(**row._asdict()) for row in rows]


def _matching(wanted: Filters) -> sa.Select[Any]:
    query = sa.select(*_LEAF).where(*_conditions(wanted))
    if wanted.resource is not None:
        same = sa.and_(TOUCHED.c.shard == LEAF.c.shard, TOUCHED.c.seq == LEAF.c.seq)
        query = query.join(TOUCHED, same).where(TOUCHED.c.resource == wanted.resource)
    return query


def _leaf(row: Any) -> Leaf:
    return Leaf(row.shard, row.seq, row.sequenced, Entry.read(row.entry), row.hash)


def _moment(micros: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(micros // 1_000_000, dt.UTC)


def _conditions(wanted: Filters) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.since is not None:
        yield LEAF.c.time >= microseconds(wanted.since)
    if wanted.until is not None:
        yield LEAF.c.time < microseconds(wanted.until)
    if wanted.without:
        yield LEAF.c.action.not_in(sorted(wanted.without))
    for name in ("principal", "action", "status", "class", "place", "tenant", "correlation"):
        value = getattr(wanted, "class_" if name == "class" else name)
        if value is None:
            continue
        yield LEAF.c[name] == value
        # In words, so that the index over those leaves alone is used.
        if name in NOTABLE and value != ("compliant" if name == "status" else ""):
            yield sa.literal_column(NOTABLE[name], sa.Boolean())
