# SPDX-License-Identifier: Apache-2.0
"""Protecting tables of every shape in place, and back."""

import sqlite3
import time
from uuid import uuid4

import pytest

from lacre.errors import (
    AccessDenied,
    ConfigurationError,
    DuplicateValue,
    InvalidValue,
    MisuseError,
    Tampered,
)
from lacre.fields.column_state import ColumnState, state_of
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.ledger import jobs_of
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.residue import find_plaintext
from lacre.jobs.sqlite.schema import quoted
from lacre.jobs.sqlite.switch import clean
from lacre.jobs.sqlite.unprotect import unprotect
from lacre.sensitive import Mask
from tests.jobs.double import (
    FileStates,
    FixedKeyField,
    FixedSigner,
    authority,
    fields,
    fields_as_planned,
    plain,
    readable,
    requests,
    schema,
)

# Values that survive: NULL, empty, zero, non-BMP, both normal forms, a NUL inside.
TEXTS = [
    None,
    "",
    "0",
    "plain text",
    "José da Silva",
    "e\u0301",
    "\u00e9",
    "🦊🦊",
    "a\0b",
    "x" * 5000,
    "'; DROP TABLE t; --",
]


def database(tmp_path, *statements, journal="delete"):
    path = tmp_path / "data.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    for statement in statements:
        connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(
            statement
        )
    connection.commit()
    connection.close()
    return path


def run(job, tmp_path, path, table, columns, **options):
    return job(
        path,
        table,
        requests(columns),
        fields=fields(table),
        authority=authority(tmp_path / "states"),
        **options,
    )


def storage(path, table, order="rowid"):
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({quoted(table)})")]
    wanted = ", ".join(f"{quoted(name)}, typeof({quoted(name)})" for name in names)
    rows = connection.execute(f"SELECT {wanted} FROM {quoted(table)} ORDER BY {order}").fetchall()
    connection.close()
    return rows


SHAPES = {
    "reusable number": ("t", "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w INT)", "id, v", "v:pii", "rowid"),
    "autoincrement": ("t", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)", "id, v", "v:pii:exact", "rowid"),
    "text key": ("t", "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v TEXT UNIQUE)", "id, v", "v:pii:exact", "rowid"),
    "no key": ("t", "CREATE TABLE t (id INT, v TEXT DEFAULT 'none' COLLATE NOCASE)", "id, v", "v:pii", "rowid"),
    "without rowid": ("t", "CREATE TABLE t (v TEXT, id TEXT PRIMARY KEY) WITHOUT ROWID", "id, v", "v:pii:exact", "id"),
    "nocase key without rowid": ("t", "CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, v TEXT) WITHOUT ROWID", "id, v", "v:pii", "id"),
    "composite key": ("t", "CREATE TABLE t (a TEXT DEFAULT 'a', id INT, v TEXT, PRIMARY KEY (id, a)) WITHOUT ROWID", "id, v", "v:pii", "id"),
    "composite key with rowid": ("t", "CREATE TABLE t (a TEXT DEFAULT 'a', id INT, v TEXT, PRIMARY KEY (id, a))", "id, v", "v:pii", "rowid"),
    "strict": ("t", "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w ANY) STRICT", "id, v", "v:pii:exact", "rowid"),
    "strict without rowid": ("t", "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT) STRICT, WITHOUT ROWID", "id, v", "v:pii", "id"),
    "weird names": ('se"lect', 'CREATE TABLE "se""lect" ("pri mary" INTEGER PRIMARY KEY, [from,)] TEXT, `ta``ble` TEXT UNIQUE)', '"pri mary", "from,)"', "from,):pii:exact ta`ble:pii:exact", "rowid"),
    "unicode names": ("clientes_ñ", 'CREATE TABLE clientes_ñ (id INTEGER PRIMARY KEY, endereço TEXT, "имя_🦊" TEXT)', "id, endereço", "endereço:pii имя_🦊:pii", "rowid"),
    "generated column": ("t", "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, n INT AS (id * 2) STORED, m AS (id + 1))", "id, v", "v:pii", "rowid"),
    "shadowed rowid": ("t", "CREATE TABLE t (rowid TEXT, id INT, v TEXT)", "id, v", "v:pii", "_rowid_"),
    "commented": ("t", "CREATE TABLE t ( -- people\n id INTEGER PRIMARY KEY, /* the, value */ v TEXT -- last (\n)", "id, v", "v:pii", "rowid"),
}  # fmt: skip


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_table_comes_back_as_it_was(tmp_path, shape, journal):
    """Protected and unprotected, every row, storage class and definition is what it was."""
    table, definition, into, columns, order = SHAPES[shape]
    rows = [
        (f"INSERT INTO {quoted(table)} ({into}) VALUES (?, ?)", (number, text))
        for number, text in enumerate(TEXTS, 1)
    ]
    path = database(tmp_path, definition, *rows, journal=journal)
    before, definitions = storage(path, table, order), schema(path)
    clear = plain(path, table, order=order)

    protected = run(protect, tmp_path, path, table, columns, pace=Pace(batch=3))
    generated = {"n", "m"} if shape == "generated column" else set()
    assert protected.rows == len(TEXTS)
    if not generated:
        assert readable(path, table) == clear
    assert find_plaintext(path, [text for text in TEXTS if text]).clean
    assert run(unprotect, tmp_path, path, table, columns, pace=Pace(batch=4)).rows == len(TEXTS)
    assert storage(path, table, order) == before
    assert schema(path) == definitions


def test_every_type_comes_back_with_its_storage_class(tmp_path):
    """Numbers, dates, times, JSON and blobs are typed values inside, and the same bytes after."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, i BIGINT, b BOOLEAN, d DATE, at DATETIME, n DECIMAL(9,2), j JSON, raw BLOB)",
        (
            "INSERT INTO t VALUES ('a', 0, 0, '2001-02-03', '2001-02-03 04:05:06.000000', 0, '{\"a\": [1, null]}', ?)",
            (b"",),
        ),
        (
            "INSERT INTO t VALUES ('b', -9223372036854775808, 1, '9999-12-31', '1970-01-01 00:00:00.000001', 12.5, '[]', ?)",
            (bytes(range(256)),),
        ),
        "INSERT INTO t (id) VALUES ('c')",
    )
    before, definitions = storage(path, "t"), schema(path)
    columns = "i:pii:exact b:pii d:pii at:pii n:pii j:pii raw:pii"
    run(protect, tmp_path, path, "t", columns)

    assert {kind for row in storage(path, "t") for kind in row[3::2]} == {"blob", "null"}
    run(unprotect, tmp_path, path, "t", columns)
    assert storage(path, "t") == before
    assert schema(path) == definitions


def test_everything_else_in_the_database_stays(tmp_path):
    """Other columns, keys, indexes, triggers, views, children's rows, AUTOINCREMENT's counter: all as before."""
    path = database(
        tmp_path,
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE NOT NULL, p INT REFERENCES parent ON DELETE CASCADE, up INT REFERENCES t, n INT DEFAULT 7 CHECK (n > 0))",
        "CREATE TABLE child (t INT NOT NULL REFERENCES t ON DELETE CASCADE)",
        "CREATE INDEX t_n ON t(n DESC) WHERE n > 3",
        "CREATE VIEW v AS SELECT id, n FROM t",
        "CREATE TABLE log (x)",
        "CREATE TRIGGER g AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (NEW.n); END",
        "CREATE TRIGGER h AFTER INSERT ON t BEGIN INSERT INTO log VALUES (NEW.n); END",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO t (email, p, up) VALUES ('a@example.org', 1, 1), ('b@example.org', 1, 1), ('c@example.org', NULL, 99)",
        "INSERT INTO child VALUES (1), (2)",
        "DELETE FROM t WHERE id = 3",
        "DELETE FROM log",
    )
    definitions = schema(path)
    run(protect, tmp_path, path, "t", "email:pii:email")
    made = ("lacre_job", "t", "t_email_bidx", "t_email_bidx2", "t_lacre_rid")
    others = [row for row in schema(path) if row[1] not in (*made, "sqlite_autoindex_t_1")]

    assert others == [row for row in definitions if row[1] not in ("t", "sqlite_autoindex_t_1")]
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys=ON")
    assert connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 't'").fetchall() == [
        (3,)
    ]
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM child").fetchone() == (2,)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE t SET n = 0")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE t SET p = 5")
    connection.execute("UPDATE t SET n = 8 WHERE id = 1")
    assert connection.execute("SELECT x FROM log").fetchall() == [(8,)]
    connection.execute("DELETE FROM t WHERE id = 2")
    connection.commit()
    assert connection.execute("SELECT count(*) FROM child").fetchone() == (1,)
    connection.close()
    run(unprotect, tmp_path, path, "t", "email:pii:email")
    assert schema(path) == definitions
    assert plain(path, "sqlite_sequence") == [("t", 3)]


def test_a_protected_column_refuses_plaintext_by_itself(tmp_path):
    """A program that still writes plaintext is refused by the database; NULL and a proper value are not."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES ('a', 'secret value')",
    )
    run(protect, tmp_path, path, "t", "v:pii")
    connection = sqlite3.connect(path)
    (sealed,) = connection.execute("SELECT v FROM t").fetchone()
    for wrong in ("plaintext", 5, b"short", b"\xc1\x01" + bytes(88), b"\xc1\x02" + bytes(89)):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE t SET v = ?", (wrong,))
    connection.execute("UPDATE t SET v = ?", (sealed,))
    connection.execute("INSERT INTO t VALUES ('b', NULL)")

    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    connection.close()


def test_a_value_and_its_token_come_and_go_together(tmp_path):
    """A token without its value would still find the row, and a value without its token never be found."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES ('a', 'secret value')",
    )
    run(protect, tmp_path, path, "t", "v:pii:exact")
    connection = sqlite3.connect(path)
    for alone in ("v = NULL", "v_bidx = NULL"):
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            connection.execute(f"UPDATE t SET {alone}")
    connection.execute("UPDATE t SET v = NULL, v_bidx = NULL")

    assert connection.execute("SELECT v, v_bidx FROM t").fetchall() == [(None, None)]
    connection.close()


def test_a_unique_blind_index_refuses_a_duplicate(tmp_path):
    """What UNIQUE refused before, the index over the tokens refuses after."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT, UNIQUE (v))",
        "INSERT INTO t VALUES ('a', 'one'), ('b', 'two'), ('c', NULL), ('d', NULL)",
    )
    run(protect, tmp_path, path, "t", "v:pii:exact")
    connection = sqlite3.connect(path)

    with pytest.raises(sqlite3.IntegrityError, match="v_bidx"):
        connection.execute(
            "UPDATE t SET v_bidx = (SELECT v_bidx FROM t WHERE id = 'a') WHERE id = 'b'"
        )
    connection.close()


class Stops(Exception):
    """Raised from a progress callback, to leave a job half done."""


def half_done(tmp_path, path, columns="v:pii:exact", phase="fill"):
    def stop(progress):
        if progress.phase == phase:
            raise Stops

    with pytest.raises(Stops):
        run(protect, tmp_path, path, "t", columns, pace=Pace(batch=2, progress=stop))


def people(tmp_path, definition="CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT, other INT)"):
    return database(
        tmp_path,
        definition,
        *[
            ("INSERT INTO t (id, v, other) VALUES (?, ?, 0)", (f"{n}", f"value number {n}"))
            for n in range(7)
        ],
    )


def test_the_marker_tells_which_form_counts(tmp_path):
    """In dual, a legacy write of a protected value takes the row's marker off; other writes leave it."""
    path = people(
        tmp_path, "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT COLLATE NOCASE, other INT)"
    )
    half_done(tmp_path, path, phase="verify")
    connection = sqlite3.connect(path, isolation_level=None)

    def marker(row):
        return connection.execute("SELECT lacre_form FROM t WHERE id = ?", (row,)).fetchone()[0]

    connection.execute("UPDATE t SET other = 1")
    connection.execute("UPDATE t SET v = v")
    assert [marker(str(row)) for row in range(7)] == [1] * 7
    connection.execute("UPDATE t SET v = 'VALUE NUMBER 0' WHERE id = '0'")  # equal under NOCASE
    connection.execute("UPDATE t SET v = NULL WHERE id = '1'")
    connection.execute("UPDATE t SET v = CAST(v AS BLOB) WHERE id = '2'")  # the same bytes
    connection.execute("UPDATE t SET id = '33' WHERE id = '3'")
    connection.execute("INSERT OR REPLACE INTO t (id, v) VALUES ('4', 'value number 4')")
    assert [marker(row) for row in ("0", "1", "2", "33", "4", "5")] == [None] * 5 + [1]
    # A writer who knows of lacre brings a new companion, and keeps the marker.
    connection.execute("UPDATE t SET v = 'new', v_lacre = x'00', v_bidx = x'00' WHERE id = '5'")
    connection.execute("UPDATE t SET v = NULL, v_lacre = NULL, v_bidx = NULL WHERE id = '6'")
    assert [marker(row) for row in ("5", "6")] == [1, 1]
    connection.close()


def test_writes_between_two_runs_are_caught_up(tmp_path):
    """Rows added, changed, moved and deleted while no job runs are all there at the end."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET v = 'changed' WHERE id = '0'")
    connection.execute("DELETE FROM t WHERE id = '1'")
    connection.execute("UPDATE t SET id = '22' WHERE id = '2'")
    connection.execute("INSERT INTO t (id, v) VALUES ('1', 'another')")
    connection.commit()
    clear = connection.execute("SELECT id, v, other FROM t ORDER BY rowid").fetchall()
    connection.close()
    report = run(protect, tmp_path, path, "t", "v:pii:exact")

    assert report.resumed
    assert readable(path, "t") == clear


def test_a_row_that_changes_while_it_is_encrypted_is_taken_up_again(tmp_path):
    """A race lost between reading a row and writing its ciphertext costs a second look, not the write."""
    path = people(tmp_path)
    raced = []

    class Racing(FixedKeyField):
        def prepare_many(self, items, /, *, recorded=True):
            if not raced:
                raced.append(True)
                other = sqlite3.connect(path)
                other.execute("UPDATE t SET v = 'won the race' WHERE id = '0'")
                other.execute("UPDATE t SET other = 5 WHERE id = '1'")
                other.execute("DELETE FROM t WHERE id = '2'")
                other.commit()
                other.close()
            return super().prepare_many(items, recorded=recorded)

    report = protect(
        path,
        "t",
        requests("v:pii"),
        fields=lambda column: Racing("t", column),
        authority=authority(tmp_path / "states"),
    )

    assert report.lost_races == 2
    rows = {row[0]: row[1:] for row in readable(path, "t")}
    assert rows["0"] == ("won the race", 0)
    assert rows["1"] == ("value number 1", 5)
    assert "2" not in rows
    assert len(rows) == 6


def test_a_job_under_way_goes_on_only_with_its_own_arguments(tmp_path):
    """Other columns or another store are refused, also on the way back, naming what is under way."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    for attempt in (
        lambda: run(protect, tmp_path, path, "t", "other:pii"),
        lambda: run(protect, tmp_path, path, "t", "v:pii:exact other:pii"),
        lambda: run(protect, tmp_path, path, "t", "v:banking:exact"),
        lambda: run(protect, tmp_path, path, "t", "v:pii:exact", store="crm"),
        lambda: run(unprotect, tmp_path, path, "t", "v:pii"),
        lambda: run(unprotect, tmp_path, path, "t", "v:pii:exact", store="crm"),
    ):
        with pytest.raises(
            MisuseError, match="lacre protect --table t --column v:pii:exact --store main"
        ):
            attempt()
    run(protect, tmp_path, path, "t", "v:pii:exact")

    assert len(readable(path, "t")) == 7


def test_a_definition_changed_under_way_stops_the_switch_over(tmp_path):
    """An index that somebody made meanwhile would be lost in the rebuild, so the job says so."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE INDEX mine ON t(other)")
    with pytest.raises(MisuseError, match="changed the definition"):
        run(protect, tmp_path, path, "t", "v:pii:exact")
    connection.execute("DROP INDEX mine")
    connection.close()

    assert run(protect, tmp_path, path, "t", "v:pii:exact").rows == 7


def test_a_duplicate_written_under_way_is_named_and_nothing_switched(tmp_path):
    """Two spellings of one unique value, written during the fill, stop the job before the lock."""
    path = people(tmp_path, "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT UNIQUE, other INT)")
    half_done(tmp_path, path, "v:pii:name")
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO t (id, v) VALUES ('x', 'VALUE NUMBER 3')")
    connection.commit()
    with pytest.raises(DuplicateValue, match="rows 3, x"):
        run(protect, tmp_path, path, "t", "v:pii:name")
    connection.execute("DELETE FROM t WHERE id = 'x'")
    connection.commit()
    connection.close()

    assert run(protect, tmp_path, path, "t", "v:pii:name").rows == 7


def test_a_value_of_another_type_written_under_way_is_named(tmp_path):
    """A blob in a text column, written during the fill, is located and not quoted."""
    path = people(tmp_path)
    half_done(tmp_path, path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET v = CAST('canary' AS BLOB) WHERE id = '6'")
    connection.commit()
    connection.close()

    with pytest.raises(InvalidValue, match="v of row 6") as refused:
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert "canary" not in str(refused.value)


def test_verification_finds_a_ciphertext_of_something_else(tmp_path):
    """A companion that opens, but to another value, stops the job before anything is lost."""
    path = people(tmp_path)
    half_done(tmp_path, path, phase="verify")
    connection = sqlite3.connect(path)
    (trigger,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 't_lacre_form'"
    ).fetchone()
    connection.execute("DROP TRIGGER t_lacre_form")
    connection.execute("UPDATE t SET v = 'not what was encrypted' WHERE id = '5'")
    connection.execute(trigger)
    connection.commit()
    connection.close()

    with pytest.raises(Tampered) as stopped:
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert stopped.value.__notes__ == ["t.v of row 5: its two forms are not the same value"]


@pytest.mark.parametrize(
    ("companion", "told"),
    [
        ("(SELECT v_lacre FROM t WHERE id = '1')", "it does not open"),
        ("'text'", "it is not ciphertext"),
        ("NULL", "its two forms are not the same value"),
    ],
)
def test_verification_names_the_row_of_what_does_not_open(tmp_path, companion, told):
    """A companion that is no ciphertext of its row is located, whatever is wrong with it."""
    path = people(tmp_path)
    half_done(tmp_path, path, phase="verify")
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE t SET v_lacre = {companion} WHERE id = '5'")
    connection.commit()
    connection.close()

    with pytest.raises(Tampered) as stopped:
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert stopped.value.__notes__ == [f"t.v of row 5: {told}"]


def test_a_refused_key_leaves_the_plaintext_where_it_was(tmp_path):
    """An operator without the right to encrypt gets the policy's error; the rows are untouched."""
    path = people(tmp_path)
    clear = plain(path, "t")

    class Denied(FixedKeyField):
        def prepare_many(self, items, /, *, recorded=True):
            raise AccessDenied("no")

    with pytest.raises(AccessDenied):
        protect(
            path,
            "t",
            requests("v:pii"),
            fields=lambda column: Denied("t", column),
            authority=authority(tmp_path / "states"),
        )
    assert plain(path, "t", "id, v, other") == clear


def test_column_state_follows_the_table(tmp_path):
    """plaintext, dual, encrypted and back: each step signed, none before it is true."""
    path = people(tmp_path)
    states, signer = FileStates(tmp_path / "states"), FixedSigner()

    def state():
        return state_of(
            states,
            {signer.fingerprint: signer},
            keystore="store-1",
            store="main",
            table="t",
            column="v",
            class_="pii",
        )

    half_done(tmp_path, path)
    assert state() is ColumnState.DUAL
    run(protect, tmp_path, path, "t", "v:pii:exact")
    assert state() is ColumnState.ENCRYPTED
    run(unprotect, tmp_path, path, "t", "v:pii:exact")
    assert state() is ColumnState.PLAINTEXT
    assert [row.revision for row in states.all()] == [1, 2, 3]


def test_an_old_copy_of_the_database_is_not_protected_again(tmp_path):
    """Where the key store says encrypted and the table holds plaintext, something is wrong: refused."""
    path = people(tmp_path)
    old = path.read_bytes()
    run(protect, tmp_path, path, "t", "v:pii:exact")
    path.write_bytes(old)

    with pytest.raises(ConfigurationError, match="holds it in the clear"):
        run(protect, tmp_path, path, "t", "v:pii:exact")


def test_a_key_store_restored_from_an_older_backup_is_brought_up_to_date(tmp_path):
    """Where the table is protected and its states are of the job's middle, the same command moves them on."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES ('a', 'one')",
    )
    states, options = tmp_path / "states", {"fields": fields_as_planned}
    protect(path, "t", requests("v:pii"), authority=authority(states), **options)
    states.write_text(states.read_text().splitlines(keepends=True)[0])
    assert authority(states).states.get("main", "t", "v").state is ColumnState.DUAL

    protect(path, "t", requests("v:pii"), authority=authority(states), **options)
    assert authority(states).states.get("main", "t", "v").state is ColumnState.ENCRYPTED


def test_the_same_command_again_changes_nothing(tmp_path):
    """A finished job, run again, says so and touches no row."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    content = path.read_bytes()

    assert run(protect, tmp_path, path, "t", "v:pii:exact").resumed
    assert path.read_bytes() == content


def test_a_second_column_is_protected_later_and_undone_first(tmp_path):
    """Jobs on one table nest: the last is undone first, and the first then brings the original back."""
    path = people(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, other INT)")
    rows, definitions = storage(path, "t"), schema(path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    middle = schema(path)
    with pytest.raises(MisuseError, match="already protected: v"):
        run(protect, tmp_path, path, "t", "v:pii:exact other:pii")
    run(protect, tmp_path, path, "t", "other:pii")
    with pytest.raises(MisuseError, match=r"the last job on t was: .*other:pii"):
        run(unprotect, tmp_path, path, "t", "v:pii:exact")
    run(unprotect, tmp_path, path, "t", "other:pii")

    assert schema(path) == middle
    run(unprotect, tmp_path, path, "t", "v:pii:exact")
    assert (storage(path, "t"), schema(path)) == (rows, definitions)


def test_what_an_application_wrote_since_comes_back_as_plaintext(tmp_path):
    """Values encrypted by an application after the switch-over are in the table unprotect leaves."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii:exact")
    connection = sqlite3.connect(path)
    (job,) = connection.execute("SELECT record FROM lacre_job").fetchone()
    column = jobs_of(connection, "t", authority(tmp_path / "states"))[0].columns[0]
    stored = FixedKeyField("t", column).prepare_many([("new", "written while encrypted")])[0]
    connection.execute(
        "INSERT INTO t (id, v, v_bidx) VALUES ('new', ?, ?)", (stored.value, stored.tokens[0])
    )
    connection.execute("UPDATE t SET v = NULL, v_bidx = NULL WHERE id = '0'")
    connection.commit()
    connection.close()
    run(unprotect, tmp_path, path, "t", "v:pii:exact")

    rows = {row[0]: row[1] for row in plain(path, "t")}
    assert "value number" not in job
    assert rows["new"] == "written while encrypted"
    assert rows["0"] is None
    assert len(rows) == 8


def test_unprotect_refuses_a_moved_ciphertext(tmp_path):
    """A value moved to another row does not open, and the table stays protected."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET v = (SELECT v FROM t WHERE id = '1') WHERE id = '2'")
    connection.commit()
    connection.close()

    with pytest.raises(Tampered) as refused:
        run(unprotect, tmp_path, path, "t", "v:pii")
    assert refused.value.__notes__ == ["t.v of row 2: it does not open"]
    assert plain(path, "t", "typeof(v)") == [("blob",)] * 7


def test_unprotect_refuses_definitions_that_changed_since(tmp_path):
    """A column added after protect would be lost on the way back, so it is named."""
    path = people(tmp_path)
    run(protect, tmp_path, path, "t", "v:pii")
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE t ADD COLUMN more TEXT")
    connection.close()

    with pytest.raises(MisuseError, match="table t"):
        run(unprotect, tmp_path, path, "t", "v:pii")


def test_a_table_that_was_never_protected_has_nothing_to_undo(tmp_path):
    """Unprotect without a protect is a mistake, said plainly."""
    with pytest.raises(MisuseError, match="no column of t is protected"):
        run(unprotect, tmp_path, people(tmp_path), "t", "v:pii")


def test_progress_counts_up_to_the_rows(tmp_path):
    """Each phase reports rows done of rows in all, with a rate and the time that remains."""
    path = people(tmp_path)
    seen = []
    run(protect, tmp_path, path, "t", "v:pii", pace=Pace(batch=2, progress=seen.append))
    fill = [report for report in seen if report.phase == "fill"]

    assert [report.done for report in fill] == [2, 4, 6, 7]
    assert {report.total for report in fill} == {7}
    assert fill[-1].remaining == 0
    assert fill[0].rate > 0
    assert {report.phase for report in seen} >= {"fill", "verify"}


def test_a_throttle_slows_the_fill(tmp_path):
    """The fill sleeps as long as it is ahead of its rate."""
    path = people(tmp_path)
    slept = []
    run(
        protect,
        tmp_path,
        path,
        "t",
        "v:pii",
        pace=Pace(batch=2, throttle=2.0, clock=lambda: 0.0, sleep=slept.append),
    )

    assert slept == [1.0, 2.0, 3.0, 3.5]


def test_five_thousand_rows_of_five_columns_are_a_matter_of_seconds(tmp_path):
    """A table of the demo's size is protected in far less than 20 seconds."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, b TEXT, c TEXT, d DATE, e TEXT)",
        *[
            (
                "INSERT INTO t VALUES (?, ?, ?, ?, '2001-02-03', ?)",
                (uuid4().hex, f"person{n}@example.org", f"name {n}", f"{n:011}", f"street {n}"),
            )
            for n in range(5000)
        ],
    )
    began = time.monotonic()
    run(protect, tmp_path, path, "t", "a:pii:email b:pii:name c:pii:exact d:pii e:pii")

    assert time.monotonic() - began < 20


@pytest.mark.parametrize("job", [protect, unprotect])
def test_a_mask_is_never_written_into_the_table(tmp_path, job):
    """An operator whom the policy gives masks is refused; no mask takes a value's place."""
    path = people(tmp_path)
    if job is unprotect:
        run(protect, tmp_path, path, "t", "v:pii")

    class Masking(FixedKeyField):
        def decrypt_many(self, items):
            return [Mask("***") for _ in items]

    with pytest.raises(AccessDenied, match="masks"):
        job(
            path,
            "t",
            requests("v:pii"),
            fields=lambda column: Masking("t", column),
            authority=authority(tmp_path / "states"),
        )
    run(job, tmp_path, path, "t", "v:pii")
    rows = readable(path, "t") if job is protect else plain(path, "t")
    assert rows == [(f"{n}", f"value number {n}", 0) for n in range(7)]


def test_a_token_of_something_else_is_found(tmp_path):
    """Verification computes every token again: a wrong one would hide its row from every search."""
    path = people(tmp_path)
    half_done(tmp_path, path, phase="verify")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET v_bidx = (SELECT v_bidx FROM t WHERE id = '1') WHERE id = '2'")
    connection.commit()
    connection.close()

    with pytest.raises(Tampered) as stopped:
        run(protect, tmp_path, path, "t", "v:pii:exact")
    assert stopped.value.__notes__ == ["t.v of row 2: its two forms are not the same value"]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_plaintext_that_others_deleted_before_is_gone_too(tmp_path, journal):
    """Pages that a program freed without overwriting them are not in the file any more."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "CREATE TABLE kept (x)",
        journal=journal,
    )
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA secure_delete=OFF")
    secrets = [f"deleted long ago {n}" for n in range(2000)]
    connection.executemany(
        "INSERT INTO t VALUES (?, ?)", [(f"{n}", secret) for n, secret in enumerate(secrets)]
    )
    connection.commit()
    connection.execute("DELETE FROM t WHERE CAST(id AS INT) > 10")
    connection.commit()
    if journal == "wal":
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()

    assert find_plaintext(path, secrets).values_found > 1000
    run(protect, tmp_path, path, "t", "v:pii")
    assert find_plaintext(path, secrets).clean


def test_a_reader_with_an_old_snapshot_is_waited_for_and_then_named(tmp_path):
    """While a reader keeps the log's old pages alive, the job does not claim that they are gone."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES ('a', 'secret value')",
        journal="wal",
    )
    writer = sqlite3.connect(path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    times = iter(range(100))
    with pytest.raises(ConfigurationError, match="old copy"):
        clean(connection, wait=2.0, clock=lambda: float(next(times)), sleep=lambda _: None)
    reader.execute("COMMIT")
    clean(connection, wait=0.0)
    for one in (writer, reader, connection):
        one.close()


def test_a_second_process_is_told_that_it_was_overtaken(tmp_path):
    """Two operators who run one job at once: one finishes it, the other changes nothing more."""
    path = people(tmp_path)
    finished = []

    class Slow(FixedKeyField):
        def prepare_many(self, items, /, *, recorded=True):
            if not finished:
                finished.append(run(protect, tmp_path, path, "t", "v:pii"))
            return super().prepare_many(items, recorded=recorded)

    with pytest.raises(MisuseError, match="moved the job on"):
        protect(
            path,
            "t",
            requests("v:pii"),
            fields=lambda column: Slow("t", column),
            authority=authority(tmp_path / "states"),
        )
    assert readable(path, "t") == [(f"{n}", f"value number {n}", 0) for n in range(7)]


def test_a_writer_who_knows_no_row_id_gets_one(tmp_path):
    """After the switch-over every new row has a unique id of its own, and none can be without."""
    path = people(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, other INT)")
    run(protect, tmp_path, path, "t", "v:pii")
    connection = sqlite3.connect(path)
    connection.executemany("INSERT INTO t (other) VALUES (?)", [(n,) for n in range(50)])
    ids = [row[0] for row in connection.execute("SELECT lacre_rid FROM t")]

    assert len(set(ids)) == 57
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in ids)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO t (other, lacre_rid) VALUES (1, NULL)")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE t SET lacre_rid = ?", (ids[0],))
    connection.close()


@pytest.mark.parametrize("stopped_in", ["T", "t"])
def test_a_job_goes_on_whatever_the_case_of_its_arguments(tmp_path, stopped_in):
    """Begun, resumed and undone with three spellings, every value is bound to the table's own."""
    path = people(tmp_path)
    clear = plain(path, "t")

    def stop(progress):
        raise Stops

    def job(direction, table, columns, pace=None):
        return direction(
            path,
            table,
            requests(columns),
            fields=fields_as_planned,
            authority=authority(tmp_path / "states"),
            pace=pace,
        )

    with pytest.raises(Stops):
        job(protect, stopped_in, "V:pii:exact", Pace(batch=2, progress=stop))
    done = job(protect, "T", "v:pii:exact")

    assert (done.table, done.columns, done.resumed) == ("t", ("v",), True)
    assert readable(path, "t") == clear
    assert {(row.table, row.column) for row in FileStates(tmp_path / "states").all()} == {
        ("t", "v")
    }
    job(unprotect, "t", "V:pii:exact")
    assert plain(path, "t") == clear


def test_names_that_sqlite_keeps_apart_are_not_one(tmp_path):
    """SQLite folds ASCII letters only: É and é are two columns, and two jobs."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, é TEXT, É TEXT)",
        "INSERT INTO t VALUES ('a', 'one', 'two')",
    )
    run(protect, tmp_path, path, "t", "é:pii")

    assert run(protect, tmp_path, path, "t", "É:pii").columns == ("É",)
