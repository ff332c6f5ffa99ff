# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
The jobs' memory, inside the database they work on: one row for each job.

Implements ``spec/protect-sqlite.md``, section "The job's row". It is written in the same
transactions as the data, so the two never disagree, whenever the process is killed. Holds names,
definitions and counts, never a value.
"""

import datetime as dt
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from lacre.errors import MisuseError
from lacre.jobs.plan import ColumnRequest, PlannedColumn
from lacre.jobs.sqlite_database import JOB, RowKey
from lacre.jobs.sqlite_schema import same_name

__all__ = ["Job", "jobs_of", "open_ledger", "remove", "write"]

Direction = Literal["protect", "unprotect"]
# fill: both forms are there, and the marker says which counts. clean: the switch-over is done,
# freed pages are not yet gone. done: protected; kept, because the way back needs it.
Phase = Literal["fill", "clean", "done"]

_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (str, int, bool, bytes, dict, Decimal, dt.date, dt.datetime)
}
Objects = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One job on one table.

    *original*, *prepared* and *final* are the definitions of the table, its indexes and its
    triggers before the job, while it runs, and after its switch-over.
    """

    job_id: int
    table: str
    direction: Direction
    phase: Phase
    store: str
    columns: tuple[PlannedColumn, ...]
    key: RowKey
    indexes: tuple[str, ...]
    new_sql: str
    original: Objects
    prepared: Objects
    final: Objects
    done: int = 0

    def stepped(self, **changes: Any) -> "Job":
        return replace(self, **changes)

    def asked(self, store: str, columns: Sequence[ColumnRequest]) -> bool:
        """Whether the job was started with these arguments."""
        mine = {
            (column.name.casefold(), column.class_, column.normaliser) for column in self.columns
        }
        theirs = {(column.name.casefold(), column.class_, column.normaliser) for column in columns}
        return store == self.store and mine == theirs and len(columns) == len(theirs)

    def __str__(self) -> str:
        arguments = " ".join(
            f"--column {column.name}:{column.class_}"
            + (f":{column.normaliser}" if column.normaliser else "")
            for column in self.columns
        )
        return f"lacre {self.direction} --table {self.table} {arguments} --store {self.store}"


def open_ledger(connection: sqlite3.Connection) -> None:
    """Make the table if there is none. Not AUTOINCREMENT: that would leave a table behind."""
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS {JOB} (id INTEGER PRIMARY KEY, "table" TEXT NOT NULL, direction TEXT NOT NULL, phase TEXT NOT NULL, '
        "record TEXT NOT NULL, position TEXT, done INTEGER NOT NULL)"
    )


def jobs_of(connection: sqlite3.Connection, table: str) -> list[Job]:
    """Return the jobs on *table*, oldest first."""
    if (
        connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (JOB,)
        ).fetchone()
        is None
    ):
        return []
    rows = connection.execute(
        f'SELECT id, "table", direction, phase, record, done FROM {JOB} ORDER BY id'
    ).fetchall()
    return [_read(row) for row in rows if same_name(row[1], table)]


def write(
    connection: sqlite3.Connection, job: Job, *, was: tuple[Direction, Phase] | None = None
) -> None:
    """
    Write *job*, inside the caller's transaction.

    Args:
        was: direction and phase it must still have; None for a new one.

    Raises:
        MisuseError: another process moved it on.
    """
    record = json.dumps(
        {
            "store": job.store,
            "columns": [
                asdict(column) | {"python_type": column.python_type.__name__}
                for column in job.columns
            ],
            "key": asdict(job.key),
            "indexes": job.indexes,
            "new_sql": job.new_sql,
            "original": job.original,
            "prepared": job.prepared,
            "final": job.final,
        }
    )
    if was is None:
        connection.execute(
            f'INSERT INTO {JOB} (id, "table", direction, phase, record, done) VALUES (?, ?, ?, ?, ?, ?)',
            (job.job_id, job.table, job.direction, job.phase, record, job.done),
        )
        return
    moved = connection.execute(
        f"UPDATE {JOB} SET direction = ?, phase = ?, record = ?, position = NULL, done = ? WHERE id = ? AND direction = ? AND phase = ?",
        (job.direction, job.phase, record, job.done, job.job_id, *was),
    )
    if moved.rowcount != 1:
        raise overtaken()


def still_under_way(connection: sqlite3.Connection, job: Job) -> None:
    """
    Make sure, inside a transaction, that the table still has the columns this job fills.

    Raises:
        MisuseError: another process moved the job on.
    """
    found = None
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (JOB,)).fetchone():
        found = connection.execute(
            f"SELECT 1 FROM {JOB} WHERE id = ? AND direction = ? AND phase = 'fill'",
            (job.job_id, job.direction),
        ).fetchone()
    if found is None:
        raise overtaken()


def checkpoint(
    connection: sqlite3.Connection, job: Job, position: Sequence[Any], count: int
) -> None:
    """Note how far the fill came, in the transaction of the rows it counts."""
    connection.execute(
        f"UPDATE {JOB} SET position = ?, done = done + ? WHERE id = ?",
        (
            json.dumps([part if isinstance(part, int | str) else None for part in position]),
            count,
            job.job_id,
        ),
    )


def remove(connection: sqlite3.Connection, job: Job) -> None:
    """Forget *job*, and the table with the last one."""
    connection.execute(f"DELETE FROM {JOB} WHERE id = ?", (job.job_id,))
    if connection.execute(f"SELECT 1 FROM {JOB} LIMIT 1").fetchone() is None:
        connection.execute(f"DROP TABLE {JOB}")


def next_id(connection: sqlite3.Connection) -> int:
    found = connection.execute(f"SELECT coalesce(max(id), 0) + 1 FROM {JOB}").fetchone()
    return int(found[0])


def overtaken() -> MisuseError:
    return MisuseError(
        "another process works on this table and moved the job on",
        hint="wait for it, then run the same command again",
    )


def _objects(listed: Sequence[Sequence[str]]) -> Objects:
    return tuple((kind, name, sql) for kind, name, sql in listed)


def _read(row: Sequence[Any]) -> Job:
    job_id, table, direction, phase, text, done = row
    record = json.loads(text)
    columns = (
        PlannedColumn(**(column | {"python_type": _TYPES[column["python_type"]]}))
        for column in record["columns"]
    )
    key = record["key"]
    return Job(
        job_id=job_id,
        table=table,
        direction=direction,
        phase=phase,
        store=record["store"],
        columns=tuple(columns),
        key=RowKey(columns=tuple(key["columns"]), added=key["added"], why=key["why"]),
        indexes=tuple(record["indexes"]),
        new_sql=record["new_sql"],
        original=_objects(record["original"]),
        prepared=_objects(record["prepared"]),
        final=_objects(record["final"]),
        done=done,
    )
