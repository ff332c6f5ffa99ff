# SPDX-License-Identifier: Apache-2.0
"""
Conditions as plain data: comparisons of a model's attributes with values, joined by AND, OR and NOT.

Both ways, for the models of one reading; plain attributes may be compared with each other too, as
joins do. A condition that has no such description is refused: it would have to cross as code or
as SQL. Runs nothing.
"""

import datetime as dt
import enum
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BindParameter,
    BooleanClauseList,
    ColumnClause,
    ColumnElement,
    False_,
    Grouping,
    Null,
    True_,
    UnaryExpression,
)

from lacre.bulk.models import Models, unsupported
from lacre.errors import MisuseError
from lacre.sqlalchemy.attribute import SealedProperty
from lacre.sqlalchemy.compounds import CompoundProperty
from lacre.sqlalchemy.searching import InEither, Term

__all__ = ["condition_of", "described_condition"]

_COMPARING = ("==", "!=", "<", "<=", ">", ">=")  # what two attributes are compared by
_BETWEEN = {operators.between_op: "between", operators.not_between_op: "not between"}
_OPERATORS: dict[Any, str] = {
    operators.eq: "==",
    operators.ne: "!=",
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
    operators.in_op: "in",
    operators.not_in_op: "not in",
    operators.is_: "is",
    operators.is_not: "is not",
    operators.like_op: "like",
    operators.not_like_op: "not like",
    operators.ilike_op: "ilike",
    operators.not_ilike_op: "not ilike",
    operators.startswith_op: "startswith",
    operators.endswith_op: "endswith",
    operators.contains_op: "contains",
} | _BETWEEN
_MAKE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operators.eq,
    "!=": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
    "in": lambda attribute, values: attribute.in_(values),
    "not in": lambda attribute, values: attribute.not_in(values),
    "is": lambda attribute, value: attribute.is_(value),
    "is not": lambda attribute, value: attribute.is_not(value),
    "like": lambda attribute, value: attribute.like(value),
    "not like": lambda attribute, value: attribute.not_like(value),
    "ilike": lambda attribute, value: attribute.ilike(value),
    "not ilike": lambda attribute, value: attribute.not_ilike(value),
    "startswith": lambda attribute, value: attribute.startswith(value),
    "endswith": lambda attribute, value: attribute.endswith(value),
    "contains": lambda attribute, value: attribute.contains(value),
    "between": lambda attribute, values: attribute.between(*values),
    "not between": lambda attribute, values: ~attribute.between(*values),
}


def described_condition(clause: Any, models: Models) -> Any:
    """
    Return *clause* as plain data.

    Raises:
        UnsupportedQuery: it is no comparison of attributes of *models*, nor several of them.
    """
    if isinstance(clause, Grouping):
        return described_condition(clause.element, models)
    if isinstance(clause, InEither):
        return _described_question(clause.asked, "not in" if clause.negated else "in", models)
    if isinstance(clause, BooleanClauseList):
        word = {operators.and_: "and", operators.or_: "or"}.get(clause.operator)
        if word is not None:
            return {word: [described_condition(part, models) for part in clause.clauses]}
    if isinstance(clause, UnaryExpression) and clause.operator is operators.inv:
        return {"not": described_condition(clause.element, models)}
    if isinstance(clause, BinaryExpression):
        return _described_comparison(clause, models)
    raise unsupported(f"a condition of this kind ({type(clause).__name__})")


def _described_comparison(clause: Any, models: Models) -> Any:
    word = _OPERATORS.get(clause.operator)
    if isinstance(clause.right, Term):
        return _described_question(clause.right.asked, word, models)
    if word is None or any(clause.modifiers.values()):
        raise unsupported("a comparison by this operator")
    right = clause.right
    if word in _COMPARING and isinstance(right, ColumnClause):
        return {
            "attribute": models.name_of_plain(clause.left),
            word: {"attribute": models.name_of_plain(right)},
        }
    attribute = models.name_of_column(clause.left)
    if word in _BETWEEN.values():
        return {"attribute": attribute, word: [_plain(_value(part)) for part in right.clauses]}
    value = _value(right)
    if word in ("in", "not in"):
        return {"attribute": attribute, word: [_plain(each) for each in value]}
    return {"attribute": attribute, word: _plain(value)}


def _described_question(asked: Any, word: str | None, models: Models) -> Any:
    # Of an encrypted attribute by way of its index: the values asked for, not their tokens, which
    # the reading process makes with the index keys it may use.
    prop = asked.comparator.prop
    question = getattr(asked, "question", "equals")
    name = models.named(models.place(asked.comparator._parententity), prop.key)  # noqa: SLF001 - pinned by a test
    if question == "equals" and word in ("in", "not in"):
        if isinstance(prop, CompoundProperty):
            return {"attribute": name, word: [[_plain(part) for part in value] for value in asked.values]}  # fmt: skip
        if isinstance(prop, SealedProperty):
            return {"attribute": name, word: [_plain(value) for value in asked.values]}
    if question in ("startswith", "endswith", "contains") and len(asked.values) == 1:
        return {"attribute": name, question: _plain(asked.values[0])}
    raise unsupported("this question to an index")


def _value(element: Any) -> Any:
    while isinstance(element, Grouping):
        element = element.element
    if isinstance(element, Null):
        return None
    if isinstance(element, True_ | False_):
        return isinstance(element, True_)
    if type(element) is BindParameter:
        return element.effective_value
    raise unsupported("a comparison with anything but values")


def condition_of(described: Any, models: Models) -> ColumnElement[bool]:
    """
    Return the condition that *described* says.

    Raises:
        MisuseError: it is no description of this release.
    """
    try:
        return _condition_of(described, models)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MisuseError("a condition of the request is not described as it should be") from None


def _condition_of(described: Any, models: Models) -> ColumnElement[bool]:
    for word, join in (("and", sa.and_), ("or", sa.or_)):
        if word in described:
            return join(*(_condition_of(part, models) for part in described[word]))
    if "not" in described:
        return sa.not_(_condition_of(described["not"], models))
    [(word, given)] = [pair for pair in described.items() if pair[0] != "attribute"]
    name = described["attribute"]
    attribute = models.attribute(name)
    _, prop = models.found(name)
    value: Any
    if isinstance(given, dict) and "attribute" in given:
        if word not in _COMPARING:
            raise ValueError
        attribute, value = models.plain(name), models.plain(given["attribute"])
    elif isinstance(prop, CompoundProperty):
        # Asked like an encrypted attribute: by values, never by what it holds.
        if word not in ("in", "not in"):
            raise ValueError
        value = [
            tuple(_given(part, each) for part, each in zip(parts, prop.parts, strict=True))
            for parts in given
        ]
    else:
        value = [_given(each, prop) for each in given] if isinstance(given, list) else _given(given, prop)  # fmt: skip
    made: ColumnElement[bool] = _MAKE[word](attribute, value)
    return made


_SPELT: Sequence[tuple[type, str, Callable[[Any], str], Callable[[str], Any]]] = (
    (dt.datetime, "datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    (dt.date, "date", dt.date.isoformat, dt.date.fromisoformat),
    (dt.time, "time", dt.time.isoformat, dt.time.fromisoformat),
    (Decimal, "decimal", str, Decimal),
    (UUID, "uuid", str, UUID),
    (bytes, "bytes", lambda value: b64encode(value).decode(), b64decode),
)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, str, int, float):
        return value
    if isinstance(value, enum.Enum):
        return {"enum": value.name}
    for type_, word, spell, _ in _SPELT:
        if isinstance(value, type_):
            return {word: spell(value)}
    raise unsupported(f"a comparison with a {type(value).__name__}")


def _given(value: Any, prop: Any) -> Any:
    if not isinstance(value, dict):
        return value
    [(word, text)] = value.items()
    if word == "enum":
        enumerated: Any = getattr(prop, "python_type", None) or prop.columns[0].type.enum_class
        return enumerated[text]
    return {name: read for _, name, _, read in _SPELT}[word](text)
