# SPDX-License-Identifier: Apache-2.0
"""
Encrypting in the unit of work: when an object is inserted or updated, and only then.

Ciphertext and index token of a value are set together. A value that was not assigned is left
byte for byte as it was. NULL in place of a value is a write, NULL otherwise is nothing. What is
decided is decided once for each flush, column and tenant. Does not encrypt for statements, which
know no objects (`lacre.sqlalchemy.bulk`).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import flag_modified, instance_state, set_attribute
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.state import InstanceState

from lacre.context import Acting, current
from lacre.errors import AlreadyEncrypted, MisuseError, Tampered
from lacre.fields.rows import row_text
from lacre.fields.writing import Writing
from lacre.sqlalchemy.binding import binding_of
from lacre.sqlalchemy.combining import combine, locked, of_row, refuse_token
from lacre.sqlalchemy.compounds import Compound, compound_properties
from lacre.sqlalchemy.crossing import check_crossing
from lacre.sqlalchemy.declared import (
    NOTHING,
    check_row_id,
    check_spelling,
    row_facts,
    row_of,
    row_of_identity,
    row_of_values,
    sealed_properties,
    tenant_of,
    tenant_of_identity,
)
from lacre.sqlalchemy.evidence import check_transaction, noted
from lacre.sqlalchemy.row_ids import default_of, generated, next_values
from lacre.sqlalchemy.subjects import (
    READY,
    subject_key,
    subject_of,
    subject_of_identity,
    subject_of_values,
)
from lacre.sqlalchemy.types import SealedForRow, SealedValue, raw_of

__all__ = ["FLUSH", "after_write", "before_insert", "before_update", "index_keys"]

FLUSH = "lacre_flush"  # in session.info: what was found out in the flush under way


class _Column:
    """One encrypted column of a mapped class, in one flush."""

    __slots__ = ("_last", "default", "key", "prop", "subject", "token_keys")

    def __init__(self, mapper: Mapper[Any], prop: Any) -> None:
        self.prop = prop
        self.key: str = prop.key
        self.token_keys = index_keys(mapper, prop)
        self.default = prop.declared.default
        self.subject = subject_key(mapper, prop)
        # The permission to write it that was asked for last: most rows are written under one.
        self._last: Any = (None, None, None)

    def writing(
        self, flush: "_Flush", connection: sa.Connection, acting: Acting, tenant: str | None
    ) -> tuple[Writing, list[str]]:
        """Return the permission to write the column, and the list of rows it was used for."""
        last = self._last
        if last[0] is not acting or last[1] != tenant:
            permitted = flush.writing(connection, self.prop, acting, tenant)
            last = self._last = (acting, tenant, permitted)
        found: tuple[Writing, list[str]] = last[2]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapped:
    """What a flush needs to know of a mapped class, read once."""

    columns: tuple[_Column, ...]
    only: (
        str | None
    )  # the key of what identifies a row, where that is one and a type's own text is not
    tenant: str | None
    bound: tuple[str, ...]  # the keys of what values are bound to: row id and tenant
    defaults: tuple[tuple[str, Any], ...]
    generated: Any | None
    compounds: tuple[Compound, ...]


class _Place(NamedTuple):
    """What the values of a row are bound to, and the attributes that it was made of."""

    row: str
    tenant: str | None
    attributes: list[Any]


class _Flush:
    """One flush: what was read and decided in it."""

    __slots__ = ("_clearings", "_mapped", "_writings", "binding", "places", "session")

    def __init__(self, session: Session, binding: Any) -> None:
        self.session = session
        self.binding = binding
        # Of each object that is written: where its values belong. Of one that is inserted and has
        # a row id of one attribute, that attribute: a tuple more for each row would have Python's
        # collector run more often.
        self.places: dict[InstanceState[Any], Any] = {}
        self._mapped: dict[Mapper[Any], _Mapped] = {}
        self._writings: dict[Any, tuple[Writing, list[str]]] = {}
        self._clearings: dict[Any, tuple[Acting, list[str]]] = {}

    def mapped(self, mapper: Mapper[Any], connection: sa.Connection) -> _Mapped:
        found = self._mapped.get(mapper)
        if found is None:
            check_row_id(mapper, connection.dialect)
            facts = row_facts(mapper)
            columns: list[Any] = [*mapper.primary_key, *(facts.columns if facts.named else ())]
            keys = [str(mapper.get_property_by_column(column).key) for column in columns]
            if facts.tenant is not None:
                columns.append(mapper.column_attrs[facts.tenant].columns[0])
                keys.append(facts.tenant)
            named = facts.keys if facts.tenant is None else (*facts.keys, facts.tenant)
            sealed = tuple(_Column(mapper, prop) for prop in sealed_properties(mapper))
            for subject in dict.fromkeys(each.subject for each in sealed):
                if subject is not None and subject not in named:
                    named = (*named, subject)
                if subject is not None and subject not in keys:
                    columns.append(mapper.column_attrs[subject].columns[0])
                    keys.append(subject)
            found = self._mapped[mapper] = _Mapped(
                columns=sealed,
                only=(
                    facts.keys[0]
                    if len(facts.keys) == 1
                    and (facts.named or not isinstance(columns[0].type, sa.TypeDecorator))
                    else None
                ),
                tenant=facts.tenant,
                bound=named,
                defaults=tuple(
                    (key, column)
                    for key, column in zip(keys, columns, strict=True)
                    if isinstance(column.default, sa.ColumnDefault)
                ),
                generated=generated(mapper, connection.dialect),
                compounds=tuple(Compound(prop) for prop in compound_properties(mapper)),
            )
        return found

    def writing(
        self, connection: sa.Connection, prop: Any, acting: Acting, tenant: str | None
    ) -> tuple[Writing, list[str]]:
        """Return the permission to write *prop*, and the list of rows it was used for."""
        found = self._writings.get((prop, tenant))
        if found is None or found[0].acting is not acting:
            check_transaction(self.session, connection, prop.declared.store)
            writing = self.session.info.get(READY, {}).get((prop, tenant))
            if writing is None or writing.acting is not acting:
                writing = self.binding.field(prop).writing(tenant=tenant)
            rows = noted(self.session, connection, writing.event)
            found = self._writings[prop, tenant] = (writing, rows)
        return found

    def clearing(self, connection: sa.Connection, prop: Any, tenant: str | None) -> list[str]:
        """Return the list of rows where NULL takes the place of a value, which was decided on."""
        acting = current()
        found = self._clearings.get((prop, tenant))
        if found is None or found[0] is not acting:
            check_transaction(self.session, connection, prop.declared.store)
            cleared = self.binding.field(prop).clearing(tenant=tenant)
            found = self._clearings[prop, tenant] = (
                acting,
                noted(self.session, connection, cleared),
            )
        return found[1]


def index_keys(mapper: Mapper[Any], prop: Any) -> tuple[str, ...]:
    """Return the attribute names of the indexes of *prop*, in their order."""
    return tuple(str(mapper.get_property_by_column(column).key) for column in prop.token_columns)


def before_insert(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    """Encrypt what the object holds, for the row it is about to become."""
    flush = _flush(state)
    mapped = flush.mapped(mapper, connection)
    held = state.dict
    # SQLAlchemy applies `default=uuid4` while the INSERT runs, which is too late: the row id is
    # bound in the ciphertext. So the same default is applied now, and there it is then.
    for key, column in mapped.defaults:
        if held.get(key) is None:
            held[key] = default_of(column)
    if mapped.generated is not None:
        key = str(mapper.get_property_by_column(mapped.generated).key)
        if held.get(key) is None:  # added by somebody else's listener, after ours
            [generated_key] = next_values(mapped.generated, connection, 1)
            set_attribute(state.obj(), key, generated_key)
    only = None if mapped.only is None else held.get(mapped.only)
    if type(only) is UUID:
        row = row_text(only)
    else:
        check_spelling(mapper, state, connection.dialect)
        row = row_of(mapper, state)
    tenant = None if mapped.tenant is None else tenant_of(mapper, state)
    plain: dict[str, Any] = {}  # what compound indexes are made of
    acting = None  # whoever acts, once there is something to encrypt
    for column in mapped.columns:
        key, token_keys = column.key, column.token_keys
        if column.default is not NOTHING and key not in held:
            default = column.default
            setattr(state.obj(), key, default() if callable(default) else default)
        value = held.get(key)
        for token_key in token_keys:
            if held.get(token_key) is not None:
                refuse_token(state, column.prop, token_key, sealed=value is not None)
        if value is not None:
            acting = acting or current()
            subject = None
            if column.subject is not None:
                subject = subject_of_values(mapper, column.prop, held.get(column.subject))
            if type(value) is SealedValue and value.has_pending:
                value = value.pending
            else:
                value = _reopened(
                    flush, state.obj(), column.prop, raw_of(value), (row, tenant, subject)
                )
            writing, rows = column.writing(flush, connection, acting, tenant)
            ciphertext, _, tokens = writing.stored(row, value, subject)
            if mapped.compounds:
                plain[key] = value
            # In place of what was assigned, and not in it: one object less that is kept.
            held[key] = SealedForRow(ciphertext)
            rows.append(row if subject is None else writing.name(row, subject))
            if tokens:
                held.update(zip(token_keys, tokens, strict=True))
        else:
            for token_key in token_keys:
                if token_key in held:
                    set_attribute(state.obj(), token_key, None)
    for compound in mapped.compounds:
        parts = [plain.get(key) for key in compound.keys]
        combine(flush, state, compound, parts, tenant)
    if acting is not None:
        if len(mapped.bound) == 1:
            flush.places[state] = held[mapped.bound[0]]
        else:
            flush.places[state] = _Place(row, tenant, [held.get(key) for key in mapped.bound])


def before_update(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    """Encrypt what was assigned; all of it anew where the row's identity or tenant changes."""
    target: Any = state.obj()
    flush = _flush(state)
    row, before = row_of(mapper, state), row_of_identity(mapper, state)
    tenant, tenant_before = tenant_of(mapper, state), tenant_of_identity(mapper, state)
    moved = (row, tenant) != (before, tenant_before)
    if tenant != tenant_before:
        check_crossing(mapper)
    mapped = flush.mapped(mapper, connection)
    plain: dict[str, Any] = {}  # what was written, where a compound index is made of it
    if row != before:
        check_spelling(mapper, state, connection.dialect)
    for column in mapped.columns:
        prop, key, token_keys = column.prop, column.key, column.token_keys
        subject, subject_before = _subjects(mapper, state, column, moved=moved)
        if moved or subject != subject_before:
            _move(target, prop, before, tenant_before, subject_before)
        elif key in state.committed_state:
            _keep_unchanged(connection, target, prop, (row, tenant, subject))
        written = False
        if key in state.committed_state:
            if state.dict.get(key) is None:
                # By assigning None or by `del`: to the unit of work it is the same NULL.
                set_attribute(target, key, None)
                for token_key in token_keys:
                    set_attribute(target, token_key, None)
                _clear(flush, connection, target, prop, row, tenant)
                written, plain[key] = True, None
            else:
                written = _seal(flush, connection, state, column, (row, tenant, subject), plain)
        for token_key in () if written else token_keys:
            refuse_token(state, prop, token_key, sealed=False)
    for compound in mapped.compounds:
        if plain.keys() & {*compound.keys}:
            parts = [
                plain[key]
                if key in plain
                else _unwritten(flush, connection, state, prop, (row, tenant))
                for key, prop in zip(compound.keys, compound.parts, strict=True)
            ]
            combine(flush, state, compound, parts, tenant)
        else:
            for key in compound.token_keys:
                refuse_token(state, compound.prop, key, sealed=False)
    # Whether or not anything was sealed: what the row holds already is bound as well.
    flush.places[state] = _Place(row, tenant, [state.dict.get(key) for key in mapped.bound])


def after_write(mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]) -> None:
    """
    Raise if the row was written with another row id or tenant than its values are bound to.

    What was inserted is ciphertext like any that is loaded from now on: mere bytes.

    Raises:
        MisuseError: somebody else's listener changed it after ours; the flush is rolled back.
    """
    flush: _Flush | None = None if state.session is None else state.session.info.get(FLUSH)
    place = None if flush is None else flush.places.pop(state, None)
    if flush is None or place is None:
        return
    mapped, held = flush.mapped(mapper, connection), state.dict
    for column in mapped.columns:
        value = held.get(column.key)
        if type(value) is SealedForRow:
            held[column.key] = bytes(value)
    if type(place) is not _Place:
        if held.get(mapped.bound[0]) == place:
            return
        place = _Place(row_of_values(mapper, [place]), None, [place])
    if [held.get(key) for key in mapped.bound] == place.attributes:
        return
    before = dict(zip(mapped.bound, place.attributes, strict=True))
    other_subject = any(
        before[column.subject] is not None
        and subject_of_values(mapper, column.prop, before[column.subject])
        != subject_of(mapper, state, column.prop)
        for column in mapped.columns
        if column.subject is not None and held.get(column.key) is not None
    )
    if other_subject or (row_of(mapper, state), tenant_of(mapper, state)) != (
        place.row,
        place.tenant,
    ):
        raise MisuseError(
            f"the row id, tenant or subject of a {mapper.class_.__name__} was changed after its values were encrypted for another; nothing was written",
            hint="a listener of before_insert or before_update did: set ids and tenants earlier, in before_flush or when the object is made",
        )


def _flush(state: InstanceState[Any]) -> _Flush:
    session: Any = state.session
    flush: _Flush | None = session.info.get(FLUSH)
    if flush is None:
        flush = session.info[FLUSH] = _Flush(session, binding_of(state.obj()))
    return flush


def _seal(
    flush: _Flush,
    connection: sa.Connection,
    state: InstanceState[Any],
    column: _Column,
    place: tuple[str, str | None, str | None],
    plain: dict[str, Any],
) -> bool:
    """Encrypt what a persistent object was assigned, and set its token. False where there was nothing to do."""
    row, tenant, subject = place
    key, held = column.key, state.dict[column.key]
    if type(held) is not SealedValue:
        held = state.dict[key] = SealedValue(bytes(held))
    if held.has_pending:
        value = held.pending
    elif held == state.committed_state.get(key):
        return False
    else:
        value = _reopened(flush, state.obj(), column.prop, held.raw, place)
    writing, rows = column.writing(flush, connection, current(), tenant)
    ciphertext, _, tokens = writing.stored(row, value, subject)
    plain[key] = value
    for token_key, made in zip(column.token_keys, tokens, strict=True):
        set_attribute(state.obj(), token_key, made)
    held.sealed(ciphertext)
    rows.append(writing.name(row, subject))
    return True


def _unwritten(
    flush: _Flush,
    connection: sa.Connection,
    state: InstanceState[Any],
    prop: Any,
    place: tuple[str, str | None],
) -> Any:
    """Return the value of an attribute that was not written: for a compound index, and for nobody."""
    held = locked(connection, state, prop)
    if held is None:
        return None
    subject = subject_of(state.mapper, state, prop)
    return _reopened(flush, state.obj(), prop, raw_of(held), (*place, subject))


def _reopened(
    flush: _Flush, target: Any, prop: Any, raw: Any, place: tuple[str, str | None, str | None]
) -> Any:
    # Ciphertext that this flush did not make: of an object that was rolled back, merged, made
    # transient or copied. If it opens in this place it is encrypted anew, together with its token.
    row, tenant, subject = place
    try:
        return flush.binding.field(prop).reopened(raw, row=row, tenant=tenant, subject=subject)
    except Tampered:
        raise AlreadyEncrypted(
            f"{type(target).__name__}.{prop.key} holds the ciphertext of another row",
            hint="assign the plaintext; a ciphertext opens in its own row only",
        ) from None


def _keep_unchanged(
    connection: sa.Connection,
    target: Any,
    prop: Any,
    place: tuple[str, str | None, str | None],
) -> None:
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
    row, tenant, subject = place
    stored = _present(connection, state, prop)
    if stored is not None and binding_of(target).field(prop).holds(
        raw_of(stored), held.pending, row=row, tenant=tenant, subject=subject
    ):
        held.sealed(raw_of(stored))
        state.committed_state[prop.key] = held


def _clear(
    flush: _Flush,
    connection: sa.Connection,
    target: Any,
    prop: Any,
    row: str,
    tenant: str | None,
) -> None:
    # NULL is no value, but putting it in place of one destroys that: decided and recorded like a write.
    state: Any = instance_state(target)
    before = state.committed_state[prop.key]
    if before is NO_VALUE:
        before = _present(connection, state, prop)
    if before is None:
        return
    flush.clearing(connection, prop, tenant).append(row)


def _present(connection: sa.Connection, state: Any, prop: Any) -> bytes | SealedValue | None:
    found: bytes | SealedValue | None = connection.execute(of_row(prop.columns[0], state)).scalar()
    return found


def _subjects(
    mapper: Mapper[Any], state: InstanceState[Any], column: _Column, *, moved: bool
) -> tuple[str | None, str | None]:
    # Whom the value is about, and was about before. Where neither is written and nothing moves,
    # nobody has to know; of NULL it does not matter.
    changed = state.committed_state
    if column.subject is None or not (moved or column.subject in changed or column.key in changed):
        return None, None
    attribute: Any = getattr(state.class_, column.key)
    if attribute.impl.get(state, state.dict) is None:
        return None, None
    return subject_of(mapper, state, column.prop), subject_of_identity(mapper, state, column.prop)


def _move(target: Any, prop: Any, before: str, tenant: str | None, subject: str | None) -> None:
    # The primary key, the tenant or the subject changes and with it every binding: open under the old one, once.
    state = instance_state(target)
    held = getattr(type(target), prop.key).impl.get(state, state.dict)
    if isinstance(held, bytes) or (isinstance(held, SealedValue) and not held.has_pending):
        field = binding_of(target, held).field(prop)
        value = field.take_out(raw_of(held), row=before, tenant=tenant, subject=subject)
        # Not by assignment, which would find that the value is there already.
        state.dict[prop.key] = SealedValue(pending=value, has_pending=True)
        flag_modified(target, prop.key)
