# SPDX-License-Identifier: Apache-2.0
"""
Alerts, as the evidence log's database keeps them.

Rule 1: what is alike is one alert: a finding whose fingerprint an open alert of the last *window*
        has is counted there.
Rule 2: a finding that was raised already, by its evidence, changes nothing, so that a detector
        that was killed may raise again.
Rule 3: that an alert was raised or acknowledged is an entry of the log, in the same transaction.

Does not find (`lacre.audit.detection`) or send (`lacre.stores.log.deliveries` says what is due).
"""

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import sqlalchemy as sa

from lacre.audit.alerts import Alert, AlertState, harmless
from lacre.audit.detection.finding import Finding, Severity
from lacre.audit.entries import Stamp
from lacre.audit.event import Event, new_id, who
from lacre.audit.keeping import Alerted
from lacre.context import Acting, current
from lacre.errors import ActingError, MisuseError
from lacre.stores.log.schema import ALERT
from lacre.stores.log.telling import tell

__all__ = ["AlertDatabase", "AlertStore", "alert_of", "microseconds"]

_WINDOW = 24 * 3600.0  # seconds
_KEPT = 200  # positions of evidence that an alert names at most

# Who raises where nobody acts: the detector of a process that only watches.
_DETECTOR = Acting("svc:audit", frozenset(), "detection", None)


class AlertDatabase(Protocol):
    """The database of an evidence log, as `AuditLog` opens it."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection for single statements that read."""
        ...

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that writes."""
        ...


class AlertStore:
    """
    The alerts of one evidence log.

    Args:
        stamp: of the entries that say what was raised and acknowledged.
        window: seconds for which what is alike is one alert.
    """

    def __init__(
        self,
        database: AlertDatabase,
        *,
        stamp: Stamp,
        clock: Callable[[], float] = time.time,
        window: float = _WINDOW,
    ) -> None:
        self._database = database
        self._stamp = stamp
        self._clock = clock
        self._window = window

    def raise_(self, finding: Finding, *, connection: sa.Connection | None = None) -> Alert:
        """
        Raise *finding*, or count it where it is raised already. Return its alert.

        Args:
            connection: a transaction to do it in, of whoever has more to commit with it.
        """
        with self._writing(connection) as writing:
            _lock(writing, finding.fingerprint)
            now = microseconds(self._clock())
            latest = writing.execute(
                sa.select(ALERT)
                .where(ALERT.c.fingerprint == finding.fingerprint)
                .order_by(ALERT.c.raised.desc(), ALERT.c.id.desc())
                .limit(1)
            ).one_or_none()
            if latest is not None:
                before = alert_of(latest)
                if finding.evidence and set(finding.evidence) <= set(before.evidence):
                    return before
                if latest.state == AlertState.OPEN and latest.raised > now - self._window * 1e6:
                    return self._counted(writing, before, finding, now)
            return self._new(writing, finding, now)

    def _new(self, writing: sa.Connection, finding: Finding, now: int) -> Alert:
        event = self._event("raised", "", finding.rule, finding.severity, finding.principal)
        writing.execute(
            sa.insert(ALERT).values(
                id=event.alert,
                rule=finding.rule,
                severity=str(finding.severity),
                fingerprint=finding.fingerprint,
                principal=_storable(finding.principal),
                first=_of(finding.first),
                last=_of(finding.last),
                raised=now,
                times=1,
                summary=_storable(finding.summary),
                facts=_facts(finding.facts, finding.evidence),
                state=str(AlertState.OPEN),
                sent="{}",
                due=now,
            )
        )
        self._record(writing, event)
        return _read(writing, event.alert)

    def _counted(self, writing: sa.Connection, before: Alert, finding: Finding, now: int) -> Alert:
        known = dict.fromkeys((*before.evidence, *finding.evidence))
        evidence = tuple(known) if len(known) <= _KEPT else (*list(known)[:1], *list(known)[1 - _KEPT:])  # fmt: skip
        values: dict[str, Any] = {
            "times": before.times + 1,
            "last": max(_of(before.last), _of(finding.last)),
            "summary": _storable(finding.summary),
            "facts": _facts(finding.facts, evidence),
        }
        if finding.severity.rank > before.severity.rank:
            # Worse than what was told: that is told again.
            values |= {"severity": str(finding.severity), "sent": "{}", "due": now}
            self._record(
                writing,
                self._event(
                    "escalated", before.id, finding.rule, finding.severity, finding.principal
                ),
            )
        writing.execute(sa.update(ALERT).where(ALERT.c.id == before.id).values(values))
        return _read(writing, before.id)

    def acknowledge(self, id: str, *, note: str = "") -> Alert:  # noqa: A002 - the alert's own word
        """
        Note that whoever acts has seen to it. It is not sent any more.

        Args:
            note: what they found; of the table, never of the log.

        Raises:
            MisuseError: there is none of that id, or somebody acknowledged it before.
        """
        acting = current()
        with self._writing(None) as writing:
            alert = self._found(writing, id)
            # Compared in the statement: of two who acknowledge at once one is told.
            done = writing.execute(
                sa.update(ALERT)
                .where(ALERT.c.id == alert.id, ALERT.c.state == str(AlertState.OPEN))
                .values(
                    state=str(AlertState.ACKNOWLEDGED),
                    acknowledged=microseconds(self._clock()),
                    by=acting.principal,
                    note=harmless(note, 1000),
                    due=None,
                )
            )
            after = _read(writing, alert.id)
            if done.rowcount != 1:
                raise MisuseError(f"{after.by} has acknowledged that alert already")
            self._record(
                writing,
                self._event("acknowledged", alert.id, alert.rule, alert.severity, alert.principal),
            )
            return after

    def get(self, id: str) -> Alert:  # noqa: A002 - the alert's own word
        """
        Return the alert of that id, or the only one whose id begins so (six characters or more).

        Raises:
            MisuseError: there is none, or more than one.
        """
        with self._database.reading() as reading:
            return self._found(reading, id)

    def list(
        self,
        *,
        state: AlertState | None = None,
        before: Alert | None = None,
        limit: int = 50,
    ) -> "list[Alert]":
        """Return alerts, the newest first: those in *state*, or all; for another page those after *before*."""
        query = sa.select(ALERT).order_by(ALERT.c.raised.desc(), ALERT.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(ALERT.c.state == str(state))
        if before is not None:
            then = _of(before.raised)
            query = query.where(
                sa.or_(
                    ALERT.c.raised < then,
                    sa.and_(ALERT.c.raised == then, ALERT.c.id < before.id),
                )
            )
        with self._database.reading() as reading:
            return [alert_of(row) for row in reading.execute(query)]

    def tally(self) -> Mapping[Severity, int]:
        """Return how many alerts are open, by severity."""
        query = (
            sa.select(ALERT.c.severity, sa.func.count())
            .where(ALERT.c.state == str(AlertState.OPEN))
            .group_by(ALERT.c.severity)
        )
        with self._database.reading() as reading:
            found = {Severity(name): number for name, number in reading.execute(query)}
        return {each: found.get(each, 0) for each in Severity}

    def _found(self, reading: sa.Connection, id: str) -> Alert:  # noqa: A002 - as above
        plain = len(id) >= 6 and all(each in "0123456789abcdef" for each in id)
        rows = (
            reading.execute(
                sa.select(ALERT).where(ALERT.c.id.startswith(id, autoescape=True)).limit(2)
            ).all()
            if plain
            else []
        )
        if len(rows) != 1:
            raise MisuseError(
                f"{'more than one alert begins' if rows else 'no alert begins'} with that id",
                hint="lacre alerts list shows their ids; six characters or more will do",
            )
        return alert_of(rows[0])

    def _event(self, step: str, alert: str, rule: str, severity: Severity, about: str) -> Alerted:
        try:
            acting = current()
        except ActingError:
            acting = _DETECTOR
        return Alerted(
            **who(acting, time=self._clock(), tenant=acting.tenant or ""),
            step=step,
            alert=alert or new_id(),
            rule=rule,
            severity=str(severity),
            about=about,
        )

    def _record(self, writing: sa.Connection, event: Event) -> None:
        tell(writing, event, self._stamp)

    @contextmanager
    def _writing(self, connection: sa.Connection | None) -> Iterator[sa.Connection]:
        if connection is not None:
            yield connection
            return
        with self._database.writing() as writing:
            yield writing


def alert_of(row: Any) -> Alert:
    """Return the alert of a row of ALERT."""
    facts = json.loads(row.facts)
    evidence = tuple((int(shard), int(seq)) for shard, seq in facts.pop("evidence", ()))
    return Alert(
        id=row.id,
        rule=row.rule,
        severity=Severity(row.severity),
        fingerprint=row.fingerprint,
        principal=row.principal,
        first=_moment(row.first),
        last=_moment(row.last),
        raised=_moment(row.raised),
        times=row.times,
        summary=row.summary,
        facts=facts,
        evidence=evidence,
        state=AlertState(row.state),
        acknowledged=None if row.acknowledged is None else _moment(row.acknowledged),
        by=row.by,
        note=row.note,
    )


def microseconds(seconds: float) -> int:
    """Return a time as the log's tables keep it."""
    return round(seconds * 1e6)


def _read(connection: sa.Connection, id: str) -> Alert:  # noqa: A002 - the alert's own word
    return alert_of(connection.execute(sa.select(ALERT).where(ALERT.c.id == id)).one())


def _facts(facts: Mapping[str, object], evidence: tuple[tuple[int, int], ...]) -> str:
    return json.dumps({**facts, "evidence": evidence}, sort_keys=True)


def _storable(text: str) -> str:
    # What PostgreSQL takes as text; an attacker's name is not to stop the alert about them.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _lock(connection: sa.Connection, fingerprint: str) -> None:
    # Two who raise the same at once would both see no alert. SQLite's writer is alone anyway.
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"lacre alert {fingerprint}"},
        )


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _moment(stored: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=stored)


def _of(when: dt.datetime) -> int:
    return (when - _EPOCH) // dt.timedelta(microseconds=1)
