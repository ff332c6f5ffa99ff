# SPDX-License-Identifier: Apache-2.0
"""
What a model declared, and what follows from it for a mapped class: schemes and row ids.

Does no cryptography and no SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.base import NO_VALUE
from sqlalchemy.orm.state import InstanceState

from lacre.errors import ConfigurationError, InvalidValue, NoTenant
from lacre.fields.codecs import codec_for
from lacre.fields.index import Index
from lacre.fields.masks import mask as mask_named
from lacre.fields.rows import row_text

__all__ = [
    "IDENTIFIES",
    "INDEXES",
    "MOVES",
    "NOTHING",
    "ROW_ID",
    "TABLE",
    "TENANT",
    "Declared",
    "Row",
    "attribute_text",
    "check_row_id",
    "check_spelling",
    "check_spelling_of",
    "logical_table",
    "place_of_identity",
    "present_value",
    "row_facts",
    "row_id_column",
    "row_of",
    "row_of_identity",
    "row_of_values",
    "sealed_properties",
    "tenant_if_named",
    "tenant_of",
    "tenant_of_identity",
    "tenant_text",
]

ROW_ID = "lacre_row_id"  # marks the column of `row_id()` in Column.info
TENANT = "__lacre_tenant__"  # class attribute: the attribute that holds a row's tenant
MOVES = "lacre_moves"  # marks the columns of tenants and row ids in Column.info
INDEXES = "lacre_indexes"  # in Column.info of an index: the name of the column it is about
IDENTIFIES = "lacre_identifies"  # marks there the primary key, where it is the row id
_PLACES = "lacre_places"  # in ClassManager.info
TABLE = "__lacre_table__"  # class attribute: the logical name of the table
NOTHING = object()  # the default of a column without one, since None is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The arguments of `encrypted`, as they were given."""

    class_: str
    indexes: tuple[Index, ...]
    mask: str | None
    padded: bool | None
    default: Any
    store: str
    column: str | None = None
    subject: str | None = None
    moving: bool = False

    def check(self, python_type: type) -> None:
        """
        Raise unless values of that type can be encrypted, indexed and masked as declared.

        Raises:
            ConfigurationError
        """
        codec = codec_for(python_type)
        for index in self.indexes:
            index.check(codec)
        if self.mask is not None:
            mask_named(self.mask)


def logical_table(mapper: Mapper[Any], table: Any) -> str:
    """Return the logical name of *table*, which *mapper* or one it inherits from is mapped to."""
    for found in mapper.iterate_to_root():
        parent = found.inherits
        if found.local_table is table and (parent is None or parent.local_table is not table):
            # Not a name that was meant for the parent's table.
            above = parent.class_ if parent is not None else object
            for part in found.class_.__mro__:
                if part is above:
                    break
                if TABLE in vars(part):
                    return str(vars(part)[TABLE])
    return str(table.name)


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
    _check_relationships(mapper)
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
    for column in mapper.primary_key if dialect.name == "postgresql" else ():
        if isinstance(column.type, sa.CHAR):
            raise ConfigurationError(
                f"PostgreSQL pads the primary key {column} (CHAR) with spaces, so it does not come back as it was assigned",
                hint="String, or " + hint,
            )
        if any(found.cycle for found in _generators(column)):
            raise ConfigurationError(
                f"the sequence of the primary key {column} begins again (CYCLE), so a key does not identify a row for ever",
                hint=hint,
            )
        if column.identity is not None and column.identity.always:
            raise ConfigurationError(
                f"the primary key {column} is GENERATED ALWAYS: it cannot be fetched before the INSERT",
                hint="Identity() without always, or " + hint,
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


_RELATED: WeakKeyDictionary[Mapper[Any], int] = WeakKeyDictionary()  # among how many, checked once


def _check_relationships(mapper: Mapper[Any]) -> None:
    mappers = mapper.registry.mappers
    if _RELATED.get(mapper) == len(mappers):
        return
    for relation in [relation for found in mappers for relation in found.relationships]:
        if relation.post_update and any(
            column.info.get(MOVES) or column.info.get(IDENTIFIES)
            for _, column in relation.synchronize_pairs
            if column.table in mapper.tables
        ):
            raise ConfigurationError(
                f"{relation} (post_update) would change what encrypted values are bound to after they are written",
                hint="leave out post_update",
            )
    _RELATED[mapper] = len(mappers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How the rows of a mapped class are told apart, and whose they are: columns and attribute names."""

    columns: tuple[Any, ...]
    keys: tuple[str, ...]
    named: bool  # by `row_id()`, and not by the primary key
    tenant: str | None


def sealed_properties(mapper: Mapper[Any]) -> list[Any]:
    """Return the mapper's encrypted properties."""
    return [
        prop
        for prop in mapper.column_attrs
        if isinstance(getattr(prop, "declared", None), Declared)
    ]


_ROWS: WeakKeyDictionary[Mapper[Any], Row] = WeakKeyDictionary()  # read off a mapper once


def row_facts(mapper: Mapper[Any]) -> Row:
    """
    Return what identifies the rows of a mapped class.

    Raises:
        ConfigurationError: ``__lacre_tenant__`` names no mapped column.
    """
    found = _ROWS.get(mapper)
    if found is None:
        named = row_id_column(mapper)
        columns = (named,) if named is not None else tuple(mapper.primary_key)
        tenant = getattr(mapper.class_, TENANT, None)
        if tenant is not None and tenant not in mapper.column_attrs:
            raise ConfigurationError(
                f"{mapper.class_.__name__}.{TENANT} names {tenant!r}, which is no column of the model",
                hint=f'the attribute that holds the tenant: {TENANT} = "tenant_id"',
            )
        found = _ROWS[mapper] = Row(
            columns=columns,
            keys=tuple(mapper.get_property_by_column(column).key for column in columns),
            named=named is not None,
            tenant=tenant,
        )
    return found


def row_of(mapper: Mapper[Any], state: InstanceState[Any]) -> str:
    """
    Return the row id text of an object, from its present attributes.

    Raises:
        ConfigurationError: the primary key is not known before the INSERT.
    """
    return row_of_values(mapper, [_present(state, key) for key in row_facts(mapper).keys])


def row_of_values(
    mapper: Mapper[Any], values: Sequence[Any], columns: Sequence[Any] | None = None
) -> str:
    """
    Return the row id text of *values*, of the columns that identify a row of *mapper*, or of *columns*.

    Raises:
        ConfigurationError: one of them is None: the primary key is not known before the INSERT.
    """
    if len(values) == 1 and type(values[0]) is UUID:
        return row_text(values[0])
    for value in values:
        if value is None:
            raise ConfigurationError(
                f"the primary key of {mapper.class_.__name__} is not known before its INSERT, and its encrypted values are bound to it",
                hint="assign it, give it a Python default (uuid4) or a sequence of PostgreSQL, or declare lacre_rid: Mapped[UUID] = row_id()",
            )
    named = row_facts(mapper).columns if columns is None else columns
    found = [_canonical(column, value) for column, value in zip(named, values, strict=True)]
    return row_text(found[0] if len(found) == 1 else tuple(found))


def row_of_identity(mapper: Mapper[Any], state: InstanceState[Any]) -> str:
    """Return the row id text an object had when it was loaded or last flushed."""
    facts = row_facts(mapper)
    if facts.named:
        committed = state.committed_state.get(facts.keys[0])
        if isinstance(committed, UUID):
            return committed.hex
        return row_of(mapper, state)
    if state.key is None:
        # Rolled back or made transient: it opens if its key is still the one it had.
        return row_of(mapper, state)
    return row_of_values(mapper, state.key[1])


class _Places:
    """What `place_of_identity` remembers of a mapped class: in its `ClassManager.info`."""

    __slots__ = ("last", "simple")

    def __init__(self, mapper: Mapper[Any]) -> None:
        facts = row_facts(mapper)
        self.simple = not facts.named and facts.tenant is None
        # The identity asked for last, with its text: several values of one row are looked at in
        # a row. Replaced as a whole, so threads see one pair or another.
        self.last: tuple[Any, str] = (None, "")


def place_of_identity(state: InstanceState[Any]) -> tuple[str, str | None]:
    """Return `row_of_identity` and `tenant_of_identity` of an object."""
    info = state.manager.info
    places = info.get(_PLACES)
    if places is None:
        places = info[_PLACES] = _Places(state.mapper)
    if not places.simple or state.key is None:
        mapper = state.mapper
        return row_of_identity(mapper, state), tenant_of_identity(mapper, state)
    key, text = places.last
    if key is not state.key:
        text = row_of_values(state.mapper, state.key[1])
        places.last = (state.key, text)
    return text, None


def tenant_of(mapper: Mapper[Any], state: InstanceState[Any]) -> str | None:
    """
    Return the tenant an object's row names, or None where its model names no tenant column.

    Raises:
        NoTenant: the row names none.
    """
    key = row_facts(mapper).tenant
    return None if key is None else tenant_text(mapper, _present(state, key))


def tenant_if_named(mapper: Mapper[Any], state: InstanceState[Any]) -> str | None:
    """`tenant_of`, of an object that may not have been given its tenant yet: then None."""
    key = row_facts(mapper).tenant
    value = None if key is None else _present(state, key)
    return None if value is None else tenant_text(mapper, value)


def tenant_of_identity(mapper: Mapper[Any], state: InstanceState[Any]) -> str | None:
    """
    Return the tenant that an object's row named when it was loaded or last flushed.

    Raises:
        NoTenant: the row names none.
    """
    key = row_facts(mapper).tenant
    if key is None:
        return None
    committed = state.committed_state.get(key, NO_VALUE)
    if committed in (NO_VALUE, None):
        # Not changed: a change keeps the old value, also of an expired attribute.
        committed = _present(state, key)
    return tenant_text(mapper, committed)


def tenant_text(mapper: Mapper[Any], value: Any) -> str:
    """
    Return the text of a tenant column's value: by the same rule as a row id's.

    Raises:
        NoTenant: it is None.
    """
    if value is None:
        raise NoTenant(
            f"a row of {mapper.class_.__name__} names no tenant",
            hint=f"assign {row_facts(mapper).tenant}: its keys are the tenant's",
        )
    return str(row_text(value))


def _present(state: InstanceState[Any], key: str) -> Any:
    value = state.dict.get(key)
    if value is None and state.has_identity:
        value = getattr(state.obj(), key)
    return value


present_value = _present


def attribute_text(mapper: Mapper[Any], key: str, value: Any) -> str:
    """Return the text of *value*, of the attribute *key*, by the rule of row ids."""
    return str(row_text(_canonical(mapper.column_attrs[key].columns[0], value)))


def _generators(column: Any) -> list[Any]:
    return [
        found
        for found in (column.identity, column.default)
        if isinstance(found, sa.Identity | sa.Sequence)
    ]


def check_spelling(mapper: Mapper[Any], state: InstanceState[Any], dialect: Dialect) -> None:
    """
    Raise unless the primary key comes back from the database as the application spelt it.

    A type of the application's own may store two spellings as one; values bound to the other
    spelling would not open once the row is loaded.

    Raises:
        ConfigurationError
    """
    facts = row_facts(mapper)
    if not facts.named:
        values = [state.dict.get(key) for key in facts.keys]
        check_spelling_of(mapper, values, dialect)


def check_spelling_of(mapper: Mapper[Any], values: Sequence[Any], dialect: Dialect) -> None:
    """`check_spelling`, of the *values* of the primary key."""
    for column, value in zip(mapper.primary_key, values, strict=True):
        if not isinstance(column.type, sa.TypeDecorator):
            continue
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
