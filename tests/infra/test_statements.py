# SPDX-License-Identifier: Apache-2.0
"""Every policy that the stacks make: who is let, and that nobody is let by a wildcard."""

from typing import Any

from tests.infra.statements import USES, actions, key_policies, policies, principals

Resources = dict[str, dict[str, Any]]

STACKS = ("chandlery", "departments")


def test_nobody_is_let_by_a_wildcard(resources: Resources) -> None:
    """No statement that allows names everybody, or an action with a wildcard; in other words than a key's, nor every resource."""
    allowed = [
        (address, each) for address, each in policies(resources) if each["Effect"] == "Allow"
    ]
    everything = [
        (address, each["Sid"])
        for address, each in allowed
        if each.get("Resource") == "*" and not address.endswith("aws_kms_key.this")
    ]

    assert len(allowed) > 100
    assert [a for a, each in allowed if any("*" in name for name in principals(each))] == []
    assert [a for a, each in allowed if any("*" in name for name in actions(each))] == []
    assert {sid for address, sid in everything if "neurocipher" not in address} == {
        "SignInToRegistry"
    }


def test_services_of_aws_act_for_this_account_only(resources: Resources) -> None:
    """A service of AWS that is let into a resource is bound to this account, to one resource or to a context."""
    bound = {"aws:SourceAccount", "aws:SourceArn", "kms:EncryptionContext:aws:logs:arn"}
    loose = [
        (address, each.get("Sid"))
        for address, each in policies(resources)
        if each["Effect"] == "Allow"
        and "Service" in each.get("Principal", {})
        and not bound & {name for tests in each.get("Condition", {}).values() for name in tests}
        and "neurocipher" not in address
    ]

    # Lambda says nothing of the function when it takes a role: its role is bound by being of one function.
    assert loose == [("module.departments.module.generator.aws_iam_role.this", None)]


def test_nobody_both_administers_and_uses_a_key(resources: Resources) -> None:
    """Who administers a key, deploys it or audits it does not use it; the root user looks, and replaces the policy."""
    for stack in STACKS:
        for name, policy in key_policies(resources, stack).items():
            by_sid = {each["Sid"]: each for each in policy}
            apart = {"Administer", "Audit", "BreakGlass", "Deploy"}

            assert apart <= by_sid.keys(), name
            assert not USES & {action for sid in apart for action in actions(by_sid[sid])}, name
            assert "kms:PutKeyPolicy" not in actions(by_sid["Administer"]), name
            assert actions(by_sid["BreakGlass"]) == {
                "kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy",
            }, name  # fmt: skip
            assert by_sid["BreakGlass"]["Condition"] == {
                "ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:root"}
            }, name


def test_grants_are_made_for_stores_alone(resources: Resources) -> None:
    """Only AWS makes grants, for a store of its own, when the deploy role creates it or a launch role starts it."""
    for stack in STACKS:
        for name, policy in key_policies(resources, stack).items():
            for each in policy:
                if each["Effect"] == "Allow" and "kms:CreateGrant" in actions(each):
                    assert actions(each) == {"kms:CreateGrant"}, name
                    assert principals(each) == {"deploy"}, name
                    assert each["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}, name
                    assert "kms:ViaService" in each["Condition"]["StringEquals"], name


def test_keys_rotate_and_end_late(resources: Resources) -> None:
    """Every key of the stacks is rotated by itself, waits 30 days before it ends, and cannot lock everybody out."""
    keys = [values for address, values in resources.items() if ".aws_kms_key." in address]

    assert len(keys) > 20
    assert {
        (key["enable_key_rotation"], key["deletion_window_in_days"], key["bypass_policy_lockout_safety_check"])
        for key in keys
    } == {(True, 30, False)}  # fmt: skip


def test_encrypting_directly_is_let_where_aws_documents_it(resources: Resources) -> None:
    """`kms:Encrypt` has CloudWatch Logs for named log groups, and the creator of a table through DynamoDB; nobody else."""
    found = {
        (stack, name, each["Sid"])
        for stack in STACKS
        for name, policy in key_policies(resources, stack).items()
        for each in policy
        if each["Effect"] == "Allow" and "kms:Encrypt" in actions(each)
    }

    assert found == {
        ("chandlery", "logs", "OfTheService"),
        ("chandlery", "tables", "CreateTables"),
        ("departments", "logs", "OfTheService"),
    }
