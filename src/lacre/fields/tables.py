# SPDX-License-Identifier: Apache-2.0
"""
Tables that hold encrypted columns, as a job sees them: names, and how a row becomes a row id.

Made of models (`lacre.sqlalchemy.tables`) and used by jobs, which know no models. Does no SQL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lacre.fields.scheme import Scheme

__all__ = ["EncryptedColumn", "EncryptedTable", "Join", "TableColumn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column by its names in the database; *table* is one of the `EncryptedTable` or its joins."""

    table: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A table above, which holds what tells rows or tenants apart; *on* are pairs that are equal."""

    schema: str | None
    name: str
    on: tuple[tuple[TableColumn, TableColumn], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedColumn:
    """
    A column of ciphertext: its name in the database, and what was declared about it.

    *tokens* are the columns of its indexes, as `Stored.columns` fills them; *subject* says whom its
    values are about, by *subject_text*, where they are about somebody.
    """

    name: str
    scheme: Scheme
    tokens: tuple[str, ...] = ()
    subject: TableColumn | None = None
    subject_text: Callable[[Any], str | None] = field(default=str, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedTable:
    """
    One table of a database, with what binds its values to their rows.

    *key* is its own primary key. *row* and *tenant* are the columns that row id and tenant are made
    of, by *row_text* and *tenant_text*, which take what the driver returned. *compounds* are the
    columns of its compound indexes.
    """

    schema: str | None
    name: str
    key: tuple[str, ...]
    columns: tuple[EncryptedColumn, ...]
    row: tuple[TableColumn, ...]
    tenant: TableColumn | None
    joins: tuple[Join, ...]
    row_text: Callable[[Sequence[Any]], str] = field(repr=False)
    tenant_text: Callable[[Any], str] = field(repr=False)
    compounds: tuple[str, ...] = ()

    def of(self, columns: Sequence[EncryptedColumn]) -> "EncryptedTable":
        """Return the table with these of its columns."""
        return replace(self, columns=tuple(columns))

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"
