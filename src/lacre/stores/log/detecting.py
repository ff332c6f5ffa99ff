# SPDX-License-Identifier: Apache-2.0
"""
Detection over a stored log: from where it last was, with what it then remembered; findings become alerts.

Alerts and the cursor are of one transaction, so that a detector which is killed loses nothing, and
what it does again is raised once. One detects at a time: who finds that another moved the cursor
stops. The state holds hashes of row ids and the key they were made with; it is of the log's
database, which has the row ids themselves. Does not judge (`lacre.audit.detection`), or send alerts
(`lacre.stores.log.deliveries`).
"""

import base64
import binascii
import datetime as dt
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import sqlalchemy as sa

from lacre.audit.detection.carried import carried
from lacre.audit.detection.engine import Detector
from lacre.audit.detection.finding import Finding
from lacre.audit.detection.rule import Rule
from lacre.audit.entries import Entry
from lacre.audit.leaves import Position, microseconds, shard_name, shard_of
from lacre.errors import EvidenceUnavailable, MisuseError, Tampered
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader
from lacre.stores.log.schema import CURSOR

__all__ = ["Detecting", "Touching", "replayed"]

_NAME = "detection"
_BATCH = 20_000  # leaves between two cursors
_SAVED = 30.0  # seconds between two cursors where nothing is found
_LEARNED = dt.timedelta(days=35)  # before what is replayed: what rules learn first
_BEGINNING = Position(0, -1)

# What says which honeytokens an entry touches. Made anew for each pass: some may have been planted.
Touching = Callable[[], Callable[[Entry], Sequence[str]]]


def _nothing(entry: Entry) -> Sequence[str]:
    return ()


@final
class Detecting:
    """
    Detects in *log* by *rules*, and raises *alerts*.

    Args:
        touching: what says which honeytokens an entry touches.
        anew: forget what was remembered, and begin at the log's beginning.
    """

    def __init__(
        self,
        log: AuditLog,
        rules: Mapping[str, Rule],
        alerts: AlertStore,
        *,
        touching: Touching = lambda: _nothing,
        anew: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._rules = rules
        self._alerts = alerts
        self._touching = touching
        self._touched: Callable[[Entry], Sequence[str]] = _nothing
        self._clock = clock
        self._saved_at = 0.0
        # The cursor as it is stored: None before there is one.
        self._stored = self._read()
        state = None if anew or self._stored is None else _opened(self._stored[2])
        self.position = (
            _BEGINNING if state is None or self._stored is None else Position(*self._stored[:2])
        )
        self._key = os.urandom(16) if state is None else base64.b64decode(state["key"])
        self._detector = Detector(
            rules.values(),
            key=self._key,
            honeytokens=self._touches,
            state=None if state is None else state["detector"],
        )

    @property
    def leaves(self) -> int:
        """How many leaves were gone through, since the beginning."""
        return self._detector.leaves

    @property
    def forgotten(self) -> Mapping[str, int]:
        """How many groups each rule forgot because there were too many, where it was any."""
        return self._detector.forgotten

    def turn(self) -> list[Finding]:
        """
        Go through what is new, to the log's end; return what was found and raised.

        Raises:
            EvidenceUnavailable: the log does not answer, or another detector is at work.
            Tampered: an entry is none that a writer of lacre's wrote. What was found until there is
                raised, and that.
        """
        found: list[Finding] = []
        self._touched = self._touching()
        reader = LogReader(self._log)
        while True:
            some: list[Finding] = []
            count = 0
            try:
                for leaf in reader.after(self.position, limit=_BATCH):
                    some += self._detector.feed(leaf)
                    self.position = leaf.position
                    count += 1
            except Tampered:
                # Whoever edits a leaf so that nobody can read on is to be heard of all the same.
                self._save(some + self._unreadable())
                raise
            done = count < _BATCH
            if done and self._detector.leaves:
                some += self._detector.passes(self._clock())
            due = self._clock() - self._saved_at >= _SAVED
            if some or (count and (due or not done)):
                self._save(some)
            found += some
            if done:
                return found

    def rest(self) -> None:
        """Keep what is remembered, for the next."""
        self._save([])

    def _unreadable(self) -> list[Finding]:
        shard, seq = self.position
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        finding = carried(
            "log-tampered",
            first=now,
            last=now,
            group=(str(shard), str(seq)),
            summary=f"the entry after {shard_name(shard)}/{seq} is none that a writer of lacre's wrote; detection stops there",
            evidence=[self.position],
            rules=self._rules,
        )
        return [] if finding is None else [finding]

    def _touches(self, entry: Entry) -> Sequence[str]:
        return self._touched(entry)

    def _read(self) -> tuple[int, int, str] | None:
        query = sa.select(CURSOR.c.shard, CURSOR.c.seq, CURSOR.c.state).where(
            CURSOR.c.name == _NAME
        )
        with self._log.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.shard, row.seq, row.state)

    def _save(self, findings: Sequence[Finding]) -> None:
        state = _closed(
            {
                "key": base64.b64encode(self._key).decode(),
                "detector": self._detector.kept(),
            }
        )
        values = {"shard": self.position.shard, "seq": self.position.seq, "state": state}
        with self._log.writing() as connection:
            before = self._stored
            if before is None:
                try:
                    connection.execute(sa.insert(CURSOR).values(name=_NAME, **values))
                except sa.exc.IntegrityError:
                    raise _another() from None
            else:
                moved = connection.execute(
                    sa.update(CURSOR)
                    .where(
                        CURSOR.c.name == _NAME,
                        CURSOR.c.shard == before[0],
                        CURSOR.c.seq == before[1],
                        CURSOR.c.state == before[2],
                    )
                    .values(values)
                )
                if moved.rowcount != 1:
                    raise _another()
            for finding in findings:
                self._alerts.raise_(finding, connection=connection)
        self._stored = (self.position.shard, self.position.seq, state)
        self._saved_at = self._clock()


def replayed(
    log: AuditLog,
    rules: Mapping[str, Rule],
    *,
    since: dt.datetime,
    touching: Touching = lambda: _nothing,
) -> Iterator[Finding]:
    """
    Yield what *rules* find in the log since that moment, and raise nothing.

    It learns from the months that hold the 35 days before it, as a detector that was at work then
    would have; what was touched counts by the honeytokens of now.
    """
    begin = Position(shard_of(microseconds(since - _LEARNED)), -1)
    detector = Detector(rules.values(), key=_NAME.encode(), honeytokens=touching())
    for leaf in LogReader(log).after(begin):
        for finding in detector.feed(leaf):
            if finding.last >= since:
                yield finding


def _another() -> EvidenceUnavailable:
    return EvidenceUnavailable(
        "another detector is at work in this log", hint="one `lacre audit detect` at a time"
    )


def _closed(state: Mapping[str, Any]) -> str:
    text = json.dumps(state, separators=(",", ":")).encode()
    return base64.b85encode(zlib.compress(text, 1)).decode()


def _opened(text: str) -> dict[str, Any]:
    try:
        found = json.loads(zlib.decompress(base64.b85decode(text)))
    except (ValueError, zlib.error, binascii.Error):
        found = None
    if not isinstance(found, dict) or not {"key", "detector"} <= found.keys():
        raise MisuseError(
            "what detection remembers cannot be read",
            hint="`lacre audit detect --anew` begins at the log's beginning",
        )
    return found
