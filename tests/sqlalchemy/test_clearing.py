# SPDX-License-Identifier: Apache-2.0
"""NULL in place of a value destroys it: decided like a write, and recorded as one."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from lacre import AccessDenied, ConfigurationError, EvidenceUnavailable, Lacre
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.models import CPF, EMAIL, Customer, Person
from tests.sqlalchemy.raw import only, rows
from tests.sqlalchemy.test_evidence import Failing

Recorded = Callable[..., list[dict[str, Any]]]


def assign(customer: Customer) -> None:
    customer.email = None


def delete(customer: Customer) -> None:
    del customer.email


def merge(customer: Customer) -> None:
    session = Session.object_session(customer)
    assert session is not None
    session.merge(Customer(id=customer.id, email=None))


def move(customer: Customer) -> None:
    customer.id = uuid4()
    customer.email = None


WAYS = {"assign": assign, "delete": delete, "merge": merge}
ways = pytest.mark.parametrize("clear", WAYS.values(), ids=WAYS)
loaded_or_not = pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "expired"])


def one(session: Session, *, loaded: bool = True) -> Customer:
    customer = Customer(email=EMAIL, account="1")
    session.add(customer)
    session.commit()
    if loaded:
        session.refresh(customer)
    return customer


def held(engine: Engine) -> tuple[Any, ...]:
    [row] = rows(engine, "SELECT email, email_bidx FROM customers")
    return row


@loaded_or_not
@ways
def test_who_may_not_encrypt_destroys_nothing(
    session: Session,
    engine: Engine,
    acting: Acting,
    recorded: Recorded,
    clear: Callable[[Customer], None],
    loaded: bool,
) -> None:
    """A reader who gets a mask cannot clear what the mask hides; the attempt is recorded as denied."""
    customer = one(session, loaded=loaded or clear is delete)
    before = held(engine)
    with acting("support"):
        clear(customer)
        with pytest.raises(AccessDenied, match="may not encrypt"):
            session.commit()
    session.rollback()

    assert held(engine) == before
    assert recorded("encrypt", column="email")[-1]["outcome"] == "denied"


@loaded_or_not
@ways
def test_clearing_is_recorded_with_its_row(
    session: Session,
    engine: Engine,
    recorded: Recorded,
    clear: Callable[[Customer], None],
    loaded: bool,
) -> None:
    """The value and its token are gone, and one event says in which row, without a key."""
    customer = one(session, loaded=loaded or clear is delete)
    clear(customer)
    session.flush()
    assert len(recorded("encrypt", column="email")) == 1
    session.commit()
    first, second = recorded("encrypt", column="email")

    assert held(engine) == (None, None)
    assert (second["outcome"], second["rows"], second["key"]) == (
        "allowed",
        [customer.id.hex],
        "",
    )
    assert first["key"] != ""


def test_clearing_a_row_that_moves_is_recorded(session: Session, recorded: Recorded) -> None:
    """Also where the primary key changes in the same flush."""
    customer = one(session)
    move(customer)
    session.commit()

    assert recorded("encrypt", column="email")[-1]["key"] == ""
    assert customer.email is None
    assert customer.account == "1"


def test_clearing_an_inherited_column_is_recorded(
    session: Session, acting: Acting, recorded: Recorded
) -> None:
    """Under joined inheritance the value looked for is in the column's own table."""
    person = Person(phone="1", cpf=CPF)
    session.add(person)
    session.commit()
    person.cpf = None
    with acting("support"), pytest.raises(AccessDenied):
        session.flush()
    session.rollback()
    person.phone, person.cpf = None, None
    session.commit()

    assert recorded("encrypt", column="phone")[-1]["key"] == ""
    assert recorded("encrypt", column="cpf")[-1]["key"] == ""


@loaded_or_not
def test_none_where_no_value_was_is_nothing(
    session: Session, acting: Acting, recorded: Recorded, loaded: bool
) -> None:
    """None on insert, and None over None, take no right and leave no event."""
    with acting("support"):
        customer = Customer(email=None, city="x")
        session.add(customer)
        session.commit()
        if loaded:
            session.refresh(customer)
        customer.email = None
        customer.city = "y"
        session.commit()

    assert recorded("encrypt") == []


def test_a_value_never_flushed_is_no_value(session: Session, recorded: Recorded) -> None:
    """None over a value that was assigned and never written destroys nothing."""
    customer = Customer(city="x")
    session.add(customer)
    session.commit()
    session.refresh(customer)
    customer.email = EMAIL
    customer.email = None
    session.commit()

    assert recorded("encrypt") == []


def test_clearing_rolled_back_is_not_recorded(
    session: Session, engine: Engine, recorded: Recorded
) -> None:
    """As for every write: no commit, no event, and the value is there."""
    customer = one(session)
    before = held(engine)
    customer.email = None
    session.flush()
    session.rollback()
    customer.city = "y"
    session.commit()

    assert held(engine) == before
    assert len(recorded("encrypt", column="email")) == 1


def test_clearing_that_cannot_be_recorded_does_not_happen(
    session: Session, engine: Engine, lacre: Lacre
) -> None:
    """With the sink down the value stays."""
    customer = one(session)
    before = held(engine)
    sink, lacre.recorder._sink = lacre.recorder._sink, Failing()
    customer.email = None
    with pytest.raises(EvidenceUnavailable):
        session.commit()
    lacre.recorder._sink = sink

    assert held(engine) == before


def test_nothing_is_cleared_on_a_connection_without_transactions(
    session: Session, engine: Engine, lacre: Lacre, acting: Acting
) -> None:
    """In AUTOCOMMIT mode clearing is refused like any write."""
    one(session)
    loose = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with acting("app"), lacre.sqlalchemy(sessionmaker(loose))() as other:
        other.scalars(select(Customer)).one().email = None
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            other.flush()
        other.rollback()
    loose.dispose()

    assert only(engine, "SELECT email IS NOT NULL FROM customers") == 1


def test_clearing_opens_nothing(session: Session, acting: Acting, recorded: Recorded) -> None:
    """Who may encrypt and not decrypt clears too, and no look is recorded."""
    customer = one(session)
    with acting("writer"):
        customer.email = None
        session.commit()

    assert recorded("encrypt", column="email")[-1]["principal"] == "svc:test"
    assert recorded("look") == []
