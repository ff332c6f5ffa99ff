# SPDX-License-Identifier: Apache-2.0
"""The two tables that are compared: customers in plaintext, and the same with lacre."""

from uuid import UUID, uuid4

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.sqlalchemy import BlindIndex, encrypted

__all__ = ["Base", "Customer", "Plain"]


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "bench_plain"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(unique=True)
    phone: Mapped[str]
    address: Mapped[str]


class Customer(Base):
    __tablename__ = "bench_lacre"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    phone: Mapped[str] = encrypted("pii")
    address: Mapped[str] = encrypted("pii")
