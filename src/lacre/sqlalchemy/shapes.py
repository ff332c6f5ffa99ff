# SPDX-License-Identifier: Apache-2.0
"""
What was found of a statement, remembered for every statement of its shape.

To walk a statement, and to rewrite it for the tokens of its indexes, takes longer than to execute
it. Both follow from its shape, which SQLAlchemy knows already: it keeps compiled statements by it.
So a shape is walked once, and rewritten once for each number of tokens. What is kept holds no
value: it asks for those of the statement that is executed, by their places.

Rewrites queries for whole objects of one plain mapping only; of every other it remembers, at most,
that there is nothing to do. Decides nothing and makes no token.

Leans on private names of SQLAlchemy, each pinned by a test: `_generate_cache_key`,
`_where_criteria`, `_execution_options`, `_compile_options`, `_generate`, `BindParameter.expand_op`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BindParameter, BooleanClauseList

from lacre.sqlalchemy.lightening import replaced
from lacre.sqlalchemy.parts import in_parts
from lacre.sqlalchemy.searching import InEither, Rare, Term, asking, tokens_of
from lacre.sqlalchemy.types import TokensType

__all__ = ["Shape", "is_usual", "numbers_of_tokens", "parameters_of", "rewritten"]

_FEW = 2  # tokens that are written out one by one


@dataclass(slots=True, kw_only=True)
class Shape:
    """
    What statements of one shape have in common. Holds no value.

    *short* are the places, among the parameters, of what is asked of short indexes, and *terms* of
    what is asked of any index, where another statement can be executed in place of these.
    *rewritten* are those that were made, by dialect and by the numbers of tokens.
    """

    short: tuple[int, ...]
    terms: tuple[int, ...]
    rewritten: dict[tuple[str, tuple[int, ...]], Any] = field(default_factory=dict)


class Given(BindParameter[Any]):
    """A value of the statement that is executed, asked for at that moment."""

    # Its class is part of what compiled statements are kept by: none that holds its values itself
    # takes the place of one that asks for them.
    inherit_cache = True

    @classmethod
    def of(cls, value: Callable[[], Any], type_: Any, *, like: Any = None) -> "Given":
        """Return the parameter whose value *value* returns, as a list where *like* is one."""
        several = like is not None and like.expanding
        made = cls(None, callable_=value, type_=type_, expanding=several, unique=True)
        if several:
            made.expand_op = like.expand_op
        return made


def parameters_of(statement: Any) -> tuple[Any, Sequence[Any]] | None:
    """Return the shape of a query, as SQLAlchemy tells one from another, and its parameters; None of no shape."""
    key = statement._generate_cache_key()  # noqa: SLF001
    return None if key is None or getattr(key, "params", None) else (key.key, key.bindparams)


def is_usual(statement: Any) -> bool:
    """Whether a query has nothing with it that does not show in its shape."""
    return not statement._execution_options and "_compile_options" not in vars(statement)  # noqa: SLF001


def numbers_of_tokens(terms: Sequence[Term]) -> tuple[int, ...]:
    """Return how many tokens each has; 0 where the number makes no other statement."""
    found = [(term.asked.index.several, len(tokens_of(term.asked))) for term in terms]
    return tuple(number if several or number <= _FEW else 0 for several, number in found)


def rewritten(
    statement: Any, parameters: Sequence[Any], numbers: Sequence[int], dialect: str
) -> Any | None:
    """
    Return what is executed in place of *statement* and of any of its shape, without their values.

    Args:
        parameters: of the statement.
        numbers: how many tokens its terms have, in their order; 0 of any number.

    Returns:
        None where a value is elsewhere than in its conditions, or is not to be asked for.
    """
    place = {id(parameter): n for n, parameter in enumerate(parameters)}
    terms = [parameter for parameter in parameters if isinstance(parameter, Term)]
    number = {id(term): found for term, found in zip(terms, numbers, strict=True)}

    def entries(term: Any, type_: Any) -> list[Given]:
        return [Given.of(_token(place[id(term)], n), type_) for n in range(number[id(term)])]

    def conjunct(clause: Any) -> list[Any]:
        if isinstance(clause, InEither) and not clause.negated:
            # Here neither NULL nor false is a hit: which of the two makes no difference.
            one = clause.term
            if number.get(id(one)):
                found = entries(one, one.type)
                return [sa.or_(*(Rare(_either([column], found)) for column in clause.columns))]
        if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
            return [found for part in clause.clauses for found in conjunct(part)]
        if isinstance(clause, sa.sql.elements.Grouping):
            return conjunct(clause.element)
        term: Any = getattr(clause, "right", None)
        if isinstance(term, Term) and number.get(id(term)):
            if term.asked.index.several:
                return [in_parts(term.asked, dialect, lambda n: entries(term, TokensType())[n])]
            if clause.operator is operators.in_op:
                return [_either([clause.left], entries(term, term.type))]
        return [replaced(clause, replacement)]

    def replacement(element: Any, **_: Any) -> Any:
        if isinstance(element, BindParameter):
            n = place.get(id(element))
            if n is None or element.literal_execute or element.required:
                return element
            value = _tokens(n) if isinstance(element, Term) else _value(n)
            return Given.of(value, element.type, like=element)
        return element if isinstance(element, sa.FromClause) else None

    copy = statement._generate()  # noqa: SLF001
    copy._where_criteria = tuple(  # noqa: SLF001
        found
        for clause in statement._where_criteria  # noqa: SLF001
        for found in conjunct(clause)
    )
    made = parameters_of(copy)
    return copy if made is not None and all(type(each) is Given for each in made[1]) else None


def _either(columns: Sequence[Any], entries: Sequence[Any]) -> Any:
    return sa.or_(*(column == entry for column in columns for entry in entries))


def _value(place: int) -> Callable[[], Any]:
    return lambda: _present()[place].effective_value


def _tokens(place: int) -> Callable[[], Any]:
    return lambda: tokens_of(_present()[place].asked)


def _token(place: int, position: int) -> Callable[[], Any]:
    return lambda: tokens_of(_present()[place].asked)[position]


def _present() -> Sequence[Any]:
    statement: Any = asking.get()
    return statement.given  # type: ignore[no-any-return]
