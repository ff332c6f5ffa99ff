# SPDX-License-Identifier: Apache-2.0
"""`[detection]`: rules as they are here."""

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from lacre.audit.detection.finding import Severity
from lacre.audit.detection.rules import RULES
from lacre.policy.detection import DetectionSettings


def settings(**rules: dict[str, Any]) -> DetectionSettings:
    named = {name.replace("_", "-"): rule for name, rule in rules.items()}
    return DetectionSettings.model_validate({"rules": named})


def test_nothing_has_to_be_configured() -> None:
    """Without settings the rules are as they come."""
    assert dict(DetectionSettings().effective()) == dict(RULES)


def test_a_rule_is_changed_where_it_is_named() -> None:
    """Threshold, window and severity of one rule; the others stay."""
    rules = settings(many_rows={"threshold": 50, "within": "10 minutes", "severity": "low"}).effective()  # fmt: skip

    changed = rules["many-rows"]
    assert (changed.threshold, changed.within, changed.severity) == (50, 600, Severity.LOW)
    assert {name for name in RULES if rules[name] != RULES[name]} == {"many-rows"}


def test_silence_goes_by_the_heartbeat_of_the_log() -> None:
    """Three missed heartbeats are silence, unless something else is said."""
    assert DetectionSettings().effective(heartbeat=5)["log-silent"].threshold == 15
    said = settings(log_silent={"threshold": 500})
    assert said.effective(heartbeat=5)["log-silent"].threshold == 500


def test_a_rule_is_off_and_a_principal_exempt_with_a_reason() -> None:
    """The reason is what the result says."""
    rules = settings(
        bulk_access={"exempt": {"svc:export": "the nightly export, TICKET-12"}},
        hasty_approval={"off": "approvals are made by a committee, in one sitting"},
    ).effective()

    assert rules["bulk-access"].exempt == {"svc:export": "the nightly export, TICKET-12"}
    assert rules["hasty-approval"].asleep.endswith("in one sitting")


def test_hours_make_a_sleeping_rule_wake() -> None:
    """`outside-hours` sleeps until somebody says what working hours are; a zone has its own clock."""
    hours = {"begin": "08:00", "end": "18:00", "zone": "America/Sao_Paulo"}
    rule = settings(outside_hours={"hours": hours}).effective()["outside-hours"]
    monday = dt.datetime(2027, 1, 18, 12, tzinfo=dt.UTC).timestamp()

    assert rule.asleep == ""
    assert rule.hours is not None
    assert [rule.hours.hold(monday + hour * 3600) for hour in (-2, 0, 8, 9)] == [False, True, True, False]  # fmt: skip
    assert not rule.hours.hold(monday - 86400)


def test_a_night_shift_is_of_the_day_on_which_it_begins() -> None:
    """From 22:00 to 06:00: Monday's shift is over on Tuesday at six."""
    night = {"days": ["mon"], "begin": "22:00", "end": "06:00"}
    rule = settings(outside_hours={"hours": night}).effective()["outside-hours"]
    monday = dt.datetime(2027, 1, 18, tzinfo=dt.UTC).timestamp()

    assert rule.hours is not None
    assert [rule.hours.hold(monday + hour * 3600) for hour in (5, 22, 29, 30, 46)] == [False, True, True, False, False]  # fmt: skip


@pytest.mark.parametrize(
    "rules",
    [
        {"no_such_rule": {}},
        {"bulk_access": {"off": ""}},
        {"bulk_access": {"off": "because"}},
        {"bulk_access": {"exempt": {"svc:x": ""}}},
        {"bulk_access": {"threshold": 3}},
        {"many_rows": {"threshold": 0}},
        {"many_rows": {"threshold": float("nan")}},
        {"many_rows": {"within": "never"}},
        {"many_rows": {"words": ["x"]}},
        {"search_misses": {"threshold": 1}},
        {"outside_hours": {"hours": {"begin": "8", "end": "18:00"}}},
        {"outside_hours": {"hours": {"begin": "08:00", "end": "18:00", "zone": "../etc"}}},
        {"outside_hours": {"hours": {"days": [], "begin": "08:00", "end": "18:00"}}},
        {"library_bypass": {"within": "1 hour"}},
    ],
)
def test_what_no_rule_has_is_refused(rules: dict[str, Any]) -> None:
    """A rule that there is not, a reason that is none, a setting that the rule has not."""
    with pytest.raises(ValidationError):
        settings(**rules)
