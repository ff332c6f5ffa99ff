# SPDX-License-Identifier: Apache-2.0
"""
How often the values of indexed columns occur, read from a database as it is.

Before `lacre protect` a column holds plaintext: its values are counted by the database, brought
to the spelling of the index's normaliser here, and counted again under a hash whose key ends with
the call. Afterwards its tokens are counted where they are: equal values have equal tokens, so
only counts of counts leave the database. Where tokens do not tell, a sample may be opened by whoever
acts. No value, token or hash is kept, logged or returned.

Reads in a transaction that may not write. Judges nothing (`lacre.fields.advice`), and does not
ask for the column's state: what is counted is no secret of the state's.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper

from lacre._core.field import MAGIC_AND_SUITE
from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.advice import Declared, possible_values
from lacre.fields.compound_index import CompoundIndex
from lacre.fields.index import Index
from lacre.fields.normalisers import normaliser
from lacre.fields.planning import Distribution
from lacre.sqlalchemy.compounds import compound_properties
from lacre.sqlalchemy.declared import row_facts, sealed_properties

__all__ = [
    "Combinations",
    "Counting",
    "Opened",
    "TableReading",
    "Unread",
    "absent_of",
    "compounds_of",
    "read_table",
    "tables_of",
]


# Returns a sample of the values of a property, of rows under a condition if there is one.
Opened = Callable[[Any, Any], Iterable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """An index of which nothing could be counted, and why."""

    column: str
    index: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReading:
    """
    What one table showed.

    *rows* of the table, of which about *read* were counted; *refused* values that a normaliser
    does not take, by column. Where rows name their tenant, all of it is of one tenant: whoever has
    the table sees whose a row is, so it hides among those of its tenant. *tenants* is how many there
    are, 0 where rows name none; *all_rows* are everybody's.
    """

    table: str
    rows: int
    read: int
    declared: tuple[Declared, ...]
    tenants: int
    all_rows: int
    unread: tuple[Unread, ...] = ()
    refused: tuple[tuple[str, int], ...] = ()


def tables_of(mappers: Iterable[Mapper[Any]]) -> dict[sa.Table, list[Any]]:
    """Return the encrypted properties of each table that has some, those of subclasses once."""
    tables: dict[sa.Table, dict[Any, Any]] = {}
    for mapper in mappers:
        for prop in sealed_properties(mapper):
            column = prop.columns[0]
            tables.setdefault(column.table, {}).setdefault(column, prop)
    return {table: list(props.values()) for table, props in tables.items()}


def compounds_of(mappers: Iterable[Mapper[Any]]) -> dict[sa.Table, list[Any]]:
    """Return the compound properties of each table that has some, those of subclasses once."""
    tables: dict[sa.Table, dict[Any, Any]] = {}
    for mapper in mappers:
        for prop in compound_properties(mapper):
            column: Any = prop.index_columns[0]
            tables.setdefault(column.table, {}).setdefault(column, prop)
    return {table: list(props.values()) for table, props in tables.items()}


def absent_of(engine: sa.Engine, tables: Iterable[sa.Table]) -> list[sa.Table]:
    """Return those of *tables* that the database does not have."""
    with _reading(engine, 300.0) as connection:
        has = sa.inspect(connection).has_table
        return [table for table in tables if not has(table.name, schema=table.schema)]


def read_table(
    engine: sa.Engine,
    table: sa.Table,
    properties: Sequence[Any],
    *,
    sample: int | None = None,
    timeout: float = 300.0,
    opened: Opened | None = None,
    compounds: Sequence[Any] = (),
) -> TableReading:
    """
    Count what the indexed columns of *table* hold.

    Args:
        properties: the encrypted properties of the table; see `tables_of`.
        sample: count about so many rows of a larger table, picked at random; all by default.
        timeout: of each statement, in seconds, on PostgreSQL.
        opened: returns a sample of the values of an encrypted property, where tokens do not tell.
        compounds: the compound properties of the table; see `compounds_of`.

    Raises:
        ConfigurationError: no such table or column, or the database does not answer in time.
    """
    with _reading(engine, timeout) as connection:
        present = _columns(connection, table)
        everybody = connection.execute(
            sa.select(sa.func.count()).select_from(_named(table))
        ).scalar_one()
        tenant = _tenant_column(table, properties)
        own, rows = None, everybody
        tenants = 0
        if tenant is not None and tenant.name in present:
            tenants, own, rows = _middle_tenant(connection, table, tenant.name)
        part = sample / rows if sample is not None and rows > sample else None
        read = _Read(connection, table, part, opened, tenant if tenants else None, own)
        for prop in properties:
            if not prop.scheme.indexes:
                continue
            column = prop.columns[0]
            if column.name not in present:
                raise ConfigurationError(
                    f"the table {table.name} of this database has no column {column.name}",
                    hint="the models are of another release than the database, or --database is another one",
                )
            read.column(prop, present)
        for prop in compounds:
            read.compound(prop, present)
        return TableReading(
            table=table.name,
            rows=rows,
            read=round(rows * part) if part else rows,
            tenants=tenants,
            all_rows=everybody,
            declared=tuple(read.declared),
            unread=tuple(read.unread),
            refused=tuple(read.refused),
        )


@contextmanager
def _reading(engine: sa.Engine, timeout: float) -> Iterator[sa.Connection]:
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)  # noqa: PLW2901
                milliseconds = max(1, round(timeout * 1000))
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
            yield connection
    except SQLAlchemyError as error:
        # What a driver says may quote a value or an address: its kind is enough.
        kind = type(getattr(error, "orig", None) or error).__name__
        slow = kind == "QueryCanceled"
        raise ConfigurationError(
            f"the database could not be read: {kind}",
            hint="--sample counts fewer rows, --timeout waits longer" if slow else "look at --database and at what its user may read",
        ) from None  # fmt: skip


def _columns(connection: sa.Connection, table: sa.Table) -> set[str]:
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name, schema=table.schema):
        raise ConfigurationError(
            f"this database has no table {table.name}",
            hint="make the tables first, or name other --models",
        )
    return {found["name"] for found in inspector.get_columns(table.name, schema=table.schema)}


def _named(table: sa.Table, *columns: str) -> Any:
    # Not the model's own columns: those hold our types, and the database may hold plaintext.
    return sa.table(table.name, *(sa.column(name) for name in columns), schema=table.schema)


def _tenant_column(table: sa.Table, properties: Sequence[Any]) -> Any:
    for prop in properties:
        key = row_facts(prop.parent).tenant
        if key is not None and prop.parent.column_attrs[key].columns[0].table is table:
            return prop.parent.column_attrs[key].columns[0]
    return None


def _middle_tenant(connection: sa.Connection, table: sa.Table, name: str) -> tuple[int, Any, int]:
    """Return how many tenants there are, and the one that the row in the middle is of, with its rows."""
    found = _named(table, name)
    column, rows = found.c[name], sa.func.count().label("rows")
    statement = sa.select(column, rows).where(column.is_not(None)).group_by(column)
    counts = connection.execute(statement.order_by(rows.desc(), column)).all()
    left = sum(count for _, count in counts) / 2
    for tenant, count in counts:
        left -= count
        if left <= 0:
            return len(counts), tenant, count
    return 0, None, 0


def _names(prop: Any, present: set[str]) -> list[list[str]]:
    """Return, of each index, the columns that this database has for it: two of a unique one."""
    columns = zip(prop.index_columns, prop.second_columns, strict=True)
    return [
        [each.name for each in found if each is not None and each.name in present]
        for found in columns
    ]


class _Read:
    """The counts of one table, index by index."""

    def __init__(
        self,
        connection: sa.Connection,
        table: sa.Table,
        part: float | None,
        opened: Opened | None,
        tenant: Any,
        own: Any,
    ) -> None:
        self._connection = connection
        self._table = table
        self._part = part
        self._opened = opened
        self._tenant = tenant  # the column, None where rows name none
        self._own = own  # what it holds of the rows that are counted
        self.declared: list[Declared] = []
        self.unread: list[Unread] = []
        self.refused: list[tuple[str, int]] = []

    def column(self, prop: Any, present: set[str]) -> None:
        indexes: tuple[Index, ...] = prop.scheme.indexes
        name = prop.columns[0].name
        filled, encrypted = self._holds(name)
        values: Iterable[tuple[Any, int]] | None = None
        read_from = "values"
        stored = _names(prop, present)
        told = all(stored)
        if not encrypted:
            values = self._plaintext(name)
        elif self._opened is not None and (not told or any(each.several for each in indexes)):
            # As the database holds it, whatever its type makes of it.
            own = None if self._tenant is None else sa.type_coerce(self._tenant, sa.types.NULLTYPE) == self._own  # fmt: skip
            values = ((value, 1) for value in self._opened(prop, own) if value is not None)
            read_from = "decrypted"
        if values is not None:
            countings = [Counting(index, prop) for index in indexes]
            for value, count in values:
                for counting in countings:
                    counting.add(value, count)
            for index, counting in zip(indexes, countings, strict=True):
                self._declare(prop, index, counting.entries(filled), counting.values(filled), read_from)  # fmt: skip
            if refused := max(counting.refused for counting in countings):
                self.refused.append((name, refused))
            return
        for index, columns in zip(indexes, stored, strict=True):
            if not columns:
                why = "the column is encrypted and has no tokens of this index yet; --decrypt opens a sample of it"
                self.unread.append(Unread(column=name, index=index.name, why=why))
                continue
            counts = self._parts(columns[0]) if index.several else self._tokens(columns)
            read = filled if index.several else None
            entries = Distribution.of(counts, rows=filled, bits=index.bits, read=read)
            self._declare(prop, index, entries, _assumed(filled) if index.several else entries, "tokens")  # fmt: skip

    def compound(self, prop: Any, present: set[str]) -> None:
        """Count the combinations of several columns, or their tokens."""
        index, [stored] = prop.index, _names(prop, present)
        names = [part.columns[0].name for part in prop.parts]
        if not any(self._holds(name)[1] for name in names):
            found = self._picked(self._rows(*names))
            columns = [found.c[name] for name in names]
            times = sa.func.count()
            statement = self._where(sa.select(*columns, times), found).group_by(*columns)
            statement = statement.where(*(column.is_not(None) for column in columns))
            counting = Combinations(index)
            for *values, count in self._connection.execute(statement):
                counting.add(values, count)
            entries, read_from = Distribution.of(counting.counts()), "values"
        elif stored:
            entries, read_from = Distribution.of(self._tokens(stored), bits=index.bits), "tokens"
        else:
            why = "its columns are encrypted and have no tokens of this index yet"
            self.unread.append(Unread(column=prop.key, index=index.name, why=why))
            return
        self.declared.append(
            Declared(
                column=prop.key,
                name=index.name,
                kind=index.kind,
                normaliser=index.normaliser,
                bits=index.bits,
                unique=index.unique,
                entries=entries,
                values=entries,
                read_from=read_from,
            )
        )

    def _declare(
        self,
        prop: Any,
        index: Index,
        entries: Distribution,
        values: Distribution,
        read_from: str,
    ) -> None:
        self.declared.append(
            Declared(
                column=prop.columns[0].name,
                name=index.name,
                kind=index.kind,
                normaliser=index.normaliser,
                bits=index.bits,
                unique=index.unique,
                entries=entries,
                values=values,
                possible=possible_values(prop.python_type),
                read_from=read_from,
            )
        )

    def _holds(self, name: str) -> tuple[int, bool]:
        """Return how many rows hold a value of a column, and whether those are ciphertext."""
        found = self._rows(name)
        column = found.c[name]
        counted = self._of_tenant(sa.select(sa.func.count(column)), found)
        filled = self._connection.execute(counted).scalar_one()
        first = self._connection.execute(
            sa.select(column).where(column.is_not(None)).limit(1)
        ).scalar()
        held = isinstance(first, bytes | memoryview) and bytes(first[:2]) == MAGIC_AND_SUITE
        return filled, held

    def _rows(self, *names: str) -> Any:
        of = () if self._tenant is None else (self._tenant.name,)
        return _named(self._table, *dict.fromkeys((*names, *of)))

    def _of_tenant(self, statement: Any, found: Any) -> Any:
        if self._tenant is None:
            return statement
        return statement.where(found.c[self._tenant.name] == self._own)

    def _picked(self, table: Any) -> Any:
        # Each row by its own chance, not whole pages: neighbours are often alike.
        if self._part is not None and self._connection.dialect.name == "postgresql":
            return table.tablesample(sa.func.bernoulli(self._part * 100))
        return table

    def _where(self, statement: Any, found: Any) -> Any:
        statement = self._of_tenant(statement, found)
        if self._part is not None and self._connection.dialect.name != "postgresql":
            million = 1_000_000
            return statement.where(
                sa.func.abs(sa.func.random() % million) < round(self._part * million)
            )
        return statement

    def _tokens(self, names: Sequence[str]) -> Iterator[int]:
        found = self._picked(self._rows(*names))
        # Of a unique index one of two columns has the token, or both.
        held = [found.c[name] for name in names]
        column = held[0] if len(held) == 1 else sa.func.coalesce(*held)
        times = sa.func.count().label("times")
        held_by = self._where(sa.select(times), found).where(column.is_not(None))
        each = held_by.group_by(column).subquery()
        return self._summary(each)

    def _parts(self, name: str) -> Iterator[int]:
        """Count the tokens of an index that has several in a row: an array, or JSON text."""
        found = self._rows(name)
        column = found.c[name]
        if self._connection.dialect.name == "postgresql":
            tokens = sa.select(sa.func.unnest(column).label("token")).select_from(found)
        else:
            split = sa.func.json_each(column).table_valued("value")
            joined = found.join(split, sa.true())
            tokens = sa.select(split.c.value.label("token")).select_from(joined)
        picked = self._of_tenant(tokens, found).subquery()
        times = sa.func.count().label("times")
        each = sa.select(times).select_from(picked).group_by(picked.c.token).subquery()
        return self._summary(each)

    def _summary(self, each: Any) -> Iterator[int]:
        summary = sa.select(each.c.times, sa.func.count()).group_by(each.c.times)
        for times, tokens in self._connection.execute(summary):
            yield from (times for _ in range(tokens))

    def _plaintext(self, name: str) -> Iterator[tuple[Any, int]]:
        found = self._picked(self._rows(name))
        column = found.c[name]
        held = sa.select(column, sa.func.count()).where(column.is_not(None))
        statement = self._where(held, found).group_by(column)
        rows = self._connection.execution_options(yield_per=10_000).execute(statement)
        yield from ((value, count) for value, count in rows)


def _assumed(rows: int) -> Distribution:
    # Tokens of parts do not say which values there are: the worst is that all are different.
    return Distribution(rows=rows, read=rows, distinct=rows, largest=min(rows, 1), squares=rows)


class Counting:
    """Counts values, and parts of values, as one index sees them. Keeps hashes only."""

    def __init__(self, index: Index, prop: Any) -> None:
        # Equal values of any type are equal in the database; text has a spelling to be brought to.
        rule = normaliser(index.normaliser).normalise
        self._normalise: Callable[[Any], str] = rule if prop.python_type is str else str
        self._parts = _parts_of(index)
        self._key = os.urandom(32)
        self._values = Counter[bytes]()
        self._entries = Counter[bytes]() if index.several else self._values
        self.refused = 0

    def add(self, value: Any, count: int) -> None:
        try:
            text = self._normalise(value)
        except InvalidValue:
            self.refused += count
            return
        self._values[self._hashed(text)] += count
        if self._entries is not self._values:
            for part in self._parts(text):
                self._entries[self._hashed(part)] += count

    def values(self, rows: int) -> Distribution:
        return Distribution.of(self._values.values(), rows=rows - self.refused)

    def entries(self, rows: int) -> Distribution:
        """Of an index with several tokens for a value, all of them; else the values."""
        if self._entries is self._values:
            return self.values(rows)
        read = self._values.total()
        return Distribution.of(self._entries.values(), rows=rows - self.refused, read=read)

    def _hashed(self, text: str) -> bytes:
        raw = text.encode(errors="surrogatepass")
        return hashlib.blake2b(raw, key=self._key, digest_size=12).digest()


class Combinations:
    """Counts the combinations of a compound index. Keeps hashes only."""

    def __init__(self, index: CompoundIndex) -> None:
        self._rules = [normaliser(name).normalise for name in index.normalisers]
        self._key = os.urandom(32)
        self._counter = Counter[bytes]()

    def add(self, values: Sequence[Any], count: int) -> None:
        # What a normaliser does not take `protect` refuses; the column's own index says so.
        with suppress(InvalidValue):
            hashed = hashlib.blake2b(key=self._key, digest_size=12)
            for rule, value in zip(self._rules, values, strict=True):
                text = (rule(value) if isinstance(value, str) else str(value)).encode(
                    errors="surrogatepass"
                )
                hashed.update(len(text).to_bytes(8) + text)
            self._counter[hashed.digest()] += count

    def counts(self) -> Iterable[int]:
        return self._counter.values()


def _parts_of(index: Index) -> Callable[[str], Iterable[str]]:
    if index.kind == "prefix":
        lengths = [int(part) for part in index.parts]
        return lambda text: (text[:length] for length in lengths if length <= len(text))
    return lambda text: {f" {text} "[at : at + 3] for at in range(len(text))}
