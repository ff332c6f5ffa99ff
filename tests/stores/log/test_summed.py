# SPDX-License-Identifier: Apache-2.0
"""Sums that pages read are those of the leaves, on either database; a verification tells where they are not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lacre.audit.event import Event, Surrogate
from lacre.audit.events import Looked
from lacre.audit.verification import Expected
from lacre.kms.local.signing import verifier_of
from lacre.sinks.anchors.file import FileAnchor
from lacre.stores.log.log import AuditLog
from lacre.stores.log.sink import LogSink
from lacre.stores.log.verifying import LogVerifier
from tests.audit.looks import STAMP, example
from tests.stores.log.stage import AUDIT, FIRST, Clock, Stage, codes, opened, sequencer_of

pytestmark = pytest.mark.any_sqlalchemy

# What sorts, counts and cuts differently by bytes, by UTF-16 and by characters.
ROWS = ("\uff5e", "\U0001f600", "é", "e", "B", "a", "two\nlines 1", "9", "10")


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    if request.param == "sqlite":
        made = opened(tmp_path)
    else:
        log, clock = AuditLog(request.getfixturevalue("database").text_url()), Clock()
        log.upgrade()
        made = Stage(
            tmp_path, log, clock, sequencer_of(log, clock), LogSink(log, STAMP, clock=clock),
            FileAnchor("outside", tmp_path / "outside.jsonl"),
        )  # fmt: skip
    made.look(2)
    made.enter(*(looked(made, *rows) for rows in (ROWS, ROWS[::-1], (), ("9",))))
    made.enter(replace(looked(made, "1"), principal="\u00e9" * 300, purpose="\U0001f600" * 200))
    made.idle(4)  # and so into the next month
    made.enter(*(looked(made, str(number)) for number in range(300)))
    yield made
    made.close()


def looked(stage: Stage, *rows: str) -> Looked:
    found: Event = replace(example(Looked), rows=tuple(map(Surrogate, rows)), time=stage.clock.now)
    assert isinstance(found, Looked)
    return found


def test_sums_are_those_of_leaves(stage: Stage) -> None:
    """Sums of long names and of rows in any script are right; changed, added or removed, each is told with its place."""
    right = codes(stage.verify())
    said = []
    for change, back in (
        ("UPDATE {0}lacre_tally SET events = events + 1", "UPDATE {0}lacre_tally SET events = events - 1"),
        ("UPDATE {0}lacre_tally SET count = count + 1", "UPDATE {0}lacre_tally SET count = count - 1"),
        ("UPDATE {0}lacre_tally SET hour = hour + 1", "UPDATE {0}lacre_tally SET hour = hour - 1"),
        ("UPDATE {0}lacre_touched SET resource = 'z' WHERE resource = 'a'", "UPDATE {0}lacre_touched SET resource = 'a' WHERE resource = 'z'"),
        ("INSERT INTO {0}lacre_touched VALUES ('x', 202612, 270)", "DELETE FROM {0}lacre_touched WHERE resource = 'x'"),
        ("DELETE FROM {0}lacre_touched", None),
    ):  # fmt: skip
        prefix = f"{stage.log.schema}." if stage.log.schema else ""
        stage.run(change.format(prefix))
        verdict = stage.verify()
        said.append([(each.code, each.seq) for each in verdict.problems])
        if back is not None:
            stage.run(back.format(prefix))

    assert right == []
    assert [sorted({code for code, _ in each}) for each in said] == [["sums"]] * 3 + [
        ["touched"]
    ] * 3
    assert said[3:] == [
        [("touched", 0)],
        [("touched", 256)],
        [("touched", 0)] * 2 + [("touched", 256)],
    ]


def test_a_sequencer_that_goes_on_is_no_finding(stage: Stage) -> None:
    """What is sequenced while leaves are examined is in the sums already, and is told as nothing; nor is what no checkpoint covers."""
    verifier = LogVerifier(
        stage.log, expected=Expected(app="shop", env="test", quiet=120_000_000),
        signers=[verifier_of(AUDIT.public)], operators=[],
    )  # fmt: skip
    went_on = []

    def go_on(done: int, of: int) -> None:
        went_on.append(done)
        stage.enter(looked(stage, "meanwhile"))

    verdict = verifier.verify(now=int(stage.clock.now * 1e6), progress=go_on)

    assert codes(verdict) == []
    assert went_on
    assert stage.verify().events == verdict.events + len(went_on)


def test_only_a_full_verification_compares(stage: Stage) -> None:
    """One that goes on from an auditor's file says that it did not compare sums; one of everything did."""
    whole = stage.verify()
    further = stage.verify(known=whole.verified)

    assert (whole.summed, further.summed) == (True, False)


def test_sums_of_a_month_that_is_gone_are_left_alone(stage: Stage) -> None:
    """Of hours that a removed month may have had an entry in no sums are compared: those would be told for ever."""
    prefix = f"{stage.log.schema}." if stage.log.schema else ""
    stage.run(f"DELETE FROM {prefix}lacre_leaf WHERE shard = {FIRST}")
    found = codes(stage.verify())

    assert found == ["completeness removed"]
