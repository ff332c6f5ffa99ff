# SPDX-License-Identifier: Apache-2.0
"""The planner's counts are those of the table: before protection of values, afterwards of tokens."""

import datetime as dt
from collections import Counter
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.errors import ConfigurationError
from lacre.fields.advice import Declared
from lacre.fields.planning import Distribution
from lacre.sqlalchemy.histograms import TableReading, compounds_of, read_table, tables_of
from lacre.sqlalchemy.mapped import mappers_of
from tests.sqlalchemy import tenanted
from tests.sqlalchemy.models import Base, Citizen, Customer

CANARY = "canary-41f7"


def read(engine: Engine, model: type = Customer, **how: object) -> TableReading:
    mappers = mappers_of(model)
    [(table, properties)] = tables_of(mappers).items()
    compounds = compounds_of(mappers).get(table, ())
    return read_table(engine, table, properties, compounds=compounds, **how)  # type: ignore[arg-type]


def of(reading: TableReading, column: str) -> Distribution:
    [found] = [each.entries for each in reading.declared if each.column == column]
    return found


@pytest.fixture
def plain(url: URL) -> Engine:
    """The table of customers as it was before lacre: its columns are text."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS orders"))
        connection.execute(sa.text("DROP TABLE customers"))
        kind = "uuid" if engine.dialect.name == "postgresql" else "char(32)"
        connection.execute(
            sa.text(
                f"CREATE TABLE customers (id {kind}, email text, cpf text, name text, account text, city text)"
            )
        )
    return engine


@pytest.fixture(autouse=True)
def _put_back(url: URL) -> object:
    """The tables of a PostgreSQL database are shared by the tests of a process."""
    yield
    engine = create_engine(url)
    if "email_bidx" not in {c["name"] for c in sa.inspect(engine).get_columns("customers")}:
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE customers"))
        Base.metadata.create_all(engine)
    engine.dispose()


def insert(engine: Engine, *rows: dict[str, str | None]) -> None:
    empty = dict.fromkeys(("email", "cpf", "name"))
    with engine.begin() as connection:
        statement = "INSERT INTO customers (id, email, cpf, name) VALUES (:id, :email, :cpf, :name)"
        made = [{"id": uuid4().hex} | empty | row for row in rows]
        connection.execute(sa.text(statement), made)


def test_values_are_counted_as_the_index_will_see_them(plain: Engine) -> None:
    """Two spellings of an address are one value; NULL is none; what no normaliser takes is told apart."""
    spellings = ["Ana@Example.org", "ana@example.ORG", "bia@example.org", None, "no address"]
    insert(plain, *({"email": email} for email in spellings))
    reading = read(plain)

    assert reading.rows == 5
    assert of(reading, "email") == Distribution.of([2, 1])
    assert reading.refused == (("email", 1),)
    assert {each.read_from for each in reading.declared} == {"values"}
    plain.dispose()


def test_tokens_are_counted_once_there_are_tokens(session: Session, engine: Engine) -> None:
    """After protection the counts are those of the values, of which the planner sees none."""
    names = ["Ana"] * 5 + ["Bia"] * 3 + ["Caio", "Davi"]
    session.add_all(Customer(name=name, cpf=None) for name in names)
    session.commit()
    reading = read(engine)
    found = of(reading, "name")

    assert (found.rows, found.bits) == (10, 8)
    assert found.largest >= 5
    assert of(reading, "email").rows == 0
    assert {each.read_from for each in reading.declared if each.column == "name"} == {"tokens"}


def test_exact_tokens_have_the_histogram_of_the_values(session: Session, engine: Engine) -> None:
    """96 bits collide with nothing: the counts are the values' own."""
    addresses = [f"p{number}@example.org" for number in range(20)]
    session.add_all(Customer(email=address) for address in addresses)
    session.commit()

    assert of(read(engine), "email") == Distribution.of([1] * 20, bits=96)


def test_a_sample_is_scaled_to_the_table(plain: Engine) -> None:
    """Of a larger table about so many rows are counted as were asked for, and it says so."""
    names = [f"n{number % 50}" for number in range(6_000)]
    insert(plain, *({"name": name} for name in names))
    reading = read(plain, sample=2_000)
    found = of(reading, "name")

    assert (reading.rows, reading.read) == (6_000, 2_000)
    assert found.sampled
    assert 1_500 < found.read < 2_500
    assert found.rows == 6_000
    assert found.values == pytest.approx(Counter(names).total() / 120, rel=0.1)
    plain.dispose()


def test_nothing_is_written(plain: Engine) -> None:
    """On PostgreSQL the transaction may not write at all."""
    insert(plain, {"name": "Ana"})
    seen: list[str] = []
    sa.event.listen(
        plain, "before_cursor_execute", lambda *given: seen.append(given[2].lstrip().split()[0])
    )
    read(plain)

    assert set(seen) <= {"SELECT", "SET", "PRAGMA"}
    plain.dispose()


def test_an_encrypted_column_without_tokens_is_named(session: Session, engine: Engine) -> None:
    """An index declared after the column was encrypted, and not filled yet, is not guessed."""
    session.add(Customer(name="Ana"))
    session.commit()
    with engine.begin() as connection:
        copied = sa.text("CREATE TABLE copied AS SELECT id, email, cpf, name FROM customers")
        connection.execute(copied)
    copy = sa.Table("copied", sa.MetaData())
    [(_, properties)] = tables_of(mappers_of(Customer)).items()
    reading = read_table(engine, copy, properties)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE copied"))

    assert [(each.column, each.index) for each in reading.unread] == [("name", "exact")]


def test_errors_quote_no_value(plain: Engine) -> None:
    """A missing column is named; what a driver says is not repeated."""
    insert(plain, {"name": CANARY})
    with plain.begin() as connection:
        connection.execute(sa.text("ALTER TABLE customers RENAME COLUMN name TO called"))
    with pytest.raises(ConfigurationError, match="no column name") as caught:
        read(plain)

    assert CANARY not in f"{caught.value}{caught.value.hint}"
    plain.dispose()


def test_a_table_that_is_not_there(engine: Engine) -> None:
    """Models of tables that the database does not have are one clear error."""
    [(_, properties)] = tables_of(mappers_of(Customer)).items()

    with pytest.raises(ConfigurationError, match="no table nowhere"):
        read_table(engine, sa.Table("nowhere", sa.MetaData()), properties)


NAMES = ["Ana Souza"] * 6 + ["Anabel Lima"] * 3 + [f"Person {n}" for n in range(20)]


def by_kind(reading: TableReading) -> dict[str, Declared]:
    return {each.kind: each for each in reading.declared if each.column == "name"}


def test_parts_of_values_are_counted_before(url: URL) -> None:
    """Of plaintext, a prefix index is counted by its beginnings, a contains index by its trigrams."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE plain_citizens (id integer, name text, nick text)")
        )
        rows = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
        connection.execute(
            sa.text("INSERT INTO plain_citizens (id, name) VALUES (:id, :name)"), rows
        )
    [(_, properties)] = tables_of(mappers_of(Citizen)).items()
    found = by_kind(read_table(engine, sa.Table("plain_citizens", sa.MetaData()), properties))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE plain_citizens"))
    engine.dispose()

    assert {each.values.distinct for each in found.values()} == {22}
    assert found["prefix"].entries.largest == 20  # "per", and "pers", "perso", "person"
    assert found["contains"].entries.largest == 20
    assert found["exact"].entries.largest == 6
    assert found["contains"].entries.per_row > 7


def test_tokens_of_parts_are_counted_afterwards(session: Session, engine: Engine) -> None:
    """Of tokens nothing says which values there are, so the worst is taken; entries are what is stored."""
    session.add_all(Citizen(name=name) for name in NAMES)
    session.commit()
    found = by_kind(read(engine, Citizen))

    assert (found["prefix"].entries.per_row, found["contains"].entries.per_row) == (5, 16)
    assert found["prefix"].entries.largest >= 20
    assert found["prefix"].values.distinct == len(NAMES)
    assert found["exact"].entries.distinct == 22
    assert {each.read_from for each in found.values()} == {"tokens"}


BORN = [dt.date(2000, 1, 1), dt.date(2001, 1, 1)]


def compound_of(reading: TableReading) -> Declared:
    [found] = [each for each in reading.declared if each.kind == "compound"]
    return found


def test_combinations_are_counted_before(url: URL) -> None:
    """Two spellings of a name with one day are one combination; a row that lacks one of them is none."""
    engine = create_engine(url)
    mappers = mappers_of(Citizen)
    [(table, properties)] = tables_of(mappers).items()
    rows = [("Ana Souza", BORN[0]), ("ANA  souza", BORN[0]), ("Ana Souza", BORN[1]), ("Bia", None), (None, BORN[0])]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE plain_citizens (name text, nick text, born date)"))
        statement = sa.text("INSERT INTO plain_citizens (name, born) VALUES (:name, :born)")
        connection.execute(statement, [{"name": name, "born": born and born.isoformat()} for name, born in rows])  # fmt: skip
    found = read_table(
        engine, sa.Table("plain_citizens", sa.MetaData()), properties, compounds=compounds_of(mappers)[table]
    )  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE plain_citizens"))
    engine.dispose()

    assert compound_of(found).entries == Distribution.of([2, 1])
    assert compound_of(found).read_from == "values"


def test_tokens_of_combinations_are_counted_afterwards(session: Session, engine: Engine) -> None:
    """After protection the tokens say the same."""
    session.add_all(Citizen(name=name, born=born) for name in ("Ana", "Bia") for born in BORN)
    session.add(Citizen(name="Caio"))
    session.commit()
    found = compound_of(read(engine, Citizen))

    assert found.entries == Distribution.of([1] * 4, bits=96)
    assert (found.column, found.read_from, found.unique) == ("name_and_birth", "tokens", True)


def test_rows_of_one_tenant_are_counted(url: URL, lacre: Lacre) -> None:
    """Rows hide among those of their tenant: counted is the tenant that the middle row is of, before protection and after."""
    engine = create_engine(url)
    kind = "uuid" if engine.dialect.name == "postgresql" else "char(32)"
    sizes = {"north": 3, "middle": 40, "south": 20}
    plain = [{"i": uuid4().hex, "t": tenant, "n": f"{tenant[0]} {n % 9}"} for tenant, size in sizes.items() for n in range(size)]  # fmt: skip
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE clients (id {kind}, tenant text, email text, name text)")  # fmt: skip
        connection.execute(sa.text("INSERT INTO clients (id, tenant, name) VALUES (:i, :t, :n)"), plain)  # fmt: skip
    before = read(engine, tenanted.Client)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE clients")
    tenanted.Base.metadata.create_all(engine)
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    with lacre.acting_as("a", roles={"app"}, purpose="x", tenant="default"), sessions() as session:
        session.add_all([tenanted.Client(tenant="default", name=f"n {n % 9}") for n in range(20)])
        session.commit()
    with engine.begin() as connection:
        # Tokens of another tenant, whatever they are.
        moved = "UPDATE clients SET tenant = 'other' WHERE id IN (SELECT id FROM clients LIMIT 2)"
        connection.exec_driver_sql(moved)
    after = read(engine, tenanted.Client)
    engine.dispose()

    assert (before.rows, before.tenants, before.all_rows) == (40, 3, 63)
    assert (after.rows, after.tenants, after.all_rows) == (18, 2, 20)
    for reading, found in ((before, 9), (after, 9)):
        exact = next(each.entries for each in reading.declared if each.kind == "exact" and each.column == "name")  # fmt: skip
        assert (exact.rows, exact.read) == (reading.rows, reading.rows)
        assert exact.distinct <= found
    assert max(each.entries.read for each in after.declared if each.kind == "contains") == 18
