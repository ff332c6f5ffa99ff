# SPDX-License-Identifier: Apache-2.0
"""
What a process hands over to the evidence log: entries in its inbox, on audit's own connection.

Each process is a writer of its own: it draws a name, says that it began, numbers what it hands
over without a gap, and says that it ended. So entries that vanish from the inbox leave a gap that
verifying finds. Implements ``spec/evidence-log.md``, section 4. Sequences nothing
(`lacre.stores.log.sequencer`).
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, final

import sqlalchemy as sa

from lacre.audit.entries import Entry, Stamp, written
from lacre.audit.event import Event
from lacre.audit.governing import KnownPolicy
from lacre.audit.keeping import Recording
from lacre.errors import ConfigurationError, EvidenceUnavailable
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import INBOX, LEAF

__all__ = ["OWN", "LogSink", "Notified"]

_POLICIES = 100  # of all services of a log, in which this one's last is looked for

# Who acts in the events of the log itself.
OWN: dict[str, Any] = {"principal": "svc:audit", "roles": (), "purpose": "evidence", "tenant": ""}


class Notified(Protocol):
    """What is told that the inbox has something: the sequencer of this process, where it has one."""

    def notify(self) -> None: ...

    def close(self) -> None: ...


@final
class LogSink:
    """
    Hands events over to *log*; the transaction has committed when `append` returns.

    A batch that failed is given again before any other (`lacre.audit.recorder` does so): what of it
    arrived all the same is not handed over twice, because an entry counts by its id.

    Args:
        notified: told of everything handed over, and closed with the sink.
    """

    def __init__(
        self,
        log: AuditLog,
        stamp: Stamp,
        *,
        notified: Notified | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._stamp = stamp
        self._notified = notified
        self._clock = clock
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._writer = os.urandom(16).hex()
        self._number = 0  # of the last entry that is handed over for sure
        self._edge: Event | None = None  # the beginning or the end, until it is handed over

    def append(self, events: Sequence[Event]) -> None:
        """
        Hand over *events*, in order; without any, raise where some could not be.

        Raises:
            ConfigurationError, EvidenceUnavailable
        """
        if os.getpid() != self._process:
            self._start()  # a child is a writer of its own
        if not events:
            self._log.check()
            with self._log.writing():
                return
        if self._number == 0 and self._edge is None:
            self._edge = self._recording("began", 1)
        self._hand_over(events if self._edge is None else [self._edge, *events])

    def close(self) -> None:
        """
        Say that this writer ended, and let the sequencer of this process rest. It may begin again.

        Raises:
            ConfigurationError, EvidenceUnavailable: its end could not be said.
        """
        if os.getpid() != self._process:
            self._start()
        try:
            if self._number:
                if self._edge is None:
                    self._edge = self._recording("ended", self._number + 1)
                self._hand_over([self._edge])
                self._start()
        finally:
            if self._notified is not None:
                self._notified.close()
            self._log.close()

    def known_policy(self) -> KnownPolicy | None:
        """
        Return the policy of this service that the log met last, or None.

        None too for a role that only writes: then each process says by which policy it works. And
        where the log cannot be read at all: whoever hands something over is told why.
        """
        met = sa.select(LEAF.c.entry).where(LEAF.c.action == "policy").order_by(LEAF.c.time.desc())
        try:
            with self._log.reading() as connection:
                lines = connection.execute(met.limit(_POLICIES)).scalars().all()
        except (ConfigurationError, EvidenceUnavailable):
            return None
        found = (
            KnownPolicy.of(Entry.read(bytes(line)).members, self._stamp.service) for line in lines
        )
        return next((each for each in found if each is not None), None)

    def newest(self) -> float | None:
        """Return when the last leaf was sequenced, in seconds; None of an empty log."""
        last = sa.select(LEAF.c.sequenced).order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc())
        with self._log.reading() as connection:
            found = connection.execute(last.limit(1)).scalar()
        return None if found is None else found / 1_000_000

    def _recording(self, step: str, events: int) -> Recording:
        return Recording(step=step, events=events, time=self._clock(), **OWN)

    def _hand_over(self, events: Sequence[Event]) -> None:
        ids = [bytes.fromhex(event.id) for event in events]
        entries = [
            written(event, self._stamp, writer=self._writer, number=number)
            for number, event in enumerate(events, self._number + 1)
        ]
        with self._log.writing() as connection:
            if connection.dialect.name == "postgresql":
                # One statement however many there are. An entry that came before is passed over.
                connection.exec_driver_sql(
                    f"INSERT INTO {self._log.schema}.{INBOX.name} (id, entry)"  # noqa: S608 - a plain identifier, which PostgreSQLDatabase checks
                    " SELECT * FROM unnest(%s::bytea[], %s::bytea[]) ON CONFLICT DO NOTHING",
                    (ids, entries),
                )
            else:
                rows = [{"id": i, "entry": e} for i, e in zip(ids, entries, strict=True)]
                connection.execute(self._log.database.unless_there(INBOX), rows)
        self._number += len(events)
        self._edge = None
        if self._notified is not None:
            self._notified.notify()
