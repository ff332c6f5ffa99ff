# SPDX-License-Identifier: Apache-2.0
"""
How a key of AWS KMS is: state, rotation, deletion, policy, last use.

Implements ``spec/key-services.md``, section 4.5. Reads and changes nothing. What the credential may
not ask for is None, or said to be unknown; only `DescribeKey` it must be allowed.
"""

import datetime as dt
import hashlib
import json
import time
from typing import Any

from lacre.errors import ConfigurationError, KeyDisabled, KeyServiceDenied
from lacre.keys.moments import moment_text
from lacre.keys.ports import KmsKeyStatus
from lacre.kms.aws.asking import Asking
from lacre.kms.aws.names import AwsKey

__all__ = ["described", "is_symmetric", "status_of"]

_STATES = {
    "Creating": "creating",
    "Enabled": "enabled",
    "Disabled": "disabled",
    "PendingDeletion": "pending deletion",
    "PendingImport": "pending import",
    "PendingReplicaDeletion": "pending deletion, after its replicas",
    "Unavailable": "unavailable",
    "Updating": "updating",
}
# KMS' page "Key states of AWS KMS keys": a key that is updating its primary region goes on.
_USABLE = {"Enabled", "Updating"}
_USES = {
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncrypt",
}


def described(ask: Asking, region: str, name: str, kms_key: str) -> dict[str, Any]:
    """Return KMS' description of the key that *name*, an ARN or an alias, stands for."""
    answer = ask(region, "DescribeKey", kms_key, {"KeyId": name})
    metadata = answer.get("KeyMetadata")
    return metadata if isinstance(metadata, dict) else {}


def is_symmetric(metadata: dict[str, Any]) -> bool:
    """Whether the key can wrap keys."""
    # Of this spec KMS makes keys for ENCRYPT_DECRYPT only.
    return metadata.get("KeySpec") == "SYMMETRIC_DEFAULT"


def status_of(ask: Asking, region: str, name: str, kms_key: str) -> KmsKeyStatus:
    """Return the status of the key that *name* stands for; *kms_key* is how it was asked for."""
    began = time.perf_counter()
    metadata = described(ask, region, name, kms_key)
    latency = time.perf_counter() - began
    arn = str(metadata.get("Arn"))
    key = AwsKey.of_arn(arn)
    state, symmetric = str(metadata.get("KeyState")), is_symmetric(metadata)
    due = metadata.get("DeletionDate")
    return KmsKeyStatus(
        kms_key=kms_key,
        state=_STATES.get(state, "unknown") if symmetric else "not symmetric",
        usable=symmetric and state in _USABLE,
        latency=latency,
        rotation=_rotation(ask, region, arn, kms_key) if symmetric else None,
        deletion=_written(due),
        points_to=str(key) if key is not None and name != arn else None,
        policy=_policy(ask, region, arn, kms_key),
        last_use=_last_use(ask, region, arn),
    )


def _rotation(ask: Asking, region: str, arn: str, kms_key: str) -> str | None:
    try:
        answer = ask(region, "GetKeyRotationStatus", kms_key, {"KeyId": arn})
    except KeyServiceDenied:
        return "unknown: kms:GetKeyRotationStatus is denied"  # None would say that it does not
    except (ConfigurationError, KeyDisabled):
        return None  # of its kind or state none rotates
    if not answer.get("KeyRotationEnabled"):
        return None
    return f"every {int(answer.get('RotationPeriodInDays', 365))} days"


def _policy(ask: Asking, region: str, arn: str, kms_key: str) -> str | None:
    try:
        answer = ask(region, "GetKeyPolicy", kms_key, {"KeyId": arn, "PolicyName": "default"})
        policy = json.loads(answer.get("Policy", ""))
    except (KeyServiceDenied, KeyDisabled, ValueError):
        return None
    text = json.dumps(policy, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _last_use(ask: Asking, region: str, arn: str) -> str | None:
    # KMS itself tells, in newer releases of boto3; each of the two with a permission of its own.
    answer = ask.optional("kms", region, "GetKeyLastUsage", {"KeyId": arn})
    if answer is not None:
        return _written(answer.get("KeyLastUsage", {}).get("Timestamp"))
    attribute = {"AttributeKey": "ResourceName", "AttributeValue": arn}
    request = {"LookupAttributes": [attribute], "MaxResults": 50}
    events = (ask.optional("cloudtrail", region, "LookupEvents", request) or {}).get("Events", ())
    return max((when for event in events if (when := _used(event))), default=None)


def _used(event: dict[str, Any]) -> str | None:
    try:
        refused = "errorCode" in json.loads(event.get("CloudTrailEvent", "{}"))
    except ValueError:
        refused = False
    if refused or event.get("EventName") not in _USES:
        return None
    return _written(event.get("EventTime"))


def _written(when: object) -> str | None:
    if not isinstance(when, dt.datetime):
        return None
    return moment_text(when)
