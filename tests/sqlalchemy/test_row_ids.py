# SPDX-License-Identifier: Apache-2.0
"""Row ids that PostgreSQL generates: fetched from their sequence before the INSERT."""

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Identity, Integer, Sequence, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from lacre import BlindIndex, ConfigurationError
from lacre.sqlalchemy import encrypted
from tests.sqlalchemy.conftest import on_postgresql
from tests.sqlalchemy.raw import execute, only, rows

pytestmark = on_postgresql

KEYS = {
    "serial": lambda: mapped_column(primary_key=True),
    "identity": lambda: mapped_column(Identity(), primary_key=True),
    "sequence": lambda: mapped_column(Integer, Sequence("numbers"), primary_key=True),
}


def model_with(key: Any, **attributes: Any) -> Any:
    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[int] = key
        email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))
        locals().update(attributes)

    return Model


@pytest.fixture
def sent(engine: Engine) -> list[str]:
    statements: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def sending(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    return statements


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_fetched_in_one_query(
    session: Session, engine: Engine, sent: list[str], kind: str
) -> None:
    """A flush asks the sequence once, explicit keys stay, and every value opens in its row."""
    model = model_with(KEYS[kind]())
    model.metadata.create_all(engine)
    sent.clear()
    given = model(id=1000, email="given@example.org")
    session.add_all([given, *(model(email=f"{n}@example.org") for n in range(20))])
    session.commit()
    fetched = [statement for statement in sent if "nextval" in statement]
    session.expunge_all()
    found = session.scalars(select(model).order_by(model.id)).all()

    assert len(fetched) == 1
    assert [row.id for row in found] == [*range(1, 21), 1000]
    assert [row.email for row in found][:2] == ["0@example.org", "1@example.org"]
    assert session.scalars(select(model).where(model.email == "given@example.org")).one().id == 1000


def test_inheritance_and_keys_that_follow_others(session: Session, engine: Engine) -> None:
    """Parent and child of a joined inheritance share one key; a key that is a foreign key follows."""

    class Base(DeclarativeBase):
        pass

    class Party(Base):
        __tablename__ = "model_parties"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        phone: Mapped[str | None] = encrypted("pii")
        profile: Mapped["Profile | None"] = relationship(back_populates="party")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}  # noqa: RUF012

    class Person(Party):
        __tablename__ = "model_people"
        id: Mapped[int] = mapped_column(ForeignKey("model_parties.id"), primary_key=True)
        cpf: Mapped[str | None] = encrypted("pii")
        __mapper_args__ = {"polymorphic_identity": "person"}  # noqa: RUF012

    class Profile(Base):
        __tablename__ = "model_profiles"
        party_id: Mapped[int] = mapped_column(ForeignKey("model_parties.id"), primary_key=True)
        note: Mapped[str | None] = encrypted("pii")
        party: Mapped[Party] = relationship(back_populates="profile")

    Base.metadata.create_all(engine)
    session.add_all(
        [
            Person(phone="1", cpf="2", profile=Profile(note="3")),
            Party(phone="4"),
            Person(phone="5", cpf="6"),
        ]
    )
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Party).order_by(Party.id)).all()

    assert [row.phone for row in found] == ["1", "4", "5"]
    assert [row.cpf for row in session.scalars(select(Person).order_by(Person.id))] == ["2", "6"]
    assert [row.note for row in session.scalars(select(Profile))] == ["3"]


def test_an_object_added_while_flushing_gets_its_key(session: Session, engine: Engine) -> None:
    """A listener of the application's that runs after ours may add rows: each asks for itself."""
    model = model_with(KEYS["serial"]())
    model.metadata.create_all(engine)

    @event.listens_for(session, "before_flush")
    def adding(session: Session, *_: Any) -> None:
        session.add(model(email="late@example.org"))

    session.add(model(email="early@example.org"))
    session.commit()
    session.expunge_all()

    assert {row.email for row in session.scalars(select(model))} >= {
        "late@example.org",
        "early@example.org",
    }


@pytest.mark.parametrize("declared", [True, False])
def test_a_sequence_that_begins_again_is_refused(
    session: Session, engine: Engine, declared: bool
) -> None:
    """CYCLE gives a key twice: refused whether the model says so or only the server knows."""
    model = model_with(mapped_column(Identity(cycle=declared or None), primary_key=True))
    model.metadata.create_all(engine)
    if not declared:
        execute(engine, "ALTER SEQUENCE models_id_seq CYCLE")
    session.add(model(email="x@example.org"))
    with pytest.raises(ConfigurationError, match="CYCLE"):
        session.flush()
    session.rollback()

    assert only(engine, "SELECT count(*) FROM models") == 0


def test_a_key_the_server_insists_on_is_refused(session: Session, engine: Engine) -> None:
    """GENERATED ALWAYS takes no key that was fetched."""
    model = model_with(mapped_column(Identity(always=True), primary_key=True))
    model.metadata.create_all(engine)
    session.add(model(email="x@example.org"))

    with pytest.raises(ConfigurationError, match="GENERATED ALWAYS"):
        session.flush()


def test_a_key_without_a_sequence_is_refused(session: Session, engine: Engine) -> None:
    """A table that was made otherwise than the model says has no sequence to ask."""
    model = model_with(KEYS["serial"]())
    model.metadata.create_all(engine)
    execute(engine, "ALTER TABLE models ALTER id DROP DEFAULT")
    execute(engine, "DROP SEQUENCE models_id_seq")
    session.add(model(email="x@example.org"))

    with pytest.raises(ConfigurationError, match="no sequence") as raised:
        session.flush()
    assert "row_id()" in raised.value.hint


def test_a_sequence_set_back_does_not_reopen_a_deleted_row(
    session: Session, engine: Engine
) -> None:
    """After setval a key comes twice. The old ciphertext then opens in the new row: what row_id() is for."""
    model = model_with(KEYS["serial"]())
    model.metadata.create_all(engine)
    first = model(email="first@example.org")
    session.add(first)
    session.commit()
    old, key = only(engine, "SELECT email FROM models"), first.id
    session.delete(first)
    session.commit()
    session.execute(text("SELECT setval('models_id_seq', 1, false)"))
    session.add(model(email="second@example.org"))
    session.commit()
    execute(engine, "UPDATE models SET email = ?", old)
    session.expire_all()

    assert rows(engine, "SELECT id FROM models") == [(key,)]
    assert session.scalars(select(model)).one().email == "first@example.org"


def test_a_row_in_another_schema(session: Session, engine: Engine) -> None:
    """Sequences are found in the table's schema, and a duplicate there is told."""
    from lacre import DuplicateValue

    execute(engine, "DROP SCHEMA IF EXISTS elsewhere CASCADE")
    execute(engine, "CREATE SCHEMA elsewhere")
    model = model_with(KEYS["serial"](), __table_args__={"schema": "elsewhere"})
    model.metadata.create_all(engine)
    session.add(model(email="x@example.org"))
    session.commit()
    session.add(model(email="X@example.org"))
    with pytest.raises(DuplicateValue, match=r"models\.email"):
        session.flush()
    session.rollback()

    assert session.scalars(select(model)).one().email == "x@example.org"
