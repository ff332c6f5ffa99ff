# SPDX-License-Identifier: Apache-2.0
"""
What a flush or a statement does for compound indexes: their tokens, made of values that were
written and of those that were not. Encrypts nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm.attributes import set_attribute
from sqlalchemy.orm.state import InstanceState

from lacre.errors import UnsupportedQuery
from lacre.fields.stored import IndexToken
from lacre.fields.writing import Writing
from lacre.sqlalchemy.compounds import Compound

__all__ = [
    "Combined",
    "chunks",
    "combine",
    "locked",
    "of_row",
    "refuse_token",
]

_AT_ONCE = 500  # rows asked for in one query


def combine(
    flush: Any,
    state: InstanceState[Any],
    compound: Compound,
    parts: list[Any],
    tenant: str | None,
) -> None:
    """
    Set the tokens of a compound index from the values of its *parts*.

    Raises:
        AccessDenied, InvalidValue
        UnsupportedQuery: the token was assigned.
    """
    for key in compound.token_keys:
        held = state.dict.get(key)
        # One that came along with an object's copied values is replaced, whatever it is.
        if held is not None and type(held) is not IndexToken:
            refuse_token(state, compound.prop, key, sealed=False)
    if any(part is None for part in parts):
        for key in compound.token_keys:
            if key in state.dict or state.key is not None:
                set_attribute(state.obj(), key, None)
        return
    writing = flush.binding.field(compound.prop).writing(tenant=tenant)
    for key, token in zip(compound.token_keys, writing.indexed(tuple(parts)), strict=True):
        set_attribute(state.obj(), key, token)


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
    ) -> None:
        """Add to *more* the tokens of a row, of the values of its *parts*."""
        more.update(dict.fromkeys(compound.token_keys))
        if any(part is None for part in parts):
            return
        made = self._writings.get((compound.prop, tenant))
        if made is None:
            made = self._binding.field(compound.prop).writing(tenant=tenant)
            self._writings[compound.prop, tenant] = made
        more.update(zip(compound.token_keys, made.indexed(tuple(parts)), strict=True))


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
