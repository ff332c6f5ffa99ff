# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Passes over a table that others go on using: fill the companion columns, and check them.

Implements ``spec/protect-sqlite.md``, section "Fill". Each batch is read without a lock,
converted without a lock, and written in one short transaction in which every row is compared
with what was read. A row that changed in between is left for the next pass.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from lacre.jobs.columns import FORM
from lacre.jobs.conversion import Conversion
from lacre.jobs.ledger import Job
from lacre.jobs.pace import Pace, Reporter
from lacre.jobs.sqlite.database import Catalogue, same_stored
from lacre.jobs.sqlite.ledger import checkpoint, still_under_way
from lacre.jobs.sqlite.schema import quoted

__all__ = ["Worker"]


class Worker:
    """One job's passes over its table."""

    def __init__(
        self, connection: sqlite3.Connection, job: Job, conversion: Conversion, pace: Pace
    ) -> None:
        self._connection = connection
        self._job = job
        self._conversion = conversion
        self._pace = pace
        self._catalogue = Catalogue(connection, job.table)
        self._table = quoted(job.table)
        self.lost_races = 0
        key = [quoted(name) for name in job.key.columns]
        cursor = [quoted(name) for name in self._catalogue.cursor]
        sources = [quoted(name) for name in conversion.sources]
        targets = [quoted(name) for name in conversion.targets]
        self._cut = (len(cursor), len(cursor) + len(key), len(cursor) + len(key) + len(sources))
        self._after = f"({', '.join(cursor)}) > ({', '.join('?' for _ in cursor)})"
        self._order = ", ".join(cursor)
        self._read = ", ".join([*cursor, *key, *sources])
        self._read_all = ", ".join([*cursor, *key, *sources, *targets])
        self._update = self._update_sql(cursor, key, sources, targets)

    def _update_sql(
        self, cursor: list[str], key: list[str], sources: list[str], targets: list[str]
    ) -> str:
        numbers = iter(range(1, 1000))
        sets = [f"{name} = ?{next(numbers)}" for name in targets]
        if self._job.key.added:
            sets.append(f"{key[0]} = ?{next(numbers)}")
        # Compare-and-swap: the row is still unmarked, still has its id, and each plaintext is
        # what was encrypted, storage class and all.
        where = [f"{name} = ?{next(numbers)}" for name in cursor]
        where += [same_stored(name, f"?{next(numbers)}") for name in [*key, *sources]]
        return f"UPDATE {self._table} SET {', '.join(sets)}, {FORM} = 1 WHERE {FORM} IS NULL AND {' AND '.join(where)}"

    def fill(self) -> None:
        """Pass over the unmarked rows until few enough are left for the switch-over's lock."""
        progress = self._reporter("fill", f"{FORM} IS NOT NULL")
        while self._pass(progress, locked=False) > self._pace.batch:
            continue

    def catch_up(self) -> None:
        """Fill every row that is left, inside the caller's transaction."""
        progress = self._reporter("switch over", f"{FORM} IS NOT NULL")
        while self._pass(progress, locked=True):
            continue

    def verify(self) -> None:
        """
        Convert every marked row back and compare.

        Raises:
            Tampered: a row whose two forms differ.
        """
        progress = self._reporter("verify", "0")
        width = self._cut[2]
        for page in self._pages(self._read_all, f"{FORM} IS 1"):
            rows = [
                (self._job.key.text(row[self._cut[0] : self._cut[1]]), row[self._cut[1] : width])
                for row in page
            ]
            self._conversion.check(rows, [row[width:] for row in page])
            progress(len(page))

    def _pages(self, read: str, condition: str) -> Iterator[list[Any]]:
        """Yield the rows that meet *condition*, in the order of their keys: one scan, however large."""
        position: tuple[Any, ...] = ()
        while True:
            where = f"{condition} AND {self._after}" if position else condition
            sql = f"SELECT {read} FROM {self._table} WHERE {where} ORDER BY {self._order} LIMIT ?"
            page = self._connection.execute(sql, (*position, self._pace.batch)).fetchall()
            if not page:
                return
            position = tuple(page[-1][: self._cut[0]])
            yield page

    def _pass(self, progress: Callable[[int], None], *, locked: bool) -> int:
        seen = 0
        for page in self._pages(self._read, f"{FORM} IS NULL"):
            seen += len(page)
            updates = self._updates(page)
            written = self._write(page, updates) if locked else self._transaction(page, updates)
            self.lost_races += len(page) - written
            progress(written)
        return seen

    def _updates(self, page: list[Any]) -> list[tuple[Any, ...]]:
        first, second, _ = self._cut
        keys = [list(row[first:second]) for row in page]
        ids = [self._named(key) for key in keys]
        rows = [
            (self._job.key.text(name), row[second:]) for name, row in zip(ids, page, strict=True)
        ]
        made = self._conversion.convert(rows)
        added = self._job.key.added
        return [
            (*targets, *(name if added else ()), *row[:first], *key, *row[second:])
            for targets, name, key, row in zip(made, ids, keys, page, strict=True)
        ]

    def _named(self, key: list[Any]) -> list[Any]:
        # A random UUID: bound into the ciphertext, so it must never name another row later.
        return [uuid4().hex] if self._job.key.added and key == [None] else key

    def _transaction(self, page: list[Any], updates: list[tuple[Any, ...]]) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            written = self._write(page, updates)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            raise
        return written

    def _write(self, page: list[Any], updates: list[tuple[Any, ...]]) -> int:
        still_under_way(self._connection, self._job)
        written = self._connection.executemany(self._update, updates).rowcount
        checkpoint(self._connection, self._job, page[-1][: self._cut[0]], written)
        return written

    def _reporter(self, phase: str, already: str) -> Callable[[int], None]:
        total, done = self._connection.execute(
            f"SELECT count(*), coalesce(sum({already}), 0) FROM {self._table}"
        ).fetchone()
        return Reporter(self._pace, phase, total=total, done=done)
