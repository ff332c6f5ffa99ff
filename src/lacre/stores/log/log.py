# SPDX-License-Identifier: Apache-2.0
"""
The evidence log at a URL: its connections, its tables, and whether they are there.

Implements ``spec/evidence-log.md``, section 3. Does not append (`lacre.stores.log.sink`), sequence
(`lacre.stores.log.sequencer`) or read entries (`lacre.stores.log.reader`).
"""

import os
import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import sqlalchemy as sa

from lacre.errors import ConfigurationError, EvidenceUnavailable
from lacre.stores.database import Held, KeyDatabase, parsed
from lacre.stores.log.roles import LogRoles, log_role_statements
from lacre.stores.log.schema import LOG_META, SEQUENCER, VERSION, metadata
from lacre.stores.postgresql import PostgreSQLDatabase
from lacre.stores.sqlite import SQLiteDatabase

__all__ = ["AuditLog"]

_HELD = Held(
    name="evidence log",
    setting="[audit]",
    file="lacre/audit.db",
    lost="evidence kept in memory is lost with the process",
    granted="writer for applications, sequencer for what sequences, auditor to read",
    tables=tuple(metadata.sorted_tables),
    unreachable=EvidenceUnavailable,
    grants=log_role_statements,
)


@final
class AuditLog:
    """
    The log at *url*, an SQLAlchemy URL.

    Opening it reads nothing. Every method but `upgrade` needs the tables of this release and
    raises `ConfigurationError` with the command that makes them otherwise; `EvidenceUnavailable`,
    which may be tried again, where the database does not answer.

    Args:
        schema: of PostgreSQL; SQLite has none.
    """

    def __init__(self, url: str, *, schema: str = "lacre_audit") -> None:
        where = parsed(url, _HELD)
        self._database: KeyDatabase = (
            SQLiteDatabase(where, _HELD)
            if where.get_backend_name() == "sqlite"
            else PostgreSQLDatabase(where, schema, _HELD)
        )
        self._current = False
        weak = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _after_fork(self) -> None:
        # A child must not speak over its parent's connections, nor close them.
        self._database.engine.dispose(close=False)

    def __repr__(self) -> str:
        return f"<AuditLog {self._database.where}>"

    @property
    def where(self) -> str:
        """Which database, for a message. Never a password."""
        return self._database.where

    @property
    def schema(self) -> str | None:
        """The schema of PostgreSQL; None of SQLite."""
        return self._database.schema

    @property
    def database(self) -> KeyDatabase:
        """What it is kept in."""
        return self._database

    def close(self) -> None:
        """Close every connection. The next use opens new ones."""
        self._database.engine.dispose()

    def version(self) -> int:
        """Return the version of the tables; 0 where there are none."""
        if not self._database.exists():
            return 0
        with self._database.translated(), self._database.engine.connect() as connection:
            return _version(connection, self.schema)

    def upgrade(self, *, roles: LogRoles | None = None) -> tuple[int, int]:
        """
        Bring the tables to this release's, in one transaction; return the versions before and after.

        Safe while other processes use the log, and when run twice at once.

        Args:
            roles: make these roles too, or give them again what they may do; PostgreSQL only.
        """
        granted = self._database.grants(roles) if roles is not None else ()
        self._database.make()
        with self._database.translated(), self._database.writer.begin() as connection:
            self._database.claim(connection)
            before = _version(connection, self.schema)
            for statement in _statements(before, self.schema):
                connection.execute(statement)
            for text in granted:
                connection.exec_driver_sql(text)
            if granted or before < VERSION:
                self._database.check_owner(connection)
        return before, max(before, VERSION)

    def script(self, *, roles: LogRoles | None = None) -> str:
        """Return the SQL that `upgrade` would run now, for somebody who runs it by hand."""
        granted = self._database.grants(roles) if roles is not None else ()
        dialect, lines = self._database.engine.dialect, ["BEGIN"]
        if self.schema is not None:
            lines.append(f"CREATE SCHEMA IF NOT EXISTS {self.schema}")
        for statement in _statements(self.version(), self.schema):
            compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})  # type: ignore[attr-defined]
            lines.append(str(compiled).strip())
        return "\n".join(f"{line};" for line in (*lines, *granted, "COMMIT"))

    def check(self) -> None:
        """
        Raise unless the log answers now and has the tables of this release.

        Raises:
            ConfigurationError: says which, and the command that helps.
            EvidenceUnavailable: it does not answer.
        """
        version = self.version()
        if version == 0:
            self.close()  # an open connection may be to a file that was replaced since
            version = self.version()
        if version == 0:
            raise ConfigurationError(
                f"there is no evidence log at {self.where}",
                hint="run `lacre db upgrade`, or `lacre init` for a first one",
            )
        if version != VERSION:
            raise ConfigurationError(
                f"the evidence log's tables are version {version}, this release needs {VERSION}",
                hint="run `lacre db upgrade`" if version < VERSION else "upgrade lacre",
            )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for single statements that read."""
        self._check_once()
        with self._database.translated(), self._database.engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A connection whose every statement sees the same rows, and writes none."""
        self._check_once()
        with self._database.translated(), self._database.snapshot.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes; `IntegrityError` passes: it decides a race."""
        self._check_once()
        with self._database.translated(), self._database.writer.begin() as connection:
            yield connection

    def _check_once(self) -> None:
        if not self._current:
            self.check()
            self._current = True


def _statements(before: int, schema: str | None) -> Sequence[sa.Executable]:
    if before >= VERSION:
        return []
    own = sa.MetaData(schema=schema)
    tables = [table.to_metadata(own) for table in metadata.sorted_tables]
    made: list[sa.Executable] = [sa.schema.CreateTable(table) for table in tables]
    made += [sa.schema.CreateIndex(index) for table in tables for index in sorted(table.indexes, key=lambda each: str(each.name))]  # fmt: skip
    of = {table.name: table for table in tables}
    meta, sequencer = of[LOG_META.name], of[SEQUENCER.name]
    first = {"version": str(VERSION), "log": secrets.token_hex(16)}
    made += [meta.insert().values(name=name, value=value) for name, value in first.items()]
    made.append(sequencer.insert().values(one=1, epoch=0, holder="", until=0))
    return made


def _version(connection: sa.Connection, schema: str | None) -> int:
    if not sa.inspect(connection).has_table(LOG_META.name, schema=schema):
        return 0
    found = connection.execute(
        sa.select(LOG_META.c.value).where(LOG_META.c.name == "version")
    ).scalar()
    if not str(found).isascii() or not str(found).isdecimal():
        raise ConfigurationError(
            "the evidence log does not say which tables it has",
            hint="restore the log from a backup",
        )
    return int(str(found))
