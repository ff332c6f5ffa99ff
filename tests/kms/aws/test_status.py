# SPDX-License-Identifier: Apache-2.0
"""What a key's status tells, and what its state does. On ministack, which enforces states."""

import datetime as dt
import json
from typing import Any

import pytest

from lacre.errors import KeyDisabled, KeyNotFound, KeyServiceDenied, KeyServiceUnreachable
from lacre.kms.calling import CallLimits
from tests.components.aws import AWS
from tests.components.faults import Alter, Answer, FaultProxy, Reset, aws_error
from tests.kms.aws.conftest import Serve
from tests.kms.aws.rows import context_of, uri_of

CONTEXT = context_of()


def test_a_disabled_key_serves_nobody(serve: Serve, ministack: AWS) -> None:
    """A disabled key neither mints nor opens, for who may everything; enabled again it does."""
    service, arn = serve(ministack), ministack.key()
    uri, kms = uri_of(arn), ministack.client()
    blob = service.mint(uri, CONTEXT)
    before = service.status(uri)
    kms.disable_key(KeyId=arn)
    disabled = service.status(uri)
    with pytest.raises(KeyDisabled, match="is disabled"):
        service.unwrap(uri, blob, CONTEXT)
    with pytest.raises(KeyDisabled):
        service.mint(uri, CONTEXT)
    kms.enable_key(KeyId=arn)

    assert (before.state, before.usable) == ("enabled", True)
    assert (disabled.state, disabled.usable) == ("disabled", False)
    assert service.unwrap(uri, blob, CONTEXT)


def test_a_key_that_waits_for_deletion(serve: Serve, ministack: AWS) -> None:
    """It serves nobody, and its status says until when the deletion can be stopped; stopped, the key is back."""
    service, arn = serve(ministack), ministack.key()
    uri, kms = uri_of(arn), ministack.client()
    blob = service.mint(uri, CONTEXT)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    pending = service.status(uri)
    with pytest.raises(KeyDisabled):
        service.unwrap(uri, blob, CONTEXT)
    kms.cancel_key_deletion(KeyId=arn)
    kms.enable_key(KeyId=arn)
    due = dt.datetime.fromisoformat(pending.deletion or "")

    assert (pending.state, pending.usable) == ("pending deletion", False)
    assert dt.timedelta(days=6) < due - dt.datetime.now(dt.UTC) < dt.timedelta(days=8)
    assert service.status(uri).deletion is None
    assert service.unwrap(uri, blob, CONTEXT)


def test_a_deleted_key_is_not_found(serve: Serve, aws: AWS) -> None:
    """A key that KMS does not have, and an alias of none, are KeyNotFound."""
    service = serve(aws)

    for name in ("123456789012/key/00000000-0000-4000-8000-000000000000", "alias/nobody"):
        with pytest.raises(KeyNotFound):
            service.status(f"aws-kms://us-east-1/{name}")


def test_rotation_is_told(serve: Serve, aws: AWS) -> None:
    """Whether it rotates by itself, and how often."""
    service, arn = serve(aws), aws.key()
    before = service.status(uri_of(arn)).rotation
    aws.client().enable_key_rotation(KeyId=arn, RotationPeriodInDays=180)

    assert before is None
    assert service.status(uri_of(arn)).rotation in {"every 180 days", "every 365 days"}


def test_an_alias_points_where_it_was_moved(serve: Serve, aws: AWS) -> None:
    """The status of an alias says which key it stands for now; that of a key points nowhere."""
    service, first, second = serve(aws), aws.key(), aws.key()
    name = aws.alias(None, first)
    alias = f"aws-kms://us-east-1/{name}"
    before = service.status(alias)
    aws.alias(name, second)
    after = service.status(alias)

    assert (before.points_to, after.points_to) == (uri_of(first), uri_of(second))
    assert (after.kms_key, after.usable) == (alias, True)
    assert service.status(uri_of(first)).points_to is None
    assert after.latency > 0


def test_a_policy_is_known_by_its_digest(serve: Serve, aws: AWS) -> None:
    """The digest changes with the policy, and not with the order or the spaces of its JSON."""
    service, arn, kms = serve(aws), aws.key(), aws.client()
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{aws.account}:root"},
             "Action": "kms:*", "Resource": "*"},
        ],
    }  # fmt: skip
    texts = [json.dumps(policy), json.dumps(policy, sort_keys=True, indent=4)]
    changed = json.dumps({**policy, "Id": "changed"})
    digests = []
    for text in (*texts, changed):
        kms.put_key_policy(KeyId=arn, PolicyName="default", Policy=text)
        digests.append(service.status(uri_of(arn)).policy)

    assert digests[0] == digests[1] != digests[2]
    assert str(digests[0]).startswith("sha256:")


def _event(name: str, when: int, **more: object) -> dict[str, Any]:
    return {"EventName": name, "EventTime": when, "CloudTrailEvent": json.dumps({"eventName": name, **more})}  # fmt: skip


def test_the_trail_tells_the_last_use(serve: Serve, moto: AWS, before_moto: FaultProxy) -> None:
    """The newest use of the key in CloudTrail counts: no refused call, and no look at the key."""
    service, arn = serve(moto, endpoint_url=before_moto.address), moto.key()
    events = [
        _event("DescribeKey", 1767225900),
        _event("Decrypt", 1767225800, errorCode="AccessDenied"),
        _event("Decrypt", 1767225600),
        _event("GenerateDataKeyWithoutPlaintext", 1767225000),
    ]
    before_moto.put(Answer(status=200, body={"Events": events}), path="LookupEvents")
    used = service.status(uri_of(arn)).last_use
    asked = json.loads(before_moto.seen("LookupEvents")[0].body)
    before_moto.put(Answer(status=200, body={"Events": events[:2]}), path="LookupEvents")

    assert used == "2026-01-01T00:00:00Z"
    assert asked["LookupAttributes"] == [{"AttributeKey": "ResourceName", "AttributeValue": arn}]
    assert service.status(uri_of(arn)).last_use is None


def test_without_the_trail_nothing_is_told(serve: Serve, ministack: AWS) -> None:
    """A credential that may only look at the key gets a status without last use and policy."""
    arn = ministack.key()
    look = ministack.allowed(["kms:DescribeKey", "kms:GetKeyRotationStatus"], arn)
    since = ministack.mark()
    status = serve(ministack, ministack.principal(look, kind="role")).status(uri_of(arn))
    trail = ministack.requests(service="cloudtrail", since=since)

    assert (status.last_use, status.policy, status.usable) == (None, None, True)
    assert [(entry["operation"], entry["status"] // 100) for entry in trail] == [("LookupEvents", 4)]  # fmt: skip


def test_what_is_denied_is_said_to_be_unknown(serve: Serve, moto: AWS) -> None:
    """Rotation that may not be asked for is "unknown", not off; without DescribeKey there is no status."""
    arn = moto.key()
    looking = moto.principal(moto.allowed(["kms:DescribeKey"], arn), kind="role")
    using = moto.principal(moto.allowed(["kms:Decrypt"], arn), kind="role")
    status = serve(moto, looking).status(uri_of(arn))

    assert status.rotation == "unknown: kms:GetKeyRotationStatus is denied"
    assert (status.policy, status.usable) == (None, True)
    with pytest.raises(KeyServiceDenied, match="kms:DescribeKey"):
        serve(moto, using).status(uri_of(arn))


@pytest.mark.parametrize(("answer", "told"), [
    ({"KeyLastUsage": {"Operation": "Decrypt", "Timestamp": 1767225600}}, "2026-01-01T00:00:00Z"),
    ({"TrackingStartDate": 1767225600}, None),
])  # fmt: skip
def test_kms_itself_may_tell_the_last_use(
    serve: Serve, moto: AWS, before_moto: FaultProxy, answer: dict[str, Any], told: str | None
) -> None:
    """Where KMS answers GetKeyLastUsage, that counts, and CloudTrail is not asked."""
    service, uri = serve(moto, endpoint_url=before_moto.address), uri_of(moto.key())
    before_moto.put(Answer(status=200, body=answer), path="GetKeyLastUsage")

    assert service.status(uri).last_use == told
    assert before_moto.count("LookupEvents") == 0


@pytest.mark.parametrize(("state", "word", "usable"), [
    ("PendingImport", "pending import", False), ("Unavailable", "unavailable", False), ("Creating", "creating", False),
    ("PendingReplicaDeletion", "pending deletion, after its replicas", False), ("Updating", "updating", True),
    ("SomethingNew", "unknown", False),
])  # fmt: skip
def test_every_state_has_its_word(
    serve: Serve, moto: AWS, before_moto: FaultProxy, state: str, word: str, usable: bool
) -> None:
    """States that the emulators do not reach are told too; one that nobody knows is not usable."""
    service, uri = serve(moto, endpoint_url=before_moto.address), uri_of(moto.key())

    def changed(answer: Any) -> Any:
        return {"KeyMetadata": answer["KeyMetadata"] | {"KeyState": state}}

    before_moto.put(Alter(change=changed), path="DescribeKey")
    status = service.status(uri)

    assert (status.state, status.usable) == (word, usable)


def test_a_status_that_cannot_be_had(serve: Serve, moto: AWS, before_moto: FaultProxy) -> None:
    """An optional part that fails is left out without a second attempt; one that matters is not."""
    limits = CallLimits(deadline=1.0, attempt=0.5)
    service = serve(moto, endpoint_url=before_moto.address, limits=limits)
    uri = uri_of(moto.key())
    for operation in ("GetKeyLastUsage", "LookupEvents"):
        before_moto.put(aws_error("ThrottlingException"), times=None, path=operation)
    status = service.status(uri)
    asked = before_moto.count("GetKeyLastUsage"), before_moto.count("LookupEvents")
    before_moto.put(Reset(), times=None, path="GetKeyRotationStatus")

    assert status.last_use is None
    assert asked == (1, 1)
    with pytest.raises(KeyServiceUnreachable):
        service.status(uri)
