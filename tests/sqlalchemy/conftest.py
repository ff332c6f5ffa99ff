# SPDX-License-Identifier: Apache-2.0
"""A database of the models, bound to the application in `home`, whose class pii has more roles."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.context import acting_as
from tests.components.postgresql import Database, Server
from tests.sqlalchemy.models import Base

Sessions = sessionmaker[Session]

# For what is about one of the two databases.
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
Acting = Callable[..., acting_as]

_ROLES = """[classes.pii]
rights.searcher = ["search"]
rights.writer = ["encrypt"]
rights.maskwriter = ["encrypt", "mask"]
"""


def one_each(statement: Any, *columns: Any) -> Any:
    """Return *statement* with DISTINCT ON the *columns*, as this version of SQLAlchemy has it."""
    if not hasattr(statement, "ext"):
        return statement.distinct(*columns)
    return statement.ext(postgresql.distinct_on(*columns))


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, where pii has roles that may do one thing only."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[classes.pii]\n", _ROLES), encoding="utf-8")
    return home


@pytest.fixture(scope="session")
def _made_tables(postgresql: Server) -> Iterator[Database]:
    """A PostgreSQL database with every table of the models, which the tests of a process share."""
    with postgresql.database() as database:
        engine = create_engine(database.url())
        Base.metadata.create_all(engine)
        engine.dispose()
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database with every table of the models, empty: once on SQLite, once on PostgreSQL."""
    if request.param == "sqlite":
        url = make_url(f"sqlite:///{tmp_path / 'application.db'}")
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        yield url
        return
    database: Database = request.getfixturevalue("_made_tables")
    yield database.url()
    _empty(database)


def _empty(database: Database) -> None:
    # A database of its own for each test would take longer than most tests.
    with database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        for (gid,) in connection.execute(prepared).fetchall():
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
        made = {table.name for table in Base.metadata.sorted_tables}
        for (table,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall():
            if table not in made:
                connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table)))
        connection.execute(
            ";".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
        )
        # What `raw.execute` turned off and on again; SQLAlchemy warns when it reflects such a one.
        unchecked = (
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE NOT convalidated"
        )
        for table, name in connection.execute(unchecked).fetchall():
            connection.execute(f'ALTER TABLE {table} VALIDATE CONSTRAINT "{name}"')


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """The database, with every table of the models."""
    engine = engine_of(url)
    yield engine
    engine.dispose()


def engine_of(url: URL, **options: Any) -> Engine:
    """Return an engine on *url* that knows savepoints."""
    engine = create_engine(url, **options)
    if url.get_backend_name() == "sqlite":
        # The driver's own transactions do not know savepoints; this is SQLAlchemy's recipe against it.
        @event.listens_for(engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begun(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

    return engine


@pytest.fixture
def sessions(lacre: Lacre, engine: Engine) -> Sessions:
    """The application's sessions."""
    return lacre.sqlalchemy(sessionmaker(engine))


@pytest.fixture
def acting(lacre: Lacre) -> Acting:
    """Act in a role: ``with acting("support"): ...``."""

    def act(role: str, principal: str = "svc:test", tenant: str | None = None) -> acting_as:
        return lacre.acting_as(principal, roles={role}, purpose="test", tenant=tenant)

    return act


@pytest.fixture
def session(sessions: Sessions, lacre: Lacre) -> Iterator[Session]:
    """A session, in which the role `app` acts."""
    with (
        lacre.acting_as("svc:app", roles={"app"}, purpose="test", across_yield=True),
        sessions() as session,
    ):
        yield session


@pytest.fixture
def recorded(lacre: Lacre, home: Path) -> Callable[..., list[dict[str, Any]]]:
    """Return what the audit log holds: ``recorded("look", column="email")``."""
    log = home / "lacre" / "audit.jsonl"

    def read(action: str, **wanted: str) -> list[dict[str, Any]]:
        lacre.recorder.flush()
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        events = [json.loads(line) for line in lines]
        return [
            event
            for event in events
            if event["action"] == action
            and all(event.get(key) == value for key, value in wanted.items())
        ]

    return read
