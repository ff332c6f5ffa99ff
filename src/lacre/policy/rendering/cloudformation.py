# SPDX-License-Identifier: Apache-2.0
"""
The KMS keys and aliases of `lacre.toml` as templates of CloudFormation, one for each region.

Keys, replicas and aliases only. Keys outlive the stack that made them (`Retain`): whoever deletes a
stack deletes no data. A replica names its primary key by ARN, which is another region's, so it is
left out until `lacre.lock` has it. Runs nothing.
"""

from typing import Any

from lacre.policy.rendering.aws import AwsKey, AwsRendering, text_of

__all__ = ["render_cloudformation"]

Json = dict[str, Any]


def render_cloudformation(rendering: AwsRendering) -> dict[str, str]:
    """Return a template for each region, by the name of its file."""
    made: dict[str, Json] = {}
    outputs: dict[str, Json] = {}
    for key in rendering.keys:
        if not key.made:
            continue
        label = _label(key.name)
        here, told = made.setdefault(key.region, {}), outputs.setdefault(key.region, {})
        here[label] = _key(key)
        if key.alias is not None:
            here[f"{label}Alias"] = {
                "Type": "AWS::KMS::Alias",
                "Properties": {"AliasName": f"alias/{key.alias}", "TargetKeyId": {"Ref": label}},
            }
        told[f"{label}Arn"] = {"Description": f"The KMS key {key.name}", "Value": {"Fn::GetAtt": [label, "Arn"]}}  # fmt: skip
        for region in key.replicas if key.arn is not None else ():
            made.setdefault(region, {})[f"{label}Replica"] = {
                "Type": "AWS::KMS::ReplicaKey", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "Description": key.about, "PrimaryKeyArn": key.arn, "KeyPolicy": dict(key.policy),
                    "PendingWindowInDays": key.window, "Tags": _tags(key),
                },
            }  # fmt: skip
    files = {}
    for region in sorted(made):
        template: Json = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "Rendered by lacre policy render from lacre.toml, which is what to change.",
            "Resources": {name: made[region][name] for name in sorted(made[region])},
        }
        if outputs.get(region):
            template["Outputs"] = {name: outputs[region][name] for name in sorted(outputs[region])}
        files[f"{region}.template.json"] = text_of(template)
    return files


def _key(key: AwsKey) -> Json:
    properties: Json = {
        "Description": key.about,
        "KeyPolicy": dict(key.policy),
        "EnableKeyRotation": key.rotation is not None,
        "PendingWindowInDays": key.window,
        "MultiRegion": bool(key.replicas),
        "BypassPolicyLockoutSafetyCheck": False,
        "Tags": _tags(key),
    }
    if key.rotation is not None:
        properties["RotationPeriodInDays"] = key.rotation.days
    return {
        "Type": "AWS::KMS::Key", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
        "Properties": properties,
    }  # fmt: skip


def _tags(key: AwsKey) -> list[Json]:
    return [{"Key": name, "Value": key.tags[name]} for name in sorted(key.tags)]


def _label(name: str) -> str:
    # Logical names have letters and digits only; the rest is told by its code, so no two names become one.
    return "Key" + "".join(c if c.isalnum() and c not in "xX" else f"X{ord(c):02x}" for c in name)
