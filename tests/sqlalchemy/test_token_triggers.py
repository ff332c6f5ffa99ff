# SPDX-License-Identifier: Apache-2.0
"""SQLite's triggers that keep tokens: a table that lost them is not searched, until they are made anew."""

from typing import Any

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from lacre import ConfigurationError
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import Citizen


@pytest.fixture
def citizens(session: Session) -> Session:
    """One citizen."""
    session.add(Citizen(name="Maria da Silva", city="a"))
    session.commit()
    return session


def found(session: Session) -> list[str]:
    asked = select(Citizen).where(Citizen.name.contains("silv"))
    return [str(each.name) for each in session.scalars(asked)]


def run(session: Session, *statements: str) -> None:
    for statement in statements:
        session.connection().exec_driver_sql(statement)
    session.commit()


@on_sqlite
def test_a_table_that_was_copied_is_not_searched(citizens: Session) -> None:
    """Its triggers went with the old one: refused in every shape, until what the hint says was run."""
    assert found(citizens) == ["Maria da Silva"]
    run(
        citizens,
        "CREATE TABLE copied AS SELECT * FROM citizens",
        "DROP TABLE citizens",
        "ALTER TABLE copied RENAME TO citizens",
    )
    citizens.expunge_all()
    count = select(func.count()).select_from(Citizen).where(Citizen.name.contains("silv"))
    with pytest.raises(ConfigurationError, match="name_contains_bidx"):
        citizens.scalar(count)
    with pytest.raises(ConfigurationError, match="lost the triggers") as refused:
        found(citizens)
    citizens.add(Citizen(name="Ana Silveira", city="b"))
    citizens.commit()
    said = str(refused.value.hint).split("anew: ")[1]
    driver: Any = citizens.connection().connection.dbapi_connection
    driver.executescript(said)
    citizens.commit()

    assert sorted(found(citizens)) == ["Ana Silveira", "Maria da Silva"]


@on_sqlite
def test_a_trigger_that_was_changed_is_refused(citizens: Session) -> None:
    """One of that name that does something else keeps no tokens."""
    run(
        citizens,
        "DROP TRIGGER citizens_name_contains_bidx_update",
        "CREATE TRIGGER citizens_name_contains_bidx_update AFTER UPDATE ON citizens"
        " BEGIN SELECT 1; END",
    )
    with pytest.raises(ConfigurationError, match="lost the triggers"):
        found(citizens)


@on_sqlite
def test_the_triggers_are_read_once(citizens: Session) -> None:
    """While the structure stays as it is, a search asks for its version only; a renamed table keeps its own."""
    sent: list[str] = []
    found(citizens)
    event.listen(
        citizens.get_bind(), "before_cursor_execute", lambda *given: sent.append(str(given[2]))
    )
    found(citizens)

    assert [sql for sql in sent if "sqlite_master" in sql] == []
    run(citizens, "ALTER TABLE citizens ADD COLUMN more TEXT")
    assert found(citizens) == ["Maria da Silva"]
    assert [sql for sql in sent if "sqlite_master" in sql] != []
