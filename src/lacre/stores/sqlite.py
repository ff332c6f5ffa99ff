# SPDX-License-Identifier: Apache-2.0
"""
The key store, or the evidence log, in an SQLite file: its pragmas, its locking, its errors.

Does not hold statements about either (`lacre.stores.sql`, `lacre.stores.log`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from lacre.errors import ConfigurationError, LacreError, MisuseError
from lacre.stores.database import SCRATCH, Held, only_if_higher
from lacre.stores.forking import Uses

__all__ = ["SQLiteDatabase"]


class SQLiteDatabase:
    """The file that *url* names, for what is *held* in it."""

    schema = None

    def __init__(self, url: sa.URL, held: Held) -> None:
        self._held = held
        self._uses = Uses()
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError(f"the {held.name} needs a file of its own", hint=held.lost)
        self._path = Path(str(url.database))
        # hide_parameters: neither an error nor a log of statements carries what is in a row.
        self.engine = sa.create_engine(url, hide_parameters=True)
        # A transaction of SQLite reads one state of the file from its first statement on.
        self.snapshot = self.engine
        self.writer = self.engine.execution_options(lacre_writes=True)
        sa.event.listen(self.engine, "connect", _on_connect)
        sa.event.listen(self.engine, "begin", _on_begin)

    @property
    def where(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        return self._path.exists()

    def make(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            self._path.touch(mode=0o600)

    def claim(self, connection: sa.Connection) -> None:
        pass  # BEGIN IMMEDIATE holds the file's one write lock already

    def check_owner(self, connection: sa.Connection) -> None:
        pass  # who owns the file owns what is in it

    def grants(self, roles: Any) -> Sequence[str]:
        raise ConfigurationError(
            "SQLite knows no roles",
            hint=f"its file belongs to one user; keep the {self._held.name} on PostgreSQL to tell them apart",
        )

    def alone(self, connection: sa.Connection) -> None:
        pass  # as above

    def sealing(self, connection: sa.Connection, *, alone: bool) -> None:
        pass  # as above

    def highest(self, table: sa.Table, counter: str) -> sa.Insert:
        return only_if_higher(sqlite.insert(table), table, counter)

    def unless_there(self, table: sa.Table) -> sa.Insert:
        return sqlite.insert(table).on_conflict_do_nothing()

    def discard(self) -> None:
        if not self._path.name.startswith(SCRATCH):
            raise MisuseError("this is no scratch store; nothing was removed")
        self.engine.dispose()
        self._path.unlink(missing_ok=True)

    @contextmanager
    def translated(self) -> Iterator[None]:
        # SQLAlchemy's own message would carry the statement's parameters.
        try:
            with self._uses.use():
                yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise _translation(error, self._held) from None


def _translation(error: SQLAlchemyError, held: Held) -> LacreError:
    original = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(original, sqlite3.OperationalError):
        # Text of SQLite's own: it names tables and files, never a value.
        says = f"SQLite says: {original}"
        if getattr(original, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            return held.unreachable(f"the {held.name} does not answer", hint=says)
        return ConfigurationError(f"the {held.name} does not answer", hint=says)
    return ConfigurationError(
        f"the {held.name} failed ({type(error).__name__})",
        hint=f"check the database the {held.name}'s url names",
    )


def _on_connect(connection: Any, _record: Any) -> None:
    # SQLAlchemy's documented way to real transactions on SQLite: the driver begins none itself.
    connection.isolation_level = None
    cursor = connection.cursor()
    # A destroyed key leaves no copy in a freed page.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()


def _on_begin(connection: sa.Connection) -> None:
    # A writer takes its lock at once: two that read first and then wrote would deadlock.
    connection.exec_driver_sql(
        "BEGIN IMMEDIATE" if connection.get_execution_options().get("lacre_writes") else "BEGIN"
    )
