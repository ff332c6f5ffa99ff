# SPDX-License-Identifier: Apache-2.0
"""Look-ups of a unique index: by its two columns' indexes, in whichever of them the tokens are."""

from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, not_, or_, select, text
from sqlalchemy.orm import Session

from tests.sqlalchemy.conftest import on_postgresql, on_sqlite
from tests.sqlalchemy.models import Customer
from tests.sqlalchemy.raw import execute

ROWS = 2000


@pytest.fixture(params=["odd", "even"])
def crowd(request: pytest.FixtureRequest, session: Session, engine: Engine) -> Session:
    """Customers whose tokens are under an index root of an odd or of an even version; one has no address."""
    rows = [{"email": f"p{n}@example.org"} for n in range(ROWS)]
    session.execute(insert(Customer), [*rows, {"email": None}])
    session.commit()
    if request.param == "even":
        execute(engine, "UPDATE customers SET email_bidx2 = email_bidx, email_bidx = NULL")
    return session


def by_email() -> Any:
    return select(Customer.id).where(Customer.email.in_(["p7@example.org", "p8@example.org"]))


@on_sqlite
@pytest.mark.parametrize("analysed", [False, True])
def test_a_look_up_takes_few_steps(crowd: Session, *, analysed: bool) -> None:
    """SQLite visits the rows that are found, whatever its statistics say of the column that is NULL."""
    if analysed:
        crowd.execute(text("ANALYZE"))
        crowd.commit()
    crowd.execute(by_email()).all()
    steps: list[int] = []
    driver: Any = crowd.connection().connection.driver_connection
    driver.set_progress_handler(lambda: steps.append(1) and 0, 100)  # once in a hundred steps
    found = crowd.scalars(by_email()).all()
    driver.set_progress_handler(None, 0)

    assert len(found) == 2
    assert len(steps) <= 5


@on_postgresql
def test_a_look_up_reads_indexes(crowd: Session, engine: Engine) -> None:
    """PostgreSQL reads both columns' indexes, each once, and no table."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE customers"))
    sent: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2:4]))
    assert len(crowd.scalars(by_email()).all()) == 2
    statement, given = sent[-1]
    plan = "\n".join(crowd.connection().exec_driver_sql(f"EXPLAIN {statement}", given).scalars())

    assert plan.count("Index Scan on customers_email_bidx") == 2
    assert "Seq Scan" not in plan


def test_neither_the_condition_nor_its_opposite_is_true_of_nothing(crowd: Session) -> None:
    """Under NOT and OR, as of a plain column: a row without a value is in neither, one with another in the second."""
    count = select(func.count()).select_from(Customer)
    one, several = (
        Customer.email == "p7@example.org",
        Customer.email.in_(["p7@example.org", "x@y.zz"]),
    )
    none = Customer.email.in_([])
    for condition, expected in (
        (one, 1),
        (not_(one), ROWS - 1),
        (not_(or_(one, Customer.city == "x")), 0),  # no city: neither
        (not_(or_(several, Customer.id.is_(None))), ROWS - 1),
        (none, 0),
        (not_(none), ROWS + 1),
        (not_(or_(none, Customer.id.is_(None))), ROWS + 1),
    ):
        assert crowd.scalar(count.where(condition)) == expected
