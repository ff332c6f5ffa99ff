"""Logs as services of AWS have them: looked up in CloudTrail, and fetched from S3."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from lacre.audit.entries import Entry, written
from lacre.audit.event import Event
from lacre.errors import ConfigurationError
from lacre.keys.usage import CountedKeyService, UsageCounters
from lacre.kms.aws import AwsKeyService
from lacre.kms.aws.names import AwsKey
from lacre.kms.calling import CallLimits
from lacre.policy.model import AwsSettings
from lacre.reconciliation.calls import ServiceLogs
from lacre.reconciliation.matching import Window, load_ours, match
from lacre.reconciliation.queries import Question, ask
from tests.audit.looks import STAMP
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


def test_aws(ministack: AWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lacre unwrapped with a role is in CloudTrail under the ids it recorded; what else the role decrypted is found."""
    role = ministack.principal(ministack.allowed(["kms:*"], "*"), kind="role")
    for name, value in role.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    arn = ministack.key()
    uri = str(AwsKey.of_arn(arn))
    settings = AwsSettings.model_validate(
        {"regions": (REGION,), "endpoint_url": ministack.endpoint}
    )
    service = AwsKeyService.open(settings, limits=CallLimits(deadline=20.0, attempt=10.0))
    events: list[Event] = []
    honest = CountedKeyService(service, UsageCounters(), events.append)
    context = {"app": "shop", "class": "pii", "lacre-row": "digest", "lacre-key": "ab" * 16}
    blob = service.mint(uri, context)
    for _ in range(2):
        honest.unwrap(uri, blob, context)
    beside = ministack.client("kms", role).decrypt(
        KeyId=arn, CiphertextBlob=blob, EncryptionContext=context
    )["ResponseMetadata"]["RequestId"]
    found = ministack.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "Decrypt"}]
    )
    printed = tmp_path / "lookup.json"
    printed.write_text(json.dumps({"Events": found["Events"]}, default=str))
    now = datetime.now(UTC)
    with ServiceLogs(since=now - timedelta(hours=1)) as logs:
        logs.read_cloudtrail(str(printed))
        logs.settle()
        entries = [(None, Entry.read(written(event, STAMP))) for event in events]
        places = load_ours(logs, entries)
        window = Window(since=now - timedelta(hours=1), until=now + timedelta(minutes=1))
        done = match(logs, window, places)

    assert (done.by_id, done.unseen) == (2, ())
    assert [each.requests for each in done.bypass] == [(beside,)]
