# SPDX-License-Identifier: Apache-2.0
"""Two-phase sessions, and servers that drop the connection: no half-written pair, no row without evidence."""

import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre, UnsupportedQuery
from tests.sqlalchemy.conftest import Acting, Sessions, engine_of, on_postgresql
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Customer
from tests.sqlalchemy.raw import only, rows
from tests.sqlalchemy.test_canaries import shown

TABLE: Any = Customer.__table__
Recorded = Callable[..., list[dict[str, Any]]]


@on_postgresql
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_prepared_transaction(
    lacre: Lacre, engine: Engine, acting: Acting, recorded: Recorded, end: str
) -> None:
    """PREPARE TRANSACTION holds ciphertext and token together; evidence is there before the commit."""
    sessions = lacre.sqlalchemy(sessionmaker(engine, twophase=True))
    with acting("app"), sessions() as session:
        session.add(Customer(email=EMAIL))
        session.execute(insert(Customer), [{"email": OTHER_EMAIL}])
        session.prepare()
        assert len(rows(engine, "SELECT gid FROM pg_prepared_xacts")) == 1
        assert sum(found["count"] for found in recorded("encrypt", column="email")) == 2
        getattr(session, end)()
    with acting("app"), sessions() as session:
        found = session.scalars(select(Customer).where(Customer.email == EMAIL)).all()

        assert len(found) == (1 if end == "commit" else 0)
    expected = 2 if end == "commit" else 0
    assert only(engine, "SELECT count(*) FROM customers WHERE email_bidx IS NOT NULL") == expected


def drop_at(engine: Engine, server: Engine, word: str) -> None:
    """Have the server end the connection just before the next statement that begins with *word*."""
    waiting = [word]

    @event.listens_for(engine, "before_cursor_execute")
    def dropping(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if waiting and statement.lstrip().startswith(word):
            waiting.clear()
            pid = connection.connection.dbapi_connection.info.backend_pid
            only(server, "SELECT pg_terminate_backend(?)", pid)


WRITES: dict[str, tuple[str, Callable[[Session, Customer], object]]] = {
    "flush insert": ("INSERT", lambda session, _: session.add(Customer(email=OTHER_EMAIL))),
    "flush update": ("UPDATE", lambda _, row: setattr(row, "email", OTHER_EMAIL)),
    "bulk insert": (
        "INSERT",
        lambda session, _: session.execute(
            insert(Customer), [{"email": f"{n}@example.org"} for n in range(2000)]
        ),
    ),
    "bulk update": (
        "UPDATE",
        lambda session, row: session.execute(
            update(Customer), [{"id": row.id, "email": OTHER_EMAIL}]
        ),
    ),
}


@on_postgresql
@pytest.mark.parametrize("write", WRITES)
def test_a_dropped_connection_leaves_nothing(
    lacre: Lacre, engine: Engine, acting: Acting, recorded: Recorded, write: str
) -> None:
    """The row keeps its pair, no event is recorded, and the same work done again is whole."""
    word, change = WRITES[write]
    own = engine_of(engine.url)
    sessions = lacre.sqlalchemy(sessionmaker(own))
    with acting("app"), sessions() as session:
        session.add(Customer(email=EMAIL))
        session.commit()
        row = session.scalars(select(Customer)).one()
        before = rows(engine, "SELECT email, email_bidx FROM customers")
        counted = len(recorded("encrypt"))
        drop_at(own, engine, word)
        with pytest.raises(OperationalError):
            _done(session, row, change)
        session.rollback()
        assert rows(engine, "SELECT email, email_bidx FROM customers") == before
        assert len(recorded("encrypt")) == counted
        _done(session, row, change)
        wanted = "7@example.org" if write == "bulk insert" else OTHER_EMAIL
        assert session.scalars(select(Customer).where(Customer.email == wanted)).all()
    own.dispose()
    assert len(recorded("encrypt")) == counted + 1


def _done(session: Session, row: Customer, change: Callable[[Session, Customer], object]) -> None:
    change(session, row)
    session.commit()


@on_postgresql
def test_a_connection_dropped_at_the_commit(
    lacre: Lacre, engine: Engine, acting: Acting, recorded: Recorded
) -> None:
    """Evidence is handed over before the commit: there may be an event without rows, and never a row without one."""
    own = engine_of(engine.url)
    sessions = lacre.sqlalchemy(sessionmaker(own))
    with acting("app"), sessions() as session:
        session.add(Customer(email=EMAIL))
        session.flush()
        pid = session.connection().connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        only(engine, "SELECT pg_terminate_backend(?)", pid)
        with pytest.raises(OperationalError):
            session.commit()
        session.rollback()
    own.dispose()

    assert only(engine, "SELECT count(*) FROM customers") == 0
    assert [found["count"] for found in recorded("encrypt", column="email")] == [1]


CANARY = "canary@example.org"
REFUSED: dict[str, Callable[[], Any]] = {
    "update": lambda: update(Customer).values(email=CANARY),
    "update where": lambda: update(Customer).where(Customer.cpf == CPF).values(email=CANARY),
    "update ordered": lambda: update(Customer).ordered_values((Customer.email, CANARY)),
    "update by expression": lambda: update(Customer).values(email=func.lower(CANARY)),
    "insert": lambda: insert(Customer).values(id=uuid4(), email=CANARY),
    "insert several": lambda: insert(Customer).values([{"id": uuid4(), "email": CANARY}] * 2),
    "insert from select": lambda: insert(Customer).from_select(
        ["id", "email"], select(Customer.id, literal(CANARY))
    ),
    "core insert": lambda: insert(TABLE).values(id=uuid4(), email=CANARY),
    "core update": lambda: update(TABLE).values(email=CANARY),
    "upsert": lambda: (
        postgresql.insert(Customer)
        .values(id=uuid4(), city="x")
        .on_conflict_do_update(index_elements=["id"], set_={"email": CANARY})
    ),
    "order": lambda: select(Customer).where(Customer.city == "x").order_by(Customer.email),
    "function": lambda: select(Customer).where(func.lower(Customer.email) == CANARY),
    "like": lambda: select(Customer).where(Customer.email.like(CANARY)),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_refused_statement_shows_no_value(
    sessions: Sessions, engine: Engine, acting: Acting, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    """With echo on, nothing is sent or logged, and the error says what to do and shows no parameter."""
    echoing = create_engine(engine.url, echo="debug")
    with caplog.at_level(logging.DEBUG), acting("app"), sessions(bind=echoing) as session:
        with pytest.raises(UnsupportedQuery) as raised:
            session.execute(REFUSED[shape]())
        session.rollback()
    echoing.dispose()

    assert not any(word in caplog.text for word in ("INSERT", "UPDATE", "canary"))
    assert "canary" not in shown(raised.value)
    assert raised.value.hint
    assert raised.value.__cause__ is None
    assert not hasattr(raised.value, "params")
