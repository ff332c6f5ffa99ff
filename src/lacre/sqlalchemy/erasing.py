# SPDX-License-Identifier: Apache-2.0
"""
Where a subject's values and index values are, as mapped classes declare it, and how to erase the latter.

Finds, for every encrypted column with `subject=`, the columns of its indexes; runs the statements on a
connection that is given. Erases no ciphertext: destroying the subject's keys does. Index values in
backups, replicas that lag, logs of statements and tables that no model maps are out of its reach.

A table refuses a value without its token (`TogetherCheck`), so tokens are written over and not made NULL:
with random bytes where the index is unique, else with zeros, or none where there are several. Nothing of
it is made from the value.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from lacre.errors import ConfigurationError
from lacre.fields.rows import row_text
from lacre.fields.scheme import Scheme
from lacre.sqlalchemy.compounds import compound_properties
from lacre.sqlalchemy.declared import INDEXES, row_facts, row_of_values, sealed_properties
from lacre.sqlalchemy.mapped import mappers_of
from lacre.sqlalchemy.token_columns import check_triggers
from lacre.sqlalchemy.types import TokensType

__all__ = ["SealedValue", "SubjectTable", "subject_tables"]

_AT_ONCE = 500  # rows held


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedValue:
    """One stored value of a subject, with all that reading it takes but the key."""

    scheme: Scheme
    row: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTable:
    """
    A mapped class whose rows belong to subjects.

    *subject* is the column that says to whom, *tenant* to which tenant's, or None.
    """

    mapper: Mapper[Any]
    subject: sa.Column[Any]
    tenant: sa.Column[Any] | None
    values: tuple[tuple[Scheme, sa.Column[Any]], ...]
    indexes: tuple[sa.Column[Any], ...]

    @property
    def name(self) -> str:
        return str(self.subject.table.name)

    def subject_of(self, text: str) -> Any:
        """Return the subject that *text* names, as the column holds it, or raise `ConfigurationError`."""
        return _typed(self.subject, text, "subject")

    def text_of(self, subject: Any) -> str:
        """Return the text that stands for a subject in digests."""
        if isinstance(self.subject.type, sa.Uuid) and isinstance(subject, str):
            subject = UUID(subject)
        return str(row_text(subject))

    def of_tenant(self, tenant: str) -> sa.ColumnElement[bool] | None:
        """Return the condition that a row is the tenant's; None where the model names no tenant column."""
        return None if self.tenant is None else self.tenant == _typed(self.tenant, tenant, "tenant")

    def count(self, connection: sa.Connection, subject: Any, tenant: str) -> int:
        """Return how many rows are the subject's."""
        query = sa.select(sa.func.count()).select_from(self.mapper.selectable)
        return int(connection.execute(query.where(*self._of(subject, tenant))).scalar_one())

    def erase(self, connection: sa.Connection, subject: Any, tenant: str) -> dict[str, int]:
        """Erase the subject's index values; return how many rows were changed, by TABLE.COLUMN."""
        changed: dict[str, int] = {}
        for column in self.indexes:
            table = column.table
            assert isinstance(table, sa.Table)
            # Without its type, which lets nobody write an index but by way of its attribute.
            bare = sa.column(column.name, sa.LargeBinary())
            raw = sa.table(table.name, bare, *map(_untyped, table.primary_key), schema=table.schema)
            theirs = self._rows_in(table, raw, subject, tenant)
            place = f"{table.name}.{column.name}"
            held = sa.and_(theirs, bare.is_not(None))
            changed[place] = self._overwrite(connection, raw, column, held)
        return changed

    def sealed_values(
        self, connection: sa.Connection, subject: Any, tenant: str
    ) -> Iterator[SealedValue]:
        """Yield every stored value of the subject, some rows at a time."""
        named = row_facts(self.mapper).columns
        query = (
            sa.select(
                *named, *(sa.type_coerce(column, sa.LargeBinary) for _, column in self.values)
            )
            .select_from(self.mapper.selectable)
            .where(*self._of(subject, tenant))
        )
        for row in connection.execute(query, execution_options={"yield_per": _AT_ONCE}):
            text = row_of_values(self.mapper, list(row[: len(named)]))
            for (scheme, _), value in zip(self.values, row[len(named) :], strict=True):
                if value is not None:
                    yield SealedValue(scheme=scheme, row=text, value=bytes(value))

    def _overwrite(
        self,
        connection: sa.Connection,
        raw: sa.TableClause,
        column: sa.Column[Any],
        theirs: sa.ColumnElement[bool],
    ) -> int:
        bare = raw.c[column.name]
        if isinstance(column.type, TokensType):
            # Without tokens; on SQLite triggers take them out of the table of tokens too.
            if connection.dialect.name == "sqlite":
                check_triggers(connection, column.table, column.name)
            nothing = "'{}'" if connection.dialect.name == "postgresql" else "'[]'"
            empty = raw.update().where(theirs).values({bare.name: sa.text(nothing)})
            return connection.execute(empty).rowcount
        length = getattr(column.type, "size", None) or 16
        if not column.unique:
            blank = bytes(length)
            zeros = raw.update().where(theirs, bare != blank).values({bare.name: blank})
            return connection.execute(zeros).rowcount
        changed = 0
        assert isinstance(column.table, sa.Table)
        keys = [raw.c[key.name] for key in column.table.primary_key]
        for row in connection.execute(sa.select(*keys).where(theirs)).all():
            mine = (key == value for key, value in zip(keys, row, strict=True))
            drawn = raw.update().where(*mine).values({bare.name: os.urandom(length)})
            changed += connection.execute(drawn).rowcount
        return changed

    def _of(self, subject: Any, tenant: str) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = [self.subject == subject]
        theirs = self.of_tenant(tenant)
        return found if theirs is None else [*found, theirs]

    def _rows_in(
        self, table: sa.Table, raw: sa.TableClause, subject: Any, tenant: str
    ) -> sa.ColumnElement[bool]:
        # By their keys, because the subject may be in another table, under joined inheritance.
        keys = list(table.primary_key)
        theirs = sa.select(*keys).select_from(self.mapper.selectable).where(*self._of(subject, tenant))  # fmt: skip
        named = [raw.c[key.name] for key in keys]
        return (named[0] if len(named) == 1 else sa.tuple_(*named)).in_(theirs)


def _untyped(column: sa.Column[Any]) -> sa.ColumnClause[Any]:
    return sa.column(column.name, column.type)


def subject_tables(models: Any) -> list[SubjectTable]:
    """
    Return the tables of *models* whose rows belong to subjects: those with `subject=`.

    Raises:
        ConfigurationError: no encrypted column of them names a subject.
    """
    found = []
    for mapper in mappers_of(models):
        by_subject: dict[str, list[Any]] = {}
        for prop in sealed_properties(mapper):
            if prop.declared.subject is not None:
                by_subject.setdefault(prop.declared.subject, []).append(prop)
        for attribute, props in by_subject.items():
            tenant = row_facts(mapper).tenant
            found.append(
                SubjectTable(
                    mapper=mapper,
                    subject=_column(mapper, attribute),
                    tenant=None if tenant is None else _column(mapper, tenant),
                    values=tuple((prop.scheme, prop.columns[0]) for prop in props),
                    indexes=tuple(_indexes_of(mapper, props)),
                )
            )
    if not found:
        raise ConfigurationError(
            "no encrypted column of the models names a subject",
            hint='encrypted("pii", subject="id")',
        )
    return found


def _column(mapper: Mapper[Any], attribute: str) -> sa.Column[Any]:
    column = mapper.column_attrs[attribute].columns[0]
    assert isinstance(column, sa.Column)
    return column


def _typed(column: sa.Column[Any], text: str, what: str) -> Any:
    try:
        if isinstance(column.type, sa.Uuid):
            found = UUID(text)
            return found if column.type.as_uuid else str(found)
        return int(text) if isinstance(column.type, sa.Integer) else text
    except ValueError:
        # Not `from` the error, which quotes the text.
        raise ConfigurationError(
            f"the {what} cannot be in {column}, by its type",
            hint=f"name the {what} as that column holds it",
        ) from None


def _indexes_of(mapper: Mapper[Any], props: Sequence[Any]) -> list[sa.Column[Any]]:
    names = {(prop.columns[0].table, prop.columns[0].name) for prop in props}
    theirs = {prop.key for prop in props}
    # Of several attributes the token tells of each: one that is the subject's is enough.
    compounds = [
        column
        for prop in compound_properties(mapper)
        if theirs.intersection(prop.attributes)
        for column in prop.token_columns
    ]
    return compounds + [
        column
        for table in mapper.tables
        if isinstance(table, sa.Table)
        for column in table.columns
        if (table, column.info.get(INDEXES)) in names
    ]
