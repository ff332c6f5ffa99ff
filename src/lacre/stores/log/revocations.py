# SPDX-License-Identifier: Apache-2.0
"""
Revocations of grants, as the evidence log has them: whoever removes one from the key store has not removed it here.

Up to the last signed checkpoint the log is what was signed, or it is refused; what is not signed yet
counts too, because to believe it takes something away and gives nothing. Leaves that are removed
are found by verification (`lacre audit verify`), not here.
"""

from collections.abc import Collection
from typing import final

import sqlalchemy as sa

from lacre.audit.entries import Entry, Stamp
from lacre.audit.leaves import Position
from lacre.audit.notes import Verifier
from lacre.errors import ConfigurationError
from lacre.stores.log.head import load_head
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import LEAF

__all__ = ["LoggedRevocations"]


@final
class LoggedRevocations:
    """Reads *log*, from where it read last. A role that may not read it finds nothing, and says so."""

    def __init__(self, log: AuditLog, stamp: Stamp, verifiers: Collection[Verifier]) -> None:
        self._log = log
        self._stamp = stamp
        self._verifiers = list(verifiers)
        self._found: set[str] = set()
        self._vouched: tuple[int, int, bytes] | None = None
        self._position = Position(0, -1)
        self.readable = True

    def revoked(self) -> Collection[str]:
        """
        Return the ids of grants that were revoked.

        Raises:
            Tampered: the log's tree is not the one that was signed, or that was seen here before.
            EvidenceUnavailable: it does not answer.
        """
        of = sa.select(LEAF.c.shard, LEAF.c.seq, LEAF.c.entry)
        query = of.where(LEAF.c.action == "grant", LEAF.c.step.in_(("revoked", "expired")))
        after = sa.tuple_(LEAF.c.shard, LEAF.c.seq) > sa.tuple_(*self._position)
        try:
            with self._log.snapshot() as connection:
                head = load_head(connection, self._stamp, self._verifiers, vouched=self._vouched)
                rows = connection.execute(query.where(after)).all()
        except ConfigurationError:
            self.readable = False  # a process that only writes evidence: the rows are all it has
            return self._found
        self.readable = True
        if head is not None:
            if head.tree.size:
                self._vouched = (head.shard, head.tree.size, head.tree.root())
            for row in rows:
                self._found.add(str(Entry.read(bytes(row.entry)).members["grant"]))
            self._position = Position(head.shard, head.tree.size - 1)
        return self._found

    def newest(self) -> float | None:
        """Return when the last leaf was sequenced, in seconds; None of an empty log, or one that may not be read."""
        last = sa.select(LEAF.c.sequenced).order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc())
        try:
            with self._log.reading() as connection:
                found = connection.execute(last.limit(1)).scalar()
        except ConfigurationError:
            return None
        return None if found is None else found / 1_000_000

    def close(self) -> None:
        """Close every connection to the log."""
        self._log.close()
