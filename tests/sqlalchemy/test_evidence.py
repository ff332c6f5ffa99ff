# SPDX-License-Identifier: Apache-2.0
"""Evidence of writes: there exactly when the rows are."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.orm import Session, sessionmaker

from lacre import ConfigurationError, EvidenceUnavailable, Lacre
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Customer
from tests.sqlalchemy.raw import only

Recorded = Callable[..., list[dict[str, Any]]]


def written(recorded: Recorded) -> dict[str, int]:
    counts: dict[str, int] = {}
    for found in recorded("encrypt"):
        counts[found["column"]] = counts.get(found["column"], 0) + found["count"]
    return counts


def test_a_commit_records_what_it_wrote(session: Session, recorded: Recorded) -> None:
    """One event for each column of a flush, with its rows; nothing before the commit."""
    customers = [Customer(email=EMAIL), Customer(email=OTHER_EMAIL, cpf=CPF)]
    session.add_all(customers)
    session.flush()
    assert written(recorded) == {}
    session.commit()
    [emails] = recorded("encrypt", column="email")

    assert written(recorded) == {"email": 2, "cpf": 1}
    assert set(emails["rows"]) == {customer.id.hex for customer in customers}
    assert (emails["principal"], emails["purpose"]) == ("svc:app", "test")


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_what_does_not_commit_is_not_recorded(
    session: Session, recorded: Recorded, end: str
) -> None:
    """Rolled back or closed, a transaction leaves no event, also not in the next one."""
    session.add(Customer(email=EMAIL))
    session.flush()
    getattr(session, end)()
    assert not any(session.info["lacre_events"].values())
    session.add(Customer(cpf=CPF))
    session.commit()

    assert written(recorded) == {"cpf": 1}


def test_a_failed_flush_leaves_no_event(session: Session, recorded: Recorded) -> None:
    """A flush that the database refuses is not recorded, nor is what preceded it."""
    from lacre import DuplicateValue

    session.add(Customer(email=EMAIL))
    session.commit()
    session.add(Customer(account="1"))
    session.flush()
    session.add(Customer(email=EMAIL))
    with pytest.raises(DuplicateValue):
        session.flush()
    session.rollback()
    session.add(Customer(cpf=CPF))
    session.commit()

    assert written(recorded) == {"email": 1, "cpf": 1}


def test_a_savepoint_rolled_back_takes_its_own_events_only(
    session: Session, recorded: Recorded
) -> None:
    """What was written around it is recorded, what was written in it is not."""
    session.add(Customer(email=EMAIL))
    session.flush()
    with session.begin_nested() as savepoint:
        session.add(Customer(cpf=CPF))
        session.flush()
        savepoint.rollback()
    session.add(Customer(account="1"))
    session.commit()

    assert written(recorded) == {"email": 1, "account": 1}


def test_a_savepoint_released_commits_with_what_is_around_it(
    session: Session, recorded: Recorded
) -> None:
    """Releasing records nothing yet: the transaction may still roll back."""
    with session.begin_nested():
        session.add(Customer(email=EMAIL))
    session.flush()
    assert written(recorded) == {}
    session.rollback()
    assert written(recorded) == {}
    with session.begin_nested():
        session.add(Customer(email=EMAIL))
    session.commit()
    assert written(recorded) == {"email": 1}


def test_a_savepoint_within_a_savepoint(session: Session, recorded: Recorded) -> None:
    """An inner savepoint, released into an outer one that rolls back, is gone with it."""
    with session.begin_nested() as outer:
        with session.begin_nested():
            session.add(Customer(email=EMAIL))
        outer.rollback()
    with session.begin_nested(), session.begin_nested():
        session.add(Customer(cpf=CPF))
    session.commit()

    assert written(recorded) == {"cpf": 1}


def test_committing_with_an_open_savepoint(session: Session, recorded: Recorded) -> None:
    """`session.commit()` releases what is open, and records all of it once."""
    session.begin_nested()
    session.add(Customer(email=EMAIL))
    session.commit()

    assert written(recorded) == {"email": 1}


class Failing:
    def append(self, events: Any, connection: Any = None) -> None:
        raise OSError(28, "No space left on device")


def test_a_commit_that_cannot_be_recorded_does_not_happen(
    session: Session, engine: Engine, lacre: Lacre, recorded: Recorded
) -> None:
    """With the sink down nothing is written; the same commit, tried again, is recorded."""
    sink, lacre.recorder._sink = lacre.recorder._sink, Failing()
    session.add(Customer(email=EMAIL))
    with pytest.raises(EvidenceUnavailable):
        session.commit()
    assert only(engine, "SELECT count(*) FROM customers") == 0
    lacre.recorder._sink = sink
    session.commit()

    assert only(engine, "SELECT count(*) FROM customers") == 1
    assert written(recorded) == {"email": 1}


def test_what_another_listener_writes_at_the_commit_is_recorded(
    session: Session, recorded: Recorded
) -> None:
    """Values added by somebody else's `before_commit`, after ours, are recorded all the same."""

    def add(target: Session) -> None:
        if not target.info.get("added"):
            target.info["added"] = True
            target.add(Customer(cpf=CPF))

    event.listen(session, "before_commit", add)
    session.add(Customer(email=EMAIL))
    session.commit()

    assert written(recorded) == {"email": 1, "cpf": 1}


AUTOCOMMIT: dict[str, dict[str, Any]] = {
    "engine": {"isolation_level": "AUTOCOMMIT"},
    "execution option": {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
    "driver": {"connect_args": {"isolation_level": None}},
}


@pytest.mark.parametrize("how", AUTOCOMMIT)
def test_a_connection_without_transactions_is_not_written_on(
    lacre: Lacre, engine: Engine, acting: Acting, recorded: Recorded, how: str
) -> None:
    """In AUTOCOMMIT mode a rollback would leave the row and no event: the flush is refused, unsent."""
    options = AUTOCOMMIT[how]
    if how == "driver" and engine.dialect.name == "postgresql":
        options = {"connect_args": {"autocommit": True}}
    loose = create_engine(engine.url, **options)
    sessions = lacre.sqlalchemy(sessionmaker(loose))
    with acting("app"), sessions() as session:
        session.add(Customer(email=EMAIL))
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            session.flush()
        session.rollback()
    loose.dispose()

    assert only(engine, "SELECT count(*) FROM customers") == 0
    assert written(recorded) == {}


def test_a_session_that_turns_transactions_off_is_not_written_on(session: Session) -> None:
    """Also where the mode is asked for later, for one connection."""
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    session.add(Customer(email=EMAIL))

    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        session.flush()


def test_a_connection_without_transactions_is_read(
    session: Session, lacre: Lacre, engine: Engine, acting: Acting
) -> None:
    """Looks and searches need no transaction, nor does writing a column that is not encrypted."""
    session.add(Customer(email=EMAIL))
    session.commit()
    loose = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with acting("app"), lacre.sqlalchemy(sessionmaker(loose))() as reading:
        found = reading.scalars(select(Customer).where(Customer.email == EMAIL)).one()
        found.city = "y"
        reading.commit()

        assert (found.email, found.city) == (EMAIL, "y")
    loose.dispose()


def test_the_drivers_own_transactions_are_written_in(
    lacre: Lacre, engine: Engine, acting: Acting, recorded: Recorded
) -> None:
    """An engine without the savepoint recipe, where sqlite3 itself sends BEGIN, is written on."""
    usual = create_engine(engine.url)
    with acting("app"), lacre.sqlalchemy(sessionmaker(usual))() as session:
        session.add(Customer(email=EMAIL))
        session.commit()
    usual.dispose()

    assert written(recorded) == {"email": 1}
