# SPDX-License-Identifier: Apache-2.0
"""
Rows of leaves, put in and read by the thousand: COPY and binary on PostgreSQL, one prepared statement on SQLite.

Implements ``spec/evidence-log.md``, section 3. Decides nothing about them
(`lacre.stores.log.sequencer`). Leans on a name of SQLAlchemy that its documentation does not have,
pinned by a test: `DBAPIError.instance`, so that what the driver raises is told as any other error.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from lacre.audit.leaves import Drawn
from lacre.stores.log.schema import LEAF, TALLY

__all__ = [
    "First",
    "Row",
    "among",
    "first",
    "insert",
    "known",
    "leaf_row",
    "put_back",
    "remove",
    "set_aside",
    "stored",
    "tally",
    "touched_rows",
]

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


def known(connection: sa.Connection, ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return those of *ids* that are leaves already, each with its entry."""
    found: dict[bytes, bytes] = {}
    for some in among(connection, LEAF.c.id, ids, postgresql.BYTEA()):
        rows = connection.execute(sa.select(LEAF.c.id, LEAF.c.entry).where(some))
        found.update((bytes(row.id), bytes(row.entry)) for row in rows)
    return found


def remove(connection: sa.Connection, table: sa.Table, positions: Sequence[int]) -> None:
    """Remove the rows at *positions*."""
    for some in among(connection, table.c.position, positions, postgresql.BIGINT()):
        connection.execute(sa.delete(table).where(some))


class First(NamedTuple):
    """The first of what waits; the positions of what is too long to be read; whether there is more."""

    rows: Sequence[Any]
    too_long: list[int]
    more: bool


def first(connection: sa.Connection, table: sa.Table, limit: int, *, without: Sequence[int], room: int) -> First:  # fmt: skip
    """Return the first rows of *table* but those at *without*, *limit* of them at most and *room* bytes of entries."""
    query = sa.select(table.c.position, sa.func.length(table.c.entry).label("size"))
    query = query.where(table.c.position > 0).order_by(table.c.position).limit(limit)
    if without:
        query = query.where(_without(connection, table.c.position, without))
    sizes = connection.execute(query).all()
    held, taken, too_long = 0, list[int](), list[int]()
    for position, size in sizes:
        if size > room:
            too_long.append(position)
        elif held + size > room:
            break
        else:
            held += size
            taken.append(position)
    rows: list[Any] = []
    for some in among(connection, table.c.position, taken, postgresql.BIGINT()):
        rows += connection.execute(sa.select(table).where(some).order_by(table.c.position)).all()
    return First(rows, too_long, len(sizes) == limit or len(taken) + len(too_long) < len(sizes))


def set_aside(connection: sa.Connection, table: sa.Table, positions: Sequence[int]) -> None:
    """Give the rows at *positions* numbers below zero."""
    for some in among(connection, table.c.position, positions, postgresql.BIGINT()):
        connection.execute(sa.update(table).where(some).values(position=-table.c.position))


def put_back(connection: sa.Connection, table: sa.Table) -> None:
    """Give the rows that were set aside their numbers again."""
    aside = sa.update(table).where(table.c.position < 0)
    first = connection.scalar(sa.select(sa.func.min(table.c.position)))
    if first is not None and first < 0:
        connection.execute(aside.values(position=-table.c.position))


def among(
    connection: sa.Connection, column: sa.Column[Any], values: Sequence[Any], kind: Any
) -> Iterable[sa.ColumnElement[bool]]:
    """Yield conditions, which together say that *column* is one of *values*."""
    if connection.dialect.name == "postgresql":
        # One parameter: a statement of a thousand is read longer than it is run.
        if values:
            yield column == sa.any_(sa.bindparam(None, list(values), postgresql.ARRAY(kind)))
        return
    for begin in range(0, len(values), 1000):
        yield column.in_(values[begin : begin + 1000])


def _without(
    connection: sa.Connection, column: sa.Column[int], values: Sequence[int]
) -> sa.ColumnElement[bool]:
    """Return the condition that *column* is none of *values*."""
    if connection.dialect.name == "postgresql":
        given = sa.bindparam(None, list(values), postgresql.ARRAY(postgresql.BIGINT()))
        return column != sa.all_(given)
    return column.not_in(values)


def stored(
    connection: sa.Connection,
    table: sa.Table,
    columns: Sequence[sa.Column[Any]],
    shard: int,
    begin: int,
    end: int,
) -> Sequence[Row]:
    """Return *columns* of the leaves from *begin* to before *end* of *shard*, in order, as they are stored."""
    if connection.dialect.name != "postgresql":
        query = sa.select(*columns).where(table.c.shard == shard, table.c.seq >= begin, table.c.seq < end)  # fmt: skip
        return [tuple(row) for row in connection.execute(query.order_by(table.c.seq))]
    # In binary: as text, bytes come as hexadecimal digits, and that is most of what comes.
    names = ", ".join(f'"{column.name}"' for column in columns)
    schema = connection.get_execution_options()["schema_translate_map"][None]
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor(binary=True) as cursor:
            cursor.execute(
                f'SELECT {names} FROM {schema}.{table.name} WHERE "shard" = %s AND "seq" >= %s AND "seq" < %s ORDER BY "seq"',  # noqa: S608 - names of ours
                (shard, begin, end),
            )
            found: list[Row] = cursor.fetchall()
    except connection.dialect.loaded_dbapi.Error as error:
        raise _told(connection, error) from None
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
        raise _told(connection, error) from None
    finally:
        cursor.close()


def _told(connection: sa.Connection, error: Exception) -> BaseException:
    # What the driver raises, as SQLAlchemy tells it of its own statements.
    dialect = connection.dialect
    return DBAPIError.instance(
        None, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect,
    )  # fmt: skip


def tally(connection: sa.Connection, counts: dict[Row, list[int]]) -> None:
    """Add to the tallies of hours; *counts* are by all columns of the key."""
    if not counts:
        return
    rows = [(*key, *sums) for key, sums in counts.items()]
    columns = list(TALLY.columns)
    make: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made = make(TALLY)
    more = {
        "events": TALLY.c.events + made.excluded.events,
        "count": TALLY.c.count + made.excluded["count"],
    }
    if connection.dialect.name == "postgresql":
        # One statement, a parameter for each column.
        given = (
            sa.func.unnest(
                *(
                    sa.bindparam(None, list(values), postgresql.ARRAY(column.type))
                    for column, values in zip(columns, zip(*rows, strict=True), strict=True)
                )
            )
            .table_valued(*(f"c{number}" for number in range(len(columns))))
            .render_derived()
        )
        made = made.from_select([column.name for column in columns], sa.select(given))
        made = made.on_conflict_do_update(index_elements=list(TALLY.primary_key), set_=more)
        connection.execute(made)
        return
    made = made.on_conflict_do_update(index_elements=list(TALLY.primary_key), set_=more)
    names = [column.name for column in columns]
    connection.execute(made, [dict(zip(names, row, strict=True)) for row in rows])
