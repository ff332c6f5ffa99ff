# SPDX-License-Identifier: Apache-2.0
"""The key policies of seed 003's stack, as planned: administrators, applications, services and other accounts apart."""

from typing import Any

import pytest

from tests.infra.statements import USES, actions, principals, statements

Resources = dict[str, dict[str, Any]]
Statements = dict[str, dict[str, Any]]

CARETAKERS = {"pipeline", "key-admin"}
APPLICATIONS = {"lambda-etl", "fargate-task", "glue-job", "ingest", "mint"}
ACCOUNT = "123456789012"


@pytest.fixture
def data(resources: Resources) -> Statements:
    """The data key's statements, by name."""
    policy = resources["module.neurocipher.module.kms.aws_kms_key.data"]["policy"]
    return {each["Sid"]: each for each in statements(policy)}


@pytest.fixture
def logs(resources: Resources) -> Statements:
    """The logs key's statements, by name."""
    policy = resources["module.neurocipher.module.kms.aws_kms_key.logs"]["policy"]
    return {each["Sid"]: each for each in statements(policy)}


def _tested(statement: dict[str, Any]) -> set[str]:
    return {name for tests in statement.get("Condition", {}).values() for name in tests}


def _allowed(policy: Statements) -> Statements:
    return {name: each for name, each in policy.items() if each["Effect"] == "Allow"}


def test_who_looks_after_a_key_is_denied_every_use(data: Statements, logs: Statements) -> None:
    """Caretakers are in no statement that allows a use, and in one, without a condition, that denies all."""
    for policy in (data, logs):
        using = [
            each
            for each in _allowed(policy).values()
            if actions(each) & (USES | {"kms:CreateGrant"})
        ]
        denial = policy["CaretakersDoNotUse"]

        assert not [each["Sid"] for each in using if principals(each) & CARETAKERS]
        assert (denial["Effect"], principals(denial)) == ("Deny", CARETAKERS)
        assert "Condition" not in denial
        assert actions(denial) >= {
            "kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo",
        }  # fmt: skip


def test_root_breaks_glass_and_does_nothing_else(data: Statements, logs: Statements) -> None:
    """The keys' own account is in one statement: root itself looks, and replaces the policy."""
    root = f"arn:aws:iam::{ACCOUNT}:root"
    for policy in (data, logs):
        of_root = [each for each in policy.values() if root in principals(each)]

        assert [each["Sid"] for each in of_root] == ["BreakGlass"]
        assert of_root[0]["Condition"] == {"ArnEquals": {"aws:PrincipalArn": root}}
        assert actions(of_root[0]) == {"kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"}


def test_a_statement_is_for_an_application_or_for_a_service(data: Statements) -> None:
    """Each use by a role is either direct, under the application's context, or a service's, under the service's own."""
    direct, through = set(), set()
    for name, each in _allowed(data).items():
        if not actions(each) & USES or "Service" in each["Principal"]:
            continue
        tested = _tested(each)
        if "kms:ViaService" in tested:
            through.add(name)
            assert "kms:CallerAccount" in tested, name
            assert "kms:EncryptionContext:app" not in tested, name
            assert {each for each in tested if each.startswith("kms:EncryptionContext:")}, name
        else:
            direct.add(name)
            assert tested >= {
                "kms:EncryptionContext:app", "kms:EncryptionContext:env",
                "kms:EncryptionContext:service", "kms:EncryptionContextKeys",
            }, name  # fmt: skip
            assert "kms:Encrypt" not in actions(each), name

    assert through == {"StorageDynamoDB", "StorageS3", "StorageSecretsManager", "StorageVolumes"}
    assert {name for name in direct if name.startswith("Decrypt")} >= {
        "DecryptSvcEmbed",
        "DecryptSvcEtl",
    }
    assert {name for name in direct if not name.startswith("Decrypt")} == {
        "Mint",
        "ProduceSvcIngestApi",
    }


def test_applications_are_denied_without_each_pair(data: Statements) -> None:
    """A direct call without `app`, `env` or `service` is denied to every application."""
    for pair in ("app", "env", "service"):
        denial = data[f"DenyWithout{pair.title()}"]

        assert (denial["Effect"], principals(denial)) == ("Deny", APPLICATIONS)
        assert _tested(denial) == {"kms:ViaService", f"kms:EncryptionContext:{pair}"}
        assert actions(denial) >= USES - {
            "kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext",
        }  # fmt: skip


def test_who_mints_does_not_open(data: Statements, logs: Statements) -> None:
    """The role that mints has one use of the data key, and none of the logs key."""
    used = {
        action
        for policy in (data, logs)
        for each in _allowed(policy).values()
        if "mint" in principals(each)
        for action in actions(each) & USES
    }

    assert used == {"kms:GenerateDataKeyWithoutPlaintext"}


def test_other_accounts_do_what_is_named(data: Statements, logs: Statements) -> None:
    """The security account looks at both keys; the logs account reads logs, through S3; each as itself only."""
    security, reader = "arn:aws:iam::098765432109:root", "arn:aws:iam::111111111111:root"
    looked = {"kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListGrants"}

    for policy in (data, logs):
        assert actions(policy["SecurityAccountLooks"]) == looked
        assert policy["SecurityAccountLooks"]["Condition"] == {
            "StringEquals": {"kms:CallerAccount": "098765432109"}
        }
        assert [name for name, each in policy.items() if security in principals(each)] == [
            "SecurityAccountLooks"
        ]
    assert not [name for name, each in data.items() if reader in principals(each)]
    assert {name for name, each in logs.items() if reader in principals(each)} == {
        "LogsAccountLooks", "LogsAccountReads",
    }  # fmt: skip
    assert actions(logs["LogsAccountReads"]) == {"kms:Decrypt"}
    assert logs["LogsAccountReads"]["Condition"]["StringEquals"] == {
        "kms:CallerAccount": "111111111111",
        "kms:ViaService": "s3.eu-central-1.amazonaws.com",
    }


def test_services_are_let_in_for_this_account(data: Statements, logs: Statements) -> None:
    """CloudWatch Logs, CloudTrail and the delivery of logs are bound to this account's groups, trail and logs."""
    let = {
        (name, next(iter(principals(each)))): _tested(each)
        for policy in (data, logs)
        for name, each in policy.items()
        if "Service" in each["Principal"]
    }

    assert {service for _, service in let} == {
        "cloudtrail.amazonaws.com", "delivery.logs.amazonaws.com", "logs.eu-central-1.amazonaws.com",
    }  # fmt: skip
    for who, tested in let.items():
        assert tested & {"aws:SourceArn", "kms:EncryptionContext:aws:logs:arn"}, who
    assert data["LogGroups"] == logs["LogGroups"]
    assert data["LogGroups"]["Condition"]["ArnLike"] == {
        "kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:*"
    }
