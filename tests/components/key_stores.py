"""Where a test's key store is: in an SQLite file, or in a schema of a PostgreSQL database."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacre.stores.sql import SQLKeyStore
from tests.components.postgresql import Database

__all__ = ["KeptInPostgreSQL", "KeptInSQLite", "KeyStorePlace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInSQLite:
    """A file."""

    path: Path

    def open(self) -> SQLKeyStore:
        """A key store that speaks to it."""
        return SQLKeyStore(self.url)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def toml(self) -> str:
        """What lacre.toml says of it."""
        return f'url = "{self.url}"'

    def sql(self, statement: str, *values: Any) -> Sequence[Any]:
        """What somebody with a SQL prompt and no keys does."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA synchronous = OFF")
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptInPostgreSQL:
    """A schema of a database."""

    database: Database
    schema: str = "lacre"

    def open(self) -> SQLKeyStore:
        """A key store that speaks to it, as the superuser."""
        return SQLKeyStore(self.url, schema=self.schema)

    @property
    def url(self) -> str:
        return self.database.text_url()

    def toml(self) -> str:
        """What lacre.toml says of it."""
        return f'url = "{self.url}"\nschema = "{self.schema}"'

    def sql(self, statement: str, *values: Any) -> Sequence[Any]:
        """What somebody with a SQL prompt and no keys does."""
        with self.database.connect() as connection:
            connection.execute(f"SET search_path = {self.schema}")
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []


KeyStorePlace = KeptInSQLite | KeptInPostgreSQL
