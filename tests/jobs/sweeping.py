# SPDX-License-Identifier: Apache-2.0
"""What the tests of `reencrypt` share: a shop's data, rotations, and the job itself."""

import datetime as dt
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.fields.moving import MovingField
from lacre.fields.tables import EncryptedTable
from lacre.jobs.pace import Pace
from lacre.jobs.sweeps import Outcome, Sweeper
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.sqlalchemy.tables import tables_of
from tests.jobs.sealed_models import Account, Base, Employee, Guest, Person, Reading, Savings

__all__ = ["Shop", "key_ids"]

Rows = dict[str, list[tuple[Any, ...]]]


class Shop:
    """One database of the models, and one application that acts as its operator."""

    def __init__(self, lacre: Lacre, url: sa.URL, job_url: str) -> None:
        self.lacre = lacre
        self.job_url = job_url
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        self.sessions: sessionmaker[Session] = lacre.sqlalchemy(sessionmaker(self.engine))
        Base.metadata.create_all(self.engine)

    def fill(self, count: int = 12) -> None:
        """Add so many rows of every model, of two tenants where they say so."""
        for tenant in ("acme", "globex"):
            for class_ in ("pii", "banking"):
                self.lacre.create_keys(tenant, class_)
        with self.sessions() as session:
            for number in range(count):
                born = dt.date(1980, 1, 1 + number % 28)
                common = {
                    "id": UUID(int=number + 1),
                    "email": f"p{number}@example.org" if number % 5 else None,
                    "born": born,
                }
                kind = number % 3
                if kind == 0:
                    session.add(Person(**common))
                elif kind == 1:
                    session.add(Employee(**common, salary=number * 100))
                else:
                    session.add(Guest(**common, badge=f"B{number}"))
                owner = ("acme", "globex")[number % 2]
                if number % 2:
                    session.add(Account(id=number + 1, owner=owner, iban=f"DE{number:020}"))
                else:
                    session.add(Savings(id=number + 1, owner=owner, iban=f"DE{number:020}", goal=f"a house, the {number}th"))  # fmt: skip
                session.add(Reading(meter=f"m{number}", day="2026-01-01", value=str(number)))
            session.commit()

    def clear(self) -> Rows:
        """Return every row as its owner knows it."""
        with self.sessions() as session:
            return {
                "people": sorted(
                    (p.id, p.note, p.email, p.born, getattr(p, "salary", None), getattr(p, "badge", None))
                    for p in session.scalars(sa.select(Person))
                ),
                "accounts": sorted((a.id, a.iban, getattr(a, "goal", None)) for a in session.scalars(sa.select(Account))),
                "readings": sorted((r.meter, r.value) for r in session.scalars(sa.select(Reading))),
            }  # fmt: skip

    def rotate(
        self, class_: str = "pii", tenant: str = "default", kind: KeyKind = KeyKind.DATA
    ) -> KeyRow:
        made = self.lacre.provisioner.rotate(self.lacre.scope(tenant, class_, kind))
        self.lacre.resolver.forget()
        return made

    def step(self, key: bytes, state: KeyState) -> None:
        self.lacre.provisioner.step(key, state)
        self.lacre.resolver.forget()

    def tables(self) -> dict[str, EncryptedTable]:
        return {each.name: each for each in tables_of(Base, self.engine.dialect)}

    def sweeper(
        self,
        *,
        tenant: str | None = None,
        before: dt.datetime | None = None,
        pace: Pace | None = None,
        **more: Any,
    ) -> Sweeper:
        lacre = self.lacre
        return Sweeper(
            database=self.job_url,
            fields=lambda column: MovingField(lacre.guard, column.scheme),
            keys=lacre.store,  # type: ignore[arg-type]
            scope=lacre.scope("default", "pii"),
            tenant=lambda table: tenant or (None if table.tenant is not None else "default"),
            record=lacre.recorder.write,
            forget=lacre.resolver.forget,
            before=before,
            pace=pace or Pace(batch=5),
            **more,
        )

    def reencrypt(self, *names: str, **how: Any) -> list[Outcome]:
        sweeper = self.sweeper(**how)
        return [
            sweeper.run(table)
            for name, table in self.tables().items()
            if not names or name in names
        ]


def key_ids(shop: Shop, table: str, column: str) -> set[bytes]:
    with shop.engine.connect() as connection:
        found = connection.execute(
            sa.text(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        )
        return {bytes(value)[3:19] for (value,) in found}
