# SPDX-License-Identifier: Apache-2.0
"""The tables. Who a person is stands in them encrypted; what they are called by is a random id."""

import datetime as dt
from uuid import UUID, uuid4

from sqlalchemy import DateTime, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.sqlalchemy import BlindIndex, ContainsIndex, encrypted

__all__ = ["Base", "ErasureRequest", "User"]


class Base(DeclarativeBase): ...


class User(Base):
    """One person. No two have one e-mail address or one CPF: the database refuses the second."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    created: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    role: Mapped[str] = mapped_column(default="person")
    password_hash: Mapped[str]
    # Every value is under its person's own key, which can be destroyed: `subject`.
    email: Mapped[str] = encrypted(
        "pii", index=BlindIndex("email", unique=True), mask="email", subject="id"
    )
    name: Mapped[str] = encrypted("pii", index=ContainsIndex("name"), mask="name", subject="id")
    cpf: Mapped[str | None] = encrypted(
        "pii", index=BlindIndex("cpf", unique=True), mask="cpf", subject="id"
    )
    phone: Mapped[str | None] = encrypted("pii", mask="phone", subject="id")
    address: Mapped[str | None] = encrypted("pii", subject="id")
    born: Mapped[dt.date | None] = encrypted("pii", mask="year", subject="id")


class ErasureRequest(Base):
    """Somebody asked to be erased. Stays when the person is gone: it is what was asked and done, and by which certificate."""

    __tablename__ = "erasure_requests"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    asked: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    done: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    certificate: Mapped[str | None] = mapped_column(unique=True)  # its SHA-256, in hex
