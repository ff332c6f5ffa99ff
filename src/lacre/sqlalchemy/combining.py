# SPDX-License-Identifier: Apache-2.0
"""
What a flush or a statement does for indexes besides: tokens of compound indexes, and duplicates that the database's
own constraint cannot see while an index root is rotated. Encrypts nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_attribute
from sqlalchemy.orm.state import InstanceState

from lacre.errors import DuplicateValue, UnsupportedQuery
from lacre.fields.stored import IndexToken
from lacre.fields.writing import Writing
from lacre.sqlalchemy.compounds import Compound
from lacre.sqlalchemy.declared import row_of_values

__all__ = [
    "Combined",
    "Duplicates",
    "chunks",
    "combine",
    "locked",
    "of_row",
    "refuse_duplicate",
    "refuse_duplicates",
    "refuse_token",
]

_AT_ONCE = 500  # rows asked for in one query

Duplicates = Sequence[tuple[Any, Any, Any]]  # a column, a token of it, and the row that has it


def combine(
    flush: Any,
    connection: sa.Connection,
    state: InstanceState[Any],
    compound: Compound,
    parts: list[Any],
    tenant: str | None,
) -> None:
    """
    Set the token of a compound index from the values of its *parts*.

    Raises:
        AccessDenied, DuplicateValue, InvalidValue
        UnsupportedQuery: the token was assigned.
    """
    held = state.dict.get(compound.key)
    # One that came along with an object's copied values is replaced, whatever it is.
    if held is not None and type(held) is not IndexToken:
        refuse_token(state, compound.prop, compound.key, sealed=False)
    if any(part is None for part in parts):
        if compound.key in state.dict or state.key is not None:
            set_attribute(state.obj(), compound.key, None)
        return
    writing = flush.binding.field(compound.prop).writing(tenant=tenant)
    value = tuple(parts)
    [token] = writing.tokens(value)
    set_attribute(state.obj(), compound.key, token)
    if writing.has_other_roots:
        refuse_duplicate(connection, writing, compound.prop, value, state)


def of_row(column: Any, state: Any) -> sa.Select[Any]:
    """Return the query for *column* of the row of an object."""
    # By the mapper's primary key, which an identity is in the order of, and not the table's.
    mapper = state.mapper
    keys = zip(mapper.primary_key, state.key[1], strict=True)
    query = sa.select(column).select_from(mapper.persist_selectable)
    return query.where(*(key == value for key, value in keys))


def locked(connection: sa.Connection, state: InstanceState[Any], prop: Any) -> Any:
    """
    Return the ciphertext that the object's row holds now, for a token that is made of it.

    Nobody else writes the row until this transaction is over: two that write one part each would
    both make a token without the other's value.
    """
    query = of_row(prop.columns[0], state).with_for_update(key_share=True)
    return connection.execute(query).scalar()


def refuse_duplicate(
    connection: sa.Connection, writing: Writing, prop: Any, value: Any, state: Any
) -> None:
    """
    Raise if another row than the object's holds *value* in a unique index of *prop*, under another root.

    Raises:
        DuplicateValue
    """
    # While an index root is being rotated, other rows carry tokens of another version, which the
    # database's constraint cannot compare: they are looked up instead.
    for position, column in prop.unique_columns:
        tokens = writing.tokens_of_other_roots(value, position)
        query = sa.select(column).where(column.in_(tokens))
        found = set(connection.execute(query).scalars())
        if found and state.key:
            found.discard(connection.execute(of_row(column, state)).scalar())
        if found:
            raise DuplicateValue(f"{writing} already holds this value")


def refuse_duplicates(
    connection: sa.Connection, mapper: Mapper[Any], prop: Any, tokens: Duplicates, name: Any
) -> None:
    """
    `refuse_duplicate`, of the *tokens* of many rows. A row may hold its own value.

    Raises:
        DuplicateValue
    """
    keys: list[Any] = list(mapper.primary_key)
    for _, column in prop.unique_columns:
        query = sa.select(column, *keys).select_from(mapper.persist_selectable)
        asked = [(token, identity) for of, token, identity in tokens if of is column]
        for chunk in chunks(asked):
            of_rows = dict(chunk)
            for token, *identity in connection.execute(query.where(column.in_(list(of_rows)))):
                if of_rows[token] != row_of_values(mapper, identity, columns=keys):
                    raise DuplicateValue(f"{name} already holds this value")


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Return *items*, so many at a time as are asked for in one query."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


class Combined:
    """The tokens of compound indexes, of the rows of one statement."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding
        self._writings: dict[Any, Writing] = {}

    def row(
        self,
        compound: Compound,
        parts: list[Any],
        tenant: str | None,
        more: dict[str, Any],
        others: list[tuple[Any, Any, Any]],
        identity: Any = None,
    ) -> None:
        """Add to *more* the token of a row, of the values of its *parts*, and to *others* those of other roots."""
        more[compound.key] = None
        if any(part is None for part in parts):
            return
        made = self._writings.get((compound.prop, tenant))
        if made is None:
            made = self._binding.field(compound.prop).writing(tenant=tenant)
            self._writings[compound.prop, tenant] = made
        [more[compound.key]] = made.tokens(tuple(parts))
        for position, column in compound.prop.unique_columns:
            others += [
                (column, token, identity)
                for token in made.tokens_of_other_roots(tuple(parts), position)
            ]


def refuse_token(state: InstanceState[Any], prop: Any, key: str, *, sealed: bool) -> None:
    """Raise if the token of an index was assigned: it was not made together with its value."""
    # A token that was not made together with its ciphertext would hide the row, or find another.
    # With a value its own token replaces whatever stands there.
    if sealed or key not in state.committed_state:
        return
    if state.dict.get(key) != state.committed_state[key]:
        raise UnsupportedQuery(
            f"{state.class_.__name__}.{key} is the blind index of {prop.key} and is not assigned",
            hint=f"assign {prop.key}: its token is made with its ciphertext",
        )
