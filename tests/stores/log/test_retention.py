# SPDX-License-Identifier: Apache-2.0
"""Months are removed when their term is over and nobody holds them, and the log says so and still verifies."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.audit.keeping import Purged
from lacre.audit.leaves import shard_name
from lacre.errors import MisuseError
from lacre.kms.local.signing import verifier_of
from lacre.policy.terms import Term
from lacre.stores.log.retention import Kept, keep_or_let_go, kept, remove
from lacre.stores.log.sink import OWN
from tests.audit.looks import STAMP
from tests.stores.log.stage import FIRST, OPERATOR, SECOND, Stage, codes, opened

pytestmark = pytest.mark.any_sqlalchemy

TERM = Term(years=7)
OPERATORS = [verifier_of(OPERATOR.public)]
BEFORE = dt.datetime(2033, 11, 30, 23, 59, tzinfo=dt.UTC)
AFTER = dt.datetime(2033, 12, 1, tzinfo=dt.UTC)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = opened(tmp_path)
    made.look(5)
    made.idle(4)
    made.look(5)
    yield made
    made.close()


def event(stage: Stage, step: str, month: Kept) -> Purged:
    name, root = shard_name(month.shard), month.root.hex()
    about = f"{name} {month.size} {root}" if step == "purged" else name
    note = stage.statement(step, about)
    return Purged(
        step=step,
        shard=name,
        size=month.size,
        root=root,
        statement=note,
        time=stage.clock.now,
        **OWN,
    )


def test_a_month_is_kept_for_years_of_the_calendar(stage: Stage) -> None:
    """Seven years of November 2026 are over when November 2033 is; the open month never is."""
    first, second = kept(stage.log, TERM, OPERATORS)

    assert (first.shard, second.shard) == (FIRST, SECOND)
    assert first.until == AFTER
    assert not first.is_due(BEFORE)
    assert first.is_due(AFTER)
    assert not second.is_due(AFTER + dt.timedelta(days=9999))


def test_a_purged_month_verifies(stage: Stage) -> None:
    """After its term a month is removed; the log says by whom, its checkpoint stays, and verification passes and tells of it."""
    first, _ = kept(stage.log, TERM, OPERATORS)
    known = stage.verify().verified
    with pytest.raises(MisuseError, match="kept still"):
        remove(stage.log, first, event(stage, "purged", first), STAMP, now=BEFORE)
    assert remove(stage.log, first, event(stage, "purged", first), STAMP, now=AFTER) == first.size
    stage.look(1)
    whole, further = stage.verify(), stage.verify(known=known)
    with pytest.raises(MisuseError):
        remove(stage.log, first, event(stage, "purged", first), STAMP, now=AFTER)

    assert codes(whole) == codes(further) == []
    assert [each.about.partition(" ")[0] for each in whole.purged] == ["2026-11"]
    assert [each.state for each in whole.shards] == ["purged", "open"]


def test_a_month_on_hold_is_not_removed(stage: Stage) -> None:
    """A hold keeps a month past its term, whatever the column says, until an operator lets it go."""
    first, _ = kept(stage.log, TERM, OPERATORS)
    keep_or_let_go(stage.log, FIRST, event(stage, "held", first), STAMP, hold="lawsuit")
    stage.look(1)
    held = kept(stage.log, TERM, OPERATORS)[0]
    with pytest.raises(MisuseError, match="on hold"):
        remove(stage.log, first, event(stage, "purged", first), STAMP, now=AFTER)
    stage.run("UPDATE lacre_shard SET hold = NULL")
    lifted = kept(stage.log, TERM, OPERATORS)[0]
    wrong = stage.verify()
    stage.clock.now += 1
    keep_or_let_go(stage.log, FIRST, event(stage, "released", first), STAMP, hold=None)
    stage.look(1)
    released = kept(stage.log, TERM, OPERATORS)[0]

    assert held.hold == lifted.hold == "maintenance"
    assert codes(wrong) == ["integrity hold"]
    assert not lifted.is_due(AFTER)
    assert released.is_due(AFTER)
    assert codes(stage.verify()) == []
