# SPDX-License-Identifier: Apache-2.0
"""Planted rows: through the model, like their neighbours, and found again by their place alone."""

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from lacre.errors import ConfigurationError
from lacre.sqlalchemy.planting import Place, Planter
from tests.sqlalchemy.conftest import Acting, Sessions, on_sqlite
from tests.sqlalchemy.models import (  # fmt: skip
    Citizen,
    Customer,
    Numbered,
    Order,
    Paired,
    Person,
    Typed,
    Versioned,
)


def planted(sessions: Sessions, model: Any, **given: Any) -> Place:
    """Plant one row of *model*."""
    marked: list[Place] = []
    place = Planter(sessions, sa.inspect(model)).plant(given, marked.append)

    assert marked == [place]
    return place


def count(session: Session, model: Any) -> int:
    """How many rows there are."""
    return session.scalar(select(func.count()).select_from(model)) or 0


def test_a_planted_row_reads_like_any(sessions: Sessions, acting: Acting) -> None:
    """It is encrypted through the model, found by its index, and takes after its neighbours in what is plain."""
    with acting("app"):
        with sessions.begin() as session:
            session.add_all(Customer(email=f"a{n}@example.org", city="Recife") for n in range(9))
        place = planted(sessions, Customer, email="bait@example.org")
        with sessions() as session:
            found = session.scalars(select(Customer).where(Customer.email == "bait@example.org")).one()  # fmt: skip

            assert (place.store, place.table, place.row) == ("main", "customers", found.id.hex)
            assert found.city == "Recife"
            # The neighbours have no CPF and no account: neither has this one.
            assert (found.cpf, found.account) == (None, None)


def test_nothing_of_the_neighbours_is_looked_at(
    sessions: Sessions, acting: Acting, recorded: Any
) -> None:
    """Planting leaves writes in the evidence and no look."""
    with acting("app"):
        with sessions.begin() as session:
            session.add(Customer(email="ana@example.org", cpf="529.982.247-25"))
        place = planted(sessions, Customer)

    assert place.row in str(recorded("encrypt"))
    assert recorded("look") == []


def test_models_of_all_shapes_are_planted_and_removed(sessions: Sessions, acting: Acting) -> None:
    """Every type, compound indexes, row ids of their own, versions, joined tables: planted, found, deleted alone."""
    given: dict[Any, dict[str, Any]] = {
        Typed: {"blob": None},
        Versioned: {},
        Citizen: {"nick": "x"},
    }
    with acting("app"):
        for model in (Typed, Numbered, Versioned, Citizen, Person):
            planter = Planter(sessions, sa.inspect(model))
            first, second = (planter.plant(given.get(model, {}), lambda _: None) for _ in range(2))
            removed = planter.remove(lambda row, first=first: row == first.row)
            with sessions() as session:
                assert removed, model
                assert count(session, model) == 1, model
            assert not planter.remove(lambda row, first=first: row == first.row)
            assert planter.remove(lambda row, second=second: row == second.row)


@on_sqlite
def test_what_cannot_be_guessed_is_asked_for(
    sessions: Sessions, acting: Acting, engine: Engine
) -> None:
    """A key of another table, a row without a surrogate and an attribute there is not are errors that name it."""
    with acting("app"):
        with pytest.raises(ConfigurationError, match=r"Order.customer_id"):
            planted(sessions, Order)
        with pytest.raises(ConfigurationError, match="no attribute colour"):
            planted(sessions, Customer, colour="red")
        with pytest.raises(ConfigurationError, match="not one of its type"):
            planted(sessions, Customer, id="no uuid")
        with pytest.raises(ConfigurationError, match="no surrogates"):
            planted(sessions, Paired, shop="recife", number=7)
        with sessions.begin() as session:
            customer = Customer(id=UUID(int=1), email="ana@example.org")
            session.add_all([customer, Order(customer=customer, note="n")])
        place = planted(sessions, Order, note="gift", customer_id=str(UUID(int=1)))

    assert place.table == "orders"
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM paired")).scalar() == 0


@on_sqlite
def test_a_row_that_cannot_be_marked_is_not_planted(sessions: Sessions, acting: Acting) -> None:
    """Where its mark is not kept the row is not there."""

    def full(_: Place) -> None:
        raise ConfigurationError("full")

    with acting("app"):
        with pytest.raises(ConfigurationError, match="full"):
            Planter(sessions, sa.inspect(Customer)).plant({}, full)
        with sessions() as session:
            assert count(session, Customer) == 0
