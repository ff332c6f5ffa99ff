# SPDX-License-Identifier: Apache-2.0
"""What the key policies of seed 003's stack decide, asked of the offline evaluator: no emulator enforces their conditions."""

from dataclasses import replace
from typing import Any

import pytest

from lacre.policy.evaluation.aws import Call, Documents, decide, kms_call

Resources = dict[str, dict[str, Any]]

ACCOUNT, REGION = "123456789012", "eu-central-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-4000-8000-000000000001"
# What an administrator of IAM could give: with a key policy that decides alone, it gives nothing.
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
}
CONTEXT = {"app": "neurocipher-pipeline", "env": "prod", "service": "svc-ingest-api"}
USES = ("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo")  # fmt: skip


def role(name: str, account: str = ACCOUNT) -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{account}:role/{name}"


@pytest.fixture
def data(resources: Resources) -> Documents:
    """The data key's policy, for a caller whom IAM allows everything."""
    policy = resources["module.neurocipher.module.kms.aws_kms_key.data"]["policy"]
    return Documents.read(key_policy=policy, identity_policies=[EVERYTHING])


@pytest.fixture
def logs(resources: Resources) -> Documents:
    """The logs key's policy, for a caller whom IAM allows everything."""
    policy = resources["module.neurocipher.module.kms.aws_kms_key.logs"]["policy"]
    return Documents.read(key_policy=policy, identity_policies=[EVERYTHING])


def direct(
    principal: str, operation: str, context: dict[str, str] | None = None, **more: Any
) -> Call:
    """Return a call of *principal* itself."""
    caller = {"CallerAccount": principal.split(":")[4]} if ":" in principal else {}
    return kms_call(principal, operation, KEY, context, **caller, **more)


def through(
    service: str, principal: str, operation: str, context: dict[str, str], **more: Any
) -> Call:
    """Return a call that *service* makes in the name of *principal*."""
    return direct(
        principal, operation, context, ViaService=f"{service}.{REGION}.amazonaws.com", **more
    )


@pytest.mark.parametrize("who", ["pipeline", "key-admin"])
def test_caretakers_cannot_use_a_key(data: Documents, logs: Documents, who: str) -> None:
    """Who deploys or administers a key cannot use it, with every right of IAM and the right context, nor make a grant."""
    for key in (data, logs):
        for operation in USES:
            assert not decide(direct(role(who), operation, CONTEXT), key), operation
        assert not decide(direct(role(who), "CreateGrant", GrantIsForAWSResource="false"), key)
        assert decide(direct(role(who), "DescribeKey"), key)


@pytest.mark.parametrize("who", ["lambda-etl", "fargate-task", "glue-job", "ingest", "mint", "storage", "audit"])  # fmt: skip
def test_users_cannot_administer(data: Documents, logs: Documents, who: str) -> None:
    """Who uses a key changes nothing about it."""
    for key in (data, logs):
        for operation in ("PutKeyPolicy", "DisableKey", "UpdateAlias", "RevokeGrant"):
            assert not decide(direct(role(who), operation), key), operation
        scheduled = direct(role(who), "ScheduleKeyDeletion", ScheduleKeyDeletionPendingWindowInDays="30")  # fmt: skip
        assert not decide(scheduled, key)


def test_root_replaces_the_policy_and_cannot_use_the_key(data: Documents) -> None:
    """Root breaks glass; it opens nothing."""
    root, data = f"arn:aws:iam::{ACCOUNT}:root", replace(data, identity_policies=())

    assert decide(direct(root, "PutKeyPolicy", BypassPolicyLockoutSafetyCheck="false"), data)
    assert not [operation for operation in USES if decide(direct(root, operation, CONTEXT), data)]


def test_a_role_that_no_list_names_may_nothing(data: Documents) -> None:
    """IAM alone opens nothing: the key policy hands over to nobody."""
    stranger = role("administrator-of-iam")

    assert not [o for o in (*USES, "DescribeKey", "PutKeyPolicy") if decide(direct(stranger, o, CONTEXT if o in USES else None), data)]  # fmt: skip


def test_an_application_opens_under_its_own_context_only(data: Documents) -> None:
    """Each pair left out, wrong, or beside the known ones is refused; so is another role's service."""
    who = role("lambda-etl")

    assert decide(direct(who, "Decrypt", CONTEXT), data)
    assert not decide(direct(who, "Decrypt"), data)
    for pair in CONTEXT:
        without = {name: value for name, value in CONTEXT.items() if name != pair}
        assert not decide(direct(who, "Decrypt", without), data), pair
        assert not decide(direct(who, "Decrypt", {**CONTEXT, pair: "other"}), data), pair
    assert not decide(direct(who, "Decrypt", {**CONTEXT, "person": "ana"}), data)
    assert not decide(direct(role("fargate-task"), "Decrypt", CONTEXT), data)


def test_nobody_encrypts_or_reencrypts_directly(data: Documents) -> None:
    """`Encrypt` and `ReEncrypt` are refused to every role, under a right context too."""
    for who in ("lambda-etl", "fargate-task", "glue-job", "ingest", "mint", "storage", "audit"):
        for operation in ("Encrypt", "ReEncryptFrom", "ReEncryptTo"):
            assert not decide(direct(role(who), operation, CONTEXT), data), (who, operation)


def test_who_mints_does_not_open_and_who_opens_does_not_mint(data: Documents) -> None:
    """Minting and opening are two roles; a producer makes no key of a key store."""
    mint, use, produce = role("mint"), role("lambda-etl"), role("ingest")
    minting, producing = "GenerateDataKeyWithoutPlaintext", "GenerateDataKey"

    assert decide(direct(mint, minting, CONTEXT), data)
    assert not decide(direct(mint, "Decrypt", CONTEXT), data)
    assert not decide(direct(use, minting, CONTEXT), data)
    assert not decide(direct(use, producing, CONTEXT), data)
    assert decide(direct(produce, producing, CONTEXT), data)
    assert not decide(direct(produce, "Decrypt", CONTEXT), data)
    assert not decide(direct(produce, producing, {**CONTEXT, "lacre-key": "00"}), data)


def test_services_act_under_their_own_context(data: Documents) -> None:
    """S3 opens objects of the buckets that are named, in a role's name; not of others, and not as another service."""
    who, ours = role("glue-job"), {"aws:s3:arn": "arn:aws:s3:::neurocipher-prod-raw/2026/a.parquet"}
    theirs = {"aws:s3:arn": "arn:aws:s3:::somebody-else/a.parquet"}

    assert decide(through("s3", who, "Decrypt", ours), data)
    assert decide(through("s3", who, "GenerateDataKey", ours), data)
    assert not decide(through("s3", who, "Decrypt", theirs), data)
    assert not decide(direct(who, "Decrypt", ours), data)
    assert not decide(through("sqs", who, "Decrypt", ours), data)
    assert not decide(through("s3", role("pipeline"), "Decrypt", ours), data)


def test_grants_are_taken_by_services_only(data: Documents) -> None:
    """A role that makes volumes lets EBS take a grant, and can give none itself."""
    who = role("storage")

    assert decide(through("ec2", who, "CreateGrant", {}, GrantIsForAWSResource="true"), data)
    assert not decide(through("ec2", who, "CreateGrant", {}, GrantIsForAWSResource="false"), data)
    assert not decide(direct(who, "CreateGrant", {}, GrantIsForAWSResource="false"), data)


def test_other_accounts(data: Documents, logs: Documents) -> None:
    """The security account looks and opens nothing; the logs account opens logs, through S3; a third account nothing."""
    security, reader = role("auditor", "098765432109"), role("analyst", "111111111111")
    third = role("anyone", "222222222222")
    file = {"aws:s3:arn": "arn:aws:s3:::neurocipher-prod-trail/AWSLogs/a.json.gz"}

    for key in (data, logs):
        assert decide(direct(security, "DescribeKey"), key)
        assert not decide(direct(security, "Decrypt", CONTEXT), key)
        assert not decide(through("s3", security, "Decrypt", file), key)
        assert not decide(direct(third, "DescribeKey"), key)
        assert not decide(through("s3", third, "Decrypt", file), key)
    assert decide(through("s3", reader, "Decrypt", file), logs)
    assert not decide(direct(reader, "Decrypt", file), logs)
    assert not decide(through("s3", reader, "GenerateDataKey", file), logs)
    assert not decide(through("s3", reader, "Decrypt", file), data)


def test_a_log_group_of_another_account_is_refused(data: Documents) -> None:
    """CloudWatch Logs uses the key for groups of this account and region."""

    def asked(account: str) -> Call:
        group = f"arn:aws:logs:{REGION}:{account}:log-group:/app"
        return kms_call(f"logs.{REGION}.amazonaws.com", "GenerateDataKey", KEY, {"aws:logs:arn": group})  # fmt: skip

    alone = replace(data, identity_policies=())

    assert decide(asked(ACCOUNT), alone)
    assert not decide(asked("222222222222"), alone)


def test_a_deletion_waits(data: Documents) -> None:
    """The pipeline and administrators schedule a deletion after thirty days, and not sooner."""

    def scheduled(days: str) -> Call:
        return direct(role("key-admin"), "ScheduleKeyDeletion", ScheduleKeyDeletionPendingWindowInDays=days)  # fmt: skip

    assert decide(scheduled("30"), data)
    assert not decide(scheduled("7"), data)
