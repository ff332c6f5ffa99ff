# SPDX-License-Identifier: Apache-2.0
"""
Alerts: findings that somebody is told of, and the words they are told in.

What a finding quotes (a principal, a user agent) was written by whoever acted: `harmless` makes it
text that breaks no line, runs in no other direction and is no link, and each channel writes it in
its own format besides. Does not raise, keep or send alerts (`lacre.stores.log.alerts`,
`lacre.audit.delivery`, `lacre.sinks.channels`).
"""

import datetime as dt
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lacre.audit.detection.finding import Severity
from lacre.audit.entries import Stamp

__all__ = ["CHANNEL_DOWN", "Alert", "AlertState", "Channel", "Message", "harmless"]

CHANNEL_DOWN = "channel-down"  # the rule of a channel that does not deliver

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LISTED = 20  # alerts that a digest names


class AlertState(StrEnum):
    """Whether somebody has looked into an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    A finding that was raised, and how often it came again.

    *facts* and *evidence* are those of the newest finding, the evidence with that of those before.
    *acknowledged*, *by* and *note* are None until somebody does.
    """

    id: str
    rule: str
    severity: Severity
    fingerprint: str
    principal: str
    first: dt.datetime
    last: dt.datetime
    raised: dt.datetime
    times: int
    summary: str
    facts: Mapping[str, object]
    evidence: tuple[tuple[int, int], ...]
    state: AlertState
    acknowledged: dt.datetime | None = None
    by: str | None = None
    note: str | None = None

    def written(self) -> dict[str, object]:
        """Return it as JSON, for programs: what was quoted is as it was."""
        return {
            "id": self.id,
            "rule": self.rule,
            "severity": str(self.severity),
            "principal": self.principal,
            "summary": self.summary,
            "first": _moment(self.first),
            "last": _moment(self.last),
            "raised": _moment(self.raised),
            "times": self.times,
            "facts": dict(self.facts),
            "evidence": [list(position) for position in self.evidence],
            "state": str(self.state),
            "acknowledged": None if self.acknowledged is None else _moment(self.acknowledged),
            "by": self.by,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    What is sent through a channel at once: one alert, or a digest of those that its limit held back.

    *test* says that it stands for nothing that happened.
    """

    alerts: tuple[Alert, ...]
    stamp: Stamp
    test: bool = False

    @property
    def id(self) -> str:
        """The same for each try, so that a receiver can tell a repetition. Letters, digits and dots."""
        if len(self.alerts) == 1:
            # An alert that became more severe is sent again, and is news.
            return f"{self.alerts[0].id}.{self.alerts[0].severity}"
        several = hashlib.sha256("".join(sorted(each.id for each in self.alerts)).encode())
        return f"digest.{several.hexdigest()[:32]}"

    @property
    def severity(self) -> Severity:
        """The highest in it."""
        return max((each.severity for each in self.alerts), key=lambda each: each.rank)

    @property
    def title(self) -> str:
        """One harmless line of 150 characters at most."""
        whose = f"{self.stamp.app} {self.stamp.env}"
        if self.test:
            return f"lacre {whose}: a test"
        if len(self.alerts) == 1:
            alert = self.alerts[0]
            return harmless(f"lacre {whose}: {alert.severity}: {alert.summary}", 150)
        return f"lacre {whose}: {len(self.alerts)} more alerts, up to {self.severity}"

    @property
    def lines(self) -> Sequence[str]:
        """What there is to say, as harmless lines."""
        if len(self.alerts) == 1:
            return _said(self.alerts[0], self.stamp)
        ordered = sorted(self.alerts, key=lambda each: (-each.severity.rank, each.raised))
        listed = [
            harmless(f"{each.severity}, {each.times} times, {each.id}: {each.summary}", 300)
            for each in ordered[:_LISTED]
        ]
        if len(ordered) > _LISTED:
            listed.append(f"and {len(ordered) - _LISTED} more")
        return [*listed, "all of them: lacre alerts list"]

    def written(self) -> dict[str, object]:
        """Return it as JSON, for programs."""
        return {
            "kind": "test" if self.test else "alert" if len(self.alerts) == 1 else "digest",
            "app": self.stamp.app,
            "env": self.stamp.env,
            "service": self.stamp.service,
            "title": self.title,
            "severity": str(self.severity),
            "count": len(self.alerts),
            "alerts": [each.written() for each in self.alerts[:100]],
        }


class Channel(Protocol):
    """Where messages go. One way to tell people, or another program."""

    def send(self, message: Message) -> None:
        """
        Deliver *message*: returning means that the receiver took it.

        Raises:
            AlertNotDelivered: it did not, or did not say so in time.
        """
        ...


def harmless(text: str, longest: int) -> str:
    """
    Return *text* on one line of at most *longest* characters, without controls and without links.

    A summary quotes names that an attacker may have chosen: a link in an alarm is where people click.
    """
    clean = "".join(
        "\ufffd" if unicodedata.category(each) in _UNSEEN else each for each in text[: longest + 1]
    )
    clean = clean.replace("://", "[:]//").replace("www.", "www[.]").replace("mailto:", "mailto[:]")
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _said(alert: Alert, stamp: Stamp) -> list[str]:
    facts = [
        harmless(f"{name}: {value}", 200)
        for name, value in sorted(alert.facts.items())
        if isinstance(value, str | int | float)
    ][:20]
    return [
        harmless(alert.summary, 1000),
        harmless(f"rule: {alert.rule}, {alert.severity}", 200),
        harmless(f"principal: {alert.principal or 'none, it is about the log'}", 300),
        f"when: {_moment(alert.first)} to {_moment(alert.last)}, {alert.times} times",
        *facts,
        f"where: {stamp.app} {stamp.env} {stamp.service}",
        f"all of it: lacre alerts show {alert.id}",
    ]


def _moment(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
