# SPDX-License-Identifier: Apache-2.0
"""
Counts of the evidence log that its tallies do not have: leaves of each shard, masks given by day.

Counts in the database: a report over millions of entries reads few rows. Verifies nothing.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lacre.audit.leaves import microseconds
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import LEAF

__all__ = ["masked_by_day", "sizes"]

_DAY = 86_400_000_000
# In an entry a quotation mark inside a text is escaped: these bytes are a member, never quoted.
_MASKED = b'"outcome":"masked"'


def sizes(log: AuditLog) -> Mapping[int, int]:
    """Return how many leaves each shard has."""
    query = sa.select(LEAF.c.shard, sa.func.max(LEAF.c.seq) + 1).group_by(LEAF.c.shard)
    with log.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(query.order_by(LEAF.c.shard))}


def masked_by_day(log: AuditLog, since: dt.datetime, until: dt.datetime) -> Mapping[dt.date, int]:
    """Return how many looks of each day, in UTC, gave a mask."""
    with log.reading() as connection:
        found: sa.ColumnElement[Any] = (
            sa.func.instr(LEAF.c.entry, _MASKED)
            if connection.dialect.name == "sqlite"
            else sa.func.pg_catalog.position(LEAF.c.entry, _MASKED)
        )
        day = LEAF.c.time // _DAY
        rows = connection.execute(
            sa.select(sa.cast(day, sa.BigInteger).label("day"), sa.func.count())
            .where(
                LEAF.c.action.in_(("look", "legacy-look", "bulk")),
                LEAF.c.time >= microseconds(since),
                LEAF.c.time < microseconds(until),
                found > 0,
            )
            .group_by(sa.text("day"))
        ).all()
    return {dt.date(1970, 1, 1) + dt.timedelta(days=int(row[0])): row[1] for row in rows}
