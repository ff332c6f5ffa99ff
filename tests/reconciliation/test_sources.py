"""Logs as services of AWS have them: looked up in CloudTrail, and fetched from S3."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from lacre.errors import ConfigurationError
from lacre.reconciliation.calls import ServiceLogs
from lacre.reconciliation.queries import Question, ask
from tests.components.aws import AWS, REGION
from tests.reconciliation.trails import ACCOUNT, NOW, exported, record


def _client(aws: AWS, service: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in aws.admin.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    return boto3.client(service)


def test_looked_up(ministack: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `aws cloudtrail lookup-events` printed is read as S3's files are."""
    kms = _client(ministack, "kms", monkeypatch)
    key = kms.create_key()["KeyMetadata"]["Arn"]
    context = {"app": "shop", "lacre-row": "digest"}
    sealed = kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)
    answer = kms.decrypt(KeyId=key, CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)  # fmt: skip
    events = boto3.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "Decrypt"}]
    )
    printed = tmp_path / "lookup.json"
    printed.write_text(json.dumps({"Events": events["Events"]}, default=str, indent=4))
    since = datetime.now(UTC) - timedelta(hours=1)
    with ServiceLogs(since=since) as logs:
        logs.read_cloudtrail(str(printed))
        logs.settle()
        found = list(ask(logs, Question.KMS_USAGE, since=since, until=datetime.now(UTC) + timedelta(minutes=5)))  # fmt: skip
        requests = {each.request for each in found}

    assert answer["ResponseMetadata"]["RequestId"] in requests
    assert {each.action for each in found} == {"Decrypt"}


def test_from_s3(ministack: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix of a bucket is listed and read, but for what was delivered long before the window."""
    s3 = _client(ministack, "s3", monkeypatch)
    s3.create_bucket(Bucket="trails")
    folder = exported(exported(tmp_path, record(), record(eventName="Encrypt")), record(), at=NOW - timedelta(days=90))  # fmt: skip
    for each in sorted(folder.rglob("*.gz")):
        s3.upload_file(str(each), "trails", str(each.relative_to(folder)))
    with ServiceLogs(since=NOW - timedelta(days=7)) as logs:
        logs.read_cloudtrail(f"s3://trails/AWSLogs/{ACCOUNT}/")
        logs.settle()
        names = {each.action for each in ask(logs, Question.KMS_USAGE, since=NOW - timedelta(days=7), until=NOW)}  # fmt: skip

    assert names == {"Decrypt", "Encrypt"}
    assert logs.staging.files == 1


def test_no_such_bucket(ministack: AWS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that does not answer is an error that says which permissions are needed."""
    _client(ministack, "s3", monkeypatch)
    with ServiceLogs(since=NOW) as logs, pytest.raises(ConfigurationError, match="does not give") as raised:  # fmt: skip
        logs.read_cloudtrail("s3://there-is-none/x")

    assert "s3:ListBucket" in str(raised.value.hint)
