# SPDX-License-Identifier: Apache-2.0
"""Bulk statements: rows of plaintext in, ciphertext and tokens stored, evidence with the transaction."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lacre import (
    AccessDenied,
    AlreadyEncrypted,
    BlindIndex,
    DuplicateValue,
    InvalidValue,
    Lacre,
    MaskWritten,
    UnsupportedQuery,
)
from lacre.errors import MisuseError
from lacre.fields.stored import Sealed
from lacre.sqlalchemy import encrypted
from lacre.sqlalchemy.types import SealedValue
from tests.sqlalchemy.conftest import Acting, on_postgresql
from tests.sqlalchemy.models import (
    CPF,
    EMAIL,
    OTHER_EMAIL,
    Customer,
    Numbered,
    Paired,
    Party,
    Person,
    Versioned,
)
from tests.sqlalchemy.raw import only, rows

Recorded = Callable[..., list[dict[str, Any]]]

EMAILS = [f"p{number}@example.org" for number in range(20)]

INSERTING = {
    "execute": lambda session, model, given: session.execute(insert(model), given),
    "mappings": lambda session, model, given: session.bulk_insert_mappings(model, given),
}
UPDATING = {
    "execute": lambda session, model, given: session.execute(update(model), given),
    "mappings": lambda session, model, given: session.bulk_update_mappings(model, given),
}


def written(recorded: Recorded) -> dict[str, int]:
    counts: dict[str, int] = {}
    for found in recorded("encrypt", outcome="allowed"):
        counts[found["column"]] = counts.get(found["column"], 0) + found["count"]
    return counts


def stored(engine: Engine) -> list[tuple[Any, ...]]:
    return rows(
        engine,
        "SELECT email, email_bidx, cpf, cpf_bidx, name, name_bidx, account FROM customers ORDER BY id",
    )


@pytest.fixture
def customer(session: Session) -> Customer:
    customer = Customer(email=EMAIL, cpf=CPF, name="Ana", account="123", city="plain")
    session.add(customer)
    session.commit()
    return customer


@pytest.mark.parametrize("how", INSERTING)
def test_rows_are_inserted(session: Session, recorded: Recorded, how: str) -> None:
    """Every row opens and is found, events name all rows at the commit, the dictionaries stay."""
    given = [{"email": email, "name": email[:2], "city": "x"} for email in EMAILS]
    before = copy.deepcopy(given)
    INSERTING[how](session, Customer, given)
    assert written(recorded) == {}
    session.commit()
    found = session.scalars(select(Customer)).all()
    [event] = recorded("encrypt", column="email")

    assert given == before
    assert {row.email for row in found} == set(EMAILS)
    assert session.scalars(select(Customer).where(Customer.email == EMAILS[7])).one().name == "p7"
    assert session.scalars(select(Customer).where(Customer.name == "p1")).all()
    assert written(recorded) == {"email": 20, "name": 20}
    assert set(event["rows"]) == {row.id.hex for row in found}


def test_one_row_without_a_list(session: Session) -> None:
    """A single dictionary is a list of one."""
    session.execute(insert(Customer), {"email": EMAIL})
    session.commit()

    assert session.scalars(select(Customer)).one().email == EMAIL


def test_rows_that_differ(session: Session) -> None:
    """Absent, None and empty are three things, row by row."""
    keys = [UUID(int=number) for number in range(4)]
    session.execute(
        insert(Customer),
        [
            {"id": keys[0], "email": EMAIL, "cpf": None},
            {"id": keys[1], "cpf": CPF},
            {"id": keys[2], "account": ""},
            {"id": keys[3], "email": None, "city": "x"},
        ],
    )
    session.commit()
    found = [session.get_one(Customer, key) for key in keys]

    assert [(row.email, row.cpf, row.account) for row in found] == [
        (EMAIL, None, None),
        (None, CPF, None),
        (None, None, ""),
        (None, None, None),
    ]


def test_returning_rows_and_keys(session: Session) -> None:
    """RETURNING hands out objects that open, and keys in the order of the rows."""
    given = [{"email": email} for email in EMAILS]
    statement = insert(Customer).returning(Customer, sort_by_parameter_order=True)
    found = session.scalars(statement, given).all()
    keys = session.scalars(
        insert(Numbered).returning(Numbered.id, sort_by_parameter_order=True), given
    ).all()
    session.commit()

    assert [row.email for row in found] == EMAILS
    assert [session.get_one(Numbered, key).email for key in keys] == EMAILS


def test_defaults_and_other_row_ids(session: Session) -> None:
    """Composite keys, a row id of its own, joined inheritance and declared defaults are rows like any."""
    session.execute(
        insert(Paired), [{"shop": "a", "number": n, "email": EMAILS[n]} for n in range(3)]
    )
    session.execute(insert(Numbered), [{"email": email} for email in EMAILS[:3]])
    session.execute(
        insert(Person), [{"kind": "person", "phone": str(n), "cpf": CPF} for n in range(1)]
    )
    session.commit()

    assert session.get_one(Paired, ("a", 2)).email == EMAILS[2]
    assert {row.email for row in session.scalars(select(Numbered))} == set(EMAILS[:3])
    assert session.scalars(select(Person).where(Person.cpf == CPF)).one().phone == "0"
    assert session.scalars(select(Party)).one().phone == "0"


def test_a_declared_default_is_encrypted(session: Session, engine: Engine) -> None:
    """A default of the column stands in every row that gives no value."""

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        value: Mapped[str] = encrypted("pii", default=lambda: "made", index=BlindIndex("exact"))
        city: Mapped[str | None]

    Base.metadata.create_all(engine)
    session.execute(insert(Model), [{"city": "x"}, {"value": "given"}])
    session.commit()

    assert {row.value for row in session.scalars(select(Model))} == {"made", "given"}


@on_postgresql
@pytest.mark.parametrize("how", INSERTING)
def test_generated_keys_are_fetched(session: Session, engine: Engine, how: str) -> None:
    """Keys of a sequence are known before the INSERT, and the given ones stay."""

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str | None] = encrypted("pii")

    Base.metadata.create_all(engine)
    INSERTING[how](session, Model, [{"email": "a"}, {"id": 100, "email": "b"}, {"email": "c"}])
    session.commit()
    found = session.scalars(select(Model).order_by(Model.id)).all()

    assert [(row.id, row.email) for row in found] == [(1, "a"), (2, "c"), (100, "b")]


def test_legacy_defaults_are_returned(session: Session) -> None:
    """`return_defaults` puts the keys into the dictionaries, and neither ciphertext nor token."""
    given: list[dict[str, Any]] = [{"email": email} for email in EMAILS[:2]]
    session.bulk_insert_mappings(Customer, given, return_defaults=True)  # type: ignore[arg-type]
    session.commit()

    assert [session.get_one(Customer, row["id"]).email for row in given] == EMAILS[:2]
    assert all(set(row) <= {"id", "email"} for row in given)


@pytest.mark.parametrize("how", UPDATING)
def test_rows_are_updated_by_key(
    session: Session, engine: Engine, recorded: Recorded, how: str
) -> None:
    """What is given is encrypted anew with its token; what is absent stays byte for byte."""
    session.execute(insert(Customer), [{"email": email, "account": "1"} for email in EMAILS])
    session.commit()
    before = stored(engine)
    keys = session.scalars(select(Customer.id).order_by(Customer.id)).all()
    given = [{"id": key, "email": f"new{n}@example.org"} for n, key in enumerate(keys)]
    UPDATING[how](session, Customer, given)
    session.commit()
    after = stored(engine)
    session.expunge_all()

    assert session.scalars(select(Customer).where(Customer.email == "new3@example.org")).all()
    assert session.scalars(select(Customer).where(Customer.email == EMAILS[3])).all() == []
    for old, new in zip(before, after, strict=True):
        assert old[0] != new[0]
        assert old[1] != new[1]
        assert old[2:] == new[2:]
    assert written(recorded) == {"email": 40, "account": 20}


def test_the_same_value_is_not_encrypted_anew(
    session: Session, engine: Engine, customer: Customer, recorded: Recorded, acting: Acting
) -> None:
    """An update with what is there leaves every byte and is no write; for who may not read it is one."""
    before = stored(engine)
    given = [{"id": customer.id, "email": EMAIL, "cpf": CPF, "city": "y"}]
    session.execute(update(Customer), given)
    session.commit()
    assert stored(engine) == before
    assert written(recorded)["email"] == 1
    with acting("writer"):
        session.execute(update(Customer), given)
        session.commit()

    assert stored(engine)[0][0] != before[0][0]
    assert stored(engine)[0][1] == before[0][1]
    assert customer.city == "y"


def test_none_clears_and_is_recorded_where_a_value_was(
    session: Session, engine: Engine, customer: Customer, recorded: Recorded
) -> None:
    """NULL takes the place of ciphertext and token; where there was none nothing was written."""
    other = Customer(city="empty")
    session.add(other)
    session.commit()
    counted = written(recorded)["email"]
    session.execute(
        update(Customer), [{"id": customer.id, "email": None}, {"id": other.id, "email": None}]
    )
    session.commit()
    event = recorded("encrypt", column="email")[-1]

    assert rows(engine, "SELECT email, email_bidx FROM customers") == [(None, None)] * 2
    assert written(recorded)["email"] == counted + 1
    assert (event["rows"], event["key"]) == ([customer.id.hex], "")


def test_objects_in_the_session_follow(session: Session, customer: Customer) -> None:
    """An object that was loaded before shows what was written."""
    assert customer.email == EMAIL
    session.execute(update(Customer), [{"id": customer.id, "email": OTHER_EMAIL}])

    assert customer.email == OTHER_EMAIL
    session.commit()
    assert customer.email == OTHER_EMAIL


def test_other_row_ids_are_updated(session: Session) -> None:
    """By composite key, and by a key that is not the row id."""
    session.add_all([Paired(shop="a", number=1, email=EMAIL), Numbered(id=5, email=EMAIL)])
    session.add(Person(phone="1", cpf=CPF))
    session.commit()
    person = session.scalars(select(Person)).one()
    session.execute(update(Paired), [{"shop": "a", "number": 1, "email": OTHER_EMAIL}])
    session.execute(update(Numbered), [{"id": 5, "email": OTHER_EMAIL}])
    session.execute(update(Person), [{"id": person.id, "phone": "2", "cpf": CPF}])
    session.commit()
    session.expunge_all()

    assert session.get_one(Paired, ("a", 1)).email == OTHER_EMAIL
    assert session.get_one(Numbered, 5).email == OTHER_EMAIL
    assert session.scalars(select(Person)).one().phone == "2"


def test_a_version_is_counted(session: Session) -> None:
    """A bulk update of a versioned row names the version it means."""
    row = Versioned(email=EMAIL)
    session.add(row)
    session.commit()
    session.execute(update(Versioned), [{"id": row.id, "version": 1, "email": OTHER_EMAIL}])
    session.commit()
    session.expire_all()

    assert row.email == OTHER_EMAIL


def test_what_is_rolled_back_is_not_recorded(session: Session, recorded: Recorded) -> None:
    """Events go with their savepoint and transaction."""
    session.execute(insert(Customer), [{"email": EMAILS[0]}])
    inner = session.begin_nested()
    session.execute(insert(Customer), [{"email": EMAILS[1]}, {"email": EMAILS[2]}])
    inner.rollback()
    session.commit()
    session.execute(insert(Customer), [{"email": EMAILS[3]}])
    session.rollback()

    assert [found["count"] for found in recorded("encrypt", column="email")] == [1]
    assert session.scalars(select(Customer)).one().email == EMAILS[0]


@pytest.mark.parametrize("how", INSERTING)
def test_a_duplicate_is_told(
    session: Session, engine: Engine, customer: Customer, recorded: Recorded, how: str
) -> None:
    """A value that is there already, spelt otherwise, is refused; no row is left and no event."""
    before = written(recorded)
    with pytest.raises(DuplicateValue, match=r"customers\.email") as raised:
        INSERTING[how](session, Customer, [{"email": OTHER_EMAIL}, {"email": EMAIL.upper()}])
    session.rollback()

    assert only(engine, "SELECT count(*) FROM customers") == 1
    assert written(recorded) == before
    assert raised.value.__cause__ is None
    assert customer.email == EMAIL


def test_a_duplicate_under_another_root_is_told(
    session: Session, customer: Customer, operator: Lacre
) -> None:
    """While an index root is being rotated, other rows are looked up under the old one."""
    assert customer.email == EMAIL
    rotate_index(operator)
    session.info["lacre"].application.resolver.forget()
    for call in (
        lambda: session.execute(insert(Customer), [{"email": OTHER_EMAIL}, {"email": EMAIL}]),
        lambda: session.execute(
            update(Customer), [{"id": _added(session).id, "email": EMAIL, "city": "z"}]
        ),
    ):
        with pytest.raises(DuplicateValue):
            call()
        session.rollback()
    session.execute(update(Customer), [{"id": customer.id, "email": EMAIL.upper()}])
    session.commit()

    assert session.scalars(select(Customer).where(Customer.email == EMAIL)).one() is customer


def _added(session: Session) -> Customer:
    other = Customer(email="third@example.org")
    session.add(other)
    session.flush()
    return other


def rotate_index(operator: Lacre) -> None:
    from lacre.keys.hierarchy import KeyKind

    with operator.acting_as("operator", roles={"operator"}, purpose="rotation"):
        provisioner = replace(operator.provisioner, settle=0.0)
        provisioner.rotate(operator.scope("default", "pii", KeyKind.INDEX))


def test_who_may_not_encrypt_inserts_nothing(
    session: Session, engine: Engine, acting: Acting, recorded: Recorded
) -> None:
    """The policy decides before anything is sent, and the refusal is recorded."""
    with acting("searcher"), pytest.raises(AccessDenied):
        session.execute(insert(Customer), [{"email": EMAIL}])
    session.rollback()

    assert only(engine, "SELECT count(*) FROM customers") == 0
    assert [found["outcome"] for found in recorded("encrypt", column="email")] == ["denied"]


def test_what_is_no_plaintext_is_refused(
    session: Session, engine: Engine, customer: Customer, acting: Acting
) -> None:
    """Ciphertext, masks, other types, expressions and tokens are not written by either statement."""
    before = stored(engine)
    session.refresh(customer)
    held, token = customer.__dict__["email"], customer.email_bidx  # type: ignore[attr-defined]
    with acting("maskwriter"):
        mask: Any = customer.email
    for value, error in (
        ({"email": held}, InvalidValue),
        ({"email": Sealed(held)}, AlreadyEncrypted),
        ({"email": SealedValue(held)}, AlreadyEncrypted),
        ({"email": mask}, MaskWritten),
        ({"email": 5}, InvalidValue),
        ({"email": func.lower("CANARY@example.org")}, InvalidValue),
        ({"email_bidx": token}, UnsupportedQuery),
        ({"email_bidx": None}, UnsupportedQuery),
    ):
        with pytest.raises(error):
            session.execute(insert(Customer), [{"id": uuid4(), **value}])
        with pytest.raises(error):
            session.execute(update(Customer), [{"id": customer.id, **value}])
    session.commit()

    assert stored(engine) == before


def test_rows_that_are_not_named_are_refused(session: Session, customer: Customer) -> None:
    """An update without the key, of a row that is not there, or under conditions, is refused."""
    with pytest.raises(MisuseError, match="leaves the key out"):
        session.execute(update(Customer), [{"email": OTHER_EMAIL}])
    with pytest.raises(MisuseError, match="not there"):
        session.execute(update(Customer), [{"id": uuid4(), "email": OTHER_EMAIL}])
    statement = update(Customer).where(Customer.city == bindparam("b"))
    with pytest.raises(UnsupportedQuery, match="condition"):
        session.execute(statement, [{"id": customer.id, "b": "x", "email": OTHER_EMAIL}])


@pytest.mark.parametrize("clause", ["nothing", "update", "blind index"])
def test_an_upsert_of_values_is_refused(session: Session, engine: Engine, clause: str) -> None:
    """ON CONFLICT would drop a ciphertext or bind one to another row: refused, with what to do."""
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Customer)
    statement = {
        "nothing": lambda: statement.on_conflict_do_nothing(index_elements=["id"]),
        "update": lambda: statement.on_conflict_do_update(
            index_elements=["id"], set_={"city": "z"}
        ),
        "blind index": lambda: statement.on_conflict_do_update(
            index_elements=["email_bidx"], set_={"city": "z"}
        ),
    }[clause]()
    with pytest.raises(UnsupportedQuery, match="ON CONFLICT") as raised:
        session.execute(statement, [{"email": "canary@example.org"}])

    assert "update the others" in raised.value.hint
    assert "canary" not in f"{raised.value!r} {raised.value} {raised.value.hint}"


@on_postgresql
def test_an_error_of_the_server_quotes_no_row(session: Session, engine: Engine) -> None:
    """PostgreSQL's detail shows the refused row with its tokens: it is left out, the error stays."""

    class Base(DeclarativeBase):
        pass

    class Model(Base):
        __tablename__ = "models"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        city: Mapped[str]
        email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email"))

    Base.metadata.create_all(engine)
    with pytest.raises(IntegrityError) as raised:
        session.execute(insert(Model), [{"email": "canary@example.org"}])
    text = f"{raised.value} {raised.value.orig!r} {raised.value.params!r}"
    session.rollback()
    session.add(Model(email="canary@example.org"))
    with pytest.raises(IntegrityError) as flushed:
        session.flush()
    text += f"{flushed.value} {flushed.value.orig!r} {flushed.value.params!r}"

    assert "city" in text
    assert "Failing row" not in text
    assert "canary" not in text
    assert "c101" not in text
    assert raised.value.orig.sqlstate == "23502"  # type: ignore[union-attr]
