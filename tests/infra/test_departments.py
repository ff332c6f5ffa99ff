# SPDX-License-Identifier: Apache-2.0
"""The stack of seed 004: one topic, a key for each department, and roles that can do one thing each."""

from typing import Any

from tests.infra.statements import actions, key_policies, principals, statements, users

Resources = dict[str, dict[str, Any]]

ROLE = "departments-production-"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:departments-production"
KEY = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-000000000001"


def test_the_producer_makes_and_the_department_opens(resources: Resources) -> None:
    """Under a department's key the producer makes data keys and the department opens them; nobody does both, or anything else."""
    keys = key_policies(resources, "departments")

    for department in ("finance", "sales"):
        assert users(keys[department]) == {
            f"{ROLE}producer": {"kms:GenerateDataKey"},
            f"{ROLE}{department}": {"kms:Decrypt"},
        }


def test_department_keys_are_bound_to_topic_and_department(resources: Resources) -> None:
    """Each use says application, environment, tenant, topic and department, type and source; only a signature's key may come beside."""
    for department in ("finance", "sales"):
        policy = key_policies(resources, "departments")[department]
        by_sid = {each["Sid"]: each for each in policy}

        assert by_sid["Mint"]["Condition"] == by_sid["Open"]["Condition"] == {
            "StringEquals": {
                "kms:EncryptionContext:app": "departments",
                "kms:EncryptionContext:env": "production",
                "kms:EncryptionContext:tenant": "default",
                "kms:EncryptionContext:topic": "departments",
                f"kms:EncryptionContext:for-{department}": "1",
            },
            "Null": {
                "kms:EncryptionContext:source": "false",
                "kms:EncryptionContext:type": "false",
            },
            "ForAllValues:StringEquals": {
                "kms:EncryptionContextKeys": [
                    "app", "aws-crypto-public-key", "env", f"for-{department}", "source", "tenant", "topic", "type",
                ]
            },
        }  # fmt: skip
        assert by_sid["DenyWithoutContext"]["Condition"] == {
            "Null": {"kms:EncryptionContext:app": "true"}
        }


def test_the_generator_may_only_send(resources: Resources) -> None:
    """The generator's role sends to one queue and writes one log."""
    role = resources["module.departments.module.generator.aws_iam_role_policy.this"]["policy"]

    assert {each["Sid"]: (actions(each), each["Resource"]) for each in statements(role)} == {
        "Send": ({"sqs:SendMessage"}, [QUEUE]),
        "Log": (
            {"logs:CreateLogStream", "logs:PutLogEvents"},
            ["arn:aws:logs:us-east-1:123456789012:log-group:/departments/production/generator:*"],
        ),
    }


def test_the_queue_has_one_sender_and_one_receiver(resources: Resources) -> None:
    """Whatever IAM allows, only the generator sends, only the producer receives, by TLS, and both through SQS use its key."""
    queue = resources['module.departments.module.queue.aws_sqs_queue_policy.this["queue"]'][
        "policy"
    ]
    given = (
        resources["module.given_queue.aws_sqs_queue.this"],
        resources["module.given_queue.aws_sqs_queue.dead"],
    )
    key = key_policies(resources, "departments")["queue"]
    by_sid = {each["Sid"]: each for each in statements(queue)}

    assert {each["Effect"] for each in by_sid.values()} == {"Deny"}
    assert by_sid["DenyPlainHttp"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    for sid, action, role in (
        ("DenyOtherSenders", "sqs:SendMessage", "generator"),
        ("DenyOtherReceivers", "sqs:ReceiveMessage", "producer"),
    ):
        assert actions(by_sid[sid]) == {action}
        assert by_sid[sid]["Condition"] == {
            "ArnNotEquals": {"aws:PrincipalArn": [f"arn:aws:iam::123456789012:role/{ROLE}{role}"]}
        }
    assert {each["kms_master_key_id"] for each in given} == {KEY}
    assert users(key) == {
        f"{ROLE}generator": {"kms:Decrypt", "kms:GenerateDataKey"},
        f"{ROLE}producer": {"kms:Decrypt"},
    }
    assert {
        each["Condition"]["StringEquals"]["kms:ViaService"]
        for each in key
        if principals(each) & {f"{ROLE}generator", f"{ROLE}producer"}
    } == {"sqs.us-east-1.amazonaws.com"}


def test_the_topic_has_one_door(resources: Resources) -> None:
    """Brokers take IAM roles over TLS, talk to one another by TLS, are not public, make no topic by themselves, and their volumes are under the key."""
    cluster = resources["module.given_topic.aws_msk_cluster.this"]
    settings = resources["module.given_topic.aws_msk_configuration.this"]["server_properties"]
    [encryption] = cluster["encryption_info"]
    [door] = cluster["client_authentication"]
    [nodes] = cluster["broker_node_group_info"]

    assert encryption["encryption_at_rest_kms_key_arn"] == KEY
    assert encryption["encryption_in_transit"] == [{"client_broker": "TLS", "in_cluster": True}]
    assert (door["unauthenticated"], door["tls"]) == (False, [])
    assert door["sasl"] == [{"iam": True, "scram": False}]
    assert nodes["connectivity_info"][0]["public_access"] == [{"type": "DISABLED"}]
    assert "auto.create.topics.enable=false" in settings
    assert "allow.everyone.if.no.acl.found=false" in settings


def test_images_cannot_be_exchanged(resources: Resources) -> None:
    """Tags do not move, images are scanned and under the key, and the function's image is fetched by Lambda for that function."""
    repository = resources['module.given_images.aws_ecr_repository.this["given"]']
    [fetch] = statements(
        resources[
            'module.departments.module.images.aws_ecr_repository_policy.this["departments/production/generator"]'
        ]["policy"]
    )

    assert repository["image_tag_mutability"] == "IMMUTABLE"
    assert repository["image_scanning_configuration"] == [{"scan_on_push": True}]
    assert repository["encryption_configuration"] == [{"encryption_type": "KMS", "kms_key": KEY}]
    assert fetch["Condition"] == {
        "ArnEquals": {
            "aws:SourceArn": f"arn:aws:lambda:us-east-1:123456789012:function:{ROLE}generator"
        }
    }


def test_roles_are_taken_by_ecs_of_this_account(resources: Resources) -> None:
    """Every role of a task is taken by ECS for a task of this account, and by nothing else."""
    roles = {
        address: statements(values["assume_role_policy"])
        for address, values in resources.items()
        if address.startswith("module.departments.")
        and address.endswith((".aws_iam_role.task", ".aws_iam_role.execution"))
    }

    assert len(roles) == 6
    for [taken] in roles.values():
        assert taken["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert taken["Condition"] == {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": "arn:aws:ecs:us-east-1:123456789012:*"},
        }


def test_services_reach_brokers_and_endpoints_only(resources: Resources) -> None:
    """Nothing comes in but to the brokers, and nothing goes out to the world."""
    rules = {
        address.rpartition(".")[2]: (
            values["from_port"],
            values["to_port"],
            values["cidr_ipv4"],
            values["cidr_ipv6"],
        )
        for address, values in resources.items()
        if address.startswith("module.departments.aws_vpc_security_group_")
    }

    assert rules == {
        "brokers": (9098, 9098, None, None),
        "services_to_brokers": (9098, 9098, None, None),
        "services_to_endpoints": (443, 443, None, None),
        "services_to_s3": (443, 443, None, None),
    }
