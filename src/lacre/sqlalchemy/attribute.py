# SPDX-License-Identifier: Apache-2.0
"""
The attribute of an encrypted column: what assigning and looking do.

Rule 1: every look is decided and recorded, also the second one, also of a value just assigned.
Rule 2: no plaintext stays on an object once it is flushed, so no principal finds another's.

Leans on private names of SQLAlchemy, each pinned by a test: `ColumnProperty.instrument_class`,
`ColumnProperty.merge`, `InstrumentedAttribute`, `ClassManager.instrument_attribute`.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import (
    InstrumentedAttribute,
    instance_dict,
    instance_state,
    manager_of_class,
)
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.properties import ColumnProperty
from sqlalchemy.orm.state import InstanceState

from lacre._core.field import looks_encrypted
from lacre.context import current
from lacre.errors import (
    ActingError,
    ConfigurationError,
    MaskWritten,
    MisuseError,
    PlaintextFound,
)
from lacre.fields.scheme import Scheme
from lacre.sensitive import Mask
from lacre.sqlalchemy.binding import binding_of, left
from lacre.sqlalchemy.declared import (
    IDENTIFIES,
    MOVES,
    TENANT,
    Declared,
    logical_table,
    place_of_identity,
    row_id_column,
    row_of_identity,
    tenant_if_named,
    tenant_of_identity,
)
from lacre.sqlalchemy.loading import note_tenant
from lacre.sqlalchemy.searching import SealedComparator
from lacre.sqlalchemy.subjects import subject_key, subject_of_identity
from lacre.sqlalchemy.types import SealedValue, raw_of
from lacre.sqlalchemy.writing import after_write, before_insert, before_update

__all__ = ["SealedAttribute", "SealedProperty", "ciphertext_of"]


def ciphertext_of(instance: Any, name: str) -> bytes | None:
    """
    Return what the row holds of the encrypted attribute *name*, as it is; None for NULL and for what was not loaded.

    For history tables, exports and comparisons. Decides, decrypts and records nothing; the
    ciphertext opens in its own row only.

    Raises:
        MisuseError: the value was assigned and not flushed yet.
        PlaintextFound: the column holds something else.
    """
    held = instance_dict(instance).get(name)
    if held is None:
        return None
    if isinstance(held, SealedValue) and held.has_pending:
        raise MisuseError(
            f"{type(instance).__name__}.{name} was assigned and has no ciphertext yet",
            hint="flush the session first",
        )
    raw = raw_of(held)
    if not isinstance(raw, bytes | bytearray | memoryview) or not looks_encrypted(raw):
        raise PlaintextFound(f"{type(instance).__name__}.{name} holds no lacre value")
    return bytes(raw)


class SealedProperty(ColumnProperty[Any]):
    """The mapper property of one encrypted column."""

    inherit_cache = True

    def __init__(
        self,
        column: sa.Column[Any],
        *,
        declared: Declared,
        python_type: type,
        index_columns: tuple[sa.Column[Any], ...],
        second_columns: tuple[sa.Column[Any] | None, ...],
    ) -> None:
        super().__init__(column, comparator_factory=SealedComparator)
        self.declared = declared
        self.python_type = python_type
        self.index_columns = index_columns  # in the order of the indexes
        self.second_columns = second_columns  # likewise: of the unique ones

    @property
    def unique_columns(self) -> list[tuple[int, sa.Column[Any]]]:
        """The first columns of unique indexes, each with its place among the indexes."""
        return [
            (position, self.index_columns[position])
            for position, index in enumerate(self.declared.indexes)
            if index.unique
        ]

    @property
    def token_columns(self) -> tuple[sa.Column[Any], ...]:
        """Every column of the indexes, as `Stored.columns` fills them."""
        pairs = zip(self.index_columns, self.second_columns, strict=True)
        return tuple(column for pair in pairs for column in pair if column is not None)

    @property
    def scheme(self) -> Scheme:
        """What was declared, with the table it ended up in: the column's own, also under joined inheritance."""
        column: Any = self.columns[0]
        declared = self.declared
        return Scheme(
            class_=declared.class_,
            store=declared.store,
            table=logical_table(self.parent, column.table),
            column=declared.column or column.name,
            python_type=self.python_type,
            indexes=declared.indexes,
            mask=declared.mask,
            padded=declared.padded,
            subject=declared.subject is not None,
            moving=declared.moving,
        )

    def instrument_class(self, mapper: Mapper[Any]) -> None:
        attribute = SealedAttribute(
            mapper.class_,
            self.key,
            comparator=self.comparator_factory(self, mapper),
            parententity=mapper,
        )
        manager_of_class(mapper.class_).instrument_attribute(self.key, attribute)
        for name, listener in (
            ("before_insert", before_insert),
            ("before_update", before_update),
            ("after_insert", after_write),
            ("after_update", after_write),
        ):
            if not event.contains(mapper, name, listener):
                # Raw and with a value that nobody reads: SQLAlchemy then wraps nothing around it.
                event.listen(mapper, name, listener, raw=True, retval=True)

    def merge(
        self,
        session: Any,
        source_state: Any,
        source_dict: Any,
        dest_state: Any,
        dest_dict: Any,
        load: bool,
        *further: Any,
    ) -> None:
        held = source_dict.get(self.key)
        if load and isinstance(held, bytes):
            # It is assigned to the other object, where mere bytes would be a plaintext.
            source_dict = {self.key: SealedValue(bytes(held))}
        super().merge(session, source_state, source_dict, dest_state, dest_dict, load, *further)

    def post_instrument_class(self, mapper: Mapper[Any]) -> None:
        super().post_instrument_class(mapper)
        named = row_id_column(mapper)
        if named is not None:
            named.info[MOVES] = True
        else:
            for table in mapper.tables:
                for column in (*mapper.primary_key, *table.primary_key):
                    column.info[IDENTIFIES] = True
        tenant: Any = getattr(mapper.class_, TENANT, None)
        if tenant in mapper.column_attrs:
            # The tenant a row had opens its values, where it is changed.
            attribute = getattr(mapper.class_, tenant)
            mapper.column_attrs[tenant].columns[0].info[MOVES] = True
            if not event.contains(attribute, "set", _keep):
                event.listen(attribute, "set", _keep, active_history=True)
            for name in ("load", "refresh"):
                if not event.contains(mapper.class_, name, note_tenant):
                    event.listen(mapper.class_, name, note_tenant, raw=True)
        key = subject_key(mapper, self)
        if key is not None:
            # The subject a value had opens it, where the subject is changed.
            attribute, column = getattr(mapper.class_, key), mapper.column_attrs[key].columns[0]
            column.info[IDENTIFIES if column in mapper.primary_key else MOVES] = True
            if not event.contains(attribute, "set", _keep):
                event.listen(attribute, "set", _keep, active_history=True)
        attribute = getattr(mapper.class_, self.key)
        # All three: SQLAlchemy then wraps nothing around it. The key is a collection's.
        event.listen(attribute, "set", _on_set, raw=True, retval=True, include_key=True)


class SealedAttribute(InstrumentedAttribute[Any]):
    """The descriptor: reading it on an object is a look."""

    __slots__ = ()

    inherit_cache = True

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        # As InstrumentedAttribute does it, which this would call for every look.
        held = instance_dict(instance).get(self.key)
        if type(held) is not bytes and type(held) is not SealedValue:
            held = super().__get__(instance, owner)
            if not isinstance(held, bytes | SealedValue):
                return held
        return _look(self, instance, held)


def _look(attribute: SealedAttribute, instance: Any, held: bytes | SealedValue) -> Any:
    prop: Any = attribute.comparator.prop
    state = instance_state(instance)
    session = state.session
    binding = session.info.get("lacre") if session is not None else left(state)
    if binding is None:
        binding = binding_of(instance, held)
    if isinstance(held, SealedValue) and held.has_pending:
        field = binding.field_of_pending(prop)
        return field.look_at_pending(held.pending, tenant=tenant_if_named(state.mapper, state))
    row, tenant = place_of_identity(state)
    subject = None
    if prop.declared.subject is not None:
        subject = subject_of_identity(state.mapper, state, prop)
    return binding.field(prop).look_at_stored(raw_of(held), row=row, tenant=tenant, subject=subject)


def _keep(_target: Any, _value: Any, _old: Any, _initiator: Any) -> None:
    """Have SQLAlchemy load the value that is replaced."""


def _on_set(state: InstanceState[Any], value: Any, old: Any, initiator: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mask):
        raise _mask_written(state.obj(), initiator)
    if isinstance(value, SealedValue):
        # `merge` hands the state of one object to another of the same identity, by way of
        # `SealedProperty.merge`. The flush checks that a ciphertext opens in its new place.
        if not value.has_pending:
            return old if value == old else SealedValue(value.raw)
        value = value.pending
    if old is not NO_VALUE and (
        isinstance(old, bytes) or (isinstance(old, SealedValue) and not old.has_pending)
    ):
        target: Any = state.obj()
        if _asked(target, initiator.key, old, "holds", value):
            # Assigning the value that is there already is no change: nothing is re-encrypted.
            return old
        if isinstance(value, str) and _asked(target, initiator.key, old, "shows", value):
            raise _mask_written(target, initiator)
    return SealedValue(pending=value, has_pending=True)


def _mask_written(target: Any, initiator: Any) -> MaskWritten:
    return MaskWritten(
        f"a mask was assigned to {type(target).__name__}.{initiator.key}",
        hint="leave the attribute alone: it keeps the value the mask hides",
    )


def _asked(target: Any, key: str, old: bytes | SealedValue, question: str, value: Any) -> bool:
    state = instance_state(target)
    try:
        current()
        mapper = state.mapper
        field = binding_of(target, old).field(mapper.attrs[key])
        row, tenant = row_of_identity(mapper, state), tenant_of_identity(mapper, state)
        subject = subject_of_identity(mapper, state, mapper.attrs[key])
        return bool(
            getattr(field, question)(raw_of(old), value, row=row, tenant=tenant, subject=subject)
        )
    except (ActingError, ConfigurationError):
        return False  # nobody to decide on yet: the flush encrypts, as somebody
