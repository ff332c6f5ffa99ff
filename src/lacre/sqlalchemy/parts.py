# SPDX-License-Identifier: Apache-2.0
"""
Asking an index of several tokens: the condition that finds its candidates, another on every database.

Makes no token (`lacre.sqlalchemy.searching`) and re-checks nothing.
"""

from collections.abc import Callable
from typing import Any
from weakref import ref

import sqlalchemy as sa
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from lacre.errors import UnsupportedQuery
from lacre.fields.stored import IndexTokens
from lacre.sqlalchemy.searching import Asked, tokens_of
from lacre.sqlalchemy.token_columns import TOKEN, token_table
from lacre.sqlalchemy.types import TokensType

__all__ = ["Slot", "in_parts"]


class Slot(BindParameter[Any]):
    """One entry of what is asked of an index of several tokens, once its tokens are made."""

    inherit_cache = True

    @classmethod
    def of(cls, asked: Asked, position: int, *, numbers: bool) -> "Slot":
        """Return the entry at *position*: as it is, or as a list of *numbers* to be rendered one by one."""
        held = ref(asked)

        def entry() -> Any:
            found: Any = tokens_of(held())[position]
            return [_Number(each) for each in found.numbers] if numbers else found

        type_: Any = sa.Integer() if numbers else TokensType()
        return cls(None, callable_=entry, expanding=numbers, type_=type_, unique=True)


class _Number(int):
    """A token on its way to the database, which does not print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<index token>"

    __str__ = __repr__


def in_parts(
    asked: Asked, dialect: str, entry: Callable[[int], Any] | None = None
) -> ColumnElement[Any]:
    """
    Return the condition that finds the candidates of *asked*, by an index of several tokens.

    Args:
        entry: returns the parameter of one entry, by its place; on PostgreSQL. By default it is
            of *asked* itself.

    Raises:
        UnsupportedQuery: what is asked is too short; or the database has no such index.
    """
    comparator: Any = asked.comparator
    prop, mapper = comparator.prop, comparator._parentmapper  # noqa: SLF001 - pinned by a test
    column = prop.index_columns[prop.declared.indexes.index(asked.index)]
    # All of them now: how many there are is part of the statement.
    entries = tokens_of(asked)
    if dialect == "postgresql":
        entry = entry or (lambda position: Slot.of(asked, position, numbers=False))
        mapped = comparator.mapped(column, mapper.get_property_by_column(column).key)
        return sa.or_(*(mapped.bool_op("@>")(entry(position)) for position in range(len(entries))))
    if dialect != "sqlite":
        raise UnsupportedQuery(
            f"{prop} has a {asked.index.kind} index, which {dialect} does not have",
            hint="PostgreSQL and SQLite have it",
        )
    table = column.table
    keys = [
        comparator.mapped(key, mapper.get_property_by_column(key).key) for key in table.primary_key
    ]
    tokens = token_table(table, column.name)
    of_row = [tokens.c[key.name] for key in table.primary_key]
    row = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
    return sa.or_(
        *(
            row.in_(
                sa.select(*of_row)
                .where(tokens.c[TOKEN].in_(Slot.of(asked, position, numbers=True)))
                .group_by(*of_row)
                # Each token is there once for a row: so many are all of them.
                .having(sa.func.count() == len(IndexTokens(found).numbers))
            )
            for position, found in enumerate(entries)
        )
    )
