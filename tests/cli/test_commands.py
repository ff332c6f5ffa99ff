"""What a user types, sees and gets as an exit code."""

import json
import re
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lacre import BlindIndex, Lacre, acting_as

Run = Callable[..., subprocess.CompletedProcess[str]]

CANARY = "canary-93b1@example.org"


@pytest.fixture
def shop(home: Path) -> Path:
    """A legacy table with five rows."""
    path = home / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, cpf TEXT, city TEXT)"
        )
        rows = [
            (n, f"p{n}@example.org" if n else CANARY, None if n % 2 else "529.982.247-25", "Recife")
            for n in range(5)
        ]
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    return path


def protect_arguments(path: Path, *more: str) -> list[str]:
    columns = ["--column", "email:pii:email", "--column", "cpf:pii"]
    return ["--database", f"sqlite:///{path}", "--table", "customers", *columns, *more]


def test_init_makes_what_runs(cli: Run, tmp_path: Path) -> None:
    """`lacre init` leaves a policy, private files and keys that an application opens at once."""
    made = cli("init", "--app", "shop", cwd=tmp_path)

    assert made.returncode == 0, made.stderr
    assert "lacre.toml" in made.stdout
    assert "no passphrase" in made.stderr
    assert "development" in made.stderr
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert {modes["operator.key"], modes["svc-app.key"], modes["keys.db"]} == {0o600}
    with (
        Lacre.load(tmp_path / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        box = lacre.field("banking", table="t", column="c", type=str)
        assert box.decrypt(box.encrypt("x", row="1"), row="1") == "x"


def test_init_never_overwrites(cli: Run, home: Path) -> None:
    """A second `lacre init` changes nothing and says so."""
    before = (home / "lacre.toml").read_bytes()

    again = cli("init")

    assert again.returncode == 3
    assert "nothing was changed" in again.stderr
    assert (home / "lacre.toml").read_bytes() == before


def test_init_with_a_passphrase(cli: Run, tmp_path: Path) -> None:
    """The passphrase of a file protects the operator; without it no command acts as the operator."""
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("battery staple\n")
    assert cli("init", "--passphrase-file", "pass", cwd=tmp_path).returncode == 0

    asked = cli("keys", "create", "--tenant", "t1", "--class", "pii", cwd=tmp_path)
    wrong = cli(
        "keys",
        "create",
        "--tenant",
        "t1",
        "--class",
        "pii",
        "--passphrase-file",
        "wrong",
        cwd=tmp_path,
    )
    right = cli(
        "keys",
        "create",
        "--tenant",
        "t1",
        "--class",
        "pii",
        "--passphrase-file",
        "pass",
        cwd=tmp_path,
    )

    assert (asked.returncode, wrong.returncode, right.returncode) == (3, 3, 0)
    assert "--passphrase-file" in asked.stderr
    assert "staple" not in wrong.stderr


def test_keys_are_listed_created_and_rotated(cli: Run, home: Path) -> None:
    """A tenant gets its three keys once; a rotation makes a second version, of an index root in two steps."""
    created = cli("keys", "create", "--tenant", "acme", "--class", "pii")
    again = cli("keys", "create", "--tenant", "acme", "--class", "pii")
    config = home / "lacre.toml"
    policy = config.read_text()
    rotate = ("keys", "rotate", "--tenant", "acme", "--class", "pii", "--kind")
    announced = cli(*rotate, "index")
    too_early = cli(*rotate, "index")
    rotated = [cli(*rotate, kind).returncode for kind in ("data", "branch", "kms")]
    config.write_text(policy + "\n[cache]\nage = 1\n")
    time.sleep(1.1)  # that age is over
    rotated.append(cli(*rotate, "index").returncode)
    listed = json.loads(cli("keys", "list", "--tenant", "acme", "--json").stdout)
    shown = cli("keys", "list", "--tenant", "acme")

    assert created.stderr.count("created:") == 3
    assert "nothing to do" in again.stderr
    events = [
        json.loads(line) for line in (home / "lacre" / "audit.jsonl").read_text().splitlines()
    ]
    assert [
        (e["key"], e["version"]) for e in events if e.get("kind") == "kms" and e["version"] > 1
    ] == [
        ("local://pii-fields", 2),
        ("local://pii-index", 2),
    ]
    assert announced.returncode == 0
    assert "run the same command again" in announced.stderr
    assert too_early.returncode == 8
    assert rotated == [0, 0, 0, 0]
    assert {(row["kind"], row["version"], row["state"]) for row in listed} == {
        (kind, version, state)
        for kind in ("branch", "data", "index")
        for version, state in ((1, "decrypt_only"), (2, "active"))
    }
    assert "decrypt_only" in shown.stdout
    assert shown.stderr == ""


def test_keys_disable_enable_destroy(cli: Run, home: Path) -> None:
    """A disabled key is refused and comes back; a destroyed one is gone; nothing is destroyed unasked."""
    key = next(
        row["key"]
        for row in json.loads(cli("keys", "list", "--class", "pii", "--json").stdout)
        if row["kind"] == "data"
    )

    def encrypts() -> str:
        with (
            Lacre.load(home / "lacre.toml", environ={}) as lacre,
            acting_as("t", roles={"app"}, purpose="p"),
        ):
            try:
                lacre.field("pii", table="t", column="c", type=str).encrypt("x", row="1")
            except Exception as error:
                return type(error).__name__
        return "encrypts"

    assert cli("keys", "disable", key[:8]).returncode == 0
    assert encrypts() == "KeyDisabled"
    assert cli("keys", "enable", key[:8]).returncode == 0
    assert encrypts() == "encrypts"
    unasked = cli("keys", "destroy", key[:8])
    assert unasked.returncode == 8
    assert encrypts() == "encrypts"
    refused = cli("keys", "destroy", key[:8], "--yes")
    assert refused.returncode == 8
    assert "is the one in use; nothing was destroyed" in " ".join(refused.stderr.split())
    assert encrypts() == "encrypts"
    assert cli("keys", "destroy", key[:8], "--with-what-it-protects", "--yes").returncode == 0
    assert encrypts() == "KeyDestroyed"
    assert cli("keys", "enable", key[:8]).returncode == 8
    assert cli("keys", "disable", "ffffffff").returncode == 5
    assert cli("keys", "disable", key[:4]).returncode == 3


def test_inspect_explains_every_form(cli: Run, home: Path) -> None:
    """Hex, text, JSON, binary and stdin are explained alike, without any right and without opening."""
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
    ):
        box = lacre.field(
            "pii", table="customers", column="email", type=str, index=BlindIndex("email")
        )
        sealed = box.encrypt(CANARY, row="1")
        text, form = box.encrypt_text(CANARY, row="1"), box.encrypt_json(CANARY, row="1")
    (home / "value").write_bytes(bytes(sealed))

    explained = [
        cli("inspect", bytes(sealed).hex()),
        cli("inspect", text),
        cli("inspect", "-", stdin=json.dumps(form)),
        cli("inspect", "@value"),
    ]
    facts = json.loads(cli("inspect", text, "--json").stdout)

    assert [run.returncode for run in explained] == [0, 0, 0, 0]
    assert [
        form
        for run in explained
        for form in ("hex", "text", "JSON", "binary")
        if f"form        {form}" in run.stdout
    ] == ["hex", "text", "JSON", "binary"]
    assert all(
        "data key of tenant 'default', class 'pii', version 1, active" in run.stdout
        for run in explained
    )
    assert facts["padded"] is True
    assert facts["key id"] == bytes(sealed)[3:19].hex()
    assert not any(CANARY in run.stdout + run.stderr for run in explained)


def test_inspect_refuses_what_is_no_value(cli: Run) -> None:
    """Anything else is refused without being repeated."""
    refused = cli("inspect", CANARY)

    assert refused.returncode == 3
    assert CANARY not in refused.stdout + refused.stderr


def test_protect_shows_its_plan_and_changes_nothing(cli: Run, shop: Path) -> None:
    """A dry run leaves the file as it was; without a terminal or --yes nothing is done either."""
    before = shop.read_bytes()

    planned = cli("protect", *protect_arguments(shop, "--dry-run"))
    as_json = json.loads(cli("protect", *protect_arguments(shop, "--dry-run", "--json")).stdout)
    unasked = cli("protect", *protect_arguments(shop))

    assert planned.returncode == 0
    assert "1. add" in planned.stderr
    assert as_json["refusals"] == []
    assert {column["name"]: column["unique"] for column in as_json["columns"]} == {
        "email": True,
        "cpf": False,
    }
    assert unasked.returncode == 8
    assert shop.read_bytes() == before


def test_protect_and_unprotect(cli: Run, home: Path, shop: Path) -> None:
    """Protected, the file holds no plaintext and refuses it; unprotected, every row is as it was."""
    with closing(sqlite3.connect(shop)) as connection:
        before = connection.execute("SELECT * FROM customers ORDER BY id").fetchall()
        schema = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'customers'"
        ).fetchall()

    done = cli("protect", *protect_arguments(shop, "--yes"))

    assert done.returncode == 0, done.stderr
    assert "protected: email, cpf of customers, 5 rows" in done.stdout
    assert (
        'email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))'
        in done.stderr
    )
    assert 'cpf: Mapped[str | None] = encrypted("pii")' in done.stderr
    assert "Backups and exports" in done.stderr
    assert CANARY.encode() not in shop.read_bytes()
    with closing(sqlite3.connect(shop)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE customers SET email = 'x' WHERE id = 1")

    back = cli("unprotect", *protect_arguments(shop, "--yes"))

    assert back.returncode == 0, back.stderr
    with closing(sqlite3.connect(shop)) as connection:
        assert connection.execute("SELECT * FROM customers ORDER BY id").fetchall() == before
        assert (
            connection.execute("SELECT sql FROM sqlite_master WHERE name = 'customers'").fetchall()
            == schema
        )
    events = [
        json.loads(line) for line in (home / "lacre" / "audit.jsonl").read_text().splitlines()
    ]
    assert [
        event["step"]
        for event in events
        if event["action"] == "protection" and event["column"] == "email"
    ] == ["dual", "encrypted", "plaintext"]
    assert {event["tenant"] for event in events if event["action"] == "protection"} == {"default"}
    encrypted = [event for event in events if event["action"] == "encrypt"]
    assert {
        column: sum(event["count"] for event in encrypted if event["column"] == column)
        for column in ("email", "cpf")
    } == {"email": 5, "cpf": 3}
    assert CANARY not in (home / "lacre" / "audit.jsonl").read_text()
    assert CANARY not in done.stderr + done.stdout + back.stderr


def test_the_database_spells_the_names_not_the_command(cli: Run, home: Path, shop: Path) -> None:
    """However table and columns are typed, values are bound to the names that the table itself has."""
    typed = ["--database", str(shop), "--column", "eMail:pii:email", "--column", "CPF:pii", "--yes"]
    with closing(sqlite3.connect(shop)) as connection:
        before = connection.execute("SELECT * FROM customers ORDER BY id").fetchall()

    done = cli("protect", "--table", "CUSTOMERS", *typed)
    again = cli("protect", "--table", "Customers", *typed)

    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert "protected: email, cpf of customers" in done.stdout
    assert "protected already" in again.stderr
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        acting_as("t", roles={"app"}, purpose="p"),
        closing(sqlite3.connect(shop)) as connection,
    ):
        box = lacre.field(
            "pii", table="customers", column="email", index=BlindIndex("email", unique=True)
        )
        (found,) = connection.execute(
            "SELECT email, lacre_rid FROM customers WHERE email_bidx = ?",
            (box.search_tokens(CANARY)[0],),
        ).fetchall()
        assert box.decrypt(found[0], row=found[1]) == CANARY
    back = cli("unprotect", *protect_arguments(shop, "--yes"))
    assert back.returncode == 0, back.stderr
    with closing(sqlite3.connect(shop)) as connection:
        assert connection.execute("SELECT * FROM customers ORDER BY id").fetchall() == before


def test_unprotect_shows_what_it_would_do(cli: Run, shop: Path) -> None:
    """A dry run of the way back names rows, columns and the definition to come, and changes nothing."""
    never = cli("unprotect", *protect_arguments(shop, "--dry-run"))
    assert cli("protect", *protect_arguments(shop, "--yes")).returncode == 0
    before = shop.read_bytes()

    shown = cli("unprotect", *protect_arguments(shop, "--dry-run"))
    as_json = json.loads(cli("unprotect", *protect_arguments(shop, "--dry-run", "--json")).stdout)

    assert never.returncode == 8
    assert shown.returncode == 0
    assert "would decrypt email, cpf of customers, 5 rows" in shown.stderr
    assert "email TEXT NOT NULL UNIQUE" in shown.stderr
    assert as_json == {
        "table": "customers",
        "columns": ["email", "cpf"],
        "rows": 5,
        "under_way": False,
    }
    assert shop.read_bytes() == before


def test_what_was_changed_outside_is_located(cli: Run, shop: Path) -> None:
    """A moved value and a job's altered row are named on stderr, with what to do, and nothing is done."""
    assert cli("protect", *protect_arguments(shop, "--yes")).returncode == 0
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute(
            "UPDATE customers SET cpf = (SELECT cpf FROM customers WHERE id = 2) WHERE id = 4"
        )
        (row,) = connection.execute("SELECT lacre_rid FROM customers WHERE id = 4").fetchone()
        connection.commit()
    moved = cli("unprotect", *protect_arguments(shop, "--yes"))
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("UPDATE lacre_job SET phase = 'done'")
        connection.commit()
    before = shop.read_bytes()
    altered = [
        cli("unprotect", *protect_arguments(shop, "--yes")),
        cli("protect", *protect_arguments(shop, "--yes")),
        cli("protect", *protect_arguments(shop, "--dry-run")),
    ]

    assert moved.returncode == 6
    assert f"customers.cpf of row {row}: it does not open" in moved.stderr
    assert [run.returncode for run in altered] == [6, 6, 6]
    assert all("the row 1 of lacre_job is not what an operator" in run.stderr for run in altered)
    assert all("backup" in run.stderr for run in altered)
    assert shop.read_bytes() == before


def test_protect_run_again_shows_the_same_model(cli: Run, shop: Path) -> None:
    """A protected table is not planned anew: the same lines of a model, and no refusal."""
    first = cli("protect", *protect_arguments(shop, "--yes"))
    again = cli("protect", *protect_arguments(shop))
    dry = cli("protect", *protect_arguments(shop, "--dry-run"))
    model = [line for line in first.stderr.splitlines() if " = encrypted(" in line]

    assert (again.returncode, dry.returncode) == (0, 0)
    assert model
    assert all(line in again.stderr.splitlines() for line in model)
    assert "protected already" in again.stderr
    assert again.stdout.startswith("protected already: ")
    assert "stopped" not in again.stdout
    assert "protected already" in dry.stderr
    assert "warning" not in again.stderr


def test_protect_says_why_not(cli: Run, shop: Path) -> None:
    """A plan that refuses exits with 3, names its reasons, and never quotes a value."""
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("UPDATE customers SET email = 'no address' WHERE id = 3")
        connection.commit()

    refused = cli("protect", *protect_arguments(shop, "--yes"))
    dry = cli("protect", *protect_arguments(shop, "--dry-run"))

    assert refused.returncode == 3
    assert dry.returncode == 3
    assert "no address" not in refused.stderr + dry.stderr + dry.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["keys", "list", "--config", "nowhere.toml"], 3, "lacre init"),
        (
            ["protect", "--database", "mysql://x", "--table", "t", "--column", "a:pii"],
            3,
            "SQLite",
        ),
        (
            ["protect", "--database", "nowhere.db", "--table", "t", "--column", "a:pii"],
            3,
            "no database file",
        ),
        (
            ["protect", "--database", "shop.db", "--table", "customers", "--column", "email"],
            3,
            "NAME:CLASS",
        ),
        (
            [
                "protect",
                "--database",
                "shop.db",
                "--table",
                "customers",
                "--column",
                "cpf:secret",
                "--yes",
            ],
            3,
            "no class",
        ),
        (
            [
                "protect",
                "--database",
                "shop.db",
                "--table",
                "customers",
                "--column",
                "email:pii",
                "--store",
                "x",
                "--yes",
            ],
            3,
            "no store",
        ),
        (["keys", "create"], 2, "--tenant"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    cli: Run, shop: Path, arguments: list[str], code: int, told: str
) -> None:
    """One sentence, a hint, the documented exit code; no traceback."""
    run = cli(*arguments)

    assert run.returncode == code
    assert told in run.stderr
    assert "Traceback" not in run.stderr


def test_db_upgrade_is_idempotent(cli: Run) -> None:
    """An upgrade of a store that is up to date changes nothing and says so."""
    run = cli("db", "upgrade")

    assert run.returncode == 0
    assert "as it was" in run.stderr


def test_an_unknown_variable_is_refused(home: Path) -> None:
    """A misspelt LACRE_ variable is an error and not silently ignored."""
    from lacre.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="LACRE_CACHE_AGE"):
        Lacre.load(home / "lacre.toml", environ={"LACRE_CACHE_AGE": "5"})


def test_the_version_is_told(cli: Run) -> None:
    """`lacre --version` prints one line and needs no configuration."""
    told = cli("--version")

    assert told.returncode == 0
    assert re.fullmatch(r"lacre \S+\n", told.stdout)


def test_a_tenant_has_a_name(cli: Run) -> None:
    """An empty tenant is refused before any key is made."""
    assert cli("keys", "create", "--tenant", "", "--class", "pii").returncode == 3
