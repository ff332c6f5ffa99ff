# SPDX-License-Identifier: Apache-2.0
"""Moving rows between tenants: whole, with what refers to them, and known beforehand."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, ForeignKeyConstraint, event, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lacre import AccessDenied, ConfigurationError, DuplicateValue, Lacre
from lacre.errors import KeyDestroyed, KeyNotFound, MisuseError, SubjectHeld
from lacre.keys.hierarchy import KeyKind, KeyState, subject_digest
from lacre.sqlalchemy import compound, encrypted, moving_tenants
from lacre.sqlalchemy.tenants import Conflict, TenantMove
from tests.sqlalchemy.conftest import Acting, Sessions, on_sqlite
from tests.sqlalchemy.models import Base as Untenanted
from tests.sqlalchemy.raw import only, rows
from tests.sqlalchemy.tenanted import NORTH, SOUTH, Base, Bill, Client, Country, Visit, add

ROOT = Path(__file__).resolve().parents[2]
Recorded = Callable[..., list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _tables(engine: Engine, operator: Lacre, sessions: Sessions, acting: Acting) -> None:
    Base.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in (NORTH, SOUTH):
            for class_ in ("pii", "banking"):
                operator.create_keys(tenant, class_)
    with acting("app"), sessions.begin() as session:
        add(session, NORTH, range(6))
        add(session, SOUTH, range(100, 102))


def _tenants(engine: Engine) -> dict[str, list[tuple[str, int]]]:
    return {
        name: sorted(
            tuple(row)
            for row in rows(engine, f"SELECT tenant, count(*) FROM {name} GROUP BY tenant")
        )
        for name in ("clients", "visits", "bills")
    }


def test_all_rows_of_a_tenant_move(
    engine: Engine, sessions: Sessions, acting: Acting, recorded: Recorded
) -> None:
    """Values open under the target's keys and are found there; nothing is left in the source."""
    with acting("app"):
        move = TenantMove(sessions, Base, source=NORTH, target=SOUTH, batch=4)
        plan = move.plan()
        assert (plan.rows, plan.values) == ({"clients": 6, "visits": 12, "bills": 6}, 30)
        assert (plan.classes, plan.conflicts, plan.notices) == (("banking", "pii"), (), ())
        assert _tenants(engine)["clients"] == [("north", 6), ("south", 2)]
        report = move.run()
        again = move.run()
    events = recorded("encrypt", table="clients", column="email", tenant=SOUTH)

    assert (report.rows, again.rows) == (plan.rows, {})
    assert _tenants(engine) == {
        "clients": [("south", 8)],
        "visits": [("south", 16)],
        "bills": [("south", 8)],
    }
    with acting("app", tenant=SOUTH), sessions() as session:
        found = session.scalars(select(Client).where(Client.email == "3@example.org")).one()
        assert found.name == "name 3"
        assert session.scalars(select(Client).where(Client.name == "name 3")).one() is found
        assert session.scalars(select(Client).where(Client.name.contains("ame 3"))).one() is found
        assert session.get_one(Bill, UUID(int=5_003)).account == "account 3"
        notes = session.scalars(select(Visit).where(Visit.client_id == found.id)).all()
        assert {visit.note for visit in notes} == {"note 3 False", "note 3 True"}
    looks = recorded("look", table="clients", column="email", tenant=NORTH)
    assert sum(each["count"] for each in looks) == 6
    assert {each["key"] for each in looks}.isdisjoint({each["key"] for each in events})


def test_some_rows_move_with_what_refers_to_them(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """Visits of visits and bills too; rows of others stay byte for byte."""
    staying = "SELECT id, email, email_bidx, name FROM clients WHERE city = 'Olinda' ORDER BY id"
    before = rows(engine, staying)
    with acting("app"):
        move = TenantMove(
            sessions, Client, source=NORTH, target=SOUTH, where=Client.city == "Recife", batch=2
        )
        assert move.plan().rows == {"clients": 3, "visits": 6, "bills": 3}
        move.run()

    assert rows(engine, staying) == before
    assert _tenants(engine) == {
        "clients": [("north", 3), ("south", 5)],
        "visits": [("north", 6), ("south", 10)],
        "bills": [("north", 3), ("south", 5)],
    }
    crossing = "SELECT count(*) FROM visits JOIN clients ON clients.id = client_id WHERE visits.tenant <> clients.tenant"
    assert only(engine, crossing) == 0


@pytest.mark.parametrize(
    "where", [Client.email == "2@example.org", Client.name == "name 2"], ids=["exact", "short"]
)
def test_rows_are_named_by_what_is_encrypted(
    engine: Engine, sessions: Sessions, acting: Acting, where: Any
) -> None:
    """A condition asks the source's index, whoever's the default tenant is."""
    with acting("app"):
        TenantMove(sessions, Client, source=NORTH, target=SOUTH, where=where).run()

    assert _tenants(engine)["clients"] == [("north", 5), ("south", 3)]


def test_a_value_that_is_there_already_is_reported_first(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """By a unique blind index, and by a constraint on plain columns; nothing is moved."""
    with acting("app"), sessions.begin() as session:
        session.get_one(Client, UUID(int=101)).email = "2@example.org"
        session.get_one(Client, UUID(int=102)).code = 5
    with acting("app"):
        move = TenantMove(sessions, Base, source=NORTH, target=SOUTH, batch=4)
        plan = move.plan()
        with pytest.raises(MisuseError, match="nothing was moved") as caught:
            move.run()
    assert set(plan.conflicts) == {
        Conflict(table="clients", columns=("email",), count=1, rows=(UUID(int=3).hex,)),
        Conflict(table="clients", columns=("code",), count=1, rows=(UUID(int=6).hex,)),
    }

    assert _tenants(engine)["clients"] == [("north", 6), ("south", 2)]
    assert "2@example.org" not in str(caught.value) + repr(plan)


class Clinics(DeclarativeBase):
    pass


class Bed(Clinics):
    """One of each number in each ward; a bed without a number may be there often."""

    __tablename__ = "beds"
    __lacre_tenant__ = "tenant"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    ward: Mapped[str] = encrypted("pii")
    number: Mapped[int | None] = encrypted("pii")
    place = compound("ward", "number", unique=True)


@pytest.mark.parametrize("rotated", [False, True])
def test_values_that_are_there_together_are_reported_first(
    engine: Engine, operator: Lacre, sessions: Sessions, acting: Acting, rotated: bool
) -> None:
    """By a unique compound index, under whichever index root of the target its token is; NULL is like nothing else."""
    Clinics.metadata.create_all(engine)
    with acting("app"), sessions.begin() as session:
        for tenant, beds in ((NORTH, (("A", 1), ("A", 2), ("B", None))), (SOUTH, (("A", 2), ("B", 1), ("B", None)))):  # fmt: skip
            session.add_all(Bed(tenant=tenant, ward=ward, number=number) for ward, number in beds)
    if rotated:
        with operator.acting_as("operator", roles={"operator"}, purpose="rotation"):
            provisioner = replace(operator.provisioner, settle=0.0)
            provisioner.rotate(operator.scope(SOUTH, "pii", KeyKind.INDEX))
    with acting("app", tenant=NORTH), sessions() as session:
        session.info["lacre"].application.resolver.forget()
        twice = session.scalars(select(Bed).where(Bed.place == ("A", 2))).one().id
    with acting("app"):
        plan = TenantMove(sessions, Bed, source=NORTH, target=SOUTH).plan()

    assert plan.conflicts == (
        Conflict(table="beds", columns=("ward", "number"), count=1, rows=(twice.hex,)),
    )


def test_a_value_written_since_the_plan_stops_the_move(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """The database decides; the batch it is in stays where it was."""
    with acting("app"):
        move = TenantMove(sessions, Client, source=NORTH, target=SOUTH, batch=2)
        plan = move.plan()
        with sessions.begin() as session:
            session.get_one(Client, UUID(int=101)).email = "2@example.org"
        with pytest.raises(DuplicateValue):
            move.run(plan=plan)

    assert _tenants(engine)["clients"] == [("north", 4), ("south", 4)]


@pytest.mark.parametrize("role", ["writer", "support", "searcher"])
def test_it_takes_rights_in_both_tenants(
    engine: Engine, sessions: Sessions, acting: Acting, role: str
) -> None:
    """Who may not read, sees masks, or may not write moves nothing; nor does who acts for one."""
    with acting(role), pytest.raises(AccessDenied):
        TenantMove(sessions, Client, source=NORTH, target=SOUTH).run()
    with acting("app", tenant=NORTH), pytest.raises(AccessDenied, match="about two"):
        TenantMove(sessions, Client, source=NORTH, target=SOUTH).run()

    assert _tenants(engine)["clients"] == [("north", 6), ("south", 2)]


def test_a_target_without_keys_is_refused(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """Before anything is changed."""
    with acting("app"), pytest.raises(KeyNotFound):
        TenantMove(sessions, Base, source=NORTH, target="nowhere").run()

    assert _tenants(engine)["bills"] == [("north", 6), ("south", 2)]


def test_a_write_in_between_is_not_lost(engine: Engine, sessions: Sessions, acting: Acting) -> None:
    """What another session wrote after the plan is what moves."""
    with acting("app"):
        move = TenantMove(sessions, Client, source=NORTH, target=SOUTH)
        plan = move.plan()
        with sessions.begin() as session:
            session.get_one(Client, UUID(int=1)).name = "another"
            session.execute(update(Client).where(Client.id == UUID(int=2)).values(city="Natal"))
        move.run(plan=plan)
    with acting("app"), sessions() as session:
        assert session.get_one(Client, UUID(int=1)).name == "another"
        assert session.get_one(Client, UUID(int=2)).city == "Natal"


def test_what_stays_and_is_referred_to_is_said(sessions: Sessions, acting: Acting) -> None:
    """Visits move without their clients: that is told before."""
    with acting("app"):
        plan = TenantMove(sessions, Visit, source=NORTH, target=SOUTH).plan()

    assert plan.notices == ("visits refers to clients, whose rows stay",)
    assert plan.rows == {"visits": 12, "bills": 6}


def test_a_shredded_subject_does_not_move(
    engine: Engine, sessions: Sessions, acting: Acting, lacre: Lacre
) -> None:
    """What nobody can read is not encrypted anew: a typed error, and its row stays where it was."""
    digest = subject_digest(lacre.scope(NORTH, "pii"), UUID(int=3).hex)
    store: Any = lacre.store
    for row in [each for each in store.contents().keys if each.digest == digest]:
        store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="later"))])
    with store._database.writer.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE lacre_subject SET pseudonym = NULL, shredded = 'later' WHERE digest = ?",
            (digest,),
        )
    lacre.resolver.forget()
    with acting("app"):
        for where in (None, Client.id == UUID(int=3)):
            with pytest.raises(KeyDestroyed):
                TenantMove(sessions, Client, source=NORTH, target=SOUTH, where=where).run()
        TenantMove(
            sessions, Client, source=NORTH, target=SOUTH, where=Client.id != UUID(int=3)
        ).run()

    assert _tenants(engine)["clients"] == [("north", 1), ("south", 7)]


def _hold(lacre: Lacre, tenant: str, client: int, hold: str | None) -> None:
    store: Any = lacre.store
    digest = subject_digest(lacre.scope(tenant, "pii"), UUID(int=client).hex)
    assert store.hold_subject(digest, hold=hold, over=None if hold else "case 7")


def test_a_held_subject_does_not_move(
    engine: Engine, sessions: Sessions, acting: Acting, lacre: Lacre
) -> None:
    """Nobody would hold them there: the plan says so, others move, and a hold placed since the plan stops the batch."""
    _hold(lacre, NORTH, 3, "case 7")
    with acting("app"):
        for models in (Base, Client):
            with pytest.raises(SubjectHeld, match=r"1 subjects .* in tenant 'north'") as caught:
                TenantMove(sessions, models, source=NORTH, target=SOUTH, batch=4).run()
        TenantMove(sessions, Client, source=NORTH, target=SOUTH, where=Client.id == UUID(int=1)).run()  # fmt: skip
        _hold(lacre, NORTH, 3, None)
        others = TenantMove(sessions, Client, source=NORTH, target=SOUTH, batch=1)
        plan = others.plan()
        _hold(lacre, NORTH, 3, "case 7")
        with pytest.raises(SubjectHeld):
            others.run(plan=plan)

    assert _tenants(engine)["clients"] == [("north", 4), ("south", 4)]
    assert UUID(int=3).hex not in str(caught.value)


@on_sqlite
@pytest.mark.parametrize("expired", [False, True])
def test_a_program_of_ones_own_moves_no_held_subject_either(
    engine: Engine, sessions: Sessions, acting: Acting, lacre: Lacre, expired: bool
) -> None:
    """Within moving_tenants(): NULL in place of the value, or a value that is not loaded, is no way round; another's row moves."""
    _hold(lacre, NORTH, 3, "case 7")
    with acting("app"), moving_tenants(), sessions() as session:
        client = session.get_one(Client, UUID(int=3))
        if expired:
            session.expire(client, ["email"])
        else:
            client.email = None
        client.tenant = SOUTH
        with pytest.raises(SubjectHeld):
            session.flush()
        session.rollback()
        client.name = "as before"
        session.get_one(Client, UUID(int=2)).tenant = SOUTH
        session.commit()

    assert _tenants(engine)["clients"] == [("north", 5), ("south", 3)]


@on_sqlite
def test_an_awaited_flush_moves_no_held_subject(
    engine: Engine, acting: Acting, lacre: Lacre
) -> None:
    """The key store is asked on a thread, and the loop goes on meanwhile."""
    _hold(lacre, NORTH, 3, "case 7")

    async def move(client: int) -> None:
        aside = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        try:
            async with lacre.sqlalchemy(async_sessionmaker(aside))() as session:
                (await session.get_one(Client, UUID(int=client))).tenant = SOUTH
                with moving_tenants():
                    await session.commit()
        finally:
            await aside.dispose()

    with acting("app"):
        asyncio.run(move(2))
        with pytest.raises(SubjectHeld):
            asyncio.run(move(3))

    assert _tenants(engine)["clients"] == [("north", 5), ("south", 3)]


def test_progress_is_told_and_held_back(sessions: Sessions, acting: Acting) -> None:
    """After each batch, of the rows that moved."""
    told: list[int] = []
    with acting("app"):
        TenantMove(sessions, Bill, source=NORTH, target=SOUTH, batch=4).run(
            progress=told.append, throttle=1_000_000
        )

    assert told == [4, 2]


@on_sqlite
def test_rows_that_keep_their_tenant_end_the_move(sessions: Sessions, acting: Acting) -> None:
    """A listener of the application's that sets it back would have it go on for ever."""

    def back(session: Session, *_: Any) -> None:
        for each in session.dirty:
            each.tenant = NORTH

    event.listen(Session, "before_flush", back)
    try:
        with acting("app"), pytest.raises(MisuseError, match="keep their tenant"):
            TenantMove(sessions, Bill, source=NORTH, target=SOUTH).run()
    finally:
        event.remove(Session, "before_flush", back)


@on_sqlite
def test_what_cannot_be_moved_is_refused(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """Before a row is read."""

    class Other(DeclarativeBase):
        pass

    class Keyed(Other):
        __tablename__ = "keyed"
        __lacre_tenant__ = "tenant"
        tenant: Mapped[int] = mapped_column(primary_key=True)
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str | None] = encrypted("pii")

    class Refers(Other):
        __tablename__ = "refers"
        __lacre_tenant__ = "tenant"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant: Mapped[int]
        keyed: Mapped[UUID]
        email: Mapped[str | None] = encrypted("pii")
        __table_args__ = (ForeignKeyConstraint(["tenant", "keyed"], ["keyed.tenant", "keyed.id"]),)

    class Numbered(Other):
        __tablename__ = "numbered_tenants"
        __lacre_tenant__ = "tenant"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant: Mapped[int]
        email: Mapped[str | None] = encrypted("pii")

    def move(models: Any, **more: Any) -> TenantMove:
        return TenantMove(sessions, models, **({"source": "1", "target": "2"} | more))

    for models in (Keyed, Refers):
        with pytest.raises(ConfigurationError, match="part of a key"):
            move(models)
    with pytest.raises(ConfigurationError, match="holds int values"):
        move(Numbered, source="north")
    with pytest.raises(ConfigurationError, match="are one"):
        move(Numbered, target="01")
    with pytest.raises(ConfigurationError, match="names its tenant"):
        move([Country, Untenanted])
    with pytest.raises(ConfigurationError, match="one model"):
        move(Base, where=Client.city == "x")
    with pytest.raises(ConfigurationError, match="sessions of lacre"):
        TenantMove(sessionmaker(engine), Client, source=NORTH, target=SOUTH)


def _killed(home: Path, engine: Engine, numbers: Sequence[int]) -> list[str]:
    url = engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.sqlalchemy.moving",
            str(home / "lacre.toml"),
            url,
            *map(str, numbers),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _check_whole(engine: Engine, sessions: Sessions, acting: Acting, clients: int) -> int:
    """Return how many clients are in the source; every value opens, and nothing refers across tenants."""
    with acting("app"), sessions() as session:
        found = session.scalars(select(Client).order_by(Client.id)).all()
        numbers = [client.id.int - 1 for client in found]
        assert [client.email for client in found] == [f"{n}@example.org" for n in numbers]
        assert [client.name for client in found] == [f"name {n}" for n in numbers]
        of = {client.id: client.tenant for client in found}
        visits = session.scalars(select(Visit)).all()
        assert all(visit.tenant == of[visit.client_id] for visit in visits)
        assert {visit.note for visit in visits} == {
            f"note {n} {second}" for n in numbers for second in (False, True)
        }
        by_visit = {visit.id: visit.tenant for visit in visits}
        bills = session.scalars(select(Bill)).all()
        assert {bill.account for bill in bills} == {f"account {n}" for n in numbers}
        assert all(bill.tenant == by_visit[bill.visit_id] for bill in bills)
    assert (len(found), len(visits), len(bills)) == (clients, 2 * clients, clients)
    return list(of.values()).count(NORTH)


@pytest.mark.any_sqlalchemy
def test_a_move_that_is_killed_goes_on(
    engine: Engine, sessions: Sessions, acting: Acting, home: Path
) -> None:
    """Killed before any statement: each row is of one tenant, with what refers to it, and none is lost."""
    for numbers in ([1, 2, 3, 5, 7], [9, 11, 13, 15]):
        assert _killed(home, engine, numbers) == ["killed"] * len(numbers)
        assert _check_whole(engine, sessions, acting, 8) > 0
    assert _killed(home, engine, [10_000]) == ["ended 0"]

    assert _check_whole(engine, sessions, acting, 8) == 0


@pytest.mark.long
def test_a_move_that_is_killed_anywhere_goes_on(
    engine: Engine, sessions: Sessions, acting: Acting, home: Path
) -> None:
    """Hundreds of kills, before every statement and commit there is, while rows go on coming in."""
    killed = clients = 0
    while killed < 300:
        with acting("app"), sessions.begin() as session:
            add(session, NORTH, range(200 + clients, 210 + clients))
        clients += 10
        killed += _killed(home, engine, range(1, 31)).count("killed")
        _check_whole(engine, sessions, acting, 8 + clients)
    assert _killed(home, engine, [1_000_000]) == ["ended 0"]

    assert _check_whole(engine, sessions, acting, 8 + clients) == 0
