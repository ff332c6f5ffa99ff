# SPDX-License-Identifier: Apache-2.0
"""
Sessions of an application: what `Lacre.sqlalchemy` makes of a `sessionmaker`.

A session is bound to its application and to no principal: whoever acts at the moment of a look
or a flush is decided on. Evidence of writes is `lacre.sqlalchemy.evidence`'s.
"""

from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import ConfigurationError
from lacre.sqlalchemy.binding import Application, Binding
from lacre.sqlalchemy.rechecking import CANDIDATES, rechecked
from lacre.sqlalchemy.searching import Asking, asking
from lacre.sqlalchemy.translating import TranslatingSession, prepare_writing
from lacre.sqlalchemy.types import SealedValue

__all__ = ["bind"]


def bind(factory: "sessionmaker[Any]", application: Application) -> "sessionmaker[Any]":
    """
    Return a `sessionmaker` like *factory* whose sessions belong to *application*.

    Raises:
        ConfigurationError: *factory* is something else, an `async_sessionmaker` for example.
    """
    if not isinstance(factory, sessionmaker):
        raise ConfigurationError(
            f"lacre.sqlalchemy takes a sessionmaker, not {type(factory).__name__}",
            hint="lacre.sqlalchemy(sessionmaker(engine)); AsyncSession is not supported in this release",
        )
    options: dict[str, Any] = dict(factory.kw)
    options["info"] = {**(options.get("info") or {}), "lacre": Binding(application)}
    # The factory made a class of its own from what it was given; ours goes in front of that.
    bound = sessionmaker(
        class_=type("Session", (TranslatingSession, factory.class_), {}), **options
    )
    prepare_writing(bound)
    event.listen(bound, "do_orm_execute", _on_execute)
    event.listen(bound, "after_begin", _on_begin)
    for leaving in (
        "persistent_to_detached",
        "deleted_to_detached",
        "persistent_to_transient",
        "pending_to_transient",
    ):
        event.listen(bound, leaving, _on_leaving)
    return bound


def _on_begin(_session: Session, _transaction: Any, connection: Connection) -> None:
    if connection.dialect.is_async:
        raise ConfigurationError(
            "AsyncSession is not supported in this release",
            hint="use a sync engine and session",
        )


def _on_execute(state: ORMExecuteState) -> Any:
    if state.execution_options.get(CANDIDATES):
        return None  # a re-check of a statement that is being asked already
    statement = Asking(state.session.info["lacre"])
    token = asking.set(statement)
    try:
        # SQLAlchemy's own loads take no conditions from a caller, except by way of options: what
        # those ask of a short index is refused where the tokens are made.
        own = state.is_column_load or state.is_relationship_load
        narrowed = None if own else rechecked(state, statement)
        return state.invoke_statement() if narrowed is None else state.invoke_statement(narrowed)
    finally:
        asking.reset(token)


def _on_leaving(session: Session, instance: Any) -> None:
    for held in instance_state(instance).dict.values():
        if isinstance(held, SealedValue):
            held.binding = session.info["lacre"]
