"""One event, one line, whatever is in it."""

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lacre.audit.recorder import Recorder
from lacre.errors import EvidenceUnavailable
from lacre.sinks.jsonl import JsonLinesSink
from tests.audit.looks import STAMP, look, searched

HOSTILE = 'x\n{"action":"look"}\r\u2028\u2029\x00\x85"\\ \udc80 é 😀'


def test_no_value_breaks_a_line(tmp_path: Path) -> None:
    """Newlines, quotes and separators of every alphabet in a principal, purpose or tenant stay inside one line."""
    path = tmp_path / "audit.jsonl"
    JsonLinesSink(path, STAMP).append(
        [searched(principal=HOSTILE, purpose=HOSTILE, tenant=HOSTILE), searched()]
    )

    data = path.read_bytes()
    lines = data.decode("ascii").splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["principal"] == HOSTILE
    assert json.loads(lines[1])["time"] == "2027-01-15T08:00:00.000000Z"


def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    """Evidence names people: nobody else on the machine reads it."""
    path = tmp_path / "audit.jsonl"
    before = os.umask(0)
    try:
        JsonLinesSink(path, STAMP).append([searched()])
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_half_a_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a line that a full disk or a kill cut off, the next event is on a line of its own."""
    path = tmp_path / "audit.jsonl"
    JsonLinesSink(path, STAMP).append([searched()])
    path.write_bytes(path.read_bytes()[:-20])
    JsonLinesSink(path, STAMP).append([searched(principal="after")])
    JsonLinesSink(path, STAMP).append([searched(principal="later")])

    lines = path.read_text().splitlines()
    assert [json.loads(line)["principal"] for line in lines[1:]] == ["after", "later"]


def _append(path: Path, name: str) -> None:
    sink = JsonLinesSink(path, STAMP)
    for _ in range(50):
        sink.append([searched(principal=name * 500)] * 3)


def test_two_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Appends of two processes to one file are whole lines."""
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    found = [json.loads(line)["principal"] for line in path.read_text().splitlines()]
    assert sorted(found) == ["a" * 500] * 150 + ["b" * 500] * 150


def test_a_full_disk_is_an_error_not_a_loss(tmp_path: Path) -> None:
    """What /dev/full answers reaches the caller of a write, and refuses looks."""
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    recorder = Recorder(JsonLinesSink(path, STAMP))
    with pytest.raises(EvidenceUnavailable) as caught:
        recorder.write([searched()])
    assert "No space left" in caught.value.hint
    with pytest.raises(EvidenceUnavailable):
        recorder.record_look(look("1"))
    path.unlink()
    recorder.close()


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """Nothing is made on the way to the file: a wrong path is said."""
    with pytest.raises(FileNotFoundError):
        JsonLinesSink(tmp_path / "missing" / "audit.jsonl", STAMP).append([searched()])


def test_a_failed_write_leaves_no_lock_in_a_child(tmp_path: Path) -> None:
    """A child forked while a write was failing does not block its parent's next one."""
    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path, STAMP)
    real = os.write
    child: list[int] = []

    def failing(descriptor: int, data: bytes) -> int:
        os.write = real
        if not (pid := os.fork()):
            time.sleep(5)
            os._exit(0)
        child.append(pid)
        raise OSError(28, "No space left on device")

    os.write = failing
    try:
        with pytest.raises(OSError, match="No space"):
            sink.append([searched()])
        started = time.monotonic()
        sink.append([searched()])
        waited = time.monotonic() - started
    finally:
        os.write = real
        os.kill(child[0], signal.SIGKILL)
        os.waitpid(child[0], 0)

    assert waited < 2


def test_touching_the_file_on_a_full_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without events too, where writing nothing would succeed; with room it does."""
    sink = JsonLinesSink(tmp_path / "audit.jsonl", STAMP)
    sink.append([])
    found = os.statvfs(tmp_path)
    full = os.statvfs_result((*found[:3], 0, 0, *found[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: full)

    with pytest.raises(OSError, match="No space left"):
        sink.append([])


def test_standard_output_will_do_where_it_is_a_pipe() -> None:
    """A platform that collects what processes print collects the evidence: whole lines."""
    program = """
from pathlib import Path
from lacre.sinks.jsonl import JsonLinesSink
from tests.audit.looks import STAMP, searched

sink = JsonLinesSink(Path("/dev/stdout"), STAMP)
sink.append([])
sink.append([searched(), searched()])
"""
    written = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert [json.loads(line)["action"] for line in written.splitlines()] == ["search", "search"]
