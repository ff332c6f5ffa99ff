# SPDX-License-Identifier: Apache-2.0
"""A table made from a model refuses plaintext by itself, on SQLite and on PostgreSQL."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import Engine, MetaData, Table, func, insert, inspect, literal_column, select
from sqlalchemy.dialects import mssql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

from lacre import BlindIndex
from lacre.fields.checks import is_ciphertext
from lacre.sqlalchemy import encrypted
from tests.components.postgresql import Database
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.models import CPF, EMAIL, Base, Customer, Typed
from tests.sqlalchemy.raw import only, rows

TABLE: Any = Customer.__table__


def checks(engine: Engine, table: str) -> dict[str | None, str]:
    return {
        found["name"]: found["sqltext"] for found in inspect(engine).get_check_constraints(table)
    }


def ddl(table: Any, dialect: Any) -> str:
    return str(CreateTable(table).compile(dialect=dialect))


@pytest.fixture
def customer(session: Session) -> Customer:
    customer = Customer(email=EMAIL, cpf=CPF, account="1")
    session.add(customer)
    session.commit()
    return customer


PLAINTEXT = {
    "sqlite": [
        "upper('x')",
        "randomblob(200)",
        "id",
        "substr(email, 1, 90)",
        "x'C1' || substr(email, 3)",
        "CAST(email AS TEXT)",
        "42",
    ],
    "postgresql": [
        "'ana@example.org'",
        "convert_to(repeat('plaintext', 20), 'UTF8')",
        "uuid_send(id)",
        "substring(email from 1 for 90)",
        "'\\xc2'::bytea || substring(email from 2)",
        "''",
    ],
}


@pytest.mark.parametrize(
    ("url", "value"),
    [(dialect, value) for dialect, values in PLAINTEXT.items() for value in values],
    indirect=["url"],
)
@pytest.mark.parametrize("column", ["email", "account"])
def test_what_is_no_ciphertext_is_refused(
    engine: Engine, customer: Customer, column: str, value: str
) -> None:
    """Written beside the ORM, what has not type, length and beginning of a value does not get in."""
    before = rows(engine, "SELECT * FROM customers")
    with engine.begin() as connection, pytest.raises(IntegrityError, match="_lacre"):
        connection.exec_driver_sql(f"UPDATE customers SET {column} = {value}")

    assert rows(engine, "SELECT * FROM customers") == before


def test_an_expression_of_core_does_not_write_plaintext(
    session: Session, engine: Engine, customer: Customer
) -> None:
    """An UPDATE on the session's connection, with an expression no type ever sees, is refused."""
    # PostgreSQL knows before that text is not bytes.
    with pytest.raises((IntegrityError, ProgrammingError), match="account"):
        session.connection().execute(TABLE.update().values(account=func.upper("x")))
    session.rollback()

    assert customer.account == "1"


@pytest.mark.parametrize(
    "change", ["email = NULL", "email_bidx = NULL", "cpf_bidx = NULL, email_bidx = NULL"]
)
@pytest.mark.usefixtures("customer")
def test_a_value_and_its_token_are_null_together(engine: Engine, change: str) -> None:
    """Neither is left behind without the other."""
    with engine.begin() as connection, pytest.raises(IntegrityError, match="_bidx2_lacre"):
        connection.exec_driver_sql(f"UPDATE customers SET {change}")


def test_both_may_be_cleared(engine: Engine, customer: Customer) -> None:
    """One statement that sets both to NULL passes."""
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE customers SET email = NULL, email_bidx = NULL")

    assert only(engine, "SELECT count(*) FROM customers WHERE email IS NULL") == 1


def test_the_shortest_value_passes(session: Session) -> None:
    """Every ciphertext is as long as the constraint wants, that of an empty value too."""
    session.add_all([Typed(text="", blob=b"", flag=False, number=0), Typed()])
    session.commit()


def test_many_rows_in_one_statement(session: Session, engine: Engine) -> None:
    """Objects that one executemany inserts pass, with values and without."""
    session.add_all(
        Customer(email=f"{number}@example.org" if number % 2 else None, cpf=None, name=str(number))
        for number in range(50)
    )
    session.commit()

    assert only(engine, "SELECT count(email) FROM customers") == 25


@on_sqlite
def test_the_conditions_are_those_of_the_specification(engine: Engine) -> None:
    """A declared table refuses what one refuses that `lacre protect` converted."""
    text = (Path(__file__).parents[2] / "spec/protect-sqlite.md").read_text(encoding="utf-8")
    specified = [
        line.partition(" CHECK ")[2].replace('"NAME', '"email').replace('"', "")
        for line in text.splitlines()
        if line.startswith('"NAME') and " CHECK " in line
    ]
    found = checks(engine, "customers")
    made = [
        found["ck_customers_email_lacre"],
        found["ck_customers_name_bidx_lacre"].replace("name", "email"),
        found["ck_customers_email_bidx2_lacre"],
    ]

    assert [f"({condition})" for condition in made] == specified


def test_the_condition_is_the_same_under_every_setting(database: Database) -> None:
    """What PostgreSQL understands by the condition depends on no setting of the session."""
    condition = is_ciphertext("value", dialect="postgresql")
    understood = []
    for settings in ({}, {"standard_conforming_strings": "off", "bytea_output": "escape"}):
        with database.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"SET {name} = {value}")
            connection.execute(f"CREATE TABLE made (value bytea CHECK ({condition}))")
            connection.execute("RESET ALL")
            understood += connection.execute(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'made'::regclass"
            ).fetchall()
            connection.execute("DROP TABLE made")

    assert len(understood) == 2
    assert len(set(understood)) == 1


@pytest.mark.parametrize(
    "value",
    [
        *(b"\xc1\x01" + bytes(size - 2) for size in (2, 90, 91, 5000)),
        b"\xc1\x02" + bytes(89),
        b"\\xc101" + bytes(89),
        bytes(91),
        b"\xc1",
        b"",
        None,
    ],
)
def test_tables_of_earlier_releases_refuse_the_same(database: Database, value: Any) -> None:
    """What the condition lets pass is what the words of earlier releases let pass."""
    before = "value IS NULL OR (octet_length(value) >= 91 AND substring(value from 1 for 2) = decode('c101', 'hex'))"
    let = []
    for condition in (before, is_ciphertext("value", dialect="postgresql")):
        with database.connect() as connection:
            connection.execute(f"CREATE TEMP TABLE made (value bytea CHECK ({condition}))")
            try:
                connection.execute("INSERT INTO made VALUES (%s)", [value])
                let.append(True)
            except CheckViolation:
                let.append(False)

    assert let in ([True, True], [False, False])
    assert let[0] is (value is None or (len(value) > 90 and value[:2] == b"\xc1\x01"))


def test_names_say_table_and_column(engine: Engine) -> None:
    """`ck_TABLE_COLUMN_lacre`: in subclasses that of the table the column is in, and each once."""
    assert set(checks(engine, "people")) == {"ck_people_cpf_lacre", "ck_people_cpf_bidx2_lacre"}
    assert set(checks(engine, "parties")) == {
        "ck_parties_phone_lacre",
        "ck_parties_phone_bidx_lacre",
        "ck_parties_taxid_lacre",
        "ck_parties_taxid_bidx_lacre",
    }
    for table in Base.metadata.tables.values():
        names = [constraint.name for constraint in table.constraints if constraint.name]
        assert len(names) == len(set(names))


class _Mixin:
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email"))


def test_a_mixin_gives_each_table_its_own() -> None:
    """Two tables of one mixin, and an abstract base between, name their own columns."""

    class Declared(DeclarativeBase):
        pass

    class Abstract(_Mixin, Declared):
        __abstract__ = True
        id: Mapped[UUID] = mapped_column(primary_key=True)

    class One(Abstract):
        __tablename__ = "one"

    class Two(Abstract):
        __tablename__ = "two"

    for model in (One, Two):
        name = model.__tablename__
        text = ddl(model.__table__, sqlite.dialect())
        assert text.count(" CHECK ") == 2
        assert f"CONSTRAINT ck_{name}_email_lacre CHECK" in text
        assert f"CONSTRAINT ck_{name}_email_bidx_lacre CHECK" in text


def test_concrete_inheritance_repeats_the_column() -> None:
    """A concrete subclass that declares the column again has its own constraint."""

    class Declared(DeclarativeBase):
        pass

    class Parent(Declared):
        __tablename__ = "parents"
        id: Mapped[UUID] = mapped_column(primary_key=True)
        email: Mapped[str] = encrypted("pii")

    class Child(Parent):
        __tablename__ = "children"
        __mapper_args__ = {"concrete": True}  # noqa: RUF012
        id: Mapped[UUID] = mapped_column(primary_key=True)
        email: Mapped[str] = encrypted("pii")

    assert "ck_children_email_lacre CHECK" in ddl(Child.__table__, sqlite.dialect())
    assert "children" not in ddl(Parent.__table__, sqlite.dialect())


@pytest.mark.parametrize("convention", [{}, {"ck": "other_%(constraint_name)s"}])
def test_names_that_need_quotes(
    engine: Engine, session: Session, convention: dict[str, str]
) -> None:
    """Reserved words, capitals, spaces and percent signs are quoted; a naming convention changes nothing."""

    class Declared(DeclarativeBase):
        metadata = MetaData(naming_convention={"ix": "ix_%(column_0_label)s", **convention})

    class Model(Declared):
        __tablename__ = 'a "Table" 100%'
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        order: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact"))
        eMail: Mapped[str | None] = encrypted("pii")

    Declared.metadata.create_all(engine)
    session.add(Model(order="1", eMail=EMAIL))
    session.commit()
    for name in ("eMail", "order"):
        planted = Model.__table__.update().values({name: literal_column("'x'")})  # type: ignore[attr-defined]
        with engine.begin() as connection, pytest.raises(IntegrityError, match=f"{name}_lacre"):
            connection.execute(planted)

    assert session.scalars(select(Model)).one().order == "1"
    assert {constraint.name for constraint in Model.__table__.constraints} >= {  # type: ignore[attr-defined]
        'ck_a "Table" 100%_order_lacre'
    }


@pytest.mark.parametrize("copied", [False, True])
def test_other_databases_get_none(copied: bool) -> None:
    """Where lacre knows no conditions the table is made without them, a copy of it too."""
    table = TABLE.to_metadata(MetaData()) if copied else TABLE

    assert "CHECK" not in ddl(table, mssql.dialect())
    assert ddl(table, postgresql.dialect()).count(" CHECK ") == ddl(table, sqlite.dialect()).count(
        " CHECK "
    )


def test_a_copy_in_other_metadata_refuses_too(engine: Engine) -> None:
    """`to_metadata` takes the constraints along, once each, about the copy's own columns."""
    other = TABLE.to_metadata(MetaData(), name="copied")
    other.create(engine)

    assert ddl(other, sqlite.dialect()).count(" CHECK ") == ddl(TABLE, sqlite.dialect()).count(
        " CHECK "
    )
    with engine.begin() as connection, pytest.raises(IntegrityError, match="_lacre"):
        connection.execute(insert(other).values(id=uuid4(), account=literal_column("'x'")))


def test_a_reflected_table_is_used(engine: Engine, session: Session) -> None:
    """A model over a table read from the database, and none of its constraints declared, works."""

    class Declared(DeclarativeBase):
        pass

    class Model(Declared):
        __table__ = Table("customers", Declared.metadata, autoload_with=engine, resolve_fks=False)

    session.add(Customer(email=EMAIL))
    session.commit()

    assert session.scalars(select(Model)).one().email_bidx is not None  # type: ignore[attr-defined]
