# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Re-encryption of a table of an SQLite database that others go on using: one worker, batch by batch.

Implements ``spec/reencryption.md``. A batch is one transaction that holds SQLite's only write lock
from before it reads: so what is written is what was read, moved.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lacre.errors import MisuseError
from lacre.fields.stored import IndexTokens
from lacre.fields.tables import EncryptedColumn, EncryptedTable, TableColumn
from lacre.jobs.coverage import Aim
from lacre.jobs.pace import Pace, Reporter
from lacre.jobs.reencryption import TableJob, Tally
from lacre.jobs.sqlite.database import opened
from lacre.jobs.sqlite.schema import quoted

__all__ = ["Passes", "counted", "sampled"]

_SAMPLE = 500


def counted(
    connection: sqlite3.Connection, table: EncryptedTable
) -> dict[EncryptedColumn, dict[bytes | None, int]]:
    """Return how many values of each column of *table* are under which key; None: no lacre values."""
    found = {}
    for column in table.columns:
        name = quoted(column.name)
        rows = connection.execute(
            f"SELECT CASE WHEN {_is_value(name)} THEN substr({name}, 4, 16) END, count(*) "
            f"FROM {quoted(table.name)} WHERE {name} IS NOT NULL GROUP BY 1"
        )
        found[column] = dict(rows.fetchall())
    return found


def _is_value(name: str) -> str:
    return f"(typeof({name}) = 'blob' AND length({name}) >= 91 AND substr({name}, 1, 2) = x'C101')"


def sampled(
    connection: sqlite3.Connection, job: TableJob, clock: Callable[[], float]
) -> tuple[int, float]:
    """Move a sample of rows, write nothing, and return how many there were and the seconds they took."""
    _list_keys(connection, job)
    began = clock()
    found = _page(connection, job, (), _SAMPLE)
    job.page([row[1:] for row in found])
    return len(found), (clock() - began) * 2


_Found = tuple[Sequence[Any], Sequence[Any], Any, Sequence[Any]]  # key, row id, tenant, values


def _list_keys(connection: sqlite3.Connection, job: TableJob) -> None:
    # Temporary tables: there may be more keys than a statement takes parameters.
    for at, aim in enumerate(job.aims):
        if aim.keys is None:
            continue
        connection.execute(f"CREATE TEMP TABLE lacre_aim_{at} (key BLOB PRIMARY KEY)")
        connection.executemany(
            f"INSERT INTO temp.lacre_aim_{at} VALUES (?)", [(key,) for key in aim.keys]
        )


def _page(
    connection: sqlite3.Connection, job: TableJob, after: Sequence[Any], limit: int
) -> list[_Found]:
    table = job.table
    me = quoted(table.name)
    key = [f"{me}.{quoted(name)}" for name in table.key]
    wanted = [*key, *map(_expression, table.row)]
    if table.tenant is not None:
        wanted.append(_expression(table.tenant))
    names = [_expression(column) for column in job.reads]
    meant = " OR ".join(
        _meant(f"{me}.{quoted(aim.column.name)}", at, aim) for at, aim in enumerate(job.aims)
    )
    source = me
    for join in table.joins:
        on = " AND ".join(f"{_expression(one)} = {_expression(other)}" for one, other in join.on)
        source += f" JOIN {quoted(join.name)} ON {on}"
    later = f"({', '.join(key)}) > ({', '.join('?' for _ in key)}) AND " if after else ""
    rows = connection.execute(
        f"SELECT {', '.join([*wanted, *names])} FROM {source} "
        f"WHERE {later}({meant}) ORDER BY {', '.join(key)} LIMIT ?",
        [*after, limit],
    )
    keys, ids, of_tenant = len(key), len(key) + len(table.row), table.tenant is not None
    return [
        (row[:keys], row[keys:ids], row[ids] if of_tenant else None, row[-len(names) :])
        for row in rows
    ]


def _meant(name: str, at: int, aim: Aim) -> str:
    if aim.keys is None:
        return f"{name} IS NOT NULL"
    plain = f" OR ({name} IS NOT NULL AND NOT {_is_value(name)})" if aim.plaintext else ""
    return f"substr({name}, 4, 16) IN (SELECT key FROM temp.lacre_aim_{at}){plain}"


class Passes:
    """Passes over one table; see `lacre.jobs.postgresql.reencryption`."""

    def __init__(
        self, reencrypting: TableJob, pace: Pace, path: Path, *, tally: Tally, total: int
    ) -> None:
        if pace.workers != 1:
            raise MisuseError("SQLite has one writer, so one worker", hint="leave --workers out")
        self._job = reencrypting
        self._pace = pace
        self._path = path
        self._tally = tally
        self._report = Reporter(pace, "reencrypt", total=total, done=0)

    def run(self) -> None:
        """Pass over the whole table once, in the order of its primary key."""
        with closing(opened(self._path)) as connection:
            _list_keys(connection, self._job)
            after: Sequence[Any] | None = ()
            while after is not None:
                after = self._batch(connection, after)

    def _batch(self, connection: sqlite3.Connection, after: Sequence[Any]) -> Sequence[Any] | None:
        """Move the next rows; return the key of the last, or None behind the last of all."""
        with _writing(connection):
            found = _page(connection, self._job, after, self._pace.batch)
            if not found:
                return None
            page = self._job.page([row[1:] for row in found])
            self._job.record(page)
            written = self._write(connection, found, page.made)
        page.count(self._tally, written=written, rows=len(found))
        self._report(written)
        return found[-1][0]

    def _write(
        self,
        connection: sqlite3.Connection,
        found: Sequence[_Found],
        made: Sequence[Sequence[Any] | None],
    ) -> int:
        table, job = self._job.table, self._job
        sets = ", ".join(f"{quoted(name)} = ?" for name in job.writes)
        where = [f"{quoted(name)} = ?" for name in table.key]
        own = [column for column in job.reads if column.table == table.name]
        where += [f"{quoted(column.name)} IS ?" for column in own]  # what was read is replaced
        sql = f"UPDATE {quoted(table.name)} SET {sets} WHERE {' AND '.join(where)}"
        written = 0
        for (key, row, _, before), values in zip(found, made, strict=True):
            if values is None:
                continue
            pairs = zip(job.reads, before, strict=True)
            held = [value for column, value in pairs if column.table == table.name]
            try:
                written += connection.execute(sql, [*map(_bound, values), *key, *held]).rowcount
            except sqlite3.IntegrityError:
                self._tally.duplicate(job.writes, table.row_text(row))
        return written

    def stale(self) -> int:
        """Read every row, write nothing, and return how many would be written, or failed."""
        found = 0
        after: Sequence[Any] = ()
        with closing(opened(self._path)) as connection:
            _list_keys(connection, self._job)
            while rows := _page(connection, self._job, after, self._pace.batch):
                page = self._job.page([row[1:] for row in rows])
                found += sum(values is not None for values in page.made)
                page.count(self._tally, written=0, rows=0)
                after = list(rows[-1][0])
        return found


def _bound(value: Any) -> Any:
    # Of several tokens: as `lacre.sqlalchemy.types.TokensType` writes them.
    return (
        json.dumps(value.numbers, separators=(",", ":"))
        if isinstance(value, IndexTokens)
        else value
    )


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _expression(column: TableColumn) -> str:
    return f"{quoted(column.table)}.{quoted(column.name)}"
