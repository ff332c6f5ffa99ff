# SPDX-License-Identifier: Apache-2.0
"""The names of SQLAlchemy that descriptions lean on without a promise: each does what is needed."""

from sqlalchemy import select

from tests.sqlalchemy.models import Customer, Order


def test_clauses_of_a_select() -> None:
    """Its order, limit and offset are read by these names."""
    plain = select(Customer.id)
    statement = plain.order_by(Customer.city).limit(3).offset(4)

    assert [clause.key for clause in statement._order_by_clauses] == ["city"]
    assert statement._limit_clause.effective_value == 3
    assert statement._offset_clause.effective_value == 4
    assert (plain._order_by_clauses, plain._limit_clause, plain._offset_clause) == ((), None, None)


def test_comparing_selects() -> None:
    """What `compare` finds equal has no clause more: values aside, which are read one by one."""
    with_values = {"compare_values": False, "compare_keys": False}
    one, other = (select(Customer).where(Customer.city == city) for city in ("a", "b"))

    assert one.compare(other, **with_values)
    assert not one.compare(other.distinct(), **with_values)
    assert not one.compare(other.join(Customer.orders), **with_values)


def test_joins_of_a_select() -> None:
    """Each is a target, a condition, a left side and flags; models are known by an annotation."""
    condition = Order.customer_id == Customer.id
    by, on = (
        select(Customer.id).join(Customer.orders),
        select(Customer.id)
        .select_from(Customer)
        .join_from(Customer, Order, condition, isouter=True),
    )
    [(target, nothing, _, how)] = by._setup_joins
    [(model, given, left, outer)] = on._setup_joins

    assert target is Customer.orders
    assert nothing is None
    assert (dict(how), dict(outer)) == (
        {"isouter": False, "full": False},
        {"isouter": True, "full": False},
    )
    assert given.compare(condition)
    assert [each._annotations["parententity"] for each in (model, left, *on._from_obj)] == [
        Order.__mapper__,
        Customer.__mapper__,
        Customer.__mapper__,
    ]
    assert by._generate()._setup_joins == by._setup_joins
