# SPDX-License-Identifier: Apache-2.0
"""A database of the models, bound to the application in `home`, whose class pii has more roles."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.context import acting_as
from tests.sqlalchemy.models import Base

Sessions = sessionmaker[Session]
Acting = Callable[..., acting_as]

_ROLES = """[classes.pii]
rights.searcher = ["search"]
rights.writer = ["encrypt"]
rights.maskwriter = ["encrypt", "mask"]
"""


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, where pii has roles that may do one thing only."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[classes.pii]\n", _ROLES), encoding="utf-8")
    return home


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The database, with every table of the models."""
    engine = create_engine(f"sqlite:///{tmp_path / 'application.db'}")

    # The driver's own transactions do not know savepoints; this is SQLAlchemy's recipe against it.
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


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
