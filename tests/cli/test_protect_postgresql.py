# SPDX-License-Identifier: Apache-2.0
"""`lacre protect` and `lacre unprotect` on PostgreSQL, as commands."""

import json

import pytest

from tests.components.postgresql import Database


@pytest.fixture
def shop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A table of customers, and libpq's variables that lead to it."""
    for name, value in database.variables().items():
        monkeypatch.setenv(name, value)
    with database.connect() as connection:
        connection.execute(
            "CREATE EXTENSION pgstattuple;"
            "CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, status text);"
            "INSERT INTO customers SELECT i, 'person.' || i || '@example.org', 'x' FROM generate_series(1, 300) i"
        )
    return database


CUSTOMERS = ["--database", "postgresql://", "--table", "customers", "--column", "email:pii:email"]


def test_the_plan_estimates_before_it_starts(cli, shop):
    """A dry run says rows, sizes, write-ahead log, time and what is unknown, and changes nothing."""
    run = cli("protect", *CUSTOMERS, "--dry-run", "--json", "--workers", "2")
    told = json.loads(run.stdout)
    talk = cli("protect", *CUSTOMERS, "--dry-run").stderr

    assert told["rows"] == told["estimate"]["rows"] == told["estimate"]["sample"] == 300
    assert told["estimate"]["seconds"] > 0
    assert told["estimate"]["bytes"]["wal"] > told["growth_bytes"] > 300 * 91
    assert told["estimate"]["replica_lag"] is None
    assert "write-ahead log" in talk
    assert "300 rows show" in talk
    assert "person." not in talk + run.stdout
    with shop.connect() as connection:
        (columns,) = connection.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'customers'::regclass AND attnum > 0"
        ).fetchone()
    assert columns == 3


def test_the_report_names_locks_and_what_is_left_to_do(cli, shop):
    """At the end stand each lock, figures of bloat, the statement that ends it, and what was not reached."""
    run = cli("protect", *CUSTOMERS, "--yes", "--no-verify")

    assert run.returncode == 0, run.stderr
    assert run.stdout == "protected: email of customers, 300 rows, not verified\n"
    for told in (
        "prepare: ACCESS EXCLUSIVE, waited",
        "switch over: ACCESS EXCLUSIVE, waited",
        "% of its pages are free or dead",
        'VACUUM (FULL, ANALYZE) "public"."customers"',
        "Write-ahead log written before now",
        'email: Mapped[str | None] = encrypted("pii", index=BlindIndex("email", unique=True))',
    ):
        assert told in run.stderr
    again = json.loads(cli("unprotect", *CUSTOMERS, "--yes", "--json").stdout)
    assert (again["done"], again["rows"], again["verified"]) == ("unprotected", 300, True)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["postgresql://me:hunter2@localhost/x"], "a password in an argument"),
        (["postgresql://127.0.0.1:1/x"], "cannot connect"),
        (["postgresql://127.0.0.1:port/x"], "is not one"),
        (["mysql://127.0.0.1/x"], "SQLite files and PostgreSQL databases"),
        (["postgresql://", "--join"], "there is no fill to join"),
    ],
)
def test_a_wrong_call_says_what_to_do(cli, shop, changed, told):
    """One sentence and a hint; no password, no traceback."""
    run = cli("protect", "--database", *changed, *CUSTOMERS[2:], "--yes")

    assert run.returncode in (3, 8)
    assert told in run.stderr
    assert "hunter2" not in run.stderr + run.stdout
    assert "Traceback" not in run.stderr
