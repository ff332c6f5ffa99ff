# SPDX-License-Identifier: Apache-2.0
"""
Anchoring: what was signed since the last time is put into every anchor, and the log says so.

Of each month the newest checkpoint, which holds for all before it. Implements
``spec/evidence-log.md``, section 8.5. Verifies nothing, and is no anchor.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import sqlalchemy as sa

from lacre.audit.anchors import Anchor
from lacre.audit.entries import Entry, Stamp
from lacre.audit.keeping import Anchored
from lacre.audit.leaves import shard_name
from lacre.audit.notes import Checkpoint, origin_of
from lacre.errors import LacreError, Tampered
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF
from lacre.stores.log.sink import OWN, Notified
from lacre.stores.log.telling import tell

__all__ = ["AnchorThread", "Anchoring", "Put"]

_SHORT = 4096  # bytes that no entry of this kind has; what waits is whatever somebody put there

_log = logging.getLogger("lacre.audit")
_LOOK = 30.0  # seconds between two looks at whether it is time


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A checkpoint that was put into *anchor*, or why it was not (*failed*)."""

    anchor: str
    shard: int = 0
    size: int = 0
    failed: str = ""


class Holder(Protocol):
    """Who sequences, if it is this process."""

    @property
    def holds(self) -> bool: ...


@final
class Anchoring:
    """Puts the checkpoints of *log* into *anchors*."""

    def __init__(
        self,
        log: AuditLog,
        anchors: Sequence[Anchor],
        stamp: Stamp,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._anchors = anchors
        self._stamp = stamp
        self._clock = clock

    def last(self) -> float:
        """Return when something was anchored last, in seconds and never after now; 0 where nothing was."""
        # By the sequencer's clock: the entry's own time is whatever was written into it.
        newest = sa.select(sa.func.max(LEAF.c.sequenced)).where(LEAF.c.action == "anchor")
        with self._log.reading() as connection:
            found = connection.scalar(newest)
        return 0.0 if found is None else min(found / 1_000_000, self._clock())

    def put(self) -> list[Put]:
        """
        Put what is new into each anchor; return what was done. One that is away keeps no other from its own.

        Raises:
            ConfigurationError, EvidenceUnavailable: of the log itself.
        """
        done: list[Put] = []
        with self._log.reading() as connection:
            heads = _heads(connection)
            known = _known(connection)
        for anchor in self._anchors:
            try:
                for shard, size, root, note in heads:
                    if (anchor.name, shard, size) in known:
                        continue
                    origin = origin_of(self._stamp.app, self._stamp.env, shard)
                    anchor.put(Checkpoint(origin=origin, size=size, root=root), note)
                    self._record(anchor.name, shard, size, root)
                    done.append(Put(anchor=anchor.name, shard=shard, size=size))
            except LacreError as error:
                done.append(Put(anchor=anchor.name, failed=str(error)))
        return done

    def _record(self, anchor: str, shard: int, size: int, root: bytes) -> None:
        event = Anchored(
            anchor=anchor, shard=shard_name(shard), size=size, root=root.hex(), time=self._clock(), **OWN
        )  # fmt: skip
        with self._log.writing() as connection:
            tell(connection, event, self._stamp)


@final
class AnchorThread:
    """
    Anchors every *every* seconds, in the process that sequences: `notify` begins, `close` ends it.

    An anchor may take long to answer, and the sequencer does not wait for it.

    Args:
        beside: what is notified and closed with it: the thread that sequences.
    """

    def __init__(
        self,
        anchoring: Anchoring,
        sequencer: Holder,
        *,
        every: float,
        beside: Notified | None = None,
    ) -> None:
        self._anchoring = anchoring
        self._sequencer = sequencer
        self._every = every
        self._beside = beside
        self._told = ""
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def notify(self) -> None:
        """Begin, unless it runs already."""
        if self._beside is not None:
            self._beside.notify()
        if os.getpid() != self._process:
            self._start()
        with self._starting:
            if self._thread is not None:
                return
            self._stop = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(self._stop,), name="lacre-anchors", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return  # the process is ending
            self._thread = thread

    def close(self) -> None:
        """End, without waiting for an anchor that does not answer. `notify` begins again."""
        if os.getpid() == self._process:
            with self._starting:
                self._stop.set()
                thread, self._thread = self._thread, None
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout=1.0)
        if self._beside is not None:
            self._beside.close()

    def _run(self, stop: threading.Event) -> None:
        due: float | None = None  # the log says when only at the beginning: it may be told lies
        while not stop.wait(min(_LOOK, self._every)):
            if not self._sequencer.holds:
                continue
            try:
                if due is None:
                    due = time.monotonic() + self._every - (time.time() - self._anchoring.last())
                if time.monotonic() >= due:
                    due = time.monotonic() + self._every
                    failed = [each for each in self._anchoring.put() if each.failed]
                    self._tell("; ".join(each.failed for each in failed))
            except LacreError as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001 - nobody waits for this thread, and the next time may do
                self._tell(type(error).__name__)

    def _tell(self, what: str) -> None:
        if what and what != self._told:
            _log.error("the evidence log is not anchored: %s", what)
        self._told = what


def _heads(connection: sa.Connection) -> list[tuple[int, int, bytes, str]]:
    newest = (
        sa.select(CHECKPOINT.c.shard, sa.func.max(CHECKPOINT.c.size).label("size"))
        .group_by(CHECKPOINT.c.shard)
        .subquery()
    )
    same = sa.and_(CHECKPOINT.c.shard == newest.c.shard, CHECKPOINT.c.size == newest.c.size)
    query = sa.select(CHECKPOINT.c.shard, CHECKPOINT.c.size, CHECKPOINT.c.root, CHECKPOINT.c.note)
    rows = connection.execute(query.join(newest, same).order_by(CHECKPOINT.c.shard))
    return [(shard, size, bytes(root), note) for shard, size, root, note in rows]


def _known(connection: sa.Connection) -> set[tuple[str, int, int]]:
    # What the log says was anchored: sequenced, or waiting to be. By its very size: an entry that
    # somebody made up says of one checkpoint that it was put, and not of those that follow.
    lines = [
        *connection.scalars(sa.select(LEAF.c.entry).where(LEAF.c.action == "anchor")),
        *connection.scalars(sa.select(INBOX.c.entry).where(sa.func.length(INBOX.c.entry) < _SHORT)),
    ]
    found: set[tuple[str, int, int]] = set()
    for line in lines:
        try:
            members = Entry.read(bytes(line)).members
            if members["action"] == "anchor":
                shard = int(str(members["shard"]).replace("-", ""))
                found.add((str(members["anchor"]), shard, int(members["size"])))
        except (Tampered, ValueError, TypeError):
            continue
    return found
