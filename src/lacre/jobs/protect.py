# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
`lacre protect` on SQLite: encrypt columns of a table in place, while it is in use.

Implements ``spec/protect-sqlite.md``. The same call goes on where a killed one stopped. Does not
make fields, keys or identities, does not print, and does not reach copies of the file: `REMAINS`
in `lacre.jobs.residue` says where plaintext may be left.

Whoever calls is acting (`acting_as`) as the operator: this job holds the keys of every class it
encrypts for, so it runs under a principal of its own, whose looks and writes the fields record.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lacre.audit.events import Event, Place, Protection, who
from lacre.context import Acting, current
from lacre.errors import ConfigurationError, MisuseError
from lacre.fields.column_state import ColumnState, ColumnStates, Signer, Verifier, move
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.ledger import Job, jobs_of, next_id, open_ledger, write
from lacre.jobs.outcome import require_protected
from lacre.jobs.passes import Pace, Worker
from lacre.jobs.plan import ColumnRequest, Plan, PlannedColumn, plan
from lacre.jobs.sqlite_database import RID, Catalogue, RowKey, opened, row_key
from lacre.jobs.sqlite_schema import quoted, same_name
from lacre.jobs.sqlite_structure import protected_sql
from lacre.jobs.switch import (
    add_companions,
    changed_meanwhile,
    clean,
    no_duplicates,
    own_programs,
    rebuild,
    refusing,
    transaction,
)

__all__ = ["Authority", "Report", "protect", "reported", "row_count", "under_way"]


def _named(acting: Acting) -> str:
    return acting.tenant or ""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """
    Where column states are kept, who signs them and the jobs, for which key store, whose
    signatures are believed (*signers*, the signer's own among them), and where moves are recorded.

    *tenant* tells whose keys the fields take, as they tell it.
    """

    states: ColumnStates
    signer: Signer
    signers: Sequence[Verifier]
    keystore: str
    record: Callable[[Sequence[Event]], None] = field(repr=False)
    tenant: Callable[[Acting], str] = field(default=_named, repr=False)
    now: Callable[[], dt.datetime] = field(default=_now, repr=False)

    def move(self, job: Job, to: ColumnState) -> None:
        """
        Bring every column of *job* to state *to*; those that are there stay as they are.

        Raises:
            EvidenceUnavailable: the move cannot be recorded, so it is not made.
        """
        now, acting = self.now().astimezone(dt.UTC), current()
        changed = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        for column in job.columns:
            event = Protection(
                **who(acting, time=now.timestamp(), tenant=self.tenant(acting)),
                place=Place(job.store, job.table, column.name, column.class_),
                step=str(to),
                count=column.values,
            )
            present = self.states.get(job.store, job.table, column.name)
            if present is None or present.state is not to:
                self.record([event])
            move(
                self.states,
                self.signer,
                keystore=self.keystore,
                store=job.store,
                table=job.table,
                column=column.name,
                class_=column.class_,
                to=to,
                changed=changed,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a finished job did. *resumed*: a job that was under way was brought to its end."""

    table: str
    columns: tuple[str, ...]
    rows: int
    lost_races: int
    resumed: bool


def protect(
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
    Encrypt *columns* of *table* in place; return when no plaintext is left in the file.

    Args:
        fields: makes the field of a planned column: of its table and name as the plan spells
            them, its Python type, its index unique or not.

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
            job, resumed = _begun(connection, path, table, columns, store, authority, connect)
            return _finished(connection, job, fields, authority, pace, resumed=resumed)
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
    connect: Callable[[Path], sqlite3.Connection],
) -> tuple[Job, bool]:
    """The job under way, if it is this one; else a new one, prepared."""
    found = _asked(connection, table, columns, store, authority)
    if found is not None:
        return found, True
    decided = plan(path, table, columns, store=store, connect=connect)
    if decided.refusals:
        raise ConfigurationError(
            f"{decided.table} cannot be protected: "
            + "; ".join(refusal.reason for refusal in decided.refusals),
            hint="; ".join(dict.fromkeys(refusal.hint for refusal in decided.refusals)),
        )
    _not_encrypted(store, decided.table, decided.columns, authority)
    with transaction(connection):
        return _prepared(connection, decided, authority), False


def _not_encrypted(
    store: str, table: str, columns: Sequence[PlannedColumn], authority: Authority
) -> None:
    for column in columns:
        present = authority.states.get(store, table, column.name)
        if present is not None and present.state is ColumnState.ENCRYPTED:
            raise ConfigurationError(
                f"the key store says that {table}.{column.name} is encrypted, and this database holds it in the clear",
                hint="this may be an old copy of the database: restore the present one, or use another --store name",
            )


def _still_clear(connection: sqlite3.Connection, job: Job, authority: Authority) -> None:
    """Before the state becomes `dual`: the table is in the middle of this job, and was not protected since."""
    if Catalogue(connection, job.table).objects() != list(job.prepared):
        raise changed_meanwhile(job)
    _not_encrypted(job.store, job.table, job.columns, authority)


def _asked(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[ColumnRequest],
    store: str,
    authority: Authority,
) -> Job | None:
    for job in jobs_of(connection, table, authority):
        if job.phase != "done" or job.direction != "protect":
            if job.direction != "protect" or not job.asked(store, columns):
                raise MisuseError(
                    f"another job is under way on {table}: {job}",
                    hint="finish that one first, by running it again",
                )
            return job
        if job.asked(store, columns):
            return job
        _not_yet(job, columns)
    return None


def _not_yet(job: Job, columns: Sequence[ColumnRequest]) -> None:
    done = [
        column.name
        for column in job.columns
        if any(same_name(column.name, asked.name) for asked in columns)
    ]
    if done:
        raise MisuseError(
            f"already protected: {', '.join(done)} of {job.table}",
            hint=f"the command that did it: {job}",
        )


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
    new_sql = protected_sql(catalogue, names, decided.structure.drop, row_id=key.added)
    targets = [
        name
        for column in decided.columns
        for name in ([column.companion, column.bidx] if column.normaliser else [column.companion])
    ]
    add_companions(catalogue, list(names), targets, key, decided.structure.narrowed)
    job = Job(
        job_id=next_id(connection),
        table=decided.table,
        direction="protect",
        phase="fill",
        store=decided.store,
        columns=decided.columns,
        key=key,
        indexes=_indexes(decided, key, original),
        new_sql=new_sql,
        original=original,
        prepared=tuple(Catalogue(connection, decided.table).objects()),
        final=(),
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
            Encrypting(job.columns, {column.name: fields(column) for column in job.columns}),
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
        require_protected(connection, job)
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
            new_sql=job.new_sql,
            values=values,
            programs=own_programs(job.original, "trigger"),
            indexes=job.indexes,
        )
        switched = job.stepped(phase="clean", final=final)
        write(connection, switched, authority, was=("protect", "fill"))
    return switched
