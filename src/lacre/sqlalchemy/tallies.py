# SPDX-License-Identifier: Apache-2.0
"""
How many rows of a column hold plaintext, ciphertext or neither, counted in the database.

In the middle of a job (``spec/protect-sqlite.md``, "Names") the row marker says which form counts,
and rows that contradict their marker are *drift*: a ciphertext that somebody emptied, a
companion that is none. A legacy writer's change is no drift, because the trigger unmarks the row.
What begins like a value counts as one: opening it is `lacre.sqlalchemy.attesting`'s. Returns
counts only.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lacre.errors import ConfigurationError
from lacre.fields.checks import is_ciphertext

__all__ = ["Tally", "tally"]

_COMPANION, _BIDX, _BIDX2, _FORM = "_lacre", "_bidx", "_bidx2", "lacre_form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """
    The rows of one column.

    *drift*: rows whose two forms contradict their marker. *untied*: rows with a value without its
    token, or a token without its value. *under_way*: a job fills, so both forms are there.
    """

    rows: int
    nulls: int
    plaintext: int
    encrypted: int
    drift: int = 0
    untied: int = 0
    under_way: bool = False


def tally(connection: sa.Connection, table: str, column: str, *, schema: str | None = None) -> Tally:  # fmt: skip
    """
    Count the forms of *column* in *table*.

    Raises:
        ConfigurationError: there is no such table or column.
    """
    inspector = sa.inspect(connection)
    if not inspector.has_table(table, schema=schema):
        raise ConfigurationError(
            f"this database has no table {table}",
            hint="look at --database, and at the table's name in [columns] of lacre.toml",
        )
    types = {found["name"]: found["type"] for found in inspector.get_columns(table, schema=schema)}
    if column not in types:
        raise ConfigurationError(
            f"the table {table} has no column {column}",
            hint="look at --database, and at the column's name in [columns] of lacre.toml",
        )
    counts = _Counts(connection, table, schema, types)
    if column + _COMPANION in types and _FORM in types:
        return counts.under_way(column)
    return counts.alone(column)


class _Counts:
    """Counts rows of one table by conditions, in one scan each."""

    def __init__(
        self, connection: sa.Connection, table: str, schema: str | None, types: dict[str, Any]
    ) -> None:
        self._connection = connection
        self._table = sa.table(table, schema=schema)
        self._types = types
        self._quote = connection.dialect.identifier_preparer.quote

    def alone(self, name: str) -> Tally:
        column, value = self._quote(name), self._is_value(name)
        untied = "1 = 0"
        if name + _BIDX in self._types:
            tokens = [self._quote(each) for each in (name + _BIDX, name + _BIDX2) if each in self._types]  # fmt: skip
            token = f"coalesce({', '.join(tokens)})" if len(tokens) > 1 else tokens[0]
            untied = f"({column} IS NULL) <> ({token} IS NULL)"
        rows, nulls, encrypted, apart = self._count(f"{column} IS NULL", value, untied)
        return Tally(
            rows=rows,
            nulls=nulls,
            plaintext=rows - nulls - encrypted,
            encrypted=encrypted,
            untied=apart,
        )

    def under_way(self, name: str) -> Tally:
        column, companion = self._quote(name), self._quote(name + _COMPANION)
        # On the way back the companion is the plaintext; the column itself is of bytes then.
        column_is, companion_is = self._is_value(name), self._is_value(name + _COMPANION)
        back = self._count(column_is)[1] > 0
        sealed, is_value = (column, column_is) if back else (companion, companion_is)
        other = companion if back else column
        marked = f"{_FORM} = 1"
        contradicts = f"{marked} AND (({column} IS NULL) <> ({companion} IS NULL) OR ({sealed} IS NOT NULL AND NOT ({is_value})))"
        both = f"{marked} AND NOT ({contradicts}) AND {sealed} IS NOT NULL"
        empty = f"{column} IS NULL AND {companion} IS NULL"
        clear = f"{other} IS NOT NULL"
        if back:
            rows, nulls, drift, encrypted, _ = self._count(empty, contradicts, is_value, clear)
            plaintext = rows - nulls - encrypted
        else:
            rows, nulls, drift, encrypted, _ = self._count(empty, contradicts, both, clear)
            plaintext = rows - nulls - encrypted - drift
        return Tally(
            rows=rows,
            nulls=nulls,
            plaintext=plaintext,
            encrypted=encrypted,
            drift=drift,
            under_way=True,
        )

    def _is_value(self, name: str) -> str:
        """A condition, never NULL, that a column holds what begins like a value."""
        dialect = self._connection.dialect.name
        if dialect == "postgresql" and not isinstance(self._types[name], sa.LargeBinary):
            return "1 = 0"  # another type cannot
        column = self._quote(name)
        return f"({column} IS NOT NULL AND ({is_ciphertext(column, dialect=dialect)}))"

    def _count(self, *conditions: str) -> list[int]:
        """Return how many rows there are, and how many meet each of *conditions*."""
        sums = [
            sa.func.coalesce(
                sa.func.sum(sa.literal_column(f"CASE WHEN {each} THEN 1 ELSE 0 END", sa.Integer)), 0
            )
            for each in conditions
        ]
        statement = sa.select(sa.func.count(), *sums).select_from(self._table)
        return [int(count) for count in self._connection.execute(statement).one()]
