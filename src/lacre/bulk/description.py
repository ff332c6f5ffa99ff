# SPDX-License-Identifier: Apache-2.0
"""
A statement as plain data: which model, which attributes, under which conditions, in which order.

A ``select(...)`` is described, built again from its description, and compared: what the
description does not say (a join, DISTINCT, an option) is noticed and refused. Runs nothing.

Leans on private names of SQLAlchemy, each pinned by a test: `Select._order_by_clauses`,
`_limit_clause`, `_offset_clause`.
"""

import importlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import InstrumentedAttribute
from sqlalchemy.sql.elements import BindParameter, Label, UnaryExpression
from sqlalchemy.sql.operators import asc_op, desc_op

from lacre.bulk.conditions import condition_of, described_condition, unsupported
from lacre.errors import ConfigurationError, MisuseError
from lacre.sqlalchemy.declared import sealed_properties
from lacre.sqlalchemy.selecting import Selected
from lacre.sqlalchemy.types import IndexType

__all__ = ["Description", "attribute_of", "described", "is_of_index", "mapper_named"]

# Options that say how rows are fetched, and never which.
_HOW = frozenset({"yield_per", "stream_results", "max_row_buffer", "populate_existing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """
    What to read. *model* is MODULE:NAME; *columns* pairs names of the result with attributes.

    *where* may hold values that are asked for, so it does not print.
    """

    model: str
    columns: tuple[tuple[str, str], ...]
    where: Any = field(default=None, repr=False)
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
                order=tuple((str(key), str(way)) for key, way in given["order"]),
                limit=_count(given["limit"]),
                offset=_count(given["offset"]),
            )
        except (KeyError, TypeError, ValueError):
            raise MisuseError("the request describes no statement") from None

    def narrowed(self, statement: Any, mapper: Mapper[Any]) -> Any:
        """
        Return *statement*, a select of attributes of *mapper*, under the conditions described.

        Raises:
            MisuseError: an attribute is none of the model.
        """
        return self._narrowed(statement, mapper, spread=False)

    def _narrowed(self, statement: Any, mapper: Mapper[Any], *, spread: bool) -> Any:
        if self.where is not None:
            parts = [self.where]
            if spread and "and" in self.where:
                parts = self.where["and"]
            statement = statement.where(*(condition_of(part, mapper) for part in parts))
        for key, way in self.order:
            attribute = attribute_of(mapper, key)
            if way not in ("", "asc", "desc"):
                raise MisuseError("the request describes an order that there is not")
            statement = statement.order_by(getattr(attribute, way)() if way else attribute)
        if self.limit is not None:
            statement = statement.limit(self.limit)
        return statement if self.offset is None else statement.offset(self.offset)


def described(statement: Any) -> Description:
    """
    Return the description of *statement*: a ``select`` of attributes of one model, or of the model.

    Raises:
        UnsupportedQuery: there is more to it than a description says.
        ConfigurationError: its model cannot be imported by its name.
    """
    if not isinstance(statement, sa.Select):
        raise unsupported(f"a {type(statement).__name__}")
    selected: list[Any] = list(statement.column_descriptions)
    entities = {
        each.get("entity") for each in selected
    }  # none, of a column of a table or a function
    if len(entities) != 1 or None in entities or any(each["aliased"] for each in selected):
        raise unsupported("columns of anything but one model")
    (entity,) = entities
    mapper: Mapper[Any] = sa.inspect(entity)
    columns: list[tuple[str, str]] = []
    for each in selected:
        columns += _selected(each["name"], each["expr"], mapper)
    if len({name for name, _ in columns}) != len(columns):
        raise unsupported("two columns of one name")
    where = statement.whereclause
    found = Description(
        model=_name_of(mapper.class_),
        columns=tuple(columns),
        where=None if where is None else described_condition(where, mapper),
        order=tuple(_ordered(clause, mapper) for clause in statement._order_by_clauses),  # noqa: SLF001
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
    whole: Any = statement.with_only_columns(mapper.class_, maintain_column_froms=False)
    if not any(
        _same(whole, found._narrowed(sa.select(mapper.class_), mapper, spread=spread))  # noqa: SLF001
        for spread in (False, True)
    ):
        raise unsupported("all of this statement")
    return found


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one.compare(other, compare_values=False, compare_keys=False))
    except AttributeError:  # something in it that SQLAlchemy does not compare
        return False


def _selected(name: str, expression: Any, mapper: Mapper[Any]) -> list[tuple[str, str]]:
    if expression is mapper.class_:
        return [
            (prop.key, prop.key) for prop in mapper.column_attrs if not is_of_index(mapper, prop)
        ]
    if isinstance(expression, Selected):
        return [(name, expression.prop.key)]
    column: Any = expression
    if isinstance(expression, Label):
        column = expression.element
    elif isinstance(expression, InstrumentedAttribute):
        column = expression.expression
    try:
        prop = mapper.get_property_by_column(column)
    except Exception:  # noqa: BLE001 - whatever else it is, it is no attribute of this model
        raise unsupported(f"the column {name!r}, which is no attribute of the model") from None
    if is_of_index(mapper, prop):
        raise unsupported(f"the column {name!r}: a blind index is not read")
    return [(name, prop.key)]


def _ordered(clause: Any, mapper: Mapper[Any]) -> tuple[str, str]:
    way = ""
    if isinstance(clause, UnaryExpression):
        way = {asc_op: "asc", desc_op: "desc"}.get(clause.modifier, "?")  # type: ignore[arg-type]
        clause = clause.element
    try:
        prop = mapper.get_property_by_column(clause)
    except Exception:  # noqa: BLE001 - as above
        raise unsupported("an order by anything but plain attributes") from None
    if way == "?":
        raise unsupported("an order of this kind")
    return prop.key, way


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


def _name_of(model: type) -> str:
    module, name = model.__module__, model.__qualname__
    if module == "__main__" or "<locals>" in name:
        raise ConfigurationError(
            f"the model {name} has no module that another process could import",
            hint="define the models in a module of their own, and import them from there",
        )
    return f"{module}:{name}"


def mapper_named(model: str) -> Mapper[Any]:
    """
    Return the mapper of MODULE:NAME. Imports the module, which runs its code.

    Raises:
        ConfigurationError: there is no such module or mapped class.
    """
    module, _, name = model.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return sa.inspect(found)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, NoInspectionAvailable):
        raise ConfigurationError(
            f"the reading process finds no mapped class {model}",
            hint="its module is imported by name, from the directory and the path of whoever asks",
        ) from None


def is_of_index(mapper: Mapper[Any], prop: Any) -> bool:
    """Whether *prop* holds tokens of a blind index."""
    column = prop.columns[0]
    return isinstance(column.type, IndexType) or any(
        column is each for sealed in sealed_properties(mapper) for each in sealed.token_columns
    )


def attribute_of(mapper: Mapper[Any], key: str) -> Any:
    """
    Return the attribute *key* of the mapped class.

    Raises:
        MisuseError: there is none.
    """
    if key not in mapper.column_attrs:
        raise MisuseError(f"{mapper.class_.__name__} has no attribute {key!r}")
    return getattr(mapper.class_, key)
