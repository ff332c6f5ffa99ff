# SPDX-License-Identifier: Apache-2.0
"""
Rows of leaves, put in by the thousand: COPY on PostgreSQL, one prepared statement on SQLite.

Implements ``spec/evidence-log.md``, section 3. Decides nothing about them
(`lacre.stores.log.sequencer`). Leans on a name of SQLAlchemy that its documentation does not have,
pinned by a test: `DBAPIError.instance`, so that what the driver raises is told as any other error.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from lacre.audit.leaves import Drawn
from lacre.stores.log.schema import LEAF, TALLY

__all__ = ["HOUR", "Row", "insert", "known", "leaf_row", "tally", "touched_rows"]

HOUR = 3_600_000_000

Row = tuple[Any, ...]

_TYPES: dict[type, str] = {
    sa.Integer: "int4",
    sa.BigInteger: "int8",
    sa.LargeBinary: "bytea",
    sa.String: "varchar",
    sa.Text: "text",
}


def leaf_row(shard: int, seq: int, id_: bytes, sequenced: int, drawn: Drawn, hash_: bytes, entry: bytes) -> Row:  # fmt: skip
    """Return the row of a leaf, in the order of its table's columns."""
    return (
        shard,
        seq,
        id_,
        sequenced,
        drawn.time,
        drawn.action,
        drawn.step,
        drawn.status,
        drawn.principal,
        drawn.tenant,
        drawn.class_,
        drawn.place,
        drawn.correlation,
        drawn.count,
        hash_,
        entry,
    )


def touched_rows(shard: int, seq: int, drawn: Drawn) -> Iterable[Row]:
    """Return the rows of what a leaf is about."""
    return ((resource, shard, seq) for resource in drawn.touched)


def known(connection: sa.Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Return those of *ids* that are leaves already."""
    if connection.dialect.name == "postgresql":
        rows = connection.execute(
            sa.select(LEAF.c.id).where(
                LEAF.c.id == sa.any_(sa.bindparam("ids", ids, postgresql.ARRAY(sa.LargeBinary)))
            )
        )
        return {bytes(row[0]) for row in rows}
    found: set[bytes] = set()
    for begin in range(0, len(ids), 500):
        some = ids[begin : begin + 500]
        found.update(connection.scalars(sa.select(LEAF.c.id).where(LEAF.c.id.in_(some))))
    return found


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert *rows*, in the order of the table's columns."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    if connection.dialect.name != "postgresql":
        marks = ", ".join("?" * len(names))
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({quoted}) VALUES ({marks})",  # noqa: S608 - names of ours
            list(rows),
        )
        return
    schema = connection.get_execution_options()["schema_translate_map"][None]
    cursor: Any = connection.connection.cursor()
    statement = f"COPY {schema}.{table.name} ({quoted}) FROM STDIN (FORMAT BINARY)"
    try:
        with cursor.copy(statement) as copy:
            copy.set_types([_TYPES[type(column.type)] for column in table.columns])
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError.instance(
            None, None, error, connection.dialect.loaded_dbapi.Error, hide_parameters=True, dialect=connection.dialect,
        ) from None  # fmt: skip
    finally:
        cursor.close()


def tally(connection: sa.Connection, counts: dict[Row, list[int]]) -> None:
    """Add to the tallies of hours; *counts* are by all columns of the key."""
    if not counts:
        return
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made: Any = make(TALLY)
    statement = made.on_conflict_do_update(
        index_elements=list(TALLY.primary_key),
        set_={
            "events": TALLY.c.events + made.excluded.events,
            "count": TALLY.c.count + made.excluded["count"],
        },
    )
    names = [column.name for column in TALLY.columns]
    connection.execute(
        statement, [dict(zip(names, (*key, *sums), strict=True)) for key, sums in counts.items()]
    )
