"""Records as CloudTrail and OpenBao write them, and entries of our own, for the tests."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from lacre.audit.entries import written
from lacre.audit.event import Outcome, who
from lacre.audit.events import KeyUnwrapped
from lacre.context import Acting
from tests.audit.looks import STAMP

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REGION, ACCOUNT, KEY = "eu-central-1", "123456789012", "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{KEY}"
URI = f"aws-kms://{REGION}/{ACCOUNT}/key/{KEY}"
THIEF = f"arn:aws:sts::{ACCOUNT}:assumed-role/shop/i-0bad"


def record(at: datetime = NOW, name: str = "Decrypt", **more: Any) -> dict[str, Any]:
    """A record of CloudTrail, as AWS documents it."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/shop/i-1"},
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": "kms.amazonaws.com",
        "eventName": name,
        "awsRegion": REGION,
        "sourceIPAddress": "10.0.0.7",
        "userAgent": "Boto3/1.40",
        "requestParameters": {"encryptionAlgorithm": "SYMMETRIC_DEFAULT", "keyId": ARN,
                              "encryptionContext": {"lacre-row": "digest-one"}},
        "responseElements": None,
        "requestID": str(uuid4()),
        "eventID": str(uuid4()),
        "readOnly": True,
        "resources": [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": ARN}],
        "eventType": "AwsApiCall",
    } | more  # fmt: skip


def exported(folder: Path, *records: dict[str, Any], at: datetime = NOW) -> Path:
    """Write *records* where S3 would have them; return the folder."""
    day = folder / f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{at:%Y/%m/%d}"
    day.mkdir(parents=True, exist_ok=True)
    name = f"{ACCOUNT}_CloudTrail_{REGION}_{at:%Y%m%dT%H%MZ}_{uuid4().hex[:16]}.json.gz"
    with gzip.open(day / name, "wt", encoding="utf-8") as file:
        json.dump({"Records": list(records)}, file)
    return folder


def unwrap(
    at: datetime = NOW,
    *requests: str,
    attempts: int | None = None,
    outcome: Outcome = Outcome.ALLOWED,
    kms_key: str = URI,
    digest: str = "digest-one",
    principal: str = "svc:shop",
) -> bytes:
    """The entry of one unwrap."""
    acting = Acting(principal, frozenset({"app"}), "orders", None)
    event = KeyUnwrapped(
        **who(acting, time=at.timestamp(), tenant="default"),
        kms_key=kms_key, key="00" * 16, kind="branch", class_="pii", operation="unwrap",
        digest=digest, outcome=outcome, requests=requests,
        attempts=max(1, len(requests)) if attempts is None else attempts,
    )  # fmt: skip
    return written(event, STAMP)


def minutes(number: float) -> timedelta:
    """So many."""
    return timedelta(minutes=number)
