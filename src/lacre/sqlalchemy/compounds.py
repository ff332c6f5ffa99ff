# SPDX-License-Identifier: Apache-2.0
"""
`compound(...)`: several encrypted attributes of a class, searched together by equality.

Its token is made anew whenever one of them is written (`lacre.sqlalchemy.writing`,
`lacre.sqlalchemy.bulk`), and NULL where one of them is. Does not make it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, MappedColumn, Mapper, mapped_column
from sqlalchemy.orm.properties import ColumnProperty
from sqlalchemy.sql import operators

from lacre.errors import ConfigurationError
from lacre.fields.compound_index import CompoundIndex
from lacre.fields.scheme import Scheme
from lacre.sqlalchemy.declared import Declared, logical_table
from lacre.sqlalchemy.refusing import is_sql, refuse_lambda, spelt, unsupported
from lacre.sqlalchemy.searching import Asked, Comparing, InEither
from lacre.sqlalchemy.types import IndexType

__all__ = ["Compound", "CompoundProperty", "compound", "compound_properties"]


def compound(
    *attributes: str,
    normalisers: Mapping[str, str] | None = None,
    unique: bool = False,
    bits: int = 96,
    name: str | None = None,
) -> InstrumentedAttribute[Any]:
    """
    Declare that encrypted *attributes* are searched together: ``Model.both == (one, other)``.

    Args:
        attributes: names of two or more encrypted attributes of one class, in one table.
        normalisers: of those that are not compared exactly as they are.
        unique: let the database refuse a second row with the same values.
        bits: of the token, 96 or more.
        name: of the index, bound in every token; the attribute's by default.
    """
    if len(set(attributes)) < 2 or len(set(attributes)) != len(attributes):
        raise ConfigurationError(
            "a compound index is of two or more attributes", hint='compound("name", "born")'
        )
    unknown = set(normalisers or {}) - set(attributes)
    if unknown:
        raise ConfigurationError(f"normalisers names {sorted(unknown)}, which are not indexed")
    made = CompoundColumn(IndexType((bits + 7) // 8), nullable=True)
    made.asked_for = (attributes, dict(normalisers or {}), unique, bits, name)
    # SQLAlchemy refuses these, given above, on a class that is no dataclass.
    made._attribute_options = mapped_column(  # noqa: SLF001 - pinned by a test
        init=False, repr=False, compare=False
    )._attribute_options
    return made  # type: ignore[return-value]


class CompoundColumn(MappedColumn[Any]):
    """What `compound` returns: a mapped column of tokens whose property is ours."""

    inherit_cache = True

    asked_for: tuple[tuple[str, ...], dict[str, str], bool, int, str | None]

    def _copy(self, **kw: Any) -> Any:
        copy = super()._copy(**kw)
        copy.asked_for = self.asked_for
        return copy

    def declarative_scan(self, *args: Any, **kw: Any) -> None:
        super().declarative_scan(*args, **kw)
        if getattr(self, "_property", None) is not None:
            return
        attributes, normalisers, unique, bits, name = self.asked_for
        attribute = self.column.name
        type_ = IndexType((bits + 7) // 8)
        self.column = sa.Column(
            f"{attribute}_bidx",
            type_,
            unique=unique or None,
            index=not unique or None,
            nullable=True,
        )
        second: sa.Column[Any] | None = None
        if unique:
            second = sa.Column(f"{attribute}_bidx2", type_, unique=True, nullable=True)
        self._property = CompoundProperty(
            self.column,
            second,
            attributes=attributes,
            normalisers=normalisers,
            unique=unique,
            bits=bits,
            name=name or attribute,
        )

    @property
    def columns_to_assign(self) -> list[tuple[sa.Column[Any], int]]:
        columns = list(super().columns_to_assign)
        return columns + [
            (column, columns[0][1])
            for column in self._property.second_columns
            if column is not None
        ]

    @property
    def mapper_property_to_assign(self) -> Any:
        return self._property


class CompoundProperty(ColumnProperty[Any]):
    """The mapper property of a compound index: its attribute holds the token, which does not print."""

    inherit_cache = True

    def __init__(
        self,
        column: sa.Column[Any],
        second: sa.Column[Any] | None,
        *,
        attributes: tuple[str, ...],
        normalisers: dict[str, str],
        unique: bool,
        bits: int,
        name: str,
    ) -> None:
        super().__init__(column, comparator_factory=CompoundComparator)
        self.attributes = attributes
        self.index_columns = (column,)
        # Of a unique one, as of every unique index: for tokens under roots of even versions.
        self.second_columns = (second,)
        self.token_columns = (column,) if second is None else (column, second)
        self._normalisers = normalisers
        self._unique = unique
        self._bits = bits
        self._name = name

    @property
    def parts(self) -> list[Any]:
        """
        The properties of the attributes.

        Raises:
            ConfigurationError: one is not encrypted, or not of the same class, store and table.
        """
        mapped = self.parent.column_attrs
        found = [mapped.get(name) for name in self.attributes]
        places = set()
        for name, prop in zip(self.attributes, found, strict=True):
            declared = getattr(prop, "declared", None)
            if prop is None or not isinstance(declared, Declared):
                raise ConfigurationError(f"{self} is of {name!r}, which is no encrypted attribute")
            places.add((declared.class_, declared.store, prop.columns[0].table))
        if len(places) != 1 or next(iter(places))[2] is not self.columns[0].table:
            raise ConfigurationError(
                f"the attributes of {self} are not of one class, store and table",
                hint="keys are a class's: encrypt them under one class",
            )
        return found

    @property
    def unique_columns(self) -> list[tuple[int, sa.Column[Any]]]:
        """The position of the index and its column, where it is unique."""
        return [(0, self.index_columns[0])] if self._unique else []

    @property
    def index(self) -> CompoundIndex:
        """The index."""
        return CompoundIndex(
            types=tuple(prop.python_type for prop in self.parts),
            normalisers=tuple(self._normalisers.get(name, "exact") for name in self.attributes),
            unique=self._unique,
            bits=self._bits,
            name=self._name,
        )

    @property
    def scheme(self) -> Scheme:
        """Where it is, and under whose keys: the column is a JSON array of the logical columns."""
        parts = self.parts
        declared = parts[0].declared
        names = [prop.declared.column or prop.columns[0].name for prop in parts]
        return Scheme(
            class_=declared.class_,
            store=declared.store,
            table=logical_table(self.parent, self.columns[0].table),
            column=json.dumps(names, separators=(",", ":"), ensure_ascii=False),
            python_type=list,
            indexes=(self.index,),
        )


class CompoundComparator(Comparing):
    """What ``Model.both`` can do in a query."""

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        refuse_lambda(self.prop, other)
        columns = [
            self.mapped(column, self._parentmapper.get_property_by_column(column).key)
            for column in self.prop.token_columns
        ]
        held = columns[0] if len(columns) == 1 else sa.func.coalesce(*columns)
        if op in (operators.is_, operators.is_not, operators.eq, operators.ne) and (
            other[0] is None or isinstance(other[0], sa.sql.elements.Null)
        ):
            return op(held, None)
        if op in (operators.eq, operators.ne):
            values: tuple[Any, ...] = (other[0],)
        elif (
            op in (operators.in_op, operators.not_in_op)
            and isinstance(other[0], Iterable)
            and not isinstance(other[0], str | bytes)
            and not is_sql(other[0])
        ):
            values = tuple(other[0])
        else:
            raise unsupported(self.prop, f"used with {spelt(op)}", hint=_HINT)
        wanted = len(self.prop.attributes)
        if any(
            not isinstance(value, tuple) or len(value) != wanted or not _are_values(value)
            for value in values
        ):
            names = ", ".join(self.prop.attributes)
            raise unsupported(
                self.prop,
                f"compared to anything but tuples of {wanted} values, ({names})",
                hint=_HINT,
            )
        index, negated = self.prop.index, op in (operators.ne, operators.not_in_op)
        if len(columns) == 1:
            return self._in(index, columns[0], values, negated=negated)
        return InEither(held, columns, Asked(self, index, values), negated=negated)

    def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> Any:
        raise unsupported(self.prop, f"used with {spelt(op)}", hint=_HINT)


_HINT = "it answers == and != of a tuple with a value for each attribute, in_ of a list of such tuples, and is_(None): where one of them is NULL there is no token, so ask the attributes one by one"


def _are_values(parts: Iterable[Any]) -> bool:
    return not any(part is None or is_sql(part) for part in parts)


def compound_properties(mapper: Mapper[Any]) -> list[CompoundProperty]:
    """Return the mapper's compound indexes."""
    return [prop for prop in mapper.column_attrs if isinstance(prop, CompoundProperty)]


class Compound:
    """A compound index, as a flush or a statement writes it."""

    __slots__ = ("key", "keys", "parts", "prop", "token_keys")

    def __init__(self, prop: CompoundProperty) -> None:
        self.prop = prop
        self.key: str = prop.key
        self.keys = prop.attributes
        self.parts = prop.parts
        # The attributes of its columns: the first is its own.
        self.token_keys = tuple(
            str(prop.parent.get_property_by_column(column).key) for column in prop.token_columns
        )
