# SPDX-License-Identifier: Apache-2.0
"""
A statement as plain data: which models, which attributes, under which conditions, in which order.

A ``select(...)`` is described, built again from its description, and compared: what the
description does not say (a lock, DISTINCT, an option) is noticed and refused. Runs nothing.

Leans on private names of SQLAlchemy, each pinned by a test: `Select._order_by_clauses`,
`_limit_clause`, `_offset_clause`.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.sql.elements import BindParameter, Label, UnaryExpression
from sqlalchemy.sql.operators import asc_op, desc_op

from lacre.bulk.conditions import condition_of, described_condition
from lacre.bulk.joins import Join, described_joins, joined, models_of, without_joins
from lacre.bulk.models import Models, is_of_index, mapper_named, name_of, unsupported
from lacre.errors import MisuseError
from lacre.sqlalchemy.selecting import Selected

__all__ = ["Description", "described"]

# Options that say how rows are fetched, and never which.
_HOW = frozenset({"yield_per", "stream_results", "max_row_buffer", "populate_existing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """
    What to read. *model* is MODULE:NAME; *columns* pairs names of the result with attributes.

    *joins* are in order, so that the place of a model among them is what `Models` names it by; *source*
    says that the statement names the first model as what it selects from. *where* may hold values that are asked for, so it does not print.
    """

    model: str
    columns: tuple[tuple[str, str], ...]
    where: Any = field(default=None, repr=False)
    joins: tuple[Join, ...] = field(default=(), repr=False)
    source: bool = False
    order: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    offset: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any) -> "Description":
        """
        Return what `to_json` gave.

        Raises:
            MisuseError: it is no description of this release.
        """
        try:
            return cls(
                model=str(given["model"]),
                columns=tuple((str(name), str(key)) for name, key in given["columns"]),
                where=given["where"],
                joins=tuple(Join.from_json(each) for each in given["joins"]),
                source=bool(given["source"]),
                order=tuple((str(key), str(way)) for key, way in given["order"]),
                limit=_count(given["limit"]),
                offset=_count(given["offset"]),
            )
        except (KeyError, TypeError, ValueError):
            raise MisuseError("the request describes no statement") from None

    @property
    def names(self) -> tuple[str, ...]:
        """MODULE:NAME of every model."""
        return (self.model, *(join.model for join in self.joins))

    def models(self) -> Models:
        """
        Return the models. Imports their modules, which runs their code.

        Raises:
            ConfigurationError: one is not there.
        """
        found = Models([mapper_named(name) for name in self.names])
        if len(set(found.mappers)) != len(found.mappers):
            raise MisuseError("the request joins a model twice")
        return found

    def narrowed(self, statement: Any, models: Models) -> Any:
        """
        Return *statement*, a select of attributes of *models*, with the joins and conditions described.

        Raises:
            MisuseError: an attribute is none of the model.
        """
        if self.source:
            statement = statement.select_from(models.mappers[0].class_)
        return self._narrowed(joined(statement, self.joins, models), models, spread=False)

    def _narrowed(self, statement: Any, models: Models, *, spread: bool) -> Any:
        if self.where is not None:
            parts = [self.where]
            if spread and "and" in self.where:
                parts = self.where["and"]
            statement = statement.where(*(condition_of(part, models) for part in parts))
        for name, way in self.order:
            attribute = models.plain(name)
            if way not in ("", "asc", "desc"):
                raise MisuseError("the request describes an order that there is not")
            statement = statement.order_by(getattr(attribute, way)() if way else attribute)
        if self.limit is not None:
            statement = statement.limit(self.limit)
        return statement if self.offset is None else statement.offset(self.offset)


def described(statement: Any) -> Description:
    """
    Return the description of *statement*: a ``select`` of attributes of models that it joins, or of the models.

    Raises:
        UnsupportedQuery: there is more to it than a description says.
        ConfigurationError: a model cannot be imported by its name.
    """
    if not isinstance(statement, sa.Select):
        raise unsupported(f"a {type(statement).__name__}")
    selected: list[Any] = list(statement.column_descriptions)
    # None, of a column of a table or a function.
    entities = [each.get("entity") for each in selected]
    if None in entities or any(each["aliased"] for each in selected):
        raise unsupported("columns of anything but models")
    models = models_of(statement, [sa.inspect(entity) for entity in entities])
    columns: list[tuple[str, str]] = []
    for each in selected:
        columns += _selected(each["name"], each["expr"], models)
    if len({name for name, _ in columns}) != len(columns):
        raise unsupported("two columns of one name: label() gives one another")
    where = statement.whereclause
    found = Description(
        model=name_of(models.mappers[0].class_),
        columns=tuple(columns),
        where=None if where is None else described_condition(where, models),
        joins=described_joins(statement, models),
        source=bool(statement._from_obj),  # noqa: SLF001
        order=tuple(_ordered(clause, models) for clause in statement._order_by_clauses),  # noqa: SLF001
        limit=_bound(statement._limit_clause),  # noqa: SLF001
        offset=_bound(statement._offset_clause),  # noqa: SLF001
    )
    if set(statement.get_execution_options()) - _HOW:
        # A `schema_translate_map` says which rows; what an option of yours says is not known.
        raise unsupported("this statement's execution options")
    try:
        json.dumps(found.to_json(), allow_nan=False)
    except ValueError:
        raise unsupported("a comparison with what is no number") from None
    # Its joins were read part by part, the rest is compared: whole models in place of columns, in
    # the order in which the statement comes upon them.
    classes = list(dict.fromkeys([*entities, *(mapper.class_ for mapper in models.mappers)]))
    rest: Any = without_joins(statement).with_only_columns(*classes, maintain_column_froms=False)
    bare: Any = sa.select(*classes)
    if found.source:
        bare = bare.select_from(models.mappers[0].class_)
    if not any(
        _same(rest, found._narrowed(bare, models, spread=spread))  # noqa: SLF001
        for spread in (False, True)
    ):
        raise unsupported("all of this statement")
    return found


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one.compare(other, compare_values=False, compare_keys=False))
    except AttributeError:  # something in it that SQLAlchemy does not compare
        return False


def _selected(name: str, expression: Any, models: Models) -> list[tuple[str, str]]:
    for place, mapper in enumerate(models.mappers):
        if expression is mapper.class_:
            return [
                (prop.key, models.named(place, prop.key))
                for prop in mapper.column_attrs
                if not is_of_index(mapper, prop)
            ]
    if isinstance(expression, Selected):
        return [(name, models.named(models.place(expression.mapped_class), expression.prop.key))]
    column: Any = expression
    if isinstance(expression, Label):
        column = expression.element
    elif isinstance(expression, InstrumentedAttribute):
        column = expression.expression
    return [(name, models.name_of_column(column))]


def _ordered(clause: Any, models: Models) -> tuple[str, str]:
    way = ""
    if isinstance(clause, UnaryExpression):
        way = {asc_op: "asc", desc_op: "desc"}.get(clause.modifier, "?")  # type: ignore[arg-type]
        clause = clause.element
    name = models.name_of_plain(clause)
    if way == "?":
        raise unsupported("an order of this kind")
    return name, way


def _bound(clause: Any) -> int | None:
    if clause is None:
        return None
    value = clause.effective_value if isinstance(clause, BindParameter) else None
    if type(value) is not int:
        raise unsupported("a limit or offset that is no number")
    return value


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError
    return value
