"""Ten writers and a sequencer, killed in the middle: nothing is lost, nothing is there twice."""

import os
import random
import signal
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

from lacre.errors import EvidenceUnavailable
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader
from lacre.stores.log.schema import INBOX
from lacre.stores.log.sequencer import Sequencer
from lacre.stores.log.sink import LogSink
from tests.audit.looks import STAMP, searched
from tests.components.postgresql import Database
from tests.jobs.killing import forked
from tests.stores.log.test_sequencer import AUDIT, check_signed

pytestmark = pytest.mark.any_sqlalchemy

WRITERS = 10


def write(url: str, confirmed: Path, appends: int) -> None:
    """Hand entries over, and note those that are confirmed; end properly."""
    log = AuditLog(url)
    sink, drawn = LogSink(log, STAMP), random.Random(os.getpid())
    noted = os.open(confirmed, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for _ in range(appends):
        events = [searched(principal=f"svc:{os.getpid()}") for _ in range(drawn.randint(1, 20))]
        sink.append(events)
        os.write(noted, "".join(f"{event.id}\n" for event in events).encode())
    sink.close()


def sequence(url: str) -> None:
    """Sequence until killed; whoever finds another at work stands by."""
    log = AuditLog(url)
    sequencer = Sequencer(
        log, STAMP, signer=lambda: IdentitySigner(AUDIT), verifiers=[verifier_of(AUDIT.public)], lease=0.3
    )  # fmt: skip
    while True:
        with suppress(EvidenceUnavailable):
            sequencer.turn()
        time.sleep(0.005)


def killed(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("appends", "kills"), [(40, 4), pytest.param(2000, 60, marks=pytest.mark.long)]
)
def test_ten_writers_lose_and_repeat_nothing(
    database: Database, tmp_path: Path, appends: int, kills: int
) -> None:
    """Writers and sequencers are killed at any moment: what was confirmed is a leaf, once, and signed."""
    url, drawn = database.text_url(), random.Random(appends)
    log = AuditLog(url)
    log.upgrade()
    log.close()
    confirmed = tmp_path / "confirmed"
    writers = [forked(lambda: write(url, confirmed, appends)) for _ in range(WRITERS)]
    sequencers = [forked(lambda: sequence(url)) for _ in range(2)]
    try:
        for number in range(kills):
            time.sleep(drawn.uniform(0.05, 0.5))
            killed(sequencers.pop(0))
            sequencers.append(forked(lambda: sequence(url)))
            if number % 4 == 0 and len(writers) > 5:
                killed(writers.pop())
        for writer in writers:
            _, status = os.waitpid(writer, 0)
            assert status == 0
        ended, writers = len(writers), []
        deadline = time.monotonic() + 60
        with log.reading() as connection:
            while connection.execute(INBOX.select().limit(1)).first() is not None:
                assert time.monotonic() < deadline
                connection.rollback()
                time.sleep(0.05)
    finally:
        for child in (*writers, *sequencers):
            killed(child)
    time.sleep(0.4)
    last = Sequencer(log, STAMP, signer=lambda: IdentitySigner(AUDIT), verifiers=[verifier_of(AUDIT.public)])  # fmt: skip
    last.rest()

    leaves = list(LogReader(log).after())
    ids = [leaf.entry.id for leaf in leaves]
    numbers: dict[str, list[int]] = defaultdict(list)
    for leaf in leaves:
        if "writer" in leaf.entry.members:
            numbers[leaf.entry.members["writer"]].append(leaf.entry.members["number"])
    assert len(ids) == len(set(ids))
    assert set(confirmed.read_text().split()) <= set(ids)
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    # One that was killed may not have begun.
    assert ended <= len(numbers) <= WRITERS
    steps = [leaf.entry.members["step"] for leaf in leaves if leaf.entry.action == "recording"]
    # One that was killed may have said before that it ended.
    assert ended <= steps.count("ended") <= WRITERS
    assert "took-over" in [leaf.entry.members.get("step") for leaf in leaves]
    assert leaves[-1].entry.members["step"] == "rested"
    check_signed(log)
    log.close()
