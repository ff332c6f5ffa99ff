# SPDX-License-Identifier: Apache-2.0
"""Searches in parts leave no trace of what was asked and found, and nothing of another tenant."""

import datetime as dt
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import URL, Engine, func, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import visitors

from lacre import Lacre, LacreError
from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, encrypted
from tests.sqlalchemy.conftest import Acting, Sessions, engine_of
from tests.sqlalchemy.models import Citizen
from tests.sqlalchemy.raw import execute, rows
from tests.sqlalchemy.test_canaries import shown

CANARY = "Canarina Passarinho"
TRACE = re.compile(r"canar|narin|passar|arinho", re.IGNORECASE)
BORN = dt.date(1987, 6, 5)


@pytest.fixture
def echoed(url: URL) -> Iterator[Engine]:
    """The database, every statement and row of which is logged."""
    engine = engine_of(url, echo="debug")
    yield engine
    engine.dispose()


def asked() -> list[Any]:
    """Every kind of question, of which the canary is the answer or nearly."""
    name = Citizen.name
    return [
        name.startswith("Canar"),
        name.contains("narina pass"),
        name.endswith("passarinho"),
        name.like("%arinho"),
        name.ilike("CANARINA%"),
        name.contains("canarinho"),
        Citizen.name_and_birth == (CANARY, BORN),
        Citizen.name_and_birth.in_([(CANARY, BORN), ("Canarinho", BORN)]),
        name == CANARY,
    ]


def refused(session: Session) -> list[Callable[[], Any]]:
    """Questions about the canary that are not answered, one for each reason."""

    def run(condition: Any) -> Callable[[], Any]:
        return lambda: session.execute(select(Citizen).where(condition)).all()

    name, nick, born = Citizen.name, Citizen.nick, Citizen.born
    return [
        run(name.contains("ca")),
        run(name.startswith("c")),
        run(or_(name.contains("canar"), Citizen.city == "x")),
        run(nick.contains("canar\udcff")),
        run(Citizen.name_and_birth == (CANARY, "canarina")),
        run(Citizen.name_and_birth == (BORN, "canarina")),
        lambda: name.like("canar_na"),
        lambda: nick.icontains("canarina"),
        lambda: born.contains("canarina"),
        lambda: name.regexp_match("canar.*"),
        lambda: name.contains(["canarina"]),
        lambda: Citizen.name_and_birth == "canarina",
        lambda: name > "canarina",
        lambda: select(Citizen).where(name.contains(CANARY)).order_by(name).compile(),
    ]


def test_no_trace_of_what_was_asked(
    lacre: Lacre,
    echoed: Engine,
    acting: Acting,
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the engine's log with its rows, a repr, an error, or the audit log; nor its tokens."""
    from sqlalchemy.orm import sessionmaker

    sessions, printed = lacre.sqlalchemy(sessionmaker(echoed)), []
    with caplog.at_level(logging.DEBUG), acting("app"), sessions() as session:
        session.add(Citizen(name=CANARY, nick=CANARY, born=BORN))
        session.commit()
        for condition in asked():
            statement = select(Citizen).where(condition)
            for each in (statement, select(func.count(Citizen.id)).where(condition)):
                printed += [str(each), repr(each), str(each.compile(echoed)), repr(condition)]
                printed += [repr(part) for part in visitors.iterate(each)]
                session.execute(each).all()
            printed += [repr(found.__dict__) for found in session.scalars(statement)]
        for ask in refused(session):
            with pytest.raises(LacreError) as raised:
                ask()
            printed.append(_without_source(raised.value))
            session.rollback()
    lacre.recorder.flush()
    texts = [*printed, caplog.text, (home / "lacre/audit.jsonl").read_text(encoding="utf-8")]

    assert "SELECT" in caplog.text
    lines = [line for text in texts for line in text.splitlines() if TRACE.search(line)]
    assert lines == []
    stored = "SELECT name_prefix_bidx, name_contains_bidx, name_and_birth_bidx FROM citizens"
    [(prefixes, trigrams, both)] = rows(echoed, stored)
    numbers = re.findall(r"\d+", f"{prefixes} {trigrams}")
    # Small numbers are everywhere in a log.
    long = [number for number in numbers if int(number) > 10_000]
    assert len(long) > 5
    said = "\n".join(texts)
    assert [number for number in long if re.search(rf"\b{number}\b", said)] == []
    assert both.hex() not in said
    assert repr(both)[2:-1] not in said


def _without_source(error: LacreError) -> str:
    # What an error says and holds; lines of programs, this one's among them, are indented.
    return "\n".join(line for line in shown(error).splitlines() if not line.startswith("  "))


class Base(DeclarativeBase):
    pass


class Guest(Base):
    """Rows of several tenants, and indexes so short that values collide."""

    __tablename__ = "guests"
    __lacre_tenant__ = "tenant"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    exact: Mapped[str] = encrypted("pii", index=BlindIndex("exact", bits=12))
    begun: Mapped[str] = encrypted("pii", index=PrefixIndex("exact", bits=16))
    inside: Mapped[str] = encrypted("pii", index=ContainsIndex("exact", bits=12))


def test_a_chance_hit_of_another_tenant(
    engine: Engine,
    operator: Lacre,
    sessions: Sessions,
    acting: Acting,
    recorded: Callable[..., list[dict[str, Any]]],
) -> None:
    """Its row has the token that is asked for: it is not found, not opened, and no event names its tenant."""
    Base.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in ("north", "south"):
            operator.create_keys(tenant, "pii")
    for tenant, value in (("north", "abcdef"), ("south", "uvwxyz")):
        with acting("app", tenant=tenant), sessions.begin() as session:
            session.add(Guest(tenant=tenant, exact=value, begun=value, inside=value))
    # What chance does once among some thousand rows.
    columns = ("exact_bidx", "begun_prefix_bidx", "inside_contains_bidx")
    same = [f"{c} = (SELECT {c} FROM guests WHERE tenant = 'north')" for c in columns]
    execute(engine, f"UPDATE guests SET {', '.join(same)} WHERE tenant = 'south'")
    before = len(recorded("look"))
    with acting("app", tenant="north"), sessions() as session:
        for condition in (
            Guest.exact == "abcdef",
            Guest.begun.startswith("abc"),
            Guest.inside.contains("abc"),
            Guest.inside.startswith("abc"),
        ):
            assert session.scalars(select(Guest).where(condition)).one().tenant == "north"
            assert session.scalars(select(Guest.tenant).where(condition)).all() == ["north"]
            count = select(func.count()).select_from(Guest).where(condition)
            assert session.scalar(count) == 1
    assert len(recorded("look")) == before
    assert {event["tenant"] for event in recorded("search")} == {"north"}
