# SPDX-License-Identifier: Apache-2.0
"""
The outbox: evidence of writes in the application's own database, in the transaction that writes.

Where ``[audit.outboxes]`` of `lacre.toml` names a store, what a session writes there is recorded by
rows of the table `lacre_outbox`, on the connection and in the transaction of the write, when it is
flushed. So a commit, a rollback, a savepoint and a crash concern both or neither, and a recorder
that is down stops no write. The sequencer takes the rows into the log and deletes them.

Such entries carry no number of a writer: what rolled back would leave a gap. Does not read the
table or sequence anything (`lacre.stores.log`).
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from lacre.audit.entries import Stamp, written
from lacre.audit.event import Event
from lacre.errors import ConfigurationError
from lacre.stores.log.schema import OUTBOX

__all__ = ["Outbox", "outbox_table"]

# No RETURNING: nobody asks for the position, and the application's role may not read the table.
_INSERT = OUTBOX.insert().inline()


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    """
    Add the outbox's table to *metadata*, so that `create_all` and Alembic make it with the others.

    Rights are `lacre audit outbox`'s to give: applications insert, the sequencer reads and deletes.
    """
    return OUTBOX.to_metadata(metadata)


class Outbox:
    """
    The outboxes of the databases of one application's sessions.

    Args:
        stores: those that `[audit.outboxes]` names.
        stamp: what every entry says.
    """

    def __init__(self, stores: frozenset[str], stamp: Stamp) -> None:
        self._stores = stores
        self._stamp = stamp
        self._checked: WeakSet[Any] = WeakSet()

    def takes(self, store: str) -> bool:
        """Whether writes of *store* are recorded here."""
        return store in self._stores

    def check(self, connection: Connection, store: str) -> None:
        """
        Raise unless the table is there, before anything is written. Asks once for each engine.

        Raises:
            ConfigurationError
        """
        if store not in self._stores or connection.engine in self._checked:
            return
        if not sa.inspect(connection).has_table(OUTBOX.name):
            raise ConfigurationError(
                f"the database of store {store!r} has no table {OUTBOX.name}, which lacre.toml says evidence of writes is put in",
                hint=f"lacre audit outbox --store {store}, or a migration with outbox_table(metadata)",
            )
        self._checked.add(connection.engine)

    def put(self, connection: Connection, events: Sequence[Event]) -> None:
        """
        Insert the entries of *events* in the transaction of *connection*.

        Raises:
            ConfigurationError: the application may not insert.
        """
        rows = [
            {"id": bytes.fromhex(event.id), "entry": written(event, self._stamp)}
            for event in events
        ]
        try:
            connection.execute(_INSERT, rows)
        except ProgrammingError:
            raise ConfigurationError(
                f"the application cannot insert into {OUTBOX.name}, so what it wrote is not kept",
                hint="lacre audit outbox --print shows the rights that its role needs",
            ) from None
