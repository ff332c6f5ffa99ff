# SPDX-License-Identifier: Apache-2.0
"""
How the evidence log is: its months, who sequences, what waits.

Counts and compares moments; verifies nothing (`lacre.audit.verification`).
"""

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa

from lacre.audit.leaves import microseconds, shard_name, written_moment
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, SEQUENCER, SHARD

__all__ = ["LogStatus", "ShardStatus", "status_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """One month: how many leaves there are, and how many of them the newest checkpoint has."""

    name: str
    state: str
    hold: str | None
    leaves: int
    signed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """
    A log at one moment.

    *last* and *signed* are when the last leaf was sequenced and the last checkpoint signed, RFC
    3339; *holder* is who sequences, empty while nobody does; *attention* what somebody should
    look at.
    """

    where: str
    shards: tuple[ShardStatus, ...]
    last: str
    signed: str
    waiting: int
    holder: str
    epoch: int
    attention: tuple[str, ...]


def status_of(log: AuditLog, *, now: dt.datetime, heartbeat: float) -> LogStatus:
    """Return how *log* is at the moment *now*; *heartbeat* is `[audit] heartbeat`."""
    heads = sa.select(
        CHECKPOINT.c.shard, sa.func.max(CHECKPOINT.c.size), sa.func.max(CHECKPOINT.c.time)
    ).group_by(CHECKPOINT.c.shard)
    newest = sa.select(LEAF.c.sequenced, LEAF.c.action, LEAF.c.step)
    newest = newest.order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc()).limit(1)
    with log.snapshot() as connection:
        shards = connection.execute(sa.select(SHARD).order_by(SHARD.c.shard)).all()
        # A shard at a time: an index has the end of each, and a group of all would read them.
        leaves = {each.shard: _size(connection, each.shard) for each in shards}
        signed = {row[0]: (row[1], row[2]) for row in connection.execute(heads)}
        last = connection.execute(newest).one_or_none()
        waiting = connection.execute(sa.select(sa.func.count()).select_from(INBOX)).scalar_one()
        lease = connection.execute(sa.select(SEQUENCER)).one()
    held = lease.holder if lease.until > microseconds(now) else ""
    rested = last is None or (last.action, last.step) == ("sequencing", "rested")
    attention = []
    if waiting and not held:
        attention.append(f"{waiting} entries wait, and nobody sequences")
    if last is not None and not rested:
        behind = microseconds(now) - last.sequenced
        if behind > 2 * heartbeat * 1_000_000:
            attention.append(
                f"nothing was sequenced for {behind // 1_000_000} s, and no sequencer said that it rests"
            )
    return LogStatus(
        where=log.where,
        shards=tuple(
            ShardStatus(
                name=shard_name(row.shard),
                state=row.state,
                hold=row.hold,
                leaves=leaves.get(row.shard, 0),
                signed=signed.get(row.shard, (0, 0))[0],
            )
            for row in shards
        ),
        last="" if last is None else written_moment(last.sequenced),
        signed=written_moment(max(each[1] for each in signed.values())) if signed else "",
        waiting=waiting,
        holder=held,
        epoch=lease.epoch,
        attention=tuple(attention),
    )


def _size(connection: sa.Connection, shard: int) -> int:
    last = connection.scalar(sa.select(sa.func.max(LEAF.c.seq)).where(LEAF.c.shard == shard))
    return 0 if last is None else int(last) + 1
