# SPDX-License-Identifier: Apache-2.0
"""`lacre reencrypt` as a user runs it."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import sessionmaker

from lacre import Lacre

Run = Callable[..., CompletedProcess[str]]

MODELS = """
from uuid import UUID, uuid4
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from lacre import BlindIndex
from lacre.sqlalchemy import encrypted

class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
    account: Mapped[str | None] = encrypted("banking")
"""
ARGUMENTS = ("--models", "shop:Base", "--database", "sqlite:///shop.db")


@pytest.fixture
def shop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models in a module, and a database with three customers."""
    (home / "shop.py").write_text(MODELS, encoding="utf-8")
    space: dict[str, object] = {"__name__": "shop"}
    exec(MODELS, space)
    base, customer = space["Base"], space["Customer"]
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    base.metadata.create_all(engine)  # type: ignore[attr-defined]
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"), sessions() as session:
            for name in ("ana", "bia", "eva"):
                session.add(customer(email=f"{name}@example.org", account=f"DE-{name}"))  # type: ignore[operator]
            session.commit()
    engine.dispose()
    return home / "shop.db"


def stored(path: Path, column: str) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT {column} FROM customers ORDER BY id")]


def test_it_moves_every_value_and_says_so(cli: Run, shop: Path) -> None:
    """After a rotation the command moves the values of that class, shows the coverage, and a second run finds nothing."""
    before = stored(shop, "email"), stored(shop, "account")
    assert cli("keys", "rotate", "--class", "pii").returncode == 0
    done = cli("reencrypt", *ARGUMENTS, "--yes")
    again = cli("reencrypt", *ARGUMENTS, "--yes")

    assert done.returncode == 0, done.stderr
    assert "customers: 3 values in about 3 rows" in done.stderr
    assert "about 2 calls of the key service" in done.stderr
    assert "moved: 3 values in 3 rows of customers" in done.stderr
    assert "customers.email: 100 % of 3 values under the active key" in done.stdout
    assert "running processes may encrypt with the keys before until" in done.stderr
    assert {value[3:19] for value in stored(shop, "email")}.isdisjoint({v[3:19] for v in before[0]})
    assert stored(shop, "account") == before[1]
    assert "every value is under the key that encrypts now" in again.stderr


def test_coverage_is_checked(cli: Run, shop: Path) -> None:
    """`--coverage --check` exits 10 while a value is under an older key, and 0 once none is."""
    covered = cli("reencrypt", *ARGUMENTS, "--coverage", "--check", "--json")
    cli("keys", "rotate", "--class", "pii")
    due = cli("reencrypt", *ARGUMENTS, "--coverage", "--check")
    told = json.loads(cli("reencrypt", *ARGUMENTS, "--coverage", "--json").stdout)

    assert covered.returncode == 0
    assert [column["share"] for column in json.loads(covered.stdout)] == [1.0, 1.0]
    assert due.returncode == 10
    assert "due: 3 values of customers.email" in due.stderr
    assert {column["column"]: column["share"] for column in told} == {"email": 0.0, "account": 1.0}
    assert told[0]["keys"][0]["standing"] == "older"


def test_a_class_may_give_its_values_time(cli: Run, shop: Path, home: Path) -> None:
    """With `reencrypt_within`, values under the key before are not due until then."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[classes.pii]\n", '[classes.pii]\nreencrypt_within = "90 days"\n'), encoding="utf-8")  # fmt: skip
    cli("keys", "rotate", "--class", "pii")
    young = cli("reencrypt", *ARGUMENTS, "--coverage", "--check")
    unnamed = cli("keys", "due", *ARGUMENTS)
    left = cli("reencrypt", *ARGUMENTS, "--older-than", "90 days", "--yes")
    with closing(sqlite3.connect(home / "lacre" / "keys.db")) as connection, connection:
        connection.execute("UPDATE lacre_key SET created = '2020-01-01T00:00:00Z' WHERE kind = 'data' AND version = 2")  # fmt: skip
    old = cli("reencrypt", *ARGUMENTS, "--coverage", "--check")
    named = cli("keys", "due", *ARGUMENTS, "--within", "0", "--json")

    assert young.returncode == 0, young.stderr
    assert unnamed.returncode == 0, unnamed.stdout
    assert named.returncode == 10
    assert ("customers", "email", 3, "lacre reencrypt") in [
        (each.get("table"), each.get("column"), each.get("values"), each["do"])
        for each in json.loads(named.stdout)
    ]
    assert left.returncode == 0, left.stderr
    assert "moved" not in left.stderr
    assert old.returncode == 10


def test_nothing_is_done_unasked(cli: Run, shop: Path) -> None:
    """Without `--yes` and a terminal nothing is moved; a dry run shows the estimate and moves nothing."""
    cli("keys", "rotate", "--class", "pii")
    before = stored(shop, "email")
    refused = cli("reencrypt", *ARGUMENTS)
    dry = cli("reencrypt", *ARGUMENTS, "--dry-run")

    assert refused.returncode == 8
    assert dry.returncode == 0
    assert "customers: 3 values" in dry.stderr
    assert stored(shop, "email") == before


def test_a_value_that_does_not_open_is_an_exit_code(cli: Run, shop: Path) -> None:
    """A broken value is named by its row and not by its bytes; the others are moved, and the command exits 6."""
    with closing(sqlite3.connect(shop)) as connection, connection:
        row, value = connection.execute("SELECT id, email FROM customers LIMIT 1").fetchone()
        connection.execute("UPDATE customers SET email = ? WHERE id = ?", (value[:-1] + b"\0", row))
    cli("keys", "rotate", "--class", "pii")
    done = cli("reencrypt", *ARGUMENTS, "--yes")

    assert done.returncode == 6
    assert f"customers.email: 1 values did not open (Tampered) and stay as they are: rows {row}" in done.stderr  # fmt: skip
    assert "moved: 2 values in 2 rows" in done.stderr
    assert "customers.email: 66.6 % of 3 values" in done.stdout


def test_values_of_a_compromised_key_are_told_apart(cli: Run, shop: Path, home: Path) -> None:
    """The command says of values from under a compromised key that they are not thereby authentic."""
    key = stored(shop, "email")[0][3:19].hex()
    cli("keys", "rotate", "--class", "pii")
    cli("keys", "compromised", key)
    done = cli("reencrypt", *ARGUMENTS, "--yes")

    assert done.returncode == 0, done.stderr
    assert "3 values came from under a compromised key. They are not thereby authentic" in " ".join(done.stderr.split())  # fmt: skip


def test_another_length_is_made_in_place(cli: Run, home: Path) -> None:
    """With the model of a new length, tokens are stale until `--indexes` made them; then look-ups find."""

    def model(bits: int) -> type[Any]:
        text = MODELS.replace('encrypted("banking")', f'encrypted("banking", index=BlindIndex("exact", bits={bits}))')  # fmt: skip
        (home / "shop.py").write_text(text, encoding="utf-8")
        space: dict[str, Any] = {"__name__": "shop"}
        exec(text, space)
        made: type[Any] = space["Customer"]
        return made

    def found(customer: type[Any]) -> int:
        with Lacre.load(home / "lacre.toml", environ={}) as lacre:
            sessions = lacre.sqlalchemy(sessionmaker(engine))
            with lacre.acting_as("svc:app", roles={"app"}, purpose="test"), sessions() as session:
                return len(
                    session.scalars(select(customer).where(customer.account == "DE-1")).all()
                )

    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    before, after = model(32), model(12)
    before.metadata.create_all(engine)
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        sessions = lacre.sqlalchemy(sessionmaker(engine))
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"), sessions.begin() as session:
            session.add(before(email="ana@example.org", account="DE-1"))
    missed = found(after)
    stale = cli("reencrypt", *ARGUMENTS, "--indexes", "--check")
    made = cli("reencrypt", *ARGUMENTS, "--indexes", "--yes")

    assert (found(before), missed) == (0, 0)
    assert stale.returncode == 10, stale.stderr
    assert made.returncode == 0, made.stderr
    assert found(after) == 1
    engine.dispose()


def test_an_index_rotation_step_by_step(cli: Run, shop: Path, home: Path) -> None:
    """Announce, activate, make tokens anew, destroy, clear: the command says what is left at each step."""
    config = home / "lacre.toml"
    config.write_text(config.read_text(encoding="utf-8") + "\n[cache]\nage = 1\n", encoding="utf-8")
    index = ("keys", "rotate", "--class", "pii", "--kind", "index")
    for _ in range(2):
        cli(*index)
        time.sleep(1.1)  # the cache age is over
    left = cli("reencrypt", *ARGUMENTS, "--indexes", "--check")
    done = cli("reencrypt", *ARGUMENTS, "--indexes", "--yes")
    third = cli(*index)
    keys = json.loads(cli("keys", "list", "--class", "pii", "--json").stdout)
    [old] = [key["key"] for key in keys if key["kind"] == "index" and key["version"] == 1]
    gone = cli("keys", "destroy", old, *ARGUMENTS, "--yes")
    cleared = cli("reencrypt", *ARGUMENTS, "--indexes", "--yes")

    assert left.returncode == 10, left.stderr
    assert "customers: 3 rows lack tokens, or have stale ones" in left.stdout
    assert done.returncode == 0, done.stderr
    assert "customers: 3 rows written, 0 rows lack tokens, or have stale ones" in done.stdout
    assert f"lacre keys destroy {old[:8]}" in " ".join(done.stderr.split())
    assert third.returncode == 8
    assert gone.returncode == 0, gone.stderr
    assert "3 rows written, 0 rows lack" in cleared.stdout
    assert stored(shop, "email_bidx") == [None] * 3
    assert None not in stored(shop, "email_bidx2")
