# SPDX-License-Identifier: Apache-2.0
"""
Which tables move when rows of some are moved to another tenant: those that refer to them, too.

Found by the foreign keys of models that name a tenant. Reads no rows and moves none
(`lacre.sqlalchemy.tenants`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from lacre.errors import ConfigurationError
from lacre.sqlalchemy.declared import TENANT, logical_table, row_facts
from lacre.sqlalchemy.mapped import mappers_of

__all__ = ["TenantTable", "TenantTables", "typed_tenant"]


@dataclass(slots=True, kw_only=True, eq=False)
class TenantTable:
    """A mapped class whose rows name their tenant, and those whose rows refer to its."""

    mapper: Mapper[Any]
    source: Any  # the two tenants, as its column holds them
    target: Any
    # By which attributes: its own first.
    children: list[tuple["TenantTable", list[tuple[str, str]]]] = field(default_factory=list)

    @property
    def model(self) -> Any:
        """The mapped class."""
        return self.mapper.class_

    @property
    def name(self) -> str:
        """The logical name of the table."""
        return logical_table(self.mapper, self.mapper.local_table)

    @property
    def tenant_key(self) -> str:
        """The name of the attribute that holds the tenant."""
        return str(row_facts(self.mapper).tenant)

    @property
    def tenant(self) -> Any:
        """That attribute."""
        return getattr(self.model, self.tenant_key)

    @property
    def keys(self) -> list[Any]:
        """The attributes of the primary key."""
        mapper = self.mapper
        return [
            getattr(self.model, mapper.get_property_by_column(column).key)
            for column in mapper.primary_key
        ]

    def unique_beside(self, mapper: Mapper[Any]) -> list[list[str]]:
        """Return the attributes of *mapper* that are unique together with the tenant, constraint by constraint."""
        column = mapper.column_attrs[self.tenant_key].columns[0]
        local: Any = column.table
        unique = [
            each.columns for each in local.constraints if isinstance(each, sa.UniqueConstraint)
        ]
        unique += [index.columns for index in local.indexes if index.unique]
        return [
            [mapper.get_property_by_column(each).key for each in columns if each is not column]
            for columns in unique
            if column in list(columns)
        ]


class TenantTables:
    """
    The tables of one move: *roots*, whose rows are asked for, and *all* of them.

    Raises:
        ConfigurationError: a model names no tenant, or its tenant is part of a key.
    """

    def __init__(self, models: Any, source: str, target: str) -> None:
        named = [mapper for mapper in mappers_of(models) if hasattr(mapper.class_, TENANT)]
        named = [mapper for mapper in named if not _inherits_one(mapper, named)]
        # What is referred to first: what refers to it then moves in the same transaction.
        named.sort(key=_place)
        if not named:
            raise ConfigurationError(
                "none of these models names its tenant", hint='__lacre_tenant__ = "tenant_id"'
            )
        self._wanted = (source, target)
        self._found: dict[Mapper[Any], TenantTable] = {}
        self.roots = [self._table(mapper) for mapper in named]

    @property
    def all(self) -> list[TenantTable]:
        """Every table that has rows to move."""
        return list(self._found.values())

    def _table(self, mapper: Mapper[Any]) -> TenantTable:
        found = self._found.get(mapper)
        if found is not None:
            return found
        column: Any = mapper.column_attrs[str(row_facts(mapper).tenant)].columns[0]
        _check_keys(mapper, column)
        source, target = (typed_tenant(column, text) for text in self._wanted)
        found = self._found[mapper] = TenantTable(mapper=mapper, source=source, target=target)
        for child in sorted(mapper.registry.mappers, key=lambda each: each.class_.__name__):
            # Of single-table inheritance the parent's own mapper finds all rows.
            if hasattr(child.class_, TENANT) and not child.single:
                found.children += [
                    (self._table(child), pairs) for pairs in _references(child, mapper)
                ]
        return found

    def stay_behind(self) -> tuple[str, ...]:
        """Return, in sentences, which rows of a tenant are referred to by what moves, and stay."""
        found = [
            f"{table.name} refers to {other.local_table.name}, whose rows stay"  # type: ignore[attr-defined]
            for table in self.all
            for other in table.mapper.registry.mappers
            if hasattr(other.class_, TENANT)
            and not any(each in self._found for each in other.iterate_to_root())
            and _references(table.mapper, other)
        ]
        return tuple(dict.fromkeys(found))


def _references(child: Mapper[Any], parent: Mapper[Any]) -> list[list[tuple[str, str]]]:
    local: Any = child.local_table
    own = () if child.inherits is None else child.inherits.tables  # joined inheritance: one object
    return [
        [
            (
                parent.get_property_by_column(element.column).key,
                child.get_property_by_column(element.parent).key,
            )
            for element in constraint.elements
        ]
        for constraint in local.foreign_key_constraints
        if constraint.referred_table in parent.tables and constraint.referred_table not in own
    ]


def _place(mapper: Mapper[Any]) -> int:
    table: Any = mapper.local_table
    with warnings.catch_warnings():
        # Of tables that refer to each other in a circle, none is first.
        warnings.simplefilter("ignore")
        return int(table.metadata.sorted_tables.index(table))


def _inherits_one(mapper: Mapper[Any], others: Sequence[Mapper[Any]]) -> bool:
    return any(above in others for above in mapper.iterate_to_root() if above is not mapper)


def _check_keys(mapper: Mapper[Any], column: Any) -> None:
    composite = any(len(key.constraint.elements) > 1 for key in column.foreign_keys)
    if composite or any(column in list(table.primary_key) for table in mapper.tables):
        raise ConfigurationError(
            f"the tenant of {mapper.class_.__name__} is part of a key, which does not change by itself",
            hint="move such rows in a program of your own, within moving_tenants(), in the order that the constraints want",
        )


def typed_tenant(column: Any, text: str) -> Any:
    """
    Return the tenant of that name as *column* holds it.

    Raises:
        ConfigurationError: it holds no such value.
    """
    try:
        kind: Any = column.type.python_type
    except NotImplementedError:
        kind = str
    if kind not in (UUID, int):
        return text
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no tenant of {column}, which holds {kind.__name__} values"
        ) from None
