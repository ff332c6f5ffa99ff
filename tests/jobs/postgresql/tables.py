# SPDX-License-Identifier: Apache-2.0
"""Tables of a PostgreSQL database to protect, and what they hold: in the clear, and as defined."""

import subprocess
from pathlib import Path

from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import connected, quoted, run
from lacre.jobs.postgresql.ledger import jobs_of
from lacre.jobs.postgresql.protect import protect as protect_job
from lacre.jobs.postgresql.protect import typed
from lacre.jobs.postgresql.unprotect import unprotect as unprotect_job
from tests.components.postgresql import Database, programs
from tests.jobs.double import FixedKeyField, authority, fields_as_planned, requests

__all__ = ["definitions", "protect", "readable", "rows", "unprotect"]


def protect(database: Database, tmp_path: Path, table: str, columns, **options):
    return _run(protect_job, database, tmp_path, table, columns, options)


def unprotect(database: Database, tmp_path: Path, table: str, columns, **options):
    return _run(unprotect_job, database, tmp_path, table, columns, options)


def _run(job, database, tmp_path, table, columns, options):
    asked = requests(columns) if isinstance(columns, str) else columns
    given = {"fields": fields_as_planned, "authority": authority(tmp_path / "states")} | options
    return job(database.dsn(), table, asked, **given)


def definitions(database: Database) -> list[str]:
    """What pg_dump says of the schema, the order of columns left out."""
    dumped = subprocess.run(
        [programs() / "pg_dump", "--schema-only", database.dsn()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(
        line.strip().rstrip(",")
        for line in dumped.splitlines()
        if line and not line.startswith(("--", "\\"))
    )


def rows(database: Database, table: str, columns: str, order: str = "1") -> list[tuple]:
    with database.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()


def readable(database: Database, tmp_path: Path, table: str, columns: list[str]) -> list[tuple]:
    """*columns* of every row of a protected table in the clear, others as text; ordered by the first."""
    with connected(database.dsn()) as connection:
        catalogue = Catalogue(connection, table)
        trust = authority(tmp_path / "states")
        job = typed(jobs_of(connection, catalogue.schema, catalogue.table, trust)[-1], catalogue)
        sealed = {column.name: FixedKeyField(job.table, column) for column in job.columns}
        key = ", ".join(quoted(name) for name in job.key.columns)
        wanted = ", ".join(
            quoted(name) if name in sealed else f"{quoted(name)}::pg_catalog.text"
            for name in columns
        )
        found = []
        for row in run(connection, f"SELECT {wanted}, {key} FROM {catalogue.sql}"):
            name = job.key.text(row[len(columns) :])
            found.append(
                tuple(
                    value
                    if value is None or column not in sealed
                    else sealed[column].decrypt_many([(name, bytes(value))])[0]
                    for column, value in zip(columns, row, strict=False)
                )
            )
        return sorted(found, key=lambda row: row[0])
