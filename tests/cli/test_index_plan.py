# SPDX-License-Identifier: Apache-2.0
"""`lacre index plan`: what a build sees, what a person sees, and what nobody may."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.components.postgresql import Database

Run = Callable[..., subprocess.CompletedProcess[str]]

CANARY = "Canary Souza 5c2e"
NAMES = [CANARY, *(f"name {number % 2_000}" for number in range(19_999))]
_MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from lacre.sqlalchemy import BlindIndex, encrypted

class Base(DeclarativeBase): ...

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = encrypted("pii", index=BlindIndex("name"))
"""


@pytest.fixture
def shop(home: Path) -> str:
    """A model, and a database of 20,000 people."""
    (home / "shop.py").write_text(_MODELS)
    with closing(sqlite3.connect(home / "shop.db")) as connection:
        connection.execute("CREATE TABLE customers (id TEXT, name TEXT)")
        connection.executemany("INSERT INTO customers VALUES (?, ?)", list(enumerate(NAMES)))
        connection.commit()
    return "sqlite:///shop.db"


def plan(cli: Run, database: str, *more: str) -> subprocess.CompletedProcess[str]:
    return cli("index", "plan", "--models", "shop:Base", "--database", database, *more)


def test_a_build_fails_until_somebody_says_why(cli: Run, shop: str, home: Path) -> None:
    """`--check` exits with 3; a waiver with a reason lets it pass and is shown; one that is over does not."""
    refused = plan(cli, shop, "--check")
    text = (home / "lacre.toml").read_text()
    waiver = '\n[[waivers]]\nof = "customers.name"\nfinding = "too-long"\nreason = "gone when search is out"\n'
    (home / "lacre.toml").write_text(text + waiver)
    waived = plan(cli, shop, "--check")
    (home / "lacre.toml").write_text(text + waiver + "until = 2020-01-01\n")
    over = plan(cli, shop, "--check")
    (home / "lacre.toml").write_text(text + waiver.replace("gone when search is out", "why"))
    no_reason = plan(cli, shop, "--check")

    assert refused.returncode == 3
    assert "NOT SAFE" in refused.stdout
    assert waived.returncode == 0, waived.stderr
    assert "WAIVED" in waived.stdout
    assert "gone when search is out" in waived.stdout
    assert over.returncode == 3
    assert "say why" in no_reason.stderr


def test_the_report_fits_a_terminal_and_shows_no_value(cli: Run, shop: str) -> None:
    """No line is longer than 80 columns, and no name of a customer is in the report."""
    shown = plan(cli, shop)

    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "Canary" not in shown.stdout + shown.stderr


def test_a_program_reads_every_figure(cli: Run, shop: str) -> None:
    """`--json` has counts, range, recommendation and findings."""
    [table] = json.loads(plan(cli, shop, "--json").stdout)["tables"]
    [index] = table["indexes"]

    assert (table["rows"], table["safe"]) == (20_000, False)
    assert index["values"] == 2_001
    assert index["safe_bits"][0] <= index["recommended_bits"] == index["safe_bits"][1]
    assert [f["code"] for f in index["findings"] if f["refuses"]] == ["too-long"]


def test_postgresql_is_read_too(cli: Run, shop: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The same table in PostgreSQL has the same plan."""
    for name, value in database.variables().items():
        monkeypatch.setenv(name, value)
    with database.connect() as connection:
        connection.execute("CREATE TABLE customers (id text, name text)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO customers VALUES (%s, %s)", [(str(n), name) for n, name in enumerate(NAMES)])  # fmt: skip

    assert plan(cli, "postgresql://").stdout == plan(cli, shop).stdout


def test_a_password_in_the_argument_is_refused(cli: Run, shop: str) -> None:
    """A URL with a password is refused and not repeated."""
    refused = plan(cli, "postgresql://app:canary-8812@127.0.0.1/shop")

    assert refused.returncode == 3
    assert "canary-8812" not in refused.stderr + refused.stdout


def test_a_table_without_an_index_is_named(cli: Run, shop: str) -> None:
    """`--table` of something else is an error, so a build does not pass by a typing error."""
    refused = plan(cli, shop, "--table", "custmers", "--check")

    assert refused.returncode == 3
    assert "custmers" in refused.stderr
