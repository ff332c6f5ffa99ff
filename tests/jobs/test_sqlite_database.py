# SPDX-License-Identifier: Apache-2.0
"""What the jobs ask SQLite about values and rows."""

import sqlite3

import pytest

from lacre.errors import ConfigurationError
from lacre.jobs.columns import RowKey
from lacre.jobs.sqlite.database import Catalogue, opened, same_stored

STORED = [None, "", "a", "A", b"a", 1, 1.0, "1", 0, b"", "e\u0301", "\u00e9", "a\0", "a "]


@pytest.mark.parametrize(
    "declared", ["", "TEXT COLLATE NOCASE", "INT", "NUMERIC", "REAL", "TEXT COLLATE RTRIM"]
)
def test_two_values_are_the_same_only_if_nothing_tells_them_apart(declared):
    """Neither collation, nor affinity, nor storage class hides a difference from a comparison."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t (v {declared})")
    for one in STORED:
        connection.execute("DELETE FROM t")
        connection.execute("INSERT INTO t VALUES (?)", (one,))
        (kept,) = connection.execute("SELECT v FROM t").fetchone()
        for other in STORED:
            (same,) = connection.execute(
                f"SELECT {same_stored('v', '?1')} FROM t", (other,)
            ).fetchone()

            assert bool(same) == (type(kept) is type(other) and kept == other), (kept, other)
    connection.close()


@pytest.mark.parametrize(
    ("values", "expected"), [((5,), "5"), (("a b",), "a b"), ((-3, 'q"', "é"), '["-3","q\\"","é"]')]
)
def test_a_row_id_has_the_text_of_the_specification(values, expected):
    """Whole numbers in decimal, text as stored, several columns as a JSON array of texts."""
    assert RowKey(columns=("x",) * len(values), added=False).text(values) == expected


@pytest.mark.parametrize("value", [None, "", 1.5, b"x", "\udcff", True])
def test_a_value_that_is_no_row_id_is_refused(value):
    """NULL, empty, fractions, blobs and broken text name no row."""
    with pytest.raises(ConfigurationError):
        RowKey(columns=("x",), added=False).text([value])


def test_a_catalogue_compares_what_it_read_with_what_sqlite_read(tmp_path):
    """A definition that the parser and SQLite understand differently is refused, never edited."""
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE t (a, b)")
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE t (a, c)'")
    connection.execute("PRAGMA writable_schema=OFF")

    with pytest.raises(ConfigurationError):
        Catalogue(connection, "t")
    connection.close()


def test_a_connection_overwrites_what_it_frees(tmp_path):
    """secure_delete is on and foreign keys are off, whatever the build's defaults are."""
    path = tmp_path / "t.db"
    sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
    connection = opened(path)

    assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.db' AS other",
        "ATTACH ? AS other",
        "ATTACH ':memory:' AS other",
        "VACUUM INTO 'other.db'",
        "DETACH main",
        "SELECT load_extension('other')",
    ],
)
def test_a_jobs_connection_reaches_no_other_file(tmp_path, monkeypatch, statement):
    """Whoever gets a statement run there still has the one database; VACUUM's own file is allowed."""
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("data.db").close()
    connection = opened(tmp_path / "data.db")
    values = ("other.db",) if "?" in statement else ()
    # SQLite's own refusal of this function, which a program can switch off, does not name it.
    told = (
        r"authorized to use function: load_ext"
        if "load_ext" in statement
        else "not authorized|authorization denied"
    )

    with pytest.raises(sqlite3.DatabaseError, match=told):
        connection.execute(statement, values)
    connection.execute("VACUUM")
    assert [file.name for file in tmp_path.iterdir()] == ["data.db"]
    connection.close()
