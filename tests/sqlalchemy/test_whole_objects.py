# SPDX-License-Identifier: Apache-2.0
"""A re-checked query for whole objects is one query; whatever false hits could be told by takes two."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select
from sqlalchemy.orm import Session, aliased, lazyload

from tests.sqlalchemy.models import Customer, Order

ROWS = 300


@pytest.fixture
def crowd(session: Session) -> str:
    """Names of which many share a token of 8 bits; returns one that shares its with two others."""
    session.add_all([Customer(name=f"name {n}", city=str(n)) for n in range(ROWS)])
    session.commit()
    by_token: dict[bytes, list[Customer]] = {}
    for row in session.scalars(select(Customer)):
        by_token.setdefault(row.name_bidx, []).append(row)  # type: ignore[attr-defined]
    name = str(next(found for found in by_token.values() if len(found) > 2)[1].name)
    session.rollback()
    session.expunge_all()
    return name


@pytest.fixture
def sent(engine: Engine) -> Iterator[list[str]]:
    """The queries for customers."""
    sent: list[str] = []

    def executed(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "customers" in statement and statement.startswith("SELECT"):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", executed)
    yield sent
    event.remove(engine, "before_cursor_execute", executed)


def test_it_is_one_query(session: Session, crowd: str, sent: list[str]) -> None:
    """Objects, in the order asked for, and of an alias: nothing is asked twice."""
    person = aliased(Customer)
    shapes: list[Any] = [
        select(Customer).where(Customer.name == crowd),
        select(Customer).where(Customer.name.in_([crowd, "name 7"])).order_by(Customer.city),
        select(person).where(person.name == crowd),
    ]
    for shape in shapes:
        sent.clear()
        assert crowd in [row.name for row in session.scalars(shape)]
        assert len(sent) == 1


def test_its_result_is_an_ordinary_one(session: Session, crowd: str) -> None:
    """Rows, keys, mappings, chunks and unique objects are those of any query for the class."""
    by_name = select(Customer).where(Customer.name.in_([crowd, "name 7", "name 8"]))
    by_city = select(Customer).where(Customer.city.in_([crowd.split()[1], "7", "8"]))
    asked, usual = by_name.order_by(Customer.city), by_city.order_by(Customer.city)

    def shown(statement: Any) -> list[Any]:
        def run() -> Any:
            return session.execute(statement)

        return [
            list(run().keys()),
            [tuple(row) for row in run()],
            [row.Customer for row in run()],
            [dict(row) for row in run().mappings()],
            run().scalars().unique().all(),
            [list(part) for part in run().scalars().partitions(2)],
            [list(part) for part in run().yield_per(2).partitions()],
            run().first(),
            run().fetchmany(1),
            run().unique().all(),
            run().freeze()().scalars().all(),
        ]

    assert shown(asked) == shown(usual)


def test_objects_that_are_there_are_the_same_ones(session: Session, crowd: str) -> None:
    """What the row holds is judged, whatever was assigned; and what was assigned stays."""
    held = session.scalars(select(Customer).where(Customer.city == crowd.split()[1])).one()
    held.name = "another"
    with session.no_autoflush:
        found = session.scalars(select(Customer).where(Customer.name == crowd)).one()

        assert found is held
        assert session.scalars(select(Customer).where(Customer.name == "another")).all() == []
    assert held.name == "another"


def test_what_could_tell_a_false_hit_takes_two_queries(
    session: Session, crowd: str, sent: list[str]
) -> None:
    """Pages, counts, joins, options, locks and overwriting execution: candidates first."""
    by_name = select(Customer).where(Customer.name == crowd)
    shapes: list[tuple[Any, dict[str, Any]]] = [
        (by_name.limit(1), {}),
        (by_name.offset(0), {}),
        (by_name.distinct(), {}),
        (by_name.with_for_update(), {}),
        (by_name.options(lazyload(Customer.orders)), {}),
        (by_name.outerjoin(Customer.orders), {}),
        (by_name.add_columns(Customer.city), {}),
        (select(Customer.city).where(Customer.name == crowd), {}),
        (select(func.count()).select_from(Customer).where(Customer.name == crowd), {}),
        (select(Order).join(Order.customer).where(Customer.name == crowd), {}),
        (by_name, {"populate_existing": True}),
        (by_name, {"yield_per": 1}),
    ]
    for shape, options in shapes:
        sent.clear()
        session.execute(shape, execution_options=options).all()
        assert len(sent) == 2


def test_a_listener_hears_of_no_false_hit(session: Session, crowd: str) -> None:
    """Who listens to what is loaded hears of hits alone."""
    loaded: list[Any] = []

    def listener(*arguments: Any) -> None:
        loaded.append(arguments)

    for target, name in ((Customer, "load"), (session, "loaded_as_persistent")):
        loaded.clear()
        event.listen(target, name, listener)
        session.scalars(select(Customer).where(Customer.name == crowd)).all()
        event.remove(target, name, listener)
        session.expunge_all()

        assert len(loaded) == 1
