# SPDX-License-Identifier: Apache-2.0
"""The stack of ADR-NF-017: the tables of its encryption scope, its key hierarchy and its access, read off the plan."""

import json
import re
from typing import Any

from tests.infra.statements import actions, key_policies, principals, statements, users

Resources = dict[str, dict[str, Any]]

ROLE = "ship-chandlery-production-"
KEY = "arn:aws:kms:us-east-1:123456789012:key/0f9f3a4e-0000-4000-8000-00000000000"

# The secrets of the ADR, and the days of its tables. Not `internal/encryption-dek` and `external/aws-ses`.
SECRETS = {
    "database/primary": 30, "database/readonly": 30, "redis/primary": 30, "jwt/access-token": 90, "jwt/refresh-token": 90,
    "external/stripe": 90, "external/razorpay": 90, "external/sendgrid": 90, "internal/webhook-signing": 90,
}  # fmt: skip


def _of(resources: Resources, prefix: str) -> Resources:
    """Return what is under *prefix*, without it."""
    return {
        address.removeprefix(prefix): values
        for address, values in resources.items()
        if address.startswith(prefix)
    }


def test_each_store_is_under_the_key_it_is_given(resources: Resources) -> None:
    """Database, snapshot's copy, documents, cache, volumes, table, secrets, logs and topic have the key of their caller."""
    given = _of(resources, "module.given_")
    [sse] = given["documents.aws_s3_bucket_server_side_encryption_configuration.this"]["rule"]

    assert given["database.aws_db_instance.this"]["storage_encrypted"] is True
    assert given["database.aws_db_instance.this"]["kms_key_id"] == f"{KEY}1"
    assert given["database.aws_db_instance.this"]["master_user_secret_kms_key_id"] == f"{KEY}2"
    assert given["database.aws_db_snapshot_copy.encrypted[0]"]["kms_key_id"] == f"{KEY}1"
    assert sse["bucket_key_enabled"] is True
    assert sse["apply_server_side_encryption_by_default"] == [
        {"kms_master_key_id": f"{KEY}1", "sse_algorithm": "aws:kms"}
    ]
    assert given["cache.aws_elasticache_replication_group.this"]["at_rest_encryption_enabled"] in (
        True,
        "true",
    )
    assert given["cache.aws_elasticache_replication_group.this"]["kms_key_id"] == f"{KEY}1"
    assert given["volumes.aws_ebs_encryption_by_default.this"]["enabled"] is True
    assert given["volumes.aws_ebs_default_kms_key.this"]["key_arn"] == f"{KEY}1"
    [table] = given["table.aws_dynamodb_table.this"]["server_side_encryption"]
    assert table == {"enabled": True, "kms_key_arn": f"{KEY}1"}
    assert (
        given['secrets.aws_secretsmanager_secret.this["database/primary"]']["kms_key_id"]
        == f"{KEY}1"
    )
    assert given['logs.aws_cloudwatch_log_group.this["/given"]']["kms_key_id"] == f"{KEY}1"
    assert given["alarms.aws_sns_topic.this"]["kms_master_key_id"] == f"{KEY}1"


def test_the_snapshot_that_is_restored_is_the_copy(resources: Resources) -> None:
    """A snapshot to begin with is not restored itself: its copy under the key is."""
    given = _of(resources, "module.given_database.")
    copy = given["aws_db_snapshot_copy.encrypted[0]"]

    assert copy["source_db_snapshot_identifier"] == "given-before-encryption"
    assert (
        given["aws_db_instance.this"]["snapshot_identifier"]
        == copy["target_db_snapshot_identifier"]
    )


def test_the_database_refuses_what_is_not_tls(resources: Resources) -> None:
    """RDS forces TLS 1.2, its certificate is of an authority that has not expired, and nothing is public."""
    database = _of(resources, "module.chandlery.module.database.")
    settings = {
        each["name"]: each["value"] for each in database["aws_db_parameter_group.this"]["parameter"]
    }
    instance = database["aws_db_instance.this"]

    assert settings["rds.force_ssl"] == "1"
    assert settings["ssl_min_protocol_version"] == "TLSv1.2"
    assert (
        settings["log_parameter_max_length"] == settings["log_parameter_max_length_on_error"] == "0"
    )
    assert instance["ca_cert_identifier"] == "rds-ca-rsa2048-g1"
    assert instance["publicly_accessible"] is False
    assert (instance["deletion_protection"], instance["skip_final_snapshot"]) == (True, False)


def test_buckets_refuse_what_is_not_tls_and_other_keys(resources: Resources) -> None:
    """Each bucket denies plain HTTP and TLS before 1.2; documents deny other encryption and other keys, too."""
    policy = statements(resources["module.given_documents.aws_s3_bucket_policy.this"]["policy"])
    by_sid = {each["Sid"]: each for each in policy}
    logs = statements(
        resources["module.chandlery.module.access_logs.aws_s3_bucket_policy.this"]["policy"]
    )

    assert by_sid["DenyPlainHttp"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert by_sid["DenyOldTls"]["Condition"] == {"NumericLessThan": {"s3:TlsVersion": "1.2"}}
    assert by_sid["DenyOtherEncryption"]["Condition"] == {
        "StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption": "aws:kms"}
    }
    assert by_sid["DenyOtherKeys"]["Condition"] == {
        "StringNotEqualsIfExists": {"s3:x-amz-server-side-encryption-aws-kms-key-id": f"{KEY}1"}
    }
    assert {each["Effect"] for each in policy} == {"Deny"}
    assert [each["Sid"] for each in logs] == [
        "DenyPlainHttp",
        "DenyOldTls",
        "WriteAccessLogs",
        "WriteLoadBalancersLogs",
    ]


def test_media_are_under_sse_s3_and_nothing_is_public(resources: Resources) -> None:
    """Media are under S3's own key, as the ADR says; no bucket is public or has ACLs."""
    stack = _of(resources, "module.chandlery.module.")
    [sse] = stack["media.aws_s3_bucket_server_side_encryption_configuration.this"]["rule"]
    blocks = [v for address, v in stack.items() if ".aws_s3_bucket_public_access_block." in address]

    assert sse["apply_server_side_encryption_by_default"] == [
        {"kms_master_key_id": "", "sse_algorithm": "AES256"}
    ]
    assert len(blocks) == 3
    assert all(
        each[f"{verb}_public_{what}"]
        for each in blocks
        for verb, what in (("block", "acls"), ("block", "policy"), ("ignore", "acls"))
    )
    assert all(each["restrict_public_buckets"] for each in blocks)


def test_no_way_takes_less_than_tls_1_2(resources: Resources) -> None:
    """Client, CloudFront, load balancer, service, database and cache: each way begins at TLS 1.2, or at the program's own server."""
    stack = _of(resources, "module.chandlery.module.")
    distribution = stack["distribution.aws_cloudfront_distribution.this"]
    [viewer] = distribution["viewer_certificate"]
    [service] = [each for each in distribution["origin"] if each["origin_id"] == "service"]
    [origin] = service["custom_origin_config"]
    listener = stack["load_balancer.aws_lb_listener.https"]
    cache = stack["cache.aws_elasticache_replication_group.this"]

    assert viewer["minimum_protocol_version"] == "TLSv1.2_2021"
    assert (origin["origin_protocol_policy"], origin["origin_ssl_protocols"]) == (
        "https-only",
        ["TLSv1.2"],
    )
    assert [each["viewer_protocol_policy"] for each in distribution["default_cache_behavior"]] == [
        "https-only"
    ]
    assert (listener["protocol"], listener["ssl_policy"]) == (
        "HTTPS",
        "ELBSecurityPolicy-TLS13-1-2-2021-06",
    )
    assert [a for a in stack if ".aws_lb_listener." in a] == ["load_balancer.aws_lb_listener.https"]
    assert stack["load_balancer.aws_lb_target_group.this"]["protocol"] == "HTTPS"
    assert (cache["transit_encryption_enabled"], cache["transit_encryption_mode"]) == (
        True,
        "required",
    )
    assert stack["cache.aws_elasticache_user.default"]["access_string"] == "off -@all"


def test_every_open_port_speaks_tls(resources: Resources) -> None:
    """Services are reached at 8443, database and cache from services alone, and only HTTPS goes out."""
    rules = {
        address.partition("_rule.")[2]: (
            values["from_port"],
            values["to_port"],
            values["cidr_ipv4"],
        )
        for address, values in resources.items()
        if address.startswith("module.chandlery.aws_vpc_security_group_")
    }

    assert rules == {
        "from_cloudfront": (443, 443, None),
        "https": (443, 443, "0.0.0.0/0"),
        'way["load-balancer-to-services"]': (8443, 8443, None),
        'way["services-to-cache"]': (6379, 6379, None),
        'way["services-to-database"]': (5432, 5432, None),
    }


def test_each_class_is_opened_by_one_service(resources: Resources) -> None:
    """Banking is opened by finance, PII by compliance, payment data by payments, and minted by a role that opens none."""
    keys = key_policies(resources, "chandlery")
    readers = {"banking": "finance", "pii": "compliance", "payment": "payments"}

    for reader, service in readers.items():
        for use in ("fields", "index"):
            assert users(keys[f"{reader}-{use}"]) == {
                "mint": {"kms:GenerateDataKeyWithoutPlaintext"},
                f"{ROLE}{service}": {"kms:Decrypt"},
            }


def test_class_keys_are_bound_to_the_wrap_context(resources: Resources) -> None:
    """A use sends the eight pairs of the wrap context and nothing else; without them it is denied; services of AWS have none."""
    for name, policy in key_policies(resources, "chandlery").items():
        if not name.endswith(("-fields", "-index")):
            continue
        by_sid = {each["Sid"]: each for each in policy}
        context = by_sid["Open"]["Condition"]
        reader, _, use = name.partition("-")

        assert by_sid["Mint"]["Condition"] == context
        assert context == {
            "StringEquals": {
                "kms:EncryptionContext:app": "ship-chandlery",
                "kms:EncryptionContext:class": reader,
                "kms:EncryptionContext:env": "production",
                "kms:EncryptionContext:kind": {"fields": "branch", "index": "index"}[use],
                "kms:EncryptionContext:service": "chandlery",
            },
            "Null": {
                "kms:EncryptionContext:lacre-key": "false",
                "kms:EncryptionContext:lacre-row": "false",
                "kms:EncryptionContext:tenant": "false",
            },
            "ForAllValues:StringEquals": {
                "kms:EncryptionContextKeys": [
                    "app", "class", "env", "kind", "lacre-key", "lacre-row", "service", "tenant",
                ]
            },
        }  # fmt: skip
        assert by_sid["DenyWithoutContext"]["Effect"] == "Deny"
        assert "kms:ViaService" not in json.dumps(policy)


def test_stores_keys_are_used_through_their_service(resources: Resources) -> None:
    """Who reads or writes a store uses its key through that one service and in its context, and nothing of another store."""
    keys = key_policies(resources, "chandlery")
    services = {f"{ROLE}{name}" for name in ("api", "compliance", "finance", "payments")}

    assert {name: set(users(keys[name])) for name in keys if "-" not in name} == {
        "alerts": {"cloudwatch.amazonaws.com"},
        "cache": set(),
        "database": set(),
        "documents": {f"{ROLE}api"},
        "logs": {"logs.ap-south-1.amazonaws.com"},
        "master": {"deploy"},
        "secrets": services | {"rotate-secrets"},
        "tables": {f"{ROLE}api", "deploy"},
        "volumes": set(),
    }
    for name, service in (
        ("documents", "s3"),
        ("master", "secretsmanager"),
        ("secrets", "secretsmanager"),
        ("tables", "dynamodb"),
    ):
        for each in keys[name]:
            if each["Sid"] in ("ReadThroughTheService", "WriteThroughTheService"):
                assert each["Condition"]["StringEquals"] == {
                    "kms:CallerAccount": "123456789012",
                    "kms:ViaService": f"{service}.ap-south-1.amazonaws.com",
                }
                assert len(each["Condition"]["StringLike"]) == 1


def test_names_of_keys_follow_the_hierarchy(resources: Resources) -> None:
    """The aliases are the ADR's, the master key being one for each purpose."""
    aliases = {
        values["name"]
        for address, values in resources.items()
        if address.startswith("module.chandlery.") and ".aws_kms_alias." in address
    }

    assert aliases == {
        f"alias/{ROLE}{name}"
        for name in (
            "alerts", "banking-fields", "banking-index", "cache", "database", "documents", "logs", "master", "payment-fields",
            "payment-index", "pii-fields", "pii-index", "secrets", "tables", "volumes",
        )
    }  # fmt: skip


def test_secrets_are_the_adrs_with_readers_and_deadlines(resources: Resources) -> None:
    """Each path of the ADR but two is a secret with its days, and whoever is not its reader is denied the value."""
    secrets = _of(resources, "module.chandlery.module.secrets.")
    found = {
        values["name"].removeprefix("/ship-chandlery/production/"): int(
            values["tags"]["rotate-within-days"]
        )
        for address, values in secrets.items()
        if address.startswith("aws_secretsmanager_secret.")
    }
    rotated = {
        address.split('"')[1]: values["rotation_rules"][0]["automatically_after_days"]
        for address, values in secrets.items()
        if address.startswith("aws_secretsmanager_secret_rotation.")
    }
    [stripe] = statements(
        secrets['aws_secretsmanager_secret_policy.this["external/stripe"]']["policy"]
    )

    assert found == SECRETS
    assert rotated == {
        name: SECRETS[name]
        for name in ("database/primary", "database/readonly", "internal/webhook-signing")
    }
    assert (stripe["Effect"], principals(stripe)) == ("Deny", {"*"})
    assert "secretsmanager:GetSecretValue" in actions(stripe)
    assert stripe["Condition"] == {
        "ArnNotEquals": {"aws:PrincipalArn": [f"arn:aws:iam::123456789012:role/{ROLE}payments"]}
    }


def test_alarms_count_what_aws_publishes(resources: Resources) -> None:
    """Both alarms are in the namespace and have the four dimensions under which `CallCount` exists, with the ADR's thresholds."""
    alarms = _of(resources, "module.chandlery.module.alarms.aws_cloudwatch_metric_alarm.usage")

    assert {
        (a["namespace"], a["metric_name"], a["statistic"], a["period"]) for a in alarms.values()
    } == {("AWS/Usage", "CallCount", "Sum", 300)}
    assert {name: (a["threshold"], a["dimensions"]) for name, a in alarms.items()} == {
        '["kms_cryptographic_operations"]': (
            1000,
            {
                "Service": "KMS",
                "Type": "API",
                "Resource": "CryptographicOperationsSymmetric",
                "Class": "None",
            },
        ),
        '["secret_reads"]': (
            100,
            {
                "Service": "Secrets Manager",
                "Type": "API",
                "Resource": "GetSecretValue",
                "Class": "None",
            },
        ),
    }


def test_config_looks_at_each_store_of_the_encryption_scope(resources: Resources) -> None:
    """AWS Config has a rule for each line of the encryption scope, and knows under which key it should be."""
    rules = {
        values["source"][0]["source_identifier"]: json.loads(values["input_parameters"] or "{}")
        for address, values in resources.items()
        if address.startswith("module.given_rules.")
    }
    [documents] = resources[
        'module.given_rules.aws_config_config_rule.this["s3-documents-under-kms"]'
    ]["scope"]

    assert rules == {
        "RDS_STORAGE_ENCRYPTED": {"kmsKeyId": f"{KEY}1"},
        "RDS_SNAPSHOT_ENCRYPTED": {},
        "S3_DEFAULT_ENCRYPTION_KMS": {"kmsKeyArns": f"{KEY}2"},
        "S3_BUCKET_SERVER_SIDE_ENCRYPTION_ENABLED": {},
        "S3_BUCKET_SSL_REQUESTS_ONLY": {},
        "ELASTICACHE_REPL_GRP_ENCRYPTED_AT_REST": {},
        "ELASTICACHE_REPL_GRP_ENCRYPTED_IN_TRANSIT": {},
        "EC2_EBS_ENCRYPTION_BY_DEFAULT": {},
        "ENCRYPTED_VOLUMES": {"kmsId": f"{KEY}3"},
        "DYNAMODB_TABLE_ENCRYPTED_KMS": {"kmsKeyArns": f"{KEY}4"},
        "SECRETSMANAGER_USING_CMK": {"kmsKeyArns": f"{KEY}5"},
        "SECRETSMANAGER_SCHEDULED_ROTATION_SUCCESS_CHECK": {},
        "CLOUDWATCH_LOG_GROUP_ENCRYPTED": {},
        "CMK_BACKING_KEY_ROTATION_ENABLED": {},
        "KMS_CMK_NOT_SCHEDULED_FOR_DELETION": {},
    }
    assert (documents["compliance_resource_types"], documents["compliance_resource_id"]) == (
        ["AWS::S3::Bucket"], "given-documents",
    )  # fmt: skip


def test_tasks_hold_no_secret_and_cannot_be_entered(resources: Resources) -> None:
    """Containers are not root, have no capability, write nothing, name no secret; their image is one digest; nobody gets a shell."""
    tasks = [
        values for address, values in resources.items() if ".aws_ecs_task_definition." in address
    ]
    containers = [
        container
        for values in tasks
        if values.get("container_definitions")
        for container in json.loads(values["container_definitions"])
    ]
    services = [values for address, values in resources.items() if ".aws_ecs_service." in address]

    assert len(containers) >= 4
    for container in containers:
        assert container["user"] == "10001:10001"
        assert container["readonlyRootFilesystem"] is True
        assert container["linuxParameters"]["capabilities"] == {"add": [], "drop": ["ALL"]}
        assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
        assert "secrets" not in container
    assert not any(service["enable_execute_command"] for service in services)
    assert not any(service["network_configuration"][0]["assign_public_ip"] for service in services)
