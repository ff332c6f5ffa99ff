# SPDX-License-Identifier: Apache-2.0
"""
Objects of a mapped class, picked at random, a page at a time.

What is read of them is looked at: decided and recorded for whoever acts. Keeps none of them.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session, defer, sessionmaker

from lacre.errors import AccessDenied
from lacre.sensitive import Mask
from lacre.sqlalchemy.declared import sealed_properties

__all__ = ["looked_at", "sampled"]

_PAGE = 500  # objects in memory at a time


def sampled(
    sessions: "sessionmaker[Session]",
    mapper: Mapper[Any],
    count: int,
    *,
    tokens: bool = True,
    condition: Any = None,
) -> Iterator[Any]:
    """
    Return up to *count* objects of *mapper*, each in a session that is open while it is used.

    Args:
        tokens: False leaves the columns of indexes out: the database may not have them yet.
        condition: on the rows that are picked from.
    """
    left_out = (
        []
        if tokens
        else [
            defer(getattr(mapper.class_, mapper.get_property_by_column(column).key))
            for prop in sealed_properties(mapper)
            for column in prop.index_columns
        ]
    )
    key = list(mapper.primary_key)
    with sessions() as session:
        statement = sa.select(*key).select_from(mapper.persist_selectable)
        if condition is not None:
            statement = statement.where(condition)
        picked = session.execute(statement.order_by(sa.func.random()).limit(count)).all()
    for start in range(0, len(picked), _PAGE):
        page = [tuple(row) for row in picked[start : start + _PAGE]]
        where = key[0].in_([row[0] for row in page]) if len(key) == 1 else sa.tuple_(*key).in_(page)
        with sessions() as session:
            yield from session.scalars(sa.select(mapper).where(where).options(*left_out))


def looked_at(instance: Any, prop: Any) -> Any:
    """
    Look at the encrypted property *prop* of *instance*.

    Raises:
        AccessDenied: whoever acts gets a mask, which says nothing of the value.
    """
    value = getattr(instance, prop.key)
    if isinstance(value, Mask):
        raise AccessDenied(
            f"whoever runs this gets masks of class {prop.scheme.class_!r}, and has to decrypt it",
            hint="give the operator's role the right to decrypt this class",
        )
    return value
