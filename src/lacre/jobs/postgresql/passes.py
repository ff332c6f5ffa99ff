# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Passes over a table that others go on using: fill the companion columns, and check them.

Implements ``spec/protect-postgresql.md``, section "Fill". Each batch is one short transaction: its
rows are locked, those that somebody else holds left out, converted and written.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from lacre.errors import DuplicateValue, LacreError, MisuseError
from lacre.jobs.columns import FORM, RID
from lacre.jobs.conversion import Conversion
from lacre.jobs.ledger import Job
from lacre.jobs.pace import Pace, Reporter
from lacre.jobs.postgresql.catalogue import Catalogue, Leaf
from lacre.jobs.postgresql.connection import quoted, run, transaction
from lacre.jobs.postgresql.lag import Replicas
from lacre.jobs.postgresql.ledger import still_under_way
from lacre.jobs.postgresql.values import read_as, written_as

__all__ = ["Worker"]

_MANY = 200  # rows of a block at most, near enough, where nobody ever counted


class Worker:
    """
    One job's passes over its table.

    Args:
        connect: makes connections for further threads.
    """

    def __init__(
        self,
        connection: Any,
        catalogue: Catalogue,
        job: Job,
        conversion: Conversion,
        pace: Pace,
        connect: Callable[[], Any],
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._job = job
        self._conversion = conversion
        self._pace = pace
        self._connect = connect
        self._replicas = Replicas(pace)
        self._added = job.key.added
        self._counting = threading.Lock()
        self.lost_races = self.written = 0
        key = [quoted(name) for name in job.key.columns]
        sources = [read_as(quoted(name), catalogue.column(name)) for name in conversion.sources]
        targets = [read_as(quoted(name), catalogue.column(name)) for name in conversion.targets]
        self._cut = (1 + len(key), 1 + len(key) + len(sources))
        self._read = ", ".join(["ctid::text", *key, *sources])
        self._read_all = ", ".join([self._read, *targets])
        self._set = self._set_sql()

    def _set_sql(self) -> str:
        names = list(self._conversion.targets)
        columns = [self._catalogue.column(name) for name in names]
        sets = [
            f"{quoted(name)} = {written_as(f'v.c{at}', column)}"
            for at, (name, column) in enumerate(zip(names, columns, strict=True))
        ]
        arrays = ["%b::text[]::tid[]"]
        arrays += ["%b::bytea[]" if c.kind == "bytea" else "%b::text[]" for c in columns]
        listed = ["at", *(f"c{at}" for at in range(len(names)))]
        if self._added:
            sets.append(f"{RID} = v.rid")
            arrays.append("%b::uuid[]")
            listed.append("rid")
        return (
            f"SET {', '.join(sets)}, {FORM} = 1 FROM unnest({', '.join(arrays)}) AS v({', '.join(listed)}) "
            f"WHERE t.ctid = v.at AND t.{FORM} IS NULL"
        )

    def fill(self) -> None:
        """Pass once over the whole table, as its pages lie."""
        total = sum(column.values + column.nulls for column in self._job.columns[:1])
        report = Reporter(self._pace, "fill", total=total, done=0)

        def work(connection: Any, leaf: Leaf, first: int, last: int) -> None:
            condition = "ctid >= %s::tid AND ctid < %s::tid AND " + f"{FORM} IS NULL"
            self._replicas.wait(connection)
            self._batch(connection, leaf, condition, (_tid(first), _tid(last)), report)

        self._each(work)

    def fill_rest(self) -> int:
        """Fill what the index of unmarked rows finds, until it is less than a batch; return how much."""
        report = Reporter(self._pace, "rest", total=0, done=0)
        while True:
            seen = 0
            for leaf in self._catalogue.leaves():
                self._replicas.wait(self._connection)
                seen += self._batch(self._connection, leaf, *self._rest(), report)
            if seen < self._pace.batch:
                return seen

    def catch_up(self) -> bool:
        """
        Fill every row that is left, inside the caller's transaction, under its lock.

        Returns:
            False where it was more than a batch: too much to hold the lock for.
        """
        for leaf in self._catalogue.leaves():
            rows = self._page(self._connection, leaf, *self._rest(), lock=False)
            if len(rows) >= self._pace.batch:
                return False
            if rows and self._write(self._connection, leaf, rows) != len(rows):
                # Under this lock nobody else can have been first: what they hold would be lost.
                raise MisuseError(
                    f"a trigger of {leaf.name} keeps this job from writing rows",
                    hint="drop it, or disable it for the job's time; then run the same command again",
                )
        return True

    def _rest(self) -> tuple[str, tuple[Any, ...]]:
        return f"{FORM} IS NULL LIMIT %s", (self._pace.batch,)

    def verify(self) -> None:
        """
        Convert every marked row back and compare.

        Raises:
            Tampered: a row whose two forms differ.
        """
        total = sum(column.values + column.nulls for column in self._job.columns[:1])
        report = Reporter(self._pace, "verify", total=total, done=0)
        key, sources = self._cut

        def work(connection: Any, leaf: Leaf, first: int, last: int) -> None:
            page = run(
                connection,
                f"SELECT {self._read_all} FROM ONLY {leaf.sql} WHERE ctid >= %s::tid AND ctid < %s::tid AND {FORM} = 1",
                (_tid(first), _tid(last)),
                binary=True,
            ).fetchall()
            rows = [(self._job.key.text(row[1:key]), row[key:sources]) for row in page]
            self._conversion.check(rows, [row[sources:] for row in page])
            report(len(page))

        self._each(work)

    def _each(self, work: Callable[[Any, Leaf, int, int], None]) -> None:
        """Call *work* with every range of blocks, in as many threads as the pace allows."""
        ranges = self._ranges()
        handing = threading.Lock()
        failed = threading.Event()

        def worker(connection: Any) -> None:
            while not failed.is_set():
                with handing:
                    found = next(ranges, None)
                if found is None:
                    return
                try:
                    work(connection, *found)
                except BaseException:
                    failed.set()
                    raise

        if self._pace.workers == 1:
            worker(self._connection)
            return
        with ExitStack() as stack:
            connections = [stack.enter_context(self._connect()) for _ in range(self._pace.workers)]
            pool = stack.enter_context(ThreadPoolExecutor(self._pace.workers))
            # Each thread acts as whoever runs the job.
            running = [
                pool.submit(contextvars.copy_context().run, worker, connection)
                for connection in connections
            ]
            for one in running:
                one.result()

    def _ranges(self) -> Iterator[tuple[Leaf, int, int]]:
        for leaf in self._catalogue.leaves():
            blocks, rows = run(
                self._connection,
                "SELECT pg_relation_size(c.oid) / current_setting('block_size')::int, "
                "CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages END::float8 FROM pg_class c WHERE c.oid = %s",
                (leaf.oid,),
            ).fetchone()
            step = max(1, int(self._pace.batch / max(1.0, rows or _MANY)))
            for first in range(0, blocks, step):
                # Rows that come behind the last block meanwhile are found by their index.
                yield leaf, first, min(first + step, blocks)

    def _batch(
        self,
        connection: Any,
        leaf: Leaf,
        condition: str,
        parameters: Sequence[Any],
        report: Callable[[int], None],
    ) -> int:
        import psycopg

        try:
            # Flushed by the job itself, batch by batch: what it left unflushed, the next commit of
            # somebody else would write and wait for. Replicas are not waited for: what a failover
            # takes back was filled for nothing, and that is all.
            with transaction(connection, synchronous_commit="local"):
                rows = self._page(connection, leaf, condition, parameters, lock=True)
                if not rows:
                    return 0
                still_under_way(connection, self._job)
                written = self._write(connection, leaf, rows)
        except psycopg.errors.DeadlockDetected:
            return len(rows)  # others have gone first; the rows are found again
        with self._counting:
            self.lost_races += len(rows) - written
            self.written += written
        report(written)
        return len(rows)

    def _page(
        self, connection: Any, leaf: Leaf, condition: str, parameters: Sequence[Any], *, lock: bool
    ) -> list[Any]:
        locking = " FOR NO KEY UPDATE SKIP LOCKED" if lock else ""
        sql = f"SELECT {self._read} FROM ONLY {leaf.sql} WHERE {condition}{locking}"
        return list(run(connection, sql, parameters, binary=True).fetchall())

    def _write(self, connection: Any, leaf: Leaf, page: list[Any]) -> int:
        key, _ = self._cut
        ids = [self._named(row[1:key]) for row in page]
        rows = [(self._job.key.text(name), row[key:]) for name, row in zip(ids, page, strict=True)]
        made = self._conversion.convert(rows)
        columns = [list(column) for column in zip(*made, strict=True)]
        parameters = [[row[0] for row in page], *columns]
        if self._added:
            parameters.append([name[0] for name in ids])
        return self._update(connection, leaf, parameters, [row for row, _ in rows])

    def _update(
        self, connection: Any, leaf: Leaf, parameters: list[list[Any]], names: list[str]
    ) -> int:
        import psycopg

        failure: LacreError | None = None
        sql = f"UPDATE ONLY {leaf.sql} AS t {self._set}"
        try:
            with connection.transaction():
                return int(run(connection, sql, parameters).rowcount)
        except psycopg.errors.UniqueViolation:
            rows = [
                name
                for at, name in enumerate(names)
                if not self._takes(connection, sql, [[column[at]] for column in parameters])
            ]
            failure = DuplicateValue(
                f"a unique column of {self._job.table}: rows {', '.join(rows[:10])} hold a value that another row holds, once normalised",
                hint="correct these rows, then run the same command again",
            )
        raise failure

    def _takes(self, connection: Any, sql: str, parameters: list[list[Any]]) -> bool:
        import psycopg

        try:
            with connection.transaction():
                run(connection, sql, parameters)
        except psycopg.errors.UniqueViolation:
            return False
        return True

    def _named(self, key: Sequence[Any]) -> Sequence[Any]:
        # A random UUID: bound into the ciphertext, so it must never name another row later.
        return [uuid4()] if self._added and list(key) == [None] else key


def _tid(block: int) -> str:
    return f"({block},0)"
