# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
The schema's steps of a job: companion columns at the start, the rebuilt table at the end.

Implements ``spec/protect-sqlite.md``, sections "Prepare" and "Switch over". Each function runs
inside the caller's transaction, except `clean`. Does not convert values.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lacre.errors import ConfigurationError, DuplicateValue, MisuseError
from lacre.jobs.columns import FORM, RID, RowKey
from lacre.jobs.ledger import Job, Objects
from lacre.jobs.sqlite.database import Catalogue, same_stored
from lacre.jobs.sqlite.schema import quoted, same_name

__all__ = [
    "add_companions",
    "changed_meanwhile",
    "clean",
    "no_duplicates",
    "own_programs",
    "rebuild",
    "refusing",
    "table_sql",
    "transaction",
]

_OLD = "lacre_old"


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """A write transaction, rolled back on any exception."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextmanager
def refusing(table: str) -> Iterator[None]:
    """Turn what SQLite raises into lacre's errors. Its messages name columns, not values."""
    failure: ConfigurationError | None = None
    try:
        yield
    except sqlite3.Error as error:
        failure = ConfigurationError(
            f"SQLite refused while working on {table}: {error}",
            hint="nothing is lost: run the same command again to go on from the last batch",
        )
    if failure is not None:
        raise failure


def add_companions(
    catalogue: Catalogue,
    sources: Sequence[str],
    targets: Sequence[str],
    key: RowKey,
    narrowed: Iterable[tuple[str, str]],
) -> None:
    """
    Add the companion columns, the marker, the row id if needed, and the trigger that unmarks.

    Args:
        sources: the columns whose other form the companions *targets* hold.
        narrowed: triggers of the table (name, sql) that must not see the new columns change.
    """
    run = catalogue.connection.execute
    table = quoted(catalogue.table)
    # ANY stores what it is given, as a BLOB column does outside STRICT tables.
    kind = "ANY" if catalogue.text.strict else "BLOB"
    for name in targets:
        run(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")
    run(f"ALTER TABLE {table} ADD COLUMN {FORM} INTEGER")
    if key.added:
        run(f"ALTER TABLE {table} ADD COLUMN {RID} TEXT")
        run(f"CREATE UNIQUE INDEX {quoted(f'{catalogue.table}_{RID}')} ON {table} ({RID})")
    for name, sql in narrowed:
        run(f"DROP TRIGGER {quoted(name)}")
        run(sql)
    run(_unmarking(catalogue, sources, key))


def _unmarking(catalogue: Catalogue, sources: Sequence[str], key: RowKey) -> str:
    """
    The trigger that takes the marker off a row whose companions no longer fit.

    A writer who knows of lacre gives a changed value a new companion in the same statement, and
    no two ciphertexts are ever equal. So a value that changed beside an unchanged companion was
    written by one who does not; so was a changed row id, to which the companions are bound.
    """
    moved = " OR ".join(
        f"NOT {same_stored('NEW.' + quoted(name), 'OLD.' + quoted(name))}" for name in key.columns
    )
    stale = []
    for name in sources:
        changed = f"NOT {same_stored('NEW.' + quoted(name), 'OLD.' + quoted(name))}"
        companion = f"{quoted(name + '_lacre')}"
        kept = same_stored("NEW." + companion, "OLD." + companion)
        stale.append(f"({kept} AND ({changed} OR (NEW.{companion} IS NOT NULL AND ({moved}))))")
    where = " AND ".join(f"{quoted(name)} IS NEW.{quoted(name)}" for name in catalogue.cursor)
    watched = ", ".join(quoted(name) for name in dict.fromkeys([*sources, *key.columns]))
    table = quoted(catalogue.table)
    return (
        f"CREATE TRIGGER {quoted(f'{catalogue.table}_{FORM}')} AFTER UPDATE OF {watched} ON {table} "
        f"WHEN NEW.{FORM} IS NOT NULL AND ({' OR '.join(stale)}) "
        f"BEGIN UPDATE {table} SET {FORM} = NULL WHERE {where}; END"
    )


def rebuild(
    connection: sqlite3.Connection,
    job: Job,
    *,
    new_sql: str,
    values: Mapping[str, str],
    programs: Objects,
    indexes: Sequence[str],
) -> Objects:
    """
    Replace the table by one made with *new_sql*, and return its definitions.

    SQLite's documented procedure for changes that ALTER TABLE cannot make, except that the old
    table is renamed instead of the new one: so the new definition is kept exactly as written,
    which the way back needs. Renaming first is safe only with `legacy_alter_table` on and
    foreign keys off, when SQLite leaves every reference to the table as it is; that nothing else
    in the schema changed is checked before the commit.

    Args:
        values: for columns of the new table that get another column's values, that column.
        programs: triggers to make on the new table.
        indexes: statements that make its indexes.
    """
    run = connection.execute
    before = Catalogue(connection, job.table)
    if before.objects() != list(job.prepared):
        raise changed_meanwhile(job)
    others = before.other_objects()
    dangling = _dangling(connection)
    (rows,) = run(f"SELECT count(*) FROM {quoted(job.table)}").fetchone()
    sequence = _sequence(connection, job.table)
    run(f"ALTER TABLE {quoted(job.table)} RENAME TO {_OLD}")
    run(new_sql)
    after = Catalogue(connection, job.table)
    into = list(after.insertable)
    chosen = [values.get(name, name) for name in into]
    if after.rowid is not None and not after.aliases_rowid and before.rowid is not None:
        into.insert(0, after.rowid)
        chosen.insert(0, before.rowid)
    columns, expressions = (", ".join(quoted(name) for name in names) for names in (into, chosen))
    # Before the triggers exist, so that none of them fires.
    run(f"INSERT INTO {quoted(job.table)} ({columns}) SELECT {expressions} FROM {_OLD}")
    run(f"DROP TABLE {_OLD}")
    for sql in indexes:
        run(sql)
    for _, _, sql in programs:
        run(sql)
    _restore_sequence(connection, job.table, sequence)
    _same_everything(connection, job, after, others, dangling, rows)
    return tuple(after.objects())


def _same_everything(
    connection: sqlite3.Connection,
    job: Job,
    after: Catalogue,
    others: list[tuple[object, ...]],
    dangling: object,
    rows: int,
) -> None:
    run = connection.execute
    (now,) = run(f"SELECT count(*) FROM {quoted(job.table)}").fetchone()
    failed = []
    if now != rows:
        failed.append("the number of rows")
    if after.other_objects() != others:
        failed.append("other tables' definitions")
    if _dangling(connection) != dangling:
        failed.append("foreign keys")
    if run("PRAGMA integrity_check").fetchall() != [("ok",)]:
        failed.append("the integrity check")
    if failed:
        raise MisuseError(
            f"the rebuilt {job.table} differs in {', '.join(failed)}; nothing was changed",
            hint="please report the table's definition",
        )


def _dangling(connection: sqlite3.Connection) -> object:
    """Foreign keys that lead nowhere, before us or after: the same set, or the same complaint."""
    try:
        # Without the rowid, which a rebuilt table without a whole-number key may renumber.
        return sorted(
            (row[0], row[2], row[3])
            for row in connection.execute("PRAGMA foreign_key_check").fetchall()
        )
    except sqlite3.OperationalError as error:
        return str(error)


def _sequence(connection: sqlite3.Connection, table: str) -> list[tuple[int]] | None:
    if (
        connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone()
        is None
    ):
        return None
    return connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchall()


def _restore_sequence(
    connection: sqlite3.Connection, table: str, sequence: list[tuple[int]] | None
) -> None:
    if sequence is not None:
        connection.execute("DELETE FROM sqlite_sequence WHERE name IN (?, ?)", (table, _OLD))
        connection.executemany(
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
            [(table, seq) for (seq,) in sequence],
        )


def no_duplicates(connection: sqlite3.Connection, job: Job) -> None:
    """
    Raise where two rows have one value of a unique column: a blind index would refuse them.

    Raises:
        DuplicateValue: names the rows.
    """
    names = ", ".join(quoted(name) for name in job.key.columns)
    for column in job.columns:
        if not column.unique:
            continue
        table, rows = quoted(job.table), []
        for bidx in map(quoted, column.token_names):
            rows += connection.execute(
                f"SELECT {names} FROM {table} WHERE {FORM} IS 1 AND {bidx} IN "
                f"(SELECT {bidx} FROM {table} WHERE {FORM} IS 1 AND {bidx} IS NOT NULL GROUP BY {bidx} HAVING count(*) > 1) LIMIT 10"
            ).fetchall()
        if rows:
            raise DuplicateValue(
                f"{column.name} is unique, and rows {', '.join(job.key.text(row) for row in rows)} hold the same value once normalised",
                hint="correct these rows, then run the same command again",
            )


def clean(
    connection: sqlite3.Connection,
    *,
    wait: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Rewrite the file, and empty the write-ahead log: no page that was freed keeps anything.

    Raises:
        ConfigurationError: a reader holds on to the old content.
    """
    connection.execute("VACUUM")
    until = clock() + wait
    # In other journal modes this does nothing and reports no reader.
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if clock() > until:
            raise ConfigurationError(
                "a reader keeps an old copy of the data alive in the write-ahead log",
                hint="end that program, then run the same command again",
            )
        sleep(0.1)


def changed_meanwhile(job: Job) -> MisuseError:
    return MisuseError(
        f"somebody changed the definition of {job.table} while the job was under way",
        hint="undo that change, then run the same command again",
    )


def own_programs(objects: Objects, kind: str) -> Objects:
    return tuple(item for item in objects if item[0] == kind)


def table_sql(objects: Objects, table: str) -> str:
    return next(sql for kind, name, sql in objects if kind == "table" and same_name(name, table))
