"""The recorder loses nothing it took, and refuses what it cannot take."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lacre.audit.event import Event
from lacre.audit.events import Looked
from lacre.audit.recorder import Recorder
from lacre.errors import EvidenceUnavailable
from lacre.sinks.jsonl import JsonLinesSink
from lacre.testing import CapturedEvents
from tests.audit.looks import STAMP, look, searched

ROOT = Path(__file__).parents[2]  # where `tests` is imported from
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def sink() -> CapturedEvents:
    """A sink that keeps everything."""
    return CapturedEvents()


@pytest.fixture
def recorder(sink: CapturedEvents) -> Iterator[Recorder]:
    """A recorder with room for 100 looks."""
    made = Recorder(sink, buffer=100)
    yield made
    sink.failing = None
    made.close()


def rows(sink: CapturedEvents) -> list[str]:
    """Every row of every look that arrived."""
    return [row for event in sink.events if isinstance(event, Looked) for row in event.rows]


def within(seconds: float, true: object) -> bool:
    """Whether the callable *true* becomes so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_a_look_is_drained_within_a_second(sink: CapturedEvents, recorder: Recorder) -> None:
    """Nobody flushes, and the look is with the sink about a second later."""
    recorder.record_look(look("7"))

    assert within(1.5, lambda: rows(sink) == ["7"])


def test_close_drains_and_the_recorder_starts_again(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """Closing hands everything over; a look after it is drained like any other."""
    recorder.record_look(look("1"))
    recorder.close()
    assert rows(sink) == ["1"]
    recorder.record_look(look("2"))

    assert within(1.5, lambda: rows(sink) == ["1", "2"])


def test_a_look_during_close_is_drained_without_another(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """A look that arrives while the recorder closes does not wait for the end of the process."""
    recorder.record_look(look("1"))
    late = iter(["2", "3"])

    def gate() -> None:
        if (row := next(late, None)) is not None:
            recorder.record_look(look(row))

    sink.gate = gate
    recorder.close()

    assert within(1.5, lambda: rows(sink) == ["1", "2", "3"])


def test_a_close_that_fails_does_not_stop_the_recorder(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """After a failed close and a repair, what was kept arrives, and so does what follows."""
    recorder.record_look(look("1"))
    sink.failing = FULL
    with pytest.raises(EvidenceUnavailable):
        recorder.close()
    sink.failing = None
    assert within(2, lambda: _taken(recorder, "2"))

    assert within(2, lambda: rows(sink)[:1] == ["1"] and "2" in rows(sink))


def _taken(recorder: Recorder, row: str) -> bool:
    try:
        recorder.record_look(look(row))
    except EvidenceUnavailable:
        return False
    return True


def test_a_failing_sink_refuses_looks_and_recovers_by_itself(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """While the disk is full nothing is looked at; once it is not, nobody restarts anything."""
    sink.failing = FULL
    recorder.record_look(look("1"))
    assert within(2, lambda: not _taken(recorder, "901"))
    for _ in range(20):
        with pytest.raises(EvidenceUnavailable, match="did not happen") as caught:
            recorder.record_look(look("901"))
    assert caught.value.hint == "the audit sink says: No space left on device"
    assert caught.value.retryable
    sink.failing = None
    assert within(2, lambda: _taken(recorder, "2"))
    recorder.flush()

    assert [row for row in rows(sink) if row != "901"] == ["1", "2"]


def test_a_sink_stays_down_while_it_takes_nothing(sink: CapturedEvents, recorder: Recorder) -> None:
    """On a full disk an empty write succeeds; that does not make the recorder accept looks."""

    class Disk:
        def append(self, events: object, connection: object = None) -> None:
            if events:
                raise FULL

    recorder._sink = Disk()
    recorder.record_look(look("1"))
    assert within(2, lambda: not _taken(recorder, "2"))
    taken = 0
    for _ in range(100):
        taken += _taken(recorder, "3")
        time.sleep(0.01)
    recorder._sink = sink

    assert taken == 0


def test_a_failed_write_does_not_block_looks_for_ever(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """A write that failed once, in a process that never looked, is forgotten when the sink works."""
    sink.failing = FULL
    with pytest.raises(EvidenceUnavailable):
        recorder.write([searched()])
    sink.failing = None

    assert within(2, lambda: _taken(recorder, "1"))


def test_whatever_a_sink_raises_is_a_failure(sink: CapturedEvents, recorder: Recorder) -> None:
    """A sink that breaks its promise about errors stops looks, not the drain; its words stay unsaid."""

    class Broken:
        broken = True

        def append(self, events: object, connection: object = None) -> None:
            if self.broken:
                raise ValueError("CANARY")
            sink.append(events)  # type: ignore[arg-type]

    broken = recorder._sink = Broken()
    recorder.record_look(look("1"))
    assert within(2, lambda: not _taken(recorder, "901"))
    with pytest.raises(EvidenceUnavailable) as caught:
        recorder.record_look(look("901"))
    assert "CANARY" not in caught.value.hint
    broken.broken = False
    assert within(2, lambda: _taken(recorder, "2"))
    recorder.flush()

    assert [row for row in rows(sink) if row != "901"] == ["1", "2"]


def test_a_full_recorder_refuses_and_loses_nothing_it_took(
    sink: CapturedEvents, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sink that hangs, the buffer fills and looks are refused; every look taken arrives."""
    monkeypatch.setattr("lacre.audit.recorder._PATIENCE", 0.3)
    hold, held = threading.Event(), threading.Event()

    def gate() -> None:
        held.set()
        hold.wait(10)

    sink.gate = gate
    taken = []
    for number in range(150):
        if _taken(recorder, str(number)):
            taken.append(str(number))
        else:
            break
    assert held.is_set()
    assert len(taken) < 100
    with pytest.raises(EvidenceUnavailable) as caught:
        recorder.record_look(look("901"))
    assert caught.value.hint == "the audit sink is too slow for this load"
    hold.set()
    assert within(2, lambda: _taken(recorder, "900"))
    recorder.flush()

    assert set(taken) | {"900"} <= set(rows(sink))
    assert "901" not in rows(sink)


def test_a_look_taken_back_costs_no_other_look(
    sink: CapturedEvents, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal while the sink writes does not drop a look that was taken meanwhile."""
    monkeypatch.setattr("lacre.audit.recorder._PATIENCE", 0.05)
    recorder._buffer = 1
    go = threading.Event()
    sink.gate = lambda: go.wait(10)
    with pytest.raises(EvidenceUnavailable):
        recorder.record_look(look("1"))
    recorder._buffer = 100
    recorder.record_look(look("2"))
    go.set()
    recorder.flush()

    # The refused one was on its way already: it is in the evidence, as tried.
    assert rows(sink) == ["1", "2"]


def test_looks_of_many_threads_all_arrive(sink: CapturedEvents, recorder: Recorder) -> None:
    """Eight threads, a small buffer: each look is in the evidence exactly once."""
    recorder._buffer = 20

    def work(thread: int) -> None:
        for number in range(200):
            recorder.record_look(look(str(thread * 1000 + number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()

    assert sorted(map(int, rows(sink))) == [t * 1000 + n for t in range(8) for n in range(200)]


def test_looks_alike_are_one_event_with_every_row(sink: CapturedEvents, recorder: Recorder) -> None:
    """One event for each principal and outcome of a drain; the rows and their count are in it."""
    for number in range(3):
        recorder.record_look(look(str(number)))
        recorder.record_look(look(str(number), principal="svc:y"))
    recorder.close()

    found = {event.principal: event for event in sink.events if isinstance(event, Looked)}
    assert {name: event.rows for name, event in found.items()} == {
        "svc:x": ("0", "1", "2"),
        "svc:y": ("0", "1", "2"),
    }
    assert [event.count for event in found.values()] == [3, 3]


def test_no_thread_no_look(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the look is refused, and the next one tries again."""
    real = threading.Thread.start

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(EvidenceUnavailable):
            recorder.record_look(look("1"))
    monkeypatch.setattr(threading.Thread, "start", real)
    recorder.record_look(look("2"))


def test_a_fork_keeps_the_parents_looks_and_does_not_repeat_them(tmp_path: Path) -> None:
    """The parent drains what it took, the child what it takes, each once, in one file."""
    path = tmp_path / "audit.jsonl"
    recorder = Recorder(JsonLinesSink(path, STAMP))
    recorder.record_look(look("1"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            recorder.record_look(look("2"))
            recorder.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    recorder.close()

    text = path.read_text()
    assert text.count('"rows":["1"]') == 1
    assert text.count('"rows":["2"]') == 1


KILLED = """
import sys, time
from pathlib import Path
from lacre.audit.recorder import Recorder
from lacre.sinks.jsonl import JsonLinesSink
from tests.audit.looks import STAMP, look
recorder = Recorder(JsonLinesSink(Path(sys.argv[1]), STAMP))
for number in range(10_000):
    recorder.record_look(look(str(number)))
    print(number, time.time(), flush=True)
    time.sleep(0.005)
"""


def test_sigkill_loses_a_second_at_most(tmp_path: Path) -> None:
    """Every look older than about a second at the moment of the kill is in the file."""
    path = tmp_path / "audit.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
        killed = time.time()
        told = [line.split() for line in process.stdout if line.count(" ") == 1]
    text = path.read_text()
    recorded = {row for part in text.split('"rows":[')[1:] for row in part.split("]")[0].split(",")}

    old = [number for number, when in told if float(when) < killed - 1.2]
    assert old
    assert not [number for number in old if f'"{number}"' not in recorded]


def test_a_normal_exit_loses_nothing(tmp_path: Path) -> None:
    """A process that just ends, without closing, has drained."""
    path = tmp_path / "audit.jsonl"
    program = KILLED.replace("10_000", "3").replace("time.sleep(0.005)", "pass")
    subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, cwd=ROOT
    )

    assert path.read_text().count('"rows":["0","1","2"]') == 1


def test_a_check_that_fails_finds_out_by_itself_when_the_sink_works(
    sink: CapturedEvents, recorder: Recorder
) -> None:
    """No look has to be refused for it, although none was recorded yet."""
    sink.failing = FULL
    with pytest.raises(EvidenceUnavailable):
        recorder.check()
    sink.failing = None
    assert within(2, lambda: recorder._failed is None)
    recorder.record_look(look("1"))
    recorder.check()

    assert rows(sink) == ["1"]


class Answering:
    """A sink that keeps what it is given, and loses its answer while *lost* is set."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.lost = False

    def append(self, events: Sequence[Event]) -> None:
        if events:
            self.given.append([event.id for event in events])
        if self.lost:
            raise ConnectionResetError


def test_a_lost_answer_is_asked_for_again_with_the_same_events(recorder: Recorder) -> None:
    """What the sink took and did not confirm comes again, by the same ids and first of all."""
    answering = recorder._sink = Answering()
    answering.lost = True
    recorder.record_look(look("1"))
    with pytest.raises(EvidenceUnavailable):
        recorder.flush()
    answering.lost = False
    later = searched()
    recorder.write([later])

    first, again, last = answering.given[0], answering.given[-2], answering.given[-1]
    assert first == again
    assert len(first) == 1
    assert last == [later.id]


def test_a_write_tried_again_after_a_lost_answer_is_recorded_once(recorder: Recorder) -> None:
    """The commit that was refused is tried again: its events were taken already, and are not given twice."""
    answering = recorder._sink = Answering()
    answering.lost = True
    events = [searched(), searched()]
    with pytest.raises(EvidenceUnavailable):
        recorder.write(events)
    answering.lost = False
    recorder.write(events)

    assert {tuple(ids) for ids in answering.given} == {tuple(event.id for event in events)}


def test_what_was_not_taken_before_a_failure_is_not_given_after_it(recorder: Recorder) -> None:
    """While the sink owes an answer, a write that fails leaves nothing behind that would be recorded later."""
    answering = recorder._sink = Answering()
    answering.lost = True
    first, second = searched(), searched()
    for event in (first, second):
        with pytest.raises(EvidenceUnavailable):
            recorder.write([event])
    answering.lost = False
    recorder.flush()

    assert {tuple(ids) for ids in answering.given} == {(first.id,)}


def test_a_sink_is_closed_after_the_last_drain(recorder: Recorder) -> None:
    """A sink that has an end of its own hears of it once everything was given."""
    heard: list[str] = []

    class Ending:
        def append(self, events: Sequence[Event]) -> None:
            heard.extend("event" for _ in events)

        def close(self) -> None:
            heard.append("closed")

    recorder._sink = Ending()
    recorder.record_look(look("1"))
    recorder.close()

    assert heard == ["event", "closed"]
