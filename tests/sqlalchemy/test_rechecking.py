# SPDX-License-Identifier: Apache-2.0
"""Short indexes: of 300 rows with 8 bits many collide, and no false hit is ever seen."""

from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, not_, or_, select, text, true, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    selectinload,
    with_loader_criteria,
)

from lacre import AccessDenied, Lacre, UnsupportedQuery
from lacre.sqlalchemy import BlindIndex, encrypted
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.models import Customer, Order, Person

ROWS = 300


@pytest.fixture
def crowd(session: Session) -> str:
    """300 names, and one that is there twice; returns a name whose token two other rows share."""
    session.add_all([Customer(name=f"name {n}", city=str(n % 3)) for n in range(ROWS)])
    session.add_all([Customer(name="twice", city="0"), Customer(name="twice", city="1")])
    session.commit()
    by_token: dict[bytes, list[Customer]] = {}
    for row in session.scalars(select(Customer)):
        by_token.setdefault(row.name_bidx, []).append(row)  # type: ignore[attr-defined]
    sharing = next(found for found in by_token.values() if len(found) > 2)
    return next(str(row.name) for row in sharing if row.name != "twice")


def test_results_counts_and_pages_are_exact(session: Session, crowd: str) -> None:
    """Every name is found once, whatever shares its token, in every shape of query."""
    by_name = select(Customer).where(Customer.name == crowd)
    assert [row.name for row in session.scalars(by_name)] == [crowd]
    assert session.scalars(by_name.limit(1)).one().name == crowd
    assert session.scalars(by_name.limit(1).offset(1)).all() == []
    count = select(func.count()).select_from(Customer)
    assert session.scalar(count.where(Customer.name == crowd)) == 1
    assert session.scalar(count.where(Customer.name == "nobody")) == 0
    assert session.scalar(count.where(Customer.name.in_([crowd, "twice", "nobody"]))) == 3
    assert session.scalar(count.where(Customer.name == "twice", Customer.city == "1")) == 1
    assert session.query(Customer).filter_by(name=crowd).one().name == crowd
    grouped = (
        select(Customer.city, func.count())
        .where(Customer.name == "twice")
        .group_by(Customer.city)
        .having(func.count() > 0)
        .order_by(Customer.city)
    )
    assert [tuple(row) for row in session.execute(grouped)] == [("0", 1), ("1", 1)]


def test_every_name_is_found(session: Session, crowd: str) -> None:
    """No row is lost to a collision either."""
    for n in range(0, ROWS, 7):
        assert (
            session.scalars(select(Customer).where(Customer.name == f"name {n}")).one().name
            == f"name {n}"
        )


def test_aliases_joins_and_inheritance(session: Session, crowd: str) -> None:
    """The re-check follows the entity that was asked."""
    person = aliased(Customer)
    assert session.scalars(select(person).where(person.name == crowd)).one().name == crowd
    customer = session.scalars(select(Customer).where(Customer.name == crowd)).one()
    session.add_all([Order(customer=customer), Order(customer=customer)])
    session.add_all([Person(phone=str(n)) for n in range(ROWS)])
    session.commit()
    joined = select(Order).join(Order.customer).where(Customer.name == crowd)
    assert len(session.scalars(joined).all()) == 2
    assert session.scalars(select(Person).where(Person.phone == "77")).one().phone == "77"
    eager = select(Customer).where(Customer.name == crowd).options(joinedload(Customer.orders))
    assert len(session.scalars(eager).unique().one().orders) == 2


def test_what_is_pending_is_flushed_before_the_candidates_are_read(session: Session) -> None:
    """An object added a moment ago is found, as autoflush promises; without autoflush it is not."""
    session.add(Customer(name="new"))
    with session.no_autoflush:
        assert session.scalars(select(Customer).where(Customer.name == "new")).all() == []

    assert session.scalars(select(Customer).where(Customer.name == "new")).one().name == "new"


def test_one_search_with_its_re_check_is_one_event(
    session: Session, crowd: str, recorded: Any
) -> None:
    """Reading candidates is part of the search, and opening them is no look."""
    looks = recorded("look")
    session.scalars(select(Customer).where(Customer.name == crowd)).all()

    assert len(recorded("search")) == 1
    assert recorded("look") == looks


def test_the_re_check_takes_the_right_to_decrypt(
    session: Session, crowd: str, acting: Acting
) -> None:
    """A principal who may only search gets no answer from a short index, rather than a false one."""
    with acting("searcher"), pytest.raises(AccessDenied):
        session.scalars(select(Customer).where(Customer.name == crowd)).all()


def _refused() -> dict[str, Any]:
    inner = select(Customer.id).where(Customer.name == "x")
    by_name = Customer.name == "x"
    cities = select(Customer.city).where(by_name)
    return {
        "or": select(Customer).where(or_(by_name, Customer.city == "0")),
        "not": select(Customer).where(not_(by_name)),
        "tilde": select(Customer).where(~by_name, Customer.city == "0"),
        "subquery": select(Customer).where(Customer.id.in_(inner)),
        # The subquery would have false hits, or leave rows out, of the very condition re-checked outside.
        "twice": select(Customer).where(by_name, Customer.city.in_(cities)),
        "twice, once negated": select(Customer).where(by_name, Customer.city.notin_(cities)),
        "exists": select(Order).where(Order.customer.has(by_name)),
        "column": select(by_name),
        "having": select(Customer.city).group_by(Customer.city).having(by_name),
        "union": select(Customer.id).where(by_name).union(inner),
        "update": update(Customer).where(by_name).values(city="x"),
        "delete": delete(Customer).where(by_name),
        "on": select(Order).join(Customer, by_name),
        "option": select(Customer).options(with_loader_criteria(Customer, by_name)),
        "option, twice": select(Customer)
        .where(by_name)
        .options(with_loader_criteria(Customer, by_name)),
        "relationship in an option, twice": select(Order, Customer)
        .join(Customer, true())
        .where(by_name)
        .options(joinedload(Order.customer.and_(by_name))),
        "of relationship": select(Order).join(Order.customer.and_(by_name)),
    }


@pytest.mark.parametrize("shape", _refused())
def test_where_hits_cannot_be_re_checked_they_are_refused(
    session: Session, crowd: str, shape: str
) -> None:
    """A false hit under OR, NOT, in a subquery, a join or an option could not be taken out."""
    with pytest.raises(UnsupportedQuery, match="8 bits"):
        session.execute(_refused()[shape]).all()


def test_a_condition_in_a_loader_is_refused(session: Session, crowd: str) -> None:
    """Related rows are loaded by statements of SQLAlchemy's own, which are not re-checked."""
    order = Order(customer=session.scalars(select(Customer).where(Customer.name == crowd)).one())
    session.add(order)
    session.commit()
    session.expunge_all()
    query = select(Order).options(selectinload(Order.customer.and_(Customer.name == crowd)))

    with pytest.raises(UnsupportedQuery, match="loader option"):
        session.scalars(query).all()


def test_inequality_of_a_short_index_is_refused() -> None:
    """Rows that collide would be left out."""
    for ask in (lambda: Customer.name != "x", lambda: Customer.name.not_in(["x"])):
        with pytest.raises(UnsupportedQuery, match="inequality"):
            ask()


def test_too_many_candidates_are_refused(
    session: Session, crowd: str, lacre: Lacre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement opens a bounded number of candidates; narrowed by another condition, it runs."""
    twice = next(row.id for row in session.scalars(select(Customer)) if row.name == "twice")
    bounded = lacre.policy.file.search.model_copy(update={"candidates": 1})
    monkeypatch.setitem(lacre.policy.file.__dict__, "search", bounded)
    with pytest.raises(UnsupportedQuery, match="are candidates"):
        session.scalars(select(Customer).where(Customer.name == "twice")).all()
    key = session.scalars(select(Customer.id).where(Customer.name == "twice", Customer.id == twice))

    assert key.one() == twice


class Base(DeclarativeBase):
    pass


class Seat(Base):
    """A composite primary key."""

    __tablename__ = "seats"

    hall: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str] = encrypted("pii", index=BlindIndex("exact", bits=8))


def test_many_hits_of_a_composite_key(session: Session, engine: Engine) -> None:
    """As many hits as the guard lets through are not too many for the database."""
    Base.metadata.create_all(engine)
    rows = [{"hall": "a", "number": n, "guest": "Ana"} for n in range(2000)]
    session.execute(insert(Seat), [*rows, {"hall": "b", "number": 1, "guest": "Bia"}])
    if engine.dialect.name == "postgresql":
        # Of two megabytes, which are the default, nine thousand rows would be too many.
        session.execute(text("SET LOCAL max_stack_depth = '300kB'"))
    guests = select(func.count()).select_from(Seat)

    assert session.scalar(guests.where(Seat.guest == "Ana")) == 2000
    assert session.scalar(guests.where(Seat.guest == "Bia")) == 1
    assert session.scalar(guests.where(Seat.guest == "nobody")) == 0
