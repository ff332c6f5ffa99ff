# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
`lacre protect` on SQLite: encrypt columns of a table in place, while it is in use.

Implements ``spec/protect-sqlite.md``. The same call goes on where a killed one stopped. Does not
make fields, keys or identities, does not print, and does not reach copies of the file: `REMAINS`
in `lacre.jobs.sqlite.residue` says where plaintext may be left.

Whoever calls is acting (`acting_as`) as the operator: this job holds the keys of every class it
encrypts for, so it runs under a principal of its own, whose looks and writes the fields record.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from lacre.errors import ConfigurationError, MisuseError
from lacre.fields.column_state import ColumnState
from lacre.jobs.authority import Authority
from lacre.jobs.columns import RID, ColumnRequest, PlannedColumn, RowKey, targets_of
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.ledger import Job, Report, to_go_on_with
from lacre.jobs.pace import Pace
from lacre.jobs.sources import NO_SOURCES, Sources, form_from
from lacre.jobs.sqlite.database import Catalogue, opened, row_key
from lacre.jobs.sqlite.ledger import jobs_of, next_id, open_ledger, write
from lacre.jobs.sqlite.outcome import require_protected
from lacre.jobs.sqlite.passes import Worker
from lacre.jobs.sqlite.plan import Plan, plan
from lacre.jobs.sqlite.schema import folded, quoted
from lacre.jobs.sqlite.structure import protected_sql
from lacre.jobs.sqlite.switch import (
    add_companions,
    changed_meanwhile,
    clean,
    no_duplicates,
    own_programs,
    rebuild,
    refusing,
    transaction,
)
from lacre.jobs.sqlite.values import form_of

__all__ = ["protect", "reported", "row_count", "under_way"]


def protect(
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    sources: Sources = NO_SOURCES,
    connect: Callable[[Path], sqlite3.Connection] = opened,
) -> Report:
    """
    Encrypt *columns* of *table* in place; return when no plaintext is left in the file.

    Args:
        fields: makes the field of a planned column: of its table and name as the plan spells
            them, its Python type, its index unique or not.
        sources: what reads columns that another library wrote.

    Raises:
        ConfigurationError: the plan refuses; its reasons are in the message.
        MisuseError: another job is under way on this table.
        InvalidValue, DuplicateValue: a value written since the plan; the row is named.
        Tampered: what was encrypted does not open as what was there, or the job's row is not what
            an operator signed.
    """
    pace = pace or Pace()
    connection = connect(path)
    try:
        with refusing(table):
            job, resumed = _begun(
                connection, path, table, columns, store, authority, sources, connect
            )
            return _finished(connection, job, fields, authority, pace, sources, resumed=resumed)
    finally:
        connection.close()


def under_way(
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
    connect: Callable[[Path], sqlite3.Connection] = opened,
) -> Job | None:
    """
    Return the job that `protect` with these arguments would go on with, or find done; else None.

    Raises:
        MisuseError: as `protect` would, because of another job on this table.
        Tampered: a job's row is not what an operator signed.
    """
    connection = connect(path)
    try:
        return _asked(connection, table, columns, store, authority)
    finally:
        connection.close()


def _begun(
    connection: sqlite3.Connection,
    path: Path,
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
    sources: Sources,
    connect: Callable[[Path], sqlite3.Connection],
) -> tuple[Job, bool]:
    """The job under way, if it is this one; else a new one, prepared."""
    found = _asked(connection, table, columns, store, authority)
    if found is not None:
        return found, True
    decided = plan(path, table, columns, store=store, sources=sources, connect=connect)
    if decided.refusals:
        raise ConfigurationError(
            f"{decided.table} cannot be protected: "
            + "; ".join(refusal.reason for refusal in decided.refusals),
            hint="; ".join(dict.fromkeys(refusal.hint for refusal in decided.refusals)),
        )
    authority.require_clear(store, decided.table, decided.columns)
    with transaction(connection):
        return _prepared(connection, decided, authority), False


def _still_clear(connection: sqlite3.Connection, job: Job, authority: Authority) -> None:
    """Before the state becomes `dual`: the table is in the middle of this job, and was not protected since."""
    if Catalogue(connection, job.table).objects() != list(job.prepared):
        raise changed_meanwhile(job)
    authority.require_clear(job.store, job.table, job.columns)


def _asked(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
) -> Job | None:
    jobs = jobs_of(connection, table, authority)
    return to_go_on_with(jobs, table, columns, store, fold=folded)


def _prepared(connection: sqlite3.Connection, decided: Plan, authority: Authority) -> Job:
    catalogue = Catalogue(connection, decided.table)
    if tuple(catalogue.objects()) != decided.definitions:
        raise MisuseError(
            f"somebody changed the definition of {decided.table} while it was being read",
            hint="run the same command again",
        )
    open_ledger(connection)
    names = {column.name: column.normaliser for column in decided.columns}
    key = row_key(catalogue, list(names))
    original = tuple(catalogue.objects())
    new_sql = protected_sql(
        catalogue,
        names,
        decided.structure.drop,
        unique=decided.structure.unique,
        row_id=key.added,
    )
    add_companions(
        catalogue, list(names), targets_of(decided.columns), key, decided.structure.narrowed
    )
    job = Job(
        job_id=next_id(connection),
        table=decided.table,
        direction="protect",
        phase="fill",
        store=decided.store,
        columns=decided.columns,
        key=key,
        original=original,
        prepared=tuple(Catalogue(connection, decided.table).objects()),
        final=(),
        details={"indexes": _indexes(decided, key, original), "new_sql": new_sql},
    )
    write(connection, job, authority)
    return job


def _indexes(
    decided: Plan, key: RowKey, original: tuple[tuple[str, str, str], ...]
) -> tuple[str, ...]:
    replaced = {change.name: change.sql for change in decided.structure.indexes}
    kept = [sql for kind, name, sql in original if kind == "index" and name not in replaced]
    made = [sql for sql in replaced.values() if sql is not None]
    if key.added:
        made.append(
            f"CREATE UNIQUE INDEX {quoted(f'{decided.table}_{RID}')} ON {quoted(decided.table)} ({RID})"
        )
    return (*kept, *made)


def _finished(
    connection: sqlite3.Connection,
    job: Job,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    pace: Pace,
    sources: Sources,
    *,
    resumed: bool,
) -> Report:
    lost = 0
    if job.phase == "fill":
        _still_clear(connection, job, authority)
        authority.move(job, ColumnState.DUAL)
        worker = Worker(
            connection,
            job,
            Encrypting(
                job.columns,
                {column.name: fields(column) for column in job.columns},
                form_from(sources, form_of),
            ),
            pace,
        )
        worker.fill()
        worker.verify()
        no_duplicates(connection, job)
        job = _switched(connection, job, worker, authority)
        lost = worker.lost_races
    if job.phase == "clean":
        # Only now: the state says what is true of the table, and it is true since the commit. The
        # row alone is not believed: an old one, rightly signed, could have been put back.
        require_protected(connection, job)
        authority.move(job, ColumnState.ENCRYPTED)
        clean(connection)
        with transaction(connection):
            finished = job.stepped(phase="done")
            write(connection, finished, authority, was=("protect", "clean"))
    else:
        # A key store out of an older backup may not know yet.
        require_protected(connection, job)
        authority.move(job, ColumnState.ENCRYPTED)
    return reported(connection, job, lost_races=lost, resumed=resumed)


def row_count(connection: sqlite3.Connection, job: Job) -> int:
    (rows,) = connection.execute(f"SELECT count(*) FROM {quoted(job.table)}").fetchone()
    return int(rows)


def reported(connection: sqlite3.Connection, job: Job, *, lost_races: int, resumed: bool) -> Report:
    """Return what a job that has come to its end did."""
    return Report(
        table=job.table,
        columns=tuple(column.name for column in job.columns),
        rows=row_count(connection, job),
        lost_races=lost_races,
        resumed=resumed,
    )


def _switched(
    connection: sqlite3.Connection, job: Job, worker: Worker, authority: Authority
) -> Job:
    connection.execute("PRAGMA legacy_alter_table=ON")
    # EXCLUSIVE: no reader of a rollback-journal database can make the commit wait.
    with transaction(connection, "EXCLUSIVE"):
        worker.catch_up()
        no_duplicates(connection, job)
        values = {column.name: column.companion for column in job.columns}
        final = rebuild(
            connection,
            job,
            new_sql=job.details["new_sql"],
            values=values,
            programs=own_programs(job.original, "trigger"),
            indexes=job.details["indexes"],
        )
        switched = job.stepped(phase="clean", final=final)
        write(connection, switched, authority, was=("protect", "fill"))
    return switched
