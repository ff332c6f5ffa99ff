# SPDX-License-Identifier: Apache-2.0
"""`lacre audit detect` and `rules`: what was found, explained."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lacre.audit.detection.rules import RULES
from lacre.audit.honeytokens import mark
from lacre.cli.program import app
from lacre.errors import ConfigurationError
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.honeytokens import HoneytokenStore
from lacre.stores.log.log import AuditLog
from tests.audit.detection.entries import DAY, HOUR, STAMP, bulk, look
from tests.stores.log.filled import fill

Run = Callable[..., Result]

SETTINGS = """
[detection.rules.many-fields]
off = "every page of ours shows a whole record"

[detection.rules.automated-process.exempt]
"svc:export" = "the nightly export, TICKET-12"
"""


@pytest.fixture
def log(home: Path) -> Iterator[AuditLog]:
    """The evidence log of `home`, with a thief, a job and somebody at a planted row in it."""
    config = home / "lacre.toml"
    text = config.read_text("utf-8")
    if "audit.db" not in text:
        text = text.replace("[audit]\n", '[audit]\nurl = "sqlite:///lacre/audit.db"\n', 1)
    config.write_text(text + SETTINGS, "utf-8")
    made = AuditLog(f"sqlite:///{home / 'lacre/audit.db'}")
    made.upgrade()
    events = [
        *(look(n, range(n * 100, n * 100 + 100), principal="user:\x1beve") for n in range(12)),
        bulk(HOUR, origin={"reason": "AUTOMATED_PROCESS"}),
        look(DAY, [6666], principal="user:ana"),
    ]
    fill(made, [(round(event.time * 1e6) + 500_000, event) for event in events])
    yield made
    made.close()


@pytest.fixture
def run(home: Path, log: AuditLog) -> Run:
    """What runs `lacre audit ...` there."""
    return lambda *words: CliRunner().invoke(app, ["audit", *words, "--config", str(home / "lacre.toml")])  # fmt: skip


def test_findings_are_explained_and_raised_once(run: Run, log: AuditLog) -> None:
    """The command says which rule, what to do and where; it exits with 10, and with 0 once nothing is new."""
    first = run("detect", "--severity", "high")
    again = run("detect")

    assert first.exit_code == 10
    assert RULES["many-rows"].do in first.stdout
    assert "2027-01/0" in first.stdout
    assert "\x1b" not in first.output
    assert "bulk-access" not in first.stdout
    assert "many-fields is not evaluated: off: every page of ours" in first.stderr
    assert "does not count svc:export: the nightly export" in first.stderr
    assert again.exit_code == 0
    assert {alert.rule for alert in AlertStore(log, stamp=STAMP).list()} == {"many-rows", "bulk-access", "log-silent"}  # fmt: skip


def test_a_program_reads_findings_and_what_was_left_out(run: Run) -> None:
    """As JSON a finding has its evidence, and the document what was off and who exempt, with the reasons."""
    told = json.loads(run("detect", "--json").stdout)

    (finding,) = [each for each in told["findings"] if each["rule"] == "many-rows"]
    assert finding["facts"]["found"] > 900
    assert finding["evidence"][0] == [202701, 0]
    assert told["asleep"]["many-fields"].startswith("off: ")
    assert told["exempt"] == {"automated-process": {"svc:export": "the nightly export, TICKET-12"}}


def test_a_replay_raises_nothing(run: Run, log: AuditLog) -> None:
    """`--since` shows what was found since then, and neither raises it nor goes with `--follow`."""
    since = run("detect", "--since", "2027-01-18T00:30", "--json")

    assert {each["rule"] for each in json.loads(since.stdout)["findings"]} == {"bulk-access", "log-silent"}  # fmt: skip
    assert AlertStore(log, stamp=STAMP).list() == []
    for words in (["--since", "yesterday"], ["--since", "2027-01-18", "--follow"]):
        assert isinstance(run("detect", *words).exception, ConfigurationError)


def test_a_planted_row_is_known_by_its_mark(run: Run, home: Path, log: AuditLog) -> None:
    """Where the key of the marks is, whoever touches a planted row is found."""
    key = b"k" * 32
    planted = mark(key, store="main", table="customers", row="6666")
    HoneytokenStore(log).add("t1", mark=planted, since=0)
    blind = run("detect", "--since", "2027-01-18")
    path = home / "lacre/honeytoken.key"
    path.touch(mode=0o600)
    path.write_bytes(key)

    assert "none is recognised here" in blind.stderr
    told = json.loads(run("detect", "--json").stdout)
    assert [each["principal"] for each in told["findings"] if each["rule"] == "honeytoken-touched"] == ["user:ana"]  # fmt: skip


def test_rules_are_listed_as_they_are_here(run: Run) -> None:
    """Every rule, with what is off and who is exempt."""
    told = json.loads(run("rules", "--json").stdout)
    text = run("rules")

    assert [each["rule"] for each in told] == list(RULES)
    assert {each["rule"] for each in told if each["asleep"]} == {"many-fields", "outside-hours"}
    assert "misses" in told[0]
    assert all(name in text.stdout for name in RULES)


def test_following_ends_when_it_is_told_to(run: Run, log: AuditLog) -> None:
    """A detector that follows prints a line for each finding, and keeps what it knows when it is ended."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until the command listens
    ended = threading.Event()

    def end() -> None:
        while not ended.wait(0.4):
            os.kill(os.getpid(), signal.SIGTERM)

    ending = threading.Thread(target=end)
    ending.start()
    try:
        done = run("detect", "--follow", "--every", "0.1", "--json")
    finally:
        ended.set()
        ending.join()
        for each, handler in handlers.items():
            signal.signal(each, handler)

    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[0])["rule"] == "many-rows"
    assert {alert.rule for alert in AlertStore(log, stamp=STAMP).list()} >= {"many-rows", "bulk-access"}  # fmt: skip
