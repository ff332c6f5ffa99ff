# SPDX-License-Identifier: Apache-2.0
"""`lacre alerts`: list, show, acknowledge, send, test."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lacre.cli.program import app
from lacre.errors import AlertNotDelivered, ConfigurationError
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.log import AuditLog
from tests.audit.looks import STAMP
from tests.components.processes import free_port
from tests.sinks.channels.receivers import Answered, http_receiver
from tests.stores.log.alerting import entries, finding

Run = Callable[..., Result]


@pytest.fixture
def slack() -> Iterator[Answered]:
    """A receiver."""
    with http_receiver() as got:
        yield got


@pytest.fixture
def log(home: Path, slack: Answered) -> Iterator[AuditLog]:
    """The evidence log of `home`, whose lacre.toml names two channels."""
    config = home / "lacre.toml"
    text = config.read_text("utf-8")
    if "audit.db" not in text:
        text = text.replace(
            "[audit]\n", '[audit]\nurl = "sqlite:///lacre/audit.db"\nsequencer = "apart"\n', 1
        )
    (home / "slack-url").write_text(f"http://127.0.0.1:{slack.port}/services/x\n", "utf-8")
    text += '\n[alerts.ops]\nkind = "slack"\nurl_file = "slack-url"\n'
    text += '\n[alerts.gone]\nkind = "slack"\nurl_env = "GONE_URL"\nseverity = "critical"\n'
    config.write_text(text, "utf-8")
    made = AuditLog(f"sqlite:///{home / 'lacre/audit.db'}")
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def run(home: Path, log: AuditLog) -> Run:
    """What runs `lacre alerts ...` there."""

    def ran(*words: str) -> Result:
        environ = {"GONE_URL": f"http://127.0.0.1:{free_port()}/canary"}
        return CliRunner().invoke(app, ["alerts", *words, "--config", str(home / "lacre.toml")], env=environ)  # fmt: skip

    return ran


def test_an_alert_is_listed_shown_and_acknowledged(run: Run, log: AuditLog) -> None:
    """The commands show what was raised, with hostile names made visible, and note who has seen to it."""
    raised = AlertStore(log, stamp=STAMP).raise_(finding(principal="eve\x1b[2J"))
    listed, checked = run("list"), run("list", "--check", "--json")
    shown = run("show", raised.id[:8])
    done = run("acknowledge", raised.id, "--note", "a drill")

    assert raised.id in listed.stdout
    assert "\x1b" not in listed.stdout + shown.stdout
    assert "\\x1b[2J" in shown.stdout
    assert (checked.exit_code, json.loads(checked.stdout)[0]["severity"]) == (10, "high")
    assert done.exit_code == 0
    after = json.loads(run("show", raised.id, "--json").stdout)
    assert (after["state"], after["by"], after["note"]) == ("acknowledged", "operator", "a drill")
    assert [entry.members["step"] for entry in entries(log)] == ["raised", "acknowledged"]
    assert run("list", "--check").exit_code == 0


def test_alerts_are_sent_once(run: Run, log: AuditLog, slack: Answered) -> None:
    """What is due goes out with `send`, and not again; a channel that fails is told of."""
    AlertStore(log, stamp=STAMP).raise_(finding())
    first, second = run("send"), run("send")

    assert "ops: 1 sent" in first.stderr
    assert "ops: 0 sent" in second.stderr
    assert len(slack.requests) == 1


def test_a_channel_is_tried(run: Run, slack: Answered) -> None:
    """`test` sends a message that says what it is, or says why it did not get through."""
    tried, gone, unknown = run("test", "ops"), run("test", "gone"), run("test", "x")

    assert tried.exit_code == 0
    assert b"a test" in slack.requests[0][2]
    assert isinstance(gone.exception, AlertNotDelivered)
    assert "canary" not in str(gone.exception)
    assert isinstance(unknown.exception, ConfigurationError)
