# SPDX-License-Identifier: Apache-2.0
"""What a plan says, and everything it refuses."""

import sqlite3
from contextlib import closing

import pytest

from lacre.errors import ConfigurationError
from lacre.fields.index import BlindIndex
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.sqlite.plan import plan
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.values import forms_for
from lacre.jobs.survey import Survey
from tests.jobs.double import authority, fields, requests, schema

TABLE = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, email TEXT, n INTEGER, other TEXT)"


def database(tmp_path, *statements):
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize(
    ("statements", "columns", "reason"),
    [
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT CHECK (length(email) > 3))"], "email:pii", "CHECK constraint"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, x TEXT CHECK (x <> email))"], "email:pii", "the CHECK clause of x mentions email"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, CHECK (email <> ''))"], "email:pii", "a CHECK constraint of the table mentions email"),
        (["CREATE TABLE o (x TEXT PRIMARY KEY)", "CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT REFERENCES o)"], "email:pii", "email is a foreign key"),
        (["CREATE TABLE o (x TEXT PRIMARY KEY)", "CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, FOREIGN KEY (email) REFERENCES o(x))"], "email:pii", "a FOREIGN KEY of the table mentions email"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT UNIQUE)", "CREATE TABLE o (x TEXT REFERENCES t(email))"], "email:pii:exact", "a foreign key of o refers to email"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, low TEXT AS (lower(email)))"], "email:pii", "the GENERATED clause of low mentions email"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, email TEXT AS (a))"], "email:pii", "email is a generated column"),
        ([TABLE, "CREATE INDEX i ON t(email, n)"], "email:pii:exact", "the multi-column index i mentions email"),
        ([TABLE, "CREATE INDEX i ON t(lower(email))"], "email:pii:exact", "the expression index i mentions email"),
        ([TABLE, "CREATE INDEX i ON t(n) WHERE email IS NOT NULL"], "email:pii:exact", "the partial index i mentions email"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, n INT, UNIQUE (email, n))"], "email:pii:exact", "a UNIQUE constraint over email, n"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT UNIQUE ON CONFLICT REPLACE)"], "email:pii:exact", "ON CONFLICT"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, UNIQUE (email) ON CONFLICT IGNORE)"], "email:pii:exact", "ON CONFLICT"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT UNIQUE)"], "email:pii", "is unique (UNIQUE) and has no normaliser"),
        ([TABLE, "CREATE UNIQUE INDEX i ON t(email)"], "email:pii", "is unique (i) and has no normaliser"),
        ([TABLE], "id:pii", "id is part of the primary key"),
        ([TABLE, "CREATE VIEW v AS SELECT email FROM t"], "email:pii", "the view v mentions email"),
        ([TABLE, "CREATE VIEW v AS SELECT * FROM t"], "email:pii", "the view v selects every column"),
        ([TABLE, "CREATE TRIGGER g AFTER UPDATE OF email ON t BEGIN SELECT 1; END"], "email:pii", "the trigger g mentions email"),
        ([TABLE, "CREATE TRIGGER g AFTER INSERT ON t WHEN NEW.email = '' BEGIN SELECT 1; END"], "email:pii", "the trigger g mentions email"),
        ([TABLE, "CREATE TABLE o (x)", "CREATE TRIGGER g AFTER INSERT ON o BEGIN INSERT INTO t VALUES (1,2,3,4); END"], "email:pii", "without naming columns"),
        ([TABLE, "CREATE TABLE o (x)", "CREATE TRIGGER g AFTER INSERT ON o BEGIN INSERT INTO x SELECT t.* FROM t; END"], "email:pii", "selects every column"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email REAL)"], "email:pii", "binary fraction"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email)"], "email:pii", "no declared type"),
        ([TABLE], "n:pii:email", "takes text"),
        ([TABLE, "INSERT INTO t VALUES ('a', x'00', 1, ''), ('b', 'x', 1, ''), ('c', x'01', 1, '')"], "email:pii", "email: 2 values (rows a, c) would not come back exactly as a str"),
        ([TABLE, "INSERT INTO t VALUES ('a', CAST(x'ff' AS TEXT), 1, '')"], "email:pii", "1 value (row a) would not come back"),
        ([TABLE, "INSERT INTO t VALUES ('a', '', 'many', '')"], "n:pii", "1 value (row a) would not come back exactly as a int"),
        ([TABLE, "INSERT INTO t VALUES ('a', 'no address', 1, '')"], "email:pii:email", "the normaliser does not take 1 value (row a)"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT UNIQUE)", "INSERT INTO t VALUES ('a', 'a@b.co'), ('b', 'A@b.co')"], "email:pii:email", "is unique, but once normalised 1 value (row b) would equal another"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT, email_lacre TEXT)"], "email:pii", "t already has email_lacre"),
        ([TABLE, "CREATE INDEX t_email_bidx ON t(n)"], "email:pii:exact", "an index t_email_bidx exists already"),
    ],
)  # fmt: skip
def test_what_cannot_survive_is_refused_and_nothing_is_touched(
    tmp_path, statements, columns, reason
):
    """The plan names the reason, gives a hint, and protect stops before its first change."""
    path = database(tmp_path, *statements)
    before = schema(path)
    found = plan(path, "t", requests(columns))

    assert any(reason in refusal.reason for refusal in found.refusals), found.refusals
    assert all(refusal.hint for refusal in found.refusals)
    with pytest.raises(ConfigurationError) as refused:
        protect(
            path,
            "t",
            requests(columns),
            fields=fields("t"),
            authority=authority(tmp_path / "states"),
        )
    assert reason in str(refused.value)
    assert schema(path) == before


def test_a_refusal_never_quotes_a_value(tmp_path):
    """Values that are refused are counted and located, not shown."""
    path = database(
        tmp_path, TABLE, "INSERT INTO t VALUES ('a', 'canary-plaintext', 'canary-number', '')"
    )
    found = plan(path, "t", requests("email:pii:email n:pii"))

    assert len(found.refusals) == 2
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT)", ("id",)),
        ("CREATE TABLE t (id CHAR(32) NOT NULL, email TEXT, PRIMARY KEY (id))", ("id",)),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT)", ("lacre_rid",)),
        (
            "CREATE TABLE t (a TEXT, b INT, email TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID",
            ("b", "a"),
        ),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT)", ("lacre_rid",)),
        ("CREATE TABLE t (email TEXT)", ("lacre_rid",)),
        ("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, email TEXT)", ("lacre_rid",)),
        ("CREATE TABLE t (id BLOB PRIMARY KEY, email TEXT)", ("lacre_rid",)),
        ("CREATE TABLE t (id REAL PRIMARY KEY, email TEXT)", ("lacre_rid",)),
    ],
)
def test_a_key_that_can_be_reused_is_no_row_id(tmp_path, definition, expected):
    """Keys the application gives name rows; for every other table a column is added."""
    found = plan(database(tmp_path, definition), "t", requests("email:pii"))

    assert found.row_id == expected
    assert found.adds_row_id == (expected == ("lacre_rid",))
    assert not found.refusals


def test_a_key_with_null_or_empty_values_is_no_row_id(tmp_path):
    """SQLite lets a text primary key be NULL; such a table gets a row id of its own."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id TEXT PRIMARY KEY, email TEXT)",
        "INSERT INTO t VALUES (NULL, 'x')",
    )

    assert plan(path, "t", requests("email:pii")).adds_row_id


def test_a_plan_counts_and_says_what_will_happen(tmp_path):
    """Rows, NULLs, values, columns, indexes and sizes are those of the table."""
    path = database(
        tmp_path,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, email TEXT UNIQUE, cpf TEXT COLLATE NOCASE DEFAULT 'x')",
        "CREATE INDEX t_cpf ON t(cpf)",
        "INSERT INTO t VALUES (1, 'a@example.org', NULL), (2, NULL, 'x'), (3, '', NULL)",
    )
    found = plan(path, "T", requests("EMAIL:pii:exact cpf:pii"), store="crm")
    email, cpf = found.columns

    assert (found.table, found.store, found.rows) == ("t", "crm", 3)
    assert (email.name, email.values, email.nulls, email.unique, email.python_type) == (
        "email",
        2,
        1,
        True,
        str,
    )
    assert (cpf.values, cpf.nulls, cpf.unique) == (1, 2, False)
    assert found.adds == (
        "email_lacre",
        "email_bidx",
        "email_bidx2",
        "cpf_lacre",
        "lacre_form",
        "lacre_rid",
    )
    assert "drop the index t_cpf: cpf has no normaliser, so it cannot be searched" in found.indexes
    assert "make the unique index t_email_bidx over email_bidx" in found.indexes
    assert found.growth_bytes == 3 * (91 + 32) + 2 * 16 + 3 * (2 + 34)
    assert any("collation" in notice for notice in found.notices)
    assert any("default" in notice for notice in found.notices)
    assert not found.refusals


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("nothing", "email:pii"),
        ("t", "nothing:pii"),
        ("t", "email:pii email:pii"),
        ("v", "email:pii"),
        ("sqlite_master", "name:pii"),
    ],
)
def test_a_name_that_is_not_there_is_an_error(tmp_path, table, columns):
    """A missing table or column, or one named twice, is not a plan."""
    path = database(tmp_path, TABLE, "CREATE VIEW v AS SELECT n FROM t")

    with pytest.raises(ConfigurationError):
        plan(path, table, requests(columns))


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    """Neither a missing file is made, nor another file taken for a database."""
    (tmp_path / "text").write_text("not a database at all " * 100)

    with pytest.raises(ConfigurationError):
        plan(tmp_path / "text", "t", requests("email:pii"))
    with pytest.raises(ConfigurationError):
        plan(tmp_path / "missing", "t", requests("email:pii"))
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("text", ["email", "email:", ":pii", "", "name:pii:12"])
def test_a_column_needs_a_name_and_a_class(text):
    """NAME:CLASS is the least."""
    with pytest.raises(ConfigurationError):
        ColumnRequest.parse(text)


def test_a_normaliser_may_name_its_region():
    """Only the first two colons separate."""
    assert ColumnRequest.parse("mobile:pii:phone:BR") == ColumnRequest(
        name="mobile", class_="pii", normaliser="phone:BR"
    )


@pytest.mark.parametrize(("text", "rule"), [("name", "name"), ("phone:BR", "phone:BR")])
def test_bits_come_last(text, rule):
    """A number after the normaliser, which may have a colon of its own, is the length of its tokens."""
    request = ColumnRequest.parse(f"name:pii:{text}:12")

    assert request == ColumnRequest(name="name", class_="pii", normaliser=rule, bits=12)
    assert request.index(unique=False) == BlindIndex(rule, bits=12)
    assert ColumnRequest.parse("name:pii:name").index(unique=False).bits == 32
    with pytest.raises(ConfigurationError, match="12 bits"):
        request.index(unique=True)


def test_a_length_that_nobody_chose_is_noticed(tmp_path):
    """The plan says what 32 bits show, of an index that is not unique and of which nobody said how many."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT, b TEXT, c TEXT UNIQUE, d TEXT)")  # fmt: skip
    asked = requests("a:pii:exact b:pii:exact:10 c:pii:exact d:pii")
    noticed = [n for n in plan(tmp_path / "shop.db", "t", asked).notices if "index plan" in n]

    assert [notice.partition(":")[0] for notice in noticed] == ["a"]
    assert "32 bits show" in noticed[0]


def test_a_survey_that_is_interrupted_keeps_no_files():
    """What was noted of values that have to be unique goes with the survey, however it ends."""
    survey = Survey("email", forms_for(str), "email", unique=True)

    def interrupted() -> None:
        with survey:
            survey.add("ana@example.org", "1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert survey._seen is not None
    assert all(file.closed for file in survey._seen._files)
