# SPDX-License-Identifier: Apache-2.0
"""A canary, written, looked at and searched for, appears nowhere it should not."""

import logging
import pickle
import traceback
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql import visitors

from lacre import Lacre, LacreError
from tests.sqlalchemy.models import Base, Customer, Versioned
from tests.sqlalchemy.raw import execute

CANARY, ANOTHER = "canary.secret@example.org", "canary.other@example.org"
LOCAL = "canary"


def shown(error: BaseException) -> str:
    """Everything an error report prints, with the hidden context too."""
    texts = ["".join(traceback.format_exception(error)), repr(error), str(error)]
    texts += [str(getattr(error, "hint", "")), repr(error.args)]
    context = error.__context__
    while context is not None:
        texts += [str(context), repr(context), repr(getattr(context, "params", ""))]
        context = context.__context__
    return "\n".join(line for line in "\n".join(texts).splitlines() if "CANARY" not in line)


def test_no_trace_of_values_written_looked_at_and_searched(
    lacre: Lacre, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, acting: Any
) -> None:
    """Not in the SQL log, a repr, a pickle, the audit log, nor in the database file and its journal."""
    engine = create_engine(f"sqlite:///{tmp_path / 'echoed.db'}", echo="debug")
    Base.metadata.create_all(engine)
    sent: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def sending(*arguments: Any) -> None:
        parameters = arguments[3]
        sent.append(repr([bytes(p) if isinstance(p, memoryview) else p for p in parameters]))

    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with caplog.at_level(logging.DEBUG), acting("app"), sessions() as session:
        customer = Customer(email=CANARY, name=CANARY, account=CANARY)
        session.add(customer)
        printed = [repr(customer), repr(customer.__dict__)]
        session.commit()
        assert customer.email == CANARY
        by_email, by_name = Customer.email == CANARY, Customer.name == CANARY
        found = session.scalars(select(Customer).where(by_email, by_name)).one()
        printed += [repr(found.__dict__), str(select(Customer).where(by_email)), repr(by_email)]
        printed += [repr(part) for part in visitors.iterate(by_email)]
        printed += [repr(by_name.right), repr(by_name.right.__class__)]
        session.execute(update(Customer).where(by_email).values(city="x"))
        session.commit()
        session.refresh(found)
        pickled = pickle.dumps(found)
    engine.dispose()
    lacre.recorder.flush()

    assert sent
    for text in [*printed, *sent, caplog.text, (home / "lacre/audit.jsonl").read_text()]:
        assert LOCAL not in text
    assert LOCAL.encode() not in pickled
    for file in tmp_path.glob("echoed.db*"):
        assert LOCAL.encode() not in file.read_bytes()


def _duplicate(session: Session) -> None:
    session.add(Customer(email=CANARY))
    session.flush()


def _null_in_the_row(session: Session) -> None:
    session.add(Versioned(email=CANARY, version=1, city="x"))
    session.flush()
    execute_in(session, "CREATE UNIQUE INDEX cities ON versioned (city)")
    session.add(Versioned(email=CANARY, version=1, city="x"))
    session.flush()


def execute_in(session: Session, text: str) -> None:
    session.connection().exec_driver_sql(text)


def _wrong_cpf(session: Session) -> None:
    session.add(Customer(cpf=CANARY))
    session.flush()


def _wrong_search(session: Session) -> None:
    session.scalars(select(Customer).where(Customer.cpf == CANARY)).all()


def _core(session: Session) -> None:
    session.connection().execute(Customer.__table__.insert().values(id=uuid4(), email=CANARY))  # type: ignore[attr-defined]


def _bulk(session: Session) -> None:
    session.execute(update(Customer).values(email=CANARY))


def _wrong_type(session: Session) -> None:
    session.add(Customer(email=[CANARY]))
    session.flush()


def _broken_table(session: Session) -> None:
    execute_in(session, "ALTER TABLE customers RENAME TO elsewhere")
    session.scalars(select(Customer).where(Customer.email == CANARY)).all()


@pytest.mark.parametrize(
    "fail",
    [
        _duplicate,
        _null_in_the_row,
        _wrong_cpf,
        _wrong_search,
        _core,
        _bulk,
        _wrong_type,
        _broken_table,
    ],
)
def test_no_error_quotes_a_value(session: Session, fail: Any) -> None:
    """Neither lacre's errors nor SQLAlchemy's, with the parameters they carry, hold the canary."""
    session.add(Customer(email=CANARY))
    session.commit()
    with pytest.raises(Exception) as raised:
        fail(session)

    assert isinstance(raised.value, LacreError | Exception)
    assert LOCAL not in shown(raised.value)


def test_planted_plaintext_is_not_quoted(session: Session, engine: Engine) -> None:
    """What somebody planted is in no error, repr or pickle either."""
    customer = Customer(email="x@example.org")
    session.add(customer)
    session.commit()
    execute(engine, "UPDATE customers SET email = ?", CANARY)
    session.refresh(customer)
    with pytest.raises(LacreError) as looked:
        customer.email
    with pytest.raises(LacreError) as pickled:
        pickle.dumps(customer)

    assert LOCAL not in shown(looked.value) + shown(pickled.value) + repr(customer.__dict__)


def test_integrity_errors_of_other_columns_pass_through(session: Session) -> None:
    """An error that is not about a blind index stays SQLAlchemy's own."""
    execute_in(session, "CREATE UNIQUE INDEX cities ON customers (city)")
    session.add_all([Customer(email=CANARY, city="x"), Customer(city="x")])
    with pytest.raises(IntegrityError) as raised:
        session.flush()

    assert LOCAL not in shown(raised.value)
