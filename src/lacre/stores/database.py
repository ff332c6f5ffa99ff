# SPDX-License-Identifier: Apache-2.0
"""
What the key store needs of a kind of database, beside SQL that is the same everywhere.

One file implements it for each kind: `lacre.stores.sqlite`, `lacre.stores.postgresql`. Holds no
statement about keys; those are in `lacre.stores.sql`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lacre.stores.roles import Roles

__all__ = ["SCRATCH", "KeyDatabase", "only_if_higher"]

SCRATCH = "lacre_scratch_"  # begins the name of a file or schema that may be removed


class KeyDatabase(Protocol):
    """A database that can hold a key store."""

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

    def grants(self, roles: Roles) -> Sequence[str]:
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
