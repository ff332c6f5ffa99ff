# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
The jobs' memory, inside the database they work on: one row for each job.

Implements ``spec/protect-sqlite.md``, section "The job's row". It is written in the same
transactions as the data, so the two never disagree, whenever the process is killed. Holds names,
definitions and counts, never a value.

Whoever writes the database writes this table too, and a job runs the definitions that its row
holds. So the operator signs each row, and nothing of one is used before its signature is verified.
"""

import datetime as dt
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, Protocol

from lacre._core.canonical import canonical
from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.fields.column_state import Signer, Verifier
from lacre.jobs.plan import ColumnRequest, PlannedColumn
from lacre.jobs.sqlite_database import JOB, RowKey
from lacre.jobs.sqlite_schema import folded, same_name

__all__ = ["Job", "Trust", "jobs_of", "open_ledger", "remove", "write"]

Direction = Literal["protect", "unprotect"]
# fill: both forms are there, and the marker says which counts. clean: the switch-over is done,
# freed pages are not yet gone. done: protected; kept, because the way back needs it.
Phase = Literal["fill", "clean", "done"]

_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (str, int, bool, bytes, dict, Decimal, dt.date, dt.datetime)
}
Objects = tuple[tuple[str, str, str], ...]

# 16 bytes like every label, so that no other signed message of lacre begins with it.
_LABEL = b"lacre/1/job".ljust(16, b"\0")
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


class Trust(Protocol):
    """Who signs jobs, for which key store, and whose signatures are believed."""

    @property
    def signer(self) -> Signer: ...

    @property
    def signers(self) -> Sequence[Verifier]: ...

    @property
    def keystore(self) -> str: ...


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
        mine = {(folded(column.name), column.class_, column.normaliser) for column in self.columns}
        theirs = {(folded(column.name), column.class_, column.normaliser) for column in columns}
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
        _read(row, trust) for row in rows if isinstance(row[1], str) and same_name(row[1], table)
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


def _signed_bytes(
    job_id: int, table: str, direction: str, phase: str, record: str, *, signer: str, keystore: str
) -> bytes:
    # The record by its hash: a part of a canonical map ends at 65535 bytes, a definition may not.
    return _LABEL + canonical(
        {
            "direction": direction,
            "job": str(job_id),
            "keystore": keystore,
            "phase": phase,
            "record": sha256(record.encode("ascii")).hexdigest(),
            "signer": signer,
            "table": table,
        }
    )


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
    signer = trust.signer.fingerprint
    signature = trust.signer.sign(
        _signed_bytes(
            job.job_id,
            job.table,
            job.direction,
            job.phase,
            record,
            signer=signer,
            keystore=trust.keystore,
        )
    )
    if was is None:
        connection.execute(
            f'INSERT INTO {JOB} (id, "table", direction, phase, record, signer, signature, done) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
            (job.job_id, job.table, job.direction, job.phase, record, signer, signature, job.done),
        )
        return
    moved = connection.execute(
        f"UPDATE {JOB} SET direction = ?, phase = ?, record = ?, signer = ?, signature = ?, position = NULL, done = ? "
        "WHERE id = ? AND direction = ? AND phase = ?",
        (job.direction, job.phase, record, signer, signature, job.done, job.job_id, *was),
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


def _verified(row: Sequence[Any], trust: Trust) -> None:
    """Raise unless a trusted identity signed everything of *row* but its count."""
    job_id, table, direction, phase, record, signer, signature, _ = row
    texts = (table, direction, phase, record, signer)
    by_fingerprint = {verifier.fingerprint: verifier for verifier in trust.signers}
    try:
        # SQLite types values, not columns: what is signed here is text, and nothing else is.
        if not all(isinstance(text, str) for text in texts) or signer not in by_fingerprint:
            raise Tampered
        if not isinstance(signature, bytes) or not record.isascii():
            raise Tampered
        by_fingerprint[signer].verify(
            _signed_bytes(
                job_id, table, direction, phase, record, signer=signer, keystore=trust.keystore
            ),
            signature,
        )
    except (Tampered, MisuseError):
        error = Tampered()
        error.add_note(
            f"the row {job_id} of {JOB} is not what an operator of this key store signed; nothing of it was used"
        )
        error.hint = (
            f"restore the database, {JOB} included, from a backup; "
            "if the operator's identity was replaced, keep the old one's public text among [local] signers"
        )
        raise error from None


def _read(row: Sequence[Any], trust: Trust) -> Job:
    _verified(row, trust)
    job_id, table, direction, phase, text, _, _, done = row
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
        # Not signed, because every batch changes it; shown, and acted on nowhere.
        done=done if isinstance(done, int) else 0,
    )
