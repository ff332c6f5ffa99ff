# SPDX-License-Identifier: Apache-2.0
"""
What the key store and the evidence log need of a kind of database, beside SQL that is the same everywhere.

One file implements it for each kind: `lacre.stores.sqlite`, `lacre.stores.postgresql`. Holds no
statement about keys or evidence; those are in `lacre.stores.sql` and `lacre.stores.log`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lacre.errors import ConfigurationError, LacreError

__all__ = ["SCRATCH", "Held", "KeyDatabase", "beside", "only_if_higher", "parsed"]

SCRATCH = "lacre_scratch_"  # begins the name of a file or schema that may be removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    What a database is opened for, as its messages say.

    *setting* is the table of lacre.toml that names it, *file* an SQLite file's usual name, *lost*
    what becomes of it in memory, *granted* who may do what, *unreachable* the error of a database
    that does not answer, *grants* the statements that make roles in a schema.
    """

    name: str
    setting: str
    file: str
    lost: str
    granted: str
    tables: Sequence[sa.Table]
    unreachable: type[LacreError]
    grants: Callable[[str, Any], Sequence[str]]


def parsed(url: str, held: Held) -> sa.URL:
    """
    Return *url*, which is of SQLite, or of PostgreSQL with psycopg.

    Raises:
        ConfigurationError: it is neither.
    """
    example = f'for example url = "sqlite:///{held.file}" or "postgresql+psycopg://host/database"'
    try:
        found = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(f"the {held.name}'s URL cannot be read", hint=example) from None
    if found.get_backend_name() == "sqlite" or found.drivername == "postgresql+psycopg":
        return found
    raise ConfigurationError(
        f"the {held.name} runs on SQLite and on PostgreSQL with psycopg", hint=example
    )


def beside(url: str, base: Path) -> str:
    """Return *url*; the path of an SQLite file is relative to *base*."""
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith("sqlite:////"):
        return prefix + str(base / url.removeprefix(prefix))
    return url


class KeyDatabase(Protocol):
    """A database that can hold a key store, or an evidence log."""

    @property
    def where(self) -> str:
        """Which one, for a message. Never a password."""
        ...

    @property
    def schema(self) -> str | None:
        """The schema every statement names, or None where there are no schemas."""
        ...

    @property
    def engine(self) -> sa.Engine:
        """Connections for single reads."""
        ...

    @property
    def snapshot(self) -> sa.Engine:
        """Connections whose every statement of one transaction sees the same rows, and writes none."""
        ...

    @property
    def writer(self) -> sa.Engine:
        """Connections for transactions that write."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to connect to. Makes nothing."""
        ...

    def make(self) -> None:
        """Make what a first upgrade connects to."""
        ...

    def claim(self, connection: sa.Connection) -> None:
        """Within a transaction: become the only one who changes the schema, and make a place for it."""
        ...

    def check_owner(self, connection: sa.Connection) -> None:
        """Within a transaction: raise `ConfigurationError` if what holds the tables is not of their owner."""
        ...

    def grants(self, roles: Any) -> Sequence[str]:
        """Return the statements that make *roles*, or raise `ConfigurationError` where there are none."""
        ...

    def alone(self, connection: sa.Connection) -> None:
        """Within a transaction: let others read, and nobody else write until it ends."""
        ...

    def sealing(self, connection: sa.Connection, *, alone: bool) -> None:
        """
        Within a transaction: make subject keys under bucket keys that stay active until it ends;
        or, *alone*, wait for whoever does, and let nobody begin.
        """
        ...

    def highest(self, table: sa.Table, counter: str) -> sa.Insert:
        """Return an INSERT that replaces the row with the same key only where *counter* is higher."""
        ...

    def unless_there(self, table: sa.Table) -> sa.Insert:
        """Return an INSERT that passes over rows that are there already, by any of the table's unique indexes."""
        ...

    def discard(self) -> None:
        """Remove the store, if its file or schema has the name of a scratch one."""
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Raise the database's errors as lacre's; `IntegrityError` passes: it decides a race."""
        ...


def only_if_higher(
    insert: postgresql.Insert | sqlite.Insert, table: sa.Table, counter: str
) -> sa.Insert:
    """Return *insert*, of either dialect, as `KeyDatabase.highest` describes it."""
    return insert.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={
            column.name: insert.excluded[column.name]
            for column in table.c
            if not column.primary_key
        },
        where=table.c[counter] < insert.excluded[counter],
    )
