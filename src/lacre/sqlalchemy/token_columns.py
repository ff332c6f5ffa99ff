# SPDX-License-Identifier: Apache-2.0
"""
The columns of indexes, and what a database needs besides to search them.

A column of one token has an ordinary index, unique or not. A column of several is an
``integer[]`` with a GIN index on PostgreSQL. SQLite has no such index: there the column holds the
tokens as JSON text, and a second table, named like table and column together, has a row for each
token, which triggers keep: it cannot disagree with the column, whoever writes, and goes with the
row. Other databases have no index of several tokens.

Made with the columns, so all of it goes where the columns go: into the tables of mixins, of
subclasses, and of copies in other metadata. Writes and reads no token.

Leans on a private name of SQLAlchemy, pinned by a test: the argument `_column_flag` of `Index`.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from lacre.errors import ConfigurationError
from lacre.fields.index import Index
from lacre.sqlalchemy.declared import INDEXES
from lacre.sqlalchemy.types import IndexType, TokensType

__all__ = [
    "TOKEN",
    "check_triggers",
    "create_statements",
    "drop_statements",
    "index_columns",
    "second_columns",
    "token_table",
    "triggers",
]

_CHECKED = "lacre_triggers"  # in what SQLAlchemy keeps with a connection of the driver
TOKEN = "lacre_token"  # noqa: S105 - the column of the token, in the table of tokens


def index_columns(column: sa.Column[Any], indexes: Sequence[Index]) -> tuple[sa.Column[Any], ...]:
    """Return the columns of the *indexes* of *column*, in their order."""
    first = next((index for index in indexes if "equals" in index.questions), None)
    return tuple(
        _index_column(
            index,
            f"{column.name}_bidx" if index is first else f"{column.name}_{_word(index.name)}_bidx",
            nullable=column.nullable,
            of=column.name,
        )
        for index in indexes
    )


def second_columns(
    firsts: Sequence[sa.Column[Any]], indexes: Sequence[Index]
) -> tuple[sa.Column[Any] | None, ...]:
    """
    Return the second column of each unique index, None of any other, in their order.

    The first is for tokens under index roots of odd versions, the second for those of even ones.
    """
    return tuple(
        sa.Column(f"{first.name}2", first.type, unique=True, nullable=True, info=dict(first.info))
        if index.unique
        else None
        for first, index in zip(firsts, indexes, strict=True)
    )


def _index_column(index: Index, name: str, *, nullable: bool | None, of: str) -> sa.Column[Any]:
    if not index.several:
        return sa.Column(
            name,
            IndexType((index.bits + 7) // 8),
            unique=index.unique or None,
            index=not index.unique or None,
            # A unique index has two: the value may have its token in the other.
            nullable=nullable or index.unique,
            info={INDEXES: of},
        )
    column: sa.Column[Any] = sa.Column(name, TokensType(), nullable=nullable, info={INDEXES: of})
    event.listen(column, "after_parent_attach", _attached)
    return column


def _word(name: str) -> str:
    # The name of an index may be a normaliser's, such as phone:BR.
    return "".join(char if char.isalnum() else "_" for char in name).lower()


def _attached(column: sa.Column[Any], table: sa.Table) -> None:
    # As with `index=True`: the index is the column's, so a copied table gets it with the column.
    sa.Index(
        sa.sql.elements.conv(f"ix_{table.name}_{column.name}"),
        column,
        postgresql_using="gin",
        _column_flag=True,
    ).ddl_if(dialect="postgresql")

    @event.listens_for(table, "after_create")
    def created(target: sa.Table, connection: sa.Connection, **_: Any) -> None:
        if target is table and connection.dialect.name == "sqlite":
            for sql in create_statements(target, column.name, connection.dialect):
                connection.exec_driver_sql(sql)

    @event.listens_for(table, "before_drop")
    def dropping(target: sa.Table, connection: sa.Connection, **_: Any) -> None:
        if target is table and connection.dialect.name == "sqlite":
            for sql in drop_statements(target, column.name, connection.dialect):
                connection.exec_driver_sql(sql)


def token_table(table: Any, column: str) -> Any:
    """Return the table of the tokens that *column* of *table* holds on SQLite, for a query."""
    keys = [sa.column(key.name, key.type) for key in table.primary_key]
    return sa.table(
        f"{table.name}_{column}", sa.column(TOKEN, sa.Integer()), *keys, schema=table.schema
    )


def triggers(table: str, column: str) -> tuple[str, str, str]:
    """Return the names of the triggers that keep the table of tokens."""
    return (f"{table}_{column}_insert", f"{table}_{column}_update", f"{table}_{column}_delete")


def check_triggers(connection: sa.Connection, table: Any, column: str) -> None:
    """
    Raise unless SQLite has the triggers that keep the tokens of *column*, as they were made.

    Whoever copies a table by hand loses them, and searches would miss what is written from then
    on. Asked once for a connection and a version of the database's structure.

    Raises:
        ConfigurationError
    """
    quote = connection.dialect.identifier_preparer.quote
    schema = "" if table.schema is None else f"{quote(table.schema)}."
    version = connection.exec_driver_sql(f"PRAGMA {schema}schema_version").scalar()
    checked = connection.info.setdefault(_CHECKED, {})
    key = (table.schema, table.name, column)
    if checked.get(key) == version:
        return
    statements = create_statements(table, column, connection.dialect)
    made = {_words(sql) for sql in statements if sql.startswith("CREATE TRIGGER")}
    held = connection.exec_driver_sql(
        f"SELECT sql FROM {schema}sqlite_master WHERE type = 'trigger' AND tbl_name = ?",  # noqa: S608
        (table.name,),
    ).scalars()
    if not made <= {_words(sql) for sql in held}:
        again = "; ".join([*drop_statements(table, column, connection.dialect), *statements])
        raise ConfigurationError(
            f"{table.name} has lost the triggers that keep the tokens of {column}: searches would miss what is written, and find what is gone",
            hint=f"the table was copied or altered by hand; make them, and the tokens, anew: {again};",
        )
    checked[key] = version


def _words(sql: str) -> str:
    # SQLite keeps a trigger without IF NOT EXISTS, and quotes a name that was changed.
    return sql.replace("IF NOT EXISTS ", "", 1).replace('"', "").casefold()


def create_statements(table: Any, column: str, dialect: Any) -> list[str]:
    """Return what makes the table of tokens on SQLite, and fills it."""
    quote, name = dialect.identifier_preparer.quote, f"{table.name}_{column}"
    keys = [quote(key.name) for key in table.primary_key]
    typed = [
        f"{quote(key.name)} {dialect.type_compiler_instance.process(key.type)} NOT NULL"
        for key in table.primary_key
    ]
    tokens, parent, held = quote(name), quote(table.name), quote(column)
    several = ", ".join(keys)

    def forget(row: str) -> str:
        return f"DELETE FROM {tokens} WHERE " + " AND ".join(f"{key} = {row}.{key}" for key in keys)  # noqa: S608

    def note(row: str) -> str:
        of_row = ", ".join(f"{row}.{key}" for key in keys)
        return (
            f"INSERT OR IGNORE INTO {tokens} ({TOKEN}, {several})"  # noqa: S608
            f" SELECT value, {of_row} FROM json_each({row}.{held})"
        )

    inserted, updated, deleted = map(quote, triggers(table.name, column))
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {tokens} ({TOKEN} INTEGER NOT NULL, {', '.join(typed)},"
            f" PRIMARY KEY ({TOKEN}, {several})) WITHOUT ROWID"
        ),
        f"CREATE INDEX IF NOT EXISTS {quote(f'ix_{name}')} ON {tokens} ({several})",
        (
            f"CREATE TRIGGER IF NOT EXISTS {inserted} AFTER INSERT ON {parent}"
            f" BEGIN {forget('NEW')}; {note('NEW')}; END"
        ),
        (
            f"CREATE TRIGGER IF NOT EXISTS {updated} AFTER UPDATE OF {held}, {several} ON {parent}"
            f" BEGIN {forget('OLD')}; {note('NEW')}; END"
        ),
        (
            f"CREATE TRIGGER IF NOT EXISTS {deleted} AFTER DELETE ON {parent}"
            f" BEGIN {forget('OLD')}; END"
        ),
        (
            f"INSERT OR IGNORE INTO {tokens} ({TOKEN}, {several})"  # noqa: S608
            f" SELECT found.value, {', '.join(f'{parent}.{key}' for key in keys)}"
            f" FROM {parent}, json_each({parent}.{held}) AS found"
        ),
    ]


def drop_statements(table: Any, column: str, dialect: Any) -> list[str]:
    """Return what takes the table of tokens away again."""
    quote = dialect.identifier_preparer.quote
    return [
        *(f"DROP TRIGGER IF EXISTS {quote(name)}" for name in triggers(table.name, column)),
        f"DROP TABLE IF EXISTS {quote(f'{table.name}_{column}')}",
    ]
