# SPDX-License-Identifier: Apache-2.0
"""Evidence of writes in an outbox: there exactly when the rows are, because one transaction holds both."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import URL, Engine, insert, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from lacre import ConfigurationError, Lacre
from lacre.audit.entries import Entry
from lacre.sqlalchemy import outbox_table
from lacre.stores.log.outbox import outbox_statements
from lacre.stores.log.schema import OUTBOX
from tests.components.postgresql import Database
from tests.sqlalchemy.conftest import engine_of, on_postgresql
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Customer
from tests.sqlalchemy.raw import only

Recorded = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, whose store `main` has an outbox."""
    with (home / "lacre.toml").open("a", encoding="utf-8") as config:
        config.write('\n[audit.outboxes]\nmain = "sqlite:///read-by-the-sequencer.db"\n')
    return home


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """The database, with an outbox."""
    engine = engine_of(url)
    OUTBOX.create(engine)
    yield engine
    engine.dispose()


def entries(engine: Engine) -> list[Entry]:
    """What waits in the outbox."""
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(OUTBOX.c.id, OUTBOX.c.entry).order_by(OUTBOX.c.position)
        )
        read = [(bytes(id_), Entry.read(bytes(entry))) for id_, entry in found]
    assert all(id_.hex() == entry.id for id_, entry in read)
    return [entry for _, entry in read]


def counts(engine: Engine) -> dict[str, int]:
    """How many values of each column the outbox says were encrypted."""
    made: dict[str, int] = {}
    for entry in entries(engine):
        made[entry.members["column"]] = (
            made.get(entry.members["column"], 0) + entry.members["count"]
        )
    return made


def test_a_write_is_recorded_in_its_own_transaction(
    session: Session, engine: Engine, recorded: Recorded
) -> None:
    """Committed with the row, and nowhere else; without a writer's number, which a rollback would leave a gap in."""
    customer = Customer(email=EMAIL, cpf=CPF)
    session.add(customer)
    session.flush()
    assert entries(engine) == []
    session.commit()
    [email] = [each for each in entries(engine) if each.members["column"] == "email"]

    assert counts(engine) == {"email": 1, "cpf": 1}
    assert email.members["rows"] == [customer.id.hex]
    assert (email.members["principal"], email.members["action"]) == ("svc:app", "encrypt")
    assert not email.members.keys() & {"writer", "number"}
    assert recorded("encrypt") == []


def test_rollbacks_and_savepoints_are_followed(session: Session, engine: Engine) -> None:
    """What a savepoint or a transaction takes back, its evidence goes with; what it leaves, it leaves."""
    session.add(Customer(account="1"))
    session.flush()
    session.rollback()
    session.add(Customer(email=EMAIL))
    with session.begin_nested() as savepoint:
        session.add(Customer(cpf=CPF))
        session.flush()
        savepoint.rollback()
    with session.begin_nested():
        session.add(Customer(email=OTHER_EMAIL))
    session.commit()

    assert counts(engine) == {"email": 2}


def test_updates_nulls_and_bulk_statements_too(session: Session, engine: Engine) -> None:
    """Whatever way a session writes by, its evidence is put beside."""
    customer = Customer(email=EMAIL, cpf=CPF)
    session.add(customer)
    session.commit()
    customer.cpf = None
    session.commit()
    session.execute(insert(Customer), [{"email": OTHER_EMAIL}, {"account": "2"}])
    session.execute(update(Customer), [{"id": customer.id, "account": "1"}])
    session.commit()

    assert counts(engine) == {"email": 2, "cpf": 2, "account": 2}


def test_a_transaction_of_somebody_elses_decides(lacre: Lacre, engine: Engine) -> None:
    """A session that joins a connection's transaction: rows and evidence wait for its commit, also without the session's."""
    with (
        lacre.acting_as("svc:app", roles={"app"}, purpose="test"),
        engine.connect() as connection,
    ):
        with (
            connection.begin() as outer,
            lacre.sqlalchemy(sessionmaker())(bind=connection) as session,
        ):
            session.add(Customer(email=EMAIL))
            session.flush()
            outer.rollback()
        with connection.begin(), lacre.sqlalchemy(sessionmaker())(bind=connection) as session:
            session.add(Customer(cpf=CPF))
            session.flush()
            connection.commit()

    assert counts(engine) == {"cpf": 1}


def test_a_recorder_that_is_down_stops_no_write(
    session: Session, engine: Engine, lacre: Lacre
) -> None:
    """The evidence has its place: the log catches up when it is back."""

    class Failing:
        def append(self, events: Any) -> None:
            raise OSError(28, "No space left on device")

    sink, lacre.recorder._sink = lacre.recorder._sink, Failing()
    session.add(Customer(email=EMAIL))
    session.commit()
    lacre.recorder._sink = sink

    assert counts(engine) == {"email": 1}


def test_without_its_table_nothing_is_written(session: Session, engine: Engine) -> None:
    """One clear error, before the INSERT, and no broken transaction."""
    OUTBOX.drop(engine)
    session.add(Customer(email=EMAIL))
    with pytest.raises(ConfigurationError, match="lacre_outbox") as caught:
        session.flush()
    assert "lacre audit outbox" in caught.value.hint
    session.rollback()
    assert only(engine, "SELECT count(*) FROM customers") == 0
    OUTBOX.create(engine)
    session.add(Customer(email=EMAIL))
    session.commit()

    assert counts(engine) == {"email": 1}


@on_postgresql
def test_the_least_rights_are_enough(lacre: Lacre, engine: Engine) -> None:
    """The application inserts and reads nothing, the sequencer reads and deletes, and without the right there is no write."""
    OUTBOX.drop(engine)
    roles = {"application": "outbox_app", "sequencer": "outbox_sequencer"}
    with engine.begin() as connection:
        for role in roles.values():
            connection.exec_driver_sql(f"CREATE ROLE {role}")
        connection.exec_driver_sql("GRANT SELECT, INSERT ON customers TO outbox_app")
        for statement in outbox_statements(engine.dialect):
            connection.exec_driver_sql(statement)
    sessions = lacre.sqlalchemy(sessionmaker(engine))

    def write() -> None:
        with (
            lacre.acting_as("svc:app", roles={"app"}, purpose="test"),
            sessions.begin() as session,
        ):
            session.execute(sa.text("SET LOCAL ROLE outbox_app"))
            session.add(Customer(email=EMAIL))

    try:
        with pytest.raises(ConfigurationError, match="cannot insert") as caught:
            write()
        assert caught.value.__cause__ is None
        with engine.begin() as connection:
            for statement in outbox_statements(engine.dialect, **roles):
                connection.exec_driver_sql(statement)
        write()
        for role, what in [("outbox_app", "SELECT id"), ("outbox_app", "DELETE")]:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
                with pytest.raises(sa.exc.ProgrammingError):
                    connection.exec_driver_sql(f"{what} FROM lacre_outbox")
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL ROLE outbox_sequencer")
            taken = connection.exec_driver_sql("DELETE FROM lacre_outbox RETURNING id").all()
    finally:
        with engine.begin() as connection:
            for role in roles.values():
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")

    assert len(taken) == 1


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg", "aiosqlite"])
def test_on_an_event_loop(
    lacre: Lacre, request: pytest.FixtureRequest, tmp_path: Path, driver: str
) -> None:
    """The same rows of the outbox, by every driver: one implementation."""
    options: dict[str, Any] = {}
    if driver == "aiosqlite":
        url: Any = f"sqlite+aiosqlite:///{tmp_path / 'async.db'}"
    else:
        database: Database = request.getfixturevalue("database")
        url = database.url(driver)
        if driver == "asyncpg":
            options["connect_args"] = database.server.tls()
    metadata = sa.MetaData()
    Customer.__table__.to_metadata(metadata)  # type: ignore[attr-defined]
    outbox_table(metadata)

    async def run() -> list[Any]:
        engine = create_async_engine(url, **options)
        sessions = lacre.sqlalchemy(async_sessionmaker(engine))
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            async with sessions() as session:
                session.add(Customer(email=EMAIL, cpf=CPF))
                await session.flush()
                await session.rollback()
                session.add(Customer(email=OTHER_EMAIL))
                await session.commit()
        async with engine.connect() as connection:
            found = (await connection.execute(sa.select(OUTBOX.c.entry))).scalars().all()
        await engine.dispose()
        return [json.loads(bytes(entry)) for entry in found]

    found = asyncio.run(run())

    assert [(each["column"], each["count"]) for each in found] == [("email", 1)]
