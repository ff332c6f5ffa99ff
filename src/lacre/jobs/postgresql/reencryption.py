# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Re-encryption of a PostgreSQL table that others go on using.

Implements ``spec/reencryption.md``. A chunk of pages is one short transaction: its rows are locked,
those that somebody else holds left out, moved and written to the very row version that was read.
So no concurrent write is lost, and no row is moved twice. Rows that were left out, or came
meanwhile, the next pass finds.
"""

import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lacre.fields.stored import IndexTokens
from lacre.fields.tables import EncryptedColumn, EncryptedTable, TableColumn
from lacre.jobs.coverage import Aim
from lacre.jobs.pace import Pace, Reporter
from lacre.jobs.postgresql.catalogue import Catalogue, Leaf
from lacre.jobs.postgresql.chunks import Chunk, Chunks
from lacre.jobs.postgresql.connection import qualified, quoted, run, transaction
from lacre.jobs.postgresql.lag import Replicas
from lacre.jobs.reencryption import TableJob, Tally

__all__ = ["Passes", "Sample", "counted", "sampled"]

_SAMPLE = 500
_WRITES = 2.5  # an UPDATE beside an INSERT without WAL or indexes, near enough
_LOGGED = 60  # bytes of write-ahead log for a row and for each of its index entries, near enough

_HEADS = r"'\xc101'::pg_catalog.bytea"


def counted(
    connection: Any, table: EncryptedTable
) -> dict[EncryptedColumn, dict[bytes | None, int]]:
    """Return how many values of each column of *table* are under which key; None: no lacre values."""
    source = catalogue_of(connection, table).sql
    found = {}
    for column in table.columns:
        name = quoted(column.name)
        rows = run(
            connection,
            f"SELECT CASE WHEN {_is_value(name)} THEN substring({name} FROM 4 FOR 16) END, count(*) "
            f"FROM {source} WHERE {name} IS NOT NULL GROUP BY 1",
            binary=True,
        )
        found[column] = {None if key is None else bytes(key): count for key, count in rows}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """So many rows were moved in so many seconds; *row_bytes* of write-ahead log each, about."""

    rows: int
    seconds: float
    row_bytes: int


def sampled(connection: Any, job: TableJob, clock: Callable[[], float]) -> Sample:
    """Move a sample of rows into a temporary table, which is thrown away."""
    catalogue = catalogue_of(connection, job.table)
    statements = _Statements(job, catalogue)
    names = [f"c{at}" for at in range(len(job.writes))]
    size = run(
        connection,
        "SELECT (pg_relation_size(c.oid) / greatest(c.reltuples, 1))::int8 + %s * (1 + (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid)) "
        "FROM pg_class c WHERE c.oid = %s",
        (_LOGGED, catalogue.oid),
    ).fetchone()[0]
    with transaction(connection):
        columns = ", ".join(f"{name} pg_catalog.bytea" for name in names)
        run(connection, f"CREATE TEMPORARY TABLE lacre_sample ({columns}) ON COMMIT DROP")
        found: list[Any] = []
        began = clock()
        for leaf in catalogue.leaves():
            sql, parameters = statements.reading(leaf, "LIMIT %s")
            found += run(connection, sql, [*parameters, _SAMPLE - len(found)], binary=True)
            if len(found) >= _SAMPLE:
                break
        if not found:
            return Sample(rows=0, seconds=0.0, row_bytes=size)
        made = job.page([row[1:] for row in map(statements.parts, found)]).made
        read = clock()
        arrays = ", ".join("%b::bytea[]" for _ in names)
        run(
            connection,
            f"INSERT INTO pg_temp.lacre_sample SELECT * FROM unnest({arrays})",
            _columns([values for values in made if values is not None], len(names)),
        )
        seconds = read - began + (clock() - read) * _WRITES
        return Sample(rows=len(found), seconds=seconds, row_bytes=size)


def catalogue_of(connection: Any, table: EncryptedTable) -> Catalogue:
    return Catalogue(connection, f"{table.schema or 'public'}.{table.name}")


def _is_value(name: str) -> str:
    return f"(octet_length({name}) >= 91 AND substring({name} FROM 1 FOR 2) = {_HEADS})"


class Passes:
    """
    Passes over one table, by this process; others may be at the same.

    Args:
        connect: makes a connection.
        total: rows to be moved, for the progress.
    """

    def __init__(
        self,
        reencrypting: TableJob,
        pace: Pace,
        connect: Callable[[], Any],
        *,
        tally: Tally,
        total: int,
    ) -> None:
        self._job = reencrypting
        self._pace = pace
        self._connect = connect
        self._tally = tally
        self._replicas = Replicas(pace)
        self._moving = threading.Semaphore(pace.workers)
        self._report = Reporter(pace, "reencrypt", total=total, done=0)
        with connect() as connection:
            self._catalogue = catalogue_of(connection, reencrypting.table)
            self._leaves = {leaf.oid: leaf for leaf in self._catalogue.leaves()}
        self._sql = _Statements(reencrypting, self._catalogue)

    def run(self) -> None:
        """Pass over the whole table once, beside whoever else does."""
        failed = threading.Event()

        def worker(connection: Any) -> None:
            try:
                self._work(connection, chunks, failed)
            except BaseException:
                failed.set()
                raise

        with ExitStack() as stack:
            first = stack.enter_context(self._connect())
            catalogue = catalogue_of(first, self._job.table)
            chunks = Chunks(catalogue, " ".join(self._job.writes), batch=self._pace.batch)
            # One more than asked for, of which only so many read and move: while PostgreSQL writes
            # what one has moved, the processor is another's.
            more = min(self._pace.workers, chunks.list_if_none(first) - 1)
            if more < 1:
                worker(first)
                return
            connections = [first, *(stack.enter_context(self._connect()) for _ in range(more))]
            pool = stack.enter_context(ThreadPoolExecutor(len(connections)))
            stack.callback(failed.set)  # whoever is interrupted here waits for batches, not for all
            # Each thread acts as whoever runs the job.
            running = [
                pool.submit(contextvars.copy_context().run, worker, connection)
                for connection in connections
            ]
            for one in running:
                one.result()

    def _work(self, connection: Any, chunks: Chunks, failed: threading.Event) -> None:
        # Flushed by the job itself, batch by batch. Replicas are not waited for: what a failover
        # takes back is still under the old key, which decrypts.
        run(connection, "SET synchronous_commit = 'local'")
        after: Chunk = (0, -1, 0)
        while not failed.is_set():
            self._replicas.wait(connection)
            found = self._chunk(connection, chunks, after)
            if found is not None:
                after = found
            elif chunks.left(connection):
                chunks.wait(connection)
            else:
                return

    def _chunk(self, connection: Any, chunks: Chunks, after: Chunk) -> Chunk | None:
        import psycopg

        try:
            try:
                return self._moved(connection, chunks, after, self._update)
            except psycopg.errors.UniqueViolation:
                # Seldom, so that all other batches need no savepoint. Claimed again, row by row.
                return self._moved(connection, chunks, after, self._update_each)
        except psycopg.errors.DeadlockDetected:
            return after  # others have gone first; the chunk is claimed again

    def _moved(
        self, connection: Any, chunks: Chunks, after: Chunk, update: Callable[..., int]
    ) -> Chunk | None:
        with transaction(connection):
            with self._moving:
                chunk = chunks.claim(connection, after)
                if chunk is None:
                    return None
                leaf = self._leaves.get(chunk[0])
                rows = [] if leaf is None else self._locked(connection, leaf, chunk)
                if leaf is None or not rows:
                    return chunk
                page = self._job.page([row[1:] for row in rows])
            self._job.record(page)
            changed = [
                (row, values)
                for row, values in zip(rows, page.made, strict=True)
                if values is not None
            ]
            written = update(connection, self._sql.writing(leaf), changed) if changed else 0
        page.count(self._tally, written=written, rows=len(rows))
        self._report(written)
        return chunk

    def _locked(self, connection: Any, leaf: Leaf, chunk: Chunk) -> list[Any]:
        _, first, last = chunk
        statements = self._sql
        # Left out: what somebody else is about to write. Another pass comes.
        sql, keys = statements.reading(
            leaf, f"{statements.between} FOR NO KEY UPDATE OF {statements.me} SKIP LOCKED"
        )
        parameters = [*keys, f"({first},0)", f"({last},0)"]
        found = run(connection, sql, parameters, binary=True).fetchall()
        return [statements.parts(row) for row in found]

    def _update(self, connection: Any, sql: str, changed: Sequence[tuple[Any, Any]]) -> int:
        parameters = [
            [row[0] for row, _ in changed],
            *_columns([values for _, values in changed], len(self._job.writes)),
        ]
        return int(run(connection, sql, parameters).rowcount)

    def _update_each(self, connection: Any, sql: str, changed: Sequence[tuple[Any, Any]]) -> int:
        import psycopg

        written = 0
        for one in changed:
            try:
                with connection.transaction():
                    written += self._update(connection, sql, [one])
            except psycopg.errors.UniqueViolation:
                self._tally.duplicate(self._job.writes, self._job.table.row_text(one[0][1]))
        return written

    def stale(self) -> int:
        """Read every row, write nothing, and return how many would be written, or failed."""
        found = 0
        with self._connect() as connection:
            catalogue = catalogue_of(connection, self._job.table)
            chunks = Chunks(catalogue, "", batch=self._pace.batch)
            leaves = {leaf.oid: leaf for leaf in catalogue.leaves()}
            for oid, first, last in list(chunks.ranges(connection)):
                sql, keys = self._sql.reading(leaves[oid], self._sql.between)
                rows = run(connection, sql, [*keys, f"({first},0)", f"({last},0)"], binary=True)
                page = self._job.page([self._sql.parts(row)[1:] for row in rows])
                found += sum(values is not None for values in page.made)
                page.count(self._tally, written=0, rows=0)
        return found


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[_bound(row[at]) for row in rows] for at in range(width)]


def _bound(value: Any) -> Any:
    # Arrays as text, since unnest of an array of arrays would give their numbers one by one.
    if not isinstance(value, IndexTokens | list):
        return value
    numbers = value.numbers if isinstance(value, IndexTokens) else value
    return "{" + ",".join("NULL" if each is None else str(each) for each in numbers) + "}"


class _Statements:
    """The statements of one table, for any of its leaves."""

    def __init__(self, job: TableJob, catalogue: Catalogue) -> None:
        self._job = job
        self._table = table = job.table
        self._catalogue = catalogue
        self.me = quoted(table.name)
        self.between = f"AND {self.me}.ctid >= %s::tid AND {self.me}.ctid < %s::tid"
        self._key = 1 + len(table.row)
        self._of_tenant = table.tenant is not None

    def reading(self, leaf: Leaf, rest: str) -> tuple[str, list[Any]]:
        """Return the query of what is to be moved, ended by *rest*, and its first parameters."""
        table, me = self._table, self.me
        wanted = [_expression(column) for column in table.row]
        if table.tenant is not None:
            wanted.append(_expression(table.tenant))
        names = [_expression(column) for column in self._job.reads]
        meant = " OR ".join(
            _meant(f"{me}.{quoted(aim.column.name)}", aim) for aim in self._job.aims
        )
        source = f"ONLY {leaf.sql} AS {me}"
        for join in table.joins:
            on = " AND ".join(
                f"{_expression(one)} = {_expression(other)}" for one, other in join.on
            )
            schema = join.schema or self._catalogue.schema
            source += f" JOIN {qualified(schema, join.name)} AS {quoted(join.name)} ON {on}"
        columns = ", ".join([f"{me}.ctid::text", *wanted, *names])
        sql = f"SELECT {columns} FROM {source} WHERE ({meant}) {rest}"
        return sql, [list(aim.keys) for aim in self._job.aims if aim.keys is not None]

    def parts(self, row: Sequence[Any]) -> tuple[str, Sequence[Any], Any, Sequence[Any]]:
        """Return ctid, row id, tenant and values of a row that was read."""
        tenant = row[self._key] if self._of_tenant else None
        return row[0], row[1 : self._key], tenant, row[-len(self._job.reads) :]

    def writing(self, leaf: Leaf) -> str:
        # By ctid, which is of one version of a row: had anybody written it since it was read and
        # locked, it would not be found. That is the compare-and-swap, and more than one of values.
        several = [name in self._job.several for name in self._job.writes]
        names = [quoted(name) for name in self._job.writes]
        sets = ", ".join(
            f"{name} = v.c{at}{'::integer[]' if several[at] else ''}"
            for at, name in enumerate(names)
        )
        kinds = ("text" if many else "bytea" for many in several)
        arrays = ", ".join(["%b::text[]::tid[]", *(f"%b::{kind}[]" for kind in kinds)])
        listed = ", ".join(["at", *(f"c{at}" for at in range(len(names)))])
        return f"UPDATE ONLY {leaf.sql} AS t SET {sets} FROM unnest({arrays}) AS v({listed}) WHERE t.ctid = v.at"


def _expression(column: TableColumn) -> str:
    return f"{quoted(column.table)}.{quoted(column.name)}"


def _meant(name: str, aim: Aim) -> str:
    if aim.keys is None:
        return f"{name} IS NOT NULL"
    plain = f" OR ({name} IS NOT NULL AND NOT {_is_value(name)})" if aim.plaintext else ""
    return f"substring({name} FROM 4 FOR 16) = ANY(%b::bytea[]){plain}"
