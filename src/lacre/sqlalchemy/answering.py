# SPDX-License-Identifier: Apache-2.0
"""
What searches found, told to the evidence while the rows of a statement are read.

That an index is asked is recorded before the statement runs (`lacre.fields.searching`); how many
rows came back, and which, is known here. Told of a SELECT of mapped classes and their attributes.
Not of others: a count has one row whatever it finds, an UPDATE none. Rows are named where the result holds their objects; by
the subjects of their values, where they have some and the keys are at hand. Opens and decides nothing.

Leans on private names of SQLAlchemy, each pinned by a test: `Select._raw_columns`,
`ColumnElement._annotations`, `ChunkedIteratorResult.chunks` and `iterator`, `Result._yield_per`,
`_source_supports_scalars`, `Comparator._parentmapper`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.result import ChunkedIteratorResult
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.elements import ColumnClause, Label

from lacre.sqlalchemy.declared import row_of_identity
from lacre.sqlalchemy.loading import loaded_tenant
from lacre.sqlalchemy.searching import Asked, Asking
from lacre.sqlalchemy.selecting import Selected
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.types import raw_of

__all__ = ["answered", "told_of"]


def told_of(statement: Any, asking: Asking) -> Callable[..., None]:
    """Return what is told the rows of *statement*'s result, tuples, before they leave for whoever acts now."""
    tellers = [_teller(statement, asking.binding, each) for each in asking.answered]

    def told(rows: Sequence[Any], *, excluded: int = 0) -> None:
        for tell in tellers:
            tell(rows, excluded=excluded)

    return told


def answered(result: Any, statement: Any, asking: Asking) -> Any:
    """Return *result*, of *statement*, such that what was found is recorded when it is read."""
    if not isinstance(result, ChunkedIteratorResult) or not _has_a_row_for_each(statement):
        return result
    told, excluded = told_of(statement, asking), asking.excluded
    fetched, single = result.chunks, result._source_supports_scalars  # noqa: SLF001

    def chunks(size: int | None) -> Iterator[Any]:
        rest = excluded
        first = True
        for chunk in fetched(size):
            if chunk or first:
                told([(row,) for row in chunk] if single else chunk, excluded=rest)
            first, rest = False, 0
            yield chunk
        if first:
            told([], excluded=rest)

    result.chunks = chunks
    result.iterator = chain.from_iterable(chunks(result._yield_per))  # noqa: SLF001
    return result


def _has_a_row_for_each(statement: Any) -> bool:
    # Of a function nobody knows whether it is of one row or of all.
    return isinstance(statement, sa.Select) and all(
        isinstance(raw.element if isinstance(raw, Label) else raw, sa.FromClause | ColumnClause)
        or isinstance(raw._annotations.get("bundle"), Selected)  # noqa: SLF001
        for raw in statement._raw_columns  # noqa: SLF001
    )


def _teller(statement: Any, binding: Any, asked: Asked) -> Callable[..., None]:
    comparator: Any = asked.comparator
    prop, mapper = comparator.prop, comparator._parentmapper  # noqa: SLF001
    field = binding.field(prop)
    tell = field.answered(asked.index, len(asked.values))
    places = _places(statement, mapper)
    about = field.scheme.subject
    name = partial(_subject, field, prop, field.searched_tenant()) if about else _row

    def told(rows: Sequence[Any], *, excluded: int) -> None:
        found = (row[n] for n in places for row in rows)
        names = {name(instance_state(each)): None for each in found if each is not None}
        names.pop("", None)
        rows_, subjects = ((), tuple(names)) if about else (tuple(names), ())
        tell(len(rows), rows_, subjects, excluded=excluded)

    return told


def _places(statement: Any, mapper: Any) -> list[int]:
    """Return where in its rows *statement* has objects of *mapper*."""
    places = []
    for n, raw in enumerate(statement._raw_columns):  # noqa: SLF001
        if not isinstance(raw, sa.FromClause):
            continue
        entity: Any = raw._annotations.get("parententity")  # noqa: SLF001
        if entity is None:
            return []  # a table, which is as many columns as it has
        if entity.mapper.common_parent(mapper):
            places.append(n)
    return places


def _row(state: Any) -> str:
    return row_of_identity(state.mapper, state)


def _subject(field: Any, prop: Any, searched: str, state: Any) -> str:
    # From what the object was loaded with: nothing is asked for here.
    mapper = state.mapper
    held, key = state.dict.get(prop.key), subject_key(mapper, prop)
    whom = None if key is None else state.dict.get(key)
    if held is None or whom is None:
        return ""
    tenant = loaded_tenant(state) or searched
    named: str = field.whose(
        raw_of(held), subject=subject_of_values(mapper, prop, whom), tenant=tenant
    )
    return named
