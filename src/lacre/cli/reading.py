# SPDX-License-Identifier: Apache-2.0
"""
The application's database, opened to be read: what `--database` names, as an engine that does not write.

Does not read anything itself. A password in the argument is refused, as everywhere.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import typer

from lacre.errors import ConfigurationError
from lacre.jobs import databases

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Database", "reading"]

Database = typer.Option(
    ...,
    "--database",
    help="sqlite:///FILE, or the file's path; postgresql://HOST/DATABASE, the password from PGPASSWORD or PGPASSFILE",
)


@contextmanager
def reading(database: str) -> Iterator["Engine"]:
    """
    Open *database* for the block, to be read.

    Raises:
        ConfigurationError: there is none of that name, or it names a password.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import NullPool

    if databases.has_password(database):
        raise ConfigurationError(
            "a password in an argument is seen by whoever lists the processes",
            hint="give it in PGPASSWORD or PGPASSFILE, and the URL without it",
        )
    if database.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        try:
            url = make_url(database).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):
            raise ConfigurationError(
                "--database is no URL", hint="postgresql://HOST/DATABASE"
            ) from None
        engine = create_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            execution_options={"postgresql_readonly": True},
        )
    else:
        path = Path(databases.name_of(database)).resolve()
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True),
            poolclass=NullPool,
            hide_parameters=True,
        )
    try:
        yield engine
    finally:
        engine.dispose()
