# SPDX-License-Identifier: Apache-2.0
"""Models of every shape that jobs over models meet: tenants, row ids, inheritance, composite keys."""

from datetime import date
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import BlindIndex, ContainsIndex, PrefixIndex
from lacre.sqlalchemy import compound, encrypted, row_id


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    kind: Mapped[str]
    note: Mapped[str | None]
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))
    born: Mapped[date | None] = encrypted("pii")

    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Employee(Person):
    """Of joined inheritance: its row id is its own column, equal to the parent's."""

    __tablename__ = "employees"

    id: Mapped[UUID] = mapped_column(ForeignKey("people.id"), primary_key=True)
    salary: Mapped[int | None] = encrypted("pii")

    __mapper_args__: ClassVar = {"polymorphic_identity": "employee"}


class Guest(Person):
    """Of single-table inheritance: one more column of the parent's table."""

    badge: Mapped[str | None] = encrypted("pii")

    __mapper_args__: ClassVar = {"polymorphic_identity": "guest"}


class Account(Base):
    """Names its tenant and its row id; a child finds both in the table above."""

    __tablename__ = "accounts"
    __lacre_tenant__ = "owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    lacre_rid: Mapped[UUID] = row_id()
    owner: Mapped[str]
    kind: Mapped[str]
    iban: Mapped[str | None] = encrypted("banking")

    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "account"}


class Savings(Account):
    __tablename__ = "savings"

    id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    goal: Mapped[str | None] = encrypted("pii")

    __mapper_args__: ClassVar = {"polymorphic_identity": "savings"}


class Reading(Base):
    """Of a composite key."""

    __tablename__ = "readings"

    meter: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = encrypted("pii")


class Patient(Base):
    """Whose values are under a key of each subject; *note* is somebody else's."""

    __tablename__ = "patients"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    doctor: Mapped[str | None]
    diagnosis: Mapped[str] = encrypted("pii", index=BlindIndex("exact"), subject="id")
    note: Mapped[str | None] = encrypted("pii", subject="doctor")


class Member(Base):
    """With an index of every kind."""

    __tablename__ = "members"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = encrypted(
        "pii",
        index=[BlindIndex("name"), PrefixIndex("name", lengths=(3, 4)), ContainsIndex("name")],
    )
    born: Mapped[date | None] = encrypted("pii")
    name_and_birth = compound("name", "born", normalisers={"name": "name"}, unique=True)
    birth_and_name = compound("born", "name")
