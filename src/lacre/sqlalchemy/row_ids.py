# SPDX-License-Identifier: Apache-2.0
"""
Primary keys that are known before the INSERT, because values are bound to them.

Python defaults are applied here instead of while the INSERT runs; a key that PostgreSQL generates
is fetched from its sequence, for all new objects of a flush or statement in one query. An explicit
key is kept. Does not judge whether a key identifies a row for ever (`lacre.sqlalchemy.declared`).
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state, set_attribute

from lacre.errors import ConfigurationError
from lacre.sqlalchemy.declared import check_row_id, row_id_column, sealed_properties

__all__ = ["default_of", "generated", "keys_of_flush", "next_values"]

# One row of catalog, however many values. What the server says of CYCLE holds, whatever is declared.
_NEXT = """
WITH generator AS MATERIALIZED (
    SELECT seqrelid, seqcycle FROM pg_sequence WHERE seqrelid = CAST({} AS regclass)
)
SELECT CASE WHEN seqcycle THEN NULL ELSE nextval(seqrelid) END
FROM generator, generate_series(1, :count)
"""


def default_of(column: sa.Column[Any]) -> Any:
    """Return what a Python default of *column* gives for a new row; None without one."""
    default = column.default
    if not isinstance(default, sa.ColumnDefault):
        return None
    if default.is_scalar:
        return default.arg
    return default.arg(None) if default.is_callable else None


def generated(mapper: Mapper[Any], dialect: Dialect) -> Any | None:
    """Return the column of *mapper*'s primary key that a sequence of PostgreSQL generates, or None."""
    if dialect.name != "postgresql" or row_id_column(mapper) is not None:
        return None
    column: Any
    for column in mapper.primary_key:
        table = column.table
        if isinstance(column.default, sa.Sequence) or (
            isinstance(table, sa.Table)
            and column.default is None
            and column is table.autoincrement_column
        ):
            return column
    return None


def next_values(column: sa.Column[Any], connection: sa.Connection, count: int) -> list[int]:
    """
    Return *count* values that the sequence of *column* gives to nobody else.

    Raises:
        ConfigurationError: it has no sequence, or one that begins again.
    """
    table: Any = column.table
    quoted = connection.dialect.identifier_preparer
    sequence = column.default
    if isinstance(sequence, sa.Sequence):
        source, parameters = ":name", {"name": quoted.format_sequence(sequence)}
    else:
        source = "pg_get_serial_sequence(:name, :column)"
        parameters = {"name": quoted.format_table(table), "column": column.name}
    query = sa.text(_NEXT.format(source))
    values = connection.execute(query, {**parameters, "count": count}).scalars().all()
    if not values or values[0] is None:
        reason = "has a sequence that begins again (CYCLE)" if values else "has no sequence"
        raise ConfigurationError(
            f"the primary key {column} {reason}, and its encrypted values are bound to it before the INSERT",
            hint="declare it Identity(), or a row id of its own: lacre_rid: Mapped[UUID] = row_id()",
        )
    return list(values)


def keys_of_flush(session: Session, _context: Any, instances: Any) -> None:
    """Fetch the generated keys of the new objects that are about to be flushed, table by table."""
    columns: dict[Any, Any] = {}  # by mapper
    for mapper in {instance_state(found).mapper for found in session.new}:
        if sealed_properties(mapper):
            dialect = session.get_bind(mapper).dialect
            columns[mapper] = generated(mapper, dialect)
    if not any(column is not None for column in columns.values()):
        return
    chosen = None if not instances else {id(found) for found in instances}
    waiting: dict[Any, list[Any]] = {}  # by column, which the mappers of an inheritance share
    for found in sorted(session.new, key=lambda found: instance_state(found).insert_order or 0):
        if chosen is not None and id(found) not in chosen:
            continue
        mapper = instance_state(found).mapper
        column = columns.get(mapper)
        if column is not None and instance_state(found).dict.get(_key(mapper, column)) is None:
            waiting.setdefault(column, []).append(found)
    for column, objects in waiting.items():
        for mapper in {instance_state(found).mapper for found in objects}:
            check_row_id(mapper, session.get_bind(mapper).dialect)
        mapper = instance_state(objects[0]).mapper
        connection = session.connection(bind_arguments={"mapper": mapper})
        for found, value in zip(
            objects, next_values(column, connection, len(objects)), strict=True
        ):
            set_attribute(found, _key(instance_state(found).mapper, column), value)


def _key(mapper: Mapper[Any], column: sa.Column[Any]) -> str:
    return str(mapper.get_property_by_column(column).key)
