# SPDX-License-Identifier: Apache-2.0
"""Customers whose id is an address, and their orders: what the tests of erasure shred."""

import datetime as dt
from uuid import UUID, uuid4

from sqlalchemy import Date, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import BlindIndex, ContainsIndex
from lacre.sqlalchemy import compound, encrypted

__all__ = ["Base", "Customer", "Order"]


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("exact", unique=True), subject="id")
    name: Mapped[str] = encrypted(
        "pii", index=[BlindIndex("name"), ContainsIndex("name")], subject="id"
    )
    account: Mapped[str | None] = encrypted("banking", subject="id")
    name_and_cpf = compound("name", "cpf", unique=True)
    closed: Mapped[dt.date | None] = mapped_column(Date)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id"))
    note: Mapped[str] = encrypted("pii", index=BlindIndex("name"), subject="customer_id")
