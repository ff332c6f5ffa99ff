# SPDX-License-Identifier: Apache-2.0
"""
A shop that something happened to: what the runbooks of `docs/runbooks` are run in.

It has customers, a log that is anchored, somebody who was refused, an alert, a dump of the key
store, and a subject that was shredded after it. Each runbook has its own copy, with its own trouble.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre, Origin
from lacre.errors import AccessDenied
from lacre.keys.hierarchy import KeyState
from lacre.stores.sql import SQLKeyStore
from tests.calling import call

__all__ = ["make_shop", "strike"]

_MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lacre import BlindIndex
from lacre.sqlalchemy import encrypted


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    account: Mapped[str] = encrypted("banking", subject="id")
"""
_ANCHOR = '\n[audit.anchors.outside]\nkind = "file"\npath = "outside.jsonl"\n'
_DATABASE = ("--models", "shop:Base", "--database", "sqlite:///shop.db")


def make_shop(home: Path) -> None:
    """Make the shop in *home*, where `lacre init` was run."""
    config = home / "lacre.toml"
    config.write_text(config.read_text() + _ANCHOR)
    (home / "shop.py").write_text(_MODELS)
    found: dict[str, type] = {}
    exec(compile(_MODELS, "shop.py", "exec"), found)
    customer = found["Customer"]
    engine = create_engine(f"sqlite:///{home}/shop.db")
    customer.metadata.create_all(engine)  # type: ignore[attr-defined]
    with Lacre.load(config, environ={}) as lacre:
        opened = lacre.sqlalchemy(sessionmaker(engine))
        with (
            lacre.acting_as("svc:shop", roles={"app"}, purpose="orders"),
            opened.begin() as session,
        ):
            _fill(session, customer)
        origin = Origin(correlation="req-8f3a")
        with lacre.acting_as("user:eve", roles={"guest"}, purpose="curiosity", origin=origin):
            email = lacre.field("pii", table="customers", column="email", type=str)
            with suppress(AccessDenied):
                email.decrypt(b"", row="1")
    engine.dispose()
    for command in (
        ("keys", "backup", "keys-monday.dump"),
        ("shred", "c-2", *_DATABASE, "--reason", "request 12", "--yes"),
        ("audit", "anchor"),
        ("audit", "verify", "--keep", "auditor.json"),
    ):
        done = call(*command, cwd=home)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stderr}")


def _fill(session: Session, customer: type) -> None:
    for number in (1, 2):
        session.add(
            customer(id=f"c-{number}", email=f"{number}@example.org", account=f"DE{number}")
        )


def strike(home: Path, runbook: str) -> Mapping[str, str]:
    """Do to the shop what *runbook* is about; return the words that its commands leave open."""
    with closing(SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")) as keys:
        [key] = [
            row.key_id.hex()
            for row in keys.rows()
            if (row.scope.class_, str(row.scope.kind)) == ("pii", "data")
            and row.state is KeyState.ACTIVE
        ]
    with closing(sqlite3.connect(home / "lacre" / "audit.db")) as log:
        [month] = log.execute("SELECT max(shard) FROM lacre_leaf").fetchone()
        if runbook == "log-tampering":
            log.execute("DELETE FROM lacre_leaf WHERE status = 'prevented'")
            log.commit()
    if runbook == "key-loss":
        (home / "lacre" / "keys.db").unlink()
    return {"KEY": key[:8], "MONTH": f"{month // 100}-{month % 100:02}"}
