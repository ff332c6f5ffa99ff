# SPDX-License-Identifier: Apache-2.0
"""A mapped dataclass as an application would write it, for the type checkers: it is not run."""

import datetime as dt
from typing import Any, assert_type
from uuid import UUID, uuid4

from sqlalchemy import JSON, ColumnElement, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from lacre.sqlalchemy import BlindIndex, MappedAsDataclass, encrypted, row_id


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shops"

    id: Mapped[int] = mapped_column(primary_key=True)


class Member(Base):
    __tablename__ = "members"

    # Fields without a default may follow those that declare none: encrypted() is a field.
    lacre_rid: Mapped[UUID] = row_id()
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    shop_id: Mapped[int] = mapped_column(ForeignKey("shops.id"))
    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid4)
    born: Mapped[dt.date | None] = encrypted("pii", default=None)
    data: Mapped[dict[str, Any]] = encrypted("pii", JSON(), default_factory=dict)
    note: Mapped[str] = encrypted("pii", default="", init=False)
    city: Mapped[str] = encrypted("pii", kw_only=True)
    shop: Mapped[Shop | None] = relationship(default=None)


def use() -> None:
    member = Member("ana@example.org", 1, city="Faro")
    Member(email="x", shop_id=1, born=dt.date(1990, 1, 2), data={"vip": True}, city="Faro")
    assert_type(member.email, str)
    assert_type(member.born, dt.date | None)
    assert_type(member.data, dict[str, Any])
    assert_type(Member.email == "x", ColumnElement[bool])
    member.note = "x"
