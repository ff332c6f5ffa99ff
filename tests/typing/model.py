# SPDX-License-Identifier: Apache-2.0
"""A model as an application would write it, for the type checker: it is not run."""

import datetime as dt
from typing import Any, assert_type
from uuid import UUID, uuid4

from sqlalchemy import JSON, ColumnElement, Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lacre import BlindIndex, ContainsIndex, Lacre, PrefixIndex
from lacre.sqlalchemy import compound, encrypted, row_id


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    lacre_rid: Mapped[UUID] = row_id()
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf", unique=True), mask="cpf")
    born: Mapped[dt.date | None] = encrypted("pii", default=None)
    name: Mapped[str] = encrypted(
        "pii",
        index=[BlindIndex("name"), PrefixIndex("name", lengths=(3, 4)), ContainsIndex("name")],
    )
    name_and_birth = compound("name", "born", normalisers={"name": "name"}, unique=True)
    data: Mapped[dict[str, Any]] = encrypted("pii", JSON(), padded=False, nullable=False)
    diary: Mapped[str | None] = encrypted("pii", subject="id")
    note: Mapped[str] = encrypted("pii", index=BlindIndex("name"), subject="id", moving=True)


def use(lacre: Lacre, engine: Engine) -> None:
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    assert_type(sessions, sessionmaker[Session])
    assert_type(Customer.email == "x", ColumnElement[bool])
    assert_type(Customer.name.contains("x"), ColumnElement[bool])
    assert_type(Customer.name.startswith("x"), ColumnElement[bool])
    assert_type(Customer.name_and_birth == ("x", dt.date.min), ColumnElement[bool])
    assert_type(Customer.email.in_(["x"]).__class__.__name__, str)
    with lacre.acting_as("svc:x", roles={"app"}, purpose="test"), sessions() as session:
        customer = session.scalars(select(Customer).where(Customer.cpf.is_(None))).one()
        assert_type(customer.email, str)
        assert_type(customer.cpf, str | None)
        assert_type(customer.born, dt.date | None)
        assert_type(customer.diary, str | None)
        assert_type(customer.note, str)
        customer.email = "y"
        customer.cpf = None


def apart(lacre: Lacre, whose: UUID) -> None:
    """Of subjects, without an ORM."""
    box = lacre.field("pii", table="diaries", column="text", subject=True)
    sealed = box.encrypt("x", row=1, subject=whose)
    box.decrypt(sealed, row=1, subject=str(whose))
    box.encrypt_many([(1, "x")], subjects=[whose])
    box.decrypt_many([(1, sealed)], subjects=[whose])
