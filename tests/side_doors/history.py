# SPDX-License-Identifier: Apache-2.0
"""
An application whose models SQLAlchemy-Continuum versions, in a process of its own: what Continuum
switches on is global.

``python history.py HOME URL plain|excluded|ciphertext`` prints what happened, in JSON.
"""

import json
import sys
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column, sessionmaker
from sqlalchemy_continuum import make_versioned, version_class
from sqlalchemy_continuum.plugins import Plugin

from lacre import BlindIndex, Lacre, UnsupportedQuery
from lacre.sqlalchemy import EncryptedType, ciphertext_of, encrypted

HOME, URL, MODE = sys.argv[1:]
EXCLUDED = {"exclude": ["email", "email_bidx"]}


class CiphertextHistory(Plugin):  # type: ignore[misc]
    """Keeps in a version what the row held: the ciphertext of an excluded column, byte for byte."""

    def after_build_version_table_columns(self, builder: Any, columns: list[Any]) -> None:
        columns.extend(
            sa.Column(column.name, sa.LargeBinary)
            for column in builder.model.__table__.columns
            if isinstance(column.type, EncryptedType)
        )

    def after_create_version_object(self, _unit: Any, parent: Any, version: Any) -> None:
        for column in parent.__table__.columns:
            if isinstance(column.type, EncryptedType):
                setattr(version, column.key, ciphertext_of(parent, column.key))


make_versioned(user_cls=None, plugins=[CiphertextHistory()] if MODE == "ciphertext" else [])


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"
    __versioned__ = {} if MODE == "plain" else EXCLUDED

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email"))
    city: Mapped[str | None]


configure_mappers()


def main() -> dict[str, Any]:
    engine = sa.create_engine(URL)
    Base.metadata.create_all(engine)
    lacre = Lacre.load(f"{HOME}/lacre.toml", environ={})
    sessions = lacre.sqlalchemy(sessionmaker(engine))
    said = ""
    # Continuum as it is looks at what it copies; the others must not need the right to.
    role = "app" if MODE == "plain" else "writer"
    with lacre.acting_as("svc:import", roles={role}, purpose="import"), sessions() as session:
        patient = Patient(email="canary@example.org", city="Faro")
        session.add(patient)
        try:
            session.commit()
            patient.city = "Porto"
            session.commit()
            # What is excluded makes no version when it changes alone.
            patient.email, patient.city = "canary-two@example.org", "Lisboa"
            session.commit()
            patient.email, patient.city = None, "Braga"
            session.commit()
        except UnsupportedQuery as error:
            said = f"{error} ({error.hint})"
            session.rollback()
    opened: list[Any] = []
    table = version_class(Patient).__table__
    with engine.connect() as connection:
        versions = connection.execute(sa.select(table).order_by(table.c.transaction_id)).all()
    if MODE == "ciphertext":
        field = lacre.field("pii", table="patients", column="email")
        with lacre.acting_as("user:auditor", roles={"app"}, purpose="audit"):
            opened = [
                None if found.email is None else field.decrypt(found.email, row=found.id)
                for found in versions
            ]
    lacre.close()
    engine.dispose()
    return {
        "said": said,
        "columns": sorted(table.c.keys()),
        "cities": [found.city for found in versions],
        "opened": opened,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
