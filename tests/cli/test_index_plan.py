# SPDX-License-Identifier: Apache-2.0
"""`lacre index plan`: what a build sees, what a person sees, and what nobody may."""

import ast
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lacre.cli.demo_data import build
from lacre.cli.program import app
from lacre.jobs.columns import ColumnRequest
from tests.cli.test_columns import CPFS, Shop, shop
from tests.components.postgresql import Database
from tests.markdown import blocks

__all__ = ["shop"]

Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[2]
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
def encrypted_shop(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A table whose column was encrypted before anybody wanted to search it: there is no index."""
    monkeypatch.setattr("tests.cli.test_columns.ASKED", [ColumnRequest(name="cpf", class_="pii")])
    shop.protect()
    shop.execute("ALTER TABLE customers ADD COLUMN note TEXT")
    return shop


@pytest.fixture
def people(home: Path) -> str:
    """A model, and a database of 20,000 people."""
    (home / "shop.py").write_text(_MODELS)
    with closing(sqlite3.connect(home / "shop.db")) as connection:
        connection.execute("CREATE TABLE customers (id TEXT, name TEXT)")
        connection.executemany("INSERT INTO customers VALUES (?, ?)", list(enumerate(NAMES)))
        connection.commit()
    return "sqlite:///shop.db"


def plan(cli: Run, database: str, *more: str) -> subprocess.CompletedProcess[str]:
    return cli("index", "plan", "--models", "shop:Base", "--database", database, *more)


def test_a_build_fails_until_somebody_says_why(cli: Run, people: str, home: Path) -> None:
    """`--check` exits with 3; a waiver with a reason lets it pass and is shown; one that is over does not."""
    refused = plan(cli, people, "--check")
    text = (home / "lacre.toml").read_text()
    waiver = '\n[[waivers]]\nof = "customers.name"\nfinding = "too-long"\nreason = "gone when search is out"\n'
    (home / "lacre.toml").write_text(text + waiver)
    waived = plan(cli, people, "--check")
    (home / "lacre.toml").write_text(text + waiver + "until = 2020-01-01\n")
    over = plan(cli, people, "--check")
    (home / "lacre.toml").write_text(text + waiver.replace("gone when search is out", "why"))
    no_reason = plan(cli, people, "--check")

    assert refused.returncode == 3
    assert re.search(r"32 bits, the default +SHOWS EQUAL VALUES\n", refused.stdout)
    assert "NOT SAFE" not in refused.stdout
    assert waived.returncode == 0, waived.stderr
    assert "WAIVED" in waived.stdout
    assert "gone when search is out" in waived.stdout
    assert over.returncode == 3
    assert "say why" in no_reason.stderr


def test_the_report_fits_a_terminal_and_shows_no_value(cli: Run, people: str) -> None:
    """No line is longer than 80 columns, and no name of a customer is in the report."""
    shown = plan(cli, people)

    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "Canary" not in shown.stdout + shown.stderr


def test_a_program_reads_every_figure(cli: Run, people: str) -> None:
    """`--json` has counts, range, recommendation and findings."""
    [table] = json.loads(plan(cli, people, "--json").stdout)["tables"]
    [index] = table["indexes"]

    assert (table["rows"], table["safe"]) == (20_000, False)
    assert (index["values"], index["verdict"]) == (2_001, "SHOWS EQUAL VALUES")
    assert index["safe_bits"][0] <= index["recommended_bits"] == index["safe_bits"][1]
    assert [f["code"] for f in index["findings"] if f["refuses"]] == ["too-long"]


def test_postgresql_is_read_too(cli: Run, people: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The same table in PostgreSQL has the same plan."""
    for name, value in database.variables().items():
        monkeypatch.setenv(name, value)
    with database.connect() as connection:
        connection.execute("CREATE TABLE customers (id text, name text)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO customers VALUES (%s, %s)", [(str(n), name) for n, name in enumerate(NAMES)])  # fmt: skip

    assert plan(cli, "postgresql://").stdout == plan(cli, people).stdout


def _readme() -> str:
    """The models that the README declares, with what they need, as a module."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    parsed = [
        ast.parse(each.text)
        for each in blocks(text)
        if each.language == "python" and "(Base)" in each.text
    ]
    kept = [
        ast.unparse(node)
        for module in parsed
        for node in module.body
        if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)
    ]
    return "\n".join(kept)


@pytest.mark.parametrize("models", ["readme:Base", "nexus.models:Base", "lacre.cli.demo_application:Base"])  # fmt: skip
def test_what_this_project_declares_passes_its_own_check(
    models: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's models, the example's and the demonstration's, on the demonstration's people: `--check` exits with 0."""
    (tmp_path / "readme.py").write_text(_readme(), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    build(tmp_path / "people.db", 1_000)
    with closing(sqlite3.connect(tmp_path / "people.db")) as connection:
        connection.executescript("""
            CREATE TABLE people AS SELECT id, name, born FROM customers;
            CREATE TABLE users AS SELECT id, email, name, cpf, phone, address, born FROM customers;
            CREATE TABLE messages AS SELECT id, id AS customer_id, name AS author, notes AS text FROM customers;
        """)
    arguments = ["index", "plan", "--models", models, "--check", "--config", "nowhere.toml"]
    done = CliRunner().invoke(app, [*arguments, "--database", f"sqlite:///{tmp_path / 'people.db'}"])  # fmt: skip
    for name in ("readme", "nexus.models", "nexus"):
        sys.modules.pop(name, None)

    assert done.exit_code == 0, done.output
    assert "1,000 rows" in done.output


def test_a_table_that_is_not_there_fails_a_check_and_hides_no_other(cli: Run, people: str, home: Path) -> None:  # fmt: skip
    """A model whose table was not made yet is named, after the plan of the others; where none is there, it is an error."""
    later = '\nclass Later(Base):\n    __tablename__ = "later"\n    id: Mapped[str] = mapped_column(primary_key=True)\n    name: Mapped[str] = encrypted("pii", index=BlindIndex("name", unique=True))\n'
    (home / "shop.py").write_text(_MODELS.replace('"name"', '"name", bits=96') + later)
    checked = plan(cli, people, "--check")
    alone = plan(cli, people, "--table", "later")

    assert checked.returncode == 3
    assert "customers: 20,000 rows" in checked.stdout
    assert "later: NOT READ" in checked.stdout
    assert "no table later" in alone.stderr


def test_a_password_in_the_argument_is_refused(cli: Run, people: str) -> None:
    """A URL with a password is refused and not repeated."""
    refused = plan(cli, "postgresql://app:canary-8812@127.0.0.1/shop")

    assert refused.returncode == 3
    assert "canary-8812" not in refused.stderr + refused.stdout


def test_a_table_without_an_index_is_named(cli: Run, people: str) -> None:
    """`--table` of something else is an error, so a build does not pass by a typing error."""
    refused = plan(cli, people, "--table", "custmers", "--check")

    assert refused.returncode == 3
    assert "custmers" in refused.stderr


def test_a_sample_is_opened_where_no_token_tells(encrypted_shop: Shop) -> None:
    """An index declared after encryption is counted on a sample that the operator opens, which is recorded."""
    arguments = ["index", "plan", "--models", "tests.cli.attested_models:Base", "--database", encrypted_shop.url, "--json", "--check"]  # fmt: skip
    config = ["--config", str(encrypted_shop.home / "lacre.toml")]
    unread = CliRunner().invoke(app, [*arguments, *config])
    opened = CliRunner().invoke(app, [*arguments, *config, "--decrypt", "10"])
    [table] = json.loads(opened.stdout)["tables"]
    [index] = table["indexes"]
    evidence = (encrypted_shop.home / "lacre" / "audit.jsonl").read_text()
    looks = [json.loads(line) for line in evidence.splitlines() if '"purpose":"plan"' in line]

    assert unread.exit_code == 3
    assert "no tokens of this index yet" in unread.stdout
    assert (index["read_from"], index["values"]) == ("decrypted", 3)
    assert [(look["action"], sorted(look["rows"])) for look in looks] == [("look", ["0", "1", "2"])]
    assert not any(cpf in opened.output + evidence for cpf in CPFS if cpf)
