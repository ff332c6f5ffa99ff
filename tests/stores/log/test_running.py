"""A sequencer in the application's own process: when it begins, when it rests, and who sequences after a fork."""

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.audit.recorder import Recorder
from lacre.audit.several import Several
from lacre.errors import ConfigurationError, EvidenceUnavailable
from lacre.sinks.jsonl import JsonLinesSink
from lacre.stores.log.log import AuditLog
from lacre.stores.log.running import SequencerThread, run
from lacre.stores.log.sink import LogSink
from tests.audit.looks import STAMP, look, searched
from tests.jobs.killing import forked
from tests.stores.log.filled import PLACES, log_at
from tests.stores.log.test_sequencer import Clock, check_signed, sequencer_of, told

pytestmark = pytest.mark.any_sqlalchemy

BEGUN = ["sequencing opened", "sequencing began", "recording began"]


@pytest.fixture(params=PLACES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    with log_at(request.param, request, tmp_path) as log:
        yield log


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "lacre-sequencer"}


def test_it_begins_with_the_first_entry_and_rests_at_the_end(log: AuditLog) -> None:
    """Nothing runs before something is recorded; a closed recorder leaves a log that rests, and may go on."""
    others = threads()  # of applications that other tests left open
    sink = LogSink(log, STAMP, notified=SequencerThread(sequencer_of(log, Clock()), interval=0.01))
    recorder = Recorder(sink)
    assert threads() == others
    recorder.write([searched(principal="svc:a")])
    assert len(threads() - others) == 1
    recorder.close()
    assert threads() <= others
    assert told(log) == [*BEGUN, "svc:a", "recording ended", "sequencing rested"]
    recorder.record_look(look())
    recorder.close()

    assert told(log)[6:] == ["sequencing began", "recording began", "look", "recording ended", "sequencing rested"]  # fmt: skip
    check_signed(log)


def test_a_child_records_and_the_parent_sequences(log: AuditLog) -> None:
    """After a fork parent and child are writers of their own, and only who holds the lease sequences."""
    sequencer = sequencer_of(log, Clock())
    sink = LogSink(log, STAMP, notified=SequencerThread(sequencer, interval=0.01))
    sink.append([searched(principal="svc:parent")])
    while not sequencer.holds:
        continue

    def child() -> None:
        sink.append([searched(principal="svc:child")])
        sink.close()

    _, status = os.waitpid(forked(child), 0)
    sink.append([searched(principal="svc:parent-again")])
    sink.close()

    assert status == 0
    assert sorted(each for each in told(log) if each.startswith("svc:")) == ["svc:child", "svc:parent", "svc:parent-again"]  # fmt: skip
    assert told(log).count("sequencing began") == 1
    assert told(log).count("recording began") == told(log).count("recording ended") == 2
    check_signed(log)


def test_what_stops_it_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A clock that was set back stops sequencing, not recording: it is logged once, and goes on when it is right."""
    log, clock = AuditLog(f"sqlite:///{tmp_path}/audit.db"), Clock()
    log.upgrade()
    sequencer_of(log, clock).rest()
    clock.now -= 3600
    sequencer = sequencer_of(log, clock)
    sink = LogSink(log, STAMP, notified=SequencerThread(sequencer, interval=0.001))
    with caplog.at_level(logging.ERROR, "lacre.audit"):
        sink.append([searched(principal="svc:a")])
        while not caplog.records:
            continue
        sink.close()
    assert told(log) == ["sequencing opened", "sequencing began", "sequencing rested"]
    clock.now += 3600
    sequencer.rest()

    [record] = caplog.records
    assert "does not go back" in record.getMessage()
    assert told(log)[3:] == ["sequencing began", "recording began", "svc:a", "recording ended", "sequencing rested"]  # fmt: skip


def test_a_process_of_its_own_ends_on_what_somebody_must_set_right(tmp_path: Path) -> None:
    """`run` goes on over what passes, and ends with the error that somebody has to set right."""
    log, clock = AuditLog(f"sqlite:///{tmp_path}/audit.db"), Clock()
    log.upgrade()
    stop = threading.Event()
    stop.set()
    run(sequencer_of(log, clock), stop)
    clock.now -= 3600
    with pytest.raises(ConfigurationError, match="does not go back"):
        run(sequencer_of(log, clock), stop)

    assert told(log) == ["sequencing opened", "sequencing began", "sequencing rested"]


def test_entries_go_to_the_log_and_to_the_lines(tmp_path: Path) -> None:
    """A batch that one of two sinks failed is given again to that one only; both have each entry once."""
    log, folder = AuditLog(f"sqlite:///{tmp_path}/audit.db"), tmp_path / "lines"
    log.upgrade()
    lines = JsonLinesSink(folder / "audit.jsonl", STAMP)
    both = Several([LogSink(log, STAMP), lines])
    recorder = Recorder(both)
    event = searched(principal="svc:a")
    with pytest.raises(EvidenceUnavailable):
        recorder.write([event])
    folder.mkdir()
    recorder.write([event])
    recorder.close()
    sequencer_of(log, Clock()).rest()

    assert told(log) == [*BEGUN, "svc:a", "recording ended", "sequencing rested"]
    assert len((folder / "audit.jsonl").read_text().splitlines()) == 1
    assert both.newest() == lines.newest() == event.time
    log.close()


def test_a_log_that_is_away_refuses_the_look(tmp_path: Path) -> None:
    """Where the log cannot be written to, evidence is unavailable, and nothing of it is lost when it is back."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    recorder = Recorder(LogSink(log, STAMP))
    with pytest.raises(EvidenceUnavailable, match="cannot be recorded"):
        recorder.write([searched(principal="svc:a")])
    with pytest.raises(EvidenceUnavailable):
        recorder.check()
    log.upgrade()
    recorder.write([searched(principal="svc:b")])
    recorder.check()
    recorder.close()
    sequencer_of(log, Clock()).rest()

    assert told(log)[2:] == ["recording began", "svc:a", "svc:b", "recording ended", "sequencing rested"]  # fmt: skip
    log.close()
