# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Whether a table really is what its job's row says: asked before a column state moves.

Implements ``spec/protect-postgresql.md``, section "What is looked at before it is believed". A row may
be older than the table and rightly signed, so the last word has the table itself. Does not open
any value: what begins like one counts as one.
"""

from collections.abc import Sequence
from typing import Any

from lacre.errors import MisuseError, PlaintextFound, Tampered
from lacre.fields.checks import is_ciphertext
from lacre.jobs.columns import PlannedColumn
from lacre.jobs.ledger import Job, unchanged
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import quoted, run
from lacre.jobs.postgresql.definitions import check_names, final_definitions, not_null_name
from lacre.jobs.postgresql.locks import Locks

__all__ = ["require_not_null", "require_plaintext", "require_protected"]


def require_not_null(
    connection: Any, locks: Locks, catalogue: Catalogue, names: Sequence[str]
) -> None:
    """Set NOT NULL on columns that were so before, by way of the CHECKs that the switch-over left."""
    present = catalogue.constraints()
    waiting = [name for name in names if not_null_name(name) in present]
    for name in waiting:
        constraint = not_null_name(name)
        if not present[constraint][1]:
            _validated(connection, locks, catalogue, constraint)
    if waiting:
        # The valid CHECKs prove it, so nothing is scanned here.
        clauses = [f"ALTER COLUMN {quoted(name)} SET NOT NULL" for name in waiting]
        drops = [f"DROP CONSTRAINT {quoted(not_null_name(name))}" for name in waiting]
        with locks.exclusive("NOT NULL"):
            run(connection, f"ALTER TABLE {catalogue.sql} {', '.join(clauses)}")
            run(connection, f"ALTER TABLE {catalogue.sql} {', '.join(drops)}")


def require_protected(connection: Any, locks: Locks, job: Job) -> None:
    """
    Make sure that the columns of *job* are encrypted.

    Raises:
        MisuseError: they are not defined as the switch-over left them.
        PlaintextFound: a column holds something that is not a value.
    """
    catalogue = Catalogue(connection, f"{job.details['schema']}.{job.table}")
    _defined(catalogue, job)
    present = catalogue.constraints()
    for column in job.columns:
        if catalogue.column(column.name).kind != "bytea":
            raise _redefined(catalogue, column.name)
        for name in check_names(catalogue.table, column):
            if name not in present:
                raise _redefined(catalogue, column.name)
            # What the server validated no later writer could break; a CHECK that somebody added
            # again and did not validate is validated now, or fails.
            if not present[name][1]:
                _validated(connection, locks, catalogue, name, column)


def _defined(catalogue: Catalogue, job: Job) -> None:
    now = final_definitions(catalogue, job.columns)
    if job.phase == "done":
        unchanged(now, job.final, "protect")
        return
    # Between switch-over and end, NOT NULL takes the place of its CHECK.
    transient = {not_null_name(column.name) for column in job.columns}
    kept = [item for item in job.final if item[0] != "column" and item[1] not in transient]
    unchanged(
        [item for item in now if item[0] != "column" and item[1] not in transient],
        tuple(kept),
        "protect",
    )


def _validated(
    connection: Any,
    locks: Locks,
    catalogue: Catalogue,
    constraint: str,
    column: PlannedColumn | None = None,
) -> None:
    import psycopg

    failed = False
    try:
        with locks.shared(f"validate {constraint}"):
            run(
                connection,
                f"ALTER TABLE {catalogue.sql} VALIDATE CONSTRAINT {quoted(constraint)}",
            )
    except psycopg.errors.CheckViolation:
        failed = True
    if failed:
        where = f"{catalogue.table}.{column.name}" if column is not None else catalogue.table
        raise PlaintextFound(
            f"{where} is to be encrypted and holds something else: {constraint} does not hold",
            hint="the table was changed behind its CHECK: restore these rows, then run the same command again",
        )


def require_plaintext(connection: Any, job: Job) -> None:
    """
    Make sure that the columns of *job* are what they were before `protect`.

    Raises:
        MisuseError: a column does not have its type.
        Tampered: a column still holds ciphertext, and one of its type could not.
    """
    catalogue = Catalogue(connection, f"{job.details['schema']}.{job.table}")
    for record, column in zip(job.details["columns"], job.columns, strict=True):
        if (
            column.name not in catalogue.names
            or catalogue.column(column.name).declared != record["declared"]
        ):
            raise _redefined(catalogue, column.name)
        # A column of bytes may have held anything before, but what `protect` took was no ciphertext.
        if catalogue.column(column.name).kind == "bytea":
            name = quoted(column.name)
            condition = f"{name} IS NOT NULL AND ({is_ciphertext(name, dialect='postgresql')})"
            sql = f"SELECT count(*) FROM {catalogue.sql} WHERE {condition}"
            count = run(connection, sql).fetchone()[0]
            if count:
                error = Tampered()
                error.add_note(
                    f"{job.table}.{column.name} still holds ciphertext in {count} row{'s' if count > 1 else ''}"
                )
                raise error


def _redefined(catalogue: Catalogue, name: str) -> MisuseError:
    return MisuseError(
        f"{catalogue.shown}.{name} is no longer defined as the job left it",
        hint="undo that change, then run the same command again",
    )
