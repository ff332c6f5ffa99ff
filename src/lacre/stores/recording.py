# SPDX-License-Identifier: Apache-2.0
"""
Evidence of changed keys, in the transaction that changes them.

The key store has an outbox of its own. Where it is in use, what is recorded of a change is
inserted in the change's transaction, so a crash leaves both or neither. The sequencer takes the
rows into the log. Makes no event and sequences nothing.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from lacre.audit.entries import Stamp, written
from lacre.audit.event import Event
from lacre.errors import MisuseError
from lacre.stores.log.schema import OUTBOX

__all__ = ["RecordedChanges"]

# No RETURNING: who changes keys may not read the outbox.
_INSERT = OUTBOX.insert().inline()


class _OfThread(threading.local):
    events: Sequence[Event] = ()


class RecordedChanges:
    """What a key store with an outbox adds to its transactions."""

    def __init__(self) -> None:
        self._stamp: Stamp | None = None
        self._present = _OfThread()

    def keep_evidence(self, stamp: Stamp) -> None:
        """Record changes in their own transactions, from now on; *stamp* is what every entry says."""
        self._stamp = stamp

    @property
    def keeps_evidence(self) -> bool:
        """Whether `recording` does something."""
        return self._stamp is not None

    @contextmanager
    def recording(self, events: Sequence[Event]) -> Iterator[None]:
        """
        Insert *events* in the one transaction that the block makes, whose doing they are.

        Raises:
            MisuseError: the block changed nothing.
        """
        self._present.events = tuple(events)
        try:
            yield
            if self._present.events:
                raise MisuseError("events of a change were to be recorded, and nothing changed")
        finally:
            self._present.events = ()

    def _put_evidence(self, connection: sa.Connection) -> None:
        """Insert what belongs to this transaction, as the last thing in it."""
        events, stamp = self._present.events, self._stamp
        if events and stamp is not None:
            rows = [{"id": bytes.fromhex(e.id), "entry": written(e, stamp)} for e in events]
            connection.execute(_INSERT, rows)
            self._present.events = ()
