# SPDX-License-Identifier: Apache-2.0
"""What is signed is put outside, once, and the log says so; on PostgreSQL as on SQLite."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.audit.keeping import Anchored
from lacre.audit.notes import Checkpoint
from lacre.audit.verification import Expected
from lacre.errors import EvidenceUnavailable
from lacre.kms.local.signing import verifier_of
from lacre.sinks.anchors.file import FileAnchor
from lacre.stores.log import anchoring, verifying
from lacre.stores.log.anchoring import Anchoring, AnchorThread
from lacre.stores.log.log import AuditLog
from lacre.stores.log.sink import OWN, LogSink
from lacre.stores.log.verifying import LogVerifier
from tests.audit.looks import STAMP
from tests.components.postgresql import Database
from tests.stores.log.stage import AUDIT, BEGIN, Clock, Stage, codes, event, opened, sequencer_of

pytestmark = pytest.mark.any_sqlalchemy


class Away:
    """An anchor that does not answer."""

    name = "away"

    def put(self, checkpoint: Checkpoint, note: str) -> None:
        raise EvidenceUnavailable("the anchor away cannot be reached")

    def read(self) -> list[str]:
        raise EvidenceUnavailable("the anchor away cannot be reached")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = opened(tmp_path)
    made.look(3)
    made.idle(3)
    yield made
    made.close()


def test_each_month_is_anchored_once(stage: Stage) -> None:
    """The end of each month is put outside; a second time only what is new is, and one that is away keeps no other back."""
    works = Anchoring(stage.log, [Away(), stage.outside], STAMP, clock=stage.clock)
    first = works.put()
    stage.sequencer.turn()
    stage.look(1)
    second = works.put()
    stage.sequencer.turn()

    assert [(each.anchor, each.shard) for each in first if not each.failed] == [
        ("outside", 202611),
        ("outside", 202612),
    ]
    assert [each.anchor for each in first if each.failed] == ["away"]
    assert [(each.anchor, each.shard) for each in second if not each.failed] == [
        ("outside", 202612)
    ]
    verdict = stage.verify(anchored=True)
    assert codes(verdict) == []
    assert [each.anchored > 0 for each in verdict.shards] == [True, True]


def test_an_anchor_that_cannot_be_read_is_told(stage: Stage) -> None:
    """Verification does not pass over an anchor that is away, nor over one that holds what nobody signed."""
    stage.anchor()
    with (stage.path.parent / "outside.jsonl").open("a") as file:
        file.write('{"note": "forged"}\n')

    assert codes(stage.verify(anchors={"away": None})) == ["anchored unreadable"]
    assert codes(stage.verify(anchored=True)) == ["anchored foreign"]


def test_who_sequences_anchors_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread beside the sequencer anchors when it is due, only where this process sequences, and ends with it."""
    monkeypatch.setattr(anchoring, "_LOOK", 0.01)
    mine, others = (
        FileAnchor("outside", tmp_path / "mine"),
        FileAnchor("outside", tmp_path / "others"),
    )
    standby = sequencer_of(stage.log, stage.clock)
    threads = [
        AnchorThread(Anchoring(stage.log, [mine], STAMP), stage.sequencer, every=0.01),
        AnchorThread(Anchoring(stage.log, [others], STAMP), standby, every=0.01),
    ]
    for each in threads:
        each.notify()
    deadline = time.monotonic() + 20
    while len(mine.read()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    for each in threads:
        each.close()

    assert len(mine.read()) >= 2
    assert others.read() == []


def test_a_log_on_postgresql_verifies(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL an honest log verifies, by several processes too, and a changed entry is found."""
    monkeypatch.setattr(verifying, "_APART", 0)
    log, clock = AuditLog(database.text_url()), Clock(BEGIN)
    log.upgrade()
    sequencer, sink = sequencer_of(log, clock), LogSink(log, STAMP, clock=clock)
    for _ in range(3):
        clock.now += 59
        sink.append([event("svc:x", clock.now) for _ in range(150)])
        sequencer.turn()
    verifier = LogVerifier(
        log, expected=Expected(app="shop", env="test", quiet=120_000_000), signers=[verifier_of(AUDIT.public)],
        operators=[], processes=2,
    )  # fmt: skip
    right = verifier.verify(now=int(clock.now * 1_000_000))
    with log.writing() as connection:
        connection.exec_driver_sql(
            f"UPDATE {log.schema}.lacre_leaf SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'svc:x', 'svc:y'), 'UTF8') WHERE seq = 7"
        )
    wrong = verifier.verify(now=int(clock.now * 1_000_000))
    log.close()

    assert codes(right) == []
    assert right.events > 450
    assert "integrity edited" in codes(wrong)


def test_an_entry_that_says_what_was_not_put_keeps_nothing_from_being_put(stage: Stage) -> None:
    """Whoever hands over that more was anchored, or will be in a hundred years, holds no anchor up."""
    works = Anchoring(stage.log, [stage.outside], STAMP, clock=stage.clock)
    lie = Anchored(anchor="outside", shard="2026-12", size=2**62, root="", time=stage.clock.now + 3e9, **OWN)  # fmt: skip
    stage.enter(lie)

    assert [each.shard for each in works.put()] == [202611, 202612]
    assert works.last() <= stage.clock.now
