# SPDX-License-Identifier: Apache-2.0
"""Searching by exact blind indexes: what is found, by whom, and what stays in no cache."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session, aliased

from lacre import AccessDenied, DuplicateValue, InvalidValue, Lacre, Mask, NoPrincipal
from lacre.keys.hierarchy import KeyKind
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.models import (
    CPF,
    EMAIL,
    OTHER_CPF,
    OTHER_EMAIL,
    Customer,
    Order,
    Paired,
    Typed,
)
from tests.sqlalchemy.raw import only, rows


@pytest.fixture
def people(session: Session) -> tuple[Customer, Customer, Customer]:
    """Two with addresses, one without."""
    found = (
        Customer(email=EMAIL, cpf=CPF, city="a"),
        Customer(email=OTHER_EMAIL, cpf=OTHER_CPF, city="b"),
        Customer(city="c"),
    )
    session.add_all(found)
    session.commit()
    return found


def cities(session: Session, *conditions: Any) -> str:
    return "".join(
        session.scalars(select(Customer.city).where(*conditions).order_by(Customer.city))
    )


@pytest.mark.usefixtures("people")
def test_the_operators(session: Session) -> None:
    """Equality, its negation, lists and NULL, alone and joined, as SQL would answer on plaintext."""
    assert cities(session, Customer.email == EMAIL) == "a"
    assert cities(session, Customer.email == " ANA@Example.org ") == "a"
    assert cities(session, Customer.cpf == "52998224725") == "a"
    assert cities(session, Customer.email != EMAIL) == "b"
    assert cities(session, Customer.email.in_([EMAIL, OTHER_EMAIL])) == "ab"
    assert cities(session, Customer.email.in_(x for x in [EMAIL])) == "a"
    assert cities(session, Customer.email.in_([])) == ""
    assert cities(session, Customer.email.not_in([EMAIL])) == "b"
    assert cities(session, Customer.email.not_in([])) == "abc"
    assert cities(session, Customer.email.is_(None)) == "c"
    assert cities(session, Customer.email == None) == "c"  # noqa: E711
    assert cities(session, Customer.email != None) == "ab"  # noqa: E711
    assert cities(session, Customer.email.is_not(None)) == "ab"
    assert cities(session, Customer.account.is_(None)) == "abc"
    assert cities(session, not_(Customer.email == EMAIL)) == "b"
    assert cities(session, or_(Customer.email == EMAIL, Customer.cpf == OTHER_CPF)) == "ab"
    assert cities(session, and_(Customer.email == EMAIL, Customer.cpf == OTHER_CPF)) == ""


@pytest.mark.usefixtures("people")
def test_the_shapes_of_queries(session: Session) -> None:
    """Aliases, joins, subqueries, counts, pages and the legacy Query, all by an exact index."""
    person = aliased(Customer)
    session.scalars(select(Customer).where(Customer.email == EMAIL)).one().orders.append(Order())
    session.commit()

    assert session.scalars(select(person).where(person.cpf == CPF)).one().email == EMAIL
    joined = select(Order).join(Order.customer).where(Customer.cpf == CPF)
    assert session.scalars(joined).one().customer.email == EMAIL
    on = select(Customer.city).join(
        Order, and_(Order.customer_id == Customer.id, Customer.cpf == CPF)
    )
    assert session.scalars(on).all() == ["a"]
    inner = select(Customer.id).where(Customer.cpf == CPF)
    assert cities(session, Customer.id.in_(inner)) == "a"
    assert cities(session, exists().where(person.id == Customer.id, person.cpf == CPF)) == "a"
    count = select(func.count()).select_from(Customer).where(Customer.cpf == CPF)
    assert session.scalar(count) == 1
    page = select(Customer).where(Customer.cpf.in_([CPF, OTHER_CPF])).order_by(Customer.city)
    assert session.scalars(page.limit(1).offset(1)).one().city == "b"
    both = (
        select(Customer.city)
        .where(Customer.cpf == CPF)
        .union(select(Customer.city).where(Customer.cpf == OTHER_CPF))
    )
    assert sorted(session.scalars(both)) == ["a", "b"]

    query = session.query(Customer)
    assert query.filter_by(cpf=CPF).one().city == "a"
    assert query.filter(Customer.cpf == CPF).count() == 1
    assert session.query(query.filter(Customer.cpf == OTHER_CPF).exists()).scalar()


@pytest.mark.usefixtures("people")
def test_updates_and_deletes_by_an_exact_condition(session: Session, recorded: Any) -> None:
    """Statements that write other columns may ask; objects in the session follow; one search each."""
    customer = session.scalars(select(Customer).where(Customer.city == "a")).one()
    session.execute(update(Customer).where(Customer.cpf == CPF).values(city="z"))
    assert customer.city == "z"
    assert len(recorded("search")) == 1
    session.execute(delete(Customer).where(Customer.cpf == CPF))

    assert session.scalars(select(Customer.city).order_by(Customer.city)).all() == ["b", "c"]


def test_values_of_other_types_are_found(session: Session) -> None:
    """The normaliser `exact` takes any type, and 0 is not NULL."""
    session.add_all([Typed(number=0), Typed(number=7), Typed()])
    session.commit()

    assert session.scalars(select(Typed).where(Typed.number == 7)).one().number == 7
    assert session.scalars(select(Typed).where(Typed.number == 0)).one().number == 0
    with pytest.raises(InvalidValue):
        session.scalars(select(Typed).where(Typed.number == "7")).all()


def test_one_search_is_one_event(session: Session, recorded: Any) -> None:
    """An execution is one event a term, without term or token; the index is named."""
    session.scalars(select(Customer).where(Customer.cpf == CPF)).all()
    session.scalars(select(Customer).where(Customer.cpf == CPF, Customer.email == EMAIL)).all()

    assert [event["column"] for event in recorded("search")] == ["cpf", "cpf", "email"]


def test_one_statement_asks_anew_each_time(
    session: Session, sessions: Sessions, acting: Acting, recorded: Any
) -> None:
    """A statement cached in compiled form freezes neither value, principal nor token."""

    def find(value: str) -> Any:
        return select(Customer).where(Customer.cpf == value)

    session.add_all([Customer(cpf=CPF, city="a"), Customer(cpf=OTHER_CPF, city="b")])
    session.commit()
    kept = find(CPF)
    assert session.scalars(kept).one().city == "a"
    assert session.scalars(find(OTHER_CPF)).one().city == "b"
    assert session.scalars(kept).one().city == "a"
    with acting("searcher", "svc:other"):
        assert session.scalars(kept).one().city == "a"
    with acting("support"), pytest.raises(AccessDenied):
        session.scalars(kept).all()
    principals = [event["principal"] for event in recorded("search", outcome="allowed")]
    assert principals == ["svc:app"] * 3 + ["svc:other"]


def test_statements_share_one_compiled_form(session: Session, engine: Engine) -> None:
    """Statements that differ in the value only are one entry of the compiled cache."""
    session.scalars(select(Customer).where(Customer.cpf == CPF)).all()
    size = len(engine._compiled_cache or ())
    session.scalars(select(Customer).where(Customer.cpf == OTHER_CPF)).all()

    assert len(engine._compiled_cache or ()) == size
    key = select(Customer).where(Customer.cpf == CPF)._generate_cache_key()
    assert key is not None
    assert key.key == select(Customer).where(Customer.cpf == OTHER_CPF)._generate_cache_key().key  # type: ignore[union-attr]
    assert CPF not in repr(key)


@pytest.mark.usefixtures("people")
def test_search_alone_finds_and_shows_nothing(session: Session, acting: Acting) -> None:
    """The right to search gives the row; to look at it takes another."""
    with acting("searcher"):
        found = session.scalars(select(Customer).where(Customer.cpf == CPF)).one()
        assert found.city == "a"
        with pytest.raises(AccessDenied):
            found.cpf
    with acting("support"):
        assert type(found.cpf) is Mask
        with pytest.raises(AccessDenied):
            session.scalars(select(Customer).where(Customer.cpf == CPF)).all()


def test_nobody_searches(sessions: Sessions, recorded: Any) -> None:
    """Outside `acting_as` there is no search."""
    with sessions() as session, pytest.raises(NoPrincipal):
        session.scalars(select(Customer).where(Customer.cpf == CPF)).all()
    assert recorded("search") == []


def test_a_value_the_normaliser_refuses_is_an_error(session: Session) -> None:
    """No silent empty answer for what cannot be a CPF."""
    with pytest.raises(InvalidValue, match="not a CPF"):
        session.scalars(select(Customer).where(Customer.cpf == "123")).all()


def test_duplicates_are_refused(session: Session, engine: Engine) -> None:
    """Inserted or updated, in any spelling, a second row with a unique value is refused."""
    session.add_all([Customer(cpf=CPF), Customer(cpf=OTHER_CPF)])
    session.commit()
    session.add(Customer(cpf="52998224725"))
    with pytest.raises(DuplicateValue) as inserted:
        session.commit()
    session.rollback()
    session.scalars(select(Customer).where(Customer.cpf == OTHER_CPF)).one().cpf = CPF
    with pytest.raises(DuplicateValue) as updated:
        session.flush()
    session.rollback()

    for raised in (inserted, updated):
        assert str(raised.value) == "customers.cpf already holds this value"
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
    assert only(engine, "SELECT count(*) FROM customers") == 2


@pytest.fixture
def rotate(lacre: Lacre, operator: Lacre) -> Callable[[], None]:
    """Rotate pii's index root, as the operator."""

    def rotated() -> None:
        with operator.acting_as("operator", roles={"operator"}, purpose="rotation"):
            provisioner = replace(operator.provisioner, settle=0.0)
            provisioner.rotate(operator.scope("default", "pii", KeyKind.INDEX))
        lacre.resolver.forget()

    return rotated


def test_rows_of_every_index_root_are_found(
    session: Session, rotate: Callable[[], None], engine: Engine
) -> None:
    """Before and after a rotation the same question finds rows of all versions; negated, it leaves all out."""
    session.add(Customer(cpf=CPF, city="old", name="Ana", orders=[Order(note="same")]))
    session.commit()
    rotate()
    session.add(Customer(cpf=OTHER_CPF, city="new", name="Ana", orders=[Order(note="same")]))
    session.commit()
    # Of 32 bits: those of eight are the same by chance, now and then.
    tokens = rows(engine, "SELECT note_bidx FROM orders")

    assert len(set(tokens)) == 2
    assert cities(session, Customer.cpf == CPF) == "old"
    assert cities(session, Customer.cpf.in_([CPF, OTHER_CPF])) == "newold"
    assert cities(session, Customer.cpf != CPF) == "new"
    assert cities(session, Customer.name == "Ana") == "newold"


def test_duplicates_across_index_roots_are_refused(
    session: Session, rotate: Callable[[], None], engine: Engine
) -> None:
    """The constraint cannot compare tokens of two roots, so they are looked up; a row is not its own duplicate."""
    session.add_all([Customer(cpf=CPF), Customer(cpf=OTHER_CPF)])
    session.add_all([Paired(shop="a", number=n, email=f"{n}@example.org") for n in (1, 2)])
    session.commit()
    rotate()
    session.add(Customer(cpf=CPF))
    with pytest.raises(DuplicateValue):
        session.flush()
    session.rollback()
    session.scalars(select(Customer).where(Customer.cpf == OTHER_CPF)).one().cpf = CPF
    with pytest.raises(DuplicateValue):
        session.flush()
    session.rollback()
    # One part of the composite key is the same: still another row.
    session.get_one(Paired, ("a", 1)).email = "2@example.org"
    with pytest.raises(DuplicateValue):
        session.flush()
    session.rollback()
    own = session.get_one(Paired, ("a", 1))
    own.email = "1@EXAMPLE.org"
    session.commit()

    assert own.email == "1@EXAMPLE.org"
