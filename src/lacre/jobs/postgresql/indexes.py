# SPDX-License-Identifier: Apache-2.0
"""
Indexes made while programs go on reading and writing, and made again if a killed run left half of one.

Implements ``spec/protect-postgresql.md``, sections "Locks" and "Fill". On a partitioned table each
partition's index is made by itself; the parent's then takes them in.
"""

from typing import Any

from lacre.errors import ConfigurationError
from lacre.jobs.columns import FORM
from lacre.jobs.postgresql.catalogue import Catalogue, Leaf
from lacre.jobs.postgresql.connection import cut, qualified, quoted, run
from lacre.jobs.postgresql.locks import Locks
from lacre.jobs.postgresql.structure import Index

__all__ = ["build", "build_unmarked", "part_name", "temporary_name"]


def temporary_name(catalogue: Catalogue, index: Index) -> str:
    """What an index is called until the switch-over, when its name becomes free."""
    return cut(f"{catalogue.table}_lacre_{index.name}")


def build(connection: Any, catalogue: Catalogue, locks: Locks, index: Index, column: str) -> str:
    """
    Make *index* over *column*, and return its name for now.

    Raises:
        psycopg.errors.UniqueViolation: two rows have one value; nothing is left behind.
    """
    name = temporary_name(catalogue, index)
    leaves = {leaf.oid: leaf for leaf in catalogue.leaves()}
    if not catalogue.partitioned:
        _one(connection, locks, leaves[catalogue.oid], name, index, column)
        return name
    tree = run(
        connection,
        "SELECT c.oid, n.nspname, c.relname, t.parentrelid::oid, t.isleaf FROM pg_partition_tree(%s::oid::regclass) t "
        "JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY t.level DESC, 2, 3",
        (catalogue.oid,),
    ).fetchall()
    made: dict[int, tuple[str, str]] = {}
    for oid, schema, table, _, is_leaf in tree:
        own = name if oid == catalogue.oid else part_name(table, index)
        if is_leaf:
            if oid in leaves:
                _one(connection, locks, leaves[oid], own, index, column)
                made[oid] = schema, own
            continue
        if _state(connection, schema, own, column) is None:
            sql = f"CREATE {_unique(index)}INDEX {quoted(own)} ON ONLY {qualified(schema, table)} USING {index.method} ({quoted(column)}{_tail(index)}"
            locks.bounded(f"index {own}", "SHARE", sql)
        for child, _, _, parent, _ in tree:
            if parent == oid and child in made and not _attached(connection, *made[child]):
                locks.bounded(
                    f"attach {made[child][1]}",
                    "ACCESS EXCLUSIVE of the index",
                    f"ALTER INDEX {qualified(schema, own)} ATTACH PARTITION {qualified(*made[child])}",
                )
        made[oid] = schema, own
    return name


def part_name(table: str, index: Index) -> str:
    """What a partition's part of an index is called until the switch-over."""
    return cut(f"{table}_lacre_{index.column}_{index.name}")


def build_unmarked(connection: Any, catalogue: Catalogue, locks: Locks) -> None:
    """Make what finds the rows that are not marked, among however many that are."""
    for leaf in catalogue.leaves():
        sql = f"ON {leaf.sql} ({FORM}) WHERE {FORM} IS NULL"
        _concurrently(connection, locks, leaf.schema, _unmarked(leaf), FORM, "", sql)


def _unmarked(leaf: Leaf) -> str:
    return cut(f"{leaf.name}_lacre_unmarked")


def _one(connection: Any, locks: Locks, leaf: Leaf, name: str, index: Index, column: str) -> None:
    sql = f"ON {leaf.sql} USING {index.method} ({quoted(column)}{_tail(index)}"
    _concurrently(connection, locks, leaf.schema, name, column, _unique(index), sql)


def _concurrently(
    connection: Any, locks: Locks, schema: str, name: str, column: str, unique: str, sql: str
) -> None:
    state = _state(connection, schema, name, column)
    if state is True:
        return
    if state is False:
        run(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(schema, name)}")
    try:
        with locks.shared(f"index {name}"):
            run(connection, f"CREATE {unique}INDEX CONCURRENTLY {quoted(name)} {sql}")
    except BaseException:
        # An invalid index goes on being written to. A connection that is lost drops nothing:
        # then the next run does.
        if not connection.closed:
            run(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(schema, name)}")
        raise


def _state(connection: Any, schema: str, name: str, column: str) -> bool | None:
    """
    Whether an index is whole; None: there is none.

    Raises:
        ConfigurationError: something else has its name.
    """
    row = run(
        connection,
        "SELECT i.indisvalid AND i.indisready, i.indnatts = 1 AND a.attname = %s FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indexrelid = c.oid "
        "LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE n.nspname = %s AND c.relname = %s",
        (column, schema, name),
    ).fetchone()
    if row is None:
        return None
    if not row[1]:
        raise ConfigurationError(
            f"something called {name} exists already", hint="rename it: lacre needs the name"
        )
    return bool(row[0])


def _attached(connection: Any, schema: str, name: str) -> bool:
    row = run(
        connection,
        "SELECT c.relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (schema, name),
    ).fetchone()
    return bool(row and row[0])


def _unique(index: Index) -> str:
    return "UNIQUE " if index.unique else ""


def _tail(index: Index) -> str:
    return index.tail.replace("%", "%%")
