# SPDX-License-Identifier: Apache-2.0
"""
Sending alerts: at least once, each channel on its own, with pauses that grow.

Rule 1: nothing is done before the channel said that it took it, so a message may come twice, with
        the same id; it does not get lost.
Rule 2: a channel that is down delays no other, and after three failures is an alert of its own,
        which the others send.

Keeps nothing (`lacre.stores.log.deliveries`) and knows no network (`lacre.sinks.channels`).
"""

import datetime as dt
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lacre.audit.alerts import CHANNEL_DOWN, Alert, Channel, Message
from lacre.audit.detection.finding import Finding, Severity, fingerprint
from lacre.audit.entries import Stamp
from lacre.errors import AlertNotDelivered, LacreError

__all__ = ["ChannelHealth", "Deliverer", "Due", "Rules", "pause"]

_FIRST_PAUSE = 5.0  # seconds
_LONGEST_PAUSE = 900.0
_DOWN = 3  # failures in a row

_log = logging.getLogger("lacre.alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a channel takes: alerts from *severity* up, *limit* messages in *per* seconds and then one digest."""

    severity: Severity = Severity.LOW
    limit: int = 20
    per: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Alerts that are to be sent through a channel in one message."""

    channel: str
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHealth:
    """How a channel fares: *failures* in a row, and alerts that wait for it."""

    name: str
    failures: int
    waiting: int


class Kept(Protocol):
    """What is due, kept where a restart finds it."""

    def take(self, name: str) -> Due | None:
        """Return what is to be sent through the channel now, and hold it; None where nothing is."""
        ...

    def delivered(self, due: Due) -> None:
        """Note that the channel took it."""
        ...

    def failed(self, due: Due, *, refused: bool, after: float, jitter: float) -> int:
        """Note that it did not, and return how often in a row."""
        ...

    def health(self) -> Sequence[ChannelHealth]:
        """Return how each channel fares."""
        ...


def pause(failures: int, jitter: float) -> float:
    """
    Return the seconds before the next try: full jitter, so that many senders do not come back at once.

    Anything between nothing and twice as much for each failure, 15 minutes at most.
    """
    doubled = _FIRST_PAUSE * float(2 ** min(failures - 1, 16))
    return jitter * min(_LONGEST_PAUSE, doubled)


class Deliverer:
    """
    Sends what is due.

    Args:
        raise_: raises the alert of a channel that is down.
        jitter: draws from 0 to 1.
    """

    def __init__(
        self,
        kept: Kept,
        channels: Mapping[str, Channel],
        *,
        stamp: Stamp,
        raise_: Callable[[Finding], object],
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._kept = kept
        self._channels = channels
        self._stamp = stamp
        self._raise = raise_
        self._clock = clock
        self._jitter = jitter

    def send(self) -> Mapping[str, int]:
        """Send what is due now, through all channels at once. Return how many messages each one took."""
        sent: dict[str, int] = {}

        def run(name: str) -> None:
            sent[name] = self._send(name, threading.Event())

        self._each(run)
        return {name: sent.get(name, 0) for name in self._channels}

    def health(self) -> Sequence[ChannelHealth]:
        """Return how each channel fares."""
        return self._kept.health()

    def follow(self, stop: threading.Event, *, every: float = 1.0) -> None:
        """Send what becomes due, until *stop* is set."""

        def run(name: str) -> None:
            while not stop.is_set():
                self._send(name, stop)
                stop.wait(every)

        self._each(run)

    def _each(self, run: Callable[[str], None]) -> None:
        # A thread for each: one that waits for a receiver holds up nobody else's.
        threads = [
            threading.Thread(target=run, args=(name,), name=f"lacre-alerts-{name}", daemon=True)
            for name in self._channels
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, name: str, stop: threading.Event) -> int:
        number = 0
        while not stop.is_set():
            try:
                due = self._kept.take(name)
                if due is None:
                    return number
                number += self._deliver(due)
            except LacreError as error:  # the database is away: another time
                _log.error("alerts cannot be sent through %s: %s", name, error)
                return number
            except Exception as error:  # noqa: BLE001 - a thread that ends would be a channel that is silent
                _log.error("alerts cannot be sent through %s: %s", name, type(error).__name__)
                return number
        return number

    def _sent(self, name: str, message: Message) -> None:
        try:
            self._channels[name].send(message)
        except AlertNotDelivered:
            raise
        except Exception as error:  # noqa: BLE001 - a channel may be anybody's
            # About this message, as far as anybody knows: it is not to hold up those behind it.
            raise AlertNotDelivered(
                f"the channel failed ({type(error).__name__})", refused=True
            ) from None

    def _deliver(self, due: Due) -> int:
        message = Message(alerts=due.alerts, stamp=self._stamp)
        try:
            self._sent(due.channel, message)
        except AlertNotDelivered as error:
            # Its words are lacre's own: no address, no answer of the receiver's.
            _log.error("an alert was not sent through %s: %s", due.channel, error)
            failures = self._kept.failed(
                due, refused=error.refused, after=error.after, jitter=self._jitter()
            )
            if failures == _DOWN:
                self._raise(_channel_down(due.channel, failures, str(error), self._clock()))
            return 0
        self._kept.delivered(due)
        return 1


def _channel_down(name: str, failures: int, why: str, now: float) -> Finding:
    when = dt.datetime.fromtimestamp(now, dt.UTC)
    facts: Mapping[str, object] = {
        "channel": name,
        "threshold": _DOWN,
        "found": failures,
        "error": why,
    }
    evidence: Sequence[tuple[int, int]] = ()
    return Finding(
        rule=CHANNEL_DOWN,
        severity=Severity.HIGH,
        principal="",
        # Of the hour: an outage that is over and comes again is told again.
        fingerprint=fingerprint(CHANNEL_DOWN, name, when.strftime("%Y-%m-%dT%H")),
        first=when,
        last=when,
        summary=f"alerts do not get through the channel {name}",
        facts=facts,
        evidence=tuple(evidence),
    )
