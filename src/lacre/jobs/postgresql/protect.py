# SPDX-License-Identifier: Apache-2.0
"""
`lacre protect` on PostgreSQL: encrypt columns of a table in place, while it is in use.

Implements ``spec/protect-postgresql.md``. The same call goes on where a killed one stopped. Does not
make fields, keys or identities, does not print, and rewrites no table: `REMAINS` in
`lacre.jobs.postgresql.sizes` says where plaintext may be left.

Whoever calls is acting (`acting_as`) as the operator: this job holds the keys of every class it
encrypts for, so it runs under a principal of its own, whose looks and writes the fields record.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from lacre.errors import ConfigurationError, DuplicateValue, MisuseError
from lacre.fields.column_state import ColumnState
from lacre.jobs.authority import Authority
from lacre.jobs.columns import RID, ColumnRequest, PlannedColumn, RowKey, targets_of
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.ledger import Job, Report, to_go_on_with, unchanged
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.catalogue import Catalogue, row_key
from lacre.jobs.postgresql.connection import connected, quoted, refusing, run, transaction
from lacre.jobs.postgresql.definitions import (
    check_names,
    column_record,
    companions_sql,
    exchange_sql,
    final_definitions,
    prepared_definitions,
    programs_sql,
    restored_sql,
    unmarking_sql,
)
from lacre.jobs.postgresql.indexes import build, build_unmarked, temporary_name
from lacre.jobs.postgresql.ledger import jobs_of, next_id, open_ledger, write
from lacre.jobs.postgresql.locks import Locks, coordinating, require_coordinating
from lacre.jobs.postgresql.outcome import require_not_null, require_protected
from lacre.jobs.postgresql.passes import Worker
from lacre.jobs.postgresql.plan import Plan, planned
from lacre.jobs.postgresql.programs import Program
from lacre.jobs.postgresql.sizes import advice
from lacre.jobs.postgresql.structure import Index
from lacre.jobs.postgresql.values import form_of, with_type
from lacre.jobs.sources import NO_SOURCES, Sources, form_from

__all__ = ["catalogue_of", "protect", "row_count", "spelling", "typed", "under_way"]


def protect(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    verify: bool = True,
    join: bool = False,
    lock_timeout: float = 1.0,
    lock_tries: int = 60,
    decided: Plan | None = None,
    sources: Sources = NO_SOURCES,
    connect: Callable[[str], Any] = connected,
) -> Report:
    """
    Encrypt *columns* of *table* in place; return when the column takes ciphertext only.

    Args:
        database: a URL, ``postgresql://...``.
        table: its name, or SCHEMA.NAME.
        fields: makes the field of a planned column: of its table and name as the plan spells
            them, its Python type, its index unique or not.
        verify: convert every row back and compare, before the plaintext goes.
        join: fill rows beside the process that is at work on the table, and leave the rest to it.
        lock_timeout: seconds that a lock which stops others is waited for at a time.
        lock_tries: how often it is asked for.
        decided: what `plan` gave a moment ago, so that values are not read twice.
        sources: what reads columns that another library wrote.

    Raises:
        ConfigurationError: the plan refuses; its reasons are in the message.
        MisuseError: another job, or another process, is under way on this table.
        InvalidValue, DuplicateValue: a value written since the plan; the row is named.
        Tampered: what was encrypted does not open as what was there, or the job's row is not what
            an operator signed.
    """
    with connect(database) as connection, refusing(table):
        catalogue = Catalogue(connection, table)
        locks = Locks(connection, catalogue.sql, limit=lock_timeout, tries=lock_tries)
        work = _Protecting(
            connection, locks, fields, authority, pace or Pace(), lambda: connect(database), sources
        )
        if join:
            return work.joined(_asked(connection, catalogue, columns, store, authority))
        require_coordinating(connection, catalogue.oid, catalogue.shown)
        found = _asked(connection, catalogue, columns, store, authority)
        job = found or work.begun(
            decided or planned(connection, database, table, columns, store=store, sources=sources)
        )
        return work.finished(job, resumed=found is not None, verify=verify)


def under_way(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    authority: Authority,
    store: str = "main",
    connect: Callable[[str], Any] = connected,
) -> Job | None:
    """
    Return the job that `protect` with these arguments would go on with, or find done; else None.

    Raises:
        MisuseError: as `protect` would, because of another job on this table.
        Tampered: a job's row is not what an operator signed.
    """
    with connect(database) as connection, refusing(table):
        return _asked(connection, Catalogue(connection, table), columns, store, authority)


def _asked(
    connection: Any,
    catalogue: Catalogue,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
) -> Job | None:
    jobs = jobs_of(connection, catalogue.schema, catalogue.table, authority)
    found = to_go_on_with(jobs, catalogue.shown, columns, store, fold=spelling(catalogue))
    return None if found is None else typed(found, catalogue)


def spelling(catalogue: Catalogue) -> Callable[[str], str]:
    return lambda name: catalogue.spelt(name) or name


def typed(job: Job, catalogue: Catalogue) -> Job:
    """Return *job* with the Enums whose labels the database has: of the plaintext's column, wherever it is."""
    columns = []
    for column in job.columns:
        for name in (column.name, column.companion):
            if name in catalogue.names and catalogue.column(name).category == "e":
                column = with_type(column, catalogue.column(name))  # noqa: PLW2901
        columns.append(column)
    return job.stepped(columns=tuple(columns))


class _Protecting:
    """One run of `protect`."""

    def __init__(
        self,
        connection: Any,
        locks: Locks,
        fields: Callable[[PlannedColumn], ProtectedField],
        authority: Authority,
        pace: Pace,
        connect: Callable[[], Any],
        sources: Sources,
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._locks = locks
        self._fields = fields
        self._authority = authority
        self._pace = pace
        self._connect = connect

    def begun(self, decided: Plan) -> Job:
        """Prepare the table, in one transaction."""
        if decided.refusals:
            raise ConfigurationError(
                f"{decided.table} cannot be protected: "
                + "; ".join(refusal.reason for refusal in decided.refusals),
                hint="; ".join(dict.fromkeys(refusal.hint for refusal in decided.refusals)),
            )
        self._authority.require_clear(decided.store, decided.table, decided.columns)
        with self._locks.exclusive("prepare"):
            return self._prepared(decided)

    def _prepared(self, decided: Plan) -> Job:
        connection = self._connection
        catalogue = Catalogue(connection, f"{decided.schema}.{decided.table}")
        names = [column.name for column in decided.columns]
        if catalogue.definitions(names) != decided.definitions:
            raise _redefined_meanwhile(decided)
        open_ledger(connection, catalogue.schema, catalogue.table)
        key = row_key(catalogue, look=False)  # nothing is read under this lock: the plan did that
        if decided.adds_row_id and key.columns == catalogue.key:
            key = RowKey(columns=(RID,), added=True, why="some primary keys are empty")
        if (key.columns, key.added) != (decided.row_id, decided.adds_row_id):
            raise _redefined_meanwhile(decided)
        targets = targets_of(decided.columns)
        programs = decided.structure.programs
        statements = [
            *programs_sql(catalogue, programs, narrowed=True),
            *companions_sql(
                catalogue,
                [(name, "pg_catalog.bytea") for name in targets],
                decided.columns,
                adds_row_id=key.added,
            ),
            *unmarking_sql(catalogue, decided.columns, targets, key.columns),
        ]
        for statement in statements:
            run(connection, statement)
        job = Job(
            job_id=next_id(connection, catalogue.schema),
            table=catalogue.table,
            direction="protect",
            phase="fill",
            store=decided.store,
            columns=decided.columns,
            key=key,
            original=decided.definitions,
            prepared=prepared_definitions(
                Catalogue(connection, f"{catalogue.schema}.{catalogue.table}"),
                names,
                targets,
                key.columns,
            ),
            final=(),
            details={
                "schema": catalogue.schema,
                "columns": [column_record(catalogue.column(name)) for name in names],
                "found": [index.record() for index in decided.structure.found],
                "made": [index.record() for index in decided.structure.made],
                "programs": [program.record() for program in programs],
                "sizes": decided.sizes.record(),
            },
        )
        write(connection, job, self._authority)
        return job

    def _worker(self, job: Job, catalogue: Catalogue) -> Worker:
        conversion = Encrypting(
            job.columns,
            {column.name: self._fields(column) for column in job.columns},
            form_from(self._sources, lambda column: form_of(catalogue.column(column.name), column)),
            record=self._authority.record,
        )
        return Worker(self._connection, catalogue, job, conversion, self._pace, self._connect)

    def joined(self, job: Job | None) -> Report:
        """Fill beside the process that coordinates, once there is something to fill."""
        if job is None or job.phase != "fill":
            raise MisuseError(
                "there is no fill to join on this table",
                hint="run the command without --join; it may be joined once its first lock was had",
            )
        catalogue = catalogue_of(self._connection, job)
        if coordinating(self._connection, catalogue.oid):
            raise MisuseError(
                "no process is at work on this table, so there is none to join",
                hint="run the same command without --join",
            )
        worker = self._worker(job, catalogue)
        worker.fill()
        return self._reported(job, catalogue, worker, resumed=True, joined=True, verified=False)

    def finished(self, job: Job, *, resumed: bool, verify: bool) -> Report:
        catalogue, worker = catalogue_of(self._connection, job), None
        if job.phase == "fill":
            self._still_clear(job, catalogue)
            self._authority.move(job, ColumnState.DUAL)
            worker = self._worker(job, catalogue)
            self._filled(job, catalogue, worker, verify=verify)
            job = self._switched(job, worker)
            catalogue = catalogue_of(self._connection, job)
        if job.phase == "clean":
            # Only now: the state says what is true of the table, and it is true since the commit. The
            # row alone is not believed: an old one, rightly signed, could have been put back.
            names = [column.name for column in job.columns if column.not_null]
            if RID in catalogue.names and job.key.added:
                names.append(RID)
            require_not_null(self._connection, self._locks, catalogue, names)
            require_protected(self._connection, self._locks, job)
            self._authority.move(job, ColumnState.ENCRYPTED)
            run(self._connection, f"ANALYZE {catalogue.sql}")
            job = self._done(job)
        else:
            # A key store out of an older backup may not know yet.
            require_protected(self._connection, self._locks, job)
            self._authority.move(job, ColumnState.ENCRYPTED)
        return self._reported(job, catalogue, worker, resumed=resumed, verified=verify)

    def _still_clear(self, job: Job, catalogue: Catalogue) -> None:
        """Before the state becomes `dual`: the table is in the middle of this job, and was not protected since."""
        unchanged(_prepared_now(job, catalogue), job.prepared, "this job")
        self._authority.require_clear(job.store, job.table, job.columns)

    def _filled(self, job: Job, catalogue: Catalogue, worker: Worker, *, verify: bool) -> None:
        worker.fill()
        build_unmarked(self._connection, catalogue, self._locks)
        worker.fill_rest()
        if verify:
            worker.verify()
        for index in _made(job):
            self._indexed(job, catalogue, index)
        if job.key.added:
            self._indexed(job, catalogue, _row_id_index(catalogue))
        names = (check_names(catalogue.table, column) for column in job.columns)
        for name in chain.from_iterable(names):
            with self._locks.shared(f"validate {name}"):
                run(
                    self._connection,
                    f"ALTER TABLE {catalogue.sql} VALIDATE CONSTRAINT {quoted(name)}",
                )

    def _indexed(self, job: Job, catalogue: Catalogue, index: Index) -> None:
        import psycopg

        failure = None
        try:
            build(self._connection, catalogue, self._locks, index, index.column)
        except psycopg.errors.UniqueViolation:
            failure = _duplicates(self._connection, job, catalogue, index.column)
        if failure is not None:
            raise failure

    def _switched(self, job: Job, worker: Worker) -> Job:
        while True:
            worker.fill_rest()
            with self._locks.exclusive("switch over"):
                catalogue = catalogue_of(self._connection, job)
                unchanged(_prepared_now(job, catalogue), job.prepared, "this job")
                if worker.catch_up():
                    return self._exchanged(job, catalogue)

    def _exchanged(self, job: Job, catalogue: Catalogue) -> Job:
        indexes = [(index, temporary_name(catalogue, index)) for index in _made(job)]
        if job.key.added:
            rid = _row_id_index(catalogue)
            indexes.append((rid, temporary_name(catalogue, rid)))
        statements = exchange_sql(
            catalogue,
            job.columns,
            direction="protect",
            indexes=indexes,
            programs=[Program(**program) for program in job.details["programs"]],
            row_id="keep" if job.key.added else "",
        )
        kept = [
            {
                key: value
                for key, value in record.items()
                if key in ("name", "comment", "privileges")
            }
            for record in job.details["columns"]
        ]
        indexed = {column.name: column.token_names for column in job.columns}
        for statement in [*statements, *restored_sql(catalogue, kept, indexed=indexed)]:
            run(self._connection, statement)
        after = catalogue_of(self._connection, job)
        switched = job.stepped(phase="clean", final=final_definitions(after, job.columns))
        write(self._connection, switched, self._authority, was=("protect", "fill"))
        return switched

    def _done(self, job: Job) -> Job:
        with transaction(self._connection):
            final = final_definitions(catalogue_of(self._connection, job), job.columns)
            done = job.stepped(phase="done", final=final)
            write(self._connection, done, self._authority, was=("protect", "clean"))
        return done

    def _reported(
        self,
        job: Job,
        catalogue: Catalogue,
        worker: Worker | None,
        *,
        resumed: bool,
        verified: bool,
        joined: bool = False,
    ) -> Report:
        return Report(
            table=job.table,
            columns=tuple(column.name for column in job.columns),
            rows=worker.written if joined and worker else row_count(self._connection, catalogue),
            lost_races=worker.lost_races if worker else 0,
            resumed=resumed,
            verified=verified,
            joined=joined,
            locks=tuple(str(lock) for lock in self._locks.taken),
            advice=()
            if joined
            else advice(self._connection, catalogue, job.details["sizes"]["heap"]),
        )


def _redefined_meanwhile(decided: Plan) -> MisuseError:
    return MisuseError(
        f"somebody changed the definition of {decided.table} while it was being read",
        hint="run the same command again",
    )


def row_count(connection: Any, catalogue: Catalogue) -> int:
    return int(run(connection, f"SELECT count(*) FROM {catalogue.sql}").fetchone()[0])  # noqa: S608


def catalogue_of(connection: Any, job: Job) -> Catalogue:
    return Catalogue(connection, f"{job.details['schema']}.{job.table}")


def _prepared_now(job: Job, catalogue: Catalogue) -> tuple[tuple[str, str, str], ...]:
    names = [column.name for column in job.columns]
    return prepared_definitions(catalogue, names, targets_of(job.columns), job.key.columns)


def _made(job: Job) -> list[Index]:
    return [Index.of(record) for record in job.details["made"]]


def _row_id_index(catalogue: Catalogue) -> Index:
    return Index(
        column=RID,
        name=f"{catalogue.table}_{RID}",
        unique=True,
        method="btree",
        tail=")",
        constraint=False,
        timing="",
        comment=None,
    )


def _duplicates(connection: Any, job: Job, catalogue: Catalogue, column: str) -> DuplicateValue:
    names = ", ".join(quoted(name) for name in job.key.columns)
    bidx, table = quoted(column), catalogue.sql
    rows = run(
        connection,
        f"SELECT {names} FROM {table} WHERE {bidx} IN "  # noqa: S608
        f"(SELECT {bidx} FROM {table} WHERE {bidx} IS NOT NULL GROUP BY {bidx} HAVING count(*) > 1) LIMIT 10",
    ).fetchall()
    key = RowKey(columns=job.key.columns, added=False)
    return DuplicateValue(
        f"{column} is unique, and rows {', '.join(key.text(row) for row in rows)} hold the same value once normalised",
        hint="correct these rows, then run the same command again",
    )
