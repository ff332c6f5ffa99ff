# SPDX-License-Identifier: Apache-2.0
"""Alerts are raised once, counted, escalated and acknowledged, and the log says so."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lacre import acting_as
from lacre.audit.alerts import AlertState
from lacre.audit.detection.finding import Severity
from lacre.errors import MisuseError, NoPrincipal
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.log import AuditLog
from lacre.testing import FrozenClock
from tests.audit.looks import STAMP
from tests.components.postgresql import Server
from tests.stores.log.alerting import entries, finding, kept_in


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """An evidence log's tables, on either database."""
    if request.param == "sqlite":
        with kept_in(tmp_path / "audit.db") as made:
            yield made
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as database, kept_in(database.text_url()) as made:
        yield made


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def alerts(kept: AuditLog, clock: FrozenClock) -> AlertStore:
    return AlertStore(kept, stamp=STAMP, clock=clock)


def test_a_storm_is_one_alert_with_a_count(kept: AuditLog, alerts: AlertStore) -> None:
    """Thirty findings of one fingerprint from six threads are one alert of thirty times, and one entry."""
    together = threading.Barrier(6)

    def raise_five(thread: int) -> None:
        together.wait()
        for number in range(5):
            alerts.raise_(finding(evidence=[(202611, 10 * thread + number)]))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(raise_five, range(6)))

    (alert,) = alerts.list()
    assert (alert.times, alert.severity, alert.state) == (30, Severity.HIGH, AlertState.OPEN)
    assert len(alert.evidence) == 30
    (entry,) = entries(kept)
    assert (entry.action, entry.members["step"], entry.members["alert"]) == ("alert", "raised", alert.id)  # fmt: skip
    assert (entry.members["about"], entry.members["principal"]) == ("svc:thief", "svc:audit")


def test_no_name_stops_an_alert(alerts: AlertStore) -> None:
    """A name with a NUL and half a character is alerted of, on either database."""
    first = alerts.raise_(
        finding(principal="eve\0\ud800", summary="by eve\0\ud800", agent="\0\ud800")
    )
    again = alerts.raise_(finding(principal="eve\0\ud800", summary="eve\0", evidence=[(202611, 2)]))

    assert first.principal.startswith("eve\ufffd")
    assert (again.id, again.times, again.summary) == (first.id, 2, "eve\ufffd")


def test_the_same_evidence_is_not_counted_again(alerts: AlertStore) -> None:
    """A detector that was killed raises again what it raised, and nothing changes, acknowledged or not."""
    before = alerts.raise_(finding())
    again = alerts.raise_(finding())
    with acting_as("user:ana", purpose="review"):
        alerts.acknowledge(before.id)
    alerts.raise_(finding())

    assert again == before
    assert [alert.times for alert in alerts.list()] == [1]
    alerts.raise_(finding(evidence=[(202611, 1), (202611, 2)]))
    assert [alert.state for alert in alerts.list()] == [AlertState.OPEN, AlertState.ACKNOWLEDGED]


def test_a_new_alert_comes_after_the_window(clock: FrozenClock, alerts: AlertStore) -> None:
    """What is alike is another alert a day later, so that one nobody looks at is told again."""
    alerts.raise_(finding(evidence=[(202611, 1)]))
    clock.advance(86_399)
    alerts.raise_(finding(evidence=[(202611, 2)]))
    clock.advance(2)
    alerts.raise_(finding(evidence=[(202611, 3)]))

    assert [alert.times for alert in alerts.list()] == [1, 2]


def test_worse_is_told_again(kept: AuditLog, alerts: AlertStore) -> None:
    """A higher severity raises the alert's and is an entry; a lower one does not lower it."""
    alerts.raise_(finding(severity=Severity.MEDIUM, evidence=[(202611, 1)]))
    alerts.raise_(finding(severity=Severity.CRITICAL, evidence=[(202611, 2)]))
    alerts.raise_(finding(severity=Severity.LOW, evidence=[(202611, 3)]))

    (alert,) = alerts.list()
    assert (alert.severity, alert.times) == (Severity.CRITICAL, 3)
    assert [entry.members["step"] for entry in entries(kept)] == ["raised", "escalated"]


def test_who_acknowledges_is_named_once(kept: AuditLog, alerts: AlertStore) -> None:
    """Acknowledging names who and why, is an entry without the note, and happens once."""
    alert = alerts.raise_(finding())
    with acting_as("user:ana", roles={"security"}, purpose="review", tenant="acme"):
        done = alerts.acknowledge(alert.id[:8], note="a drill\nok")
        with pytest.raises(MisuseError, match="user:ana has acknowledged"):
            alerts.acknowledge(alert.id)
    with pytest.raises(NoPrincipal):
        alerts.acknowledge(alert.id)

    assert (done.by, done.note, done.state) == ("user:ana", "a drill\ufffdok", AlertState.ACKNOWLEDGED)  # fmt: skip
    entry = entries(kept)[-1]
    assert (entry.members["step"], entry.members["principal"]) == ("acknowledged", "user:ana")
    assert "drill" not in str(entry.members)
    assert alerts.tally()[Severity.HIGH] == 0


def test_a_transaction_that_rolls_back_raises_nothing(kept: AuditLog, alerts: AlertStore) -> None:
    """In a caller's transaction the alert and its entry are there together, or not at all."""
    with kept.writing() as connection:
        alerts.raise_(finding(), connection=connection)
        connection.rollback()

    assert alerts.list() == []
    assert entries(kept) == []


def test_pages_go_on_where_one_ended(clock: FrozenClock, alerts: AlertStore) -> None:
    """Alerts come newest first, page by page, each once; ids of many or none are refused."""
    raised = []
    for number in range(5):
        raised.append(alerts.raise_(finding(principal=f"user:{number}")).id)
        clock.advance(number % 2)
    first = alerts.list(limit=2)
    rest = alerts.list(before=first[-1], state=AlertState.OPEN)

    assert sorted(alert.id for alert in [*first, *rest]) == sorted(raised)
    assert [alert.raised for alert in [*first, *rest]] == sorted((a.raised for a in alerts.list()), reverse=True)  # fmt: skip
    for wrong in ("", "%", "______", "fffffffff"):
        with pytest.raises(MisuseError):
            alerts.get(wrong)
