# SPDX-License-Identifier: Apache-2.0
"""
Whether the two forms of a table that is being protected are the same values: drift, before the
switch-over looks for it.

Implements ``spec/protect-sqlite.md``, section "Fill", last step. Changes nothing; what is
encrypted for the comparison is thrown away, what is opened is recorded as looks.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from lacre.errors import MisuseError
from lacre.jobs.authority import Authority
from lacre.jobs.columns import ColumnRequest, PlannedColumn
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.ledger import Job, to_go_on_with
from lacre.jobs.pace import Pace
from lacre.jobs.sources import NO_SOURCES, Sources, form_from
from lacre.jobs.sqlite.database import opened
from lacre.jobs.sqlite.ledger import jobs_of
from lacre.jobs.sqlite.passes import Worker
from lacre.jobs.sqlite.schema import folded
from lacre.jobs.sqlite.switch import refusing
from lacre.jobs.sqlite.values import form_of

__all__ = ["compare", "filling"]


def compare(
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
) -> None:
    """
    Convert every marked row back and compare. The arguments are those that `protect` was given.

    Raises:
        MisuseError: no such job fills.
        Tampered: a row whose two forms differ; its note names the row.
    """
    connection = connect(path)
    try:
        with refusing(table):
            jobs = jobs_of(connection, table, authority)
            job = filling(to_go_on_with(jobs, table, columns, store, fold=folded), table)
            conversion = Encrypting(
                job.columns,
                {column.name: fields(column) for column in job.columns},
                form_from(sources, form_of),
            )
            Worker(connection, job, conversion, pace or Pace()).verify()
    finally:
        connection.close()


def filling(job: Job | None, table: str) -> Job:
    """
    Return *job*.

    Raises:
        MisuseError: it does not fill, so there are not two forms to compare.
    """
    if job is None or job.phase != "fill":
        raise MisuseError(
            f"no protect with these arguments fills {table}: there are not two forms to compare",
            hint="lacre columns list --database shows where each column stands",
        )
    return job
