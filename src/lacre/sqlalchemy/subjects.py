# SPDX-License-Identifier: Apache-2.0
"""
Whom a row's encrypted values are about: the attribute that `encrypted(..., subject=...)` names.

Reads attributes and does no cryptography. What is inserted in one flush is looked through first, so
that the keys of new subjects are made together.
"""

from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.state import InstanceState

from lacre.errors import ConfigurationError, MisuseError
from lacre.sqlalchemy.declared import (
    NOTHING,
    Declared,
    attribute_text,
    present_value,
    sealed_properties,
    tenant_if_named,
)
from lacre.sqlalchemy.row_ids import default_of

__all__ = [
    "READY",
    "subject_column",
    "subject_key",
    "subject_of",
    "subject_of_identity",
    "subject_of_values",
    "subjects_of_flush",
]

READY = "lacre_ready"  # in session.info: permissions to write, with the keys of a flush's subjects

# Of each mapped class, by the encrypted attribute: the attribute that says whom it is about.
_KEYS: WeakKeyDictionary[Mapper[Any], dict[str, str | None]] = WeakKeyDictionary()


def subject_key(mapper: Mapper[Any], prop: Any) -> str | None:
    """
    Return the name of the attribute that says whom *prop* is about; None where nothing does.

    Raises:
        ConfigurationError: it is no column of the model, or an encrypted one.
    """
    keys = _KEYS.get(mapper)
    if keys is None:
        keys = _KEYS[mapper] = {}
    if prop.key not in keys:
        key = prop.declared.subject
        if key is not None:
            named = mapper.column_attrs.get(key)
            if named is None or isinstance(getattr(named, "declared", None), Declared):
                raise ConfigurationError(
                    f"{prop} is about {key!r}, which is no plain column of {mapper.class_.__name__}",
                    hint='the attribute that holds the id of whom it is about: subject="user_id"',
                )
        keys[prop.key] = key
    return keys[prop.key]


def subject_column(mapper: Mapper[Any], prop: Any) -> Any | None:
    """Return the column of `subject_key`."""
    key = subject_key(mapper, prop)
    return None if key is None else mapper.column_attrs[key].columns[0]


def subject_of(mapper: Mapper[Any], state: InstanceState[Any], prop: Any) -> str | None:
    """
    Return the text of whom *prop* is about, from the object's present attributes.

    Raises:
        MisuseError: the attribute is NULL.
    """
    key = subject_key(mapper, prop)
    return None if key is None else subject_of_values(mapper, prop, present_value(state, key))


def subject_of_values(mapper: Mapper[Any], prop: Any, value: Any) -> str | None:
    """`subject_of`, where the attribute's value is *value*."""
    key = subject_key(mapper, prop)
    if key is None:
        return None
    if value is None:
        raise MisuseError(
            f"a {mapper.class_.__name__} does not say whom its {prop.key} is about: {key} is NULL",
            hint=f"assign {key} before the flush; a value is encrypted for somebody",
        )
    return attribute_text(mapper, key, value)


def subject_of_identity(mapper: Mapper[Any], state: InstanceState[Any], prop: Any) -> str | None:
    """Return the text of whom *prop* was about when the object was loaded or last flushed."""
    key = subject_key(mapper, prop)
    if key is None:
        return None
    column = mapper.column_attrs[key].columns[0]
    if state.key is not None and column in mapper.primary_key:
        value = state.key[1][mapper.primary_key.index(column)]
    else:
        value = state.committed_state.get(key, NO_VALUE)
        if value is NO_VALUE or value is None:
            value = present_value(state, key)
    return subject_of_values(mapper, prop, value)


def subjects_of_flush(session: Session, _context: Any, instances: Any) -> None:
    """Make the keys of the subjects of new objects that are about to be flushed, all together."""
    session.info.pop(READY, None)
    chosen = None if not instances else {id(found) for found in instances}
    wanted: dict[tuple[Any, str | None], dict[str, None]] = {}
    about: dict[Any, list[tuple[Any, str]]] = {}  # of each mapper what has subjects, mostly nothing
    for found in session.new:
        if chosen is not None and id(found) not in chosen:
            continue
        state = instance_state(found)
        mapper = state.mapper
        having = about.get(mapper)
        if having is None:
            keys = [(prop, subject_key(mapper, prop)) for prop in sealed_properties(mapper)]
            having = about[mapper] = [(prop, key) for prop, key in keys if key is not None]
        for prop, key in having:
            written = state.dict.get(prop.key) is not None or (
                prop.key not in state.dict and prop.declared.default is not NOTHING
            )
            if not written:
                continue
            value = state.dict.get(key)
            if value is None:
                # The default that `before_insert` would give it, a moment earlier. What only a
                # relationship gives is not known yet: that subject's key is made by itself.
                column: Any = mapper.column_attrs[key].columns[0]
                if not isinstance(column.default, sa.ColumnDefault):
                    continue
                value = state.dict[key] = default_of(column)
            if value is not None:
                of = wanted.setdefault((prop, tenant_if_named(mapper, state)), {})
                of[attribute_text(mapper, key, value)] = None
    if wanted:
        ready = session.info[READY] = {}
        binding = session.info["lacre"]
        for (prop, tenant), subjects in wanted.items():
            writing = ready[prop, tenant] = binding.field(prop).writing(tenant=tenant)
            writing.get_ready(subjects)
