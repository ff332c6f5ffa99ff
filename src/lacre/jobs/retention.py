# SPDX-License-Identifier: Apache-2.0
"""
Retention: which subjects have passed the period that a policy gives them.

A subject is due where the newest of its rows in the policy's table is older than the period. Reads the
data's database, one column; shreds nothing (`lacre.jobs.shredding` does, one subject at a time).
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from lacre.errors import ConfigurationError

__all__ = ["due_subjects"]


def due_subjects(
    connection: sa.Connection,
    *,
    table: sa.Table,
    subject: sa.Column[Any],
    column: str,
    after: dt.timedelta,
    now: dt.datetime,
    tenant: sa.ColumnElement[bool] | None = None,
) -> Iterator[Any]:
    """
    Yield the subjects that are due, as the column holds them, the oldest first.

    Raises:
        ConfigurationError: the table has no such column, or it holds no dates.
    """
    if column not in table.c:
        raise ConfigurationError(
            f"[retention] names {table.name}.{column}: there is no such column"
        )
    dated = table.c[column]
    newest = sa.func.max(dated)
    limit: Any = now - after
    if isinstance(dated.type, sa.Date):
        limit = limit.date()
    elif isinstance(dated.type, sa.DateTime):
        limit = limit if dated.type.timezone else limit.replace(tzinfo=None)
    else:
        raise ConfigurationError(
            f"[retention] names {table.name}.{column}, which holds no dates",
            hint="a Date or DateTime column; of encrypted ones nobody may ask",
        )
    # A row without a date keeps its subject: nobody said when it began.
    complete = sa.func.count() == sa.func.count(dated)
    query = (
        sa.select(subject)
        .where(subject.is_not(None), *(() if tenant is None else (tenant,)))
        .group_by(subject)
        .having(newest < limit, complete)
        .order_by(newest)
    )
    for row in connection.execute(query):
        yield row[0]
