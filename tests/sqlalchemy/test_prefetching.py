# SPDX-License-Identifier: Apache-2.0
"""Keys are asked for once for each result set, or chunk of one, and for nobody who may not decrypt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    defer,
    joinedload,
    load_only,
    mapped_column,
    selectinload,
    sessionmaker,
    subqueryload,
)

from lacre import AccessDenied, Lacre, NoPrincipal
from lacre.errors import KeyServiceUnreachable
from lacre.keys.hierarchy import KeyKind
from lacre.sqlalchemy import encrypted
from tests.sqlalchemy.conftest import Acting, Sessions
from tests.sqlalchemy.counting import key_queries
from tests.sqlalchemy.models import Customer, Order

ROWS = 12


@pytest.fixture
def rotate(lacre: Lacre, operator: Lacre) -> Callable[[], None]:
    """Rotate pii's data key, as the operator."""

    def rotated() -> None:
        with operator.acting_as("operator", roles={"operator"}, purpose="rotation"):
            provisioner = replace(operator.provisioner, settle=0.0)
            provisioner.rotate(operator.scope("default", "pii", KeyKind.DATA))
        lacre.resolver.forget()

    return rotated


@pytest.fixture
def several(session: Session, rotate: Callable[[], None]) -> list[Any]:
    """Customers with two orders each, a third of them under each of three keys."""
    keys = []
    for group in range(3):
        for n in range(group * ROWS // 3, (group + 1) * ROWS // 3):
            customer = Customer(
                email=f"{n}@example.org",
                city=f"{n:02}",
                orders=[Order(note="a"), Order(note="b")],
            )
            session.add(customer)
            session.flush()
            keys.append(customer.id)
        session.commit()
        rotate()
    session.expunge_all()
    return keys


SHAPES: dict[str, tuple[Callable[[Session, list[Any]], list[Any]], int]] = {
    "scalars": (lambda s, _: list(s.scalars(select(Customer))), 1),
    "execute": (lambda s, _: [row[0] for row in s.execute(select(Customer))], 1),
    "with columns": (
        lambda s, _: [row.Customer for row in s.execute(select(Customer.id, Customer))],
        1,
    ),
    "query": (lambda s, _: s.query(Customer).all(), 1),
    "get": (lambda s, keys: [s.get_one(Customer, keys[0])], 1),
    "load_only": (
        lambda s, _: list(s.scalars(select(Customer).options(load_only(Customer.email)))),
        1,
    ),
    "defer": (lambda s, _: list(s.scalars(select(Customer).options(defer(Customer.cpf)))), 1),
    "joined": (
        lambda s, _: list(
            s.scalars(select(Customer).options(joinedload(Customer.orders))).unique()
        ),
        1,
    ),
    "selectin": (
        lambda s, _: list(s.scalars(select(Customer).options(selectinload(Customer.orders)))),
        1,
    ),
    "subquery": (
        lambda s, _: list(s.scalars(select(Customer).options(subqueryload(Customer.orders)))),
        1,
    ),
    # Rows in the order of their keys: a third of them, four, under each.
    "yield_per": (
        lambda s, _: list(
            s.scalars(
                select(Customer).order_by(Customer.city).execution_options(yield_per=ROWS // 3)
            )
        ),
        3,
    ),
    "partitions": (
        lambda s, _: [
            found
            for part in s.scalars(select(Customer).order_by(Customer.city))
            .yield_per(ROWS // 3)
            .partitions()
            for found in part
        ],
        3,
    ),
    "small chunks": (
        lambda s, _: list(
            s.scalars(select(Customer).order_by(Customer.city).execution_options(yield_per=2))
        ),
        3,  # the other chunks name keys that are held already
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_one_query_for_a_result(
    session: Session, lacre: Lacre, several: list[Any], shape: str
) -> None:
    """However a result is loaded, its keys are one query, and the looks that follow ask nothing."""
    load, expected = SHAPES[shape]
    with key_queries(lacre) as asked:
        found = load(session, several)
        queries = len(asked)
        # The children of an eager load are looked at as well.
        for customer in found:
            assert customer.email
            if "orders" in customer.__dict__:
                assert sorted(str(order.note) for order in customer.orders) == ["a", "b"]

    assert len(found) in (1, ROWS)
    assert queries == len(asked) == expected


def test_two_classes_are_two_queries(session: Session, lacre: Lacre) -> None:
    """Parent and child under keys of different classes: one question for each."""
    session.add(Customer(email="a@example.org", account="123", orders=[Order(note="n")]))
    session.commit()
    session.expunge_all()
    query = select(Customer).options(joinedload(Customer.orders))
    with key_queries(lacre) as asked:
        found = session.scalars(query).unique().one()
        assert (found.email, found.account, found.orders[0].note) == ("a@example.org", "123", "n")

    assert len(asked) == 2


def test_refreshed_expired_and_lazy_values(
    session: Session, lacre: Lacre, several: list[Any]
) -> None:
    """`refresh`, a look at an expired object, `populate_existing` and a lazy relationship are one query each."""
    customer = session.get_one(Customer, several[0])
    with key_queries(lacre) as asked:
        session.refresh(customer, ["email"])
        assert customer.email
        assert len(asked) == 1
    session.expire_all()
    with key_queries(lacre) as asked:
        assert customer.email
        assert len(asked) == 1
    with key_queries(lacre) as asked:
        assert sorted(str(order.note) for order in customer.orders) == ["a", "b"]
        assert len(asked) == 1
    with key_queries(lacre) as asked:
        session.scalars(select(Customer).execution_options(populate_existing=True)).all()

        assert len(asked) == 1


def test_a_warm_cache_is_asked_nothing(session: Session, lacre: Lacre, several: list[Any]) -> None:
    """Keys that are held are not asked for again."""
    session.scalars(select(Customer)).all()
    with key_queries(lacre, cold=False) as asked:
        for customer in session.scalars(
            select(Customer).execution_options(yield_per=2, populate_existing=True)
        ):
            assert customer.email

    assert asked == []


def test_no_key_for_whoever_gets_nothing(
    session: Session, lacre: Lacre, several: list[Any], acting: Acting
) -> None:
    """Loading as somebody who may not decrypt fetches no key; the look says what is the matter."""
    with key_queries(lacre) as asked, acting("writer"):
        found = session.scalars(select(Customer)).all()
        with pytest.raises(AccessDenied):
            found[0].email

    assert asked == []


def test_loading_as_nobody_works(sessions: Sessions, lacre: Lacre, several: list[Any]) -> None:
    """Outside `acting_as` rows load as ever and no key is fetched; the look complains."""
    import contextvars

    def load() -> None:
        with sessions() as session, key_queries(lacre) as asked:
            found = session.scalars(select(Customer)).all()
            assert len(found) == ROWS
            with pytest.raises(NoPrincipal):
                found[0].email

            assert asked == []

    contextvars.Context().run(load)


def test_a_key_service_that_is_down_stops_no_load(
    session: Session, lacre: Lacre, several: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be decrypted is loaded all the same, and the look says why it stays closed."""

    def down(*_: Any) -> Any:
        raise KeyServiceUnreachable("the key service did not answer")

    lacre.resolver.forget()
    monkeypatch.setattr(lacre.services["local"], "unwrap", down)
    found = session.scalars(select(Customer)).all()
    assert len(found) == ROWS
    with pytest.raises(KeyServiceUnreachable):
        found[0].email


def test_a_look_while_rows_are_loaded(session: Session, lacre: Lacre, several: list[Any]) -> None:
    """An application's own `load` event may look at the object: its key is fetched there and then."""
    seen: list[str] = []

    def loaded(target: Customer, _context: Any) -> None:
        seen.append(str(target.email))

    event.listen(Customer, "load", loaded)
    try:
        lacre.resolver.forget()
        session.scalars(select(Customer)).all()
    finally:
        event.remove(Customer, "load", loaded)

    assert len(seen) == ROWS


def test_nested_results_do_not_mix(session: Session, lacre: Lacre, several: list[Any]) -> None:
    """A statement run between two chunks of another result has its own keys resolved, and so has the rest."""
    outer = session.scalars(
        select(Customer).order_by(Customer.city).execution_options(yield_per=ROWS // 3)
    )
    with key_queries(lacre) as asked:
        first = next(outer)
        assert len(asked) == 1
        inner = session.scalars(select(Order)).all()
        assert {order.note for order in inner} == {"a", "b"}
        rest = [customer.email for customer in outer]

    assert first.email
    assert len(rest) == ROWS - 1
    assert len(asked) == 2


@pytest.fixture
def tenants(operator: Lacre) -> None:
    """Two more tenants with keys of their own."""
    with operator.acting_as("operator", roles={"operator"}, purpose="provisioning"):
        operator.create_keys("acme", "pii")
        operator.create_keys("globex", "pii")


@pytest.mark.usefixtures("tenants")
def test_rows_that_name_their_tenant(lacre: Lacre, acting: Acting) -> None:
    """The keys of several tenants in one result are one query for each tenant, and none for another's."""

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
        session.add_all([Ticket(tenant=name, text=name) for name in ("acme", "globex") * 3])
        session.commit()
        with key_queries(lacre) as asked:
            found = session.scalars(select(Ticket)).all()
            assert len(asked) == 2
            assert [ticket.text for ticket in found] == [ticket.tenant for ticket in found]
            session.refresh(found[0])
            assert found[0].text
            assert len(asked) == 2
        session.expunge_all()
        with key_queries(lacre) as asked, acting("app", tenant="acme"):
            session.scalars(select(Ticket)).all()
            assert len(asked) == 1
    engine.dispose()
