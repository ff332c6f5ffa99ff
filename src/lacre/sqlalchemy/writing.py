# SPDX-License-Identifier: Apache-2.0
"""
Encrypting in the unit of work: when an object is inserted or updated, and only then.

Ciphertext and index token of a value are set together. A value that was not assigned is left
byte for byte as it was. Does not encrypt for bulk statements, which know no objects.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state, set_attribute

from lacre.errors import AlreadyEncrypted, DuplicateValue
from lacre.sqlalchemy.binding import binding_of
from lacre.sqlalchemy.declared import Declared, check_row_id, row_id_column, row_of, row_of_identity
from lacre.sqlalchemy.types import SealedValue

__all__ = ["before_insert", "before_update", "sealed_properties"]


def sealed_properties(mapper: Mapper[Any]) -> list[Any]:
    """Return the mapper's encrypted properties."""
    return [
        prop
        for prop in mapper.column_attrs
        if isinstance(getattr(prop, "declared", None), Declared)
    ]


def before_insert(mapper: Mapper[Any], connection: sa.Connection, target: Any) -> None:
    """Encrypt what the object holds, for the row it is about to become."""
    state = instance_state(target)
    _apply_key_defaults(mapper, state)
    check_row_id(mapper, connection.dialect)
    properties = sealed_properties(mapper)
    for prop in properties:
        if (
            state.dict.get(prop.key) is None
            and prop.key not in state.dict
            and prop.declared.default is not None
        ):
            default = prop.declared.default
            setattr(target, prop.key, default() if callable(default) else default)
    row = row_of(mapper, state)
    for prop in properties:
        _seal(mapper, connection, target, prop, row)


def before_update(mapper: Mapper[Any], connection: sa.Connection, target: Any) -> None:
    """Encrypt what was assigned; all of it anew where the row's identity changes."""
    state = instance_state(target)
    row, before = row_of(mapper, state), row_of_identity(mapper, state)
    for prop in sealed_properties(mapper):
        if row != before:
            _move(target, prop, before)
        if prop.key in state.committed_state or row != before:
            _seal(mapper, connection, target, prop, row)


def _apply_key_defaults(mapper: Mapper[Any], state: Any) -> None:
    # SQLAlchemy applies `default=uuid4` while the INSERT runs, which is too late: the row id is
    # bound in the ciphertext. So the same default is applied now, and there it is then.
    named = row_id_column(mapper)
    for column in [*mapper.primary_key, *([named] if named is not None else [])]:
        key = mapper.get_property_by_column(column).key
        default = column.default
        if state.dict.get(key) is not None or not isinstance(default, sa.ColumnDefault):
            continue
        if default.is_scalar:
            set_attribute(state.obj(), key, default.arg)
        elif default.is_callable:
            set_attribute(state.obj(), key, default.arg(None))


def _seal(mapper: Mapper[Any], connection: sa.Connection, target: Any, prop: Any, row: str) -> None:
    state = instance_state(target)
    held = state.dict.get(prop.key)
    index_key = (
        None if prop.index_column is None else mapper.get_property_by_column(prop.index_column).key
    )
    if held is None:
        if index_key is not None and prop.key in state.dict:
            set_attribute(target, index_key, None)
        return
    binding = binding_of(target)
    field = binding.field(prop)
    if not held.has_pending:
        # Ciphertext that this flush did not make: of a merged object or one made transient.
        # It is kept if it opens in this place, and refused if it would be lost here.
        if not field.opens(held.raw, row=row):
            raise AlreadyEncrypted(
                f"{type(target).__name__}.{prop.key} holds the ciphertext of another row",
                hint="assign the plaintext; a ciphertext opens in its own row only",
            )
        return
    stored = field.prepare_many([(row, held.pending)], recorded=False)[0]
    if index_key is not None:
        _refuse_duplicate(connection, field, prop, held.pending, state)
        set_attribute(target, index_key, stored.tokens[0])
    held.sealed(stored.value)
    binding.wrote(target, field, row)


def _move(target: Any, prop: Any, before: str) -> None:
    # The primary key changes and with it every binding: open under the old one, once.
    held = getattr(type(target), prop.key).impl.get(
        instance_state(target), instance_state(target).dict
    )
    if isinstance(held, SealedValue) and not held.has_pending:
        value = binding_of(target, held).field(prop).take_out(held.raw, row=before)
        set_attribute(target, prop.key, value)


def _refuse_duplicate(
    connection: sa.Connection, field: Any, prop: Any, value: Any, state: Any
) -> None:
    # While an index key is being rotated, older rows carry tokens of the older version, which
    # the database's constraint cannot compare: they are looked up instead.
    index = prop.declared.index
    if not index.unique:
        return
    older = field.tokens_of_older_roots(value)
    if not older:
        return
    table = prop.index_column.table
    others = (
        [table.c[column.name] != state.key[1][n] for n, column in enumerate(table.primary_key)]
        if state.key
        else []
    )
    query = sa.select(sa.literal(1)).where(prop.index_column.in_(older), *others).limit(1)
    if connection.execute(query).first() is not None:
        raise DuplicateValue(f"{field.scheme} already holds this value")
