# SPDX-License-Identifier: Apache-2.0
"""What the database really holds, read and written beside the ORM."""

from typing import Any

from sqlalchemy import Engine


def rows(engine: Engine, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query, parameters)]


def only(engine: Engine, query: str, *parameters: Any) -> Any:
    [(value,)] = rows(engine, query, *parameters)
    return value


def execute(engine: Engine, query: str, *parameters: Any) -> None:
    """As somebody who may turn the table's CHECK constraints off."""
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        try:
            connection.exec_driver_sql(query, parameters)
        finally:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
