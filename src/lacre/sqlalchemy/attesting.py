# SPDX-License-Identifier: Apache-2.0
"""
What an attestation says of the columns of mapped classes: every row counted, a sample opened.

A blind index finds false hits by its re-check, and never missing ones: a token that somebody
emptied or replaced hides a person, or lets a duplicate in. So tokens of the sample are made again
and compared. Values of the sample are looked at as whoever acts, decided and recorded like every
look, and kept nowhere. Signs nothing (`lacre.fields.attestation`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session, sessionmaker

from lacre.errors import ConfigurationError
from lacre.fields.attestation import AttestedColumn, AttestedHistory, AttestedIndex
from lacre.sqlalchemy.compounds import compound_properties
from lacre.sqlalchemy.declared import tenant_of_identity
from lacre.sqlalchemy.histograms import tables_of
from lacre.sqlalchemy.samples import looked_at, sampled
from lacre.sqlalchemy.tallies import Tally, tally
from lacre.sqlalchemy.token_triggers import rows_apart
from lacre.sqlalchemy.types import TokensType

__all__ = ["attested_columns", "attested_history"]


def attested_columns(
    application: Any,
    sessions: "sessionmaker[Session]",
    mappers: Sequence[Mapper[Any]],
    *,
    sample: int,
    only: Sequence[str] = (),
) -> list[AttestedColumn]:
    """
    Count every row of the encrypted columns of *mappers*, and open about *sample* values of each table.

    Args:
        sessions: of *application*, bound to the database.
        only: names of tables; all by default.

    Raises:
        ConfigurationError: no such table, a job is under way, or a column is not `encrypted`.
        Tampered, PlaintextFound, KeyUnavailable: a value of the sample does not open.
    """
    tables = {t: props for t, props in tables_of(mappers).items() if not only or t.name in only}
    if missing := sorted(set(only) - {table.name for table in tables}):
        raise ConfigurationError(
            f"no model has an encrypted column in {', '.join(missing)}",
            hint="--table takes names of tables, not of classes",
        )
    found = []
    for table, properties in tables.items():
        by_mapper: dict[Mapper[Any], list[Any]] = {}
        for prop in properties:
            by_mapper.setdefault(prop.parent, []).append(prop)
        for mapper, props in by_mapper.items():
            counted = {prop: _counted(sessions, table, prop) for prop in props}
            # What is no ciphertext does not open: the count says so, for all of its rows.
            clean = not any(counts.plaintext for counts, _ in counted.values())
            compounds = [each for each in compound_properties(mapper) if each.parts[0] in counted]
            opened = _Sampled(
                application, sessions, mapper, props, compounds, sample if clean else 0
            )
            for prop, (tally_, missing_tokens) in counted.items():
                column = _column(application, table, prop, tally_, missing_tokens, opened)
                # A compound index is said of the first of its columns.
                more = [
                    _compound(sessions, table, each, opened)
                    for each in compounds
                    if each.parts[0] is prop
                ]
                found.append(replace(column, indexes=(*column.indexes, *more)))
    return found


def attested_history(connection: sa.Connection, table: str, column: str) -> AttestedHistory:
    """Count a column of a history table; what is in it is not opened: its rows are other rows."""
    counts = tally(connection, table, column)
    return AttestedHistory(
        table=table,
        column=column,
        rows=counts.rows,
        nulls=counts.nulls,
        encrypted=counts.encrypted,
        plaintext=counts.plaintext,
    )


def _counted(
    sessions: "sessionmaker[Session]", table: sa.Table, prop: Any
) -> tuple[Tally, list[int]]:
    column = prop.columns[0]
    with sessions() as session:
        counts = tally(session.connection(), table.name, column.name, schema=table.schema)
        if counts.under_way:
            raise ConfigurationError(
                f"{table.name}.{column.name} is in the middle of a job",
                hint="finish `lacre protect`, then run the same command again",
            )
        named = sa.table(table.name, schema=table.schema)
        missing = []
        for stored in zip(prop.index_columns, prop.second_columns, strict=True):
            value: Any = sa.column(column.name)
            token = _token(stored)
            apart = value.is_(None) != token.is_(None)
            statement = sa.select(sa.func.count()).select_from(named).where(apart)
            rows = session.connection().execute(statement).scalar_one()
            if isinstance(stored[0].type, TokensType):
                # On SQLite what is searched is a table beside.
                rows += rows_apart(session.connection(), stored[0])
            missing.append(rows)
    return counts, missing


def _token(columns: Sequence[Any]) -> Any:
    # Of a unique index one of two columns has the token, or both.
    tokens: list[Any] = [sa.column(each.name) for each in columns if each is not None]
    return sa.func.coalesce(*tokens) if len(tokens) > 1 else tokens[0]


def _compound(
    sessions: "sessionmaker[Session]", table: sa.Table, prop: Any, opened: "_Sampled"
) -> AttestedIndex:
    token = _token(prop.token_columns)
    values: list[Any] = [sa.column(part.columns[0].name) for part in prop.parts]
    whole = sa.and_(*(value.is_not(None) for value in values))
    apart = sa.or_(sa.and_(whole, token.is_(None)), sa.and_(sa.not_(whole), token.is_not(None)))
    named = sa.table(table.name, schema=table.schema)
    with sessions() as session:
        statement = sa.select(sa.func.count()).select_from(named).where(apart)
        missing = session.connection().execute(statement).scalar_one()
    return AttestedIndex(
        index=prop.index.name,
        kind=prop.index.kind,
        missing=missing,
        compared=opened.compared[prop][0],
        different=opened.different[prop][0],
    )


class _Sampled:
    """A random sample of the objects of one class, opened; what was found, by property and index."""

    def __init__(
        self,
        application: Any,
        sessions: "sessionmaker[Session]",
        mapper: Mapper[Any],
        props: Sequence[Any],
        compounds: Sequence[Any],
        sample: int,
    ) -> None:
        self._compounds = compounds
        self.opened = dict.fromkeys(props, 0)
        every = [*props, *compounds]
        self.compared = {prop: [0] * len(prop.index_columns) for prop in every}
        self.different = {prop: [0] * len(prop.index_columns) for prop in every}
        self._fields = {prop: application.field_of(prop.scheme) for prop in every}
        self._writing: dict[tuple[Any, str | None], Any] = {}
        for instance in sampled(sessions, mapper, sample):
            self._open(mapper, instance)

    def _open(self, mapper: Mapper[Any], instance: Any) -> None:
        tenant = tenant_of_identity(mapper, sa.inspect(instance))
        for prop in self.opened:
            value = looked_at(instance, prop)
            if value is not None:
                self.opened[prop] += 1
                self._compare(mapper, instance, prop, value, tenant)
        for prop in self._compounds:
            values = tuple(looked_at(instance, part) for part in prop.parts)
            if None not in values:
                self._compare(mapper, instance, prop, values, tenant)

    def _compare(
        self, mapper: Mapper[Any], instance: Any, prop: Any, value: Any, tenant: str | None
    ) -> None:
        writing = self._writing.get((prop, tenant))
        if writing is None:
            writing = self._writing[prop, tenant] = self._fields[prop].writing(tenant=tenant)
        columns = zip(prop.index_columns, prop.second_columns, strict=True)
        for position, stored in enumerate(columns):
            keys = [mapper.get_property_by_column(each).key for each in stored if each is not None]
            entries = [getattr(instance, key) for key in keys]
            held = [entry for entry in entries if entry is not None] or [None]
            self.compared[prop][position] += 1
            self.different[prop][position] += not all(
                writing.fits(value, position, entry) for entry in held
            )


def _column(
    application: Any,
    table: sa.Table,
    prop: Any,
    counts: Tally,
    missing: Sequence[int],
    opened: _Sampled,
) -> AttestedColumn:
    indexes = [
        AttestedIndex(
            index=index.name,
            kind=index.kind,
            missing=missing[position],
            compared=opened.compared[prop][position],
            different=opened.different[prop][position],
        )
        for position, index in enumerate(prop.scheme.indexes)
    ]
    return AttestedColumn(
        table=table.name,
        column=prop.columns[0].name,
        class_=prop.scheme.class_,
        state=str(application.column_state(prop.scheme)),
        rows=counts.rows,
        nulls=counts.nulls,
        encrypted=counts.encrypted,
        plaintext=counts.plaintext,
        opened=opened.opened[prop],
        indexes=tuple(indexes),
    )
