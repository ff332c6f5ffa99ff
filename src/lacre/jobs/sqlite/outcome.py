# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names
"""
Whether a table really is what its job's row says: asked before a column state moves.

Implements ``spec/protect-sqlite.md``, section "What is looked at before it is believed". A row may
be older than the table and rightly signed, so the last word has the table itself. Does not open
any value: what begins like one counts as one.
"""

import sqlite3

from lacre.errors import MisuseError, PlaintextFound, Tampered
from lacre.jobs.ledger import Job, unchanged
from lacre.jobs.sqlite.database import Catalogue
from lacre.jobs.sqlite.schema import TableText, parse_table, quoted
from lacre.jobs.sqlite.structure import holds_values
from lacre.jobs.sqlite.switch import table_sql

__all__ = ["require_plaintext", "require_protected"]


def require_protected(connection: sqlite3.Connection, job: Job) -> None:
    """
    Make sure that the columns of *job* are encrypted.

    Raises:
        MisuseError: the table is not defined as the switch-over left it. Once the job is done
            only its own columns count: later jobs and migrations may change the rest.
        PlaintextFound: a column holds something that is not a value.
    """
    catalogue = Catalogue(connection, job.table)
    if job.phase != "done":
        unchanged(catalogue.objects(), job.final, "protect")
    made = parse_table(table_sql(job.final, job.table))
    for column in job.columns:
        names = [column.name, *column.token_names]
        for name in names:
            if catalogue.spelt(name) is None or _text(catalogue.text, name) != _text(made, name):
                raise MisuseError(
                    f"{job.table}.{name} is no longer defined as protect left it",
                    hint="undo that change, then run the same command again",
                )
        condition = f"NOT ({holds_values(column.name, column.token_names)})"
        count = _count(connection, job, condition)
        if count:
            raise PlaintextFound(
                f"{job.table}.{column.name} is to be encrypted and holds something else in {count} row{'s' if count > 1 else ''}",
                hint="the table was changed behind its CHECK: restore these rows, then run the same command again",
            )


def require_plaintext(connection: sqlite3.Connection, job: Job) -> None:
    """
    Make sure that the columns of *job* are what they were before `protect`.

    Raises:
        MisuseError: the table is not defined as it was.
        Tampered: a column still holds ciphertext, and one of its type could not.
    """
    unchanged(Catalogue(connection, job.table).objects(), job.final, "unprotect")
    for column in job.columns:
        # A column of bytes may hold anything, also what begins like a value.
        if column.python_type is not bytes:
            condition = f"{quoted(column.name)} IS NOT NULL AND {holds_values(column.name)}"
            count = _count(connection, job, condition)
            if count:
                error = Tampered()
                error.add_note(
                    f"{job.table}.{column.name} still holds ciphertext in {count} row{'s' if count > 1 else ''}"
                )
                raise error


def _text(table: TableText, name: str) -> str:
    column = table.column(name)
    return table.sql[column.start : column.end]


def _count(connection: sqlite3.Connection, job: Job, condition: str) -> int:
    sql = f"SELECT count(*) FROM {quoted(job.table)} WHERE {condition}"
    return int(connection.execute(sql).fetchone()[0])
