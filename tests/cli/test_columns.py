# SPDX-License-Identifier: Apache-2.0
"""`lacre columns list`: what is left, what is wrong and what is due, on both databases."""

import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from cryptography.fernet import Fernet
from typer.testing import CliRunner

from lacre.cli.old_values import sources_of
from lacre.cli.operator import as_operator
from lacre.cli.program import app
from lacre.cli.protection import authority_of, fields_of
from lacre.errors import MisuseError, Tampered
from lacre.jobs import databases
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.pace import Pace
from lacre.jobs.sources import NO_SOURCES
from tests.components.postgresql import Database

Execute = Callable[..., list[Any]]

ASKED = [ColumnRequest(name="cpf", class_="pii", normaliser="cpf")]
CPFS = ["52998224725", "11144477735", "39053344705", None]


class Stops(Exception):
    """Raised from a progress callback, to leave a job half done."""


class Shop:
    """A table of four customers in one of the two databases, and statements against it."""

    def __init__(self, url: str, execute: Execute, home: Path) -> None:
        self.url, self.execute, self.home = url, execute, home

    def protect(self, stop_in: str = "", reader: str = "") -> None:
        def progress(position: Any) -> None:
            if position.phase == stop_in:
                raise Stops

        with as_operator(self.home / "lacre.toml", None, purpose="protect") as operator:
            databases.protect(
                self.url, "customers", [replace(each, reader=reader) for each in ASKED],
                fields=fields_of(operator, "main"), authority=authority_of(operator),
                pace=Pace(batch=2, progress=progress),
                sources=sources_of(operator, "main", reader) if reader else NO_SOURCES,
            )  # fmt: skip

    def half_done(self, phase: str, reader: str = "") -> None:
        with pytest.raises(Stops):
            self.protect(stop_in=phase, reader=reader)

    def deadline(self, days: int) -> None:
        day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
        config = self.home / "lacre.toml"
        table = f'\n[columns."customers.cpf"]\nclass = "pii"\ndeadline = {day}\n'
        config.write_text(config.read_text() + table)


_TABLE = "CREATE TABLE customers (id TEXT PRIMARY KEY NOT NULL, cpf TEXT)"


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, home: Path) -> Shop:
    """The table, once in each database."""
    if request.param == "sqlite":
        path = home / "shop.db"

        def execute(sql: str, *values: Any) -> list[Any]:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                return connection.execute(sql.replace("%s", "?"), values).fetchall()

        url = f"sqlite:///{path}"
    else:
        database: Database = request.getfixturevalue("database")
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        for name, value in database.variables().items():
            monkeypatch.setenv(name, value)

        def execute(sql: str, *values: Any) -> list[Any]:
            with database.connect() as connection:
                found = connection.execute(sql, values)  # type: ignore[call-overload]
                return found.fetchall() if found.description else []

        url = "postgresql://"
    execute(_TABLE)
    for number, cpf in enumerate(CPFS):
        execute("INSERT INTO customers VALUES (%s, %s)", str(number), cpf)
    return Shop(url, execute, home)


def run(shop: Shop, *arguments: str) -> Result:
    """Run the command in this process: a new one takes seconds."""
    config = ["--config", str(shop.home / "lacre.toml")]
    return CliRunner().invoke(app, ["columns", *arguments, *config])


def listed(shop: Shop, code: int = 0) -> dict[str, Any]:
    """What the command says of the one column, and that it exits with *code* when asked to check."""
    done = run(shop, "list", "--database", shop.url, "--json", "--check")
    assert done.exit_code == code, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def counts(told: dict[str, Any]) -> tuple[int, ...]:
    [column] = told["columns"]
    return tuple(column["counts"][name] for name in ("rows", "plaintext", "encrypted", "nulls"))


def test_what_is_left_is_counted_from_begin_to_end(shop: Shop) -> None:
    """Plaintext, half filled and encrypted rows are counted, with the state that is signed."""
    shop.deadline(90)
    before = listed(shop)
    shop.half_done("verify")
    shop.execute("UPDATE customers SET cpf = %s WHERE id = '0'", CPFS[1])
    between = listed(shop)
    shop.execute("UPDATE customers SET cpf = %s WHERE id = '0'", CPFS[0])
    shop.protect()
    after = listed(shop)

    assert (counts(before), before["columns"][0]["state"]) == ((4, 3, 0, 1), None)
    assert (counts(between), between["columns"][0]["state"]) == ((4, 1, 2, 1), "dual")
    assert (counts(after), after["columns"][0]["state"]) == ((4, 0, 3, 1), "encrypted")


@pytest.mark.parametrize(("days", "code"), [(31, 0), (30, 10), (0, 10), (-1, 6)])
def test_a_deadline_is_due_and_then_overdue(shop: Shop, days: int, code: int) -> None:
    """From thirty days before it is something to do, the day after it is wrong."""
    shop.deadline(days)
    [column] = listed(shop, code)["columns"]

    assert (column["days_left"], column["overdue"]) == (days, days < 0)


def test_an_emptied_ciphertext_is_drift(shop: Shop) -> None:
    """In dual, a companion that somebody emptied, beside a marker that says it counts, is reported."""
    shop.half_done("verify")
    shop.execute("UPDATE customers SET cpf_lacre = NULL, cpf_bidx = NULL WHERE id = '1'")
    told = listed(shop, 6)

    assert told["columns"][0]["counts"]["drift"] == 1
    assert "contradict their marker" in told["wrong"][0]


def test_a_legacy_write_is_no_drift(shop: Shop) -> None:
    """A program that knows nothing of lacre changes the plaintext: the row counts as plaintext again."""
    shop.half_done("verify")
    shop.execute("UPDATE customers SET cpf = NULL WHERE id = '1'")
    shop.execute("UPDATE customers SET cpf = '39053344705' WHERE id = '0'")

    assert listed(shop)["columns"][0]["counts"]["drift"] == 0


def test_planted_plaintext_is_refused_and_seen_behind_the_check(shop: Shop) -> None:
    """After `encrypted` the table refuses plaintext; behind a CHECK that was dropped it is counted."""
    shop.protect()
    on_sqlite = shop.url.startswith("sqlite")
    planted = "x" * 95 if on_sqlite else b"x" * 95
    statement = "UPDATE customers SET cpf = %s WHERE id = '1'"
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
        shop.execute(statement, planted)
    if on_sqlite:
        with closing(sqlite3.connect(shop.home / "shop.db")) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement.replace("%s", "?"), (planted,))
            connection.commit()
    else:
        shop.execute("ALTER TABLE customers DROP CONSTRAINT ck_customers_cpf_lacre")
        shop.execute(statement, planted)
    told = listed(shop, 6)

    assert counts(told) == (4, 1, 2, 1)
    assert "planted" in told["wrong"][0]


def test_a_forged_state_is_named(shop: Shop) -> None:
    """A state that somebody wrote into the key store without a signature counts as none, and is reported."""
    shop.half_done("verify")
    with closing(sqlite3.connect(shop.home / "lacre" / "keys.db")) as connection:
        connection.execute("UPDATE lacre_column_state SET state = 'encrypted'")
        connection.commit()
    told = listed(shop, 6)

    assert told["columns"][0]["state"] is None
    assert "was not signed" in told["wrong"][0]


def test_a_person_reads_a_table(shop: Shop) -> None:
    """Without --json it is a table; without --check nothing fails; no value is shown."""
    shop.deadline(-1)
    shown = run(shop, "list", "--database", shop.url)

    assert shown.exit_code == 0
    assert "customers.cpf" in shown.stdout
    assert "past its deadline" in shown.stderr
    assert not any(cpf in shown.stdout + shown.stderr for cpf in CPFS if cpf)


def test_another_stores_database_is_told_from_an_empty_one(home: Path) -> None:
    """Of a database that lacks a column's table it is said as which store it was read; read as its own, it warns of nothing."""
    config = home / "lacre.toml"
    with config.open("a") as file:
        file.write('\n[stores.archive]\n[columns."customers.cpf"]\nclass = "pii"\n')
    sqlite3.connect(home / "archive.db").close()
    arguments = ["columns", "list", "--config", str(config), "--database", f"sqlite:///{home}/archive.db", "--check"]  # fmt: skip
    taken, own = (CliRunner().invoke(app, [*arguments, *more]) for more in ([], ["--store", "archive"]))  # fmt: skip

    assert taken.exit_code == 6
    said = " ".join(taken.stderr.split())
    assert "customers.cpf is a column of store main, as which --database is read" in said
    assert "--store NAME says of which store it is" in said
    assert (own.exit_code, "warning" in own.stderr) == (0, False)


def drifted(shop: Shop, *more: str) -> Result:
    return run(shop, "drift", "--database", shop.url, "--table", "customers", "--column", "cpf:pii:cpf", *more)  # fmt: skip


def around_the_trigger(shop: Shop, statement: str) -> None:
    """Write as who owns the database may: with the trigger away."""
    if shop.url.startswith("sqlite"):
        [(sql,)] = shop.execute("SELECT sql FROM sqlite_master WHERE name = 'customers_lacre_form'")
        shop.execute("DROP TRIGGER customers_lacre_form")
        shop.execute(statement)
        shop.execute(sql)
        return
    shop.execute("ALTER TABLE customers DISABLE TRIGGER ALL")
    shop.execute(statement)
    shop.execute('ALTER TABLE customers ENABLE ALWAYS TRIGGER "~lacre_form"')
    shop.execute('ALTER TABLE customers ENABLE ALWAYS TRIGGER "~lacre_form_new"')


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE customers SET cpf = '39053344705' WHERE id = '1'",
        "UPDATE customers SET cpf_lacre = (SELECT cpf_lacre FROM customers WHERE id = '0') WHERE id = '1'",
        "UPDATE customers SET cpf_bidx = (SELECT cpf_bidx FROM customers WHERE id = '0') WHERE id = '1'",
    ],
)
def test_a_value_planted_around_the_trigger_is_named(shop: Shop, statement: str) -> None:
    """In dual, plaintext, ciphertext or a token that is another value's is found by opening, and the row is named."""
    shop.half_done("verify")
    before = drifted(shop)
    around_the_trigger(shop, statement)
    found = drifted(shop)
    with pytest.raises(Tampered):
        shop.protect()

    assert before.exit_code == 0, before.output
    assert "no drift: 4 encrypted rows" in before.stdout
    assert isinstance(found.exception, Tampered)
    assert "row 1" in "".join(found.exception.__notes__)
    assert not any(cpf in found.output for cpf in CPFS if cpf)


def test_without_two_forms_there_is_nothing_to_compare(shop: Shop) -> None:
    """Before protect and after it there is one form, and the command says so."""
    before = drifted(shop)
    shop.protect()

    assert isinstance(before.exception, MisuseError)
    assert isinstance(drifted(shop).exception, MisuseError)


def with_tokens(shop: Shop) -> list[Any]:
    """Have another library's ciphertexts in the place of plaintext; return the rows."""
    key = Fernet.generate_key()
    for number, cpf in enumerate(CPFS):
        token = None if cpf is None else Fernet(key).encrypt(cpf.encode()).decode()
        shop.execute("UPDATE customers SET cpf = %s WHERE id = %s", token, str(number))
    file, config = shop.home / "old.key", shop.home / "lacre.toml"
    file.touch(mode=0o600)
    file.write_bytes(key)
    legacy = '\n[legacy.old]\nformat = "fernet"\nkeys = "old.key"\nuntil = 2999-12-31\n'
    config.write_text(config.read_text() + legacy)
    return shop.execute("SELECT * FROM customers ORDER BY id")


def test_a_column_that_is_moved_in_is_compared_by_its_reader(shop: Shop) -> None:
    """With the `--from` that protect was given, what the legacy reader says is compared."""
    with_tokens(shop)
    shop.half_done("verify", reader="old")
    without, found = drifted(shop), drifted(shop, "--from", "old")

    assert isinstance(without.exception, MisuseError)
    assert found.exit_code == 0, found.exception
    assert "no drift: 4 encrypted rows" in found.stdout


def test_a_move_in_that_still_fills_is_undone(shop: Shop) -> None:
    """With the `--from` that protect was given, the table is again what it was, and says so."""
    before = with_tokens(shop)
    shop.half_done("fill", reader="old")
    command = [
        "unprotect",
        "--database",
        shop.url,
        "--table",
        "customers",
        "--column",
        "cpf:pii:cpf",
    ]
    command += ["--from", "old", "--yes", "--config", str(shop.home / "lacre.toml")]
    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.exception
    assert shop.execute("SELECT * FROM customers ORDER BY id") == before
    assert [column["state"] for column in listed(shop)["columns"]] == ["plaintext"]
