# SPDX-License-Identifier: Apache-2.0
"""What values are bound to does not change behind their back, and rows are found by the mapper's key."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import (
    CHAR,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from lacre import (
    AccessDenied,
    BlindIndex,
    ConfigurationError,
    DuplicateValue,
    InvalidValue,
    Lacre,
    UnsupportedQuery,
)
from lacre.sqlalchemy import encrypted
from tests.sqlalchemy.conftest import Acting, Sessions, on_postgresql, on_sqlite
from tests.sqlalchemy.models import Customer, Numbered, Typed

ID = UUID(int=7)


class Base(DeclarativeBase):
    pass


class Party(Base):
    """No encrypted column of its own, but the tenant of one that inherits."""

    __tablename__ = "bound_parties"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    tenant_id: Mapped[str | None]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}  # noqa: RUF012


class Person(Party):
    __tablename__ = "bound_people"
    __lacre_tenant__ = "tenant_id"

    id: Mapped[UUID] = mapped_column(ForeignKey("bound_parties.id"), primary_key=True)
    email: Mapped[str | None] = encrypted("pii")

    __mapper_args__ = {"polymorphic_identity": "person"}  # noqa: RUF012


class Swapped(Base):
    """The mapper's primary key is in another order than the table's."""

    __tablename__ = "bound_swapped"

    a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email"))

    __mapper_args__ = {"primary_key": ["b", "a"]}  # noqa: RUF012


class Item(Base):
    __tablename__ = "bound_items"

    a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}  # noqa: RUF012


class Book(Item):
    """A child whose key has other names, in another order."""

    __tablename__ = "bound_books"
    __table_args__ = (ForeignKeyConstraint(["y", "x"], ["bound_items.a", "bound_items.b"]),)

    x: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    y: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", unique=True))

    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012


class Padded(Base):
    __tablename__ = "bound_padded"

    id: Mapped[str] = mapped_column(CHAR(10), primary_key=True)
    email: Mapped[str | None] = encrypted("pii")


@pytest.fixture(autouse=True)
def _tables(engine: Engine) -> None:
    Base.metadata.create_all(engine)


def _insert(session: Session) -> Any:
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert


@pytest.mark.parametrize("model", [Customer, Customer.__table__], ids=["model", "table"])
def test_no_statement_changes_a_primary_key(session: Session, model: Any) -> None:
    """By values, by parameters or in a conflict clause: the row's values would open no more."""
    row = Customer(id=ID, email="x@example.org")
    session.add(row)
    session.flush()
    upsert = _insert(session)(model).values(id=ID)
    table: Any = Customer.__table__
    found = update(table).where(table.c.id == bindparam("of"))

    with pytest.raises(UnsupportedQuery, match=r"customers.id says which row"):
        session.execute(update(model).values(id=uuid4()))
    with pytest.raises(UnsupportedQuery, match=r"customers.id says which row"):
        session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"id": uuid4()}))
    with pytest.raises(UnsupportedQuery, match=r"customers.id says which row"):
        session.execute(found, [{"of": ID, "id": uuid4()}])
    session.execute(update(Customer), [{"id": ID, "city": "here"}])
    session.expire_all()
    assert (row.email, row.city) == ("x@example.org", "here")


def test_no_statement_changes_a_row_id(session: Session) -> None:
    """Where a row id was declared, it is that which does not change, and the primary key may."""
    row = Numbered(id=5, email="x@example.org")
    session.add(row)
    session.flush()

    with pytest.raises(UnsupportedQuery, match=r"numbered.lacre_rid says which row"):
        session.execute(update(Numbered).values(lacre_rid=ID))
    session.execute(update(Numbered).values(id=6))
    session.commit()
    session.expunge_all()
    assert session.get_one(Numbered, 6).email == "x@example.org"


def test_no_statement_moves_a_row_to_another_tenant(
    sessions: Sessions, acting: Acting, operator: Lacre
) -> None:
    """Not in a conflict clause, and not by way of the class whose table has the tenant."""
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        operator.create_keys("a", "pii")
    with acting("app"), sessions() as session:
        row = Person(id=ID, tenant_id="a", email="x@example.org")
        session.add(row)
        session.commit()
        upsert = _insert(session)(Party).values(id=ID, kind="person", tenant_id="b")

        with pytest.raises(UnsupportedQuery, match="tenant_id says which row or tenant"):
            session.execute(
                upsert.on_conflict_do_update(index_elements=["id"], set_={"tenant_id": "b"})
            )
        with pytest.raises(UnsupportedQuery, match="tenant_id says which row or tenant"):
            session.bulk_update_mappings(Party, [{"id": ID, "tenant_id": "b"}])  # type: ignore[arg-type]
        session.bulk_update_mappings(Party, [{"id": ID, "kind": "person"}])  # type: ignore[arg-type]
        assert row.email == "x@example.org"


def test_a_value_is_not_cleared_unseen_whatever_the_order_of_the_key(
    sessions: Sessions, acting: Acting
) -> None:
    """NULL in place of a value not loaded is decided on by the row meant, not by one whose key reads alike."""
    with acting("app"), sessions() as session:
        session.add_all([Swapped(a=1, b=2, email="x@example.org"), Swapped(a=2, b=1)])
        session.commit()
    with acting("support"), sessions() as session:
        row = session.get_one(Swapped, (2, 1))
        session.expire(row)
        row.email = None

        with pytest.raises(AccessDenied):
            session.flush()


def test_a_childs_key_may_have_another_order(session: Session) -> None:
    """A value assigned to an expired child is compared with its own row's."""
    session.add_all([Book(a=1, b=2, title="x"), Book(a=2, b=1, title="y")])
    session.commit()
    row = session.get_one(Book, (1, 2))
    session.expire(row)
    before = session.execute(select(Book.__table__.c.title).where(Book.x == 2)).scalar_one()
    row.title = "x"
    session.commit()

    assert (row.x, row.y) == (2, 1)
    after = session.execute(select(Book.__table__.c.title).where(Book.x == 2)).scalar_one()
    assert after == before
    row.title = "y"
    with pytest.raises(DuplicateValue):
        session.flush()


def test_a_relationship_does_not_change_the_tenant_afterwards(
    engine: Engine, sessions: Sessions, acting: Acting
) -> None:
    """post_update changes rows when their values are written already: refused before the first write."""

    class Own(DeclarativeBase):
        pass

    class Tenant(Own):
        __tablename__ = "post_tenants"
        id: Mapped[str] = mapped_column(primary_key=True)

    class Ticket(Own):
        __tablename__ = "post_tickets"
        __lacre_tenant__ = "tenant_id"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        tenant_id: Mapped[str] = mapped_column(ForeignKey("post_tenants.id"))
        email: Mapped[str | None] = encrypted("pii")
        tenant: Mapped[Tenant] = relationship(post_update=True)

    Own.metadata.create_all(engine)
    with acting("app"), sessions() as session:
        session.add(Tenant(id="default"))
        session.flush()
        session.add(Ticket(tenant_id="default", email="x@example.org"))

        with pytest.raises(ConfigurationError, match="post_update"):
            session.flush()


@on_postgresql
def test_a_key_that_comes_back_padded_is_no_row_id(session: Session) -> None:
    """CHAR(10) returns ten characters for two, and the value would be bound to the two."""
    session.add(Padded(id="ab", email="x@example.org"))

    with pytest.raises(ConfigurationError, match="pads the primary key"):
        session.flush()


@on_sqlite
def test_rows_of_a_statement_that_failed_half_way_have_evidence(
    session: Session, recorded: Callable[..., list[dict[str, Any]]]
) -> None:
    """SQLite keeps the rows before the one that was refused, and whoever commits them leaves a trace."""
    session.add(Customer(email="first@example.org"))
    session.commit()
    with pytest.raises(DuplicateValue):
        session.execute(
            insert(Customer), [{"email": "new@example.org"}, {"email": "first@example.org"}]
        )
    session.commit()

    assert session.scalar(select(func.count()).select_from(Customer.__table__)) == 2
    assert len([row for event in recorded("encrypt") for row in event["rows"]]) >= 2


@pytest.mark.parametrize(
    "row", [{"text": "\ud800canary"}, {"data": {"a": "\ud800canary"}}], ids=["text", "json"]
)
def test_refused_text_is_not_the_context_of_its_refusal(
    session: Session, row: dict[str, Any]
) -> None:
    """Python's own error quotes what could not be encoded; the one raised has none of it behind it."""
    session.add(Typed(**row))
    with pytest.raises(InvalidValue) as raised:
        session.flush()

    error: BaseException | None = raised.value
    while error is not None:
        assert "canary" not in repr(error)
        error = error.__context__
