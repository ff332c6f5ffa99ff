# SPDX-License-Identifier: Apache-2.0
"""
The application of the demonstration: one mapped class over the table that `protect` encrypted, and a new one.

This is all an application has to declare. It knows nothing of keys.
"""

import datetime as dt
from uuid import UUID, uuid4

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.sqlalchemy import BlindIndex, ContainsIndex, encrypted, row_id

__all__ = ["Customer", "Message"]


class Base(DeclarativeBase):
    """The application's models."""


class Customer(Base):
    """A customer. SQLite may reuse `id`, so values are bound to `lacre_rid`, which `protect` added."""

    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    # As `lacre index plan` has it: of 500 names no length hides who is called like whom.
    name: Mapped[str] = encrypted("pii", index=BlindIndex("name", bits=96), mask="name")
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True), mask="email")
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf", unique=True), mask="cpf")
    phone: Mapped[str | None] = encrypted("pii", mask="phone")
    address: Mapped[str | None] = encrypted("pii")
    card: Mapped[str | None] = encrypted("payment")
    born: Mapped[dt.date | None] = encrypted("pii", mask="year")
    notes: Mapped[str | None] = encrypted("pii")
    city: Mapped[str | None]
    created_at: Mapped[str]


class Message(Base):
    """What a customer wrote, under a key of the customer's own: it can be searched, and erased, by person."""

    __tablename__ = "messages"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    customer_id: Mapped[int]
    author: Mapped[str] = encrypted("pii", index=ContainsIndex("name"), subject="customer_id")
    text: Mapped[str] = encrypted("pii", subject="customer_id")
