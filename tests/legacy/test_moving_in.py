# SPDX-License-Identifier: Apache-2.0
"""Tables of other libraries' values, moved in by `lacre protect`: on PostgreSQL and SQLite, killed, refused, recorded."""

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from lacre import BlindIndex, Lacre, acting_as
from lacre.cli.old_values import Timed, foretell, lasting
from lacre.errors import (
    ConfigurationError,
    InvalidValue,
    KeyServiceUnreachable,
    MisuseError,
    PlaintextFound,
)
from lacre.jobs.columns import ColumnRequest, PlannedColumn
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.plan import plan
from lacre.jobs.postgresql.protect import protect
from lacre.jobs.postgresql.unprotect import unprotect
from lacre.jobs.sqlite.plan import plan as sqlite_plan
from lacre.jobs.sqlite.protect import protect as sqlite_protect
from lacre.legacy import ChandleryReader, FernetReader, RailsReader, SqlalchemyUtilsReader
from tests.components.aws import AWS
from tests.components.postgresql import Database
from tests.jobs.double import FixedKeyField, authority, fields_as_planned
from tests.jobs.killing import forked, survived
from tests.jobs.postgresql.tables import readable, rows
from tests.jobs.test_killed import KilledAt
from tests.legacy.moving import COLUMNS, move, sources
from tests.legacy.originals import CONTEXT, FileKms, chandlery, kept, nexus

ROOT = Path(__file__).parents[2]


def cpf_of(number: int) -> str:
    """A CPF with right check digits."""
    digits = [int(digit) for digit in f"{number:09}"]
    for length in (10, 11):
        total = sum(
            digit * weight for digit, weight in zip(digits, range(length, 1, -1), strict=True)
        )
        digits.append((total * 10 % 11) % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def users(database: Database, kms: FileKms, count: int) -> list[tuple[str, str, str | None]]:
    """The service's table, with rows of its own code; return id, CPF and telephone."""
    clear = [
        (f"{number:032x}", cpf_of(number), None if number % 5 == 0 else f"+55 11 9{number:08} ☎")
        for number in range(1, count + 1)
    ]
    ways = ("createCipher", "createCipheriv")
    values = [
        {"text": text, "context": CONTEXT | {"userId": row[0]}, "cipher": ways[at % 2]}
        for at, row in enumerate(clear)
        for text in row[1:]
        if text is not None
    ]
    stored = iter(nexus(kms, values))
    with database.connect() as connection:
        connection.execute(
            'CREATE TABLE users (id uuid PRIMARY KEY, "encryptedCpf" jsonb, "encryptedPhone" jsonb, "isActive" boolean DEFAULT true)'
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO users (id, "encryptedCpf", "encryptedPhone") VALUES (%s, %s, %s)',
                [
                    [
                        row[0],
                        *(None if text is None else json.dumps(next(stored)) for text in row[1:]),
                    ]
                    for row in clear
                ],
            )
    return clear


def moved(database: Database, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What the protected table holds, opened."""
    found = readable(database, tmp_path, "users", ["id", "encryptedCpf", "encryptedPhone"])
    return [(row[0].replace("-", ""), *row[1:]) for row in found]


def test_the_first_services_rows_are_moved_on_postgresql(database, tmp_path):
    """Rows of both ways of writing are lacre's afterwards, each value what it was, and nothing of the old is left in the table."""
    kms = FileKms(os.urandom(32))
    clear = users(database, kms, 60)
    report = move(database.dsn(), tmp_path / "states", kms)

    assert (report.rows, report.verified) == (60, True)
    assert moved(database, tmp_path) == clear
    kinds = rows(database, "information_schema.columns", "column_name, data_type", "column_name")
    assert dict(kinds)["encryptedCpf"] == dict(kinds)["encryptedPhone"] == "bytea"
    assert len(rows(database, "users", 'DISTINCT "encryptedCpf_bidx"')) == 60
    with database.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("""UPDATE users SET "encryptedCpf" = '{"algorithm": "aes-256-gcm"}'""")


def test_a_killed_move_goes_on(database, tmp_path):
    """Killed again and again, beside a writer of the old format, the same call ends with every row once and none lost."""
    kms = FileKms(os.urandom(32))
    clear = users(database, kms, 400)
    late = nexus(
        kms,
        [
            {"text": cpf_of(n), "context": CONTEXT, "cipher": "createCipher"}
            for n in range(901, 931)
        ],
    )
    chance, kills, added = random.Random(4), 0, 0
    while True:
        pace = Pace(batch=20, throttle=150 if kills < 4 else None)
        child = forked(partial(move, database.dsn(), tmp_path / "states", kms, pace=pace))
        if kills < 4:
            time.sleep(chance.uniform(0.05, 0.5))
            os.kill(child, signal.SIGKILL)
        if survived(child):
            break
        kills += 1
        with database.connect() as connection:
            kind = connection.execute(
                "SELECT data_type FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'encryptedCpf'"
            ).fetchone()
            if kind == ("jsonb",):  # as the old application would: it knows nothing of lacre
                clear.append((f"{901 + added:032x}", cpf_of(901 + added), None))
                connection.execute(
                    'INSERT INTO users (id, "encryptedCpf") VALUES (%s, %s)',
                    (clear[-1][0], json.dumps(late[added])),
                )
                added += 1

    assert kills == 4
    assert added > 0
    assert moved(database, tmp_path) == sorted(clear)


def test_a_killed_move_goes_on_on_sqlite(tmp_path):
    """Killed before any of its statements, and written to in the old format meanwhile, the same call ends with every row once."""
    key = Fernet.generate_key()
    reader = FernetReader(name="old", keys=[key])
    columns = [ColumnRequest(name="cpf", class_="pii", normaliser="cpf", reader="old")]
    before, path, states = (tmp_path / name for name in ("before.db", "clinic.db", "states"))

    def row(number: int) -> tuple[str, str]:
        return f"{number:032x}", Fernet(key).encrypt(cpf_of(number).encode()).decode()

    with closing(sqlite3.connect(before)) as connection, connection:
        connection.execute("CREATE TABLE patients (id TEXT PRIMARY KEY, cpf TEXT)")
        connection.executemany("INSERT INTO patients VALUES (?, ?)", map(row, range(1, 10)))
    decided = sqlite_plan(before, "patients", columns, sources=lambda _: reader)

    def run(**how: Any) -> None:
        with acting_as("operator", roles={"operator"}, purpose="protect"):
            sqlite_protect(
                path, "patients", columns, fields=fields_as_planned, authority=authority(states),
                sources=lambda _: reader, pace=Pace(batch=4), **how,
            )  # fmt: skip

    kills = late = 0
    for at in range(1, 2000, 7):
        for old in tmp_path.glob("clinic.db*"):
            old.unlink()
        states.unlink(missing_ok=True)
        shutil.copy(before, path)
        if survived(forked(partial(run, connect=KilledAt(at)))):
            break
        kills, wanted = kills + 1, list(range(1, 10))
        with closing(sqlite3.connect(path)) as connection, connection:
            ((kind,),) = connection.execute("SELECT DISTINCT typeof(cpf) FROM patients")
            if kind == "text":  # as the old application would: it knows nothing of lacre
                connection.execute("INSERT INTO patients (id, cpf) VALUES (?, ?)", row(77))
                wanted.append(77)
                late += 1
        run()
        with closing(sqlite3.connect(path)) as connection:
            held = connection.execute("SELECT id, cpf FROM patients ORDER BY id").fetchall()

        assert [int(name, 16) for name, _ in held] == wanted
        opened = FixedKeyField("patients", decided.columns[0]).decrypt_many(held)
        assert opened == [cpf_of(number) for number in wanted]
        assert b"gAAAA" not in path.read_bytes()
    assert kills > 15
    assert 0 < late < kills


def test_what_the_reader_does_not_open_is_listed_and_stops_the_move(database, tmp_path):
    """The plan names each row and no value; the table stays as it was, and the same holds for a row that comes later."""
    kms = FileKms(os.urandom(32))
    users(database, kms, 12)
    spoilt = ("00000000-0000-0000-0000-000000000003", "00000000-0000-0000-0000-000000000007")
    with database.connect() as connection:
        for row, path, value in (
            (spoilt[0], "{authTag}", "AAAA"),
            (spoilt[1], "{context,purpose}", "x"),
        ):
            connection.execute(
                'UPDATE users SET "encryptedCpf" = jsonb_set("encryptedCpf", %s, to_jsonb(%s::text)) WHERE id = %s',
                (path, value, row),
            )
    before = rows(database, "users", "*")
    decided = plan(database.dsn(), "users", COLUMNS, sources=sources(kms))
    (refusal,) = decided.refusals
    with pytest.raises(ConfigurationError, match="the legacy reader nexus does not open 2 values"):
        move(database.dsn(), tmp_path / "states", kms)

    assert all(row in refusal.reason for row in spoilt)
    assert rows(database, "users", "*") == before
    assert any("calls of the key service" in notice for notice in decided.notices)


def test_a_row_that_does_not_open_and_came_after_the_plan_stops_the_switch_over(database, tmp_path):
    """It is named; the old values are all there; corrected, the same call ends."""
    kms = FileKms(os.urandom(32))
    clear = users(database, kms, 30)
    decided = plan(database.dsn(), "users", COLUMNS, sources=sources(kms))
    bad, row = (
        nexus(
            FileKms(os.urandom(32)), [{"text": "x", "context": CONTEXT, "cipher": "createCipher"}]
        )[0],
        clear[9][0],
    )
    with database.connect() as connection:
        connection.execute(
            'UPDATE users SET "encryptedPhone" = %s WHERE id = %s', (json.dumps(bad), row)
        )
    with pytest.raises(InvalidValue, match=f"encryptedPhone of row {row}"):
        move(database.dsn(), tmp_path / "states", kms, decided=decided)
    assert len(rows(database, "users", "\"encryptedCpf\"->>'algorithm'")) == 30
    with database.connect() as connection:
        connection.execute('UPDATE users SET "encryptedPhone" = NULL WHERE id = %s', (row,))
    move(database.dsn(), tmp_path / "states", kms)

    assert moved(database, tmp_path) == [
        (*each[:2], None) if each[0] == row else each for each in clear
    ]


def test_a_key_service_that_is_away_stops_the_plan_and_calls_no_row_unreadable(database, tmp_path):
    """A denial or an outage is an error of its own, not a row to be corrected."""
    kms = FileKms(os.urandom(32))
    users(database, kms, 3)

    def away(_wrapped: bytes, _context: object) -> bytes:
        raise KeyServiceUnreachable("AWS KMS does not answer in time")

    kms.unwrap = away  # type: ignore[method-assign]
    with pytest.raises(KeyServiceUnreachable):
        plan(database.dsn(), "users", COLUMNS, sources=sources(kms))


def test_there_is_no_way_back_and_no_resuming_without_the_reader(database, tmp_path):
    """Unprotect says so, and a run without the reader says which command it was."""
    kms = FileKms(os.urandom(32))
    users(database, kms, 6)
    move(database.dsn(), tmp_path / "states", kms)
    plainly = [ColumnRequest(name="encryptedCpf", class_="pii", normaliser="cpf"), ColumnRequest(name="encryptedPhone", class_="pii")]  # fmt: skip
    given: dict[str, Any] = {
        "fields": fields_as_planned,
        "authority": authority(tmp_path / "states"),
    }
    for columns in (plainly, COLUMNS):
        with pytest.raises(MisuseError, match="was moved in from another library"):
            unprotect(database.dsn(), "users", columns, **given)


def test_two_readers_move_two_columns_of_one_table(database, tmp_path):
    """One command for each: a unique text column of Rails', then a bytea column of SQLAlchemy-Utils, on PostgreSQL."""
    rails, utils = kept("rails"), kept("sqlalchemy_utils")
    names = [
        case for case in rails["values"] if case["digest"] == "SHA256" and case["deterministic"]
    ]
    notes = [
        case for case in utils["values"]
        if (case["engine"], case["type"], case["bytes"]) == ("aes-gcm", "str", True)
    ]  # fmt: skip
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE NOT NULL, note bytea)"
        )
        for name, note in zip(names, notes, strict=False):
            connection.execute(
                "INSERT INTO people (name, note) VALUES (%s, %s)",
                (name["stored"], note["stored"].encode()),
            )
    readers: dict[str, Any] = {
        "rails": RailsReader(
            name="rails",
            keys=[rails["keys"]["deterministic_key"]],
            salt=rails["keys"]["key_derivation_salt"],
        ),
        "utils": SqlalchemyUtilsReader(name="utils", key=utils["key"], engine="aes-gcm"),
    }
    given: dict[str, Any] = {
        "fields": fields_as_planned,
        "authority": authority(tmp_path / "states"),
        "sources": lambda asked: readers[asked.reader],
    }
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        protect(
            database.dsn(),
            "people",
            [ColumnRequest(name="name", class_="pii", normaliser="exact", reader="rails")],
            **given,
        )
        protect(
            database.dsn(),
            "people",
            [ColumnRequest(name="note", class_="pii", reader="utils")],
            **given,
        )
    found = {name: readable(database, tmp_path, "people", ["id", name]) for name in ("note",)}
    expected = [note["value"] for note, _ in zip(notes, names, strict=False)]
    field = FixedKeyField("people", PlannedColumn(
        table="people", name="name", class_="pii", normaliser=None, declared="text", python_type=str, form="legacy",
        not_null=True, unique=True, values=0, nulls=0,
    ))  # fmt: skip
    sealed = [(str(row), bytes(value)) for row, value in rows(database, "people", "id, name")]

    assert [value for _, value in found["note"]] == expected
    assert field.decrypt_many(sealed) == [
        name["value"] for name, _ in zip(names, notes, strict=False)
    ]
    with database.connect() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(
            "UPDATE people SET name_bidx = (SELECT name_bidx FROM people ORDER BY id LIMIT 1)"
        )


# The command line


def test_the_command_moves_what_aws_kms_opens(cli, home, moto: AWS, database, monkeypatch):
    """`lacre protect --from` with the key service of the rows: planned, moved, read, recorded; no value and no key is shown."""
    kms = moto.client()
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    _, _, _, region, account, key = arn.split(":")

    class Kms(FileKms):
        def wrap(self, data_key, context):
            return kms.encrypt(KeyId=arn, Plaintext=data_key)["CiphertextBlob"]

    clear = users(database, Kms(bytes(32)), 7)
    with (home / "lacre.toml").open("a") as policy:
        policy.write(
            f'\n[aws]\nregions = ["{region}"]\nendpoint_url = "{moto.endpoint}"\nallow_static_keys = true\n'
        )
        policy.write(
            f'[legacy.nexus]\nformat = "nexus"\nkms_key = "aws-kms://{region}/{account}/{key}"\nuntil = 2999-12-31\n'
        )
    for name, value in {**database.variables(), **moto.environ()}.items():
        monkeypatch.setenv(name, value)
    arguments = ["protect", "--from", "nexus", "--database", "postgresql://", "--table", "users", "--batch", "5",
                 "--column", "encryptedCpf:pii:cpf", "--column", "encryptedPhone:pii"]  # fmt: skip
    planned = cli(*arguments, "--dry-run")
    run = cli(*arguments, "--yes")

    assert planned.returncode == 0, planned.stderr
    assert "7 calls of the key service" in planned.stderr
    # 7 CPFs and 6 telephones, told before the first of them is asked for.
    assert planned.stderr.startswith("this plan asks the key service 13 times or more")
    assert "moving asks 2 times as many again" in planned.stderr
    assert run.stdout == "protected: encryptedCpf, encryptedPhone of users, 7 rows\n", run.stderr
    said = planned.stdout + planned.stderr + run.stdout + run.stderr
    assert not [text for _, *texts in clear for text in texts if text and text in said]
    with (
        Lacre.load(home / "lacre.toml", environ={}) as app,
        app.acting_as("svc:x", roles={"app"}, purpose="test"),
    ):
        field = app.field(
            "pii", table="users", column="encryptedCpf", type=str, index=BlindIndex("cpf")
        )
        found = rows(database, "users", 'id, "encryptedCpf"')
        assert [field.decrypt(bytes(sealed), row=row) for row, sealed in found] == [
            row[1] for row in clear
        ]
        old = nexus(Kms(bytes(32)), [{"text": "x", "context": CONTEXT, "cipher": "createCipher"}])[
            0
        ]
        with pytest.raises(PlaintextFound, match="was moved in"):
            app.legacy("nexus", field).decrypt(old, row="1")
    events = [json.loads(line) for line in (home / "lacre/audit.jsonl").read_text().splitlines()]
    looks = [
        event
        for event in events
        if event["action"] == "legacy-look" and event["principal"] == "operator"
    ]
    assert {event["rule"].partition("; ")[2] for event in looks} == {"legacy reader nexus"}
    assert {event["column"] for event in looks} == {"encryptedCpf", "encryptedPhone"}
    # At least once for each plan, the estimate, the fill and the check.
    assert sum(event["count"] for event in looks if event["column"] == "encryptedCpf") >= 5 * 7


def clinic(home: Path, values: list[str | None], *, keys: str) -> Path:
    """An SQLite table, and a reader of Fernet in the policy."""
    path = home / "clinic.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE patients (id TEXT PRIMARY KEY, age TEXT, note TEXT)")
        connection.executemany(
            "INSERT INTO patients VALUES (?, ?, 'x')",
            [(f"{number:032x}", value) for number, value in enumerate(values)],
        )
    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets/keys").touch(mode=0o600)
    (home / "secrets/keys").write_text(keys)
    with (home / "lacre.toml").open("a") as policy:
        policy.write(
            '\n[legacy.old]\nformat = "fernet"\nkeys = "secrets/keys"\ntype = "int"\nuntil = 2999-12-31\n'
        )
    return path


PATIENTS = [
    "--from",
    "old",
    "--database",
    "sqlite:///clinic.db",
    "--table",
    "patients",
    "--column",
    "age:pii",
]


def test_a_plan_that_asks_a_key_service_says_how_long_it_will_take(tmp_path, capsys):
    """How many calls before it starts, after twenty values what one takes; without a key service nothing."""
    path = tmp_path / "clinic.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE patients (id TEXT PRIMARY KEY, cpf TEXT, name TEXT)")
        connection.executemany(
            "INSERT INTO patients VALUES (?, 'x', ?)",
            [(f"{n:032x}", "x" if n % 2 else None) for n in range(60)],
        )

    class Slow:
        name, python_type, authenticated = "slow", str, True

        def __init__(self, calls: int) -> None:
            self.calls = calls

        def found(self, stored: object) -> tuple[str, str]:
            return str(stored), ""

    requests = [ColumnRequest(name=n, class_="pii", reader="slow") for n in ("cpf", "name")]
    database, slow, quick = str(path), Slow(2), Slow(0)
    sources = foretell(database, "patients", requests, lambda _: slow)
    before = capsys.readouterr().err
    told: list[float] = []
    ticks = iter(range(1000))
    reader = Timed(slow, told.append, clock=lambda: float(next(ticks)))
    for _ in range(50):
        assert reader.found("x") == ("x", "")
    sqlite_plan(path, "patients", requests, sources=sources)
    during = capsys.readouterr().err

    assert before.startswith("this plan asks the key service 180 times or more")
    assert "moving asks 3 times as many again" in before
    assert told == [1.0]
    assert "a value takes 0 ms: some 1 s for this plan" in during
    assert during.count("for this plan") == 1
    assert [lasting(each) for each in (0.2, 89, 90, 5300, 5400, 90_000)] == [
        "1 s", "89 s", "2 min", "88 min", "1 h 30 min", "25 h 00 min",
    ]  # fmt: skip
    assert foretell(database, "patients", requests, lambda _: quick)(None).calls == 0  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def test_the_command_moves_an_sqlite_table_to_its_values_type(cli, home):
    """Text that held encrypted numbers becomes a column of numbers; the model that is printed says so."""
    keys = [Fernet.generate_key() for _ in range(2)]
    stored = [Fernet(keys[n % 2]).encrypt(str(n - 3).encode()).decode() for n in range(9)]
    path = clinic(home, [*stored, None], keys="\n".join(key.decode() for key in keys))
    without = cli("protect", *PATIENTS[2:], "--dry-run")
    run = cli("protect", *PATIENTS, "--yes")

    assert "without --from" in without.stderr
    assert "without --from" not in run.stderr
    assert run.returncode == 0, run.stderr
    assert 'age: Mapped[int | None] = encrypted("pii")' in run.stderr
    with (
        Lacre.load(home / "lacre.toml", environ={}) as app,
        app.acting_as("svc:x", roles={"app"}, purpose="test"),
        closing(sqlite3.connect(path)) as connection,
    ):
        field = app.field("pii", table="patients", column="age", type=int)
        found = connection.execute("SELECT id, age FROM patients ORDER BY id").fetchall()
        assert [field.decrypt(sealed, row=row) for row, sealed in found] == [*range(-3, 6), None]
    left = path.read_bytes()
    assert not [value for value in stored if value.encode() in left]
    undo = cli("unprotect", *PATIENTS[2:], "--yes")
    assert undo.returncode == 8
    assert "moved in from another library" in undo.stderr


def test_the_command_says_which_rows_it_cannot_read(cli, home):
    """Plaintext among ciphertexts, and a value of another key, are listed; nothing is changed and no value is shown."""
    key, other = Fernet.generate_key(), Fernet.generate_key()
    path = clinic(
        home,
        [Fernet(key).encrypt(b"1").decode(), "424242", Fernet(other).encrypt(b"2").decode(), Fernet(key).encrypt(b"CANARY").decode()],
        keys=key.decode(),
    )  # fmt: skip
    before = path.read_bytes()
    run = cli("protect", *PATIENTS, "--dry-run", "--json")
    told = json.loads(run.stdout)

    assert run.returncode == 3
    (refusal,) = told["refusals"]
    assert told["columns"][0]["from"] == "old"
    assert "does not open 3 values" in refusal["reason"]
    assert all(f"{number:032x}" in refusal["reason"] for number in (1, 2, 3))
    assert path.read_bytes() == before
    assert not [
        word for word in ("424242", "CANARY", key.decode()) if word in run.stdout + run.stderr
    ]
    events = [json.loads(line) for line in (home / "lacre/audit.jsonl").read_text().splitlines()]
    outcomes = {
        (event["outcome"], event["count"]) for event in events if event["action"] == "legacy-look"
    }
    assert outcomes == {("allowed", 1), ("failed", 3)}


def test_values_that_would_no_longer_be_unique_are_named(tmp_path):
    """Two ciphertexts that differ may hold one value: a unique column is checked by value, and its rows are listed."""
    key = Fernet.generate_key()
    path = tmp_path / "clinic.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE patients (id TEXT PRIMARY KEY, cpf TEXT UNIQUE)")
        connection.executemany(
            "INSERT INTO patients VALUES (?, ?)",
            [(f"{n:032x}", Fernet(key).encrypt(b"one and the same").decode()) for n in range(2)],
        )
    reader = FernetReader(name="old", keys=[key])
    columns = [ColumnRequest(name="cpf", class_="pii", normaliser="exact", reader="old")]
    (refusal,) = sqlite_plan(path, "patients", columns, sources=lambda _: reader).refusals

    assert f"row {1:032x}) would equal another" in refusal.reason


def test_an_unauthenticated_format_is_moved_and_said_to_be_one(tmp_path):
    """What the first engine of SQLAlchemy-Utils wrote is moved by a job; the plan says what nobody can tell."""
    facts = kept("sqlalchemy_utils")
    cases = [
        case for case in facts["values"]
        if (case["engine"], case["padding"], case["type"], case["bytes"]) == ("aes", "pkcs5", "str", True)
    ]  # fmt: skip
    path = tmp_path / "clinic.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE patients (id TEXT PRIMARY KEY, note BLOB)")
        connection.executemany(
            "INSERT INTO patients VALUES (?, ?)",
            [(f"{n:032x}", case["stored"].encode()) for n, case in enumerate(cases)],
        )
    reader = SqlalchemyUtilsReader(name="old", key=facts["key"], engine="aes", padding="pkcs5")
    columns = [ColumnRequest(name="note", class_="pii", reader="old")]
    decided = sqlite_plan(path, "patients", columns, sources=lambda _: reader)
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        sqlite_protect(
            path, "patients", columns, fields=fields_as_planned,
            authority=authority(tmp_path / "states"), sources=lambda _: reader,
        )  # fmt: skip
    with closing(sqlite3.connect(path)) as connection:
        held = connection.execute("SELECT id, note FROM patients ORDER BY id").fetchall()
    opened = FixedKeyField("patients", decided.columns[0]).decrypt_many(held)

    assert opened == [case["value"] for case in cases]
    assert any("authenticates nothing" in notice for notice in decided.notices)


def test_without_the_table_in_lacre_toml_nothing_is_read(cli, home):
    """Legacy readers are off."""
    clinic(home, [None], keys="x")
    run = cli("protect", *["other" if word == "old" else word for word in PATIENTS], "--yes")

    assert run.returncode == 3
    assert "no legacy reader 'other'" in run.stderr


def test_twice_encrypted_values_are_told_by_row(tmp_path):
    """What the second platform's cache encrypted again is moved as it was meant, and the plan says which rows those are."""
    kms = FileKms(os.urandom(32))
    stored = chandlery(kms, [{"text": f"tax {n}", "saves": 1 + n % 3} for n in range(6)])
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE organizations (id TEXT PRIMARY KEY, "taxId" TEXT)')
        connection.executemany(
            "INSERT INTO organizations VALUES (?, ?)",
            [(f"{n:032x}", value) for n, value in enumerate([*stored, ""])],
        )
    reader = ChandleryReader(name="old", unwrap=kms.unwrap, table="organizations", column="taxId")
    columns = [ColumnRequest(name="taxId", class_="pii", reader="old")]
    decided = sqlite_plan(path, "organizations", columns, sources=lambda _: reader)
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        sqlite_protect(
            path, "organizations", columns, fields=fields_as_planned,
            authority=authority(tmp_path / "states"), sources=lambda _: reader, pace=Pace(batch=3),
        )  # fmt: skip
    with closing(sqlite3.connect(path)) as connection:
        held = connection.execute('SELECT id, "taxId" FROM organizations ORDER BY id').fetchall()
    opened = FixedKeyField("organizations", decided.columns[0]).decrypt_many(held)
    (notice,) = [notice for notice in decided.notices if "more than once" in notice]

    assert opened == [*(f"tax {n}" for n in range(6)), ""]
    assert notice.startswith("taxId: 4 values (rows ")
    assert all(f"{n:032x}" in notice for n in (1, 2, 4, 5))
