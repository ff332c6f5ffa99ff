# SPDX-License-Identifier: Apache-2.0
"""Models whose rows name their tenant and refer to one another, and rows of them."""

from uuid import UUID, uuid4

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lacre.sqlalchemy import BlindIndex, ContainsIndex, encrypted

NORTH, SOUTH = "north", "south"


class Base(DeclarativeBase):
    pass


class Client(Base):
    __tablename__ = "clients"
    __lacre_tenant__ = "tenant"
    __table_args__ = (UniqueConstraint("tenant", "code"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    code: Mapped[int | None]
    city: Mapped[str | None]
    email: Mapped[str | None] = encrypted(
        "pii", index=BlindIndex("email", unique=True), subject="id"
    )
    name: Mapped[str | None] = encrypted(
        "pii", index=[BlindIndex("exact", bits=8), ContainsIndex("exact")]
    )


class Visit(Base):
    __tablename__ = "visits"
    __lacre_tenant__ = "tenant"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    after_id: Mapped[UUID | None] = mapped_column(ForeignKey("visits.id"))
    note: Mapped[str | None] = encrypted("pii")


class Bill(Base):
    __tablename__ = "bills"
    __lacre_tenant__ = "tenant"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    tenant: Mapped[str]
    visit_id: Mapped[UUID] = mapped_column(ForeignKey("visits.id"))
    account: Mapped[str | None] = encrypted("banking", subject="visit_id")


class Country(Base):
    """Names no tenant: nothing of it moves."""

    __tablename__ = "countries"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)


def add(session: Session, tenant: str, numbers: range) -> None:
    """Add clients of *tenant*, each with two visits, the second of which follows the first and has a bill."""
    for number in numbers:
        city = ("Recife", "Olinda")[number % 2]
        session.add(
            Client(
                id=UUID(int=number + 1),
                tenant=tenant,
                code=number,
                city=city,
                email=f"{number}@example.org",
                name=f"name {number}",
            )
        )
        session.flush()
        for second in (False, True):
            session.add(
                Visit(
                    id=UUID(int=1_000 + 2 * number + second),
                    tenant=tenant,
                    client_id=UUID(int=number + 1),
                    after_id=UUID(int=1_000 + 2 * number) if second else None,
                    note=f"note {number} {second}",
                )
            )
            session.flush()
        session.add(
            Bill(
                id=UUID(int=5_000 + number),
                tenant=tenant,
                visit_id=UUID(int=1_001 + 2 * number),
                account=f"account {number}",
            )
        )
    session.flush()
