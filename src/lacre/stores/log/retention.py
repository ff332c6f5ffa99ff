# SPDX-License-Identifier: Apache-2.0
"""
Retention: which months are past their term, holds on them, and their removal.

A month is removed as a whole: its leaves, tiles and what was touched in it; its checkpoints stay,
and the log says who removed it. Reads holds from the log's entries, not from the column that shows
them: an operator signed those. Implements ``spec/evidence-log.md``, section 9. Signs nothing.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from lacre.audit.entries import Entry, Stamp
from lacre.audit.keeping import Purged
from lacre.audit.leaves import shard_name
from lacre.audit.notes import Verifier
from lacre.audit.statements import Statement, held_shards, read_statement
from lacre.errors import MisuseError, Tampered
from lacre.policy.terms import Term
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, SHARD, TILE, TOUCHED
from lacre.stores.log.telling import tell

__all__ = ["Kept", "keep_or_let_go", "kept", "remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A month of the log: its signed end, the day its term is over, and why it is on hold, or empty."""

    shard: int
    state: str
    size: int
    root: bytes
    until: dt.datetime
    hold: str

    def is_due(self, now: dt.datetime) -> bool:
        """Return whether it may be removed."""
        return self.state == "closed" and not self.hold and self.until <= now


def kept(log: AuditLog, term: Term, operators: Collection[Verifier]) -> list[Kept]:
    """Return every month that is there, the oldest first. A term begins when the month ends."""
    with log.reading() as connection:
        holds = held_shards(_statements(connection, operators))
        shards = connection.execute(sa.select(SHARD).order_by(SHARD.c.shard)).all()
        found = []
        for each in shards:
            head = connection.execute(
                sa.select(CHECKPOINT.c.size, CHECKPOINT.c.root)
                .where(CHECKPOINT.c.shard == each.shard)
                .order_by(CHECKPOINT.c.size.desc())
                .limit(1)
            ).one_or_none()
            found.append(
                Kept(
                    shard=each.shard,
                    state=each.state,
                    size=0 if head is None else head.size,
                    root=b"" if head is None else bytes(head.root),
                    until=term.after(_end(each.shard)),
                    hold=holds.get(shard_name(each.shard), ""),
                )
            )
    return found


def keep_or_let_go(
    log: AuditLog, shard: int, event: Purged, stamp: Stamp, *, hold: str | None
) -> None:
    """
    Show *shard* as on hold for *hold*, or as on none, and hand *event* over, which says so, signed.

    Raises:
        MisuseError: there is no such month.
    """
    with log.writing() as connection:
        changed = connection.execute(
            sa.update(SHARD).where(SHARD.c.shard == shard).values(hold=hold)
        )
        if changed.rowcount != 1:
            raise MisuseError(f"there is no month {shard_name(shard)} in the log")
        tell(connection, event, stamp)


def remove(log: AuditLog, month: Kept, event: Purged, stamp: Stamp, *, now: dt.datetime) -> int:
    """
    Remove the leaves of *month* and hand *event* over, which says so, signed; return how many there were.

    Raises:
        MisuseError: its term is not over, it is open, or on hold.
    """
    if not month.is_due(now):
        why = (
            "is on hold"
            if month.hold
            else "is not over"
            if month.state != "closed"
            else "is to be kept still"
        )
        raise MisuseError(f"{shard_name(month.shard)} {why}")
    with log.writing() as connection:
        # The column too: a hold that was placed since this was decided is not passed over.
        closed = sa.update(SHARD).where(
            SHARD.c.shard == month.shard, SHARD.c.state == "closed", SHARD.c.hold.is_(None)
        )
        if connection.execute(closed.values(state="purged")).rowcount != 1:
            raise MisuseError(f"{shard_name(month.shard)} is on hold, or was removed already")
        tell(connection, event, stamp)
        for table in (TOUCHED, TILE):
            connection.execute(sa.delete(table).where(table.c.shard == month.shard))
        return connection.execute(sa.delete(LEAF).where(LEAF.c.shard == month.shard)).rowcount


def _statements(connection: sa.Connection, operators: Collection[Verifier]) -> list[Statement]:
    rows = connection.scalars(sa.select(LEAF.c.entry).where(LEAF.c.action == "retention"))
    # A note has 16 KiB at most; what waits is whatever somebody put there.
    short = sa.func.length(INBOX.c.entry) < 64 * 1024
    waiting = connection.scalars(sa.select(INBOX.c.entry).where(short))
    found = []
    for line in (*rows, *waiting):
        try:
            entry = Entry.read(bytes(line))
            if entry.action == "retention":
                found.append(read_statement(str(entry.members["statement"]), operators))
        except Tampered:
            continue  # verifying tells of it
    return found


def _end(shard: int) -> dt.datetime:
    year, month = divmod(shard, 100)
    return dt.datetime(year + month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)
