# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
A table of an SQLite database, as the jobs see it: its names, its rows' ids, its connection.

Implements ``spec/protect-sqlite.md``, sections "Names" and "Row ids". Changes nothing.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lacre.errors import ConfigurationError
from lacre.jobs.columns import RID, RowKey
from lacre.jobs.sqlite.schema import TableText, parse_table, quoted, same_name

__all__ = ["Catalogue", "opened", "row_key", "same_stored"]

_BUSY_SECONDS = 60.0


def opened(path: Path) -> sqlite3.Connection:
    """
    Connect to an existing database file, and to no other: nothing run here can attach one.

    Raises:
        ConfigurationError: there is no such file, or it is not a database.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no database file {path}")
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    # Text that is no UTF-8 must arrive somehow: it is counted and refused, not a crash.
    connection.text_factory = _text
    # Definitions and triggers of the file are somebody else's. Whatever they say, they reach no
    # other file that this process may open, such as the key store.
    connection.set_authorizer(_authorized)
    try:
        # Freed pages and cells are overwritten with zeros as they are freed.
        connection.execute("PRAGMA secure_delete=ON").fetchall()
        # The rebuild drops the table; with this on that would delete its children's rows.
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigurationError(f"{path} does not open as an SQLite database: {error}") from None
    return connection


def _authorized(
    action: int, first: str | None, second: str | None, _schema: str | None, _program: str | None
) -> int:
    # VACUUM attaches a nameless file of its own; a name that is no literal arrives as None.
    if action == sqlite3.SQLITE_ATTACH and first != "":
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_DETACH:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def same_stored(one: str, other: str) -> str:
    """
    Return the SQL that asks whether two values are the same, storage class and all.

    BINARY, because a column's own collation may take two spellings for one value; the unary
    plus takes the column's affinity away, which would convert the other side first.
    """
    return f"(+{one} COLLATE BINARY IS {other} AND typeof({one}) IS typeof({other}))"


class Catalogue:
    """One table, and what SQLite says of it."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self.connection = connection
        found = connection.execute(
            "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)",
            (table,),
        ).fetchall()
        exact = [row for row in found if same_name(row[0], table)]
        if not exact:
            known = [
                row[0]
                for row in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
                )
            ]
            raise ConfigurationError(
                f"there is no table {table!r}", hint="tables: " + ", ".join(sorted(known))
            )
        self.table, kind, sql = exact[0]
        if kind != "table" or self.table.startswith("sqlite_"):
            raise ConfigurationError(
                f"{self.table} is not an ordinary table", hint="protect the table behind it"
            )
        self.text: TableText = parse_table(sql)
        # (name, type, notnull, pk, hidden); hidden 2 and 3 are generated columns.
        self.columns: list[tuple[str, str, int, int, int]] = [
            (row[1], row[2], row[3], row[5], row[6])
            for row in connection.execute(f"PRAGMA table_xinfo({quoted(self.table)})")
        ]
        self.names = tuple(column[0] for column in self.columns)
        # What we read must be what SQLite read, or nothing is edited.
        if self.names != tuple(column.name for column in self.text.columns):
            raise ConfigurationError(
                "the table's CREATE statement is not understood",
                hint="please report the definition",
            )
        self.key = tuple(
            column[0] for column in sorted(self.columns, key=lambda column: column[3]) if column[3]
        )
        self.rowid = None if self.text.without_rowid else self._rowid_name()

    def _rowid_name(self) -> str:
        for name in ("rowid", "_rowid_", "oid"):
            if self.spelt(name) is None:
                return name
        if self.aliases_rowid:
            return self.key[0]
        raise ConfigurationError(
            f"{self.table} has columns called rowid, _rowid_ and oid", hint="rename one of them"
        )

    @property
    def aliases_rowid(self) -> bool:
        """Whether the primary key is the rowid: then it has no index of its own."""
        if len(self.key) != 1 or self.text.without_rowid:
            return False
        return not any(origin == "pk" for _, _, origin, _ in self.indexes())

    @property
    def cursor(self) -> tuple[str, ...]:
        """The columns that find a row now: the rowid, or the primary key where there is none."""
        return (self.rowid,) if self.rowid is not None else self.key

    @property
    def insertable(self) -> tuple[str, ...]:
        """Every column that is stored, rather than generated."""
        return tuple(column[0] for column in self.columns if column[4] == 0)

    def spelt(self, name: str) -> str | None:
        return next((known for known in self.names if same_name(known, name)), None)

    def indexes(self) -> list[tuple[str, bool, str, bool]]:
        """(name, unique, origin, partial) of every index; origin is c, u or pk."""
        rows = self.connection.execute(f"PRAGMA index_list({quoted(self.table)})").fetchall()
        return [(row[1], bool(row[2]), row[3], bool(row[4])) for row in rows]

    def index_columns(self, index: str) -> list[tuple[str | None, str]]:
        """(column, collation) of an index's key; the column of an expression is None."""
        rows = self.connection.execute(f"PRAGMA index_xinfo({quoted(index)})").fetchall()
        return [(row[2], row[4]) for row in rows if row[5]]

    def objects(self) -> list[tuple[str, str, str]]:
        """(type, name, sql) of the table and of its own indexes and triggers, in order."""
        rows = self.connection.execute(
            "SELECT type, name, sql, tbl_name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
        )
        return [
            (kind, name, sql) for kind, name, sql, owner in rows if same_name(owner, self.table)
        ]

    def other_objects(self) -> list[tuple[Any, ...]]:
        """Everything else in the schema, exactly."""
        rows = self.connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
        )
        return [row for row in rows if not same_name(row[2], self.table)]


def row_key(catalogue: Catalogue, protected: Sequence[str]) -> RowKey:
    """Choose what names the rows of a table: its primary key, where that is known early and never reused."""
    if catalogue.spelt(RID) is not None:
        return RowKey(columns=(RID,), added=False)
    why = _unusable(catalogue, protected)
    return (
        RowKey(columns=(RID,), added=True, why=why)
        if why
        else RowKey(columns=catalogue.key, added=False)
    )


def _unusable(catalogue: Catalogue, protected: Sequence[str]) -> str:
    if not catalogue.key:
        return "the table has no primary key"
    if catalogue.aliases_rowid:
        # With AUTOINCREMENT a number is never given again, but it is not known before the INSERT
        # either, and a value is encrypted before that.
        return (
            "SQLite numbers its rows while it inserts them (AUTOINCREMENT), which is after a value is encrypted"
            if catalogue.text.autoincrement
            else "SQLite gives the number of a deleted row to a new one (no AUTOINCREMENT)"
        )
    for index, _, origin, _ in catalogue.indexes():
        if origin == "pk" and any(
            collation.upper() != "BINARY" for _, collation in catalogue.index_columns(index)
        ):
            return "the primary key takes different texts for one (its collation is not BINARY)"
    declared = {column[0]: column[1] for column in catalogue.columns}
    for name in catalogue.key:
        if not _is_text_or_integer(declared[name]):
            return f"the primary key's type {declared[name]!r} is neither text nor a whole number"
    wanted = " OR ".join(
        f"typeof({quoted(name)}) NOT IN ('integer', 'text') OR {quoted(name)} IS ''"
        for name in catalogue.key
    )
    odd = catalogue.connection.execute(
        f"SELECT 1 FROM {quoted(catalogue.table)} WHERE {wanted} LIMIT 1"
    ).fetchone()
    return "some primary keys are NULL, empty or no text" if odd else ""


def _is_text_or_integer(declared: str) -> bool:
    upper = declared.upper()
    return "INT" in upper or any(part in upper for part in ("CHAR", "CLOB", "TEXT"))
