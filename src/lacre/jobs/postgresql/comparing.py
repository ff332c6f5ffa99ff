# SPDX-License-Identifier: Apache-2.0
"""
Whether the two forms of a table that is being protected are the same values: drift, before the
switch-over looks for it.

Implements ``spec/protect-postgresql.md``, section "Fill", last steps. Changes nothing; what is
encrypted for the comparison is thrown away, what is opened is recorded as looks. May run beside
the process that fills.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.ledger import to_go_on_with
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import connected, refusing
from lacre.jobs.postgresql.ledger import jobs_of
from lacre.jobs.postgresql.passes import Worker
from lacre.jobs.postgresql.protect import spelling, typed
from lacre.jobs.postgresql.values import form_of
from lacre.jobs.sources import NO_SOURCES, Sources, form_from
from lacre.jobs.sqlite.comparing import filling

__all__ = ["compare"]


def compare(
    database: str,
    table: str,
    columns: Sequence[ColumnRequest],
    *,
    fields: Callable[[PlannedColumn], ProtectedField],
    authority: Authority,
    store: str = "main",
    pace: Pace | None = None,
    sources: Sources = NO_SOURCES,
    connect: Callable[[str], Any] = connected,
) -> None:
    """
    Convert every marked row back and compare. The arguments are those that `protect` was given.

    Raises:
        MisuseError: no such job fills.
        Tampered: a row whose two forms differ; its note names the row.
    """
    with connect(database) as connection, refusing(table):
        catalogue = Catalogue(connection, table)
        jobs = jobs_of(connection, catalogue.schema, catalogue.table, authority)
        found = to_go_on_with(jobs, catalogue.shown, columns, store, fold=spelling(catalogue))
        job = typed(filling(found, table), catalogue)
        conversion = Encrypting(
            job.columns,
            {column.name: fields(column) for column in job.columns},
            form_from(sources, lambda column: form_of(catalogue.column(column.name), column)),
        )
        worker = Worker(
            connection, catalogue, job, conversion, pace or Pace(), lambda: connect(database)
        )
        worker.verify()
