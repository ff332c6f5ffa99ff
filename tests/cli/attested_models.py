# SPDX-License-Identifier: Apache-2.0
"""The model of a protected table, as `--models tests.cli.attested_models:Base` names it."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre.sqlalchemy import BlindIndex, encrypted


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[str] = mapped_column(primary_key=True)
    cpf: Mapped[str | None] = encrypted("pii", index=BlindIndex("cpf"))
