# SPDX-License-Identifier: Apache-2.0
"""`lacre honeytoken`: planted, recognised when touched, told by nothing, retired."""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from lacre import Lacre
from lacre.audit.entries import Entry
from lacre.audit.honeytokens import Marks, touched
from lacre.stores.log.honeytokens import HoneytokenStore
from lacre.stores.log.log import AuditLog
from tests.cli.conftest import Run
from tests.sqlalchemy import models, test_subjects

CREATE = ("honeytoken", "create", "--database", "shop.db", "--models")
CUSTOMERS = (*CREATE, "tests.sqlalchemy.models:Base", "Customer")


@pytest.fixture(autouse=True)
def log(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditLog]:
    """The evidence log of `home`, and a shop with one honest customer."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    config = home / "lacre.toml"
    text = config.read_text("utf-8")
    if "audit.db" not in text:
        config.write_text(text.replace("[audit]\n", '[audit]\nurl = "sqlite:///lacre/audit.db"\nsequencer = "apart"\n'), "utf-8")  # fmt: skip
    made = AuditLog(f"sqlite:///{home / 'lacre/audit.db'}")
    made.upgrade()
    _shop(home)
    yield made
    made.close()


def marks(home: Path, log: AuditLog) -> Marks:
    """What the detector knows."""
    return HoneytokenStore(log).marks((home / "lacre/honeytoken.key").read_bytes())


def touches(home: Path, log: AuditLog) -> dict[str, set[str]]:
    """Which actions of the evidence touched which honeytokens."""
    known, found = marks(home, log), dict[str, set[str]]()
    for line in (home / "lacre/audit.jsonl").read_bytes().splitlines():
        entry = Entry.read(line)
        for token in touched(entry, known):
            found.setdefault(token, set()).add(entry.action)
    return found


def look_at_everybody(home: Path, model: Any, *, write: bool = False) -> None:
    """What a thief does."""
    with _session(home) as session:
        for each in session.scalars(select(model)):
            each.name = "changed" if write else each.name
            assert write or each.name


@contextmanager
def _session(home: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        lacre.acting_as("svc:app", roles={"app"}, purpose="test", across_yield=True),
        lacre.sqlalchemy(sessionmaker(engine)).begin() as session,
    ):
        yield session
    engine.dispose()


def _shop(home: Path) -> None:
    engine = create_engine(f"sqlite:///{home / 'shop.db'}")
    models.Base.metadata.create_all(engine)
    test_subjects.Base.metadata.create_all(engine)
    engine.dispose()
    with _session(home) as session:
        session.add(models.Customer(email="ana@example.org", name="Ana", city="Recife"))


def test_a_look_and_a_write_are_recognised_and_work_is_not(
    cli: Run, home: Path, log: AuditLog
) -> None:
    """
    Planting and re-encryption touch nothing; a look and a write at a planted row do.

    Where values are about somebody, the planted person is known by the pseudonym that evidence has.
    """
    someone = cli(*CREATE, "tests.sqlalchemy.test_subjects:Base", "User", "--json")
    person = json.loads(someone.stdout)["token"]
    made = cli(*CUSTOMERS, "--json")
    token = json.loads(made.stdout)["token"]
    moved = cli("reencrypt", "--models", "tests.sqlalchemy.models:Customer", "--database", "shop.db", "--yes")  # fmt: skip
    quiet = touches(home, log)
    look_at_everybody(home, models.Customer)
    look_at_everybody(home, test_subjects.User)
    looked = touches(home, log)
    look_at_everybody(home, models.Customer, write=True)

    assert made.returncode == 0, made.stderr
    assert moved.returncode == 0, moved.stderr
    assert quiet == {}
    assert looked == {token: {"look"}, person: {"look"}}
    assert touches(home, log) == {token: {"look", "encrypt"}, person: {"look"}}


def test_nothing_tells_which_row_it_is(cli: Run, home: Path, log: AuditLog) -> None:
    """
    Neither the data, nor the log's tables, nor the evidence that planting leaves but its writes, nor the list.

    `--values` fills what nobody can guess; a wrong file or class is said and plants nothing.
    """
    (home / "values.json").write_text('{"city": "Olinda", "name": "Vera"}', "utf-8")
    (home / "wrong.json").write_text("[]", "utf-8")
    wrong = cli(*CUSTOMERS, "--values", "wrong.json")
    unknown = cli(*CUSTOMERS[:-1], "Nobody")
    token = cli(*CUSTOMERS, "--values", "values.json", "--json")
    listed = cli("honeytoken", "list")
    name = json.loads(token.stdout)["token"]
    with sqlite3.connect(home / "shop.db") as data:
        rows = [str(row) for row in data.execute("SELECT * FROM customers")]
        ids = [key for (key,) in data.execute("SELECT id FROM customers")]
    with log.reading() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM lacre_honeytoken").all())
    (planted,) = [
        line for line in (home / "lacre/audit.jsonl").read_text("utf-8").splitlines() if '"action":"honeytoken"' in line
    ]  # fmt: skip

    assert (wrong.returncode, unknown.returncode) == (3, 3)
    assert len(ids) == 2
    assert sum("Olinda" in row for row in rows) == 1
    assert name in listed.stdout
    for key in ids:
        assert key not in stored + listed.stdout + token.stderr + planted
    assert not any(name in row or "honey" in row.lower() for row in rows)
    key = home / "lacre/honeytoken.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes().hex() not in listed.stdout + stored + planted


def test_retiring_removes_the_row_and_the_mark(cli: Run, home: Path, log: AuditLog) -> None:
    """The right row goes, the others stay, the log says so; without the key, or in another table, nothing is done."""
    first, second = (json.loads(cli(*CUSTOMERS, "--json").stdout)["token"] for _ in range(2))
    rest = ("--models", "tests.sqlalchemy.models:Base", "--database", "shop.db")
    elsewhere = cli("honeytoken", "retire", first, "Citizen", *rest)
    done = cli("honeytoken", "retire", first, "Customer", *rest)
    again = cli("honeytoken", "retire", first, "Customer", *rest)
    look_at_everybody(home, models.Customer)

    assert (elsewhere.returncode, done.returncode, again.returncode) == (8, 0, 8), done.stderr
    assert touches(home, log) == {second: {"look"}}
    with sqlite3.connect(home / "shop.db") as data:
        assert data.execute("SELECT count(*) FROM customers").fetchone() == (2,)
    steps = [json.loads(line)["step"] for line in (home / "lacre/audit.jsonl").read_text("utf-8").splitlines() if '"action":"honeytoken"' in line]  # fmt: skip
    assert steps == ["planted", "planted", "retired"]
    (home / "lacre/honeytoken.key").unlink()
    lost = cli("honeytoken", "create", *rest, "Customer")
    assert lost.returncode == 3
    assert "there is no file" in lost.stderr
