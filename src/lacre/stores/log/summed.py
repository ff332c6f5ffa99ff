# SPDX-License-Identifier: Apache-2.0
"""
The sums that pages and reports read, against the leaves they are of.

`lacre_tally` and `lacre_touched` are no evidence, but people look at what is drawn of them. A full
verification tells where they say something else than the leaves. Implements
``spec/evidence-log.md``, section 8.1. Mends nothing.
"""

import datetime as dt
import os
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any, final

import sqlalchemy as sa

from lacre._core.merkle import TILE
from lacre.audit.entries import Entry
from lacre.audit.judging import Verification
from lacre.audit.leaves import Drawn, microseconds, shard_name, written_moment
from lacre.audit.summing import Sums, add_hours, tally_key, touched_part, weighed
from lacre.audit.verification import Aspect, Examined, Problem
from lacre.errors import Tampered
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import LEAF, TALLY, TOUCHED

__all__ = ["StoredSums"]

_TOLD = 10  # of each kind: sums that were made anew differ in every hour
_AT_ONCE = 10_000
_NO_HOUR = _LATEST = 253_402_300_800_000_000  # the end of the year 9999
_DAY = 86_400_000_000  # what the clock of a process may be ahead of the sequencer's
# The hash of `touched_part`, made where the rows are: a division of integers rounds down.
_PARTS = """
SELECT seq / CAST(:tile AS bigint) AS part,
       sha256(convert_to(string_agg(concat(seq, ' ', length(resource), ' ', resource, chr(10)), '' ORDER BY seq, resource COLLATE "C"), 'UTF8'))
FROM {} WHERE shard = :shard AND seq < :end GROUP BY part
"""
_TEXTS = ("principal", "action", "status", "class", "place", "purpose")


@final
class StoredSums:
    """The stored sums of *log*, and what its leaves add up to, as they are examined."""

    def __init__(self, log: AuditLog) -> None:
        self.secret = os.urandom(32)
        self._log = log
        self._hours: dict[int, int] = {}
        self._parts: dict[int, dict[int, bytes]] = {}
        self._ends: dict[int, int] = {}
        self._whole = True

    def take(self, examined: Examined) -> None:
        """Take what a stretch adds up to."""
        assert examined.sums is not None
        self._whole &= examined.whole
        add_hours(self._hours, examined.sums.hours.items())
        self._parts.setdefault(examined.shard, {}).update(examined.sums.parts)
        self._ends[examined.shard] = examined.end

    def end(self, course: Verification, shards: Sequence[int], *, gone: Collection[int]) -> None:
        """
        Compare, and tell *course*; of leaves with a gap among them nothing is compared, which is told already.

        Args:
            shards: every month there is.
            gone: those without leaves. Their sums stay: hours that may be of them are not compared.
        """
        if not self._whole:
            return
        begin = max((_month_end(shard) + _DAY for shard in gone), default=-(2**63))
        with self._log.snapshot() as connection:
            # A sequencer may have gone on meanwhile: its tallies have leaves that nobody examined.
            new = sa.select(LEAF.c.shard).where(LEAF.c.shard > max(shards, default=-1)).distinct()
            for shard in (*shards, *connection.scalars(new)):
                self._draw(connection, shard)
            stored = _hours(connection, self.secret)
            for shard in sorted(self._ends):
                self._compare_touched(connection, course, shard)
        wrong = sorted(
            hour
            for hour in self._hours.keys() | stored.keys()
            if hour >= begin and stored.get(hour, 0) != self._hours.get(hour, 0)
        )
        for hour in wrong[:_TOLD]:
            when = written_moment(hour) if 0 <= hour < _LATEST else "no hour that there is"
            said = f"the sums of the hour from {when} are not those of its leaves: pages and reports count wrongly"
            _tell(course, "sums", said)

    def _draw(self, connection: sa.Connection, shard: int) -> None:
        sums = Sums(self.secret)
        query = sa.select(LEAF.c.seq, LEAF.c.entry).where(
            LEAF.c.shard == shard, LEAF.c.seq >= self._ends.get(shard, 0)
        )
        for seq, line in connection.execute(query):
            try:
                drawn = Drawn.of(Entry.read(bytes(line)))
            except (Tampered, TypeError):
                continue  # it is told when it is examined
            sums.take(seq, tally_key(drawn), drawn.count, ())
        sums.end()
        add_hours(self._hours, sums.hours.items())

    def _compare_touched(self, connection: sa.Connection, course: Verification, shard: int) -> None:
        parts = self._parts.get(shard, {})
        stored = dict(_parts(connection, shard, self._ends[shard]))
        wrong = sorted(
            part for part in parts.keys() | stored.keys() if stored.get(part) != parts.get(part)
        )
        for part in wrong[:_TOLD]:
            leaves = f"leaves {part * TILE} to {part * TILE + TILE - 1} of {shard_name(shard)}"
            said = f"whom {leaves} are about is stored otherwise than they say: searches for a row or a subject miss some"
            _tell(course, "touched", said, shard, part * TILE)


def _hours(connection: sa.Connection, secret: bytes) -> dict[int, int]:
    # The fingerprint of each hour of the stored sums.
    query = sa.select(TALLY.c.hour, TALLY.c.events, TALLY.c["count"], *(TALLY.c[name] for name in _TEXTS))  # fmt: skip
    found: dict[int, int] = {}
    rows = connection.execution_options(stream_results=True, yield_per=_AT_ONCE).execute(query)
    for hour, events, count, *texts in rows:
        # SQLite keeps text where a number belongs, for whoever writes it there.
        right = all(type(each) is int for each in (hour, events, count))
        right = right and all(type(each) is str for each in texts)
        more = (hour, weighed(secret, texts, events, count)) if right else (_NO_HOUR, 1)
        add_hours(found, [more])
    return found


def _parts(connection: sa.Connection, shard: int, end: int) -> Iterator[tuple[int, bytes]]:
    # The hash of what is stored of each tile's leaves, as `touched_part` makes it.
    seq, resource = TOUCHED.c.seq, TOUCHED.c.resource
    where = (TOUCHED.c.shard == shard, seq < end)
    if connection.dialect.name != "postgresql":
        query = sa.select(seq, resource).where(*where).order_by(seq, resource)
        for part, rows in groupby(connection.execute(query), lambda row: _part(row[0])):
            yield part, touched_part((row[0], str(row[1])) for row in rows)
        return
    schema = connection.get_execution_options()["schema_translate_map"][None]
    rows = connection.execute(
        sa.text(_PARTS.format(f"{schema}.{TOUCHED.name}")),
        {"tile": TILE, "shard": shard, "end": end},
    )
    for number, hashed in rows:
        yield number, bytes(hashed)


def _part(seq: Any) -> int:
    return seq // TILE if type(seq) is int else -1


def _tell(course: Verification, code: str, said: str, shard: int = 0, seq: int | None = None) -> None:  # fmt: skip
    course.tell(Problem(aspect=Aspect.INTEGRITY, code=code, said=said, shard=shard, seq=seq))


def _month_end(shard: int) -> int:
    year, month = divmod(shard, 100)
    return microseconds(dt.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=dt.UTC))
