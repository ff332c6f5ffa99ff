# SPDX-License-Identifier: Apache-2.0
"""A home with customers in a database of their own, and the commands that erase them, called as functions."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.cli.operator import as_operator
from lacre.cli.sealing import sealer_of
from lacre.cli.shredding import shred
from tests.jobs.erasing_models import Base, Customer, Order

__all__ = ["MODELS", "SEALING", "Shop"]

SEALING = """
[sealing]
kms_key = "local://seal"
classes = ["pii", "banking"]
snapshots_kept = "10 days"

[erasure]
data_backups_kept = "35 days"

[retention.customers]
table = "customers"
column = "closed"
after = "30 days"
"""
MODELS = ["tests.jobs.erasing_models:Base"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Customers, encrypted under keys of their own."""

    home: Path
    url: str

    @property
    def config(self) -> Path:
        return self.home / "lacre.toml"

    @classmethod
    def made(cls, home: Path, *, url: str | None = None, more: str = SEALING) -> "Shop":
        """Return a shop without customers, whose first epoch has begun where it seals."""
        shop = cls(home=home, url=url or f"sqlite:///{home}/shop.db")
        with shop.config.open("a") as file:
            file.write(more)
        with shop.engine() as engine:
            Base.metadata.create_all(engine)
        if "[sealing]" in more:
            shop.seal()
        return shop

    @contextmanager
    def engine(self) -> Iterator[sa.Engine]:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def session(self, lacre: Lacre | None = None) -> Iterator[Session]:
        """A session of the application, in a process that begins now, or of *lacre*."""
        with self.engine() as engine:
            if lacre is not None:
                with lacre.acting_as("svc:app", roles={"app"}, purpose="test", across_yield=True), lacre.sqlalchemy(sessionmaker(engine))() as session:  # fmt: skip
                    yield session
                return
            with Lacre.load(self.config, environ={}) as fresh, self.session(fresh) as session:
                yield session

    def add(self, *subjects: str, closed: Any = None) -> None:
        """Add customers with an order each, in one transaction."""
        with self.session() as session:
            for subject in subjects:
                session.add(Customer(id=subject, cpf=f"cpf-canary-{subject}", name="Ana Canary", account="acct-canary", closed=closed))  # fmt: skip
            session.flush()
            session.add_all(Order(customer_id=subject, note="note canary") for subject in subjects)
            session.commit()

    def read(self, subject: str) -> list[str | None]:
        """Return what the application reads of a customer, in a process that begins now."""
        with self.session() as session:
            found = session.get_one(Customer, subject)
            order = session.scalars(sa.select(Order).where(Order.customer_id == subject)).one()
            return [found.cpf, found.name, found.account, order.note]

    def seal(self) -> None:
        """Seal."""
        with as_operator(self.config, None, purpose="test") as operator:
            sealer_of(operator).seal()

    def shred(self, subject: str | None, **options: Any) -> None:
        """`lacre shred`."""
        given = {
            "tenant": None, "models": MODELS, "database": self.url, "reason": "request 12",
            "due": subject is None, "dry_run": False, "wait": False, "yes": True, "as_json": False,
            "config": self.config, "passphrase_file": None,
        }  # fmt: skip
        shred(subject, **(given | options))

    def certificates(self) -> list[dict[str, Any]]:
        """Return what every certificate says, the oldest first."""
        paths = sorted(self.files(), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text().split("\n")[0]) for path in paths]

    def files(self) -> list[Path]:
        return list((self.home / "lacre" / "certificates").glob("*.json"))

    def events(self) -> list[dict[str, Any]]:
        """Return the evidence."""
        text = (self.home / "lacre" / "audit.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def stored(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the data as they are stored."""
        with self.engine() as engine, engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def keys(self, query: str) -> list[tuple[Any, ...]]:
        """Return rows of the key store as they are stored."""
        with closing(sqlite3.connect(self.home / "lacre" / "keys.db")) as connection:
            return connection.execute(query).fetchall()
