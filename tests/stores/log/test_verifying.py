# SPDX-License-Identifier: Apache-2.0
"""An honest log verifies, in whatever way it is read; what is missing in one is told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre.audit import stretches
from lacre.audit.entries import CATALOGUE, written
from lacre.audit.verification import Aspect
from lacre.audit.verified import Verified
from lacre.stores.log import verifying
from lacre.stores.log.schema import INBOX, LEAF
from tests.audit.looks import STAMP, example
from tests.stores.log.stage import (
    FIRST,
    SECOND,
    STRANGER,
    Stage,
    codes,
    event,
    opened,
    sequencer_of,
)

pytestmark = pytest.mark.any_sqlalchemy


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = opened(tmp_path)
    yield made
    made.close()


def test_an_honest_log_verifies(stage: Stage) -> None:
    """Looks, heartbeats, a change of month, a rest and a start: nothing is wrong, and the end is known."""
    stage.look(5)
    stage.idle(4)
    stage.look(3)
    stage.sink.close()
    stage.sequencer.rest()
    stage.clock.now += 3600
    stage.look(2)
    verdict = stage.verify()

    assert codes(verdict) == []
    assert [each.shard for each in verdict.shards] == [FIRST, SECOND]
    assert [each.state for each in verdict.shards] == ["closed", "open"]
    assert verdict.pending == 0
    assert verdict.verified is not None
    assert verdict.events == sum(each.size for each in verdict.shards)


def test_the_next_verification_goes_on(stage: Stage) -> None:
    """From what was kept only what is new is read; what is kept then is what a full one would keep."""
    stage.look(5)
    kept = stage.verify().verified
    assert kept is not None
    stage.idle(5)
    stage.burst(300)
    known = Verified.from_text(kept.to_text())
    further, whole = stage.verify(known=known), stage.verify()
    again = stage.verify(known=further.verified)

    assert codes(further) == codes(whole) == codes(again) == []
    assert further.events < whole.events
    assert again.events == 0
    assert further.verified is not None
    assert whole.verified is not None
    assert further.verified.to_text() == whole.verified.to_text()
    assert again.verified is not None
    assert again.verified.to_text() == whole.verified.to_text()


def test_a_silence_is_told_and_can_be_explained(stage: Stage) -> None:
    """Three minutes without a heartbeat are a problem, until an operator signs why; what a stranger signed is not sequenced, and is a finding where it was."""
    stage.look(2)
    stage.clock.now += 180
    stage.look(2)
    silent = stage.verify()
    (problem,) = silent.problems
    assert problem.subject is not None
    stage.explain(*problem.subject, signer=STRANGER)
    refused, passed = stage.verify(), stage.sequencer.passed
    stage.clock.now += 20
    stage.sequencer = sequencer_of(stage.log, stage.clock, checked=False)
    stage.sequencer.turn()
    forged = stage.verify()

    assert codes(silent) == codes(refused) == ["completeness silence"]
    assert passed == 1
    assert codes(forged) == ["completeness silence", "integrity statement"]


def test_an_explanation_counts(stage: Stage) -> None:
    """An explained silence is listed as explained, with its reason, and the log verifies."""
    stage.look(2)
    stage.clock.now += 180
    stage.look(2)
    (problem,) = stage.verify().problems
    assert problem.subject is not None
    stage.explain(*problem.subject)
    verdict = stage.verify()

    assert codes(verdict) == []
    assert [(each.code, each.explained) for each in verdict.explained] == [
        ("silence", "maintenance")
    ]


def test_a_rest_is_no_silence_and_its_end_is_said(stage: Stage) -> None:
    """Between a rest and the next start nothing is missing, however long it was; a log that rests is no problem."""
    stage.look(2)
    stage.sink.close()
    stage.sequencer.rest()
    resting = stage.verify(later=10 * 86_400)
    stage.clock.now += 10 * 86_400
    stage.look(1)

    assert codes(resting) == []
    assert codes(stage.verify()) == []


def test_a_log_that_ends_in_silence(stage: Stage) -> None:
    """A log that does not rest and says nothing for longer than two heartbeats is told: nobody sequences, or its end is gone."""
    stage.look(2)

    assert codes(stage.verify(later=119)) == []
    assert codes(stage.verify(later=121)) == ["completeness silence"]


def test_a_writer_that_never_ended(stage: Stage) -> None:
    """A process that was killed is open for a day, then a problem, until it is explained."""
    stage.look(2)
    stage.sequencer.rest()
    open_ = stage.verify(later=3600)
    verdict = stage.verify(later=25 * 3600)
    (problem,) = verdict.problems
    assert problem.subject is not None
    stage.explain(*problem.subject)
    stage.sequencer.rest()

    assert (codes(open_), open_.writers) == ([], 1)
    assert problem.code == "unended"
    assert codes(stage.verify(later=25 * 3600)) == []


def test_openings_are_closed(stage: Stage) -> None:
    """An opening whose time is over is a problem until it is explained; a closing without one, or with too many looks, is."""
    stage.look(1)
    stage.opening("one")
    stage.closing("one", looks=5)
    stage.opening("two")
    young = stage.verify()
    stage.idle(5)
    late = stage.verify()
    stage.closing("three")
    stage.closing("two", looks=6)
    wrong = stage.verify()

    assert codes(young) == []
    assert codes(late) == ["completeness unclosed"]
    assert codes(wrong) == ["completeness overdrawn", "completeness unopened"]


def test_an_empty_log_is_no_right_one(stage: Stage) -> None:
    """Of a log without leaves nothing can be said."""

    assert codes(stage.verify()) == ["completeness empty"]


def test_unsigned_leaves_are_pending_then_a_problem(stage: Stage) -> None:
    """Leaves after the newest checkpoint are pending for two heartbeats, and then told."""
    stage.look(3)
    stage.run("DELETE FROM lacre_checkpoint WHERE size = (SELECT max(size) FROM lacre_checkpoint)")
    verdict = stage.verify()

    assert (codes(verdict), verdict.pending) == ([], 1)
    assert "completeness unsigned" in codes(stage.verify(later=121))


@pytest.mark.parametrize("moment", ["2000000000000000", "'x'"])
def test_a_leaf_of_a_moment_to_come_does_not_wait_to_be_signed(stage: Stage, moment: str) -> None:
    """Nobody adds one to a log that rests and has it shown for good as if it were new."""
    stage.look(3)
    stage.sequencer.rest()
    stage.run("DELETE FROM lacre_checkpoint WHERE size = (SELECT max(size) FROM lacre_checkpoint)")
    stage.run(f"UPDATE lacre_leaf SET sequenced = {moment} WHERE seq = (SELECT max(seq) FROM lacre_leaf)")  # fmt: skip

    assert "completeness unsigned" in codes(stage.verify())


def test_stretches_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log in many stretches, examined by one process or by two, in one go or in two, is judged the same."""
    for module in (verifying, stretches):
        monkeypatch.setattr(module, "STRETCH", 512)
    monkeypatch.setattr(verifying, "_APART", 0)
    stage = opened(tmp_path)
    stage.clock.now += 600
    batches(stage, 3)
    known = stage.verify().verified
    batches(stage, 4)
    right, further = stage.verify(), stage.verify(known=known)
    stage.run("UPDATE lacre_leaf SET principal = 'svc:y' WHERE seq IN (100, 1030)")
    one, two = stage.verify(), stage.verify(processes=2)
    stage.close()

    assert codes(right) == codes(further) == []
    assert right.verified is not None
    assert further.verified is not None
    assert right.verified.to_text() == further.verified.to_text()
    assert codes(one) == codes(two) == ["integrity columns"]
    assert [each.seq for each in two.problems] == [100, 1030]
    assert one.events == two.events > 1024
    assert one.shards == two.shards


def batches(stage: Stage, count: int) -> None:
    """Hand over some hundreds of events, in batches that end anywhere."""
    for number in range(count):
        stage.clock.now += 0.5
        stage.sink.append([event("svc:x", stage.clock.now) for _ in range(190 + number)])
        stage.sequencer.turn()


@pytest.mark.parametrize(
    ("action", "wrong"),
    [("closing", {"looks": "x"}), ("opening", {"bound": 1e999}), ("anchor", {"shard": "1" * 5000}), ("anchor", {"size": [1]})],
)  # fmt: skip
def test_what_no_writer_wrote_stops_no_verification(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, action: str, wrong: dict[str, object]
) -> None:
    """A member of another type, put there past the sequencer's own check, leaves an answer."""
    monkeypatch.setattr("lacre.stores.log.ready.accept", lambda *_, **__: None)
    stage.opening("x")
    line = written(example(CATALOGUE[action]), STAMP)
    members = json.loads(line) | {"time": "2026-11-30T23:58:00.000000Z"} | wrong
    with stage.log.writing() as connection:
        connection.execute(INBOX.insert().values(id=bytes.fromhex(members["id"]), entry=json.dumps(members).encode()))  # fmt: skip
    stage.sequencer.turn()
    found = codes(stage.verify(anchors={"outside": (2**60, [])}))

    assert found == ([] if action == "anchor" else ["integrity unknown"])


def test_what_is_told_a_hundred_times_hides_nothing_else(stage: Stage) -> None:
    """Of each kind a hundred are told, and what was not told one by one is not explained."""
    stage.look(1)
    with stage.log.reading() as connection:
        (line,) = connection.scalars(sa.select(LEAF.c.entry).where(LEAF.c.action == "search"))
    said = json.loads(line)
    with stage.log.writing() as connection:
        for number in range(130):
            forged = {**said, "id": f"{number:032x}", "number": 1000 + 2 * number}
            entry = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
            connection.execute(INBOX.insert().values(id=bytes.fromhex(forged["id"]), entry=entry))
    stage.sequencer.turn()
    last = sa.select(sa.func.max(LEAF.c.seq)).scalar_subquery()
    stage.run(sa.update(LEAF).where(LEAF.c.seq == last).values(principal="svc:other"))
    found = stage.verify()

    assert codes(found) == ["completeness number", "integrity columns"]
    assert found.untold == 30
    explained = replace(found, problems=())
    assert not explained.right
    assert not explained.holds(Aspect.COMPLETENESS)
