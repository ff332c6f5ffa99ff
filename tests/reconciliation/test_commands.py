"""`lacre audit reconcile`, `query` and `alarms`, as they are called."""

import csv
import io
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lacre.cli.program import app
from lacre.errors import ConfigurationError
from lacre.evidence import sequence_once, stamp_of
from lacre.policy.loading import load_policy, lock_text
from lacre.reconciliation.alarms import alarms, as_cloudformation, as_json, as_terraform
from lacre.reporting.deeds import reconciliation_facts
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import LogReader
from tests.reconciliation.trails import ARN, URI, exported, record, unwrap

TOPIC = "arn:aws:sns:eu-central-1:123456789012:security"
_HOUR = timedelta(hours=1)


@pytest.fixture
def config(home: Path) -> Path:
    """A `lacre.toml` whose KMS keys are one of AWS, and whose evidence is lines."""
    config = home / "lacre.toml"
    text = config.read_text()
    lines = [line for line in text.splitlines() if not (line.startswith("url") and "audit.db" in line)]  # fmt: skip
    text = "\n".join(lines).replace(
        'kms_keys = "local://{class}-{use}"',
        'kms_keys = "aws-kms://eu-central-1/alias/{class}-{use}"',
    )
    config.write_text(text.replace("[audit]", '[aws]\nregions = ["eu-central-1"]\n\n[audit]', 1))
    named = load_policy(config, {}).named_keys()
    pins = {
        alias: URI if alias.endswith("pii-fields") else f"{URI[:-2]}{n:02d}"
        for n, alias in enumerate(named)
    }
    (config.parent / "lacre.lock").write_text(lock_text(pins))
    return config


def _run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_reconcile(config: Path, tmp_path: Path) -> None:
    """Exit code 0 where all is matched, 10 where a call is nobody's; the JSON says which."""
    at = datetime.now(UTC) - _HOUR
    call = record(at)
    trail = exported(tmp_path / "trail", call, record(at + _HOUR, "ListKeys"))
    (config.parent / "lacre/audit.jsonl").write_bytes(unwrap(at, call["requestID"]) + b"\n")
    asked = ["audit", "reconcile", "--cloudtrail", str(trail), "-c", str(config), "--json"]
    code, said = _run(*asked)

    assert (code, json.loads(said)["matched"]) == (0, {"id": 1, "time": 0})

    exported(trail, record(at + timedelta(minutes=1), sourceIPAddress="203.0.113.9"))
    code, said = _run(*asked)
    (finding,) = json.loads(said)["findings"]
    assert (code, finding["rule"], finding["severity"]) == (10, "library-bypass", "critical")
    assert finding["facts"]["addresses"] == ["203.0.113.9"]

    (trail / "broken.json.gz").write_bytes(b"\x1f\x8bbroken")
    code, said = _run(*asked)
    assert (code, len(json.loads(said)["unreadable"])) == (10, 1)


def test_alerts(config: Path, tmp_path: Path) -> None:
    """A finding is an alert of the evidence log, once, however often the logs are read; and again when it goes on."""
    text = config.read_text()
    config.write_text(text.replace("[audit]", '[audit]\nurl = "sqlite:///lacre/reconciled.db"', 1))
    settings = load_policy(config, {})
    for signed in config.parent.rglob("*.signed"):
        signed.unlink()  # of the log before: what the identity signed last is not in this one
    with closing(open_log(settings, config.parent)) as log:
        log.upgrade()
    at = datetime.now(UTC) - _HOUR
    trail = exported(tmp_path / "trail", record(at))
    asked = ["audit", "reconcile", "--cloudtrail", str(trail), "-c", str(config), "--json"]
    raised = [json.loads(_run(*asked)[1])["raised"] for _ in range(2)]
    exported(trail, record(at + timedelta(minutes=1)))
    raised.append(json.loads(_run(*asked)[1])["raised"])
    with closing(open_log(settings, config.parent)) as log:
        (alert,) = AlertStore(log, stamp=stamp_of(settings)).list()
        sequence_once(settings, config.parent, log, stamp_of(settings))
        facts = reconciliation_facts(LogReader(log), at, at + 2 * _HOUR)

    assert facts is not None
    assert (facts["passed"], facts["assessed"]) == (0, 2)
    assert raised == [1, 0, 1]
    assert (alert.rule, alert.facts["found"], alert.times) == ("library-bypass", 2, 2)


def test_nothing_to_read(config: Path) -> None:
    """Without a log there is nothing to reconcile with, and that is said."""
    done = CliRunner().invoke(app, ["audit", "reconcile", "-c", str(config)])

    assert isinstance(done.exception, ConfigurationError)


def test_queries(tmp_path: Path) -> None:
    """Both questions have named columns, one window in UTC, and name the key of a call that named none."""
    at = datetime.now(UTC) - _HOUR
    secret = {"eventSource": "secretsmanager.amazonaws.com", "requestParameters": {"secretId": "db"}, "resources": None}  # fmt: skip
    trail = exported(
        tmp_path,
        record(at, requestParameters={"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}),
        record(at - timedelta(days=8)),
        record(at, "GetSecretValue", **secret),
        record(at, "ListSecrets", **secret),
        record(at - _HOUR, "DeleteSecret", **secret),
        at=at,
    )
    code, said = _run("audit", "query", "kms-usage", "--cloudtrail", str(trail), "--json")
    (used,) = map(json.loads, said.splitlines())

    assert (code, used["resource"], used["action"]) == (0, URI, "Decrypt")
    assert used["time"] == f"{at:%Y-%m-%dT%H:%M:%SZ}"

    code, said = _run("audit", "query", "secret-access", "--cloudtrail", str(trail), "--csv")
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [(row["action"], row["resource"]) for row in rows] == [("GetSecretValue", "db"), ("DeleteSecret", "db")]  # fmt: skip
    assert ARN not in said


def test_alarms() -> None:
    """All three forms have the namespace that counts calls, with all of its dimensions, and the sources' thresholds."""
    chosen = alarms(app="shop", env="prod")
    kms, secrets = as_json(chosen, TOPIC)
    resources = json.loads(as_cloudformation(chosen, TOPIC))["Resources"]

    assert {(each["Namespace"], each["MetricName"], each["Statistic"]) for each in (kms, secrets)} == {("AWS/Usage", "CallCount", "Sum")}  # fmt: skip
    assert kms["Dimensions"] == [
        {"Name": "Class", "Value": "None"},
        {"Name": "Resource", "Value": "CryptographicOperationsSymmetric"},
        {"Name": "Service", "Value": "KMS"},
        {"Name": "Type", "Value": "API"},
    ]
    assert (kms["Threshold"], secrets["Threshold"], kms["Period"]) == (1000, 100, 300)
    assert [each["Properties"] for each in resources.values()] == [kms, secrets]
    terraform = as_terraform(chosen, TOPIC)
    assert terraform.count('namespace           = "AWS/Usage"') == 2
    assert 'Service  = "Secrets Manager"' in terraform
    assert "AWS/KMS" not in terraform


@pytest.mark.parametrize("topic", ["security", 'arn:aws:sns:eu-central-1:123456789012:"]\n', ""])
def test_a_topic_is_an_arn(topic: str) -> None:
    """What is no ARN of a topic comes into no template."""
    with pytest.raises(ConfigurationError, match="ARN"):
        as_terraform(alarms(app="a", env="b"), topic)
