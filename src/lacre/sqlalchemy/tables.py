# SPDX-License-Identifier: Apache-2.0
"""
The tables behind mapped classes, for jobs that know no models: columns, row ids, tenants.

Joined inheritance gives a table for each level; its rows are told apart by the primary key of the
lowest, or by a column of it, which is then joined. Does no SQL.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression

from lacre.errors import ConfigurationError
from lacre.fields.tables import (
    CompoundTokens,
    EncryptedColumn,
    EncryptedTable,
    Join,
    TableColumn,
)
from lacre.sqlalchemy.compounds import compound_properties
from lacre.sqlalchemy.declared import row_facts, row_of_values, sealed_properties, tenant_text
from lacre.sqlalchemy.mapped import mappers_of
from lacre.sqlalchemy.subjects import subject_key, subject_of_values

__all__ = ["tables_of"]


def tables_of(models: Any, dialect: Dialect) -> list[EncryptedTable]:
    """
    Return the tables of *models* that hold encrypted columns, in the order of their names.

    Args:
        models: a declarative base, a mapped class, or several of either.
        dialect: of the database whose driver returns the rows.

    Raises:
        ConfigurationError: no models, or rows that cannot be told apart in one statement.
    """
    found: dict[tuple[Any, ...], tuple[Mapper[Any], dict[Any, Any]]] = {}
    compounds: dict[Any, Any] = {}
    for mapper in mappers_of(models):
        facts = row_facts(mapper)
        tenant = None if facts.tenant is None else mapper.column_attrs[facts.tenant].columns[0]
        for prop in sealed_properties(mapper):
            column = prop.columns[0]
            if any(column in props for _, props in found.values()):
                continue
            # Of one table and told apart alike: the classes of one single-table inheritance.
            place = (column.table, facts.columns, tenant)
            _, props = found.setdefault(place, (_owner(mapper, column.table), {}))
            props[column] = prop
        for each in compound_properties(mapper):
            compounds.setdefault(each.columns[0], each)
    made = [
        _table(mapper, table, list(props.values()), list(compounds.values()), dialect)
        for (table, *_), (mapper, props) in found.items()
    ]
    return sorted(made, key=str)


def _owner(mapper: Mapper[Any], table: Any) -> Mapper[Any]:
    # A child inherits the columns of the table above: there its rows are those of the parent too.
    while mapper.local_table is not table and mapper.inherits is not None:
        mapper = mapper.inherits
    return mapper


def _table(
    mapper: Mapper[Any],
    table: Any,
    props: Sequence[Any],
    compounds: Sequence[Any],
    dialect: Dialect,
) -> EncryptedTable:
    if not isinstance(table, sa.Table):
        raise ConfigurationError(
            f"{mapper.class_.__name__} is mapped to no table of its own",
            hint="name a class that is: a job writes to tables",
        )
    facts = row_facts(mapper)
    tenant = None if facts.tenant is None else mapper.column_attrs[facts.tenant].columns[0]
    reach = _Reach(mapper, table)
    row = tuple(reach.column(column) for column in facts.columns)
    of_tenant = None if tenant is None else reach.column(tenant)
    convert = [_converter(column, dialect) for column in facts.columns]

    def row_text(values: Sequence[Any]) -> str:
        converted = [
            value if to is None else to(value) for to, value in zip(convert, values, strict=True)
        ]
        return row_of_values(mapper, converted, facts.columns)

    convert_tenant = None if tenant is None else _converter(tenant, dialect)

    def text_of_tenant(value: Any) -> str:
        return tenant_text(mapper, value if convert_tenant is None else convert_tenant(value))

    columns = tuple(_column(mapper, prop, reach, dialect) for prop in props)
    return EncryptedTable(
        schema=table.schema,
        name=table.name,
        key=tuple(column.name for column in table.primary_key),
        columns=columns,
        row=row,
        tenant=of_tenant,
        joins=tuple(reach.joins),
        row_text=row_text,
        tenant_text=text_of_tenant,
        compounds=tuple(
            _compound(each)
            for each in compounds
            if {part.columns[0] for part in each.parts} <= {prop.columns[0] for prop in props}
        ),
    )


def _compound(prop: Any) -> CompoundTokens:
    tokens = tuple(column.name for column in prop.token_columns)
    return CompoundTokens(
        parts=tuple(part.columns[0].name for part in prop.parts),
        column=EncryptedColumn(name=tokens[0], scheme=prop.scheme, tokens=tokens),
    )


def _column(mapper: Mapper[Any], prop: Any, reach: "_Reach", dialect: Dialect) -> EncryptedColumn:
    made = EncryptedColumn(
        name=prop.columns[0].name,
        scheme=prop.scheme,
        tokens=tuple(column.name for column in prop.token_columns),
    )
    # Of the mapper that declares it: under single-table inheritance that is a subclass.
    declaring = prop.parent
    key = subject_key(declaring, prop)
    if key is None:
        return made
    named = declaring.column_attrs[key].columns[0]
    convert = _converter(named, dialect)

    def text(value: Any) -> str | None:
        held = value if convert is None or value is None else convert(value)
        return subject_of_values(declaring, prop, held)

    return replace(made, subject=reach.column(named), subject_text=text)


def _converter(column: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    kind = column.type
    if not isinstance(kind, sa.types.TypeDecorator):
        kind = kind.dialect_impl(dialect)
    found: Callable[[Any], Any] | None = kind.result_processor(dialect, None)
    return found


class _Reach:
    """What a table's rows reach upwards: columns that are equal to its own, and those to be joined."""

    def __init__(self, mapper: Mapper[Any], table: sa.Table) -> None:
        self._table = table
        self._levels: list[tuple[Any, list[tuple[Any, Any]]]] = []
        self._equal: dict[Any, Any] = {}
        self.joins: list[Join] = []
        above: Mapper[Any] | None = mapper
        while above is not None and above.inherits is not None:
            if above.local_table is not above.inherits.local_table:
                pairs = list(_pairs(above))
                self._levels.append((above.inherits.local_table, pairs))
                for one, other in pairs:
                    self._equal[other] = self._equal.get(one, one)
            above = above.inherits

    def column(self, column: Any) -> TableColumn:
        """Return where *column*'s value is found, by way of a join where it is in no equal column."""
        equal = self._equal.get(column, column)
        found = equal if equal.table is self._table else column
        if found.table is not self._table:
            self._join(found.table)
        return TableColumn(table=found.table.name, name=found.name)

    def _join(self, wanted: Any) -> None:
        for table, pairs in self._levels:
            if all(join.name != table.name for join in self.joins):
                on = tuple((_named(one), _named(other)) for one, other in pairs)
                self.joins.append(Join(schema=table.schema, name=table.name, on=on))
            if table is wanted:
                return


def _pairs(mapper: Mapper[Any]) -> Iterator[tuple[Any, Any]]:
    # The equal columns of a child's table and of the one above it, the child's first.
    above: Any = mapper.inherits
    for part in visitors.iterate(mapper.inherit_condition):
        if isinstance(part, BinaryExpression):
            one, other = part.left, part.right
            if part.operator is not operators.eq or not (
                isinstance(one, sa.Column) and isinstance(other, sa.Column)
            ):
                raise ConfigurationError(
                    f"{mapper.class_.__name__} is joined to {above.class_.__name__} by more than equal columns",
                    hint="a job follows joins of equal columns only",
                )
            yield (other, one) if other.table is mapper.local_table else (one, other)


def _named(column: Any) -> TableColumn:
    return TableColumn(table=column.table.name, name=column.name)
