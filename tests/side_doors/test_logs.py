# SPDX-License-Identifier: Apache-2.0
"""Logs: the server's, with everything switched on, its statistics of statements, and SQLAlchemy's."""

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session, sessionmaker

from lacre import DuplicateValue, Lacre
from tests.components.postgresql import Server, postgresql_server
from tests.side_doors.conftest import CPF, EMAIL, Shop, act_of, clean, opened
from tests.sqlalchemy.models import Customer

_SAYS_EVERYTHING = {
    "shared_preload_libraries": "auto_explain,pg_stat_statements",
    "log_statement": "all",
    "log_min_messages": "info",
    "log_min_error_statement": "info",
    "log_error_verbosity": "verbose",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_verbose": "on",
    "auto_explain.log_nested_statements": "on",
    "pg_stat_statements.track": "all",
}


@pytest.fixture
def talkative() -> Iterator[Server]:
    """A server that logs statements, their parameters, their plans and their errors."""
    with postgresql_server(**_SAYS_EVERYTHING) as server:
        yield server


def work(shop: Shop) -> None:
    """Search, change, clear, collide, fail and delete, as an application does."""
    with shop.act(), shop.sessions() as session:
        customer = session.scalars(select(Customer).where(Customer.cpf == CPF)).one()
        assert session.scalars(select(Customer).where(Customer.name == "canary")).all() == [
            customer
        ]
        assert session.scalars(select(Customer).where(Customer.email.in_([EMAIL]))).all() == [
            customer
        ]
        customer.account = "canary-account-2"
        session.commit()
        session.add(Customer(email=EMAIL))
        with pytest.raises(DuplicateValue) as raised:
            session.commit()
        assert clean(str(raised.value))
        session.rollback()
        session.add(Customer(id=customer.id, account="canary-account-3"))
        with pytest.raises(IntegrityError) as failed, pytest.warns(Warning, match="identity"):
            session.flush()
        assert clean(str(failed.value))
        session.rollback()
        session.delete(session.scalars(select(Customer)).one())
        session.commit()


def test_the_server_s_log_and_statistics(talkative: Server, lacre: Lacre) -> None:
    """No log line, plan, parameter, error detail or statistic of the server holds a plaintext."""
    with talkative.database() as database:
        with database.connect() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        shop = opened(database, lacre)
        work(shop)
        shop.engine.dispose()
        with database.connect() as connection:
            rows = connection.execute("SELECT query FROM pg_stat_statements").fetchall()
        log, statements = talkative.log(), "\n".join(row[0] for row in rows)

    assert r"\xc101" in log
    assert "Query Text: INSERT INTO customers" in log
    assert "DETAIL:  parameters: $1 = " in log
    assert "INSERT INTO customers" in statements
    assert clean(log)
    assert clean(statements)


def test_what_sqlalchemy_logs(shop: Shop, lacre: Lacre, caplog: pytest.LogCaptureFixture) -> None:
    """`echo="debug"` prints statements, parameters and rows: of encrypted columns, nothing."""
    engine = create_engine(shop.database.url(), echo="debug", hide_parameters=False)
    caplog.set_level(logging.DEBUG)
    talking = Shop(
        database=shop.database,
        engine=engine,
        sessions=lacre.sqlalchemy(sessionmaker(engine)),
        act=shop.act,
        row=shop.row,
    )
    work(talking)
    engine.dispose()

    assert "INSERT INTO customers" in caplog.text
    assert "Row (" in caplog.text
    assert clean(caplog.text)


@pytest.mark.parametrize("hidden", [False, True])
def test_an_error_of_the_driver(shop: Shop, lacre: Lacre, hidden: bool) -> None:
    """What SQLAlchemy makes of a driver's error quotes no value, with `hide_parameters` and without."""
    engine: Engine = create_engine(shop.database.url(), hide_parameters=hidden)
    sessions: sessionmaker[Session] = lacre.sqlalchemy(sessionmaker(engine))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE customers ADD CHECK (city IS NULL) NOT VALID")
    with act_of(lacre)(), sessions() as session:
        session.add(Customer(email="canary-2@example.org", account="canary-account-2", city="x"))
        with pytest.raises(StatementError) as raised:
            session.commit()
    engine.dispose()

    assert clean(str(raised.value))
    assert clean(repr(raised.value.params))
