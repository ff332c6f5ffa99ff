# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
Chunks of a table's pages, handed to workers on any number of machines by PostgreSQL alone.

A chunk is claimed with SKIP LOCKED and taken off the list in the transaction that writes its rows:
a worker that is killed leaves the chunk and the rows as they were, and the list never says more
than the data does. What the list says is not believed further than that: it names pages, and a
chunk that somebody removes is found again by the next pass. Implements ``spec/reencryption.md``,
section "Workers".
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import qualified, run, transaction
from lacre.jobs.postgresql.ledger import is_there

__all__ = ["CHUNK", "Chunk", "Chunks"]

CHUNK = "lacre_chunk"  # the table that lists what is still to be done
_COLUMNS = {"task": "text", "leaf": "bigint", "first": "bigint", "last": "bigint"}
_MANY = 200  # rows of a block at most, near enough, where nobody ever counted

Chunk = tuple[int, int, int]  # the table's oid, its first block, and the one behind its last
_BEFORE: Chunk = (0, -1, 0)


class Chunks:
    """
    The list of one task: the same for every process that is given the same *task* and table.

    Args:
        batch: rows of a chunk, near enough.
    """

    def __init__(self, catalogue: Catalogue, task: str, *, batch: int) -> None:
        self._catalogue = catalogue
        self._batch = batch
        self._sql = qualified(catalogue.schema, CHUNK)
        digest = sha256(f"{catalogue.schema}\0{catalogue.table}\0{task}".encode()).digest()
        self.task = digest[:16].hex()
        self._lock = int.from_bytes(digest[:8], "big", signed=True)

    def list_if_none(self, connection: Any) -> int:
        """List every page of the table, unless another process is at work on a list; return how many chunks there are."""
        catalogue = self._catalogue
        with transaction(connection):
            # Of all tasks of the schema: two that make the table at once would trip over each other.
            run(connection, "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self._sql,))
            if not is_there(
                connection, catalogue.schema, catalogue.table, name=CHUNK, columns=_COLUMNS
            ):
                columns = ", ".join(
                    f"{name} pg_catalog.{kind.replace('bigint', 'int8')} NOT NULL"
                    for name, kind in _COLUMNS.items()
                )
                run(
                    connection,
                    f"CREATE TABLE {self._sql} ({columns}, PRIMARY KEY (task, leaf, first))",
                )
        with transaction(connection):
            run(connection, "SELECT pg_advisory_xact_lock(%s)", (self._lock,))
            left = self.left(connection)
            if left:
                return left
            found = list(self.ranges(connection))
            leaves, firsts, lasts = (list(part) for part in zip(*found, strict=True)) if found else ([], [], [])  # fmt: skip
            run(
                connection,
                f"INSERT INTO {self._sql} SELECT %s, * FROM unnest(%s::int8[], %s::int8[], %s::int8[])",
                (self.task, leaves, firsts, lasts),
            )
            return len(found)

    def ranges(self, connection: Any) -> Iterator[Chunk]:
        """Return the chunks that the whole table has now."""
        for leaf in self._catalogue.leaves():
            blocks, rows = run(
                connection,
                "SELECT pg_relation_size(c.oid) / current_setting('block_size')::int, "
                "CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages END::float8 FROM pg_class c WHERE c.oid = %s",
                (leaf.oid,),
            ).fetchone()
            step = max(1, int(self._batch / max(1.0, rows or _MANY)))
            for first in range(0, blocks, step):
                # Rows that come behind the last block meanwhile are found by the next pass.
                yield leaf.oid, first, min(first + step, blocks)

    def claim(self, connection: Any, after: Chunk = _BEFORE) -> Chunk | None:
        """
        Take a chunk off the list, inside the caller's transaction; None where none is free.

        Args:
            after: begin behind this one: what was taken before need not be passed over again.
        """
        for begin in dict.fromkeys((after, _BEFORE)):
            found: Sequence[Any] | None = run(
                connection,
                f"DELETE FROM ONLY {self._sql} WHERE ctid = (SELECT ctid FROM ONLY {self._sql} "
                "WHERE task = %s AND (leaf, first) > (%s, %s) ORDER BY leaf, first LIMIT 1 FOR UPDATE SKIP LOCKED) "
                "RETURNING leaf, first, last",
                (self.task, *begin[:2]),
            ).fetchone()
            if found is not None:
                leaf, first, last = found
                return leaf, first, last
        return None

    def left(self, connection: Any) -> int:
        """Return how many chunks nobody has finished."""
        sql = f"SELECT count(*) FROM ONLY {self._sql} WHERE task = %s"
        return int(run(connection, sql, (self.task,)).fetchone()[0])

    def wait(self, connection: Any) -> None:
        """Return when another process has finished, or given up, a chunk that it holds."""
        with transaction(connection):
            sql = f"SELECT 1 FROM ONLY {self._sql} WHERE task = %s LIMIT 1 FOR UPDATE"
            run(connection, sql, (self.task,)).fetchone()
