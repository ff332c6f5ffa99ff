"""Leaves are read in their order, by page and by what they have in common."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.audit.event import Outcome, Place
from lacre.audit.events import Looked
from lacre.audit.leaves import Position
from lacre.context import Origin
from lacre.errors import ConfigurationError
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import Filters, LogReader
from tests.stores.log.filled import PLACES, fill, log_at

pytestmark = pytest.mark.any_sqlalchemy

FIRST = dt.datetime(2026, 10, 31, 23, 50, tzinfo=dt.UTC)
EMAIL = Place("main", "customers", "email", "pii")
CARD = Place("main", "orders", "card", "payment")


def looked(minute: int) -> Looked:
    """The look of one minute: whose and at what depends on it."""
    return Looked(
        time=(FIRST + dt.timedelta(minutes=minute)).timestamp(),
        principal=f"user:{minute % 3}",
        roles=("app",),
        purpose="test",
        tenant="default",
        origin=Origin(correlation="abc") if minute == 7 else Origin(),
        place=CARD if minute % 5 == 0 else EMAIL,
        outcome=Outcome.DENIED if minute == 9 else Outcome.ALLOWED,
        rule="rule",
        rows=(str(minute),),
        count=1,
        key="",
    )


@pytest.fixture(params=PLACES)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogReader]:
    """Twenty looks, a minute each, across the end of a month."""
    with log_at(request.param, request, tmp_path) as log:
        start = int(FIRST.timestamp()) * 1_000_000
        fill(log, [(start + minute * 60_000_000, looked(minute)) for minute in range(20)])
        yield LogReader(log)


def test_leaves_are_read_in_order(reader: LogReader) -> None:
    """All leaves come in the order they were sequenced in, across shards; or those after a position."""
    found = list(reader.after())

    assert [leaf.entry.members["rows"] for leaf in found] == [[str(n)] for n in range(20)]
    assert [leaf.position for leaf in found[9:11]] == [Position(202610, 9), Position(202611, 0)]
    assert list(reader.after(found[8].position, limit=3)) == found[9:12]
    assert reader.newest() == found[-1]
    assert reader.find(found[4].entry.id) == reader.leaf(Position(202610, 4)) == found[4]


def test_pages_have_every_leaf_once(reader: LogReader) -> None:
    """Pages go from the newest to the oldest, without a gap or a repetition."""
    pages, before = [], None
    while page := reader.page(before=before, limit=7):
        pages += page
        before = page[-1].position

    assert pages == list(reader.after())[::-1]
    assert reader.page(before=Position(202612, 0)) == []


@pytest.mark.parametrize(
    ("filters", "minutes"),
    [
        (Filters(principal="user:1"), [19, 16, 13, 10, 7, 4, 1]),
        (Filters(principal="user:1", class_="payment"), [10]),
        (Filters(place="main.orders.card"), [15, 10, 5, 0]),
        (Filters(status="prevented"), [9]),
        (Filters(correlation="abc"), [7]),
        (Filters(resource="12"), [12]),
        (Filters(action="look", tenant="default", since=FIRST + dt.timedelta(minutes=3), until=FIRST + dt.timedelta(minutes=5)), [4, 3]),
        (Filters(tenant="other"), []),
    ],
)  # fmt: skip
def test_filters(reader: LogReader, filters: Filters, minutes: list[int]) -> None:
    """A filter lets through what it names, and several what all of them name."""
    found = reader.page(filters)

    assert [int(leaf.entry.members["rows"][0]) for leaf in found] == minutes
    assert list(reader.after(filters=filters)) == found[::-1]


def test_a_log_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    """Reading where there is no log names the command that makes one, and makes none."""
    with pytest.raises(ConfigurationError, match="no evidence log") as caught:
        LogReader(AuditLog(f"sqlite:///{tmp_path}/none.db")).newest()

    assert "lacre db upgrade" in caught.value.hint
    assert not (tmp_path / "none.db").exists()
