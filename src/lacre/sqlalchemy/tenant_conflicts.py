# SPDX-License-Identifier: Apache-2.0
"""
Which values of rows that are to move the target has already, where each may be there once.

Unique indexes, compound ones too, are compared by the tokens that the target would have, plain columns that are
unique together with the tenant by their values. What is written meanwhile the database decides.
Moves nothing and hands no value out.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from lacre.context import acting_as
from lacre.fields.held import HeldField
from lacre.sqlalchemy.compounds import compound_properties
from lacre.sqlalchemy.declared import row_facts, row_of_values, sealed_properties
from lacre.sqlalchemy.subjects import subject_key, subject_of_values
from lacre.sqlalchemy.tenant_tables import TenantTable
from lacre.sqlalchemy.types import raw_of

__all__ = ["AT_ONCE", "conflicts", "is_one_of", "parts", "raw_held"]

AT_ONCE = 500  # keys or tokens asked for in one query


def conflicts(
    session: Session,
    table: TenantTable,
    instances: Sequence[Any],
    *,
    source: str,
    target: str,
    acting_for: Callable[[str], acting_as],
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the attributes that are there twice, with the row ids among *instances*."""
    by_class: dict[Mapper[Any], list[Any]] = defaultdict(list)
    for each in instances:
        by_class[instance_state(each).mapper].append(each)
    for mapper, some in by_class.items():
        rows = [
            row_of_values(mapper, [getattr(each, key) for key in row_facts(mapper).keys])
            for each in some
        ]
        named = list(zip(rows, some, strict=True))
        opened = partial(_opened, session, mapper, named, source, acting_for)
        for prop in sealed_properties(mapper):
            if prop.unique_columns:
                read = zip(rows, opened(prop), strict=True)
                found = _of_index(session, prop, read, target, acting_for)
                if found:
                    yield (prop.key,), found
        for compound in compound_properties(mapper):
            if compound.unique_columns:
                together = zip(*map(opened, compound.parts), strict=True)
                whole = [None if None in each else each for each in together]
                found = _of_index(
                    session, compound, zip(rows, whole, strict=True), target, acting_for
                )
                if found:
                    yield compound.attributes, found
        for names in table.unique_beside(mapper):
            values = [tuple(getattr(each, name) for name in names) for each in some]
            there = _of_target(session, table, mapper, names, values)
            found = [row for row, value in zip(rows, values, strict=True) if value in there]
            if found:
                yield (*names,), found


def _opened(
    session: Session,
    mapper: Mapper[Any],
    named: Sequence[tuple[str, Any]],
    source: str,
    acting_for: Callable[[str], acting_as],
    prop: Any,
) -> list[Any]:
    # Opened to be compared and handed to nobody: part of the move, and no look.
    held: HeldField = session.info["lacre"].field(prop)
    about = subject_key(mapper, prop)
    values: list[Any] = []
    with acting_for(source):
        for row, each in named:
            raw = raw_held(each, prop)
            if raw is None:
                values.append(None)
                continue
            whose = None if about is None else getattr(each, about)
            subject = subject_of_values(prop.parent, prop, whose)
            values.append(held.reopened(raw, row=row, tenant=source, subject=subject))
    return values


def _of_index(
    session: Session,
    prop: Any,
    values: Iterable[tuple[str, Any]],
    target: str,
    acting_for: Callable[[str], acting_as],
) -> list[str]:
    held: HeldField = session.info["lacre"].field(prop)
    rows: dict[tuple[int, bytes], str] = {}
    with acting_for(target):
        writing = held.writing(tenant=target)
        for row, value in values:
            if value is None:
                continue
            for position, _ in prop.unique_columns:
                for token in writing.tokens_of_every_root(value, position):
                    rows[position, token] = row
    found = []
    connection = session.connection(bind_arguments={"mapper": prop.parent})
    for position, first in prop.unique_columns:
        for column in (first, prop.second_columns[position]):
            for part in parts([token for place, token in rows if place == position]):
                query = sa.select(column).where(column.in_(part))
                found += [rows[position, token] for token in connection.execute(query).scalars()]
    return list(dict.fromkeys(found))


def _of_target(
    session: Session,
    table: TenantTable,
    mapper: Mapper[Any],
    names: Sequence[str],
    values: Sequence[tuple[Any, ...]],
) -> set[tuple[Any, ...]]:
    if not names:  # one row for each tenant
        some = sa.select(table.keys[0]).where(table.tenant == table.target).limit(1)
        return set() if session.execute(some).first() is None else {()}
    attributes = [getattr(mapper.class_, name) for name in names]
    query = sa.select(*attributes).where(table.tenant == table.target)
    found: set[tuple[Any, ...]] = set()
    # NULL is like nothing else, in a constraint as well.
    for part in parts([value for value in values if None not in value]):
        found.update(
            tuple(row) for row in session.execute(query.where(is_one_of(attributes, part)))
        )
    return found


def parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield *values*, as many as are asked for at once."""
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


def is_one_of(attributes: Sequence[Any], values: Sequence[Any]) -> Any:
    """Return the condition that *attributes* are one of *values*, which are tuples."""
    if len(attributes) == 1:
        return attributes[0].in_([value for (value,) in values])
    return sa.tuple_(*attributes).in_(values)


def raw_held(instance: Any, prop: Any) -> Any:
    """Return what the row holds of *prop*, unopened."""
    held = instance_state(instance).dict.get(prop.key)
    return None if held is None else raw_of(held)
