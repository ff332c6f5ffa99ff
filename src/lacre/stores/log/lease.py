# SPDX-License-Identifier: Apache-2.0
"""
Who sequences: one holder at a time, by a lease with a fencing epoch.

Whoever takes the lease raises the epoch. Every transaction of a sequencer begins by renewing the
lease of its own epoch, which locks the row: one that was taken over changes no row and is told so,
however long it slept. Implements ``spec/evidence-log.md``, section 5. Clocks of several machines
may differ by less than a lease; if they differ by more, the fence holds all the same.
"""

import os
import socket
from typing import final

import sqlalchemy as sa

from lacre.errors import EvidenceUnavailable
from lacre.stores.log.schema import SEQUENCER

__all__ = ["Lease"]


@final
class Lease:
    """The lease of a log, as one would-be holder sees it. *length* is in seconds."""

    def __init__(self, *, length: float = 15.0) -> None:
        self.length = int(length * 1_000_000)
        self.forget()

    def forget(self) -> None:
        """Hold nothing, under a name of its own: after a fork, the parent holds what it held."""
        self.epoch: int | None = None
        self.until = 0
        self.holder = f"{socket.gethostname()[:32]}:{os.getpid()}:{os.urandom(4).hex()}"

    def take(self, connection: sa.Connection, now: int) -> bool:
        """Take the lease, if nobody holds it; return whether it is ours now, if this transaction commits."""
        free = sa.or_(SEQUENCER.c.until <= now, SEQUENCER.c.holder == "")
        taken = connection.execute(
            sa.update(SEQUENCER)
            .where(SEQUENCER.c.one == 1, free)
            .values(epoch=SEQUENCER.c.epoch + 1, holder=self.holder, until=now + self.length)
        )
        if taken.rowcount != 1:
            return False
        self.epoch = connection.execute(sa.select(SEQUENCER.c.epoch)).scalar_one()
        self.until = now + self.length
        return True

    def hold(self, connection: sa.Connection, now: int) -> None:
        """
        Renew the lease: the first statement of every transaction that writes.

        Raises:
            EvidenceUnavailable: another took it over; the transaction must not commit.
        """
        held = connection.execute(
            sa.update(SEQUENCER).where(*self._ours()).values(until=now + self.length)
        )
        if held.rowcount != 1:
            self.epoch = None
            raise EvidenceUnavailable(
                "another sequencer took over", hint="nothing was written; it goes on from here"
            )
        self.until = now + self.length

    def release(self, connection: sa.Connection) -> None:
        """Let whoever comes next take it at once."""
        connection.execute(sa.update(SEQUENCER).where(*self._ours()).values(holder="", until=0))

    def _ours(self) -> tuple[sa.ColumnElement[bool], ...]:
        # The holder too: an epoch whose COMMIT did not come through is given again, to whoever takes it next.
        return (
            SEQUENCER.c.one == 1,
            SEQUENCER.c.epoch == self.epoch,
            SEQUENCER.c.holder == self.holder,
        )
