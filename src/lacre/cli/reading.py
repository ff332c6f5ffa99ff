# SPDX-License-Identifier: Apache-2.0
"""
The application's database: what `--database` names, as an engine that does not write, or one that does.

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

__all__ = ["Database", "changing", "named", "reading"]

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
    with _disposed(_engine(database, mode="ro")) as engine:
        yield engine


@contextmanager
def changing(database: str) -> Iterator["Engine"]:
    """
    Open *database* for the block, to be changed.

    Raises:
        ConfigurationError: there is none of that name, or it names a password.
    """
    with _disposed(_engine(database, mode="rw")) as engine:
        yield engine


@contextmanager
def _disposed(engine: "Engine") -> Iterator["Engine"]:
    try:
        yield engine
    finally:
        engine.dispose()


def _engine(database: str, *, mode: str) -> "Engine":
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
        return create_engine(url, poolclass=NullPool, hide_parameters=True)
    path = Path(databases.name_of(database)).resolve()
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True),
        poolclass=NullPool,
        hide_parameters=True,
    )


def named(database: str) -> str:
    """
    Return what may be shown of *database*.

    Raises:
        ConfigurationError: it names a password, or nothing.
    """
    if databases.has_password(database):
        raise ConfigurationError(
            "a password in an argument is seen by whoever lists the processes",
            hint="give it in PGPASSWORD or PGPASSFILE, and the URL without it",
        )
    return databases.name_of(database)
