# SPDX-License-Identifier: Apache-2.0
"""SQLite's triggers that keep tokens: a table that lost them is not searched, until they are made anew."""

from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from lacre import ConfigurationError, Lacre
from lacre.sqlalchemy.attesting import attested_columns
from lacre.sqlalchemy.mapped import mappers_of
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


def make_anew(session: Session, refused: ConfigurationError) -> None:
    driver: Any = session.connection().connection.dbapi_connection
    driver.executescript(str(refused.hint).split("anew: ")[1])
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
    make_anew(citizens, refused.value)
    assert found(citizens) == ["Maria da Silva"]
    # A search names the triggers that it needs, and who writes needs those of every column.
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="lost the triggers") as refused:
            citizens.execute(update(Citizen).values(city="b"))
        make_anew(citizens, refused.value)
    citizens.add(Citizen(name="Ana Silveira", city="b"))
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


LOST = "DROP TRIGGER citizens_name_contains_bidx_delete"


@on_sqlite
def test_nothing_is_written_without_them(citizens: Session) -> None:
    """What is written would not be found, and what is deleted leaves its tokens: refused in every way of writing."""
    one = citizens.scalars(select(Citizen)).one()
    known = one.id
    run(citizens, LOST)

    def added() -> None:
        citizens.add(Citizen(name="Ana"))
        citizens.flush()

    def changed() -> None:
        citizens.get_one(Citizen, known).city = "b"
        citizens.flush()

    def deleted() -> None:
        citizens.delete(citizens.get_one(Citizen, known))
        citizens.flush()

    for write in (
        added,
        changed,
        deleted,
        lambda: citizens.execute(insert(Citizen), [{"name": "Ana"}]),
        lambda: citizens.execute(update(Citizen), [{"id": known, "name": "Ana"}]),
        lambda: citizens.execute(update(Citizen).values(city="b")),
        lambda: citizens.execute(delete(Citizen)),
        lambda: citizens.bulk_insert_mappings(Citizen.__mapper__, [{"name": "Ana"}]),
        lambda: citizens.bulk_update_mappings(Citizen.__mapper__, [{"id": known, "city": "b"}]),
    ):
        with pytest.raises(ConfigurationError, match="lost the triggers"):
            write()
        citizens.rollback()
    count = citizens.scalar(select(func.count()).select_from(Citizen))

    assert (count, citizens.get_one(Citizen, known).city) == (1, "a")


@on_sqlite
def test_readiness_says_which_are_lost(citizens: Session, lacre: Lacre, engine: Engine) -> None:
    """Given the models' engine; without it, and of another database, nothing is looked at."""
    assert lacre.ready(models=Citizen, database=engine)
    run(citizens, LOST)
    report = lacre.ready(models=Citizen, database=engine)

    assert not report
    assert [check.subject for check in report.checks if check.status == "fail"] == [
        "citizens.name_contains_bidx"
    ]
    assert "lost the triggers" not in str(report.to_json())
    assert lacre.ready(models=Citizen)
    with pytest.raises(ConfigurationError, match="engine"):
        lacre.ready(models=Citizen, database="sqlite://")


@on_sqlite
def test_an_attestation_compares_the_tables_of_tokens(
    citizens: Session, lacre: Lacre, sessions: sessionmaker[Session]
) -> None:
    """Tokens beside that are not the column's are counted, both ways; without triggers nothing is attested."""
    mappers = mappers_of(Citizen)

    def missing() -> int:
        columns = attested_columns(lacre, sessions, mappers, sample=1)
        [index] = [
            i for c in columns for i in c.indexes if (c.column, i.kind) == ("name", "contains")
        ]
        return index.missing

    assert missing() == 0
    run(citizens, "DELETE FROM citizens_name_contains_bidx WHERE lacre_token > 30000")
    assert missing() == 1
    run(citizens, "DELETE FROM citizens_name_contains_bidx")
    run(
        citizens,
        "INSERT INTO citizens_name_contains_bidx (lacre_token, id) VALUES (5, 'another row')",
    )
    assert missing() == 2
    run(citizens, LOST)
    with pytest.raises(ConfigurationError, match="lost the triggers"):
        missing()
