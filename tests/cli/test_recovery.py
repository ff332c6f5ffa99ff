"""`lacre keys backup`, `restore` and `drill`, as a user runs them."""

import json
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.context import acting_as
from lacre.stores.sql import SQLKeyStore
from tests.components.postgresql import Database

Run = Callable[..., subprocess.CompletedProcess[str]]
CANARY = "canary-5e1f@example.org"


@pytest.fixture
def shop(home: Path) -> Path:
    """A table with protected values, written without an ORM."""
    path = home / "shop.db"
    with (
        closing(sqlite3.connect(path)) as connection,
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        email = lacre.field("pii", table="customers", column="email")
        paid = lacre.field("payment", table="customers", column="paid", type=int)
        connection.execute(
            "CREATE TABLE customers (id TEXT PRIMARY KEY, email BLOB, paid BLOB, city TEXT)"
        )
        for number in range(8):
            row = f"c{number}"
            connection.execute(
                "INSERT INTO customers VALUES (?, ?, ?, 'Recife')",
                (row, bytes(email.encrypt(CANARY, row=row)), bytes(paid.encrypt(number, row=row))),
            )  # fmt: skip
        connection.commit()
    return path


@pytest.fixture
def made(cli: Run, home: Path) -> Path:
    """A dump."""
    assert cli("keys", "backup", "keys.dump").returncode == 0
    return home / "keys.dump"


def held(home: Path) -> object:
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    try:
        return store.contents()
    finally:
        store.close()


def events(home: Path, action: str) -> list[dict[str, object]]:
    lines = (home / "lacre" / "audit.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["action"] == action]


SAMPLE = ("--database", "shop.db", "--table", "customers")


def test_a_backup_is_a_private_file_made_once(cli: Run, home: Path, made: Path) -> None:
    """Mode 0600, never over another file, recorded with the hash of what was written."""
    before = made.read_bytes()
    again = cli("keys", "backup", "keys.dump")
    nowhere = cli("keys", "backup", "no/keys.dump")

    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert (again.returncode, nowhere.returncode) == (3, 3)
    assert made.read_bytes() == before
    first = events(home, "recovery")[0]
    assert (first["step"], first["keys"], first["principal"]) == ("backup", 11, "operator")


def test_a_drill_opens_keys_and_values_and_changes_nothing(
    cli: Run, home: Path, shop: Path, made: Path
) -> None:
    """Every key and a sample; the store, the data and the keystore stay; each look is recorded."""
    before = (held(home), shop.read_bytes(), sorted(home.rglob("*.json")))
    columns = ("--column", "email:pii", "--column", "paid:payment:int")
    shown = cli("keys", "drill", "keys.dump", *SAMPLE, *columns, "--rows", "5")
    found = json.loads(cli("keys", "drill", "keys.dump", *SAMPLE, *columns, "--json").stdout)

    assert shown.returncode == 0, shown.stderr
    assert "passed" in shown.stderr
    assert "default  pii          index        1           0       0  yes" in shown.stdout
    assert "customers  email   pii           5       0" in shown.stdout
    assert found["passed"] is True
    assert len(found["keys"]) == 11
    assert [(v["column"], v["opened"], v["failed"]) for v in found["values"]] == [
        ("email", 8, []),
        ("paid", 8, []),
    ]
    assert (held(home), shop.read_bytes(), sorted(home.rglob("*.json"))) == before
    looks = [event for event in events(home, "look") if event["purpose"] == "drill"]
    assert sum(int(str(event["count"])) for event in looks) == 10 + 16
    assert {event["outcome"] for event in looks} == {"allowed"}
    assert CANARY not in shown.stdout + shown.stderr + (home / "lacre" / "audit.jsonl").read_text()


def test_a_drill_that_cannot_open_fails(cli: Run, home: Path, shop: Path, made: Path) -> None:
    """Values written under keys that the dump does not have, or altered since: exit code 6."""
    cli("keys", "rotate", "--class", "pii")
    with (
        closing(sqlite3.connect(shop)) as connection,
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        email = lacre.field("pii", table="customers", column="email")
        connection.execute("UPDATE customers SET email = ? WHERE id = 'c1'", (bytes(email.encrypt("x", row="c1")),))  # fmt: skip
        connection.execute("UPDATE customers SET email = 'plain' WHERE id = 'c2'")
        connection.execute("UPDATE customers SET email = NULL WHERE id = 'c3'")
        connection.commit()

    done = cli("keys", "drill", "keys.dump", *SAMPLE, "--column", "email:pii", "--json")

    assert done.returncode == 6
    assert "FAILED" in done.stderr
    (found,) = json.loads(done.stdout)["values"]
    assert found["opened"] == 5
    assert sorted(found["failed"]) == ["plaintext-found", "tampered"]


def test_a_drill_without_the_keys_fails(cli: Run, home: Path, made: Path) -> None:
    """Where the operator is no recipient of a KMS key any more, its keys are named as failed."""
    config = home / "lacre.toml"
    text = config.read_text()
    config.write_text(
        text.replace(
            "[classes.pii]\n",
            '[classes.pii]\nfields = "local://banking-fields"\nindex = "local://pii-index"\n',
        )
    )
    done = cli("keys", "drill", "keys.dump", "--json")
    config.write_text(text)

    found = json.loads(done.stdout)
    assert done.returncode == 6
    assert found["passed"] is False
    assert {(k["class"], k["kind"]) for k in found["keys"] if k["failed"]} == {
        ("pii", "branch"),
        ("pii", "data"),
    }


def test_a_drill_takes_what_protect_left(cli: Run, home: Path) -> None:
    """Classes come from the column states, rows from `lacre_rid`; no class has to be named."""
    path = home / "legacy.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT NOT NULL)")
        connection.executemany("INSERT INTO people VALUES (?, ?)", [(n, CANARY) for n in range(5)])
        connection.commit()
    where = ("--database", f"sqlite:///{path}", "--table", "people")
    assert cli("protect", *where, "--column", "email:pii:email", "--yes").returncode == 0
    assert cli("keys", "backup", "later.dump").returncode == 0

    done = cli("keys", "drill", "later.dump", *where, "--column", "email", "--json")

    assert json.loads(done.stdout)["values"][0]["opened"] == 5, done.stderr
    for wrong in (("--column", "name"), ("--column", "email:pii:float"), ("--column", "")):
        assert cli("keys", "drill", "later.dump", *where, *wrong).returncode == 3
    assert cli("keys", "drill", "later.dump", "--column", "email").returncode == 3
    missing = cli(
        "keys",
        "drill",
        "later.dump",
        "--database",
        "none.db",
        "--table",
        "x",
        "--column",
        "email:pii",
    )
    assert missing.returncode == 3


def test_a_drill_on_postgresql_leaves_nothing(cli: Run, made: Path, database: Database) -> None:
    """The scratch schema is gone afterwards, also after a failure."""
    done = cli("keys", "drill", "keys.dump", "--scratch", database.text_url())
    broken = cli(
        "keys",
        "drill",
        "keys.dump",
        "--scratch",
        database.text_url(),
        "--table",
        "x",
        "--column",
        "c:pii",
    )

    assert (done.returncode, broken.returncode) == (0, 3), done.stderr + broken.stderr
    with database.connect() as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%lacre%'")
        assert found.fetchall() == []


def test_a_restore_from_nothing(cli: Run, home: Path, shop: Path, made: Path) -> None:
    """Key store and keystore lost: dump, lacre.toml and the operator's identity bring them back."""
    before = held(home)
    (home / "lacre" / "keys.db").unlink()
    for path in (home / "lacre" / "keystore").iterdir():
        path.unlink()
    assert cli("keys", "list").returncode == 3

    done = cli("keys", "restore", "keys.dump")

    assert done.returncode == 0, done.stderr
    assert "destroyed after that live again" in done.stderr
    assert sorted(held(home).keys, key=str) == sorted(before.keys, key=str)  # type: ignore[attr-defined]
    with (
        closing(sqlite3.connect(shop)) as connection,
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        (sealed,) = connection.execute("SELECT email FROM customers WHERE id = 'c1'").fetchone()
        box = lacre.field("pii", table="customers", column="email")
        assert box.decrypt(sealed, row="c1") == CANARY
    assert [event["step"] for event in events(home, "recovery")] == ["backup", "restore"]


def test_a_newer_store_is_kept(cli: Run, home: Path, made: Path) -> None:
    """Exit code 8 with what would be undone; `--roll-back` undoes it and says so."""
    cli("keys", "rotate", "--class", "pii")
    before = held(home)

    kept = cli("keys", "restore", "keys.dump")
    assert held(home) == before
    back = cli("keys", "restore", "keys.dump", "--roll-back")

    assert (kept.returncode, back.returncode) == (8, 0)
    assert kept.stderr.count("would be undone:") == 2
    assert back.stderr.count("undone:") == 2
    assert held(home) != before


@pytest.fixture
def altered(made: Path) -> Path:
    """The dump with one byte changed."""
    data = bytearray(made.read_bytes())
    data[len(data) // 2] ^= 1
    made.write_bytes(data)
    return made


def test_an_altered_dump_is_refused_with_nothing_written(
    cli: Run, home: Path, altered: Path
) -> None:
    """By restore and drill alike: exit code 6, no store, no manifest."""
    (home / "lacre" / "keys.db").unlink()
    files = sorted(home.rglob("*"))

    done = [cli("keys", "restore", altered.name), cli("keys", "drill", altered.name)]

    assert [run.returncode for run in done] == [6, 6]
    assert [path for path in sorted(home.rglob("*")) if path.name != "audit.jsonl"] == [
        path for path in files if path.name != "audit.jsonl"
    ]


def test_another_applications_dump_is_refused(cli: Run, home: Path, made: Path) -> None:
    """A dump goes back under its own lacre.toml."""
    config = home / "lacre.toml"
    config.write_text(config.read_text().replace('env = "test"', 'env = "prod"'))

    done = cli("keys", "restore", "keys.dump")

    assert done.returncode == 3
    assert "its own lacre.toml" in done.stderr
    assert cli("keys", "restore", "none.dump").returncode == 3


def test_a_key_store_moves_to_postgresql(
    process: Run, home: Path, made: Path, database: Database
) -> None:
    """`--into` another database; with its URL in lacre.toml the application goes on there."""
    done = process("keys", "restore", "keys.dump", "--into", database.text_url())
    config = home / "lacre.toml"
    config.write_text(config.read_text().replace("sqlite:///lacre/keys.db", database.text_url()))
    (home / "lacre" / "keys.db").unlink()

    assert done.returncode == 0, done.stderr
    assert database.server.password not in done.stderr
    assert process("keys", "rotate", "--class", "pii").returncode == 0
    listed = json.loads(process("keys", "list", "--json").stdout)
    assert len(listed) == 12
