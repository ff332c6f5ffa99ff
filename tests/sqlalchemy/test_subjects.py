# SPDX-License-Identifier: Apache-2.0
"""Models whose values are of subjects: each under its subject's key, through every way of writing and reading."""

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, create_engine, insert, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from lacre import Lacre
from lacre.audit.entries import Entry
from lacre.audit.honeytokens import SUBJECT, Marks, Planted, mark, touched
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    MisuseError,
    Tampered,
    UnsupportedQuery,
)
from lacre.keys.hierarchy import KeyKind, KeyState, subject_digest
from lacre.sqlalchemy import BlindIndex, encrypted, row_id
from tests.components.postgresql import Database

ANA, RUI = UUID(int=0xA), UUID(int=0xB)


class Base(DeclarativeBase):
    pass


class About:
    """A mixin whose column is about the row's own id."""

    note: Mapped[str | None] = encrypted("pii", subject="id")


class User(About, Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf", unique=True), subject="id")
    name: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", bits=8), subject="id")
    account: Mapped[str | None] = encrypted("banking", subject="id")
    shared: Mapped[str | None] = encrypted("pii")
    visits: Mapped[list["Visit"]] = relationship(back_populates="user")


class Visit(Base):
    """About another row's id, which a relationship fills in, and told apart by a row id."""

    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    what: Mapped[str | None] = encrypted("pii", subject="user_id")
    user: Mapped[User | None] = relationship(back_populates="visits")


class Party(Base):
    __tablename__ = "parties"
    __lacre_tenant__ = "tenant"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    number: Mapped[int | None]
    kind: Mapped[str]
    phone: Mapped[str | None] = encrypted("pii", subject="number")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}  # noqa: RUF012


class Person(Party):
    __tablename__ = "persons"
    id: Mapped[UUID] = mapped_column(ForeignKey("parties.id"), primary_key=True)
    email: Mapped[str | None] = encrypted("pii", subject="number")
    __mapper_args__ = {"polymorphic_identity": "person"}  # noqa: RUF012


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[sa.Engine]:
    """An empty database of the models."""
    if request.param == "sqlite":
        made = create_engine(f"sqlite:///{tmp_path / 'application.db'}")
    else:
        database: Database = request.getfixturevalue("database")
        made = create_engine(database.url())
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def sessions(lacre: Lacre, engine: sa.Engine) -> Iterator[sessionmaker[Session]]:
    """Sessions of the application, with somebody acting."""
    with lacre.acting_as("svc", roles={"app"}, purpose="test", across_yield=True):
        yield lacre.sqlalchemy(sessionmaker(engine))


def key_ids(engine: sa.Engine, table: str, column: str) -> list[bytes]:
    """The key that each stored value names."""
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        )
        return [bytes(value)[3:19] for (value,) in found]


def key_queries(lacre: Lacre) -> list[str]:
    counted: list[str] = []
    engine = lacre.store._database.engine  # type: ignore[attr-defined]
    sa.event.listen(
        engine,
        "before_cursor_execute",
        lambda *given: counted.append(given[2]) if "lacre_key" in given[2] or "lacre_subject" in given[2] else None,
    )  # fmt: skip
    return counted


def shred(lacre: Lacre, subject: Any, tenant: str = "default") -> None:
    """What shredding does to the key store, without its ceremony; nothing is cached after it."""
    text = subject.hex if isinstance(subject, UUID) else str(subject)
    digest = subject_digest(lacre.scope(tenant, "pii"), text)
    store: Any = lacre.store
    for row in [each for each in store.contents().keys if each.digest == digest]:
        store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="later"))])
    with store._database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE lacre_subject SET pseudonym = NULL, shredded = 'later' WHERE digest = ?", (digest,))  # fmt: skip
    lacre.resolver.forget()


def two(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add_all(
            [
                User(id=ANA, cpf="529.982.247-25", name="Ana", account="1", note="n", shared="s"),
                User(id=RUI, cpf="111.444.777-35", name="Rui", account="2", note="m"),
            ]
        )


def test_each_value_is_under_its_subjects_key(
    lacre: Lacre, engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """One key for a subject's columns of one class, another for each subject and class; what has no subject keeps the class's."""
    two(sessions)
    with sessions() as session:
        ana = session.get_one(User, ANA)
        assert (ana.cpf, ana.name, ana.account, ana.note, ana.shared) == ("529.982.247-25", "Ana", "1", "n", "s")  # fmt: skip

    by_column = {
        name: key_ids(engine, "users", name) for name in ("cpf", "name", "note", "account")
    }
    assert len({*by_column["cpf"]}) == 2
    assert {*by_column["cpf"]} == {*by_column["name"]} == {*by_column["note"]}
    assert len({*by_column["account"]}) == 2
    assert not {*by_column["account"]} & {*by_column["cpf"]}
    assert key_ids(engine, "users", "shared") == [lacre.resolver.to_encrypt(_data(lacre)).key_id]


def _data(lacre: Lacre) -> Any:
    from lacre.keys.resolver import ScopeHandle

    return ScopeHandle(lacre.scope("default", "pii"))


def test_values_are_found_and_selected(sessions: sessionmaker[Session]) -> None:
    """By exact and re-checked indexes, which stay the class's; as attributes and as objects."""
    two(sessions)
    with sessions() as session:
        assert session.scalars(select(User).where(User.cpf == "52998224725")).one().id == ANA
        assert session.scalars(select(User.id).where(User.name == "Rui")).all() == [RUI]
        rows = session.execute(select(User.id, User.name, User.account).order_by(User.id)).all()
        assert [tuple(row) for row in rows] == [(ANA, "Ana", "1"), (RUI, "Rui", "2")]


def test_a_page_of_subjects_takes_one_key_query_a_class(
    lacre: Lacre, sessions: sessionmaker[Session]
) -> None:
    """500 rows of 500 subjects: written with keys made together, read with one query for each class, however they are read."""
    counted = key_queries(lacre)
    with sessions.begin() as session:
        session.add_all([User(cpf=None, name=str(n), account="1", note="x") for n in range(500)])
    written = len(counted)
    assert written < 80

    for read in (
        lambda session: [(u.name, u.note, u.account) for u in session.scalars(select(User))],
        lambda session: [tuple(row) for row in session.execute(select(User.name, User.note, User.account))],
        lambda session: [(u.name, u.note, u.account) for u in session.scalars(select(User).execution_options(yield_per=250))],
    ):  # fmt: skip
        lacre.resolver.forget()
        counted.clear()
        with sessions() as session:
            found = read(session)
        assert sorted(found) == sorted((str(n), "x", "1") for n in range(500))
        # By class and chunk the keys, and the two branch keys above them.
        assert len([text for text in counted if "lacre_subject" in text]) <= 4
        assert len(counted) <= 8


def test_a_relationship_says_whom_it_is_about(
    engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """A foreign key that the flush fills in; both rows are under the one subject's key, and load together."""
    with sessions.begin() as session:
        user = User(name="Ana", visits=[Visit(what="a"), Visit(what="b")])
        session.add(user)

    assert len({*key_ids(engine, "visits", "what"), *key_ids(engine, "users", "name")}) == 1
    with sessions() as session:
        [user] = session.scalars(select(User).options(selectinload(User.visits)))
        assert sorted(visit.what or "" for visit in user.visits) == ["a", "b"]


def test_without_a_subject_no_value_is_written(sessions: sessionmaker[Session]) -> None:
    """NULL needs none; a value does, in an object and in bulk, when it is made and when it is changed."""
    with sessions.begin() as session:
        session.add(Visit(what=None, user_id=None))
    with sessions() as session:
        session.add(Visit(what="x"))
        with pytest.raises(MisuseError, match="user_id is NULL"):
            session.flush()
        session.rollback()
        with pytest.raises(MisuseError, match="user_id is NULL"):
            session.execute(insert(Visit), [{"what": "x"}])
        session.rollback()
        [visit] = session.scalars(select(Visit))
        visit.what = "x"
        with pytest.raises(MisuseError, match="user_id is NULL"):
            session.flush()
        session.rollback()
        with pytest.raises(MisuseError, match="user_id is NULL"):
            session.execute(update(Visit), [{"id": visit.id, "what": "x"}])


def test_another_subject_takes_the_value_along(
    engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """Assigned, the attribute moves what the row holds under the new subject's key; with a new value too; and NULL refuses."""
    two(sessions)
    with sessions.begin() as session:
        session.add(Visit(what="x", user_id=ANA))
    [before] = key_ids(engine, "visits", "what")
    with sessions.begin() as session:
        [visit] = session.scalars(select(Visit))
        visit.user_id = RUI
    [after] = key_ids(engine, "visits", "what")
    assert after != before
    with sessions.begin() as session:
        [visit] = session.scalars(select(Visit))
        assert visit.what == "x"
        session.expire(visit)
        visit.user_id, visit.what = ANA, "y"
    assert key_ids(engine, "visits", "what") == [before]
    with sessions() as session:
        [visit] = session.scalars(select(Visit))
        assert visit.what == "y"
        visit.user_id = None
        with pytest.raises(MisuseError, match="user_id is NULL"):
            session.flush()
        session.rollback()
        visit.user_id = visit.what = None
        session.commit()
    assert key_ids(engine, "visits", "what") == []


def test_a_primary_key_that_changes_is_another_subject(
    engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """Every value is moved under the key of the new id, once."""
    with sessions.begin() as session:
        session.add(User(id=ANA, name="Ana", note="n"))
    before = {*key_ids(engine, "users", "name"), *key_ids(engine, "users", "note")}
    with sessions.begin() as session:
        session.get_one(User, ANA).id = RUI
    after = {*key_ids(engine, "users", "name"), *key_ids(engine, "users", "note")}

    assert len(before) == len(after) == 1
    assert before != after
    with sessions() as session:
        found = session.get_one(User, RUI)
        assert (found.name, found.note) == ("Ana", "n")


def test_what_is_there_already_stays(engine: sa.Engine, sessions: sessionmaker[Session]) -> None:
    """Assigning an equal value writes nothing; a rolled-back object is written again; a merged one too."""
    two(sessions)
    with engine.connect() as connection:
        before = connection.execute(sa.text("SELECT name, cpf FROM users ORDER BY id")).all()
    with sessions.begin() as session:
        session.get_one(User, ANA).name = "Ana"
        session.merge(User(id=RUI, name="Rui"))
    with engine.connect() as connection:
        assert (
            connection.execute(sa.text("SELECT name, cpf FROM users ORDER BY id")).all() == before
        )
    with sessions() as session:
        user = User(name="Eva")
        session.add(user)
        session.flush()
        session.rollback()
        session.add(user)
        session.commit()
        assert user.name == "Eva"


def test_bulk_writes_know_their_subjects(
    lacre: Lacre, engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """A thousand rows in few key statements; updates re-seal, leave alone what is there, and move nobody."""
    counted = key_queries(lacre)
    with sessions.begin() as session:
        session.execute(insert(User), [{"name": str(n), "note": "x"} for n in range(1000)])
    assert len({*key_ids(engine, "users", "name")}) == 1000
    assert len(counted) < 80
    two(sessions)
    with sessions.begin() as session:
        session.execute(insert(Visit), [{"user_id": ANA, "what": "a"}, {"user_id": None, "what": None}])  # fmt: skip
        first = session.scalars(select(Visit.id).where(Visit.user_id == ANA)).one()
        session.execute(update(Visit), [{"id": first, "what": "b"}])
        session.execute(update(Visit), [{"id": first, "user_id": ANA, "what": "b"}])
        assert session.scalars(select(Visit.what).where(Visit.id == first)).one() == "b"
        for row in ({"id": first, "user_id": RUI}, {"id": first, "user_id": None}, {"id": first, "user_id": RUI, "what": "c"}):  # fmt: skip
            with pytest.raises(UnsupportedQuery):
                session.execute(update(Visit), [row])
        with pytest.raises(UnsupportedQuery):
            session.execute(update(Visit).values(user_id=RUI))
        session.bulk_insert_mappings(sa.inspect(Visit), [{"user_id": RUI, "what": "d"}])
        assert sorted(filter(None, session.scalars(select(Visit.what)))) == ["b", "d"]


def test_another_subjects_value_does_not_open(
    engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """A row whose subject somebody changed by SQL: one error, in every way of reading."""
    two(sessions)
    with sessions.begin() as session:
        session.add(Visit(what="x", user_id=ANA))
        session.add(Visit(what="y", user_id=RUI))
    with engine.begin() as connection:
        connection.execute(sa.update(Visit.__table__).values(user_id=RUI))
    with sessions() as session:
        wrong = session.scalars(select(Visit).order_by(Visit.id)).all()[0]
        with pytest.raises(Tampered):
            _ = wrong.what
        with pytest.raises(Tampered):
            session.execute(select(Visit.what).order_by(Visit.id)).all()


def test_a_shredded_subject_stays_gone(lacre: Lacre, sessions: sessionmaker[Session]) -> None:
    """Not read, not written by an object or in bulk; the others are."""
    two(sessions)
    with sessions.begin() as session:
        session.add(Visit(what="x", user_id=ANA))
    shred(lacre, ANA)
    with sessions() as session:
        ana, rui = session.get_one(User, ANA), session.get_one(User, RUI)
        for attribute in ("name", "cpf", "account"):
            with pytest.raises(KeyDestroyed):
                getattr(ana, attribute)
        assert rui.name == "Rui"
        assert ana.shared == "s"
        session.add(Visit(what="y", user_id=ANA))
        with pytest.raises(KeyDestroyed):
            session.flush()
        session.rollback()
        with pytest.raises(KeyDestroyed):
            session.execute(insert(Visit), [{"user_id": ANA, "what": "z"}])
        session.rollback()
        session.get_one(User, ANA).name = None
        session.commit()


def test_tenants_inheritance_and_numbers(
    lacre: Lacre, operator: Lacre, engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """A subject named by an inherited integer: two tenants' number 7 are two subjects, a child's columns are with its parent's."""
    with operator.acting_as("operator", roles={"operator"}, purpose="test"):
        operator.create_keys("acme", "pii")
    with sessions.begin() as session:
        session.add(Person(tenant="default", number=7, phone="1", email="a"))
        session.add(Person(tenant="acme", number=7, phone="2", email="b"))
        session.add(Party(tenant="acme", number=7, phone="3"))
    phones, emails = key_ids(engine, "parties", "phone"), key_ids(engine, "persons", "email")
    assert len({*phones}) == 2
    assert {*emails} == {*phones}
    lacre.resolver.forget()
    counted = key_queries(lacre)
    with sessions() as session:
        people = session.scalars(select(Party).order_by(Party.tenant, Party.kind)).all()
        told = [(p.phone, getattr(p, "email", None)) for p in people]

    assert told == [("3", None), ("2", "b"), ("1", "a")]
    # Each tenant's and one that nobody's row names: as it is for every class.
    assert len([text for text in counted if "lacre_subject" in text]) <= 3


def test_an_object_is_kept_and_comes_back(lacre: Lacre, sessions: sessionmaker[Session]) -> None:
    """Detached, expunged or pickled, it knows whom it is about."""
    two(sessions)
    with sessions() as session:
        user = session.get_one(User, ANA)
        copy = pickle.loads(pickle.dumps(user))
    assert user.name == "Ana"
    with sessions() as session:
        session.add(copy)
        assert copy.name == "Ana"


def test_an_async_session_does_no_io_at_a_look(
    lacre: Lacre, engine: sa.Engine, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    """Written, read, refused and prepared anew inside awaited calls only."""
    if engine.dialect.name == "sqlite":
        awaiting = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'application.db'}")
    else:
        database: Database = request.getfixturevalue("database")
        awaiting = create_async_engine(database.url("asyncpg"), connect_args=database.server.tls())

    async def run() -> None:
        Sessions = lacre.sqlalchemy(async_sessionmaker(awaiting, expire_on_commit=False))
        with lacre.acting_as("svc", roles={"app"}, purpose="test"):
            async with Sessions.begin() as session:
                session.add_all([User(id=ANA, name="Ana", account="1"), User(id=RUI, name="Rui")])
            async with Sessions() as session:
                session.add(Visit(what="x", user_id=ANA))
                await session.commit()
                lacre.resolver.forget()
                users = (await session.scalars(select(User).order_by(User.id))).all()
                assert [user.name for user in users] == ["Ana", "Rui"]
                assert users[0].account == "1"
                [visit] = (await session.scalars(select(Visit))).all()
                lacre.resolver.forget()
                with pytest.raises(Exception, match="is not held any more"):
                    _ = visit.what
                await lacre.prepare([visit, *users])
                assert (visit.what, users[1].name) == ("x", "Rui")
                async with awaiting.begin() as connection:
                    await connection.execute(sa.update(Visit.__table__).values(user_id=RUI))
                await session.refresh(visit)
                with pytest.raises(Tampered):
                    _ = visit.what
                shred(lacre, RUI)
                await session.refresh(users[1])
                with pytest.raises(KeyDestroyed):
                    _ = users[1].name
                users[1].name = "back"
                with pytest.raises(KeyDestroyed):
                    await session.flush()
        await awaiting.dispose()

    asyncio.run(run())


def test_threads_that_insert_for_one_new_subject(
    lacre: Lacre, engine: sa.Engine, sessions: sessionmaker[Session]
) -> None:
    """Six sessions that make a subject's first key at once: one key, and every value opens."""
    start = threading.Barrier(6)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            start.wait()
            with lacre.acting_as("svc", roles={"app"}, purpose="test"), sessions.begin() as session:
                session.execute(insert(Party), [{"tenant": "default", "kind": "party", "number": 9, "phone": str(number)}])  # fmt: skip
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len({*key_ids(engine, "parties", "phone")}) == 1
    with sessions() as session:
        assert sorted(p.phone or "" for p in session.scalars(select(Party))) == list("012345")


def test_values_from_before_are_read_where_declared(lacre: Lacre, engine: sa.Engine) -> None:
    """A model that is moving opens both, writes the new; one that is not refuses the old."""

    def models(**options: Any) -> Any:
        class Own(DeclarativeBase):
            pass

        class Row(Own):
            __tablename__ = "rows"
            id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
            text: Mapped[str | None] = encrypted("pii", **options)

        return Row

    before, after, moving = models(), models(subject="id"), models(subject="id", moving=True)
    before.metadata.create_all(engine)
    Sessions = lacre.sqlalchemy(sessionmaker(engine))
    with lacre.acting_as("svc", roles={"app"}, purpose="test"):
        with Sessions.begin() as session:
            session.add(before(id=ANA, text="old"))
        with Sessions.begin() as session:
            session.add(after(id=RUI, text="new"))
        with Sessions() as session:
            assert [row.text for row in session.scalars(select(moving).order_by(moving.id))] == [
                "old",
                "new",
            ]
            assert session.execute(select(moving.text).order_by(moving.id)).scalars().all() == [
                "old",
                "new",
            ]
            with pytest.raises(Tampered):
                _ = session.get_one(after, ANA).text
        with Sessions.begin() as session:
            session.get_one(moving, ANA).text = "moved"
        with Sessions() as session:
            assert session.get_one(after, ANA).text == "moved"
    assert KeyKind.SUBJECT in {row.scope.kind for row in lacre.store.contents().keys}  # type: ignore[attr-defined]


def test_a_declaration_that_names_no_plain_column_is_refused() -> None:
    """A subject that is not there, or is encrypted itself, is a configuration error that says what to name."""
    for subject in ("nobody", "secret"):

        class Own(DeclarativeBase):
            pass

        class Row(Own):
            __tablename__ = "rows"
            id: Mapped[int] = mapped_column(primary_key=True)
            secret: Mapped[str] = encrypted("pii")
            text: Mapped[str] = encrypted("pii", subject=subject)

        with pytest.raises(ConfigurationError, match="no plain column"):
            sa.orm.configure_mappers()
        Own.registry.dispose()


def test_a_subject_is_in_no_cache_key_of_sqlalchemy() -> None:
    """The type says that values have subjects and nothing of them; a model without one reads as before."""
    with_, without = User.__table__.c.cpf.type, User.__table__.c.shared.type

    assert repr(with_) == "EncryptedType('pii', subjects=True)"
    assert repr(without) == "EncryptedType('pii')"
    assert with_._static_cache_key != without._static_cache_key


def test_a_search_names_whom_it_found(lacre: Lacre, home: Path, sessions: sessionmaker[Session]) -> None:  # fmt: skip
    """By pseudonym and never by row, as a look does: a planted person is seen without one."""
    two(sessions)
    lacre.resolver.forget()
    with sessions() as session:
        ana = session.scalars(select(User).where(User.cpf == "529.982.247-25")).one()
        session.scalars(select(User).where(User.name == "Ana")).one()
        assert ana.note == "n"
    lacre.recorder.flush()
    lines = map(json.loads, (home / "lacre" / "audit.jsonl").read_text("utf-8").splitlines())
    events = [each for each in lines if each["action"] in ("answer", "look")]
    (subject,) = events[-1]["subjects"]
    made = mark(bytes(32), store=SUBJECT, table=SUBJECT, row=subject)
    marks = Marks(bytes(32), {made: Planted(token="heron", since=0)})

    assert [(each["action"], each["rows"], each["subjects"]) for each in events] == [
        ("answer", [], [subject]),
        ("answer", [], [subject]),
        ("look", [], [subject]),
    ]
    assert touched(Entry(events[0]), marks) == ("heron",)
