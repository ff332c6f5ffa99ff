# SPDX-License-Identifier: Apache-2.0
"""
Refusals of a search: what was asked, in words that hold no value, and what to do instead.

Decides nothing (`lacre.sqlalchemy.searching`). Leans on a name of SQLAlchemy that is not documented,
pinned by a test: `sqlalchemy.sql.lambdas.PyWrapper`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.lambdas import PyWrapper

from lacre.errors import UnsupportedQuery
from lacre.fields.index import Question
from lacre.sqlalchemy.questions import LIKE, TEXT

__all__ = [
    "is_sql",
    "not_answered",
    "refuse_lambda",
    "short_refused",
    "spelt",
    "unsupported",
    "without_index",
]

_HINT = "the database sees ciphertext: ==, !=, in_, is_(None), contains, startswith and endswith work by way of an index; for the rest load the objects and compare there"
_SIGNS = {
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
    operators.eq: "==",
    operators.ne: "!=",
    operators.in_op: "in_",
    operators.add: "+",
    operators.getitem: "[]",
}
_WORDS = {
    "asc": "ORDER BY",
    "desc": "ORDER BY",
    "nulls_first": "ORDER BY",
    "nulls_last": "ORDER BY",
    "between": "BETWEEN",
    "like": "LIKE",
    "ilike": "ILIKE",
    "custom": "an operator of its own",
}
_ORDERED = ("<", "<=", ">", ">=", "BETWEEN")
_WITHOUT = {
    operators.not_like_op,
    operators.not_ilike_op,
    operators.not_contains_op,
    operators.not_startswith_op,
    operators.not_endswith_op,
}


def refuse_lambda(prop: Any, other: Sequence[Any]) -> None:
    """
    Raise if a value comes from inside of a lambda of SQLAlchemy's, which runs once for all values.

    Raises:
        UnsupportedQuery
    """
    if other and type(other[0]) is PyWrapper:
        raise unsupported(
            prop,
            "asked for a variable of a lambda",
            hint="make the condition outside the lambda: SQLAlchemy keeps what a lambda returns, with the first value in it",
        )


def is_sql(value: Any) -> bool:
    """Whether *value* is a column or another expression, and not a value."""
    return isinstance(value, sa.ClauseElement) or hasattr(value, "__clause_element__")


def spelt(op: Any) -> str:
    """Return *op* as it is written in a query, where SQLAlchemy's own name for it is another."""
    name = str(getattr(op, "__name__", op)).removesuffix("_op")
    return _SIGNS.get(op) or _WORDS.get(name, name)


def unsupported(prop: Any, what: str, *, hint: str = "") -> UnsupportedQuery:
    """Return the error for *prop*, which cannot be *what*."""
    return UnsupportedQuery(f"{prop} is encrypted and cannot be {what}", hint=hint or _HINT)


def not_answered(
    prop: Any, op: Any, other: Sequence[Any], options: Mapping[str, Any]
) -> UnsupportedQuery:
    """Return the error for an operator that asks no question of an index."""
    name = spelt(op)
    if op in TEXT or op in LIKE:
        return _no_question(prop, op, other[0] if other else None)
    if op in _WITHOUT:
        return unsupported(
            prop,
            f"used with {name}: a false hit would leave out a row that belongs to the answer",
            hint="ask for those that match, and leave their primary keys out: Model.id.not_in(keys)",
        )
    if name == "ORDER BY":
        key = getattr(prop, "key", "attribute")
        return unsupported(
            prop,
            "used with ORDER BY",
            hint=f"order in the application: sorted(found, key=lambda each: each.{key})",
        )
    if name in _ORDERED:
        return unsupported(
            prop,
            f"used with {name}",
            hint="ciphertexts and tokens have no order: narrow the query by something else, and compare the objects in the application",
        )
    return unsupported(prop, f"used with {name}")


def _no_question(prop: Any, op: Any, value: Any) -> UnsupportedQuery:
    name = spelt(op) if op in LIKE else f"{spelt(op)}()"
    if value is None:
        return unsupported(
            prop, f"used with {name} of None", hint="is_(None) asks for rows without a value"
        )
    if is_sql(value):
        return unsupported(
            prop,
            f"used with {name} of another column or expression",
            hint="give the text itself: what the database computes has no token",
        )
    if not isinstance(value, str):
        return unsupported(
            prop,
            f"used with {name} of a value of type {type(value).__name__}",
            hint="it takes one text: of a number str(number); for any of several ask each by itself",
        )
    if op in LIKE:
        return unsupported(
            prop,
            f"used with {name} of this pattern",
            hint='"%text%", "text%" and "%text" are answered, like contains, startswith and endswith; == asks for the whole value; a sign that stands for itself is escaped: escape="/"',
        )
    return unsupported(
        prop,
        f"used with {name} of a text that has a per cent sign or an underscore without its escape",
        hint="leave escape out: the text is taken as it is",
    )


def without_index(prop: Any, op: Any, question: Question) -> UnsupportedQuery:
    """Return the error for a question about parts that no index of *prop* answers."""
    text = issubclass(prop.python_type, str)
    normaliser = next((index.normaliser for index in prop.declared.indexes), "name")
    if text and normaliser in ("name", "exact", "digits"):
        takes = "name" if normaliser == "digits" else normaliser
        kinds = [f"ContainsIndex({takes!r})"] if normaliser != "digits" else []
        if question == "startswith":
            kinds.insert(0, f"PrefixIndex({normaliser!r})")
        if kinds:
            return unsupported(
                prop,
                f"used with {spelt(op)} without an index that answers it",
                hint=f"declare one: encrypted(..., index={' or '.join(kinds)})".replace("'", '"'),
            )
    what = f"what {normaliser} makes" if text else f"a {prop.python_type.__name__}"
    return unsupported(
        prop,
        f"used with {spelt(op)}: {what} has no index in parts",
        hint="== and in_ find the whole value, by BlindIndex",
    )


def short_refused(asked: Any, where: str) -> UnsupportedQuery:
    """Return the error for a short index asked where its hits cannot be re-checked."""
    prop, index = asked.comparator.prop, asked.index
    what = f"a {index.kind} index" if index.several else f"an index of {index.bits} bits"
    out = "" if index.several else "; or declare the index with bits=96"
    return UnsupportedQuery(
        f"{prop} has {what}, whose hits cannot be re-checked {where}",
        hint=f"ask it joined by AND in a SELECT that is no part of another (a count is: select(func.count()).where(...)); elsewhere select the primary keys by it first, and use those: Model.id.in_(keys){out}",
    )
