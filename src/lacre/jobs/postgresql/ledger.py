# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
The table `lacre_job` in a schema of a PostgreSQL database: one row for each job.

Implements ``spec/protect-postgresql.md``, section "What is looked at before it is believed". What a
row says and who signed it, `lacre.jobs.ledger` knows. A table of that name that somebody else
could make run code is not touched.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lacre.errors import ConfigurationError, Tampered
from lacre.jobs.columns import JOB
from lacre.jobs.ledger import Direction, Job, Phase, Trust, overtaken, read_row, signed_row
from lacre.jobs.postgresql.connection import qualified, run

__all__ = [
    "counted",
    "is_there",
    "jobs_of",
    "next_id",
    "open_ledger",
    "remove",
    "still_under_way",
    "write",
]

_COLUMNS = {
    "id": "bigint",
    "table": "text",
    "direction": "text",
    "phase": "text",
    "record": "text",
    "signer": "text",
    "signature": "bytea",
    "done": "bigint",
}


def open_ledger(connection: Any, schema: str, table: str) -> None:
    """Make the table of jobs if there is none, before one on *table*."""
    if not is_there(connection, schema, table):
        columns = ", ".join(
            f'"{name}" pg_catalog.{kind.replace("bigint", "int8")} NOT NULL{" PRIMARY KEY" if name == "id" else ""}'
            for name, kind in _COLUMNS.items()
        )
        run(connection, f"CREATE TABLE {qualified(schema, JOB)} ({columns})")


def jobs_of(connection: Any, schema: str, table: str, trust: Trust) -> list[Job]:
    """
    Return the jobs on *table*, oldest first.

    Raises:
        Tampered: a row that no trusted operator signed as it is; its note says where.
        ConfigurationError: the table of that name is not lacre's.
    """
    if not is_there(connection, schema, table):
        return []
    rows = run(
        connection,
        f'SELECT id, "table", direction, phase, record, signer, signature, done FROM ONLY {qualified(schema, JOB)} '
        'WHERE "table" = %s ORDER BY id',
        (table,),
    ).fetchall()
    jobs = [read_row(row, trust) for row in rows]
    for job in jobs:
        # Copied from another schema, a row would be rightly signed and of another table.
        if job.details.get("schema") != schema:
            error = Tampered()
            error.add_note(f"the row {job.job_id} of {JOB} is of another schema")
            raise error
    return jobs


def is_there(
    connection: Any,
    schema: str,
    table: str,
    *,
    name: str = JOB,
    columns: Mapping[str, str] = MappingProxyType(_COLUMNS),
) -> bool:
    """
    Whether the schema has lacre's table of jobs, or another of lacre's, of that *name* and *columns*.

    Its owner may give it triggers at any time, which run as whoever writes to it. So it is the job's
    own, or of somebody who can do that already: *table*'s owner or a superuser.

    Raises:
        ConfigurationError: what has its name could make this process run somebody's code.
    """
    found = run(
        connection,
        "SELECT c.oid, c.relkind = 'r' AND NOT c.relhasrules AND NOT c.relrowsecurity AND NOT c.relispartition "
        "AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid) "
        "AND NOT EXISTS (SELECT 1 FROM pg_attrdef d WHERE d.adrelid = c.oid) "
        "AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid) "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype NOT IN ('p', 'n')) "
        "AND ARRAY(SELECT i.indisprimary AND i.indexprs IS NULL AND i.indpred IS NULL FROM pg_index i WHERE i.indrelid = c.oid) = '{t}' "
        "AND (EXISTS (SELECT 1 FROM pg_roles r WHERE r.oid = c.relowner AND (r.rolsuper OR r.rolname = current_user)) "
        "OR c.relowner = (SELECT p.relowner FROM pg_class p WHERE p.relnamespace = n.oid AND p.relname = %s)) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (table, schema, name),
    ).fetchone()
    if found is None:
        return False
    oid, plain = found
    present = dict(
        run(
            connection,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
            (oid,),
        ).fetchall()
    )
    if not plain or present != columns:
        raise ConfigurationError(
            f"the schema {schema} has a {name} that lacre did not make",
            hint="rename it: lacre keeps its jobs in a table of that name",
        )
    return True


def write(
    connection: Any, job: Job, trust: Trust, *, was: tuple[Direction, Phase] | None = None
) -> None:
    """
    Sign and write *job*, inside the caller's transaction.

    Args:
        was: direction and phase it must still have; None for a new one.

    Raises:
        MisuseError: another process moved it on.
    """
    table, row = qualified(job.details["schema"], JOB), signed_row(job, trust)
    if was is None:
        run(
            connection,
            f'INSERT INTO {table} (id, "table", direction, phase, record, signer, signature, done) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)',
            (job.job_id, *row, job.done),
        )
        return
    moved = run(
        connection,
        f"UPDATE ONLY {table} SET direction = %s, phase = %s, record = %s, signer = %s, signature = %s, done = %s "
        "WHERE id = %s AND direction = %s AND phase = %s",
        (*row[1:], job.done, job.job_id, *was),
    )
    if moved.rowcount != 1:
        raise overtaken()


def still_under_way(connection: Any, job: Job) -> None:
    """
    Make sure, inside a transaction that holds the table, that the job still is in its fill.

    Raises:
        MisuseError: another process moved the job on.
    """
    found = run(
        connection,
        f"SELECT 1 FROM ONLY {qualified(job.details['schema'], JOB)} "
        "WHERE id = %s AND direction = %s AND phase = 'fill'",
        (job.job_id, job.direction),
    ).fetchone()
    if found is None:
        raise overtaken()


def counted(connection: Any, job: Job, done: int) -> None:
    """Note how far the fill came. Shown, and acted on nowhere."""
    table = qualified(job.details["schema"], JOB)
    run(
        connection,
        f"UPDATE ONLY {table} SET done = %s WHERE id = %s",
        (done, job.job_id),
    )


def remove(connection: Any, job: Job) -> None:
    """Forget *job*, and the table with the last one."""
    table = qualified(job.details["schema"], JOB)
    run(connection, f"DELETE FROM ONLY {table} WHERE id = %s", (job.job_id,))
    if run(connection, f"SELECT 1 FROM {table} LIMIT 1").fetchone() is None:
        run(connection, f"DROP TABLE {table}")


def next_id(connection: Any, schema: str) -> int:
    sql = f"SELECT coalesce(max(id), 0) + 1 FROM ONLY {qualified(schema, JOB)}"
    return int(run(connection, sql).fetchone()[0])
