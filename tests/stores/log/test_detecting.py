# SPDX-License-Identifier: Apache-2.0
"""A detector over a stored log: it goes on where it was, raises once, and is alone."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre.audit.detection.rules import RULES
from lacre.audit.event import Event
from lacre.errors import EvidenceUnavailable, MisuseError, Tampered
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.detecting import Detecting, replayed
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import ALERT, CURSOR, INBOX, LEAF
from tests.audit.detection.entries import DAY, HOUR, MONDAY, STAMP, bulk, look
from tests.stores.log.filled import PLACES, fill, log_at

pytestmark = pytest.mark.any_sqlalchemy


def now() -> float:
    return MONDAY + 3 * DAY


@pytest.fixture(params=PLACES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """An empty log, on either database."""
    with log_at(request.param, request, tmp_path) as made:
        yield made


def alerts(log: AuditLog) -> AlertStore:
    return AlertStore(log, stamp=STAMP, clock=now)


def detecting(log: AuditLog, *, anew: bool = False) -> Detecting:
    rules = {name: rule for name, rule in RULES.items() if name != "log-silent"}
    return Detecting(log, rules, alerts(log), anew=anew, clock=now)


def put(log: AuditLog, events: list[Event]) -> None:
    fill(log, [(round(event.time * 1e6) + 500_000, event) for event in events])


FIRST: list[Event] = [look(n, range(n * 10, n * 10 + 10)) for n in range(60)]
SECOND: list[Event] = [look(100 + n, range(1000 + n * 10, n * 10 + 1010)) for n in range(60)]


def test_it_goes_on_where_it_was_and_raises_once(log: AuditLog) -> None:
    """Six hundred rows, and six hundred more seen by the next process, are one alert; a third pass finds nothing."""
    put(log, [*FIRST, *SECOND])
    with log.writing() as connection:
        later = connection.execute(sa.select(LEAF).where(LEAF.c.seq >= len(FIRST))).all()
        connection.execute(sa.delete(LEAF).where(LEAF.c.seq >= len(FIRST)))
    first = detecting(log)
    assert first.turn() == []
    first.rest()
    with log.writing() as connection:
        connection.execute(sa.insert(LEAF), [dict(row._mapping) for row in later])
    (finding,) = detecting(log).turn()
    third = detecting(log)

    assert finding.rule == "many-rows"
    assert third.turn() == []
    assert third.leaves == 120
    (alert,) = alerts(log).list()
    assert (alert.rule, alert.times) == ("many-rows", 1)


def test_what_was_done_twice_is_raised_once(log: AuditLog) -> None:
    """A detector that begins anew finds the same; the alert stays one, of one time, with one entry of the log."""
    put(log, [bulk(0)])
    assert len(detecting(log).turn()) == 1
    assert len(detecting(log, anew=True).turn()) == 1

    (alert,) = alerts(log).list()
    assert alert.times == 1
    with log.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(INBOX)).scalar() == 1


def test_two_detectors_are_one_too_many(log: AuditLog) -> None:
    """Who finds that another moved the cursor stops, and what it found is not raised."""
    put(log, [bulk(0)])
    first, second = detecting(log), detecting(log)
    first.turn()

    with pytest.raises(EvidenceUnavailable, match="another detector"):
        second.turn()
    with log.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(ALERT)).scalar() == 1


def test_a_state_that_cannot_be_read_is_not_guessed_at(log: AuditLog) -> None:
    """It is refused with the way out, which begins anew."""
    put(log, [bulk(0)])
    detecting(log).turn()
    with log.writing() as connection:
        connection.execute(sa.update(CURSOR).values(state="x" * 30))

    with pytest.raises(MisuseError, match="cannot be read"):
        detecting(log)
    assert len(detecting(log, anew=True).turn()) == 1


def test_a_replay_raises_nothing_and_learns_first(log: AuditLog) -> None:
    """What is found since a moment rests on what was before it; no alert is raised and no cursor moved."""
    put(log, [look(0), look(2 * DAY, class_="banking"), bulk(2 * DAY + HOUR)])
    since = dt.datetime.fromtimestamp(MONDAY + DAY, dt.UTC)

    found = {each.rule for each in replayed(log, RULES, since=since)}
    assert found >= {"first-access", "bulk-access"}
    before = dt.datetime.fromtimestamp(MONDAY + 3 * DAY, dt.UTC)
    assert list(replayed(log, RULES, since=before)) == []
    assert alerts(log).list() == []
    with log.reading() as connection:
        assert connection.execute(sa.select(CURSOR)).all() == []


def test_an_entry_that_nobody_can_read_is_an_alert(log: AuditLog) -> None:
    """Detection stops at an edited entry, and tells: what was found before it, and that; once, however often it is tried."""
    put(log, [bulk(0), look(1), bulk(2, principal="svc:other")])
    with log.writing() as connection:
        connection.execute(sa.update(LEAF).where(LEAF.c.seq == 1).values(entry=b"{}"))
    for _ in range(2):
        with pytest.raises(Tampered):
            detecting(log).turn()

    raised = {alert.rule: alert for alert in alerts(log).list()}
    assert raised.keys() == {"bulk-access", "log-tampered"}
    assert raised["log-tampered"].times == 1
    assert raised["log-tampered"].evidence == ((202701, 0),)
