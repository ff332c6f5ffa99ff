# SPDX-License-Identifier: Apache-2.0
"""
Sessions of an application: what `Lacre.sqlalchemy` makes of a `sessionmaker` or an
`async_sessionmaker`.

A session is bound to its application and to no principal: whoever acts at the moment of a look
or a flush is decided on. Evidence of writes is `lacre.sqlalchemy.evidence`'s.
"""

import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import ConfigurationError
from lacre.sqlalchemy.answering import answered, told_of
from lacre.sqlalchemy.awaiting import AwaitingApplication
from lacre.sqlalchemy.binding import Application, Binding, leave
from lacre.sqlalchemy.candidates import is_marked, marked
from lacre.sqlalchemy.lightening import lightened
from lacre.sqlalchemy.loading import invoked
from lacre.sqlalchemy.rechecking import is_candidates, is_query, rechecked
from lacre.sqlalchemy.searching import Asking, HeavyTerm, asking
from lacre.sqlalchemy.statements import refuse_values
from lacre.sqlalchemy.translating import TranslatingSession, prepare_writing
from lacre.sqlalchemy.whole_objects import Whole

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import async_sessionmaker

__all__ = ["bind"]


def bind(factory: Any, application: Application) -> Any:
    """
    Return a factory like *factory* whose sessions belong to *application*.

    Raises:
        ConfigurationError: *factory* is neither a `sessionmaker` nor an `async_sessionmaker`.
    """
    # Imported already by whoever made one; importing it here would need greenlet of everybody.
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    if module is not None and isinstance(factory, module.async_sessionmaker):
        return _bind_async(factory, application)
    if not isinstance(factory, sessionmaker):
        raise ConfigurationError(
            f"lacre.sqlalchemy takes a sessionmaker or an async_sessionmaker, not {type(factory).__name__}",
            hint="lacre.sqlalchemy(sessionmaker(engine)), or lacre.sqlalchemy(async_sessionmaker(engine))",
        )
    options = _options(factory.kw, Binding(application))
    # The factory made a class of its own from what it was given; ours goes in front of that.
    bound = sessionmaker(class_=_session_class(factory.class_), **options)
    _listen(bound)
    return bound


def _bind_async(
    factory: "async_sessionmaker[Any]", application: Application
) -> "async_sessionmaker[Any]":
    options = _options(factory.kw, Binding(AwaitingApplication(application), awaiting=True))
    # An AsyncSession is a face of a Session, and what happens to objects happens there.
    inner = options.pop("sync_session_class", None) or factory.class_.sync_session_class
    if not isinstance(inner, type):
        raise ConfigurationError(
            f"sync_session_class is a class of sessions, not a {type(inner).__name__}",
            hint="give lacre.sqlalchemy the async_sessionmaker alone: it binds the sessions inside too",
        )
    options["sync_session_class"] = _session_class(inner)
    _listen(options["sync_session_class"])
    from sqlalchemy.ext.asyncio import async_sessionmaker

    return async_sessionmaker(class_=factory.class_, **options)


def _options(given: dict[str, Any], binding: Binding) -> dict[str, Any]:
    return {**given, "info": {**(given.get("info") or {}), "lacre": binding}}


def _session_class(given: type[Session]) -> type[Session]:
    return type("Session", (TranslatingSession, given), {})


def _listen(sessions: Any) -> None:
    prepare_writing(sessions)
    event.listen(sessions, "do_orm_execute", _on_execute)
    event.listen(sessions, "after_begin", _on_begin)
    event.listen(sessions, "before_flush", _on_flush)
    for leaving in (
        "persistent_to_detached",
        "deleted_to_detached",
        "persistent_to_transient",
        "pending_to_transient",
    ):
        event.listen(sessions, leaving, _on_leaving)


def _on_begin(session: Session, _transaction: Any, connection: Connection) -> None:
    if connection.dialect.is_async and not session.info["lacre"].awaiting:
        raise ConfigurationError(
            "an AsyncSession was given sessions of a sessionmaker, which would block the event loop",
            hint="Session = lacre.sqlalchemy(async_sessionmaker(engine))",
        )


def _on_flush(session: Session, _context: Any, _objects: Any) -> None:
    binding = session.info["lacre"]
    if not binding.has_deadlines:
        return
    for mapper in {
        instance_state(each).mapper for each in (*session.new, *session.dirty, *session.deleted)
    }:
        binding.refuse_overdue(mapper)


def _on_execute(state: ORMExecuteState) -> Any:
    binding = state.session.info["lacre"]
    if binding.has_deadlines:
        for mapper in state.all_mappers:
            binding.refuse_overdue(mapper)
    if is_candidates(state):
        # A re-check of a statement that is being asked already.
        _refuse_written(state)
        return _without_values(state, None)
    if binding.gets_ready:
        for mapper in state.all_mappers:
            binding.get_ready(mapper)
    statement = Asking(binding)
    token = asking.set(statement)
    try:
        # SQLAlchemy's own loads take no conditions from a caller, except by way of options: what
        # those ask of a short index is refused where the tokens are made.
        own = state.is_column_load or state.is_relationship_load
        if own:
            _refuse_written(state)
        narrowed = None if own else rechecked(state, statement)
        if isinstance(narrowed, Whole):
            return narrowed.only_true(
                _without_values(state, narrowed.statement), told_of(state.statement, statement)
            )
        result = _without_values(state, narrowed)
        if own:
            return result
        if statement.answered:
            result = answered(result, state.statement, statement)
        if not is_marked(state.statement):
            return result
        given = [
            binding.field(each.comparator.prop).candidates_given(each.index)
            for each in statement.unchecked
        ]
        return marked(result, certain=not given, given=given)
    finally:
        asking.reset(token)


def _refuse_written(state: ORMExecuteState) -> None:
    # What `rechecked` does along the way, and `written_in_bulk` for every other statement.
    if is_query(state.statement):
        refuse_values(state.statement, None)


def _without_values(state: ORMExecuteState, statement: Any | None) -> Any:
    given: Any = state.statement if statement is None else statement
    options = getattr(given, "_compile_options", None)
    try:
        return invoked(state, statement)
    except HeavyTerm:
        # It is compiled for the first time, and would be kept as it is. Nothing was sent yet.
        light = lightened(given)
        if options is not None:
            # Compiling had begun and changed them, and with them what the copy is kept under.
            light._compile_options = options  # noqa: SLF001
    present: Any = asking.get()
    present.lightens = False  # what is still not light cannot be made so
    try:
        return invoked(state, light)
    finally:
        present.lightens = True


def _on_leaving(session: Session, instance: Any) -> None:
    leave(instance_state(instance), session.info["lacre"])
