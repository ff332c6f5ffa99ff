# SPDX-License-Identifier: Apache-2.0

"""
`lacre unprotect` on SQLite: the way back, to the table exactly as `protect` found it.

Implements ``spec/protect-sqlite.md``, section "The way back". Every row comes back with the
storage class and text that `protect` read, or with what was written since; the table, its
indexes and triggers with the definitions they had. Does not undo changes that others made to the
definitions since: it refuses and names them.

A `protect` that still fills is taken back without converting anything: the plaintext counts or is
equal to what counts, so the companions go.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from lacre.fields.column_state import ColumnState
from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn, RowKey
from lacre.jobs.conversion import Decrypting, ProtectedField
from lacre.jobs.ledger import Job, Report, to_undo_of, unchanged
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.database import Catalogue, opened
from lacre.jobs.sqlite.ledger import jobs_of, remove, write
from lacre.jobs.sqlite.outcome import require_plaintext
from lacre.jobs.sqlite.passes import Worker
from lacre.jobs.sqlite.protect import reported, row_count
from lacre.jobs.sqlite.schema import folded, narrowed_trigger
from lacre.jobs.sqlite.switch import (
    add_companions,
    clean,
    own_programs,
    rebuild,
    refusing,
    table_sql,
    transaction,
)
from lacre.jobs.sqlite.values import form_of

__all__ = ["to_undo", "unprotect"]


def unprotect(
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    connect: Callable[[Path], sqlite3.Connection] = opened,
) -> Report:
    """
    Decrypt *columns* of *table* in place. The arguments are those that `protect` was given.

    Where that `protect` was stopped while it filled, its companion columns go, and the state is
    `plaintext` again.

    Raises:
        MisuseError: these columns were not protected by these arguments, a later `protect` has
            to be undone first, or the table's definition was changed since.
        Tampered, KeyUnavailable: a value does not open; nothing was switched over.
        Tampered: the job's row is not what an operator signed; nothing was done.
    """
    pace = pace or Pace()
    connection = connect(path)
    try:
        with refusing(table):
            job = _found(connection, table, columns, store, authority)
            resumed = job.direction == "unprotect"
            if job.direction == "protect" and job.phase == "fill":
                job = _taken_back(connection, job, authority)
            elif not resumed:
                with transaction(connection):
                    job = _prepared(connection, job, authority)
            return _finished(connection, job, fields, authority, pace, resumed=resumed)
    finally:
        connection.close()


def to_undo(
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
    connect: Callable[[Path], sqlite3.Connection] = opened,
) -> tuple[Job, int]:
    """
    Return the job that `unprotect` with these arguments would undo, and its table's rows now.

    Raises:
        MisuseError, Tampered: as `unprotect` would, before its first change.
    """
    connection = connect(path)
    try:
        with refusing(table):
            job = _found(connection, table, columns, store, authority)
            if job.direction == "protect":
                left = job.prepared if job.phase == "fill" else job.final
                unchanged(Catalogue(connection, job.table).objects(), left, "protect")
            return job, row_count(connection, job)
    finally:
        connection.close()


def _found(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
) -> Job:
    jobs = jobs_of(connection, table, authority)
    return to_undo_of(jobs, table, columns, store, fold=folded)


def _prepared(connection: sqlite3.Connection, job: Job, authority: Authority) -> Job:
    catalogue = Catalogue(connection, job.table)
    unchanged(catalogue.objects(), job.final, "protect")
    triggers = [
        (name, sql, narrowed_trigger(sql, catalogue.names))
        for kind, name, sql in job.final
        if kind == "trigger"
    ]
    names = [column.name for column in job.columns]
    # The row id exists by now, whoever added it.
    key = RowKey(columns=job.key.columns, added=False)
    add_companions(
        catalogue,
        names,
        [column.companion for column in job.columns],
        key,
        [(name, new) for name, sql, new in triggers if new != sql],
    )
    prepared = job.stepped(
        direction="unprotect",
        phase="fill",
        prepared=tuple(Catalogue(connection, job.table).objects()),
        done=0,
    )
    write(connection, prepared, authority, was=("protect", "done"))
    return prepared


def _finished(
    connection: sqlite3.Connection,
    job: Job,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    pace: Pace,
    *,
    resumed: bool,
) -> Report:
    lost = 0
    if job.phase == "fill":
        named = job.stepped(key=RowKey(columns=job.key.columns, added=False))
        worker = Worker(
            connection,
            named,
            Decrypting(
                job.columns, {column.name: fields(column) for column in job.columns}, form_of
            ),
            pace,
        )
        worker.fill()
        worker.verify()
        job = _switched(connection, job, worker, authority)
        lost = worker.lost_races
    require_plaintext(connection, job)
    authority.move(job, ColumnState.PLAINTEXT)
    clean(connection)
    with transaction(connection):
        remove(connection, job)
    return reported(connection, job, lost_races=lost, resumed=resumed)


def _taken_back(connection: sqlite3.Connection, job: Job, authority: Authority) -> Job:
    connection.execute("PRAGMA legacy_alter_table=ON")
    with transaction(connection, "EXCLUSIVE"):
        final = rebuild(
            connection,
            job,
            new_sql=table_sql(job.original, job.table),
            values={},
            programs=own_programs(job.original, "trigger"),
            indexes=[sql for _, _, sql in own_programs(job.original, "index")],
        )
        taken_back = job.stepped(direction="unprotect", phase="clean", final=final)
        write(connection, taken_back, authority, was=("protect", "fill"))
    return taken_back


def _switched(
    connection: sqlite3.Connection, job: Job, worker: Worker, authority: Authority
) -> Job:
    connection.execute("PRAGMA legacy_alter_table=ON")
    with transaction(connection, "EXCLUSIVE"):
        worker.catch_up()
        final = rebuild(
            connection,
            job,
            new_sql=table_sql(job.original, job.table),
            values={column.name: column.companion for column in job.columns},
            programs=own_programs(job.original, "trigger"),
            indexes=[sql for _, _, sql in own_programs(job.original, "index")],
        )
        switched = job.stepped(phase="clean", final=final)
        write(connection, switched, authority, was=("unprotect", "fill"))
    return switched
