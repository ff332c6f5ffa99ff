# SPDX-License-Identifier: Apache-2.0
"""Reading and editing SQLite's own definitions."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.errors import ConfigurationError
from lacre.jobs.sqlite.schema import (
    edited,
    narrowed_trigger,
    parse_table,
    quoted,
    same_name,
    tokens,
)

DEFINITIONS = [
    "CREATE TABLE t (a)",
    "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b)",
    'CREATE TABLE "we""ird" ("a,b" TEXT, [c)d] TEXT, `e``f` TEXT, \'g\' TEXT)',
    "CREATE TABLE t (a TEXT DEFAULT ',)' -- , not a column\n, b /* , nor ( this */ TEXT)",
    "CREATE TABLE t (a DECIMAL(10, 2) NOT NULL, b UNSIGNED BIG INT DEFAULT (1 + (2)))",
    "CREATE TABLE t (a, b, CONSTRAINT k UNIQUE (a) CHECK (b > 0) UNIQUE (b, a))",
    'CREATE TABLE t (a CONSTRAINT "check" CHECK (a IN (1, 2)) UNIQUE ON CONFLICT IGNORE, b COLLATE NOCASE)',
    "CREATE TABLE t (a REFERENCES o(x) ON DELETE SET NULL ON UPDATE SET DEFAULT NOT DEFERRABLE, b NOT NULL DEFAULT NULL)",
    "CREATE TABLE t (a INT, g INT GENERATED ALWAYS AS (a * 2) STORED, h AS (a || ',') VIRTUAL)",
    "CREATE TABLE t (a TEXT, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE TABLE t (a TEXT PRIMARY KEY, b ANY) STRICT, WITHOUT ROWID",
    "CREATE TABLE t (a BLOB DEFAULT x'2C29', b REAL DEFAULT -1.5e-3, c DEFAULT +1, d DEFAULT CURRENT_TIMESTAMP)",
    'CREATE TABLE t (naïve TEXT, "имя, (x)" TEXT, 列 TEXT, a$b INT)',
    "CREATE TABLE t (\n\ta VARCHAR, \n\tb INTEGER, CHECK (b IN (0, 1)), \n\tFOREIGN KEY(b) REFERENCES o (x)\n)",
    "CREATE TABLE t (type TEXT, key TEXT, rowid TEXT, action TEXT, replace TEXT)",
]


@pytest.mark.parametrize("sql", DEFINITIONS)
def test_columns_are_those_that_sqlite_reads(sql):
    """The parsed names, types and NOT NULLs equal what SQLite says of the table."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE o (x PRIMARY KEY)")
    connection.execute(sql)
    (stored,) = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name NOT IN ('o', 'sqlite_sequence') AND type = 'table'"
    ).fetchone()
    table = parse_table(stored)
    rows = connection.execute(f"PRAGMA table_xinfo({quoted(table.name)})").fetchall()
    connection.close()

    assert [column.name for column in table.columns] == [row[1] for row in rows]
    declared = [
        "".join(column.declared.replace("GENERATED ALWAYS", "").split()).upper()
        for column in table.columns
    ]
    assert declared == [
        "".join(row[2].replace("GENERATED ALWAYS", "").split()).upper() for row in rows
    ]
    assert [column.not_null for column in table.columns] == [
        bool(row[3]) for row in rows if not table.without_rowid
    ] or table.without_rowid


@pytest.mark.parametrize("sql", DEFINITIONS)
def test_an_edit_changes_nothing_else(sql):
    """With nothing to replace but the name, every other character stays; SQLite agrees on the columns."""
    table = parse_table(sql)
    text = edited(table, name="other", replace={}, drop=[], append=['"z" BLOB'])

    assert text.startswith('CREATE TABLE "other"')
    assert (
        text.replace(', "z" BLOB', "", 1).removeprefix('CREATE TABLE "other"')
        == sql[table.name_end :]
    )
    assert [column.name for column in parse_table(text).columns] == [
        *(column.name for column in table.columns),
        "z",
    ]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE t (a, b, UNIQUE (a))", 'CREATE TABLE "t" (a, b)'),
        (
            "CREATE TABLE t (a, b, CONSTRAINT k UNIQUE (a), CHECK (b))",
            'CREATE TABLE "t" (a, b, CHECK (b))',
        ),
        ("CREATE TABLE t (a, b, UNIQUE (a) CHECK (b))", 'CREATE TABLE "t" (a, b,  CHECK (b))'),
        ("CREATE TABLE t (a, b, CHECK (b) UNIQUE (a))", 'CREATE TABLE "t" (a, b, CHECK (b) )'),
    ],
)
def test_a_constraint_is_dropped_with_the_comma_it_needed(sql, expected):
    """What is left without the constraint is SQL that SQLite takes."""
    table = parse_table(sql)
    text = edited(
        table,
        name="t",
        replace={},
        drop=[item for item in table.constraints if item.kind == "UNIQUE"],
        append=[],
    )

    assert text == expected
    sqlite3.connect(":memory:").execute(text).connection.close()


def test_a_definition_is_replaced_in_its_place():
    """The new definition stands where the old one stood, comments around it untouched."""
    table = parse_table("CREATE TABLE t (a INT, 'b''c' TEXT UNIQUE DEFAULT ')' -- note\n, d)")
    text = edited(table, name="t", replace={"B'C": "new"}, drop=[], append=["e", "f"])

    assert text == 'CREATE TABLE "t" (a INT, new -- note\n, d, e, f)'


def test_a_replaced_last_column_keeps_what_is_appended_behind_it():
    """Replacement and addition at one place come in the right order."""
    table = parse_table("CREATE TABLE t (a, b TEXT)")

    assert (
        edited(table, name="t", replace={"b": "c BLOB"}, drop=[], append=["d"])
        == 'CREATE TABLE "t" (a, c BLOB, d)'
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "CREATE TRIGGER x AFTER UPDATE ON t BEGIN SELECT 1; END",
            'CREATE TRIGGER x AFTER UPDATE OF "a", "b""c" ON t BEGIN SELECT 1; END',
        ),
        ('CREATE TRIGGER "UPDATE" BEFORE update /* ON */ ON t BEGIN SELECT 1; END', None),
        ("CREATE TRIGGER x AFTER UPDATE OF a ON t BEGIN SELECT 1; END", ""),
        ("CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = 1; END", ""),
    ],
)
def test_only_a_bare_update_event_is_narrowed(sql, expected):
    """A trigger on any UPDATE names its columns afterwards; every other trigger stays as it is."""
    result = narrowed_trigger(sql, ["a", 'b"c'])

    if expected is None:
        assert (
            result
            == 'CREATE TRIGGER "UPDATE" BEFORE update OF "a", "b""c" /* ON */ ON t BEGIN SELECT 1; END'
        )
    else:
        assert result == (expected or sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "CREATE VIEW t AS SELECT 1",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE t (a",
        "CREATE TABLE t (a,)",
        "CREATE TABLE t (UNIQUE (a), b)",
        "CREATE TABLE t (a) WITH",
        "CREATE TABLE t (a 'unfinished)",
        "",
    ],
)
def test_anything_else_is_not_understood(sql):
    """A statement that is not an ordinary table's is refused, never guessed at."""
    with pytest.raises(ConfigurationError):
        parse_table(sql)


def test_names_fold_ascii_letters_only():
    """SQLite takes E and e for one letter, and É and é for two."""
    assert same_name("Email", "eMAIL")
    assert not same_name("É", "é")


@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda name: name.lower(),
    )
)
def test_any_name_survives_quoting_and_reading(names):
    """Whatever a column is called, SQLite and the parser read the same name back."""
    sql = f"CREATE TABLE t ({', '.join(quoted(name) + ' TEXT' for name in names)})"
    connection = sqlite3.connect(":memory:")
    connection.execute(sql)
    found = [row[1] for row in connection.execute("PRAGMA table_xinfo(t)")]
    connection.close()

    assert [column.name for column in parse_table(sql).columns] == found == names


def test_tokens_know_their_places():
    """Each token's place holds its text."""
    sql = "SELECT 'a''b', \"c\"\"d\", [e f], `g`, x'00', 1.5e3, a->>'$.b' -- end"

    assert [sql[token.start : token.end] for token in tokens(sql)] == [
        token.text for token in tokens(sql)
    ]
    assert [token.name for token in tokens(sql) if token.kind in ("string", "quoted")] == [
        "a'b",
        'c"d',
        "e f",
        "g",
        "$.b",
    ]
