# SPDX-License-Identifier: Apache-2.0
"""
Encrypting in the unit of work: when an object is inserted or updated, and only then.

Ciphertext and index token of a value are set together. A value that was not assigned is left
byte for byte as it was. NULL in place of a value is a write, NULL otherwise is nothing. Does not encrypt for bulk statements, which know no objects.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import flag_modified, instance_state, set_attribute
from sqlalchemy.orm.base import NO_VALUE

from lacre.errors import AlreadyEncrypted, DuplicateValue, Tampered, UnsupportedQuery
from lacre.sqlalchemy.binding import binding_of
from lacre.sqlalchemy.declared import (
    NOTHING,
    Declared,
    check_row_id,
    check_spelling,
    row_id_column,
    row_of,
    row_of_identity,
)
from lacre.sqlalchemy.evidence import check_transaction, wrote
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
    check_spelling(mapper, state, connection.dialect)
    row = row_of(mapper, state)
    for prop in sealed_properties(mapper):
        default = prop.declared.default
        if prop.key not in state.dict and default is not NOTHING:
            setattr(target, prop.key, default() if callable(default) else default)
        if not _sealed(mapper, connection, target, prop, row):
            _refuse_token(mapper, target, prop, allowed=(None, NO_VALUE))


def before_update(mapper: Mapper[Any], connection: sa.Connection, target: Any) -> None:
    """Encrypt what was assigned; all of it anew where the row's identity changes."""
    state = instance_state(target)
    row, before = row_of(mapper, state), row_of_identity(mapper, state)
    if row != before:
        check_row_id(mapper, connection.dialect)
        check_spelling(mapper, state, connection.dialect)
    for prop in sealed_properties(mapper):
        if row != before:
            _move(target, prop, before)
        elif prop.key in state.committed_state:
            _keep_unchanged(connection, target, prop, row)
        assigned = prop.key in state.committed_state
        if assigned and state.dict.get(prop.key) is None:
            # By assigning None or by `del`: to the unit of work it is the same NULL.
            set_attribute(target, prop.key, None)
            _clear(connection, target, prop, row)
        if not (assigned and _sealed(mapper, connection, target, prop, row)):
            _refuse_token(mapper, target, prop, allowed=())


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


def _index_key(mapper: Mapper[Any], prop: Any) -> str | None:
    if prop.index_column is None:
        return None
    return str(mapper.get_property_by_column(prop.index_column).key)


def _sealed(
    mapper: Mapper[Any], connection: sa.Connection, target: Any, prop: Any, row: str
) -> bool:
    """Encrypt what *target* holds, and set its token. False where there was nothing to do."""
    state = instance_state(target)
    held = state.dict.get(prop.key)
    index_key = _index_key(mapper, prop)
    if held is None:
        if index_key is not None and prop.key in state.dict:
            set_attribute(target, index_key, None)
        return prop.key in state.dict
    field = binding_of(target).field(prop)
    if held.has_pending:
        value = held.pending
    elif state.has_identity and held == state.committed_state.get(prop.key):
        return False
    else:
        value = _reopened(field, target, prop, held, row)
    check_transaction(connection)
    stored = field.prepare_many([(row, value)], recorded=False)[0]
    if index_key is not None:
        _refuse_duplicate(connection, field, prop, value, state)
        set_attribute(target, index_key, stored.tokens[0])
    held.sealed(stored.value)
    wrote(target, field.written, row)
    return True


def _reopened(field: Any, target: Any, prop: Any, held: SealedValue, row: str) -> Any:
    # Ciphertext that this flush did not make: of an object that was rolled back, merged, made
    # transient or copied. If it opens in this place it is encrypted anew, together with its token.
    try:
        return field.reopened(held.raw, row=row)
    except Tampered:
        raise AlreadyEncrypted(
            f"{type(target).__name__}.{prop.key} holds the ciphertext of another row",
            hint="assign the plaintext; a ciphertext opens in its own row only",
        ) from None


def _keep_unchanged(connection: sa.Connection, target: Any, prop: Any, row: str) -> None:
    # A value assigned while the attribute was expired: only now can it be compared with what the
    # row holds, and if it is that already, the ciphertext stays.
    state: Any = instance_state(target)
    held = state.dict.get(prop.key)
    if (
        not isinstance(held, SealedValue)
        or not held.has_pending
        or state.committed_state[prop.key] is not NO_VALUE
    ):
        return
    stored = _stored(connection, state, prop)
    if stored is not None and binding_of(target).field(prop).holds(
        stored.raw, held.pending, row=row
    ):
        held.sealed(stored.raw)
        state.committed_state[prop.key] = held


def _clear(connection: sa.Connection, target: Any, prop: Any, row: str) -> None:
    # NULL is no value, but putting it in place of one destroys that: decided and recorded like a write.
    state: Any = instance_state(target)
    before = state.committed_state[prop.key]
    if before is NO_VALUE:
        before = _stored(connection, state, prop)
    if before is None:
        return
    field = binding_of(target).field(prop)
    field.decide_on_clearing()
    check_transaction(connection)
    wrote(target, field.cleared, row)


def _stored(connection: sa.Connection, state: Any, prop: Any) -> SealedValue | None:
    column = prop.columns[0]
    query = sa.select(column).where(_is_row(column.table, state.key[1]))
    return connection.execute(query).scalar()


def _is_row(table: Any, identity: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        *(column == value for column, value in zip(table.primary_key, identity, strict=True))
    )


def _move(target: Any, prop: Any, before: str) -> None:
    # The primary key changes and with it every binding: open under the old one, once.
    state = instance_state(target)
    held = getattr(type(target), prop.key).impl.get(state, state.dict)
    if isinstance(held, SealedValue) and not held.has_pending:
        value = binding_of(target, held).field(prop).take_out(held.raw, row=before)
        # Not by assignment, which would find that the value is there already.
        state.dict[prop.key] = SealedValue(pending=value, has_pending=True)
        flag_modified(target, prop.key)


def _refuse_token(mapper: Mapper[Any], target: Any, prop: Any, *, allowed: tuple[Any, ...]) -> None:
    # A token that was not made together with its ciphertext would hide the row, or find another.
    state = instance_state(target)
    key = _index_key(mapper, prop)
    if key is None or key not in state.committed_state:
        return
    token = state.dict.get(key)
    if token not in allowed and token != state.committed_state[key]:
        raise UnsupportedQuery(
            f"{type(target).__name__}.{key} is the blind index of {prop.key} and is not assigned",
            hint=f"assign {prop.key}: its token is made with its ciphertext",
        )


def _refuse_duplicate(
    connection: sa.Connection, field: Any, prop: Any, value: Any, state: Any
) -> None:
    # While an index root is being rotated, other rows carry tokens of another version, which the
    # database's constraint cannot compare: they are looked up instead.
    index = prop.declared.index
    if not index.unique:
        return
    tokens = field.tokens_of_other_roots(value)
    if not tokens:
        return
    others = [sa.not_(_is_row(prop.index_column.table, state.key[1]))] if state.key else []
    query = sa.select(sa.literal(1)).where(prop.index_column.in_(tokens), *others).limit(1)
    if connection.execute(query).first() is not None:
        raise DuplicateValue(f"{field.scheme} already holds this value")
