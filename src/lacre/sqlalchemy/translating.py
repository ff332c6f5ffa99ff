# SPDX-License-Identifier: Apache-2.0
"""
What a session of an application does around SQLAlchemy's own writing: a unique value that was
there already is said without the statement, and the legacy bulk methods know encrypted columns.

Put in front of the session class an application gave. Does not execute statements
(`lacre.sqlalchemy.session`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import DuplicateValue, UnsupportedQuery
from lacre.sqlalchemy.declared import sealed_properties
from lacre.sqlalchemy.evidence import keep_evidence
from lacre.sqlalchemy.row_ids import keys_of_flush
from lacre.sqlalchemy.statements import refuse_values
from lacre.sqlalchemy.violations import duplicate_of, without_detail
from lacre.sqlalchemy.writing import FLUSH

__all__ = ["TranslatingSession", "prepare_writing", "translated"]


def prepare_writing(factory: Any) -> None:
    """Have the sessions of *factory* know their rows before they write, and record what they wrote."""
    event.listen(factory, "do_orm_execute", _refusing)
    event.listen(factory, "before_flush", keys_of_flush)
    keep_evidence(factory)


def _refusing(state: ORMExecuteState) -> None:
    refuse_values(state)


@contextmanager
def translated(session: Session) -> Iterator[None]:
    """
    Say what the database refused without the values of the row.

    Raises:
        DuplicateValue: a unique blind index holds the value already.
    """
    try:
        yield
    except DBAPIError as error:
        duplicate = duplicate_of(error)
        scheme = None if duplicate is None else session.info["lacre"].violated(duplicate)
        if scheme is not None:
            raise DuplicateValue(
                f"{scheme} already holds this value",
                hint="the unique blind index says so; look the row up by the value",
            ) from None
        quiet = without_detail(error)
        if quiet is None:
            raise
        raise quiet from None


class TranslatingSession(Session):
    """Says which unique value was there already, without the statement and its parameters."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        try:
            with translated(self):
                super().flush(objects)
        finally:
            self.info.pop(FLUSH, None)

    # The three legacy bulk methods run no event of the unit of work: they would write NULL
    # beside a token that still finds the row.

    def bulk_save_objects(self, objects: Any, *args: Any, **kw: Any) -> None:
        objects = list(objects)
        for mapper in {instance_state(found).mapper for found in objects}:
            _refuse_bulk(mapper)
        super().bulk_save_objects(objects, *args, **kw)

    def bulk_insert_mappings(self, mapper: Any, *args: Any, **kw: Any) -> None:
        _refuse_bulk(inspect(mapper))
        super().bulk_insert_mappings(mapper, *args, **kw)

    def bulk_update_mappings(self, mapper: Any, *args: Any, **kw: Any) -> None:
        _refuse_bulk(inspect(mapper))
        super().bulk_update_mappings(mapper, *args, **kw)


def _refuse_bulk(mapper: Any) -> None:
    if sealed_properties(mapper):
        raise UnsupportedQuery(
            f"{mapper.class_.__name__} has encrypted columns, which the bulk methods do not know",
            hint="add the objects and flush",
        )
