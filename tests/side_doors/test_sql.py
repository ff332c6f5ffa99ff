# SPDX-License-Identifier: Apache-2.0
"""SQL beside the ORM: raw, by the driver, by Core without types, by fixtures, by COPY and pg_dump."""

import subprocess
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from lacre import InvalidValue, Lacre, PlaintextFound, Tampered, UnsupportedQuery
from lacre._core.field import looks_encrypted
from tests.components.postgresql import Server, programs
from tests.side_doors.conftest import ACCOUNT, CPF, EMAIL, Shop, act_of, clean
from tests.sqlalchemy.models import Customer

TABLE: Any = Customer.__table__


def is_ciphertext(value: Any) -> bool:
    return bytes(value)[:2] == b"\xc1\x01" and len(bytes(value)) >= 91 and clean(bytes(value))


def by_text(shop: Shop) -> list[Any]:
    with shop.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT email, cpf, account FROM customers")).one())


def by_text_in_a_session(shop: Shop) -> list[Any]:
    with shop.act(), shop.sessions() as session:
        return list(session.execute(sa.text("SELECT email, cpf, account FROM customers")).one())


def by_a_cursor(shop: Shop) -> list[Any]:
    with shop.database.connect() as connection:
        row = connection.execute("SELECT email, cpf, account FROM customers").fetchone()
        assert row is not None
        return list(row)


def by_columns_without_types(shop: Shop) -> list[Any]:
    table = sa.table("customers", sa.column("email"), sa.column("cpf"), sa.column("account"))
    with shop.engine.connect() as connection:
        return list(connection.execute(sa.select(table)).one())


def reflected(shop: Shop) -> sa.Table:
    return sa.Table("customers", sa.MetaData(), autoload_with=shop.engine)


def by_reflection(shop: Shop) -> list[Any]:
    table = reflected(shop)
    with shop.engine.connect() as connection:
        return list(
            connection.execute(sa.select(table.c.email, table.c.cpf, table.c.account)).one()
        )


@pytest.mark.parametrize(
    "read",
    [by_text, by_text_in_a_session, by_a_cursor, by_columns_without_types, by_reflection],
    ids=lambda read: read.__name__,
)
def test_readers_get_ciphertext(shop: Shop, read: Callable[[Shop], list[Any]]) -> None:
    """Whoever reads beside the ORM gets the ciphertext of every column, also inside a session of lacre."""
    assert [is_ciphertext(value) for value in read(shop)] == [True, True, True]


def test_core_with_the_models_types(shop: Shop) -> None:
    """Selecting the model's table in Core gives ciphertext, and index tokens that do not print."""
    with shop.engine.connect() as connection:
        row = connection.execute(sa.select(TABLE)).one()

    assert looks_encrypted(row.email)
    assert repr(row.email_bidx).startswith("<index token")
    assert clean(repr(row))


def written_by_text(shop: Shop, value: bytes) -> None:
    with shop.engine.begin() as connection:
        connection.execute(sa.text("UPDATE customers SET account = :value"), {"value": value})


def written_by_text_in_a_session(shop: Shop, value: bytes) -> None:
    with shop.act(), shop.sessions() as session:
        session.execute(sa.text("UPDATE customers SET account = :value"), {"value": value})
        session.commit()


def written_by_a_cursor(shop: Shop, value: bytes) -> None:
    with shop.database.connect() as connection:
        connection.execute("UPDATE customers SET account = %s", [value])


def written_by_reflection(shop: Shop, value: bytes) -> None:
    with shop.engine.begin() as connection:
        connection.execute(sa.update(reflected(shop)).values(account=value))


def written_by_a_fixture_loader(shop: Shop, value: bytes) -> None:
    rows = [{"id": uuid4(), "account": value, "city": "Faro"}]
    with shop.engine.begin() as connection:
        connection.execute(sa.insert(reflected(shop)), rows)


def written_by_copy(shop: Shop, value: bytes) -> None:
    with (
        shop.database.connect() as connection,
        connection.cursor().copy("COPY customers (id, account) FROM STDIN") as copy,
    ):
        copy.write_row((uuid4(), value))


WRITERS = [
    written_by_text,
    written_by_text_in_a_session,
    written_by_a_cursor,
    written_by_reflection,
    written_by_a_fixture_loader,
    written_by_copy,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("value", [b"plaintext", b"\xc1\x01", b"\x00" * 200], ids=repr)
def test_the_table_refuses_plaintext(
    shop: Shop, write: Callable[[Shop, bytes], None], value: bytes
) -> None:
    """Plaintext, a short and a long one, written beside the ORM is refused by the CHECK; the value stays."""
    with pytest.raises((IntegrityError, psycopg.errors.CheckViolation), match="_lacre"):
        write(shop, value)

    with shop.act(), shop.sessions() as session:
        assert session.scalars(sa.select(Customer)).one().account == ACCOUNT


def test_text_is_of_the_wrong_type(shop: Shop) -> None:
    """A text value does not even reach the CHECK: the column is binary."""
    with shop.engine.begin() as connection, pytest.raises(sa.exc.ProgrammingError):
        connection.execute(sa.update(reflected(shop)).values(account=sa.literal("x", sa.Text())))


@pytest.mark.parametrize(
    "change",
    ["email = NULL", "email_bidx = NULL", "cpf = NULL, cpf_bidx = 'x'"],
)
def test_a_value_and_its_token_stay_together(shop: Shop, change: str) -> None:
    """A token without its value, or the reverse, is refused too."""
    with (
        shop.engine.begin() as connection,
        pytest.raises(IntegrityError, match=r"_bidx2?_lacre"),
    ):
        connection.execute(sa.text(f"UPDATE customers SET {change}"))


def test_a_ciphertext_of_another_place_does_not_open(shop: Shop) -> None:
    """What the CHECK cannot tell, bytes of the right shape, is found at the first look."""
    with shop.engine.begin() as connection:
        connection.execute(sa.text("UPDATE customers SET account = email"))
    with shop.act(), shop.sessions() as session, pytest.raises(Tampered):
        session.scalars(sa.select(Customer)).one().account


def test_plaintext_before_the_check_is_found_by_a_look(shop: Shop) -> None:
    """Where the CHECK was dropped and plaintext got in, a look says so; it does not hand it out."""
    with shop.engine.begin() as connection:
        connection.execute(
            sa.text("ALTER TABLE customers DROP CONSTRAINT ck_customers_account_lacre")
        )
        connection.execute(sa.text("UPDATE customers SET account = 'canary-plaintext'::bytea"))
    with shop.act(), shop.sessions() as session, pytest.raises(PlaintextFound) as raised:
        session.scalars(sa.select(Customer)).one().account

    assert clean(str(raised.value))


def test_statements_of_the_orm_do_not_write_plaintext(shop: Shop) -> None:
    """`update().values(...)` and Core with the model's types are refused before anything is sent."""
    with shop.act(), shop.sessions() as session:
        with pytest.raises(UnsupportedQuery):
            session.execute(sa.update(Customer).values(account="canary-account-2"))
        with pytest.raises(UnsupportedQuery) as raised:
            session.connection().execute(TABLE.update().values(account="canary-account-2"))

    assert clean(str(raised.value))


@pytest.mark.parametrize("form", ["TEXT", "CSV", "BINARY"])
def test_copy_to(shop: Shop, form: str) -> None:
    """`COPY ... TO` writes ciphertext, in each of its formats."""
    with (
        shop.database.connect() as connection,
        connection.cursor().copy(f"COPY customers TO STDOUT (FORMAT {form})") as copy,
    ):
        copied = b"".join(bytes(chunk) for chunk in copy)

    assert clean(copied)
    assert (b"\xc1\x01" if form == "BINARY" else b"c101") in copied


def test_a_dump_holds_ciphertext_and_opens_where_it_is_restored(
    shop: Shop, postgresql: Server, lacre: Lacre
) -> None:
    """`pg_dump` writes ciphertext; restored into a database of another name, the values open and are found."""
    dump = subprocess.run(
        [programs() / "pg_dump", "--dbname", shop.database.dsn(), "--table", "customers"],
        capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert clean(dump)
    with postgresql.database() as other:
        subprocess.run(
            [programs() / "psql", "--dbname", other.dsn(), "--quiet", "--set", "ON_ERROR_STOP=1"],
            input=dump, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        engine = sa.create_engine(other.url())
        with act_of(lacre)("app"), lacre.sqlalchemy(sessionmaker(engine))() as session:
            found = session.scalars(sa.select(Customer).where(Customer.cpf == CPF)).one()
            assert (found.email, found.account) == (EMAIL, ACCOUNT)
        engine.dispose()


def test_a_copy_of_a_ciphertext_is_opened_by_its_field(shop: Shop, lacre: Lacre) -> None:
    """Whoever was handed a ciphertext, by CDC or a history table, opens it as what it is: that cell's value."""
    raw = bytes(by_text(shop)[0])
    field = lacre.field("pii", table="customers", column="email")
    with shop.act():
        assert field.decrypt(raw, row=shop.row) == EMAIL
        with pytest.raises(Tampered):
            field.decrypt(raw, row=uuid4())
    with shop.act("support"):
        assert str(field.decrypt(raw, row=shop.row)) == "***"


def test_an_object_takes_no_ciphertext(shop: Shop) -> None:
    """Ciphertext read through a side door and assigned to an attribute is refused, not encrypted again."""
    raw = bytes(by_text(shop)[0])
    with shop.act(), shop.sessions() as session:
        customer = session.scalars(sa.select(Customer)).one()
        customer.account = raw
        with pytest.raises(InvalidValue):
            session.flush()
