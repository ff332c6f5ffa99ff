# SPDX-License-Identifier: Apache-2.0
"""Index roots that are rotated while programs write: one value is in one row, whoever knows which root."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from lacre import BlindIndex, Lacre
from lacre.context import acting_as
from lacre.errors import DuplicateValue, MisuseError
from lacre.jobs import sweeps
from lacre.jobs.pace import Pace
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.sqlalchemy import ContainsIndex, PrefixIndex, encrypted
from lacre.sqlalchemy.tables import tables_of
from tests.components.postgresql import Database
from tests.jobs.killing import nursery
from tests.jobs.postgresql.test_reencryption import Killing, Writer
from tests.jobs.sealed_models import Base, Member, Person
from tests.jobs.sweeping import Shop

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, operator: Lacre, tmp_path: Path) -> Iterator[Shop]:
    """The models with rows, on either database."""
    if request.param == "sqlite":
        path = tmp_path / "shop.db"
        made = Shop(operator, sa.make_url(f"sqlite:///{path}"), f"sqlite:///{path}")
    else:
        database: Database = request.getfixturevalue("database")
        made = Shop(operator, database.url(), database.dsn())
    yield made
    made.engine.dispose()


def announced(lacre: Lacre) -> KeyRow:
    return lacre.provisioner.rotate(lacre.scope("default", "pii", KeyKind.INDEX))


def activated(lacre: Lacre) -> KeyRow:
    return replace(lacre.provisioner, settle=0.0).rotate(
        lacre.scope("default", "pii", KeyKind.INDEX)
    )


def destroyed(lacre: Lacre) -> None:
    rows = lacre.store.versions(lacre.scope("default", "pii", KeyKind.INDEX))
    [old] = [row for row in rows if row.state is KeyState.DECRYPT_ONLY]
    lacre.provisioner.step(old.key_id, KeyState.DESTROYED)


def slots(shop: Shop) -> list[tuple[bool, bool]]:
    """Whether each row with an address has a token in the first and in the second column."""
    with shop.engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT email_bidx IS NOT NULL, email_bidx2 IS NOT NULL FROM people WHERE email IS NOT NULL")
        )  # fmt: skip
        return [(bool(one), bool(two)) for one, two in found]


def found(shop: Shop, email: str) -> int:
    with shop.sessions() as session:
        return len(session.scalars(sa.select(Person).where(Person.email == email)).all())


def others(shop: Shop, email: str) -> int:
    with shop.sessions() as session:
        return len(session.scalars(sa.select(Person).where(Person.email != email)).all())


def test_a_rotation_reaches_every_row(shop: Shop) -> None:
    """At every stage every row is found and counted once, both ways; at the end its token is in the other column alone."""
    shop.fill()
    lacre = shop.lacre
    counts = [(found(shop, "p1@example.org"), others(shop, "p1@example.org"))]
    stages = [set(slots(shop))]

    def at(step: Callable[[Lacre], object]) -> None:
        step(lacre)
        lacre.resolver.forget()
        counts.append((found(shop, "p1@example.org"), others(shop, "p1@example.org")))
        stages.append(set(slots(shop)))

    at(announced)
    at(activated)
    shop.sweeper().reindex(shop.tables()["people"])
    at(destroyed)
    again = shop.sweeper().reindex(shop.tables()["people"])
    at(lambda _: None)

    assert counts == [(1, 8)] * 5
    assert stages == [{(True, False)}] * 3 + [{(True, True)}, {(False, True)}]
    assert (again.rows, again.stale, again.failures) == (9, 0, ())


def test_not_of_several_conditions(shop: Shop) -> None:
    """NOT around conditions on unique indexes is the opposite for every value, and nothing for NULL."""
    shop.fill()
    one, two = Person.email == "p1@example.org", Person.email.in_(["p2@example.org"])
    for rotate in (lambda _: None, announced, activated):
        rotate(shop.lacre)
        shop.lacre.resolver.forget()
        with shop.sessions() as session:
            for condition, count in (
                (sa.not_(sa.or_(one, two)), 7),
                (sa.not_(sa.and_(one, Person.id.is_not(None))), 8),
                (sa.and_(one, Person.id.is_not(None)), 1),
            ):
                found = sa.select(sa.func.count()).select_from(Person).where(condition)

                assert session.scalar(found) == count


class Searched(DeclarativeBase):
    pass


class Caller(Searched):
    """Found by parts of a name."""

    __tablename__ = "callers"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str | None] = encrypted(
        "pii", index=[ContainsIndex("name"), PrefixIndex("name"), BlindIndex("name", unique=True)]
    )


def test_a_rotation_reaches_indexes_of_parts(shop: Shop) -> None:
    """What is found by a part is found at every stage and after the old root is gone, however short or long."""
    Searched.metadata.create_all(shop.engine)
    table = tables_of([Searched], shop.engine.dialect)[0]
    names = ["Maria Silva", "Li", " ".join(f"w{n} x{n}" for n in range(60)), ""]
    with shop.sessions() as session:
        session.add_all([Caller(name=name) for name in (*names, None)])
        session.commit()

    def hits() -> list[int]:
        shop.lacre.resolver.forget()
        by = Caller.name
        asked = (by.contains("silv"), by.startswith("mari"), by.startswith("maria s"), by.contains("x59"), by == "li")  # fmt: skip
        with shop.sessions() as session:
            return [len(session.scalars(sa.select(Caller).where(one)).all()) for one in asked]

    counts = [hits()]
    for step in (announced, activated):
        step(shop.lacre)
        counts.append(hits())
    told = shop.sweeper().reindex(table, write=False)
    done = shop.sweeper().reindex(table)
    again = shop.sweeper().reindex(table)
    destroyed(shop.lacre)
    counts.append(hits())
    shop.sweeper().reindex(table)
    counts.append(hits())

    assert counts == [[1] * 5] * 5
    assert (told.stale, done.rows, done.stale, again.rows) == (4, 4, 0, 0)


def test_missing_and_altered_tokens_are_found(shop: Shop) -> None:
    """Read only, the job counts rows whose tokens are not those of their values; writing, it puts them right."""
    shop.fill()
    with shop.engine.begin() as connection:
        connection.execute(sa.text("UPDATE people SET email_bidx = :b WHERE id = (SELECT id FROM people WHERE email IS NOT NULL LIMIT 1)"), {"b": bytes(12)})  # fmt: skip
    sweeper, table = shop.sweeper(), shop.tables()["people"]
    told = sweeper.reindex(table, write=False)
    again = sweeper.reindex(table, write=False)
    mended = sweeper.reindex(table)

    assert (told.rows, told.stale, again.stale) == (0, 1, 1)
    assert (mended.rows, mended.stale) == (1, 0)


BORN = dt.date(1990, 1, 1)


def members(shop: Shop) -> list[int]:
    """How many members each kind of index finds."""
    asked = [
        Member.name == "Ana Souza",
        Member.name.startswith("Ana S"),
        Member.name.contains("souza"),
        Member.name_and_birth == ("ana souza", BORN),
        Member.name_and_birth != ("ana souza", BORN),
        Member.birth_and_name == (BORN, "Ana Souza"),
        Member.birth_and_name.is_(None),
        Member.name_and_birth.is_(None),
    ]
    with shop.sessions() as session:
        return [len(session.scalars(sa.select(Member).where(each)).all()) for each in asked]


def test_every_kind_of_index_is_made_anew(shop: Shop) -> None:
    """Of equality, prefix, contains and compound indexes each token is counted as stale until it is of the active root; then the old one is needed by none."""
    with shop.sessions() as session:
        session.add_all([Member(name="Ana Souza", born=BORN), Member(name="Bo", born=BORN), Member(name="Li")])  # fmt: skip
        session.commit()
    lacre, table = shop.lacre, shop.tables()["members"]
    sweeper = shop.sweeper()
    fresh = sweeper.reindex(table, write=False)
    announced(lacre)
    activated(lacre)
    lacre.resolver.forget()
    counts = [members(shop)]
    told = sweeper.reindex(table, write=False)
    done = sweeper.reindex(table)
    again = sweeper.reindex(table)
    counts.append(members(shop))
    destroyed(lacre)
    lacre.resolver.forget()
    counts.append(members(shop))
    cleared = sweeper.reindex(table)
    counts.append(members(shop))

    assert (fresh.stale, told.stale, told.rows) == (0, 3, 0)
    assert (done.rows, done.stale, done.failures) == (3, 0, ())
    assert (again.rows, again.stale) == (0, 0)
    assert (cleared.rows, cleared.stale) == (2, 0)  # the first columns of the unique one
    assert counts == [[1, 1, 1, 1, 1, 1, 1, 1]] * 4


@pytest.mark.parametrize(
    "column", ["name_bidx", "name_prefix_bidx", "name_contains_bidx", "name_and_birth_bidx", "birth_and_name_bidx"]
)  # fmt: skip
def test_tokens_of_every_kind_are_put_right(shop: Shop, column: str) -> None:
    """A token of any kind that somebody altered is counted, and made anew."""
    with shop.sessions() as session:
        session.add_all([Member(name="Ana Souza", born=BORN), Member(name="Bo", born=BORN)])
        session.commit()
    several = "'{1,2}'" if shop.engine.dialect.name == "postgresql" else "'[1,2]'"
    with shop.engine.begin() as connection:
        to = several if column in ("name_prefix_bidx", "name_contains_bidx") else ":zeros"
        members_of = "(SELECT id FROM members WHERE birth_and_name_bidx IS NOT NULL LIMIT 1)"
        connection.execute(sa.text(f"UPDATE members SET {column} = {to} WHERE id = {members_of}"), {"zeros": bytes(12)})  # fmt: skip
    sweeper, table = shop.sweeper(), shop.tables()["members"]
    told = sweeper.reindex(table, write=False)
    mended = sweeper.reindex(table)

    assert (told.stale, mended.rows, mended.stale) == (1, 1, 0)
    assert members(shop) == [1, 1, 1, 1, 1, 1, 0, 0]


def test_two_rows_of_one_value_are_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two rows hold one value, one of them keeps its tokens, the other is counted and named, and all else is done."""
    monkeypatch.setattr(sweeps, "_PATIENCE", 2.0)
    shop.fill()
    with shop.sessions() as session:
        one, two = session.scalars(sa.select(Person).where(Person.email.in_(["p1@example.org", "p2@example.org"])).order_by(Person.id)).all()  # fmt: skip
        kept = one.id
        session.execute(sa.text("UPDATE people SET email_bidx = NULL, email = NULL WHERE id = :id"), {"id": kept if shop.engine.dialect.name == "postgresql" else kept.hex})  # fmt: skip
        two.email = "p1@example.org"
        session.commit()
    with shop.engine.begin() as connection:
        # The value of before, put back with a token that is not its own.
        field = shop.lacre.field("pii", table="people", column="email")
        value = field.encrypt("p1@example.org", row=kept)
        connection.execute(sa.text("UPDATE people SET email = :v, email_bidx = :b WHERE id = :id"), {"v": bytes(value), "b": bytes(12), "id": kept if shop.engine.dialect.name == "postgresql" else kept.hex})  # fmt: skip
    sweeper = shop.sweeper(pace=Pace(batch=5, sleep=lambda _: None))
    done = sweeper.reindex(shop.tables()["people"])

    [failure] = done.failures
    assert (failure.reason, failure.values, failure.rows) == ("DuplicateValue", 1, (kept.hex,))
    assert done.stale == 1


def test_a_third_root_is_refused(operator: Lacre) -> None:
    """While two roots live no third is announced, and a root is always of the other parity than the one before."""
    announced(operator)
    two = activated(operator)
    with pytest.raises(MisuseError, match="a third has no place"):
        announced(operator)
    destroyed(operator)
    three = announced(operator)

    assert (two.version, three.version) == (2, 3)


# Parallel inserts


class Program:
    """One process of the application: what it knows of index roots is what it read when it began."""

    def __init__(self, home: Path, database: Database, level: str) -> None:
        self.lacre = Lacre.load(home / "lacre.toml", environ={})
        self.engine = sa.create_engine(database.url(), poolclass=sa.NullPool, isolation_level=level)
        self.sessions = self.lacre.sqlalchemy(sessionmaker(self.engine))
        self.lacre.warm_up(classes=["pii"])

    def insert(self, made: object, barrier: threading.Barrier) -> str:
        """Insert *made* at the same time as others; say how it ended."""
        with acting_as("svc:app", roles={"app"}, purpose="sign up"), self.sessions() as session:
            try:
                session.execute(
                    sa.text("SELECT count(*) FROM people")
                )  # the transaction's snapshot
                barrier.wait(10)
                session.add(made)
                session.commit()
            except DuplicateValue:
                return "duplicate"
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlstate", "") not in ("40001", "40P01"):
                    raise
                return "serialization"
            return "won"


def person(value: str) -> Person:
    return Person(id=uuid4(), email=value)


def member(value: str) -> Member:
    """A member, who is known by name and birth together."""
    return Member(name=value, born=BORN)


def raced(
    programs: list[Program], value: str, make: Callable[[str], Person | Member] = person
) -> list[str]:
    """Have every program insert one row with *value* at once."""
    barrier, ended = threading.Barrier(len(programs)), []

    def insert(program: Program) -> None:
        ended.append(program.insert(make(value), barrier))

    threads = [threading.Thread(target=insert, args=(program,)) for program in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


@pytest.mark.parametrize(
    ("make", "level"),
    [*((person, level) for level in LEVELS), (member, "READ COMMITTED"), (member, "SERIALIZABLE")],
)
def test_one_of_parallel_inserts_wins(
    operator: Lacre,
    home: Path,
    database: Database,
    level: str,
    make: Callable[[str], Person | Member],
) -> None:
    """Of a value, or of values together: at every stage, between a process that knows the latest step and one that knows the step before, exactly one insert wins."""
    Base.metadata.create_all(sa.create_engine(database.url(), poolclass=sa.NullPool))
    ended = []
    table = make("").__tablename__
    with ExitStack() as stack:
        behind = Program(home, database, level)
        stack.callback(behind.lacre.close)
        for number, step in enumerate([announced, activated, destroyed]):
            step(operator)
            ahead = Program(home, database, level)
            stack.callback(ahead.lacre.close)
            for more in range(3):
                email = f"r{number}.{more}@example.org"
                ended.append(sorted(raced([behind, ahead, behind, ahead], email, make)))
            if step is activated:
                operator.resolver.forget()
                shop = Shop(operator, database.url(), database.dsn())
                shop.sweeper().reindex(shop.tables()[table])
            behind = ahead
        with database.connect() as connection:
            rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()

    assert [outcome.count("won") for outcome in ended] == [1] * 9
    assert rows == (9,)


def test_without_the_second_column_two_win(operator: Lacre, home: Path, database: Database) -> None:
    """The race is real: where the second column's constraint is missing, both inserts win."""
    Base.metadata.create_all(sa.create_engine(database.url(), poolclass=sa.NullPool))
    with database.connect() as connection:
        connection.execute("ALTER TABLE people DROP CONSTRAINT people_email_bidx2_key")
    announced(operator)
    activated(operator)
    behind = Program(home, database, "READ COMMITTED")
    destroyed(operator)
    ahead = Program(home, database, "READ COMMITTED")
    ended = raced([behind, ahead], "ana@example.org")
    behind.lacre.close()
    ahead.lacre.close()

    assert ended == ["won", "won"]


# Killed


def survive(shop: Shop, *, kills: int) -> None:
    rows = 40
    with shop.sessions() as session:
        session.add_all(Person(id=UUID(int=n + 1), email=f"p{n}@example.org") for n in range(rows))
        session.commit()
    expected: dict[UUID, str | None] = {UUID(int=n + 1): f"p{n}@example.org" for n in range(rows)}
    lacre, table = shop.lacre, shop.tables()["people"]
    killed, at, rotations = 0, 3, 0
    writer = Writer(shop, rows)

    def work(place: str) -> None:
        with acting_as("operator", roles={"operator"}, purpose="reencrypt"):
            shop.sweeper(pace=Pace(batch=7), connect=Killing(int(place))).reindex(table)

    with nursery(work) as started:
        writer.start()
        try:
            while killed < kills:
                activated(lacre)
                lacre.resolver.forget()
                rotations += 1
                for _ in range(6):
                    died = not started(str(at)).survived()
                    killed += died
                    at = at + 1 if died else 3
                done = shop.sweeper().reindex(table)
                assert (done.stale, done.failures) == (0, ())
                destroyed(lacre)
                lacre.resolver.forget()
        finally:
            writer.stop()
    done = shop.sweeper().reindex(table)
    expected |= writer.written

    assert (done.stale, done.failures) == (0, ())
    assert set(slots(shop)) == {(rotations % 2 == 0, rotations % 2 == 1)}
    for email in expected.values():
        assert email is not None
        assert found(shop, email) == 1
    with shop.sessions() as session:
        session.add(Person(id=uuid4(), email=expected[UUID(int=1)]))
        with pytest.raises(DuplicateValue):
            session.commit()


def test_a_killed_index_rotation_goes_on(operator: Lacre, database: Database) -> None:
    """Killed ten times between two statements beside a writer: every row is found by its value, and no value comes twice."""
    survive(Shop(operator, database.url(), database.dsn()), kills=10)


@pytest.mark.long
def test_an_index_rotation_killed_three_hundred_times_loses_nothing(
    operator: Lacre, database: Database
) -> None:
    """The same, three hundred times."""
    survive(Shop(operator, database.url(), database.dsn()), kills=300)
