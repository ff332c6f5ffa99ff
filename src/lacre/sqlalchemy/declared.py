# SPDX-License-Identifier: Apache-2.0
"""
What a model declared, and what follows from it for a mapped class: schemes and row ids.

Does no cryptography and no SQL.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.state import InstanceState

from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.codecs import codec_for
from lacre.fields.index import BlindIndex
from lacre.fields.masks import mask as mask_named
from lacre.fields.rows import row_text

__all__ = [
    "NOTHING",
    "ROW_ID",
    "Declared",
    "check_row_id",
    "check_spelling",
    "row_id_column",
    "row_of",
    "row_of_identity",
]

ROW_ID = "lacre_row_id"  # marks the column of `row_id()` in Column.info
NOTHING = object()  # the default of a column without one, since None is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The arguments of `encrypted`, as they were given."""

    class_: str
    index: BlindIndex | None
    mask: str | None
    padded: bool | None
    default: Any
    store: str

    def check(self, python_type: type) -> None:
        """
        Raise unless values of that type can be encrypted, indexed and masked as declared.

        Raises:
            ConfigurationError
        """
        codec = codec_for(python_type)
        if self.index is not None:
            self.index.check(codec)
        if self.mask is not None:
            mask_named(self.mask)


def row_id_column(mapper: Mapper[Any]) -> sa.Column[Any] | None:
    """Return the column that `row_id()` declared, or None: the primary key identifies the row."""
    for column in mapper.columns:
        if column.info.get(ROW_ID):
            return column
    return None


def check_row_id(mapper: Mapper[Any], dialect: Dialect) -> None:
    """
    Raise unless the mapped table has a row id that no later row can have again.

    Raises:
        ConfigurationError
    """
    if row_id_column(mapper) is not None:
        return
    hint = "declare a row id of its own on the model: lacre_rid: Mapped[UUID] = row_id()"
    for column in mapper.primary_key:
        if any(key.onupdate not in (None, "NO ACTION", "RESTRICT") for key in column.foreign_keys):
            raise ConfigurationError(
                f"the database changes the primary key {column} (ON UPDATE) without lacre, which binds values to it",
                hint=hint,
            )
        collation = (getattr(column.type, "collation", None) or "").lower()
        if "nocase" in collation or collation.endswith("_ci"):
            raise ConfigurationError(
                f"the primary key {column} compares without case, so two spellings would be one row",
                hint=hint,
            )
    integer = len(mapper.primary_key) == 1 and isinstance(mapper.primary_key[0].type, sa.Integer)
    # Not mapper.local_table, which under joined inheritance is the child's.
    table = mapper.primary_key[0].table
    if (
        integer
        and dialect.name == "sqlite"
        and isinstance(table, sa.Table)
        and not table.dialect_options["sqlite"]["autoincrement"]
        and table.dialect_options["sqlite"]["with_rowid"]
    ):
        raise ConfigurationError(
            f"SQLite reuses the integer primary keys of {table.name} after a delete, so they do not identify a row",
            hint=hint,
        )


def row_of(mapper: Mapper[Any], state: InstanceState[Any]) -> str:
    """
    Return the row id text of an object, from its present attributes.

    Raises:
        ConfigurationError: the primary key is not known before the INSERT.
    """
    column = row_id_column(mapper)
    columns = [column] if column is not None else list(mapper.primary_key)
    values = []
    for found in columns:
        key = mapper.get_property_by_column(found).key
        value = state.dict.get(key)
        if value is None and state.has_identity:
            value = getattr(state.obj(), key)
        if value is None:
            raise ConfigurationError(
                f"the primary key of {mapper.class_.__name__} is not known before its INSERT, and its encrypted values are bound to it",
                hint="assign it, give it a Python default (uuid4), or declare lacre_rid: Mapped[UUID] = row_id()",
            )
        values.append(_canonical(found, value))
    return row_text(values[0] if len(values) == 1 else tuple(values))


def row_of_identity(mapper: Mapper[Any], state: InstanceState[Any]) -> str:
    """Return the row id text an object had when it was loaded or last flushed."""
    if row_id_column(mapper) is not None:
        key = mapper.get_property_by_column(row_id_column(mapper)).key  # type: ignore[arg-type]
        committed = state.committed_state.get(key)
        if isinstance(committed, UUID):
            return committed.hex
        return row_of(mapper, state)
    if state.key is None:
        # Rolled back or made transient: it opens if its key is still the one it had.
        return row_of(mapper, state)
    values = [
        _canonical(column, value)
        for column, value in zip(mapper.primary_key, state.key[1], strict=True)
    ]
    return row_text(values[0] if len(values) == 1 else tuple(values))


def check_spelling(mapper: Mapper[Any], state: InstanceState[Any], dialect: Dialect) -> None:
    """
    Raise unless the primary key comes back from the database as the application spelt it.

    A type of the application's own may store two spellings as one; values bound to the other
    spelling would not open once the row is loaded.

    Raises:
        ConfigurationError
    """
    if row_id_column(mapper) is not None:
        return
    for column in mapper.primary_key:
        if not isinstance(column.type, sa.TypeDecorator):
            continue
        value = state.dict.get(mapper.get_property_by_column(column).key)
        returned: Any = value
        for processor in (
            column.type.bind_processor(dialect),
            column.type.result_processor(dialect, None),
        ):
            returned = returned if processor is None else processor(returned)
        if value is not None and row_text(returned) != row_text(value):
            raise ConfigurationError(
                f"the primary key {column} is returned in another spelling than it was assigned in",
                hint=f"assign it as the {type(returned).__name__} that the column returns",
            )


def _canonical(column: Any, value: Any) -> Any:
    # One text for one row, however the application spells it: a UUID mapped as text is a UUID,
    # and the database would store "007" in an integer column as 7.
    if isinstance(column.type, sa.Uuid) and isinstance(value, str):
        return UUID(value)
    if isinstance(column.type, sa.Integer) and type(value) is not int:
        raise InvalidValue(
            f"the primary key {column} is an integer, the value is a {type(value).__name__}"
        )
    if isinstance(value, bytes):
        raise ConfigurationError(
            f"the primary key {column} is binary, which is no row id",
            hint="declare lacre_rid: Mapped[UUID] = row_id()",
        )
    return value
