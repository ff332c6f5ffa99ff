# SPDX-License-Identifier: Apache-2.0
"""What SQLAlchemy keeps of a statement holds none of the values it asked for."""

import datetime as dt
import gc
import types
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session, aliased, selectinload, subqueryload
from sqlalchemy.sql import visitors

from lacre import UnsupportedQuery
from lacre.sqlalchemy.searching import Term
from tests.sqlalchemy.models import CPF, EMAIL, Citizen, Customer, Order


def reachable(root: object) -> list[Any]:
    """Everything that *root* holds, in any number of steps, but for modules, classes and code."""
    skipped = (type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType)
    seen: dict[int, Any] = {}
    todo: list[Any] = [root]
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, skipped):
            if isinstance(found, types.FunctionType):
                todo += [cell.cell_contents for cell in found.__closure__ or ()]
            continue
        seen[id(found)] = found
        todo += gc.get_referents(found)
    return list(seen.values())


def kept(session: Session, fingerprint: int) -> list[Any]:
    """The texts with that hash that the compiled cache holds; the text itself would be found in this frame."""
    gc.collect()
    engine: Any = session.get_bind()
    held = reachable(engine._compiled_cache)
    assert any(type(found).__name__ == "Select" for found in held), "the walk finds statements"
    return [found for found in held if isinstance(found, str) and hash(found) == fingerprint]


DAY = dt.date(1990, 1, 1)
SHAPES: dict[str, Callable[[str], Any]] = {
    "where": lambda v: select(Customer).where(Customer.email == v),
    "in": lambda v: select(Customer).where(Customer.email.in_([v, EMAIL])),
    "short": lambda v: select(Customer).where(Customer.name == v),
    "prefix": lambda v: select(Citizen).where(Citizen.name.startswith(v)),
    "contains": lambda v: select(Citizen).where(Citizen.name.contains(v)),
    "counted": lambda v: select(func.count()).where(Citizen.name.contains(v)),
    "compound": lambda v: select(Citizen).where(Citizen.name_and_birth == (v, DAY)),
    "and": lambda v: select(Customer).where(and_(Customer.email == v, Customer.city == "x")),
    "or": lambda v: select(Customer).where(or_(Customer.email == v, Customer.city == "x")),
    "not": lambda v: select(Customer).where(not_(Customer.email == v)),
    "column": lambda v: select(Customer.email).where(Customer.email == v),
    "count": lambda v: select(func.count()).select_from(Customer).where(Customer.email == v),
    "alias": lambda v: (a := aliased(Customer)) and select(a).where(a.email == v),
    "subquery": lambda v: select(Order).where(
        Order.customer_id.in_(select(Customer.id).where(Customer.email == v))
    ),
    "exists": lambda v: select(Order).where(
        exists().where(Customer.id == Order.customer_id, Customer.email == v)
    ),
    "on": lambda v: select(Customer.city).join(
        Order, and_(Order.customer_id == Customer.id, Customer.email == v)
    ),
    "joined": lambda v: select(Order).join(Order.customer).where(Customer.email == v),
    "union": lambda v: (
        select(Customer.city)
        .where(Customer.email == v)
        .union(select(Customer.city).where(Customer.cpf == CPF))
    ),
    "update": lambda v: update(Customer).where(Customer.email == v).values(city="y"),
    "delete": lambda v: delete(Customer).where(Customer.email == v),
    "selectin": lambda v: (
        select(Customer).where(Customer.email == v).options(selectinload(Customer.orders))
    ),
    "eager subquery": lambda v: (
        select(Customer).where(Customer.email == v).options(subqueryload(Customer.orders))
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_value_stays_in_the_compiled_cache(session: Session, shape: str) -> None:
    """Whatever the compiled cache keeps of a search, the value is not among it."""
    canary = f"{uuid4().hex}@example.org"
    session.execute(select(Customer).limit(1)).all()
    fingerprint = hash(canary)
    result = session.execute(SHAPES[shape](canary))
    if getattr(result, "returns_rows", True):
        assert not any(any(row) for row in result.all())
    del result, canary

    assert kept(session, fingerprint) == []


def test_the_walk_finds_what_is_kept(session: Session) -> None:
    """A value that is bound as SQLAlchemy binds it is found by the same walk."""
    canary = uuid4().hex
    fingerprint = hash(canary)
    session.execute(select(Customer).where(Customer.city == canary)).all()
    del canary

    assert kept(session, fingerprint)


def test_a_light_statement_is_executed_like_any_other(session: Session, engine: Engine) -> None:
    """First and later executions, of one statement and of equal ones, find the same, and share one compiled form."""
    session.add_all([Customer(email=EMAIL, city="a"), Customer(email="x@example.org", city="b")])
    session.commit()
    engine.clear_compiled_cache()
    mine = SHAPES["where"](EMAIL)
    other = SHAPES["where"]("x@example.org")
    cities = [session.scalars(found).one().city for found in (mine, other, mine, other)]
    size = len(engine._compiled_cache or ())
    again = session.scalars(SHAPES["where"](EMAIL)).one()

    assert cities == ["a", "b", "a", "b"]
    assert again.city == "a"
    assert len(engine._compiled_cache or ()) == size


def test_rows_are_fetched_after_the_statement_is_gone(session: Session) -> None:
    """A result whose statement nobody holds any more still loads what is loaded by a query of its own."""
    customer = Customer(email=EMAIL, orders=[Order(note="n")])
    session.add(customer)
    session.commit()
    session.expunge_all()
    result = session.scalars(SHAPES["eager subquery"](EMAIL))
    gc.collect()

    assert [order.note for order in result.one().orders] == ["n"]


def test_a_refusal_stays_one(session: Session) -> None:
    """What is refused is refused the first time and later."""
    for _ in range(2):
        with pytest.raises(UnsupportedQuery):
            session.execute(select(Customer).where(or_(Customer.name == "x", Customer.city == "y")))


def test_private_parts() -> None:
    """Conditions and joins of a statement are in these attributes, which a generated copy owns."""
    query: Any = select(Customer).join(Order, Order.id == Customer.id)
    query = query.where(Customer.email == EMAIL)
    copy = query._generate()
    [condition] = query._where_criteria
    [(target, on, *_)] = query._setup_joins
    copy._where_criteria = ()
    terms = {part for part in visitors.iterate(condition) if isinstance(part, Term)}

    assert len(terms) == 1  # for both columns of a unique index
    assert condition._clone()._is_clone_of is condition
    assert query._having_criteria == ()
    assert target.name == "orders"
    assert on is not None
    assert query._where_criteria
    union: Any = select(Customer.id).union(select(Order.id))
    assert len(union._generate().selects) == 2


def test_a_statement_is_lightened_once(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is compiled is copied: the next statement of the same form finds it compiled."""
    from lacre.sqlalchemy import session as sessions

    made: list[Any] = []
    real = sessions.lightened
    monkeypatch.setattr(sessions, "lightened", lambda found: made.append(1) or real(found))
    engine.clear_compiled_cache()
    for n in range(3):
        session.execute(SHAPES["column"](f"{n}@example.org")).all()

    assert len(made) == 1
