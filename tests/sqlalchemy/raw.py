# SPDX-License-Identifier: Apache-2.0
"""What the database really holds, read and written beside the ORM, in SQL that both databases know."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine

_CHECKS = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE contype = 'c' AND right(conname, 6) = '_lacre'"""


def is_postgresql(engine: Engine | Connection) -> bool:
    return engine.dialect.name == "postgresql"


def run(connection: Connection, query: str, parameters: tuple[Any, ...] = ()) -> Any:
    """Execute *query*, whose placeholders are question marks."""
    if is_postgresql(connection):
        query = query.replace("?", "%s")
    return connection.exec_driver_sql(query, parameters)


def rows(engine: Engine, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [
            tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
            for row in run(connection, query, parameters)
        ]


def only(engine: Engine, query: str, *parameters: Any) -> Any:
    [(value,)] = rows(engine, query, *parameters)
    return value


def execute(engine: Engine, query: str, *parameters: Any) -> None:
    """As somebody who may turn the table's CHECK constraints off."""
    with engine.begin() as connection, _unchecked(connection):
        run(connection, query, parameters)


@contextmanager
def _unchecked(connection: Connection) -> Iterator[None]:
    if not is_postgresql(connection):
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        try:
            yield
        finally:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
        return
    checks = run(connection, _CHECKS).all()
    for table, name, _ in checks:
        connection.exec_driver_sql(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    yield
    for table, name, condition in checks:
        # Only what is written from now on is checked again.
        wanted = condition.removesuffix(" NOT VALID")
        connection.exec_driver_sql(
            f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {wanted} NOT VALID'
        )
