# SPDX-License-Identifier: Apache-2.0
"""
Rendered key policies in an emulator that enforces them by key and role: each role asks for each use of each key.

It knows no conditions on the encryption context, so statements are put there without their conditions, and denials
that have one are left out. What the conditions say is in ``test_rendering.py``.
"""

import json
from typing import Any

from botocore.exceptions import ClientError

from lacre.policy.rendering import render_aws
from tests.components.aws import AWS, Credentials
from tests.policy.test_governance import read
from tests.policy.test_rendering import _MORE

_ROLES = ("billing", "kyc", "devops", "security", "mint", "finder")
_ASKED: dict[str, dict[str, Any]] = {
    "encrypt": {"Plaintext": b"x"},
    "generate_data_key": {"KeySpec": "AES_256"},
    "generate_data_key_without_plaintext": {"KeySpec": "AES_256"},
    "get_key_policy": {"PolicyName": "default"},
}
_MAY = {
    "pii-fields": {"kyc": {"decrypt"}, "mint": {"generate_data_key_without_plaintext"}},
    "pii-index": {"kyc": {"decrypt"}, "mint": {"generate_data_key_without_plaintext"}, "finder": {"decrypt"}},
    "banking-fields": {"billing": {"decrypt"}, "mint": {"generate_data_key_without_plaintext"}},
    "department-finance": {"billing": {"decrypt"}, "kyc": {"generate_data_key"}},
}  # fmt: skip


def test_the_emulator_lets_each_role_do_its_part_and_no_more(ministack: AWS) -> None:
    """Administrators and auditors look, those who mint mint, readers open; a real AccessDenied for all else."""
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}]}  # fmt: skip
    who = {name: ministack.principal(wide, kind="role") for name in _ROLES}
    text = _MORE.replace('account = "123456789012"', f'account = "{ministack.account}"')
    for name, credentials in who.items():
        role = credentials.arn.split("/")[1]
        text = text.replace(f'"arn:aws:iam::123456789012:role/{name}"', f'"arn:aws:iam::{ministack.account}:role/{role}"')  # fmt: skip
    rendering = render_aws(read(text))
    done: dict[str, dict[str, set[str]]] = {}
    for key in rendering.keys:
        if key.name not in _MAY:
            continue
        policy = json.loads(json.dumps(key.policy))
        policy["Statement"] = [
            {name: value for name, value in each.items() if name != "Condition"}
            for each in policy["Statement"]
            if each["Effect"] == "Allow" or "Condition" not in each
        ]
        arn = ministack.key(policy=policy)
        done[key.name] = {name: _does(ministack, each, arn) for name, each in who.items()}

    looking = {"get_key_policy"}
    for key_name, may in _MAY.items():
        expected = {name: may.get(name, set()) for name in _ROLES}
        expected |= {"devops": looking, "security": looking}
        assert done[key_name] == expected


def _does(ministack: AWS, credentials: Credentials, arn: str) -> set[str]:
    blob = ministack.client("kms").encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    client = ministack.client("kms", credentials)
    found = set()
    for operation, given in {**_ASKED, "decrypt": {"CiphertextBlob": blob}}.items():
        try:
            getattr(client, operation)(KeyId=arn, **given)
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDeniedException":
                raise
        else:
            found.add(operation)
    return found
