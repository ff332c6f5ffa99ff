# SPDX-License-Identifier: Apache-2.0
"""
What a database says of a row it refused, without the row: SQLite, psycopg and asyncpg.

PostgreSQL adds a detail that quotes the row, tokens of blind indexes and all; a token in a log
tells equal values apart.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from lacre.errors import DuplicateValue

__all__ = ["Duplicate", "duplicate_of", "translated", "without_detail"]

_UNIQUE_VIOLATION = "23505"
_SQLITE = "UNIQUE constraint failed: "
_PAIR = re.compile(r"\((.*?)\)=\(", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A unique constraint that was violated. *schema* and *constraint* as far as the database says."""

    schema: str | None
    table: str
    columns: frozenset[str]
    constraint: str | None = None

    def is_of(self, column: Any) -> bool:
        """Whether *column*, of a table, is what the constraint is on."""
        table = column.table
        if table.name != self.table or (
            self.schema is not None and table.schema not in (None, self.schema)
        ):
            return False
        # A server tells columns to those only who may read them, and the constraint always.
        return column.name in self.columns or self.constraint in _names(column)


def duplicate_of(error: DBAPIError) -> Duplicate | None:
    """Return the unique constraint that *error* is about, or None."""
    original: Any = error.orig
    message = str(original)
    if message.startswith(_SQLITE):
        named = [part.rpartition(".") for part in message.removeprefix(_SQLITE).split(", ")]
        return Duplicate(
            schema=None, table=named[0][0], columns=frozenset(column for *_, column in named)
        )
    said = _said(original)
    if said is None or getattr(original, "sqlstate", None) != _UNIQUE_VIOLATION:
        return None
    schema, table, constraint, detail = said
    found = _PAIR.search(detail or "")
    columns = found.group(1).split(", ") if found else []
    return Duplicate(
        schema=schema,
        table=table or "",
        columns=frozenset(column.strip('"') for column in columns),
        constraint=constraint,
    )


def without_detail(error: DBAPIError) -> DBAPIError | None:
    """Return *error* without what the server quoted of the row; None where it quoted none."""
    original: Any = error.orig
    said = _said(original)
    if said is None or not said[3]:
        return None
    quiet = type(original)(str(original).partition("\nDETAIL:")[0])
    if getattr(original, "sqlstate", None) and getattr(quiet, "sqlstate", None) is None:
        quiet.pgcode = quiet.sqlstate = original.sqlstate  # of an instance, in asyncpg's case
    return type(error)(
        error.statement,
        error.params,
        quiet,
        hide_parameters=error.hide_parameters,
        connection_invalidated=error.connection_invalidated,
        ismulti=error.ismulti,
    )


@contextmanager
def translated(session: Session) -> Iterator[None]:
    """
    Say what the database refused without the values of the row.

    Raises:
        DuplicateValue: a unique blind index holds the value already.
    """
    try:
        yield
    except DBAPIError as error:
        duplicate = duplicate_of(error)
        scheme = None if duplicate is None else session.info["lacre"].violated(duplicate)
        if scheme is not None:
            raise DuplicateValue(
                f"{scheme} already holds this value",
                hint="the unique blind index says so; look the row up by the value",
            ) from None
        quiet = without_detail(error)
        if quiet is None:
            raise
        raise quiet from None


def _said(original: Any) -> tuple[str | None, str | None, str | None, str | None] | None:
    diagnosis = getattr(original, "diag", None)  # psycopg
    if diagnosis is not None:
        return (
            diagnosis.schema_name,
            diagnosis.table_name,
            diagnosis.constraint_name,
            diagnosis.message_detail,
        )
    cause: Any = getattr(original, "__cause__", None)  # asyncpg, behind SQLAlchemy's own error
    if hasattr(cause, "constraint_name"):
        return cause.schema_name, cause.table_name, cause.constraint_name, cause.detail
    return None


def _names(column: Any) -> set[str]:
    table = column.table
    named: list[Any] = [*table.constraints, *table.indexes]
    # A constraint without a name is called so by PostgreSQL.
    return {f"{table.name}_{column.name}_key"[:63]} | {
        str(found.name) for found in named if found.name and column.name in found.columns
    }
