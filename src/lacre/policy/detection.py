# SPDX-License-Identifier: Apache-2.0
"""
`[detection]` of `lacre.toml`: what differs here from the rules of detection as they come.

Nothing has to be configured. A rule is switched off, and a principal exempted, with a reason only:
both are said with every result. Does not evaluate rules (`lacre.audit.detection`).
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lacre.audit.detection.finding import Severity
from lacre.audit.detection.rule import Hours, How, Rule
from lacre.audit.detection.rules import RULES
from lacre.policy.values import Name, Table

__all__ = ["DetectionSettings", "HoursSettings", "RuleSettings"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BEATS = 3  # heartbeats that may be missed

_WINDOWED = {"threshold", "within"}
# What each kind of rule can be told, besides what every rule can.
_TAKEN: Mapping[How, set[str]] = {
    How.EACH: {"within"},
    How.SUM: _WINDOWED,
    How.DISTINCT: _WINDOWED,
    How.BASELINE: {"threshold", "least", "after"},
    How.PEERS: {"threshold", "within", "least", "after"},
    How.FIRST: {"after"},
    How.HOURS: {"after"},
    How.DORMANT: {"within"},
    How.SHARE: {"threshold", "within", "least"},
    How.AFTER: _WINDOWED,
    How.BEFORE: _WINDOWED,
    How.WIDENED: {"within"},
    How.GRANT: {"threshold"},
    How.SILENCE: {"threshold"},
    How.SKEW: {"threshold", "within", "least"},
    How.NUMBERS: {"within"},
    How.CARRIED: set(),
}
_ALWAYS = {"off", "severity", "exempt"}


def _window(value: object) -> float:
    found = (
        re.fullmatch(r"([1-9][0-9]{0,4}) (second|minute|hour|day)s?", value)
        if isinstance(value, str)
        else None
    )
    if found is None:
        raise ValueError('a window is a number of seconds, minutes, hours or days: "10 minutes"')
    return float(int(found[1]) * _SECONDS[found[2]])


def _a_reason(text: str) -> str:
    if len(text.strip()) < 10 or not text.isprintable():
        raise ValueError(
            "a reason is a sentence that an auditor will read, of 10 characters or more"
        )
    return text


def _a_clock(value: object) -> dt.time:
    if isinstance(value, str) and re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value):
        return dt.time.fromisoformat(value)
    raise ValueError('a time of day is "HH:MM"')


def _a_zone(name: str) -> str:
    _zone(name)
    return name


def _zone(name: str) -> dt.tzinfo:
    if name == "UTC":
        return dt.UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError(
            'a time zone is named as the IANA does, "America/Sao_Paulo", and known to this machine'
        ) from None


Window = Annotated[float, BeforeValidator(_window)]
Reason = Annotated[str, AfterValidator(_a_reason)]
Clock = Annotated[dt.time, BeforeValidator(_a_clock)]
Number = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class HoursSettings(Table):
    """`hours` of the rule `outside-hours`: working hours, from *begin* up to *end*, of *days*, in *zone*."""

    days: frozenset[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        default=frozenset({"mon", "tue", "wed", "thu", "fri"}), min_length=1
    )
    begin: Clock
    end: Clock
    zone: Annotated[str, AfterValidator(_a_zone)] = "UTC"

    def hours(self) -> Hours:
        """Return them as the rule has them."""
        return Hours(
            days=frozenset(map(_DAYS.index, self.days)),
            begin=self.begin,
            end=self.end,
            zone=_zone(self.zone),
        )


class RuleSettings(Table):
    """
    `[detection.rules.NAME]`: what of rule NAME differs here; ``docs/reference/detection-rules.md`` has the rules.

    *off* is why it is not evaluated. *exempt* are principals it does not count, each with the
    reason. *words* are of `automated-process`, *hours* of `outside-hours`.
    """

    off: Reason | None = None
    severity: Severity | None = None
    threshold: Number | None = None
    within: Window | None = None
    least: Number | None = None
    after: Number | None = None
    words: tuple[str, ...] | None = Field(default=None, min_length=1)
    hours: HoursSettings | None = None
    exempt: dict[str, Reason] = Field(default_factory=dict)

    def applied(self, rule: Rule) -> Rule:
        """Return *rule* as it is here."""
        changed: dict[str, Any] = {
            name: given
            for name in ("severity", "threshold", "within", "least", "after")
            if (given := getattr(self, name)) is not None
        }
        if self.words is not None:
            changed["words"] = tuple(word.casefold() for word in self.words)
        if self.hours is not None:
            changed["hours"] = self.hours.hours()
        return replace(rule, off=self.off or "", exempt=dict(self.exempt), **changed)


class DetectionSettings(Table):
    """`[detection]`: rules of detection that differ here from what they are."""

    rules: dict[Name, RuleSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _changes_what_there_is(self) -> Self:
        for name, settings in self.rules.items():
            rule = RULES.get(name)
            if rule is None:
                raise ValueError(
                    f"[detection.rules.{name}]: there is no such rule; `lacre audit rules` lists them"
                )
            taken = _ALWAYS | _TAKEN[rule.how]
            taken |= {"words"} if rule.words else set()
            taken |= {"hours"} if rule.needs == "hours" else set()
            if beyond := sorted(settings.model_fields_set - taken):
                raise ValueError(f"[detection.rules.{name}]: this rule has no {', '.join(beyond)}")
            if rule.how is How.SHARE and (settings.threshold or 0) >= 1:
                raise ValueError(f"[detection.rules.{name}]: threshold is a share, below 1")
        return self

    def effective(self, *, heartbeat: float = 60.0) -> Mapping[str, Rule]:
        """
        Return every rule as it is here, by its id, those that are off too.

        Args:
            heartbeat: of the log; three of them missed are silence, where nothing else is said.
        """
        silence = replace(RULES["log-silent"], threshold=_BEATS * heartbeat)
        rules = {**RULES, silence.id: silence}
        return {
            name: self.rules[name].applied(rule) if name in self.rules else rule
            for name, rule in rules.items()
        }
