# SPDX-License-Identifier: Apache-2.0
"""
A job's connection: its settings, its names in SQL, and its errors, which quote no value.

Implements ``spec/protect-postgresql.md``, section "The job's connection".
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from lacre.errors import ConfigurationError, LacreError

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "connected",
    "cut",
    "is_postgresql",
    "literal",
    "parsed",
    "qualified",
    "quoted",
    "refusing",
    "run",
    "shown",
    "snapshot",
    "transaction",
    "verbatim",
]

_LONGEST = 63  # bytes of an identifier

# Nothing of the server's, the database's or the role's own settings is left to chance.
_SETTINGS = {
    "search_path": "pg_catalog",
    "row_security": "off",  # rows that a policy hides are an error, not missing
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "client_min_messages": "error",
    "application_name": "lacre",
}


# Classes of SQLSTATE whose messages the server words itself, with names but no values in them.
_EXPLAINED = frozenset({"08", "0A", "25", "2B", "2F", "3D", "3F", "40", "42", "53", "55", "57"})


def is_postgresql(database: object) -> bool:
    """Whether *database* is the URL of a PostgreSQL database."""
    return isinstance(database, str) and bool(re.match(r"postgres(ql)?(\+\w+)?://", database))


def connected(database: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """
    Connect, with a job's settings.

    Raises:
        ConfigurationError: no driver, no such server or database, or one that is too old.
    """
    try:
        import psycopg
    except ModuleNotFoundError:
        raise ConfigurationError(
            "psycopg is not installed", hint="pip install 'lacre[postgresql]'"
        ) from None
    password = parsed(database).password
    url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", database)
    try:
        connection = psycopg.connect(url, autocommit=True)
    except psycopg.Error as error:
        # The first line names server and reason, and may quote what it does not understand.
        reason = str(error).strip().partition("\n")[0]
        if password:
            reason = reason.replace(password, "...")
        raise ConfigurationError(
            f"cannot connect to the database: {reason}",
            hint="a password belongs into PGPASSWORD or PGPASSFILE, not into the URL",
        ) from None
    if connection.info.server_version < 140000:
        connection.close()
        raise ConfigurationError("the server is older than PostgreSQL 14")
    for name, value in _SETTINGS.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    # What the key store is told must outlive a crash of the server. (Batches say otherwise for themselves.)
    if connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
        connection.execute("SET synchronous_commit = 'on'")
    # A statement of a process that was killed ends soon, and its locks with it; not every system can.
    with suppress(psycopg.errors.InvalidParameterValue):
        connection.execute("SET client_connection_check_interval = '1s'")
    return connection


def parsed(database: str) -> SplitResult:
    """
    Return the parts of a database's URL.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        parts = urlsplit(database)
        _ = parts.port, parts.hostname
    except ValueError:
        raise ConfigurationError(
            "the database's URL is not one", hint="postgresql://HOST:PORT/DATABASE"
        ) from None
    return parts


def shown(database: str) -> str:
    """Return what may be printed of a database's URL: no user, no password, no parameters."""
    parts = parsed(database)
    port = f":{parts.port}" if parts.port else ""
    host = f"{parts.hostname or ''}{port}{parts.path}"
    return host or "the database that libpq's variables name"


def run(connection: Any, sql: str, parameters: Any = None, *, binary: bool = False) -> Any:
    """Execute *sql*, which is built of quoted names; every value is a parameter."""
    cursor = connection.cursor(binary=binary)
    # Always with parameters: only then is a doubled % one.
    return cursor.execute(sql, () if parameters is None else parameters)


def quoted(name: str) -> str:
    """Return *name* as an identifier, whatever is in it."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def qualified(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"


def verbatim(definition: str) -> str:
    """Return a definition as PostgreSQL gave it, for `run`."""
    return definition.replace("%", "%%")


def literal(text: str) -> str:
    """Return *text* as a literal, for statements that take no parameters."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("%", "%%")
    return f"E'{escaped}'"


def cut(name: str) -> str:
    """Return *name*, no longer than an identifier may be; what is cut is replaced by a hash."""
    data = name.encode()
    if len(data) <= _LONGEST:
        return name
    return data[: _LONGEST - 9].decode(errors="ignore") + "_" + sha256(data).hexdigest()[:8]


@contextmanager
def transaction(connection: Any, **settings: str) -> Iterator[None]:
    """A transaction with *settings* of its own, rolled back on any exception."""
    with connection.transaction():
        for name, value in settings.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
        yield


@contextmanager
def snapshot(connection: Any) -> Iterator[None]:
    """A transaction that reads one state of the database, and writes none."""
    import psycopg

    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction():
            yield
    finally:
        if not connection.closed:
            connection.isolation_level = connection.read_only = None


@contextmanager
def refusing(table: str) -> Iterator[None]:
    """Turn what PostgreSQL raises into lacre's errors. Its messages may quote values: not repeated."""
    import psycopg

    failure: LacreError | None = None
    try:
        yield
    except psycopg.Error as error:
        failure = ConfigurationError(
            f"PostgreSQL refused while working on {table}: {_reason(error)}",
            hint="nothing is lost: run the same command again to go on from the last batch",
        )
    if failure is not None:
        # Whoever prints a traceback with what came before must not print values either.
        raise failure from None


def _reason(error: Any) -> str:
    state = error.sqlstate or ""
    # Data exceptions and violated constraints are explained with the row's values, and functions of
    # others (RAISE) and external routines with what they like.
    if state[:2] not in _EXPLAINED:
        name = getattr(error.diag, "constraint_name", None) or ""
        return f"{type(error).__name__}{f' ({name})' if name else ''}"
    return f"{error.diag.message_primary or type(error).__name__} ({state})"
