# SPDX-License-Identifier: Apache-2.0
"""Statements of the policies in a plan. What is NOT here: deciding, which `lacre.policy` does."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["actions", "key_policies", "policies", "principals", "statements", "users"]

# Attributes of resources that hold a policy.
_HOLDERS = ("assume_role_policy", "policy")

# What turns data into ciphertext or back; all else of KMS looks, administers or lets others.
USES = frozenset(
    f"kms:{name}"
    for name in (
        "Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
    )
)  # fmt: skip


def statements(policy: str) -> list[dict[str, Any]]:
    """Return the statements of a policy."""
    found = json.loads(policy)["Statement"]
    return found if isinstance(found, list) else [found]


def policies(resources: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each statement that is known at planning, with the address of its resource."""
    for address, values in resources.items():
        for holder in _HOLDERS:
            text = values.get(holder)
            if isinstance(text, str) and '"Statement"' in text:
                for statement in statements(text):
                    yield address, statement


def key_policies(
    resources: Mapping[str, Mapping[str, Any]], stack: str
) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of each KMS key of *stack*, by the key's name there."""
    return {
        address.split('"')[1]: statements(values["policy"])
        for address, values in resources.items()
        if address.startswith(f"module.{stack}.")
        and address.endswith('"].aws_kms_key.this')
        and address.split("[")[0] != f"module.{stack}"
    }


def actions(statement: Mapping[str, Any]) -> set[str]:
    """Return the actions of a statement."""
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


def principals(statement: Mapping[str, Any]) -> set[str]:
    """Return the principals of a statement: the last parts of roles' ARNs, names of services."""
    return {
        each.rpartition("/")[2] if ":role/" in each else each
        for found in statement.get("Principal", {}).values()
        for each in ([found] if isinstance(found, str) else found)
    }


def users(policy: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return for each principal of a key's policy with which actions it may use the key; those with none are left out."""
    found: dict[str, set[str]] = {}
    for statement in policy:
        used = actions(statement) & USES
        if statement["Effect"] == "Allow" and used:
            for principal in principals(statement):
                found.setdefault(principal, set()).update(used)
    return found
