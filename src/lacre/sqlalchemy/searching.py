# SPDX-License-Identifier: Apache-2.0
"""
Asking an encrypted column: ``==``, ``!=``, ``in_``, ``contains`` and the like by way of its indexes.

A condition carries the value to the moment of execution, where the session's application makes
its token (late, because only then is it known who asks): nothing that can be printed of a
statement shows the value. Short tokens collide by design; their hits are re-checked on the
plaintext before the statement proper runs (`lacre.sqlalchemy.rechecking`).

SQLAlchemy keeps compiled statements, with all that was in them. So what is compiled is a copy that
holds no value (`lacre.sqlalchemy.lightening`).

Leans on private names of SQLAlchemy, each pinned by a test:
`ColumnProperty.Comparator._memoized_method___clause_element__`, `_orm_annotate_column`,
`_memoized_attr_`, `BindParameter.expand_op`, `BinaryExpression`, `ColumnElement._negate`,
`_traverse_internals`, `_propagate_attrs`, `_from_objects` and `_is_implicitly_boolean`.
"""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import sqlalchemy as sa
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm.properties import ColumnProperty
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ColumnElement, Grouping
from sqlalchemy.sql.visitors import InternalTraversal

from lacre.errors import InvalidValue, LacreError, MisuseError, UnsupportedQuery
from lacre.fields.codecs import codec_for
from lacre.fields.index import Index, Question
from lacre.sqlalchemy.questions import text_question
from lacre.sqlalchemy.refusing import (
    is_sql,
    not_answered,
    refuse_lambda,
    short_refused,
    spelt,
    unsupported,
    without_index,
)
from lacre.sqlalchemy.selecting import Selected
from lacre.sqlalchemy.types import unwrapped

__all__ = [
    "Asked",
    "Asking",
    "Comparing",
    "HeavyTerm",
    "InEither",
    "Rare",
    "SealedComparator",
    "Term",
    "asking",
    "tokens_of",
]

_TRUTH = sa.Boolean()


@dataclass(slots=True)
class Asking:
    """One statement of a session, while it runs."""

    binding: Any
    # Terms whose hits are re-checked, and tokens made, by id of what was asked (`Term.asked`).
    rechecked: set[int] = field(default_factory=set)
    tokens: dict[int, list[bytes]] = field(default_factory=dict)
    unchecked: list["Asked"] = field(default_factory=list)  # whose hits stay candidates
    answered: list["Asked"] = field(default_factory=list)  # whose tokens were made
    excluded: int = 0  # candidates that a re-check took out
    # The parameters that it was given, where another one that asks for them is executed instead.
    given: Sequence[Any] = ()
    lightens: bool = True  # whether it is not to be compiled together with values


asking: ContextVar[Asking | None] = ContextVar("lacre_asking", default=None)


class Asked:
    """What a condition asks: which comparator, by which index, for which values."""

    __slots__ = ("__weakref__", "comparator", "index", "question", "values")

    def __init__(
        self, comparator: Any, index: Index, values: tuple[Any, ...], question: Question = "equals"
    ) -> None:
        self.comparator = comparator
        self.index = index
        self.values = values
        self.question: Question = question


class Term(BindParameter[Any]):
    """The tokens of one or several values, made when the statement runs."""

    inherit_cache = True

    # Returns what is asked: the comparator and the values. In an attribute, not in the statement:
    # it is part of no cache key and of no repr. Copies of a term share it.
    held: Callable[[], Asked | None]
    light = False  # whether it holds no value itself

    @classmethod
    def of(cls, asked: Asked, type_: Any) -> "Term":
        """Return the term that holds *asked*."""
        return cls._made(lambda: asked, type_)

    @classmethod
    def _made(cls, held: Callable[[], Asked | None], type_: Any) -> "Term":
        term = cls(
            None, callable_=lambda: tokens_of(held()), expanding=True, type_=type_, unique=True
        )
        term.held = held
        return term

    @property
    def asked(self) -> Asked:
        asked = self.held()
        if asked is None:
            raise _over()
        return asked

    def lightened(self) -> "Term":
        """Return a term that asks the same as long as this one, or its statement, is there."""
        term = self._made(ref(self.asked), self.type)
        term.light = True
        return term


class HeavyTerm(DontWrapMixin, Exception):
    """A statement is about to be compiled, and kept, together with the values it asks for."""


@compiles(Term)
def _compile(element: Any, compiler: Any, **kw: Any) -> Any:
    statement = asking.get()
    if statement is not None and statement.lightens and not element.light:
        raise HeavyTerm
    return compiler.visit_bindparam(element, **kw)


class Comparing(ColumnProperty.Comparator[Any]):
    """What asks an index: for an attribute, or for several together."""

    def mapped(self, column: Any, key: str) -> Any:
        return self.adapter(column, key) if self.adapter else self._orm_annotate_column(column)

    def _in(
        self, index: Index, column: Any, values: tuple[Any, ...], *, negated: bool
    ) -> ColumnElement[Any]:
        term = _term(column, Asked(self, index, values), negated=negated)
        return _in(column, term, negated=negated)


class SealedComparator(Comparing):
    """What ``Model.attribute`` can do in a query."""

    def _memoized_attr_equality(self) -> tuple[Index, list[Any]] | None:
        # The index that answers equality, and its columns as they stand in every condition: two
        # of a unique one.
        prop = self.prop
        columns = zip(prop.index_columns, prop.second_columns, strict=True)
        for index, found in zip(prop.declared.indexes, columns, strict=True):
            if "equals" in index.questions:
                return index, [
                    self.mapped(column, self._parentmapper.get_property_by_column(column).key)
                    for column in found
                    if column is not None
                ]
        return None

    def _memoized_method___clause_element__(self) -> Any:
        return Selected(self).__clause_element__()

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        refuse_lambda(self.prop, other)
        if op in (operators.is_, operators.is_not) or (
            op in (operators.eq, operators.ne) and other[0] is None
        ):
            if other[0] is not None and not isinstance(other[0], sa.sql.elements.Null):
                raise unsupported(
                    self.prop,
                    "compared with is_ to anything but None",
                    hint="== asks for a value, is_(None) for rows without one",
                )
            return op(self.mapped(self.prop.columns[0], self.prop.key), None)  # type: ignore[no-any-return]
        if op in (operators.eq, operators.ne):
            return self._asked((other[0],), negated=op is operators.ne)
        asked = text_question(op, other, kwargs)
        if asked is not None:
            return self._in_part(op, *asked)
        if op in (operators.in_op, operators.not_in_op):
            if (
                isinstance(other[0], str | bytes)
                or not isinstance(other[0], Iterable)
                or isinstance(other[0], sa.ClauseElement)
            ):
                raise unsupported(
                    self.prop,
                    "compared with in_ to anything but a list of values",
                    hint="give the values themselves: in_([...]); of a subquery select them first",
                )
            return self._asked(tuple(other[0]), negated=op is operators.not_in_op)
        raise not_answered(self.prop, op, other, kwargs)

    def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> ColumnElement[Any]:
        raise not_answered(self.prop, op, (other,), kwargs)

    def _asked(self, values: tuple[Any, ...], *, negated: bool) -> ColumnElement[Any]:
        if self.equality is None:
            raise unsupported(
                self.prop,
                "searched without an index",
                hint='declare one: encrypted(..., index=BlindIndex("exact"))',
            )
        index, columns = self.equality
        if any(value is None for value in values):
            raise unsupported(
                self.prop,
                "compared to None in a list",
                hint="leave None out of the list: is_(None) asks for rows without a value",
            )
        if any(map(is_sql, values)):
            raise unsupported(
                self.prop,
                "compared to another column, an expression or a subquery",
                hint="give the value itself: tokens of two columns are never equal, and none is made of what is bound later; of a subquery select the values first",
            )
        if negated and not index.exact:
            raise unsupported(
                self.prop,
                f"asked for inequality by an index of {index.bits} bits",
                hint="short tokens collide, so rows would be missing: declare bits=96; or ask for those that are equal, and leave their primary keys out",
            )
        if len(columns) == 1:
            return self._in(index, columns[0], values, negated=negated)
        asked, value = Asked(self, index, values), self.mapped(self.prop.columns[0], self.prop.key)
        return InEither(value, columns, asked, negated=negated)

    def _in_part(
        self, op: Any, question: Question, value: str, whatever_case: bool
    ) -> ColumnElement[Any]:
        pairs = zip(self.prop.declared.indexes, self.prop.index_columns, strict=True)
        found = [(index, column) for index, column in pairs if question in index.questions]
        if not found:
            raise without_index(self.prop, op, question)
        if whatever_case:
            found = [(index, column) for index, column in found if index.normaliser == "name"]
        if not found:
            raise unsupported(
                self.prop,
                f"used with {spelt(op)} by an index that tells capital letters from small ones",
                hint=f'{question}() asks it as it is; with the normaliser "name" case makes no difference',
            )
        # The first that the text is long enough for; or that which a longer one has soonest.
        chosen = next(
            ((index, column) for index, column in found if self._is_long(index, question, value)),
            min(found, key=lambda pair: pair[0].least(question)),
        )
        index, column = chosen
        key = self._parentmapper.get_property_by_column(column).key
        term = Term.of(Asked(self, index, (value,), question), column.type)
        # What every dialect renders; it is replaced before the statement runs.
        return self.mapped(column, key).bool_op("@>")(term)  # type: ignore[no-any-return]

    def _is_long(self, index: Index, question: Question, value: str) -> bool:
        try:
            normal = index.normalised(value, codec_for(str)).decode()
        except InvalidValue:
            return True  # the search says so
        return len(normal) >= index.least(question)


def _term(column: Any, asked: Asked, *, negated: bool) -> Term:
    expanded: Any = Term.of(asked, column.type)
    expanded.expand_op = operators.not_in_op if negated else operators.in_op
    return expanded  # type: ignore[no-any-return]


def _in(column: Any, term: Term, *, negated: bool) -> BinaryExpression[Any]:
    # `column.in_(term)`, without the coercions on the way: the term is what it has to be.
    op, negation = operators.in_op, operators.not_in_op
    if negated:
        op, negation = negation, op
    return BinaryExpression(column, term, op, type_=_TRUTH, negate=negation)


class Rare(Grouping[Any]):
    """
    A condition of which few rows are true, whatever SQLite's statistics say of its column.

    Of a column that is NULL in every row they say that each value is in every row, and the whole
    table would be read.
    """

    inherit_cache = True


@compiles(Rare, "sqlite")
def _as_rare(element: Any, compiler: Any, **kw: Any) -> Any:
    return f"likelihood({compiler.process(element.element, **kw)}, 0.0001)"


@compiles(Rare)
def _as_it_is(element: Any, compiler: Any, **kw: Any) -> Any:
    return compiler.process(element.element, **kw)


class InEither(ColumnElement[bool]):
    """
    Whether one of the two columns of a unique index has a token that is asked for.

    One of them is NULL, mostly, of which SQL says neither yes nor no. So its opposite is not NOT of
    it, but what it says itself. It is spelt out when it is compiled: where nobody can tell false
    from NULL something shorter is executed in its place (`lacre.sqlalchemy.shapes`).
    """

    __visit_name__ = "lacre_in_either"
    inherit_cache = True
    type = _TRUTH
    _is_implicitly_boolean = True
    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's own way of saying it
        ("value", InternalTraversal.dp_clauseelement),
        ("columns", InternalTraversal.dp_clauseelement_list),
        ("term", InternalTraversal.dp_clauseelement),
        ("negated", InternalTraversal.dp_boolean),
        ("empty", InternalTraversal.dp_boolean),
    ]

    def __init__(self, value: Any, columns: Sequence[Any], asked: Asked, *, negated: bool) -> None:
        """Ask *columns*; of NULL in place of a *value* neither it nor its opposite is true."""
        self.value = value
        self.columns = list(columns)
        self.term = _term(columns[0], asked, negated=negated)
        self.negated = negated
        self.empty = not asked.values
        self._propagate_attrs = value._propagate_attrs  # noqa: SLF001

    @property
    def asked(self) -> Asked:
        return self.term.asked

    @property
    def _from_objects(self) -> list[Any]:
        return [found for column in self.columns for found in column._from_objects]  # noqa: SLF001

    def self_group(self, against: Any = None) -> Any:
        return self  # in parentheses already

    def _negate(self) -> Any:
        return InEither(self.value, self.columns, self.asked, negated=not self.negated)

    def spelt_out(self) -> ColumnElement[Any]:
        """Return what it says, in SQL."""
        found: list[Any] = [_in(column, self.term, negated=self.negated) for column in self.columns]
        if self.negated:
            pairs = zip(self.columns, found, strict=True)
            parts: list[Any] = [sa.or_(column.is_(None), part) for column, part in pairs]
            if not self.empty:  # NULL is not in an empty list, and in no other
                parts.insert(0, self.value.is_not(None))
            return sa.and_(*parts)
        # False, and not NULL, where there is another value: somebody may say NOT around it. And
        # NULL where there is none, which costs PostgreSQL nothing where nobody does.
        rare = [Rare(part) for part in found]
        parts = [
            sa.and_(column.is_not(None), part)
            for column, part in zip(self.columns, rare, strict=True)
        ]
        # SQLite looks up what every part asks, NULL or not: so this one too asks for the tokens,
        # which no such row has, and not for the NULLs, of which one of the columns is full.
        none = sa.func.coalesce(*self.columns).is_(None)
        return sa.or_(*parts, sa.and_(rare[0], none, sa.null()))


@compiles(InEither)
def _spelt_out(element: Any, compiler: Any, **kw: Any) -> str:
    return f"({compiler.process(element.spelt_out(), **kw)})"


def _over() -> MisuseError:
    return unwrapped(  # type: ignore[return-value]
        MisuseError("the statement whose values are asked for is gone", hint="execute it again")
    )


def tokens_of(asked: Asked | None) -> list[bytes]:
    """
    Return the tokens of what is asked by the statement that is executed, made once for it.

    Raises:
        AccessDenied, InvalidValue
        UnsupportedQuery: the hits are to be re-checked, and are not.
        MisuseError: the statement is not executed in a session of lacre.
    """
    if asked is None:
        raise _over()
    statement = asking.get()
    if statement is None:
        raise unwrapped(
            MisuseError(
                "a condition on an encrypted column runs only in a session of lacre",
                hint="Session = lacre.sqlalchemy(sessionmaker(engine))",
            )
        )
    # SQLAlchemy may ask several times for one execution, which is one search.
    found = statement.tokens.get(id(asked))
    if found is not None:
        return found
    comparator, values = asked.comparator, asked.values
    if not asked.index.exact and id(asked) not in statement.rechecked:
        # Wherever the condition came from (a loader option, a relationship): never a false hit.
        raise unwrapped(short_refused(asked, "in a loader option, a relationship or a subquery"))
    try:
        searched = statement.binding.field(comparator.prop)
        found = [
            token
            for value in values
            for token in searched.search_tokens(
                value, index=asked.index.name, question=asked.question
            )
        ]
    except LacreError as error:
        if isinstance(error, InvalidValue | UnsupportedQuery):
            # The index does not know whose it is.
            error.args = (f"{comparator.prop}: {error}", *error.args[1:])
        raise unwrapped(error) from None
    statement.tokens[id(asked)] = found
    statement.answered.append(asked)
    return found
