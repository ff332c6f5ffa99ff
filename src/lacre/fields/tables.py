# SPDX-License-Identifier: Apache-2.0
"""
Tables that hold encrypted columns, as a job sees them: names, and how a row becomes a row id.

Made of models (`lacre.sqlalchemy.tables`) and used by jobs, which know no models. Does no SQL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lacre.fields.scheme import Scheme

__all__ = ["CompoundTokens", "EncryptedColumn", "EncryptedTable", "Join", "TableColumn"]


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
class CompoundTokens:
    """A compound index: *parts* are the names of the encrypted columns that it is of; *column* has its scheme and tokens, and no values."""

    parts: tuple[str, ...]
    column: EncryptedColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedTable:
    """
    One table of a database, with what binds its values to their rows.

    *compounds* are the compound indexes of its columns; *key* is its own primary key. *row* and *tenant* are the columns that row id and tenant are made
    of, by *row_text* and *tenant_text*, which take what the driver returned.
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
    compounds: tuple[CompoundTokens, ...] = ()

    def of(self, columns: Sequence[EncryptedColumn]) -> "EncryptedTable":
        """Return the table with these of its columns, and the compound indexes of no others."""
        names = {column.name for column in columns}
        compounds = tuple(each for each in self.compounds if names.issuperset(each.parts))
        return replace(self, columns=tuple(columns), compounds=compounds)

    @property
    def indexed(self) -> tuple[EncryptedColumn, ...]:
        """What has tokens: columns, and compound indexes as `CompoundTokens.column`."""
        own = tuple(column for column in self.columns if column.tokens)
        return own + tuple(each.column for each in self.compounds)

    def __str__(self) -> str:
        return self.name if self.schema is None else f"{self.schema}.{self.name}"
