# SPDX-License-Identifier: Apache-2.0
"""Rows that name their tenant, and tables and columns whose logical names are pinned."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lacre import (
    AccessDenied,
    BlindIndex,
    ConfigurationError,
    Lacre,
    NoTenant,
    UnsupportedQuery,
)
from lacre.errors import KeyNotFound, MisuseError
from lacre.sqlalchemy import encrypted, moving_tenants
from tests.sqlalchemy.conftest import Acting, Sessions, on_postgresql
from tests.sqlalchemy.raw import only, rows

NORTH, SOUTH = UUID(int=1), UUID(int=2)


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "tickets"
    __lacre_tenant__ = "tenant_id"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant_id: Mapped[UUID | None]
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email"))
    city: Mapped[str | None]


@pytest.fixture(autouse=True)
def _tables(engine: Engine, operator: Lacre) -> None:
    Base.metadata.create_all(engine)
    with operator.acting_as("operator", roles={"operator"}, purpose="set up"):
        for tenant in (NORTH, SOUTH):
            operator.create_keys(tenant.hex, "pii")


@pytest.fixture
def opened(sessions: Sessions, acting: Acting) -> Iterator[Session]:
    """A session in which nobody names a tenant."""
    with sessions() as session:
        yield session


Recorded = Callable[..., list[dict[str, Any]]]


def test_the_row_names_whose_keys_are_used(
    opened: Session, acting: Acting, recorded: Recorded, lacre: Lacre
) -> None:
    """Two tenants' rows in one flush, each under its own key, read back without naming a tenant."""
    rows = [Ticket(tenant_id=tenant, email="x@example.org") for tenant in (NORTH, SOUTH)]
    with acting("app"):
        opened.add_all(rows)
        opened.execute(insert(Ticket), [{"tenant_id": NORTH, "email": "y@example.org"}])
        opened.commit()
        opened.expire_all()
        assert [row.email for row in rows] == ["x@example.org"] * 2
    events = recorded("encrypt", column="email")

    assert {event["tenant"] for event in events} == {NORTH.hex, SOUTH.hex}
    assert len({event["key"] for event in events}) == 2
    assert {event["tenant"] for event in recorded("look")} == {NORTH.hex, SOUTH.hex}


def test_whoever_acts_for_another_tenant_is_refused(
    opened: Session, acting: Acting, engine: Engine, recorded: Recorded
) -> None:
    """Neither look, write, update nor bulk insert crosses tenants; nothing is sent."""
    row = Ticket(tenant_id=NORTH, email="x@example.org")
    with acting("app", tenant=NORTH.hex):
        opened.add(row)
        opened.commit()
        assert row.email == "x@example.org"
    before = only(engine, "SELECT email FROM tickets")
    with acting("app", tenant=SOUTH.hex):
        opened.refresh(row)
        with pytest.raises(AccessDenied, match="another tenant"):
            row.email
        opened.add(Ticket(tenant_id=NORTH, email="y@example.org"))
        with pytest.raises(AccessDenied, match="another tenant"):
            opened.flush()
        opened.rollback()
        for change in (
            lambda: opened.execute(insert(Ticket), [{"tenant_id": NORTH, "email": "y"}]),
            lambda: opened.execute(update(Ticket), [{"id": row.id, "email": "y@example.org"}]),
        ):
            with pytest.raises(AccessDenied, match="another tenant"):
                change()
            opened.rollback()

    assert only(engine, "SELECT email FROM tickets") == before
    assert "denied" in {event["outcome"] for event in recorded("look")}


def test_a_search_is_for_the_acting_tenant(opened: Session, acting: Acting) -> None:
    """One value of two tenants has two tokens: each finds its own row."""
    with acting("app"):
        opened.add_all(
            [Ticket(tenant_id=tenant, email="x@example.org") for tenant in (NORTH, SOUTH)]
        )
        opened.commit()
    wanted = select(Ticket).where(Ticket.email == "x@example.org")
    with acting("app", tenant=SOUTH.hex):
        assert opened.scalars(wanted).one().tenant_id == SOUTH
    with acting("app", tenant=NORTH.hex):
        assert opened.scalars(wanted).one().tenant_id == NORTH


@pytest.mark.parametrize("loaded", [True, False])
def test_a_row_moves_to_another_tenant(opened: Session, acting: Acting, loaded: bool) -> None:
    """Every value is encrypted anew under the new tenant's key, and found there."""
    row = Ticket(tenant_id=NORTH, email="x@example.org")
    with acting("app"):
        opened.add(row)
        opened.commit()
        if loaded:
            opened.refresh(row)
        row.tenant_id = SOUTH
        with moving_tenants():
            opened.commit()
        opened.expire_all()
        assert row.email == "x@example.org"
    with acting("app", tenant=SOUTH.hex):
        assert opened.scalars(select(Ticket).where(Ticket.email == "x@example.org")).one() is row


def test_moving_takes_the_right_to_decrypt(opened: Session, acting: Acting) -> None:
    """Who may not read a row does not move it; a bulk update moves none."""
    row = Ticket(tenant_id=NORTH, email="x@example.org")
    with acting("app"):
        opened.add(row)
        opened.commit()
        opened.refresh(row)
        with pytest.raises(UnsupportedQuery, match="another tenant"):
            opened.execute(
                update(Ticket), [{"id": row.id, "tenant_id": SOUTH, "email": "y@example.org"}]
            )
    row.tenant_id = SOUTH
    with acting("writer"), moving_tenants(), pytest.raises(AccessDenied):
        opened.flush()


@pytest.mark.parametrize("email", ["x@example.org", None])
def test_a_row_does_not_cross_tenants_by_accident(
    opened: Session, acting: Acting, engine: Engine, email: str | None
) -> None:
    """Nobody said that the move is meant: nothing is written, also of a row without values."""
    row = Ticket(tenant_id=NORTH, email=email, city="x")
    with acting("app"):
        opened.add(row)
        opened.commit()
        before = rows(engine, "SELECT tenant_id, email, city FROM tickets")
        row.tenant_id, row.city = SOUTH, "y"
        with pytest.raises(MisuseError, match="another tenant") as caught:
            opened.flush()
        opened.rollback()
        with moving_tenants():
            pass
        row.tenant_id = SOUTH
        with pytest.raises(MisuseError):
            opened.flush()
        opened.rollback()

    assert "moving_tenants" in caught.value.hint
    assert rows(engine, "SELECT tenant_id, email, city FROM tickets") == before


@pytest.mark.parametrize(
    ("tenant", "error"), [(None, NoTenant), (UUID(int=9), KeyNotFound)], ids=["none", "unknown"]
)
def test_a_row_without_keys_is_refused(
    opened: Session, acting: Acting, engine: Engine, tenant: UUID | None, error: type[Exception]
) -> None:
    """A row that names no tenant, or one that nobody provisioned, is not written."""
    with acting("app"):
        opened.add(Ticket(tenant_id=tenant, email="x@example.org"))
        with pytest.raises(error):
            opened.flush()
        opened.rollback()

    assert only(engine, "SELECT count(*) FROM tickets") == 0


def test_a_statement_does_not_move_rows_beside_the_values(opened: Session, acting: Acting) -> None:
    """Setting the tenant column alone would leave values under the old tenant's keys."""
    row = Ticket(tenant_id=NORTH, email="x@example.org")
    with acting("app"):
        opened.add(row)
        opened.commit()
        for statement, given in (
            (update(Ticket).values(tenant_id=SOUTH), {}),
            (update(Ticket), [{"id": row.id, "tenant_id": SOUTH}]),
        ):
            with pytest.raises(UnsupportedQuery, match="tenant"):
                opened.execute(statement, given)


def test_a_tenant_that_is_no_column_is_refused(opened: Session, acting: Acting) -> None:
    """A misspelt attribute name is found out at the first use of the model."""

    class Other(DeclarativeBase):
        pass

    class Model(Other):
        __tablename__ = "models"
        __lacre_tenant__ = "tenent"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str] = encrypted("pii")

    Other.metadata.create_all(opened.get_bind())
    with acting("app"), pytest.raises(ConfigurationError, match="tenent"):
        opened.execute(insert(Model), [{"email": "x"}])


@on_postgresql
def test_a_table_and_a_column_are_renamed(opened: Session, acting: Acting, engine: Engine) -> None:
    """With their logical names pinned, what was written before opens and is found, and new rows join."""

    class Before(DeclarativeBase):
        pass

    class Old(Before):
        __tablename__ = "people_old"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))

    class After(DeclarativeBase):
        pass

    class New(After):
        __tablename__ = "people_new"
        __lacre_table__ = "people_old"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        mail: Mapped[str] = encrypted(
            "pii", index=BlindIndex("email", unique=True), column="email", name="e_mail"
        )

    Before.metadata.create_all(engine)
    with acting("app"):
        opened.add(Old(email="x@example.org"))
        opened.commit()
        for statement in (
            "ALTER TABLE people_old RENAME TO people_new",
            "ALTER TABLE people_new RENAME email TO e_mail",
            "ALTER TABLE people_new RENAME email_bidx TO e_mail_bidx",
            "ALTER TABLE people_new RENAME email_bidx2 TO e_mail_bidx2",
        ):
            with engine.begin() as connection:
                connection.exec_driver_sql(statement)
        found = opened.scalars(select(New).where(New.mail == "X@example.org")).one()
        assert found.mail == "x@example.org"
        opened.add(New(mail="y@example.org"))
        opened.commit()
        assert opened.scalars(select(New).where(New.mail == "y@example.org")).all()
