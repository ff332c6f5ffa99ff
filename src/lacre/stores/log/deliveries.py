# SPDX-License-Identifier: Apache-2.0
"""
What is to be sent through which channel, as the evidence log's database keeps it: a restart goes on.

Rule 1: at least once: an alert is done for a channel only after the channel said so. Whoever takes
        one holds it for *lease* seconds; who died meanwhile is taken over from.
Rule 2: channels know nothing of one another: each has its own row, its own limit, its own pause.

Sends nothing (`lacre.audit.delivery`).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lacre.audit.alerts import CHANNEL_DOWN, Alert
from lacre.audit.delivery import ChannelHealth, Due, Rules, pause
from lacre.stores.log.alerts import AlertDatabase, alert_of, microseconds
from lacre.stores.log.schema import ALERT, CHANNEL

__all__ = ["Deliveries"]

_LEASE = 120.0  # seconds; longer than any one message takes to send
_TOO_OLD = 7 * 24 * 3600.0  # seconds; what nobody was told of by then is for `lacre alerts list`
_GIVEN_UP = 10  # refusals of one message by one receiver
_PAGE = 500


@dataclass(slots=True, kw_only=True)
class _Channel:
    """The row of a channel. Times are microseconds."""

    sent: list[int] = field(default_factory=list)
    digest: int = 0
    failures: int = 0
    until: int = 0


class Deliveries:
    """
    The deliveries of one evidence log.

    Args:
        channels: by name what each takes and how much of it.
    """

    def __init__(
        self,
        database: AlertDatabase,
        channels: Mapping[str, Rules],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._channels = channels
        self._clock = clock

    def take(self, name: str) -> Due | None:
        """Return what is to be sent through the channel now, and hold it; None where nothing is."""
        rules, now = self._channels[name], microseconds(self._clock())
        with self._database.reading() as reading:
            # Mostly there is nothing, and who only asks writes nothing.
            if reading.execute(sa.select(ALERT.c.id).where(ALERT.c.due <= now).limit(1)).first() is None:  # fmt: skip
                return None
        with self._database.writing() as writing:
            channel = self._locked(writing, name)
            if channel.until > now:
                return None
            begin = now - microseconds(rules.per)
            channel.sent = [moment for moment in channel.sent if moment > begin]
            found = sorted(
                self._waiting(writing, name, now),
                # First those of a digest that was refused: which of them it was is not known yet.
                key=lambda each: (not each[1], -each[0].severity.rank, each[0].raised),
            )
            if not found:
                return None
            if len(channel.sent) < rules.limit:
                taken = [found[0][0]]
                channel.sent.append(now)
            elif channel.digest <= begin:
                taken = [alert for alert, alone in found if not alone] or [found[0][0]]
                channel.digest = now
            else:
                return None  # they wait for the window to pass
            # Read again under a lock, because what other channels have done is in the same column.
            for row in self._of(writing, taken):
                sent = json.loads(row.sent)
                sent[name] = {**sent.get(name, {}), "held": now + microseconds(_LEASE)}
                values = {"sent": json.dumps(sent, sort_keys=True)}
                writing.execute(sa.update(ALERT).where(ALERT.c.id == row.id).values(values))
            self._save(writing, name, channel)
            return Due(channel=name, alerts=tuple(taken))

    def delivered(self, due: Due) -> None:
        """Note that the channel took what was due."""
        now = microseconds(self._clock())
        with self._database.writing() as writing:
            channel = self._locked(writing, due.channel)
            channel.failures, channel.until = 0, 0
            self._save(writing, due.channel, channel)
            self._done(writing, due, {"at": now})

    def failed(self, due: Due, *, refused: bool, after: float, jitter: float) -> int:
        """
        Note that it did not. Return how often in a row the channel has failed now.

        Args:
            refused: the receiver answered, and does not want this message: others may go.
            after: seconds that it asks to be left alone for, or 0.
            jitter: from 0 to 1, drawn anew each time.
        """
        now = microseconds(self._clock())
        with self._database.writing() as writing:
            channel = self._locked(writing, due.channel)
            channel.failures += 1
            wait = microseconds(max(after, pause(channel.failures, jitter)))
            # What was not sent does not count towards the limit.
            if len(due.alerts) == 1 and channel.sent:
                channel.sent.pop()
            else:
                channel.digest = 0
            if not refused:
                channel.until = now + wait
                self._done(writing, due, {})
            else:
                for row in self._of(writing, due.alerts):
                    sent = json.loads(row.sent)
                    tries = int(sent.get(due.channel, {}).get("tries", 0)) + 1
                    if len(due.alerts) > 1:
                        # One that a receiver does not want takes none with it: they go one by one.
                        alone = {"tries": tries - 1, "alone": 1}
                        self._settle(writing, row, {**sent, due.channel: alone})
                        continue
                    over = tries >= _GIVEN_UP
                    state = {"at": now, "refused": tries} if over else {"tries": tries, "alone": 1, "held": now + wait}  # fmt: skip
                    self._settle(writing, row, {**sent, due.channel: state})
            self._save(writing, due.channel, channel)
            return channel.failures

    def health(self) -> Sequence[ChannelHealth]:
        """Return how each channel fares."""
        with self._database.reading() as reading:
            rows = {row.name: _read(row.state) for row in reading.execute(sa.select(CHANNEL))}
            now = microseconds(self._clock())
            return [
                ChannelHealth(
                    name=name,
                    failures=rows.get(name, _Channel()).failures,
                    waiting=sum(1 for _ in self._waiting(reading, name, now, held=True)),
                )
                for name in self._channels
            ]

    def _done(self, writing: sa.Connection, due: Due, state: dict[str, int]) -> None:
        for row in self._of(writing, due.alerts):
            sent = json.loads(row.sent)
            # One that became more severe meanwhile is news: what was delivered was not this.
            same = any(row.id == each.id and row.severity == each.severity for each in due.alerts)
            self._settle(writing, row, {**sent, due.channel: state if same else {}})

    def _settle(self, writing: sa.Connection, row: Any, sent: dict[str, Any]) -> None:
        alert = alert_of(row)
        left = [
            name
            for name, rules in self._channels.items()
            if _wanted(name, rules, alert) and "at" not in sent.get(name, {})
        ]
        values: dict[str, Any] = {"sent": json.dumps(sent, sort_keys=True)}
        if not left:
            values["due"] = None
        writing.execute(sa.update(ALERT).where(ALERT.c.id == row.id).values(values))

    def _of(self, writing: sa.Connection, alerts: Sequence[Alert]) -> list[Any]:
        found: list[Any] = []
        ids = sorted(each.id for each in alerts)
        for begin in range(0, len(ids), _PAGE):
            query = sa.select(ALERT).where(ALERT.c.id.in_(ids[begin : begin + _PAGE]))
            found += writing.execute(_for_update(query.order_by(ALERT.c.id))).all()
        return found

    def _waiting(
        self, connection: sa.Connection, name: str, now: int, *, held: bool = False
    ) -> Iterator[tuple[Alert, bool]]:
        # With whether each goes alone. Page by page past what other channels have not sent: theirs must not hide this one's.
        rules, after = self._channels[name], ""
        since = now - microseconds(_TOO_OLD)
        while True:
            page = connection.execute(
                sa.select(ALERT)
                .where(ALERT.c.due <= now, ALERT.c.raised > since, ALERT.c.id > after)
                .order_by(ALERT.c.id)
                .limit(_PAGE)
            ).all()
            for row in page:
                own = json.loads(row.sent).get(name, {})
                alert = alert_of(row)
                free = held or own.get("held", 0) <= now
                if "at" not in own and free and _wanted(name, rules, alert):
                    yield alert, "alone" in own
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _locked(self, writing: sa.Connection, name: str) -> _Channel:
        insert = postgresql.insert if writing.dialect.name == "postgresql" else sqlite.insert
        writing.execute(insert(CHANNEL).values(name=name, state="{}").on_conflict_do_nothing())
        query = _for_update(sa.select(CHANNEL).where(CHANNEL.c.name == name))
        return _read(writing.execute(query).one().state)

    def _save(self, writing: sa.Connection, name: str, channel: _Channel) -> None:
        state = {
            "sent": channel.sent,
            "digest": channel.digest,
            "failures": channel.failures,
            "until": channel.until,
        }
        writing.execute(
            sa.update(CHANNEL).where(CHANNEL.c.name == name).values(state=json.dumps(state))
        )


def _wanted(name: str, rules: Rules, alert: Alert) -> bool:
    if alert.rule == CHANNEL_DOWN and alert.facts.get("channel") == name:
        return False  # it cannot tell of itself
    return alert.severity.rank >= rules.severity.rank


def _for_update(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.with_for_update()  # SQLite has none: its writer is alone


def _read(state: str) -> _Channel:
    return _Channel(**json.loads(state))
