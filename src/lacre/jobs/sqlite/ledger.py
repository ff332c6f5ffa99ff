# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
The table `lacre_job` inside an SQLite database: one row for each job.

Implements ``spec/protect-sqlite.md``, section "The job's row". What a row says and who signed it,
`lacre.jobs.ledger` knows.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from lacre.errors import ConfigurationError
from lacre.jobs.columns import JOB
from lacre.jobs.ledger import Direction, Job, Phase, Trust, overtaken, read_row, signed_row
from lacre.jobs.sqlite.schema import same_name

__all__ = ["checkpoint", "jobs_of", "next_id", "open_ledger", "remove", "still_under_way", "write"]

_COLUMNS = (
    "id",
    "table",
    "direction",
    "phase",
    "record",
    "signer",
    "signature",
    "position",
    "done",
)


def open_ledger(connection: sqlite3.Connection) -> None:
    """Make the table if there is none. Not AUTOINCREMENT: that would leave a table behind."""
    if not _is_there(connection):
        connection.execute(
            f'CREATE TABLE {JOB} (id INTEGER PRIMARY KEY, "table" TEXT NOT NULL, direction TEXT NOT NULL, phase TEXT NOT NULL, '
            "record TEXT NOT NULL, signer TEXT NOT NULL, signature BLOB NOT NULL, position TEXT, done INTEGER NOT NULL)"
        )


def jobs_of(connection: sqlite3.Connection, table: str, trust: Trust) -> list[Job]:
    """
    Return the jobs on *table*, oldest first.

    Raises:
        Tampered: a row that no trusted operator signed as it is; its note says where.
        ConfigurationError: the table of that name is not lacre's.
    """
    if not _is_there(connection):
        return []
    rows = connection.execute(
        f'SELECT id, "table", direction, phase, record, signer, signature, done FROM {JOB} ORDER BY id'
    ).fetchall()
    return [
        read_row(row, trust) for row in rows if isinstance(row[1], str) and same_name(row[1], table)
    ]


def _is_there(connection: sqlite3.Connection) -> bool:
    found = connection.execute(
        "SELECT type FROM sqlite_master WHERE lower(name) = ? AND type IN ('table', 'view')", (JOB,)
    ).fetchone()
    if found is None:
        return False
    columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({JOB})"))
    if found[0] != "table" or columns != _COLUMNS:
        raise ConfigurationError(
            f"this database has a {found[0]} {JOB} that lacre did not make",
            hint="rename it: lacre keeps its jobs in a table of that name",
        )
    return True


def write(
    connection: sqlite3.Connection,
    job: Job,
    trust: Trust,
    *,
    was: tuple[Direction, Phase] | None = None,
) -> None:
    """
    Sign and write *job*, inside the caller's transaction.

    Args:
        was: direction and phase it must still have; None for a new one.

    Raises:
        MisuseError: another process moved it on.
    """
    row = signed_row(job, trust)
    if was is None:
        connection.execute(
            f'INSERT INTO {JOB} (id, "table", direction, phase, record, signer, signature, done) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
            (job.job_id, *row, job.done),
        )
        return
    moved = connection.execute(
        f"UPDATE {JOB} SET direction = ?, phase = ?, record = ?, signer = ?, signature = ?, position = NULL, done = ? "
        "WHERE id = ? AND direction = ? AND phase = ?",
        (*row[1:], job.done, job.job_id, *was),
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
