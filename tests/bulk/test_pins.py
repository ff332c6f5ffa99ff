# SPDX-License-Identifier: Apache-2.0
"""The names of SQLAlchemy that descriptions lean on without a promise: each does what is needed."""

from sqlalchemy import select

from tests.sqlalchemy.models import Customer


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
