# SPDX-License-Identifier: Apache-2.0
"""What searches found: how many rows and which, recorded while the result is read."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, aliased

from lacre import Lacre
from lacre.audit.entries import Entry
from lacre.audit.honeytokens import Marks, Planted, mark, touched
from lacre.errors import EvidenceUnavailable
from lacre.sqlalchemy import candidates
from tests.sqlalchemy.conftest import Acting, on_postgresql, on_sqlite
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_CPF, OTHER_EMAIL, Customer, Order

Recorded = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ana(session: Session) -> Customer:
    """A customer, and one whose name shares the first's token by chance."""
    ana = Customer(email=EMAIL, cpf=CPF, name="ana", city="Recife")
    bia = Customer(email=OTHER_EMAIL, cpf=OTHER_CPF, name="bia", city="Recife")
    session.add_all([ana, bia, Order(customer=ana, note="first"), Order(customer=ana, note="x")])
    session.commit()
    return ana


def told(recorded: Recorded, **wanted: str) -> list[tuple[int, int, int, list[str]]]:
    return [
        (each["searches"], each["found"], each["count"], each["rows"])
        for each in recorded("answer", **wanted)
    ]


def test_a_search_says_how_many_rows_came_back(session: Session, ana: Customer, recorded: Recorded) -> None:  # fmt: skip
    """A hit names its row, a miss none; the term is in neither, and the search itself is recorded as ever."""
    session.scalars(select(Customer).where(Customer.email == EMAIL)).one()
    session.scalars(select(Customer).where(Customer.email == "nobody@example.org")).first()
    answers = recorded("answer", column="email")

    assert told(recorded, column="email") == [(1, 1, 1, [ana.id.hex]), (1, 0, 0, [])]
    assert len(recorded("search", column="email")) == 2
    assert not any("example.org" in str(value) for each in answers for value in each.values())


def test_what_a_recheck_takes_out_is_apart(session: Session, recorded: Recorded) -> None:
    """Of an index of eight bits, rows that share a token by chance are counted as excluded, and not named."""
    rows = [Customer(name=f"name {n}") for n in range(400)]
    session.add_all(rows)
    session.commit()
    session.scalars(select(Customer).where(Customer.name == "name 7")).all()
    session.execute(select(Customer.id).where(Customer.name == "name 7")).all()
    whole, parts = recorded("answer", column="name")

    assert whole["count"] == parts["count"] == 1
    assert whole["excluded"] == parts["excluded"]
    assert whole["rows"] == [rows[7].id.hex]


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        (lambda: select(Customer.city).where(Customer.email == EMAIL), (1, 1, 1)),
        (lambda: select(Customer.cpf).where(Customer.email == EMAIL), (1, 1, 1)),
        (lambda: select(Customer.city.label("c")).where(Customer.email == "x@y.z"), (1, 0, 0)),
        (lambda: select(Customer.__table__.c.city).join_from(Customer, Order).where(Customer.email == EMAIL), (1, 1, 2)),
        (lambda: select(Customer.id).where(Customer.email.in_([EMAIL, "a@b.c", "d@e.f"])), (3, 1, 1)),
        (lambda: select(Order.id).where(Order.customer_id.in_(select(Customer.id).where(Customer.email == EMAIL))), (1, 1, 2)),
    ],
)  # fmt: skip
@on_sqlite
def test_rows_are_counted_without_objects(session: Session, ana: Customer, recorded: Recorded, statement: Any, answer: Any) -> None:  # fmt: skip
    """Of attributes the rows are counted, and none is named: the result does not say which they are."""
    session.execute(statement()).all()

    assert told(recorded, column="email") == [(*answer, [])]


@pytest.mark.parametrize(
    "statement",
    [
        lambda: select(func.count()).select_from(Customer).where(Customer.email == "x@y.z"),
        lambda: select(func.max(Customer.city)).where(Customer.email == EMAIL),
        lambda: select(exists().where(Customer.email == EMAIL)),
        lambda: update(Customer).where(Customer.email == EMAIL).values(city="Olinda"),
    ],
)
@on_sqlite
def test_what_is_not_known_is_not_said(session: Session, ana: Customer, recorded: Recorded, statement: Any) -> None:  # fmt: skip
    """A count, an EXISTS and an UPDATE have as many rows whatever they find: there is a search and no answer."""
    session.execute(statement())

    assert recorded("search", column="email")
    assert told(recorded) == []


@on_sqlite
def test_each_object_of_the_table_is_named_once(session: Session, ana: Customer, recorded: Recorded) -> None:  # fmt: skip
    """Beside another class, under an alias and in rows of a join: the row of the table that was asked, and no other."""
    other = aliased(Customer)
    session.execute(select(Order, Customer).join(Order.customer).where(Customer.email == EMAIL)).all()  # fmt: skip
    session.scalars(select(other).where(other.email == EMAIL)).all()
    session.scalars(select(Order).join(Order.customer).where(Customer.email == EMAIL)).all()

    assert told(recorded, column="email") == [
        (1, 1, 2, [ana.id.hex]),
        (1, 1, 1, [ana.id.hex]),
        (1, 1, 2, []),
    ]


@on_sqlite
def test_a_result_in_pieces_is_answered_in_pieces(session: Session, recorded: Recorded) -> None:
    """Searches count once, each piece names its rows, and a piece that nobody reads is not told of."""
    rows = [Customer(email=f"p{n}@example.org") for n in range(5)]
    session.add_all(rows)
    session.commit()
    asked = Customer.email.in_([f"p{n}@example.org" for n in range(9)])
    result = session.scalars(select(Customer).where(asked).execution_options(yield_per=2))
    result.fetchmany(4)
    result.close()
    pieces = told(recorded, column="email")

    assert [each[:3] for each in pieces] == [(9, 2, 2), (0, 2, 2)]
    assert len({row for each in pieces for row in each[3]}) == 4


@on_sqlite
def test_a_rollback_takes_nothing_back(session: Session, ana: Customer, recorded: Recorded) -> None:
    """The search and what it found stay in the evidence of a transaction that was rolled back."""
    session.scalars(select(Customer).where(Customer.email == EMAIL)).all()
    session.rollback()

    assert len(recorded("search", column="email")) == 1
    assert len(told(recorded, column="email")) == 1


@on_sqlite
def test_candidates_are_named_as_they_leave(session: Session, ana: Customer, acting: Acting, recorded: Recorded) -> None:  # fmt: skip
    """Whoever may search and not decrypt, and asks for candidates, is given rows: those are named."""
    with acting("searcher"):
        session.scalars(candidates(select(Customer).where(Customer.name == "ana"))).all()

    (answer,) = told(recorded, column="name")
    assert ana.id.hex in answer[3]


def planted(row: Customer) -> Marks:
    key = bytes(range(32))
    made = mark(key, store="main", table="customers", row=row.id.hex)
    return Marks(key, {made: Planted(token="heron", since=0)})


@on_sqlite
def test_a_honeytoken_that_a_search_finds_is_touched(session: Session, ana: Customer, recorded: Recorded) -> None:  # fmt: skip
    """No look is needed: the row in the result is enough. A search that finds another row, or none, touches nothing."""
    marks = planted(ana)
    for email in (EMAIL, OTHER_EMAIL, "nobody@example.org"):
        session.scalars(select(Customer).where(Customer.email == email)).all()
    found = [touched(Entry(each), marks) for each in recorded("answer", column="email")]

    assert found == [("heron",), (), ()]


@on_postgresql
def test_answers_of_awaiting_sessions(lacre: Lacre, session: Session, ana: Customer, url: Any, recorded: Recorded) -> None:  # fmt: skip
    """An AsyncSession tells what an exact and a short index found, of a list and of a stream, a honeytoken too."""
    row = planted(ana), ana.id.hex

    async def ask() -> None:
        engine = create_async_engine(url)
        asking: Any = lacre.sqlalchemy(async_sessionmaker(engine))
        async with asking() as awaiting:
            (await awaiting.scalars(select(Customer).where(Customer.email == EMAIL))).one()
            (await awaiting.scalars(select(Customer).where(Customer.name == "ana"))).one()
            stream = await awaiting.stream_scalars(select(Customer).where(Customer.cpf == CPF))
            assert len([each async for each in stream]) == 1
        await engine.dispose()

    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        asyncio.run(ask())
    marks, name = row

    for column in ("email", "name", "cpf"):
        (answer,) = recorded("answer", column=column)
        assert (answer["searches"], answer["count"], answer["rows"]) == (1, 1, [name])
        assert touched(Entry(answer), marks) == ("heron",)


@on_sqlite
def test_rows_do_not_leave_without_their_record(lacre: Lacre, session: Session, ana: Customer, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Where the answer cannot be recorded, nobody gets the rows."""
    result = session.execute(select(Customer).where(Customer.email == EMAIL))

    def refuse(*_: Any) -> None:
        raise EvidenceUnavailable("the events cannot be recorded")

    monkeypatch.setattr(lacre.recorder, "record", refuse)

    with pytest.raises(EvidenceUnavailable):
        result.all()
