# SPDX-License-Identifier: Apache-2.0
"""
`lacre unprotect` on PostgreSQL: the way back, to the columns as `protect` found them.

Implements ``spec/protect-postgresql.md``, section "The way back". Every row comes back with the value
that `protect` read, or with what was written since; the columns with type, default, constraints,
indexes, comment and privileges. Only their order is another. Does not undo changes that others made to
these definitions since: it refuses and names them.

A `protect` that still fills is taken back without converting anything: the plaintext counts or is
equal to what counts, so the companions go.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lacre.errors import ConfigurationError
from lacre.fields.column_state import ColumnState
from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn, RowKey, targets_of
from lacre.jobs.conversion import Decrypting, ProtectedField
from lacre.jobs.ledger import Job, Report, to_undo_of, unchanged
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import connected, refusing, run, transaction, verbatim
from lacre.jobs.postgresql.definitions import (
    companions_sql,
    exchange_sql,
    final_definitions,
    prepared_definitions,
    programs_sql,
    restored_sql,
    taken_back_sql,
    unmarking_sql,
)
from lacre.jobs.postgresql.indexes import build, build_unmarked, temporary_name
from lacre.jobs.postgresql.ledger import jobs_of, remove, write
from lacre.jobs.postgresql.locks import Locks, require_coordinating
from lacre.jobs.postgresql.outcome import require_not_null, require_plaintext
from lacre.jobs.postgresql.passes import Worker
from lacre.jobs.postgresql.programs import Program, programs_of
from lacre.jobs.postgresql.protect import catalogue_of, row_count, spelling, typed
from lacre.jobs.postgresql.sizes import advice
from lacre.jobs.postgresql.structure import Index
from lacre.jobs.postgresql.values import form_of

__all__ = ["to_undo", "unprotect"]


def unprotect(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    lock_timeout: float = 1.0,
    connect: Callable[[str], Any] = connected,
) -> Report:
    """
    Decrypt *columns* of *table* in place. The arguments are those that `protect` was given.

    Where that `protect` was stopped while it filled, its companion columns go, and the state is
    `plaintext` again.

    Raises:
        MisuseError: these columns were not protected by these arguments, a later `protect` has
            to be undone first, their definitions were changed since, or another process is at work.
        InvalidValue: a value that was written since does not fit the column's own type.
        Tampered, KeyUnavailable: a value does not open; nothing was switched over.
        Tampered: the job's row is not what an operator signed; nothing was done.
    """
    with connect(database) as connection, refusing(table):
        catalogue = Catalogue(connection, table)
        require_coordinating(connection, catalogue.oid, catalogue.shown)
        job = _found(connection, catalogue, columns, store, authority)
        locks = Locks(connection, catalogue.sql, limit=lock_timeout)
        work = _Unprotecting(
            connection, locks, fields, authority, pace or Pace(), lambda: connect(database)
        )
        resumed = job.direction == "unprotect"
        if job.direction == "protect" and job.phase == "fill":
            job = work.taken_back(job)
        elif not resumed:
            job = work.begun(job)
        return work.finished(job, resumed=resumed)


def to_undo(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
    connect: Callable[[str], Any] = connected,
) -> tuple[Job, int]:
    """
    Return the job that `unprotect` with these arguments would undo, and its table's rows now.

    Raises:
        MisuseError, Tampered: as `unprotect` would, before its first change.
    """
    with connect(database) as connection, refusing(table):
        catalogue = Catalogue(connection, table)
        job = _found(connection, catalogue, columns, store, authority)
        if job.direction == "protect" and job.phase == "fill":
            unchanged(_protecting_now(job, catalogue), job.prepared, "protect")
        elif job.direction == "protect":
            unchanged(final_definitions(catalogue, job.columns), job.final, "protect")
        return job, row_count(connection, catalogue)


def _found(
    connection: Any,
    catalogue: Catalogue,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
) -> Job:
    jobs = jobs_of(connection, catalogue.schema, catalogue.table, authority)
    return to_undo_of(jobs, catalogue.shown, columns, store, fold=spelling(catalogue))


class _Unprotecting:
    """One run of `unprotect`."""

    def __init__(
        self,
        connection: Any,
        locks: Locks,
        fields: Callable[[PlannedColumn], ProtectedField],
        authority: Authority,
        pace: Pace,
        connect: Callable[[], Any],
    ) -> None:
        self._connection = connection
        self._locks = locks
        self._fields = fields
        self._authority = authority
        self._pace = pace
        self._connect = connect

    def begun(self, job: Job) -> Job:
        with self._locks.exclusive("prepare"):
            return self._prepared(job)

    def _prepared(self, job: Job) -> Job:
        catalogue = catalogue_of(self._connection, job)
        unchanged(final_definitions(catalogue, job.columns), job.final, "protect")
        programs = programs_of(catalogue, [column.name for column in job.columns], _refuse)
        targets = [column.companion for column in job.columns]
        kinds = [_kind(record) for record in job.details["columns"]]
        statements = [
            *programs_sql(catalogue, programs, narrowed=True),
            *companions_sql(
                catalogue, list(zip(targets, kinds, strict=True)), [], adds_row_id=False
            ),
            *unmarking_sql(catalogue, job.columns, targets, job.key.columns),
        ]
        for statement in statements:
            run(self._connection, statement)
        prepared = job.stepped(
            direction="unprotect",
            phase="fill",
            prepared=_prepared_now(job, catalogue_of(self._connection, job)),
            details=dict(job.details) | {"programs": [program.record() for program in programs]},
            done=0,
        )
        write(self._connection, prepared, self._authority, was=("protect", "done"))
        return prepared

    def taken_back(self, job: Job) -> Job:
        """Drop what a `protect` that still fills has added. Nothing is scanned or rewritten."""
        with self._locks.exclusive("take back"):
            catalogue = catalogue_of(self._connection, job)
            unchanged(_protecting_now(job, catalogue), job.prepared, "protect")
            programs = [Program(**program) for program in job.details["programs"]]
            for statement in taken_back_sql(
                catalogue, targets_of(job.columns), programs, adds_row_id=job.key.added
            ):
                run(self._connection, statement)
            final = final_definitions(catalogue_of(self._connection, job), job.columns)
            taken_back = job.stepped(direction="unprotect", phase="clean", final=final)
            write(self._connection, taken_back, self._authority, was=("protect", "fill"))
        return taken_back

    def finished(self, job: Job, *, resumed: bool) -> Report:
        worker = None
        before = job.details["sizes"]["heap"]
        if job.phase == "fill":
            catalogue = catalogue_of(self._connection, job)
            worker = self._worker(job, catalogue)
            worker.fill()
            build_unmarked(self._connection, catalogue, self._locks)
            worker.fill_rest()
            worker.verify()
            for index in _indexes(job):
                build(self._connection, catalogue, self._locks, index, _companion(job, index))
            job = self._switched(job, worker)
        catalogue = catalogue_of(self._connection, job)
        names = [column.name for column in job.columns if column.not_null]
        require_not_null(self._connection, self._locks, catalogue, names)
        require_plaintext(self._connection, job)
        self._authority.move(job, ColumnState.PLAINTEXT)
        run(self._connection, f"ANALYZE {catalogue.sql}")
        with transaction(self._connection):
            remove(self._connection, job)
        return Report(
            table=job.table,
            columns=tuple(column.name for column in job.columns),
            rows=row_count(self._connection, catalogue),
            lost_races=worker.lost_races if worker else 0,
            resumed=resumed,
            locks=tuple(str(lock) for lock in self._locks.taken),
            advice=advice(self._connection, catalogue, before),
        )

    def _worker(self, job: Job, catalogue: Catalogue) -> Worker:
        # The row id exists by now, whoever added it.
        named = typed(job, catalogue).stepped(key=RowKey(columns=job.key.columns, added=False))
        conversion = Decrypting(
            named.columns,
            {column.name: self._fields(column) for column in named.columns},
            lambda column: form_of(catalogue.column(column.companion), column),
        )
        return Worker(self._connection, catalogue, named, conversion, self._pace, self._connect)

    def _switched(self, job: Job, worker: Worker) -> Job:
        while True:
            worker.fill_rest()
            with self._locks.exclusive("switch over"):
                catalogue = catalogue_of(self._connection, job)
                unchanged(_prepared_now(job, catalogue), job.prepared, "this job")
                if worker.catch_up():
                    return self._exchanged(job, catalogue)

    def _exchanged(self, job: Job, catalogue: Catalogue) -> Job:
        statements = exchange_sql(
            catalogue,
            job.columns,
            direction="unprotect",
            indexes=[(index, temporary_name(catalogue, index)) for index in _indexes(job)],
            programs=[Program(**program) for program in job.details["programs"]],
            row_id="drop" if job.key.added else "",
        )
        for statement in [*statements, *restored_sql(catalogue, job.details["columns"])]:
            run(self._connection, statement)
        final = final_definitions(catalogue_of(self._connection, job), job.columns)
        switched = job.stepped(phase="clean", final=final)
        write(self._connection, switched, self._authority, was=("unprotect", "fill"))
        return switched


def _kind(record: dict[str, Any]) -> str:
    collation = f" COLLATE {record['collation']}" if record["collation"] else ""
    return verbatim(f"{record['declared']}{collation}")


def _indexes(job: Job) -> list[Index]:
    return [Index.of(record) for record in job.details["found"]]


def _companion(job: Job, index: Index) -> str:
    return next(column.companion for column in job.columns if column.name == index.column)


def _prepared_now(job: Job, catalogue: Catalogue) -> tuple[tuple[str, str, str], ...]:
    names = [column.name for column in job.columns]
    targets = [column.companion for column in job.columns]
    return prepared_definitions(catalogue, names, targets, job.key.columns)


def _protecting_now(job: Job, catalogue: Catalogue) -> tuple[tuple[str, str, str], ...]:
    names = [column.name for column in job.columns]
    return prepared_definitions(catalogue, names, targets_of(job.columns), job.key.columns)


def _refuse(reason: str, hint: str) -> None:
    raise ConfigurationError(reason, hint=hint)
