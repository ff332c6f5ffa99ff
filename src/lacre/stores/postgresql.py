# SPDX-License-Identifier: Apache-2.0
"""
The key store, or the evidence log, in a schema of a PostgreSQL database: connections, isolation, errors.

Does not hold statements about either (`lacre.stores.sql`, `lacre.stores.log`) and grants nothing
(`lacre.stores.roles`, `lacre.stores.log.roles`). The password is libpq's business: in the URL, PGPASSWORD, a password file
or a service; none of them is in an error, a log or a repr.

Isolation is READ COMMITTED, because every write is a compare-and-swap of single rows: an UPDATE
that names the state, revision and wrapped key it read waits for whoever holds the row, looks at
it again, and changes nothing if it moved; an INSERT meets a unique index. SERIALIZABLE would
refuse the same races, and more that are none. What must see one state of several tables, a
dump, reads REPEATABLE READ.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from lacre.errors import ConfigurationError, LacreError, MisuseError
from lacre.stores.database import SCRATCH, Held, only_if_higher
from lacre.stores.identifiers import is_plain

__all__ = ["PostgreSQLDatabase", "connecting"]

# Small: keys are asked for once a cache age and KMS key, evidence is handed over in batches.
_POOL = {"pool_size": 2, "max_overflow": 3, "pool_timeout": 10, "pool_recycle": 1800}

# Of libpq, where the URL says nothing else: nobody waits for a server that is away.
_CONNECT = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "lacre",
}

# Of each session. `pg_catalog` alone, so that no object of another schema is ever meant; every
# name of ours is qualified.
_SESSION = {
    "search_path": "pg_catalog",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}

# {0} is what is held there, {1} its table of lacre.toml, {2} who may do what.
_HINTS: dict[str, tuple[str, str]] = {
    "28P01": ("the {0}'s server refuses the password", "check the password in {1} url, PGPASSWORD, PGPASSFILE or the service file"),
    "28000": ("the {0}'s server refuses this user", "check the user in {1} url, and the server's pg_hba.conf"),
    "3D000": ("the {0}'s server has no such database", "create it, or name another one in {1} url"),
    "42501": ("this database user may not do that in the {0}", "grant it a role that `lacre db upgrade --roles` makes: {2}, the owner for `lacre db upgrade`"),
    "TLS": ("there is no TLS connection to the {0}'s server that libpq trusts", "sslrootcert=... in {1} url names the authority of its certificate; ?sslmode=disable would send everything in the clear"),
    "25006": ("the {0}'s server takes no writes: it is a replica, or read-only", "name the primary in {1} url"),
}  # fmt: skip

_BUSY = frozenset({"55P03", "57014"})  # lock_not_available, query_canceled: a timeout of ours
_CONNECTING = (
    (r"password authentication failed|no password supplied", "28P01"),
    (r'no pg_hba.conf entry|role "[^"]*" (does not exist|is not permitted)', "28000"),
    (r'database "[^"]*" does not exist', "3D000"),
    (r"server does not support SSL|certificate", "TLS"),
)

_AWAY = frozenset({"08", "53", "57"})  # classes: connection, resources, operator intervention
_RACES = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected


class PostgreSQLDatabase:
    """The schema *schema* of the database that *url* names, for what is *held* in it."""

    def __init__(self, url: sa.URL, schema: str, held: Held) -> None:
        self._held = held
        # A plain identifier, so that it stands in every statement as it is.
        if not is_plain(schema):
            raise ConfigurationError(
                f"the {held.name} has a schema of its own: a-z, 0-9 and underscore, not public, no word that SQL reserves and none that begins with pg_",
                hint=f'{held.setting} schema = "lacre"',
            )
        self._schema = schema
        self._where = f"schema {schema} of {url.database or 'the database'} on {url.host or url.query.get('service') or 'this machine'}"
        try:
            self._pool = sa.create_engine(
                url,
                hide_parameters=True,  # neither an error nor a log carries what is in a row
                pool_pre_ping=True,  # a connection the server dropped is replaced, not used
                use_native_hstore=False,
                connect_args=connecting(url),
                **_POOL,
            )
        except ModuleNotFoundError:
            raise ConfigurationError(
                "psycopg is not installed", hint="pip install 'lacre[postgresql]'"
            ) from None
        sa.event.listen(self._pool, "connect", _on_connect)
        self.engine = self._pool.execution_options(schema_translate_map={None: schema})
        self.snapshot = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self.writer = self.engine

    @property
    def where(self) -> str:
        return self._where

    @property
    def schema(self) -> str:
        return self._schema

    def exists(self) -> bool:
        return True

    def make(self) -> None:
        pass  # `claim` makes the schema, in the upgrade's own transaction

    def claim(self, connection: sa.Connection) -> None:
        # One upgrade at a time, and nobody waits for it longer than lock_timeout.
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"lacre {self._held.name} {self._schema}"},
        )
        there = sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
        # Not IF NOT EXISTS: that asks for the right to create even where there is nothing to do.
        if connection.execute(there, {"name": self._schema}).first() is None:
            connection.execute(sa.schema.CreateSchema(self._schema))

    def check_owner(self, connection: sa.Connection) -> None:
        # The owner of a schema may drop what is in it, whoever the owner of that is.
        foreign = sa.text(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :name AND c.relname = ANY(:tables) AND c.relkind = 'r'"
            " AND c.relowner <> n.nspowner"
        )
        tables = [table.name for table in self._held.tables]
        if connection.execute(foreign, {"name": self._schema, "tables": tables}).first():
            raise ConfigurationError(
                f"the {self._held.name}'s schema and its tables have different owners, and the schema's may drop the tables ({self._where}); nothing was changed",
                hint=f"run it as the owner of the schema, or first ALTER SCHEMA {self._schema} OWNER TO the login that runs it, and so its tables",
            )

    def grants(self, roles: Any) -> Sequence[str]:
        return self._held.grants(self._schema, roles)

    def alone(self, connection: sa.Connection) -> None:
        # Rows of any number are read and written then: the session's limit is for single ones.
        connection.exec_driver_sql("SET LOCAL statement_timeout = '600s'")
        names = ", ".join(f'"{self._schema}".{table.name}' for table in self._held.tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")

    def sealing(self, connection: sa.Connection, *, alone: bool) -> None:
        # An advisory lock, because locking the rows themselves asks for the right to change them.
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        connection.execute(
            sa.text(f"SELECT {lock}(hashtextextended(:name, 0))"),
            {"name": f"lacre sealing {self._schema}"},
        )

    def highest(self, table: sa.Table, counter: str) -> sa.Insert:
        return only_if_higher(postgresql.insert(table), table, counter)

    def unless_there(self, table: sa.Table) -> sa.Insert:
        return postgresql.insert(table).on_conflict_do_nothing()

    def discard(self) -> None:
        if not self._schema.startswith(SCRATCH):
            raise MisuseError("this is no scratch store; nothing was removed")
        with self.translated(), self.writer.begin() as connection:
            connection.execute(sa.schema.DropSchema(self._schema, cascade=True, if_exists=True))

    @contextmanager
    def translated(self) -> Iterator[None]:
        # The driver's own message may carry values and settings; none of it is repeated.
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._translation(error) from None

    def _translation(self, error: SQLAlchemyError) -> LacreError:
        held, name = self._held, self._held.name
        if isinstance(error, sa.exc.TimeoutError):
            return held.unreachable(f"every connection to the {name} is busy", hint="try again")
        state = _sqlstate(error)
        if state in _HINTS:
            message, hint = (
                text.format(name, held.setting, held.granted) for text in _HINTS[state]
            )
            return ConfigurationError(f"{message} ({self._where})", hint=hint)
        if state in _RACES:
            return MisuseError(
                f"another process changed the {name} at the same moment; nothing was done",
                hint="try again",
            )
        if state in _BUSY:
            return held.unreachable(
                f"the {name} is busy ({self._where})",
                hint="another process holds what is needed; try again",
            )
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if lost or state[:2] in _AWAY or (not state and isinstance(error, OperationalError)):
            return held.unreachable(
                f"the {name}'s server does not answer ({self._where})",
                hint=f"try again; if it stays away, check host, port, user and password in {held.setting} url, and the server's log",
            )
        return ConfigurationError(
            f"the {name} failed ({type(error).__name__}{f', SQLSTATE {state}' if state else ''})",
            hint=f"check the database the {name}'s url names",
        )


def connecting(url: sa.URL) -> dict[str, Any]:
    """Return how psycopg connects to *url*, where that says nothing else."""
    given = url.query
    found: dict[str, Any] = {name: value for name, value in _CONNECT.items() if name not in given}
    if not (
        {"sslmode", "service"} & given.keys() or {"PGSSLMODE", "PGSERVICE"} & os.environ.keys()
    ):
        # libpq's own default falls back to plaintext, password exchange included.
        found["sslmode"] = "require"
    # Statements prepared on one server connection fail on the next behind a pooler.
    return found | {"prepare_threshold": None}


def _sqlstate(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    if state:
        return str(state)
    # Where connecting failed, psycopg passes on libpq's text without its code.
    text = str(original) if isinstance(error, OperationalError) else ""
    return next((code for words, code in _CONNECTING if re.search(words, text)), "")


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    settings = ", ".join(f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in _SESSION.items())  # fmt: skip
    cursor.execute(f"SELECT {settings}")
    cursor.close()
    connection.commit()
