# SPDX-License-Identifier: Apache-2.0
"""What SQL cannot do with ciphertext, and what nobody may put into an encrypted column."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy import (
    Engine,
    String,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    text,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Bundle, Session, sessionmaker

from lacre import ConfigurationError, Lacre, LacreError, PlaintextFound, Tampered, UnsupportedQuery
from lacre._core.field import looks_encrypted
from lacre.errors import MisuseError
from lacre.fields.stored import IndexToken, Sealed
from lacre.sqlalchemy.types import SealedForRow
from tests.sqlalchemy.conftest import Acting
from tests.sqlalchemy.models import CPF, EMAIL, OTHER_EMAIL, Base, Customer, Order, Typed
from tests.sqlalchemy.raw import execute, only, rows

TABLE: Any = Customer.__table__

READING = {
    "order_by": lambda: select(Customer).order_by(Customer.email),
    "order_by desc": lambda: select(Customer).order_by(Customer.email.desc()),
    "order_by name": lambda: select(Customer).order_by("email"),
    "order_by name of a column": lambda: select(Customer.city, Customer.email).order_by(
        "email desc"
    ),
    "group_by name": lambda: select(Customer).group_by("email"),
    "group_by": lambda: select(func.count()).group_by(Customer.email),
    "function": lambda: select(Customer).where(func.lower(Customer.email) == EMAIL),
    "count": lambda: select(func.count(Customer.email)),
    "distinct": lambda: select(Customer.email.distinct()),
    "like": lambda: select(Customer).where(Customer.email.like("a%")),
    "startswith": lambda: select(Customer).where(Customer.email.startswith("a")),
    "less": lambda: select(Customer).where(Customer.email < EMAIL),
    "between": lambda: select(Customer).where(Customer.email.between("a", "b")),
    "plus": lambda: select(Customer).where(Customer.email + "x" == EMAIL),
    "reversed": lambda: select(Customer).where("x" + Customer.email == EMAIL),
    "distinct columns": lambda: select(Customer.email).distinct(),
    "distinct bundle": lambda: select(Bundle("b", Customer.id, Customer.email)).distinct(),
    "max": lambda: select(func.max(Customer.email)),
    "cast": lambda: select(cast(Customer.email, String)),
    "case": lambda: select(case((Customer.city == "plain", Customer.email), else_="")),
    "window": lambda: select(func.row_number().over(order_by=Customer.email)),
    "having": lambda: (
        select(Customer.city).group_by(Customer.city).having(func.min(Customer.email) == "x")
    ),
    "subquery": lambda: select(select(Customer.email).subquery().c[0]),
    "whole subquery": lambda: select(select(Customer.email).subquery()),
    "cte": lambda: select(select(Customer.id, Customer.email).cte().c.id),
    "in a list of it": lambda: select(Customer).where(Customer.id.in_(select(Customer.email))),
    "scalar of it": lambda: select(select(Customer.email).scalar_subquery()),
    "exists of it": lambda: select(Customer).where(select(Customer.email).exists()),
    "lateral": lambda: select(Order.id).join(select(Customer.email).lateral(), literal(True)),
    "bundle in a subquery": lambda: select(select(Bundle("b", Customer.email)).subquery()),
    "union all": lambda: union_all(select(Customer.email), select(Customer.cpf)),
    "from statement": lambda: select(Customer.email).from_statement(
        text("SELECT email FROM customers")
    ),
    "union": lambda: union(select(Customer.email), select(Customer.cpf)),
    "no index": lambda: select(Customer).where(Customer.account == "1"),
    "other column": lambda: select(Customer).where(Customer.email == Customer.cpf),
    "other expression": lambda: select(Customer).where(Customer.email == func.lower("A")),
    "scalar subquery": lambda: select(Customer).where(
        Customer.email == select(literal("x")).scalar_subquery()
    ),
    "in subquery": lambda: select(Customer).where(Customer.email.in_(select(literal("x")))),
    "in string": lambda: select(Customer).where(Customer.email.in_("abc")),
    "null in list": lambda: select(Customer).where(Customer.email.in_([EMAIL, None])),
    "is true": lambda: select(Customer).where(Customer.email.is_(True)),
    "core": lambda: select(TABLE).where(TABLE.c.email == EMAIL),
    "core token": lambda: select(TABLE).where(TABLE.c.email_bidx == EMAIL),
    "token": lambda: select(Customer).where(Customer.email_bidx == b"x"),  # type: ignore[attr-defined]
}

WRITING = {
    "update": lambda: update(Customer).values(email="x"),
    "update None": lambda: update(Customer).values(email=None),
    "update by attribute": lambda: update(Customer).values({Customer.email: "x"}),
    "update by attribute None": lambda: update(Customer).values({Customer.email: None}),
    "update by column": lambda: update(Customer).values({TABLE.c.email: None}),
    "update by expression": lambda: update(Customer).values(email=Customer.city),
    "update ordered": lambda: update(Customer).ordered_values(("email", None)),
    "update ordered by attribute": lambda: update(Customer).ordered_values((Customer.email, None)),
    "update where": lambda: update(Customer).where(Customer.cpf == CPF).values(email="x"),
    "update token": lambda: update(Customer).values(email_bidx=None),
    "insert": lambda: insert(Customer).values(id=uuid4(), email="x"),
    "insert None": lambda: insert(Customer).values(id=uuid4(), email=None),
    "insert several": lambda: insert(Customer).values([{"id": uuid4(), "email": "x"}]),
    "insert from select": lambda: insert(Customer).from_select(
        ["id", "email"], select(Customer.id, Customer.city)
    ),
    "core update": lambda: update(TABLE).values(email="x"),
    "core update None": lambda: update(TABLE).values(email=None),
    "core insert": lambda: insert(TABLE).values(id=uuid4(), email="x"),
    "in a cte": lambda: select(
        insert(TABLE)
        .from_select(["id", "email"], select(TABLE.c.id, TABLE.c.city))
        .returning(TABLE.c.id)
        .cte()
    ),
    "on conflict": lambda: _upsert(email="x"),
    "on conflict None": lambda: _upsert(email=None),
    "on conflict column": lambda: _upsert(email=TABLE.c.city),
    "on conflict token": lambda: _upsert(email_bidx=None),
}


def _upsert(dialect: str = "sqlite", **values: Any) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(Customer).values(id=uuid4(), city="x")
    return statement.on_conflict_do_update(index_elements=["id"], set_=values)


@pytest.fixture
def customer(session: Session) -> Customer:
    customer = Customer(email=EMAIL, cpf=CPF, account="123", city="plain")
    session.add(customer)
    session.commit()
    return customer


@pytest.mark.parametrize("shape", READING)
@pytest.mark.usefixtures("customer")
def test_questions_ciphertext_cannot_answer(session: Session, shape: str) -> None:
    """Whatever would have the database read a value is refused by its own error."""
    with pytest.raises(UnsupportedQuery):
        session.execute(READING[shape]()).all()


@pytest.mark.parametrize("shape", WRITING)
@pytest.mark.usefixtures("customer")
def test_statements_do_not_write_values(session: Session, engine: Engine, shape: str) -> None:
    """No INSERT or UPDATE statement writes, clears or copies into an encrypted column."""
    before = rows(engine, "SELECT * FROM customers")
    with pytest.raises(UnsupportedQuery):
        session.execute(WRITING[shape]())
    session.commit()

    assert rows(engine, "SELECT * FROM customers") == before


@pytest.mark.parametrize("email", ["x", None])
@pytest.mark.usefixtures("customer")
def test_what_knows_no_rows_does_not_write_values(
    session: Session, engine: Engine, email: str | None
) -> None:
    """Objects saved in bulk and Core's executemany are refused, also for None."""
    before = rows(engine, "SELECT * FROM customers")
    calls = (
        lambda: session.bulk_save_objects([Customer(id=uuid4(), email=email)]),
        lambda: session.execute(insert(TABLE), [{"id": uuid4(), "email": email}]),
    )
    for call in calls:
        with pytest.raises(UnsupportedQuery):
            call()
    session.commit()

    assert rows(engine, "SELECT * FROM customers") == before


def test_statements_write_other_columns(session: Session, customer: Customer) -> None:
    """A statement that leaves encrypted columns alone runs as ever."""
    session.execute(insert(Customer), [{"id": uuid4(), "city": "new"}])
    session.execute(update(Customer).where(Customer.city == "plain").values(city="y"))
    session.execute(_upsert(session.get_bind().dialect.name, city="z"))
    session.commit()

    assert (customer.city, customer.email) == ("y", EMAIL)


def test_core_is_given_ciphertext_only(engine: Engine, customer: Customer) -> None:
    """Beside every session, a value bound to the column is refused; a read gives ciphertext, and a token that does not print."""
    for statement in (
        TABLE.insert().values(id=uuid4(), email="x"),
        TABLE.update().values(email="x"),
    ):
        with engine.connect() as connection, pytest.raises(UnsupportedQuery):
            connection.execute(statement)
    with engine.connect() as connection:
        [held] = connection.execute(select(TABLE.c.email, TABLE.c.email_bidx))

    assert type(held.email) is bytes
    assert looks_encrypted(held.email)
    assert "index token" in repr(tuple(held))


@pytest.mark.parametrize("column", ["email", "email_bidx"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "sqlite"])
def test_only_what_was_made_for_the_column_is_bound(column: str, driver: str) -> None:
    """Bytes of every other kind are refused by the column's type, and what is sent does not print."""
    dialect = sqlite.dialect() if driver == "sqlite" else postgresql.dialect()
    dialect.driver, dialect.dbapi = driver, sqlite.dialect.import_dbapi()
    bind = TABLE.c[column].type.bind_processor(dialect)
    raw = bytes(range(120))
    good: dict[str, Any] = {"email": SealedForRow(raw), "email_bidx": IndexToken(raw)}
    bad = [raw, bytearray(raw), raw.hex(), 7, Sealed(raw), good.pop(column)]
    sent = bind(bad.pop())
    for value in (*bad, *good.values()):
        with pytest.raises(UnsupportedQuery):
            bind(value)

    assert bytes(sent) == raw
    assert "\\x" not in repr(sent)
    assert bind(None) is None


@pytest.mark.usefixtures("customer")
def test_a_plain_session_asks_nothing(engine: Engine) -> None:
    """A condition on an encrypted column in a session of somebody else's is a clear error."""
    with sessionmaker(engine)() as plain, pytest.raises(MisuseError, match="session of lacre"):
        plain.scalars(select(Customer).where(Customer.cpf == CPF)).all()


@pytest.mark.parametrize("planted", ["ana@example.org", "wQEA", b"", b"ana", 42, 1.5])
def test_planted_plaintext_is_refused(
    session: Session, engine: Engine, customer: Customer, planted: Any, recorded: Any
) -> None:
    """Text, bytes or numbers that somebody wrote with SQL are not handed out, and recorded as failed."""
    if engine.dialect.name == "postgresql" and isinstance(planted, int | float):
        pytest.skip("a column of bytes takes no number there")
    execute(engine, "UPDATE customers SET email = ?", planted)
    session.refresh(customer)
    with pytest.raises(PlaintextFound) as raised:
        customer.email

    assert str(planted) not in f"{raised.value} {raised.value.hint}" or planted == b""
    assert "ana@example.org" not in repr(customer.__dict__)
    assert recorded("look", column="email")[-1]["outcome"] == "failed"


def test_the_text_form_in_a_column_is_plaintext(
    session: Session, engine: Engine, customer: Customer, lacre: Lacre
) -> None:
    """Columns hold binary: even the right value as text is refused, for it is not what was written."""
    field = lacre.field("pii", table="customers", column="email")
    text = field.encrypt_text(EMAIL, row=customer.id)
    session.rollback()
    execute(engine, "UPDATE customers SET email = ?", text)

    with pytest.raises(PlaintextFound):
        customer.email


def test_moved_ciphertext_is_refused(session: Session, engine: Engine, customer: Customer) -> None:
    """From another row, column, table or class, a ciphertext does not open."""
    other = Customer(email=OTHER_EMAIL, orders=[Order(note="note")])
    session.add_all([other, Typed(id=customer.id, text="text")])
    session.commit()
    mine, theirs = customer.id.hex, other.id.hex
    session.rollback()
    for query, parameters in (
        ("SELECT email FROM customers WHERE id = ?", theirs),
        ("SELECT cpf FROM customers WHERE id = ?", mine),
        ("SELECT account FROM customers WHERE id = ?", mine),
        ("SELECT text FROM typed WHERE id = ?", mine),
    ):
        taken = only(engine, query, parameters)
        assert taken is not None
        execute(engine, "UPDATE customers SET email = ? WHERE id = ?", taken, mine)
        with pytest.raises(Tampered):
            customer.email
        session.rollback()


def test_another_tenant_does_not_open_a_value(
    session: Session, operator: Lacre, customer: Customer, acting: Acting, lacre: Lacre
) -> None:
    """A row of one tenant, looked at or searched as another, is not there."""
    with operator.acting_as("operator", roles={"operator"}, purpose="provisioning"):
        operator.create_keys("acme", "pii")
    with acting("app", tenant="acme"):
        with pytest.raises(Tampered):
            customer.email
        assert session.scalars(select(Customer).where(Customer.cpf == CPF)).all() == []

    assert customer.email == EMAIL


def test_what_is_no_sessionmaker_is_refused(lacre: Lacre) -> None:
    """A session class, or anything else that is no factory of sessions, is named."""
    with pytest.raises(ConfigurationError, match="async_sessionmaker, not type"):
        lacre.sqlalchemy(Session)  # type: ignore[call-overload]


def test_sync_sessions_on_an_event_loop_are_refused(
    lacre: Lacre, acting: Acting, tmp_path: Path
) -> None:
    """Sessions of a sessionmaker inside an AsyncSession would block it: refused at the first connection."""
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

    bound: Any = lacre.sqlalchemy(sessionmaker())
    with pytest.raises(ConfigurationError, match="sync_session_class"):
        lacre.sqlalchemy(async_sessionmaker(sync_session_class=bound))

    async def ask() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'async.db'}")
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with AsyncSession(engine, sync_session_class=bound) as session:
                with pytest.raises(ConfigurationError, match="block the event loop"):
                    await session.scalars(select(Customer).where(Customer.cpf == CPF))
            async with AsyncSession(engine, sync_session_class=bound) as session:
                session.add(Customer(cpf=CPF))
                with pytest.raises(ConfigurationError, match="block the event loop"):
                    await session.commit()
            async with AsyncSession(engine) as session:
                session.add(Customer(cpf=CPF))
                with pytest.raises(ConfigurationError, match="belongs to no session"):
                    await session.commit()
        finally:
            await engine.dispose()

    with acting("app"):
        asyncio.run(ask())


def test_every_refusal_is_lacres_own(engine: Engine) -> None:
    """The refusals raised inside SQLAlchemy's execution keep their class and hint."""
    with engine.connect() as connection, pytest.raises(LacreError) as raised:
        connection.execute(TABLE.insert().values(id=uuid4(), email="x"))

    assert isinstance(raised.value, UnsupportedQuery)
    assert raised.value.hint
    assert raised.value.code == "unsupported-query"


def test_a_condition_on_the_table_is_refused(session: Session) -> None:
    """Also where `filter_by` makes one, which is where SQLAlchemy takes it for the table's: unsent, and the hint says what to write."""
    statement = select(func.count(Customer.id))
    by_name = statement.filter_by(email=EMAIL)
    on_the_table = [statement.where(Customer.__table__.c.email == EMAIL)]
    if sqlalchemy.__version__.startswith("2.0."):
        assert session.scalar(by_name) == 0  # it takes it for the model's
    else:
        on_the_table.append(by_name)
    for asked in on_the_table:
        with pytest.raises(UnsupportedQuery) as raised:
            session.scalar(asked)
        assert "Model.name == value" in raised.value.hint
        assert EMAIL not in str(raised.value)

    assert session.scalar(statement.where(Customer.email == EMAIL)) == 0
