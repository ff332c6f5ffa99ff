# SPDX-License-Identifier: Apache-2.0
"""
Events of writes: in the transaction that holds the rows, or kept until it commits.

A store with an outbox has them in it, in the same transaction, as soon as the rows are flushed
(`lacre.sqlalchemy.outbox`). Events of every other store wait here and follow their savepoint:
released, they are the outer transaction's; rolled back, they are gone. Just before the commit they
are handed to the recorder, and where it cannot take them there is no commit. Does not hold looks:
they happened, whatever becomes of the transaction.

Leans on a private name of SQLAlchemy, pinned by a test: `Connection._is_autocommit_isolation`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from lacre.audit.event import Event
from lacre.audit.events import Written
from lacre.errors import ConfigurationError

__all__ = ["check_transaction", "executed", "keep_evidence", "noted"]

_ROWS = "lacre_rows"  # in session.info: rows of the flush under way, by connection and what makes their event
_EVENTS = "lacre_events"  # in session.info: events by the transaction they belong to


def check_transaction(session: Session, connection: Connection, store: str) -> None:
    """
    Raise unless what is about to be written to *store* waits for a commit, and its evidence has a place.

    Raises:
        ConfigurationError
    """
    autocommit = connection._is_autocommit_isolation()  # noqa: SLF001
    driver: Any = connection.connection.dbapi_connection
    if not autocommit and connection.dialect.name == "sqlite":
        # The driver's own autocommit, unless somebody sent BEGIN, as SQLAlchemy's recipe does.
        driver = connection.connection.driver_connection
        autocommit = driver.isolation_level is None and not driver.in_transaction
    elif not autocommit:
        autocommit = getattr(driver, "autocommit", False) is True
    if autocommit:
        raise ConfigurationError(
            "the connection is in AUTOCOMMIT mode, where a rollback leaves the row without the evidence of its write",
            hint="write encrypted values with an engine that has transactions: leave out isolation_level",
        )
    session.info["lacre"].outbox.check(connection, store)


def noted(
    session: Session, connection: Connection, event_of: Callable[[list[str]], Written]
) -> list[str]:
    """Return the list of rows written in this flush, of which *event_of* makes an event when it is over."""
    rows: list[str] = session.info.setdefault(_ROWS, {}).setdefault((connection, event_of), [])
    return rows


def executed(session: Session, connection: Connection, events: Sequence[Written]) -> None:
    """Record the *events* of what was executed on *connection*: they follow its transaction."""
    outbox = session.info["lacre"].outbox
    here = [event for event in events if outbox.takes(event.place.store)]
    if here:
        outbox.put(connection, here)
        session.info["lacre"].application.recorder.tell(here)
    others = [event for event in events if not outbox.takes(event.place.store)]
    if others:
        _events(session).setdefault(_present(session), []).extend(others)


def keep_evidence(factory: Any) -> None:
    """Have the sessions of *factory* record what they write."""
    event.listen(factory, "after_flush", _on_flushed)
    event.listen(factory, "before_commit", _on_commit)
    event.listen(factory, "after_commit", _on_committed)
    event.listen(factory, "after_transaction_end", _on_ended)


def _events(session: Session) -> dict[SessionTransaction | None, list[Event]]:
    found: dict[SessionTransaction | None, list[Event]] = session.info.setdefault(_EVENTS, {})
    return found


def _present(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def _on_flushed(session: Session, _context: Any) -> None:
    rows: dict[Any, list[str]] = session.info.pop(_ROWS, {})
    events: dict[Connection, list[Written]] = {}
    for (connection, event_of), written in rows.items():
        if written:
            events.setdefault(connection, []).append(event_of(written))
    for connection, made in events.items():
        executed(session, connection, made)


def _on_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint is released; the transaction around it may still roll back
    session.flush()
    _write(session)


def _on_committed(session: Session) -> None:
    nested = session.get_nested_transaction()
    if nested is None:
        # What was flushed after our turn in "before_commit", by somebody else's: late, not lost.
        _write(session)
        return
    outer = nested.parent
    while outer is not None and outer.parent is not None and not outer.nested:
        outer = outer.parent
    events = _events(session)
    events.setdefault(outer, []).extend(events.pop(nested, []))


def _on_ended(session: Session, transaction: SessionTransaction) -> None:
    # Of a transaction that committed nothing is left here; what is, was rolled back.
    session.info.pop(_ROWS, None)
    _events(session).pop(transaction, None)


def _write(session: Session) -> None:
    events = _events(session).get(_present(session))
    if events:
        session.info["lacre"].application.recorder.write(events)
        # Only now: after a refusal the same commit, tried again, has to record them.
        events.clear()
