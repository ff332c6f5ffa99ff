# SPDX-License-Identifier: Apache-2.0
"""What reports and pages count in the database: sizes, masks by day, sums of tallies. With every SQLAlchemy."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre.audit.event import Outcome, Place
from lacre.audit.events import Looked
from lacre.stores.log.counting import masked_by_day, sizes
from lacre.stores.log.counts import Count, LogCounts, Narrowed
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import TALLY
from tests.stores.log.filled import PLACES, fill, log_at

FIRST = dt.datetime(2026, 10, 31, 20, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def looked(hour: int) -> Looked:
    """The look of one hour: every third gave a mask, the fourth tells of one in its purpose."""
    return Looked(
        time=(FIRST + hour * HOUR).timestamp(), principal="user:ana", roles=("app",), tenant="default",
        purpose='"outcome":"masked"' if hour == 4 else "test", place=Place("main", "customers", "email", "pii"),
        outcome=Outcome.MASKED if hour % 3 == 0 else Outcome.ALLOWED, rule="rule", rows=("1",), count=1, key="",
    )  # fmt: skip


@pytest.fixture(params=PLACES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """Ten looks, an hour each, across the end of a month, and a tally of each."""
    with log_at(request.param, request, tmp_path) as log:
        start = int(FIRST.timestamp()) * 1_000_000
        fill(log, [(start + hour * 3_600_000_000, looked(hour)) for hour in range(10)])
        tally = {"principal": "user:ana", "action": "look", "class": "pii", "place": "main.customers.email", "purpose": "test", "count": 1}  # fmt: skip
        rows = [
            tally | {"hour": start + hour * 3_600_000_000, "status": "prevented" if hour == 9 else "compliant", "events": hour}
            for hour in range(10)
        ]  # fmt: skip
        with log.writing() as connection:
            connection.execute(sa.insert(TALLY), rows)
        yield log


def test_what_is_counted_is_what_is_there(log: AuditLog) -> None:
    """Leaves of each month; masks of each day in UTC, the last moment not included, and no text that only looks like one."""
    october, november = dt.date(2026, 10, 31), dt.date(2026, 11, 1)

    assert sizes(log) == {202610: 4, 202611: 6}
    assert masked_by_day(log, FIRST, FIRST + 10 * HOUR) == {october: 2, november: 2}
    assert masked_by_day(log, FIRST + HOUR, FIRST + 9 * HOUR) == {october: 1, november: 1}


def test_sums_are_of_the_hours_and_names_that_are_asked_for(log: AuditLog) -> None:
    """In steps from the first moment on, by one name and by two at once, narrowed or not."""
    counts, until = LogCounts(log), FIRST + 10 * HOUR
    one = counts.by("action", since=FIRST, until=until, hours=5)
    two = counts.by("status", "class", since=FIRST, until=until, hours=5)
    prevented = Narrowed(status="prevented", actions=("look",))
    narrowed = counts.by("action", since=FIRST, until=until, hours=10, narrowed=prevented)

    def sums(found: list[Count]) -> set[tuple[int, str, int]]:
        return {((each.begin - FIRST) // HOUR, each.name, each.events) for each in found}

    assert sums(one["action"]) == {(0, "look", 10), (5, "look", 35)}
    assert sums(two["status"]) == {(0, "compliant", 10), (5, "compliant", 26), (5, "prevented", 9)}
    assert sums(two["class"]) == {(0, "pii", 10), (5, "pii", 35)}
    assert sums(narrowed["action"]) == {(0, "look", 9)}
