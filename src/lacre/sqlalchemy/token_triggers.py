# SPDX-License-Identifier: Apache-2.0
"""
Where SQLite's triggers that keep the tables of tokens are looked at, besides by a search.

Before a session writes, because what is written without them is not found and what is deleted
leaves its tokens behind; at readiness; and in an attestation, which also compares each table of
tokens with its column. Makes no trigger (`lacre.sqlalchemy.token_columns`). Looks at nothing on
PostgreSQL, whose tokens are in the column.
"""

from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, ORMExecuteState, Session
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import ConfigurationError, LacreError
from lacre.fields.scheme import Scheme
from lacre.sqlalchemy.mapped import mappers_of, schemes_of
from lacre.sqlalchemy.token_columns import TOKEN, check_triggers
from lacre.sqlalchemy.types import TokensType

__all__ = ["before_flush", "before_mappings", "before_statement", "looked_at", "rows_apart"]

_COLUMNS: WeakKeyDictionary[Mapper[Any], tuple[sa.Column[Any], ...]] = WeakKeyDictionary()


def before_flush(session: Session, _context: Any, _objects: Any) -> None:
    """
    Raise if objects are about to be written whose tokens nothing would keep.

    Raises:
        ConfigurationError
    """
    written = (*session.new, *session.dirty, *session.deleted)
    for mapper in {instance_state(each).mapper for each in written}:
        _check(session, mapper, {"mapper": mapper})


def before_statement(state: ORMExecuteState) -> None:
    """`before_flush`, of an INSERT, UPDATE or DELETE."""
    if (state.is_insert or state.is_update or state.is_delete) and state.bind_mapper is not None:
        _check(state.session, state.bind_mapper, {**state.bind_arguments})


def before_mappings(session: Session, mapper: Mapper[Any]) -> None:
    """`before_flush`, of the legacy bulk methods."""
    _check(session, mapper, {"mapper": mapper})


def _check(session: Session, mapper: Mapper[Any], bind: dict[str, Any]) -> None:
    columns = _columns(mapper)
    if not columns or session.get_bind(**bind).dialect.name != "sqlite":
        return
    connection = session.connection(bind_arguments=bind)
    for column in columns:
        check_triggers(connection, column.table, column.name)


def _columns(mapper: Mapper[Any]) -> tuple[sa.Column[Any], ...]:
    found = _COLUMNS.get(mapper)
    if found is None:
        columns: list[Any] = [column for table in mapper.tables for column in table.columns]
        found = _COLUMNS[mapper] = tuple(
            column for column in columns if isinstance(column.type, TokensType)
        )
    return found


def looked_at(models: Any, database: Any) -> tuple[list[Scheme], dict[str, LacreError]]:
    """
    Return the schemes of *models*, and what is wrong with triggers, by ``table.column``.

    Args:
        models: a declarative base, a mapped class, or several of either.
        database: a SQLAlchemy engine; None: triggers are not looked at.

    Raises:
        ConfigurationError: it is no engine.
    """
    return schemes_of(models), {} if database is None else _lost(models, database)


def _lost(models: Any, database: Any) -> dict[str, LacreError]:
    if not isinstance(database, sa.Engine):
        raise ConfigurationError(
            f"a database to look at is an engine, not a {type(database).__name__}",
            hint="database=engine; of an asynchronous one, one that create_engine made of the same file",
        )
    columns = dict.fromkeys(column for mapper in mappers_of(models) for column in _columns(mapper))
    found: dict[str, LacreError] = {}
    if not columns or database.dialect.name != "sqlite":
        return found
    try:
        with database.connect() as connection:
            for column in columns:
                try:
                    check_triggers(connection, column.table, column.name)
                except ConfigurationError as error:
                    found[f"{column.table}.{column.name}"] = error
    except sa.exc.SQLAlchemyError as error:
        # Part of the report, like all that is wrong, and without the library's own words.
        silent = ConfigurationError(f"the database does not answer ({type(error).__name__})")
        found = {f"{column.table}.{column.name}": silent for column in columns}
    return found


def rows_apart(connection: sa.Connection, column: sa.Column[Any]) -> int:
    """
    Return of how many rows SQLite's table of tokens holds others than *column* does.

    Raises:
        ConfigurationError: its triggers are lost.
    """
    if connection.dialect.name != "sqlite":
        return 0
    table: Any = column.table
    check_triggers(connection, table, column.name)
    quote = connection.dialect.identifier_preparer.quote
    schema = "" if table.schema is None else f"{quote(table.schema)}."
    keys = [quote(key.name) for key in table.primary_key]
    several, parent = ", ".join(keys), f"{schema}{quote(table.name)}"
    held = (
        f"SELECT found.value AS {TOKEN}, {', '.join(f'held.{key}' for key in keys)}"  # noqa: S608
        f" FROM {parent} AS held, json_each(held.{quote(column.name)}) AS found"
    )
    kept = f"SELECT {TOKEN}, {several} FROM {schema}{quote(f'{table.name}_{column.name}')}"  # noqa: S608
    apart = f"SELECT * FROM ({held} EXCEPT {kept}) UNION SELECT * FROM ({kept} EXCEPT {held})"  # noqa: S608
    statement = f"SELECT count(*) FROM (SELECT DISTINCT {several} FROM ({apart}))"  # noqa: S608
    return int(connection.exec_driver_sql(statement).scalar_one())
