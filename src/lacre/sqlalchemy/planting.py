# SPDX-License-Identifier: Apache-2.0
"""
Plant a row that looks real, through the application's own model, and find it again by its mark.

Encrypted columns get plausible values, encrypted as any; plain ones take after a neighbour's row, of
which no encrypted value is read. What a model does not tell has to be given. Says where the row is
and keeps nothing (`lacre.audit.honeytokens` marks it, `lacre.stores.log.honeytokens` keeps marks).
"""

import datetime as dt
import enum
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from lacre.audit.event import surrogates
from lacre.errors import ConfigurationError
from lacre.fields.plausible import kind_of, plausible
from lacre.sqlalchemy.declared import place_of_identity, row_facts, row_of_values, sealed_properties
from lacre.sqlalchemy.subjects import subject_key, subject_of_identity
from lacre.sqlalchemy.types import IndexType

__all__ = ["Place", "Planter"]

_NEIGHBOURS = 200  # rows that are looked at
_FREE_TEXT = 0.5  # of neighbours' texts differ: then it is no list of words, and a copy would show


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a planted row is. *subject* is the id of whom its values are about, where they are about somebody."""

    store: str
    table: str
    row: str
    tenant: str | None
    subject: str | None


@final
class Planter:
    """
    Plants rows of one mapped class, as whoever acts.

    Args:
        sessions: of an application, on the database of the model.
        drawn: randomness; the system's by default.

    Raises:
        ConfigurationError: the model has no encrypted column, or evidence would not name its rows.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        mapper: Mapper[Any],
        *,
        drawn: random.Random | None = None,
    ) -> None:
        self._sessions = sessions
        self._mapper = mapper
        self._drawn = drawn or random.SystemRandom()
        self._sealed = {prop.key: prop for prop in sealed_properties(mapper)}
        if not self._sealed:
            raise ConfigurationError(f"{mapper.class_.__name__} has no encrypted column to look at")

    @property
    def store(self) -> str:
        """The logical name of the model's database."""
        return str(next(iter(self._sealed.values())).scheme.store)

    @property
    def table(self) -> str:
        """The model's table, as evidence names it."""
        return str(next(iter(self._sealed.values())).scheme.table)

    def plant(self, given: Mapping[str, Any], mark: Callable[[Place], None]) -> Place:
        """
        Plant a row with the values *given*, and guessed ones, and hand its place to *mark* before it is committed.

        Raises:
            ConfigurationError: a value cannot be guessed; names its attribute.
        """
        with self._sessions.begin() as session:
            values = self._values(session, given)
            planted = self._mapper.class_(**values)
            session.add(planted)
            session.flush()
            state = instance_state(planted)
            row, tenant = place_of_identity(state)
            if not surrogates([row]):
                raise ConfigurationError(
                    f"the ids of {self.table} are no surrogates, so evidence does not name its rows, and a look at one would not be seen",
                    hint="give the model a row id: lacre_rid: Mapped[UUID] = row_id()",
                )
            subjects = {
                subject_of_identity(self._mapper, state, prop)
                for prop in self._sealed.values()
                if prop.declared.subject is not None and values.get(prop.key) is not None
            }
            if len(subjects) > 1:
                raise ConfigurationError(f"the values of {self.table} are about several subjects")
            place = Place(
                store=self.store,
                table=self.table,
                row=row,
                tenant=tenant,
                subject=next(iter(subjects), None),
            )
            # While the transaction can still be undone: a row without a mark would be nobody's.
            mark(place)
        return place

    def remove(self, is_it: Callable[[str], bool]) -> bool:
        """Delete the row whose id text *is_it* knows. Return whether there was one."""
        keys = list(self._mapper.primary_key)
        facts = row_facts(self._mapper)
        query = sa.select(*keys, *facts.columns).select_from(self._mapper.selectable)
        with self._sessions.begin() as session:
            connection = session.connection(bind_arguments={"mapper": self._mapper})
            rows = connection.execute(query.execution_options(yield_per=1000))
            found = next(
                (
                    tuple(row[: len(keys)])
                    for row in rows
                    if is_it(row_of_values(self._mapper, row[len(keys) :]))
                ),
                None,
            )
            rows.close()
            if found is not None:
                session.delete(session.get_one(self._mapper.class_, found))
        return found is not None

    def _values(self, session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(given) - set(self._mapper.column_attrs.keys()))
        if unknown:
            raise ConfigurationError(
                f"{self._mapper.class_.__name__} has no attribute {', '.join(unknown)}",
                hint="the values are given by the names of the model's attributes",
            )
        neighbours = self._neighbours(session)
        beside: Any = self._drawn.choice(neighbours) if neighbours else None
        made = {key: _converted(value, self._type_of(key), key) for key, value in given.items()}
        for key, prop in self._sealed.items():
            if key not in given:
                empty = beside is not None and beside[key]
                made[key] = None if empty else self._guessed(prop)
        if all(made[key] is None for key in self._sealed):
            # A row of NULLs is no bait.
            key, prop = next(iter(self._sealed.items()))
            made[key] = self._guessed(prop)
        about = {subject_key(self._mapper, prop) for prop in self._sealed.values()} - {None}
        for key, column in self._plain():
            if key in made or any(map(_makes_itself, self._mapper.column_attrs[key].columns)):
                continue
            if key in about:
                raise ConfigurationError(
                    f"{self._mapper.class_.__name__} is about whom {key} names, who is somebody: a look at all else of theirs would be an alert",
                    hint="plant the row of a new subject, and give this one its id: --values",
                )
            made[key] = self._after(key, column, neighbours, beside)
        return made

    def _type_of(self, key: str) -> Any:
        if key in self._sealed:
            return self._sealed[key].scheme.python_type
        try:
            return self._mapper.column_attrs[key].columns[0].type.python_type
        except NotImplementedError:
            return None

    def _guessed(self, prop: Any) -> Any:
        scheme = prop.scheme
        names = tuple(str(index.normaliser) for index in scheme.indexes)
        kind = kind_of(scheme.column, normalisers=names, mask=scheme.mask)
        value = plausible(scheme.python_type, kind, self._drawn)
        if value is None and not prop.columns[0].nullable:
            raise _unguessed(self._mapper, prop.key)
        return value

    def _plain(self) -> list[tuple[str, Any]]:
        # What the mapper fills in by itself, and what belongs to an index, is nobody's to guess.
        tokens = {column for prop in self._sealed.values() for column in prop.token_columns}
        own = {self._mapper.polymorphic_on, self._mapper.version_id_col}
        return [
            (attribute.key, attribute.columns[0])
            for attribute in self._mapper.column_attrs
            if attribute.key not in self._sealed
            and isinstance(attribute.columns[0], sa.Column)
            and not isinstance(attribute.columns[0].type, IndexType)
            and attribute.columns[0] not in tokens
            and not any(attribute.columns[0] is each for each in own)
        ]

    def _neighbours(self, session: Session) -> list[Any]:
        # Of an encrypted column only whether it is NULL: nobody's value is looked at.
        columns: list[Any] = [column.label(key) for key, column in self._plain()]
        columns += [
            sa.type_coerce(prop.columns[0], sa.LargeBinary).is_(None).label(key)
            for key, prop in self._sealed.items()
        ]
        query = sa.select(*columns).select_from(self._mapper.selectable).limit(_NEIGHBOURS)
        connection = session.connection(bind_arguments={"mapper": self._mapper})
        return [dict(row) for row in connection.execute(query).mappings()]

    def _after(self, key: str, column: Any, neighbours: list[Any], beside: Any) -> Any:
        values = [each[key] for each in neighbours if each[key] is not None]
        alone = column.unique or column.primary_key
        texts = [value for value in values if isinstance(value, str)]
        copied = not alone and (not texts or len(set(texts)) <= max(3, _FREE_TEXT * len(texts)))
        if beside is not None and copied:
            return beside[key]
        if column.nullable and (beside is None or beside[key] is None):
            return None
        python_type = self._type_of(key)
        # A key of another table is no value to be made up.
        made = None if column.foreign_keys else plausible(python_type, kind_of(column.name), self._drawn)  # fmt: skip
        if made is None and not column.nullable:
            raise _unguessed(self._mapper, key)
        return made


def _makes_itself(column: Any) -> bool:
    if column.default is not None or column.server_default is not None:
        return True
    generated = column.primary_key and not column.foreign_keys and column.autoincrement
    return bool(generated and isinstance(column.type, sa.Integer)) or column.computed is not None


def _unguessed(mapper: Mapper[Any], key: str) -> ConfigurationError:
    return ConfigurationError(
        f"nobody can guess what {mapper.class_.__name__}.{key} holds",
        hint=f'give it in a file of JSON: --values FILE, with {{"{key}": ...}}',
    )


# How JSON, which has no such types, writes their values.
_READ: Mapping[Any, Callable[[str], Any]] = {
    UUID: UUID,
    Decimal: Decimal,
    dt.date: dt.date.fromisoformat,
    dt.datetime: dt.datetime.fromisoformat,
}


def _converted(value: Any, python_type: Any, key: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if isinstance(python_type, type) and issubclass(python_type, enum.Enum):
            return python_type[value]
        read = _READ.get(python_type)
        return value if read is None else read(value)
    except (ValueError, KeyError, ArithmeticError):
        raise ConfigurationError(f"the value given for {key} is not one of its type") from None
