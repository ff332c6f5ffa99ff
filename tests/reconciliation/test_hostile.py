"""Logs that somebody wrote on purpose: nothing in them runs, crashes, forges a line or passes unseen."""

import csv
import gzip
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.entries import Entry
from lacre.errors import ConfigurationError
from lacre.reconciliation.calls import ServiceLogs
from lacre.reconciliation.matching import Window, load_ours, match
from lacre.reconciliation.queries import Question, as_csv, ask
from lacre.reconciliation.reconciling import findings_of
from tests.reconciliation.trails import NOW, URI, exported, minutes, record, unwrap

_DAY = timedelta(days=1)
_NASTY = (
    "'); DROP TABLE call; --",
    "' UNION SELECT content FROM read_text('/etc/passwd') --",
    "COPY (SELECT 1) TO '/etc/x'",
    "=HYPERLINK(\"https://evil.example\",\"x\")",
    "+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\r\n=1+1",
    "a\nb,c\"d",
    "\x1b[2J\u202e",
    "../../etc/passwd",
    "$file $since {condition}",
)  # fmt: skip


@pytest.mark.parametrize("text", _NASTY)
def test_text_is_text(tmp_path: Path, text: str) -> None:
    """A text of a log stays one value, in the database, the findings and the CSV."""
    call = record(
        NOW - minutes(60), userIdentity={"arn": text}, sourceIPAddress=text, userAgent=text,
        requestID=text, eventID=text, errorCode=text, awsRegion=text,
    )  # fmt: skip
    exported(tmp_path, call)
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        load_ours(logs, [])
        (finding,) = findings_of(match(logs, Window(since=NOW - _DAY, until=NOW), [URI]))
        (answer,) = ask(logs, Question.KMS_USAGE, since=NOW - _DAY, until=NOW)
        header, line = csv.reader(io.StringIO("".join(as_csv([answer]))))

    assert (finding.principal, answer.principal, answer.agent) == (text, text, text)
    cells = dict(zip(header, line, strict=True))
    shown = "".join(each if each.isprintable() else " " for each in text)
    assert cells["principal"] in (shown, f"'{shown}")
    assert all(not each.lstrip().startswith(("=", "+", "-", "@")) for each in line)


@pytest.mark.parametrize(
    "more",
    [
        {"requestParameters": "text"},
        {"requestParameters": [1, 2]},
        {"resources": "text", "requestParameters": None},
        {"resources": [{"ARN": {"a": 1}}, {"ARN": 7}, None, 3]},
        {"userIdentity": None},
        {"userIdentity": ["x"]},
        {"eventTime": "yesterday"},
        {"eventTime": {"$date": 1}},
        {"requestID": None, "eventID": None},
        {"sourceIPAddress": {"x": "y"}, "errorCode": ["z"]},
        {"eventName": 7, "eventSource": 8},
    ],
    ids=str,
)
def test_shapes(tmp_path: Path, more: dict[str, Any]) -> None:
    """Whatever shape a member has, the records beside it are read."""
    exported(tmp_path, record(NOW - minutes(60)), record(NOW - minutes(60)) | more, record(NOW - minutes(59)))  # fmt: skip
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        found = logs.database.execute("SELECT count(*) FROM call").fetchone()[0]

    assert found in (2, 3)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("[{}]", False),
        ('{"records": [{}]}', False),
        ('{"Records": null}', False),
        ("7", False),
        ('{"Records": []}', True),
        ('{"Events": []}', True),
        ('{"digestS3Bucket": "x", "logFiles": []}', True),
    ],
)
def test_a_file_of_another_shape_is_named(tmp_path: Path, text: str, known: bool) -> None:
    """What is laid out as no file of CloudTrail's is not read as one in which nothing happened."""
    path = tmp_path / "odd.json"
    path.write_text(text)
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(path))
        unreadable = logs.unreadable

    assert [each.startswith(f"{path}: ") for each in unreadable] == [True] * (not known)


@pytest.mark.parametrize("path", ["t/byok-export/thief/pii", "t/byok-export/thief/pii/3", "t/export/encryption-key/pii/latest", "t/decrypt/pii"])  # fmt: skip
def test_what_left_is_named_and_not_where_it_went(tmp_path: Path, path: str) -> None:
    """Of a key that is exported under another, the call is of the one that left."""
    log = tmp_path / "audit.log"
    said = {"type": "response", "time": NOW.isoformat(), "request": {"id": "r", "path": path}}
    log.write_text(json.dumps(said) + "\n")
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_openbao(str(log))
        found = logs.database.execute("SELECT kms_keys FROM call").fetchall()

    assert found == [(["openbao://t/pii"],)]


def test_broken_files_are_named(tmp_path: Path) -> None:
    """A file that is cut off, that is no JSON, and lines that are none, are named; what is whole beside them is read."""
    exported(tmp_path, record())
    whole = gzip.compress(json.dumps({"Records": [record()]}).encode())
    (tmp_path / "cut.json.gz").write_bytes(whole[:-20])
    (tmp_path / "text.json").write_text("not json at all")
    lines = [json.dumps(record()), '{"half', json.dumps(record())]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "CloudTrail-Digest.json").write_text(json.dumps({"digestS3Bucket": "b", "logFiles": []}))  # fmt: skip
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        found = logs.database.execute("SELECT count(*) FROM call").fetchone()[0]

    assert found == 3
    assert len(logs.unreadable) == 3
    assert any("cut.json.gz" in each for each in logs.unreadable)


def test_no_other_file_is_read(tmp_path: Path) -> None:
    """A file name with the signs of a pattern is that file alone, and the database reads nothing else."""
    (tmp_path / "secret.json").write_text(json.dumps({"Records": [record()]}))
    odd = tmp_path / "*.json"
    odd.write_text(json.dumps({"Records": [record(), record()]}))
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(odd))
        found = logs.database.execute("SELECT count(*) FROM call").fetchone()[0]
        for statement in (
            f"SELECT * FROM read_text('{tmp_path / 'secret.json'}')",
            "SET enable_external_access = true",
            "INSTALL httpfs",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            f"ATTACH '{tmp_path / 'other.db'}'",
        ):
            with pytest.raises(
                Exception, match=r"(?i)permission|disabled|configuration|locked|access"
            ):
                logs.database.execute(statement)

    assert found == 2


def test_the_copies_are_private_and_go(tmp_path: Path) -> None:
    """What was decompressed lies in a directory of ours alone, and is gone afterwards."""
    exported(tmp_path, record())
    with ServiceLogs(since=NOW - _DAY) as logs:
        mode = logs.directory.stat().st_mode & 0o777
        logs.read_cloudtrail(str(tmp_path))

    assert (mode, logs.directory.exists()) == (0o700, False)


def test_nothing_there(tmp_path: Path) -> None:
    """A place that there is not is an error with a way out, not an empty log."""
    with (
        ServiceLogs(since=NOW - _DAY) as logs,
        pytest.raises(ConfigurationError, match="there is no"),
    ):
        logs.read_cloudtrail(str(tmp_path / "none"))


def test_a_line_that_is_being_written(tmp_path: Path) -> None:
    """Half a line at the end of a log that is in use is no broken line."""
    line = json.dumps({"type": "response", "time": f"{NOW:%Y-%m-%dT%H:%M:%S.123456789Z}", "request": {"id": "one-two-three", "path": "transit/decrypt/pii", "mount_type": "transit"}})  # fmt: skip
    log = tmp_path / "audit.log"
    log.write_text(f"{line}\n{line[:40]}")
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_openbao(str(log))
        rows = logs.database.execute("SELECT name, kms_keys FROM call").fetchall()

    assert rows == [("decrypt", ["openbao://transit/pii"])]
    assert logs.unreadable == ()


def test_an_id_in_evidence_finds_one_call(tmp_path: Path) -> None:
    """An entry that claims a call of another KMS key hides nothing."""
    call = record(NOW - minutes(60))
    exported(tmp_path, call)
    claims = unwrap(
        NOW - minutes(60), call["requestID"], kms_key=URI.replace("1234abcd", "99999999")
    )
    with ServiceLogs(since=NOW - _DAY) as logs:
        logs.read_cloudtrail(str(tmp_path))
        logs.settle()
        load_ours(logs, [(None, Entry.read(claims))])
        done = match(logs, Window(since=NOW - _DAY, until=NOW), [URI])

    assert [each.count for each in done.bypass] == [1]
