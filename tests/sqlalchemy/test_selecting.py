# SPDX-License-Identifier: Apache-2.0
"""Encrypted columns among the columns of a query: each row that is fetched is a look."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, delete, func, insert, inspect, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    Bundle,
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    contains_eager,
    joinedload,
    mapped_column,
    sessionmaker,
)

from lacre import AccessDenied, Lacre, Mask, NoPrincipal, Tampered
from lacre._core.field import looks_encrypted
from lacre.errors import MisuseError
from lacre.sqlalchemy import encrypted
from lacre.sqlalchemy.selecting import NotInSQL
from lacre.sqlalchemy.types import SealedValue
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.counting import key_queries
from tests.sqlalchemy.models import (
    CPF,
    EMAIL,
    OTHER_EMAIL,
    Base,
    Customer,
    Numbered,
    Order,
    Paired,
    Person,
    Shop,
)

ROWS = 6


@pytest.fixture
def people(session: Session) -> list[str]:
    """Six customers with an order each, in the order of their cities; returns their addresses."""
    emails = [f"{n}@example.org" for n in range(ROWS)]
    session.add_all(
        Customer(email=email, account="1234567890123", city=email[0], orders=[Order(note=email)])
        for email in emails
    )
    session.commit()
    session.expunge_all()
    return emails


class DictBundle(Bundle[Any]):
    """A bundle of the application's own, as SQLAlchemy's documentation shows one."""

    single_entity = True

    def create_row_processor(self, query: Any, procs: Any, labels: Any) -> Any:
        return lambda row: dict(zip(labels, (proc(row) for proc in procs), strict=True))


def looks(recorded: Any, **wanted: str) -> int:
    return sum(event["count"] for event in recorded("look", **wanted))


def test_each_row_is_a_look(session: Session, people: list[str], recorded: Any) -> None:
    """Values come out, one event of a look for each of them, with the row it was in."""
    query = select(Customer.email).order_by(Customer.city)

    assert session.scalars(query).all() == people
    assert looks(recorded, column="email") == ROWS
    assert session.execute(query).first() is not None
    keys = {key.hex for key in session.scalars(select(Customer.id))}
    assert {row for event in recorded("look") for row in event["rows"]} == keys


def test_one_key_query(session: Session, lacre: Lacre, people: list[str]) -> None:
    """Keys are asked for once for all rows, before the first look."""
    with key_queries(lacre) as asked:
        assert session.scalars(select(Customer.email).order_by(Customer.city)).all() == people
        assert len(asked) == 1
    with key_queries(lacre) as asked:
        query = select(Customer.email, Customer.account).execution_options(yield_per=2)
        assert len(session.execute(query).all()) == ROWS
        assert len(asked) == 2  # of two classes, in the first chunk


def test_a_chunk_is_decided_for_whoever_fetched_it(
    sessions: Sessions, acting: Acting, people: list[str]
) -> None:
    """All values of a chunk of `yield_per`; the next chunk is decided for who acts then."""
    query = select(Customer.email).order_by(Customer.city).execution_options(yield_per=2)
    with sessions() as session, acting("app"), session.scalars(query) as found:
        assert next(found) == people[0]
        with acting("writer"):
            assert next(found) == people[1]
            with pytest.raises(AccessDenied):
                next(found)


def test_the_shapes_of_columns(session: Session, people: list[str]) -> None:
    """Beside others, in entities' company, labelled, bundled, of aliases and joins, in pages, from Query."""
    first = select(Customer.id, Customer.email, Customer.city).order_by(Customer.city)
    row = session.execute(first).first()
    assert row is not None
    assert (row.email, row[1], row.city) == (people[0], people[0], "0")
    assert isinstance(row.id, UUID)
    assert row._mapping["email"] == people[0]

    both = session.execute(select(Customer, Customer.email).order_by(Customer.city)).all()
    assert [found.email for found, _ in both] == [email for _, email in both] == people
    labelled = session.execute(select(Customer.email.label("address"))).all()
    assert sorted(found.address for found in labelled) == people
    bundled = session.execute(select(Bundle("b", Customer.city, Customer.email))).all()
    assert sorted(found.b.email for found in bundled) == people
    dicts = session.scalars(select(DictBundle("d", Customer.city, Customer.email))).all()
    assert {"city": "3", "email": people[3]} in dicts
    nested = session.execute(
        select(Bundle("outer", Customer.city, Bundle("inner", Customer.email)))
    ).all()
    assert sorted(found.outer.inner.email for found in nested) == people

    one, other = aliased(Customer), aliased(Customer)
    pairs = select(one.email, other.email).join(other, other.city < one.city)
    pairs = pairs.where(one.city == "2").order_by(other.city)
    assert [tuple(pair) for pair in session.execute(pairs)] == [
        (people[2], people[0]),
        (people[2], people[1]),
    ]
    joined = select(Customer.email, Order.note).join(Order).order_by(Customer.city)
    assert [tuple(found) for found in session.execute(joined)] == [(e, e) for e in people]
    page = select(Customer.email).order_by(Customer.city).limit(2).offset(1)
    assert session.scalars(page).all() == people[1:3]
    assert session.query(Customer.email).order_by(Customer.city).first() == (people[0],)
    grouped = select(Customer.email, func.count(Order.id)).join(Order).group_by(Customer.id)
    assert sorted(tuple(found) for found in session.execute(grouped)) == [(e, 1) for e in people]
    searched = select(Customer.city).where(Customer.email == people[4])
    assert session.scalar(searched) == "4"
    assert session.scalar(select(Customer.email).where(Customer.email == people[4])) == people[4]
    unique = session.scalars(select(Customer.email)).unique().all()
    assert sorted(unique) == people


def test_with_eager_loads(session: Session, people: list[str]) -> None:
    """Columns beside an entity whose children are loaded with it, with and without a page."""
    eager = select(Customer, Customer.email).options(joinedload(Customer.orders))
    found = session.execute(eager.order_by(Customer.city)).unique().all()
    assert [email for _, email in found] == people
    session.expunge_all()
    paged = session.execute(eager.order_by(Customer.city).limit(2)).unique().all()
    assert [(email, customer.orders[0].note) for customer, email in paged] == [
        (email, email) for email in people[:2]
    ]
    session.expunge_all()
    contained = (
        select(Order, Customer.email)
        .join(Order.customer)
        .options(contains_eager(Order.customer))
        .order_by(Customer.city)
    )
    assert [(order.customer.email, email) for order, email in session.execute(contained)] == [
        (email, email) for email in people
    ]


def test_null_is_none(session: Session, recorded: Any) -> None:
    """NULL comes out as None, and so does what an outer join left out; neither is a look."""
    session.add(Customer(city="x"))
    session.commit()
    assert session.scalars(select(Customer.email)).all() == [None]
    outer = select(Customer.city, Order.note).outerjoin(Order)

    assert [tuple(found) for found in session.execute(outer)] == [("x", None)]
    assert looks(recorded) == 0


def test_rows_of_every_kind_of_key(session: Session) -> None:
    """A row id of its own, a composite key, joined and single-table inheritance."""
    session.add_all(
        [
            Numbered(id=1, email=EMAIL),
            Paired(shop="a", number=1, email=EMAIL),
            Person(phone="1", cpf=CPF),
            Shop(phone="2", taxid="t"),
        ]
    )
    session.commit()

    assert session.scalars(select(Numbered.email)).one() == EMAIL
    assert session.scalars(select(Paired.email)).one() == EMAIL
    assert session.execute(select(Person.phone, Person.cpf)).one() == ("1", CPF)
    assert session.execute(select(Shop.phone, Shop.taxid)).one() == ("2", "t")
    person = aliased(Person)
    assert session.execute(select(person.cpf, person.phone)).one() == (CPF, "1")


def test_masks_and_refusals(
    session: Session, people: list[str], acting: Acting, sessions: Sessions
) -> None:
    """What a reader gets is what an attribute would give: the mask, `AccessDenied`, `NoPrincipal`."""
    query = select(Customer.email, Customer.account)
    with acting("support"):
        for email, account in session.execute(query):
            assert type(email) is Mask
            assert str(account) == "***0123"
    with acting("writer"), pytest.raises(AccessDenied):
        session.execute(query).all()
    import contextvars

    def unknown() -> None:
        with sessions() as nobodys, pytest.raises(NoPrincipal):
            nobodys.execute(query).all()

    contextvars.Context().run(unknown)


def test_no_key_for_whoever_gets_nothing(
    session: Session, lacre: Lacre, people: list[str], acting: Acting
) -> None:
    """A reader who gets nothing causes no question for a key."""
    with key_queries(lacre) as asked, acting("writer"), pytest.raises(AccessDenied):
        session.scalars(select(Customer.email)).all()

    assert asked == []


def test_moved_ciphertext_does_not_open(session: Session, people: list[str]) -> None:
    """A value in another row is refused here too."""
    table: Any = Customer.__table__
    one, other = session.scalars(select(Customer).order_by(Customer.city).limit(2)).all()
    connection = session.connection()
    [(taken,)] = connection.execute(select(table.c.email).where(table.c.id == one.id)).all()
    moved = SealedValue(taken)
    connection.execute(table.update().where(table.c.id == other.id).values(email=moved))

    with pytest.raises(Tampered):
        session.scalars(select(Customer.email).where(Customer.id == other.id)).all()


def test_statements_share_one_compiled_form(session: Session, people: list[str]) -> None:
    """A query for a column is compiled once, and asks whoever acts each time."""
    session.scalars(select(Customer.email)).all()
    bind: Any = session.get_bind()
    size = len(bind._compiled_cache)
    session.scalars(select(Customer.email)).all()
    person = aliased(Customer)
    session.scalars(select(Customer.cpf)).all()
    session.scalars(select(person.email)).all()

    assert len(bind._compiled_cache) == size + 2


def test_outside_a_session_of_lacre(session: Session, people: list[str], engine: Any) -> None:
    """A plain session is refused; a connection is given ciphertext."""
    with sessionmaker(engine)() as plain, pytest.raises(MisuseError, match="session of lacre"):
        plain.scalars(select(Customer.email)).all()
    with engine.connect() as connection:
        first = connection.execute(select(Customer.email)).first()

    assert "@example.org" not in repr(first)
    assert looks_encrypted(first[0])


def test_returning(session: Session, people: list[str], recorded: Any) -> None:
    """RETURNING of statements that write other columns, or delete, gives looks and objects."""
    change = update(Customer).where(Customer.city == "1").values(city="x")
    assert session.execute(change.returning(Customer.city, Customer.email)).all() == [
        ("x", people[1])
    ]
    assert looks(recorded, column="email") == 1
    again = update(Customer).where(Customer.city == "x").values(city="1").returning(Customer)
    assert session.scalars(again).one().email == people[1]
    added = insert(Customer).values(id=uuid4(), city="y").returning(Customer.email)
    assert session.scalars(added).all() == [None]
    session.execute(delete(Order))
    gone = delete(Customer).where(Customer.city == "1").returning(Customer.email)
    assert session.scalars(gone).all() == [people[1]]


def test_private_names() -> None:
    """What the columns of a query are, and what makes them a bundle, are under these names."""
    query: Any = select(Customer, Customer.email).distinct().order_by("city")
    entity, column = query._raw_columns

    assert entity._annotations["parententity"] is inspect(Customer)
    assert isinstance(column, NotInSQL)
    assert isinstance(column._annotations["bundle"], Bundle)
    assert (query._distinct, query._distinct_on) == (True, ())
    [by] = query._order_by_clauses
    assert type(by).__name__ == "_textual_label_reference"
    assert by.element == "city"
    assert callable(NotInSQL.__mro__[1]._make_proxy)


def test_rows_that_name_their_tenant(lacre: Lacre, operator: Lacre, acting: Acting) -> None:
    """A row's own tenant opens its value, several of them in one result."""
    with operator.acting_as("operator", roles={"operator"}, purpose="provisioning"):
        operator.create_keys("acme", "pii")
        operator.create_keys("globex", "pii")

    class Local(DeclarativeBase):
        pass

    class Ticket(Local):
        __tablename__ = "tickets"
        __lacre_tenant__ = "tenant"

        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant: Mapped[str]
        text: Mapped[str] = encrypted("pii")

    engine = create_engine("sqlite://")
    Local.metadata.create_all(engine)
    with acting("app"), lacre.sqlalchemy(sessionmaker(engine))() as session:
        session.add_all([Ticket(tenant=name, text=name) for name in ("acme", "globex") * 2])
        session.commit()
        found = session.execute(select(Ticket.tenant, Ticket.text)).all()
        assert [row.text for row in found] == [row.tenant for row in found]
        with acting("app", tenant="acme"), pytest.raises(AccessDenied):
            session.scalars(select(Ticket.text)).all()
    engine.dispose()


def test_on_an_event_loop(lacre: Lacre, tmp_path: Path) -> None:
    """Executed, streamed and in chunks, with an empty cache: the keys are awaited before the looks."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
        sessions = lacre.sqlalchemy(async_sessionmaker(engine))
        query = select(Customer.email).order_by(Customer.city)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with sessions() as session:
                session.add_all(
                    [Customer(email=EMAIL, city="1"), Customer(email=OTHER_EMAIL, city="2")]
                )
                await session.commit()
                with key_queries(lacre) as asked:
                    assert (await session.scalars(query)).all() == [EMAIL, OTHER_EMAIL]
                    assert len(asked) == 1
                with key_queries(lacre) as asked:
                    streamed = await session.stream_scalars(query.execution_options(yield_per=1))
                    assert [email async for email in streamed] == [EMAIL, OTHER_EMAIL]
                    assert len(asked) == 1
        finally:
            await engine.dispose()

    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        asyncio.run(main())
