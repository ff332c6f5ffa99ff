# SPDX-License-Identifier: Apache-2.0
"""The models of these tests."""

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from lacre.sqlalchemy import BlindIndex, ContainsIndex, PrefixIndex, compound, encrypted, row_id

EMAIL, CPF = "ana@example.org", "529.982.247-25"
OTHER_EMAIL, OTHER_CPF = "bia@example.org", "111.444.777-35"


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Customer(Base):
    """The usual table: a UUID primary key, exact and short indexes, two classes."""

    __tablename__ = "customers"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf", unique=True))
    # Eight bits: of a few hundred rows many collide.
    name: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", bits=8))
    account: Mapped[str | None] = encrypted("banking")
    city: Mapped[str | None]
    orders: Mapped[list["Order"]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    customer_id: Mapped[UUID] = mapped_column(ForeignKey("customers.id"))
    note: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact"))
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Typed(Base):
    """One column of each type there is a codec for."""

    __tablename__ = "typed"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    text: Mapped[str | None] = encrypted("pii")
    number: Mapped[int | None] = encrypted("pii", index=BlindIndex("exact", bits=96))
    amount: Mapped[Decimal | None] = encrypted("pii")
    born: Mapped[dt.date | None] = encrypted("pii")
    seen: Mapped[dt.datetime | None] = encrypted("pii")
    blob: Mapped[bytes | None] = encrypted("pii")
    flag: Mapped[bool | None] = encrypted("pii")
    data: Mapped[Any] = encrypted("pii", JSON(), nullable=True)
    token: Mapped[UUID | None] = encrypted("pii")
    colour: Mapped[Colour | None] = encrypted("pii")


class Numbered(Base):
    """SQLite reuses the primary keys of this table, so it has a row id of its own."""

    __tablename__ = "numbered"

    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))


class Paired(Base):
    """A composite primary key."""

    __tablename__ = "paired"

    shop: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))


class Versioned(Base):
    __tablename__ = "versioned"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    version: Mapped[int] = mapped_column()
    email: Mapped[str | None] = encrypted("pii")
    city: Mapped[str | None]

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Citizen(Base):
    """A name that is searched in every way."""

    __tablename__ = "citizens"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str | None] = encrypted(
        "pii", index=[BlindIndex("name"), PrefixIndex("name"), ContainsIndex("name")]
    )
    nick: Mapped[str | None] = encrypted("pii", index=ContainsIndex("exact"))
    born: Mapped[dt.date | None] = encrypted("pii")
    name_and_birth = compound("name", "born", normalisers={"name": "name"}, unique=True)
    city: Mapped[str | None]


class Party(Base):
    """The base of a joined inheritance."""

    __tablename__ = "parties"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    phone: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", bits=8))

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "party"}  # noqa: RUF012


class Person(Party):
    __tablename__ = "people"

    id: Mapped[UUID] = mapped_column(ForeignKey("parties.id"), primary_key=True)
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf", unique=True))

    __mapper_args__ = {"polymorphic_identity": "person"}  # noqa: RUF012


class Shop(Party):
    """Single-table inheritance: its column is in its parent's table."""

    taxid: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", bits=96))

    __mapper_args__ = {"polymorphic_identity": "shop"}  # noqa: RUF012
