# SPDX-License-Identifier: Apache-2.0
"""
What AWS would decide under the policies of the plan, by the offline evaluator.

No emulator here knows the conditions on an encryption context: what a role can and cannot do with a key is decided by
`lacre.policy.evaluation`, on the policies as Terraform would send them.
"""

from dataclasses import replace
from typing import Any

import pytest

from lacre.policy.evaluation.aws import Call, Documents, Verdict, decide, kms_call

Resources = dict[str, dict[str, Any]]

ACCOUNT = "arn:aws:iam::123456789012"
INDIA = "arn:aws:kms:ap-south-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"
VIRGINIA = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"

# Somebody whom IAM lets do everything: what a key's policy does not say, he cannot.
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}

OPENING = ("Decrypt",)
MINTING = ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext")
USES = (*OPENING, *MINTING, "Encrypt", "ReEncryptFrom", "ReEncryptTo")


def _role(name: str) -> str:
    return f"{ACCOUNT}:role/{name}"


def _key(resources: Resources, address: str) -> Documents:
    """The documents of a role that IAM lets do everything, on the key at *address*."""
    return Documents.read(
        key_policy=resources[f"module.{address}.aws_kms_key.this"]["policy"],
        identity_policies=[EVERYTHING],
    )


def _decided(call: Call, documents: Documents) -> Verdict:
    """Decide; the root user has no policies of its own."""
    its = (
        replace(documents, identity_policies=()) if call.principal.endswith(":root") else documents
    )
    return decide(call, its)


def _may(
    documents: Documents, key: str, who: str, context: dict[str, str], **more: str
) -> set[str]:
    """Return which uses of the key *who* is allowed with *context*, called directly unless *more* says otherwise."""
    direct: dict[str, str | None] = {"ViaService": None, "CallerAccount": "123456789012", **more}
    return {
        name for name in USES if _decided(kms_call(who, name, key, context, **direct), documents)
    }


def _event(department: str, **changed: str) -> dict[str, str]:
    """The context of an event for *department*."""
    return {
        "app": "departments", "env": "production", "tenant": "default", "topic": "departments", "source": "owner",
        "type": "example.made", f"for-{department}": "1", "aws-crypto-public-key": "A0h5", **changed,
    }  # fmt: skip


def _wrap(name: str, **changed: str) -> dict[str, str]:
    """The wrap context of a key of the class *name*."""
    return {
        "app": "ship-chandlery", "env": "production", "service": "chandlery", "class": name, "kind": "branch",
        "tenant": "acme", "lacre-key": "00", "lacre-row": "x", **changed,
    }  # fmt: skip


@pytest.mark.parametrize("department", ["finance", "sales"])
def test_producer_and_departments_do_one_thing_each(resources: Resources, department: str) -> None:
    """The producer mints and cannot read it; the department opens its own and cannot mint; nobody else does either."""
    documents = _key(resources, f'departments.module.department_keys["{department}"]')
    other = {"finance": "sales", "sales": "finance"}[department]
    context = _event(department)

    assert _may(documents, VIRGINIA, _role("departments-production-producer"), context) == {
        "GenerateDataKey"
    }
    assert _may(documents, VIRGINIA, _role(f"departments-production-{department}"), context) == {
        "Decrypt"
    }
    for name in (f"departments-production-{other}", "departments-production-generator", "deploy", "governance",
                 "security-auditor", "administrator"):  # fmt: skip
        assert _may(documents, VIRGINIA, _role(name), context) == set(), name
    assert _may(documents, VIRGINIA, f"{ACCOUNT}:root", context) == set()


@pytest.mark.parametrize(
    "changed",
    [
        {"topic": "elsewhere"}, {"env": "staging"}, {"tenant": "other"}, {"app": "shop"}, {"subject": "4711"},
        {"for-finance": "0"}, {"for-sales": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_an_event_opens_in_its_own_place_only(
    resources: Resources, changed: dict[str, str]
) -> None:
    """An event of another topic, environment, tenant or application, for others beside, or with a pair more, is neither made nor opened."""
    documents = _key(resources, 'departments.module.department_keys["finance"]')

    for role in ("producer", "finance"):
        assert (
            _may(
                documents,
                VIRGINIA,
                _role(f"departments-production-{role}"),
                _event("finance", **changed),
            )
            == set()
        )


@pytest.mark.parametrize(
    "missing", ["app", "env", "for-finance", "source", "tenant", "topic", "type", "all"]
)
def test_an_event_says_all_that_it_is(resources: Resources, missing: str) -> None:
    """Without one of the pairs, or without any, nothing is allowed; without the signature's it is."""
    documents = _key(resources, 'departments.module.department_keys["finance"]')
    context = {
        name: value for name, value in _event("finance").items() if missing not in (name, "all")
    }
    unsigned = {
        name: value for name, value in _event("finance").items() if name != "aws-crypto-public-key"
    }

    for role in ("producer", "finance"):
        assert _may(documents, VIRGINIA, _role(f"departments-production-{role}"), context) == set()
        assert (
            len(_may(documents, VIRGINIA, _role(f"departments-production-{role}"), unsigned)) == 1
        )


@pytest.mark.parametrize(
    ("name", "service"), [("banking", "finance"), ("pii", "compliance"), ("payment", "payments")]
)
def test_a_class_is_opened_by_its_service(resources: Resources, name: str, service: str) -> None:
    """A class is opened by one service, minted by the mint role, and by nobody else used; not with another class' context."""
    documents = _key(resources, f'chandlery.module.class_keys["{name}-fields"]')
    prefix = "ship-chandlery-production-"
    others = {"api", "compliance", "finance", "payments"} - {service}

    assert _may(documents, INDIA, _role(prefix + service), _wrap(name)) == {"Decrypt"}
    assert _may(documents, INDIA, _role("mint"), _wrap(name)) == {"GenerateDataKeyWithoutPlaintext"}
    for each in (
        *(prefix + other for other in others),
        "deploy",
        "key-administrator",
        "rotate-secrets",
        "developer",
    ):
        assert _may(documents, INDIA, _role(each), _wrap(name)) == set(), each
    for changed in ({"class": "other"}, {"kind": "index"}, {"env": "staging"}, {"extra": "pair"}):
        assert _may(documents, INDIA, _role(prefix + service), _wrap(name, **changed)) == set(), (
            changed
        )
    assert _may(documents, INDIA, _role(prefix + service), {}) == set()


def test_a_store_is_read_through_its_service(resources: Resources) -> None:
    """The documents' key is used through S3 for that bucket by one service; not directly, for another bucket, or from another region's S3."""
    documents = _key(resources, 'chandlery.module.store_keys["documents"]')
    bucket = {"aws:s3:arn": "arn:aws:s3:::ship-chandlery-production-documents-123456789012"}
    api = _role("ship-chandlery-production-api")
    s3 = {"ViaService": "s3.ap-south-1.amazonaws.com"}

    assert _may(documents, INDIA, api, bucket, **s3) == {"Decrypt", "GenerateDataKey"}
    assert _may(documents, INDIA, api, bucket) == set()
    assert _may(documents, INDIA, api, {"aws:s3:arn": "arn:aws:s3:::another"}, **s3) == set()
    assert _may(documents, INDIA, api, bucket, ViaService="s3.us-east-1.amazonaws.com") == set()
    assert _may(documents, INDIA, _role("ship-chandlery-production-finance"), bucket, **s3) == set()
    assert _may(documents, INDIA, _role("deploy"), bucket, **s3) == set()


@pytest.mark.parametrize(
    "operation", ["CreateGrant", "PutKeyPolicy", "DisableKeyRotation", "ScheduleKeyDeletion"]
)
def test_who_may_change_what_a_key_is(resources: Resources, operation: str) -> None:
    """Grants are nobody's; the policy is the deploy role's, and the root user's; rotation is stopped by nobody; an end is the administrator's too."""
    documents = _key(resources, 'chandlery.module.class_keys["pii-fields"]')
    wanted = {
        "CreateGrant": set(), "PutKeyPolicy": {"role/deploy", "root"}, "DisableKeyRotation": set(),
        "ScheduleKeyDeletion": {"role/deploy", "role/key-administrator"},
    }  # fmt: skip
    everybody = ("role/deploy", "role/key-administrator", "role/mint", "role/ship-chandlery-production-compliance",
                 "role/security-auditor", "role/administrator", "root")  # fmt: skip
    more = {"kms:GrantIsForAWSResource": "false"} if operation == "CreateGrant" else {}

    allowed = {
        who
        for who in everybody
        if _decided(
            Call(principal=f"{ACCOUNT}:{who}", action=f"kms:{operation}", resource=INDIA,
                 context={"aws:PrincipalArn": f"{ACCOUNT}:{who}", **more}),
            documents,
        )
    }  # fmt: skip

    assert allowed == wanted[operation]
