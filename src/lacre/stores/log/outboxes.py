# SPDX-License-Identifier: Apache-2.0
"""
Outboxes: entries that applications wrote in their own databases, in the transactions they are about.

Implements ``spec/evidence-log.md``, section 4. An entry leaves its outbox after its leaf has
committed: ended in between, it is read again, and known by its id. Does not write to outboxes
(`lacre.sqlalchemy`) and makes none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from lacre.errors import ConfigurationError, EvidenceUnavailable
from lacre.stores.database import beside
from lacre.stores.log.loading import first, remove
from lacre.stores.log.schema import OUTBOX
from lacre.stores.postgresql import connecting

__all__ = ["Outbox", "Waiting", "open_outboxes"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry that waits, in the inbox or in an outbox, and its *position* there."""

    position: int
    id: bytes
    entry: bytes


@final
class Outbox:
    """The table `lacre_outbox` of the database of the store *name*."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        try:
            parsed = sa.make_url(url)
            postgresql = parsed.drivername == "postgresql+psycopg"
            self._engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                pool_pre_ping=True,
                connect_args=connecting(parsed) if postgresql else {"timeout": 5},
            )
        except (sa.exc.ArgumentError, ModuleNotFoundError):
            raise ConfigurationError(
                f"the outbox of the store {name} cannot be opened",
                hint=f'[audit] outboxes.{name} = "postgresql+psycopg://host/database", with the extra postgresql',
            ) from None

    def waiting(
        self, limit: int, passed: Sequence[int] = (), *, room: int = 2**26
    ) -> tuple[list[Waiting], list[int]]:
        """
        Return what waits, the oldest first, not what stands at the positions that were *passed* over; and what is too long.

        Of one that is longer than *room* bytes the position is returned; of all others together no more are read.

        Raises:
            EvidenceUnavailable: the database does not answer, or has no such table.
        """
        try:
            with self._engine.connect() as connection:
                found = first(connection, OUTBOX, limit, without=passed, room=room)
        except SQLAlchemyError:
            raise self._away() from None
        waiting = [Waiting(row.position, bytes(row.id), bytes(row.entry)) for row in found.rows]
        return waiting, found.too_long

    def remove(self, gone: Sequence[int]) -> None:
        """Remove what stands at these positions: they are leaves."""
        try:
            with self._engine.begin() as connection:
                remove(connection, OUTBOX, gone)
        except SQLAlchemyError:
            raise self._away() from None

    def after_fork(self) -> None:
        """Leave the parent's connections alone."""
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _away(self) -> EvidenceUnavailable:
        # The driver's own words may carry a host, a login and what is in a row.
        return EvidenceUnavailable(
            f"the outbox of the store {self.name} cannot be read or emptied",
            hint=f"check that the database of [audit] outboxes.{self.name} answers and has the table lacre_outbox",
        )


def open_outboxes(urls: Mapping[str, str], base: Path) -> list[Outbox]:
    """Return the outboxes at *urls*, by store; the path of an SQLite file is relative to *base*."""
    return [Outbox(name, beside(url, base)) for name, url in urls.items()]
