# SPDX-License-Identifier: Apache-2.0
"""
What principals have spent of their budgets, counted by all processes together in the evidence log's database.

Adds and returns in one statement for each window, so that no look is lost between two processes.
Windows that are over go. Decides nothing (`lacre.fields.budgets`).
"""

import hashlib
import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lacre.fields.budgets import Spent
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import SPENT

__all__ = ["SpentLooks"]

_SWEEP = 60.0  # seconds between two removals of what is over
_LONGEST = 512  # bytes of a name; an index of PostgreSQL takes no key of several thousand


class SpentLooks:
    """The shared counter in *log*, which it closes."""

    def __init__(self, log: AuditLog, *, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock
        self._swept = 0.0

    def add(self, looks: Mapping[Spent, int]) -> Mapping[Spent, int]:
        """Add *looks*, and return the totals of those windows."""
        totals = {}
        with self._log.writing() as connection:
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            # In one order, so that two processes do not wait for each other.
            for spent in sorted(looks, key=lambda each: (each.class_, each.principal, each.begin)):
                added = insert(SPENT).values(
                    {
                        "class": spent.class_,
                        "principal": _named(spent.principal),
                        "window": spent.begin,
                        "until": spent.end,
                        "looks": looks[spent],
                    }
                )
                counted = added.on_conflict_do_update(
                    index_elements=list(SPENT.primary_key),
                    set_={"looks": SPENT.c.looks + added.excluded.looks},
                ).returning(SPENT.c.looks)
                totals[spent] = int(connection.execute(counted).scalar_one())
            now = self._clock()
            if now - self._swept > _SWEEP:
                connection.execute(sa.delete(SPENT).where(SPENT.c.until < now - _SWEEP))
                self._swept = now
        return totals

    def close(self) -> None:
        """Close the log's connections."""
        self._log.close()


def _named(principal: str) -> str:
    # A name that no database takes is counted by its hash: it must not keep others' looks from being shared.
    data = principal.encode("utf-8", "surrogatepass")
    if principal.isprintable() and len(data) <= _LONGEST:
        return principal
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
