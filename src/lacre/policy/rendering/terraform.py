# SPDX-License-Identifier: Apache-2.0
"""
The KMS keys, aliases and identity policies of `lacre.toml` for Terraform, in its JSON syntax.

JSON, because it needs no formatter of its own, and key policies in files beside it, so that a review
sees a changed statement as a changed line. Roles are the application's, and are not made here: their
policies are attached to them, and with `[governance] boundary` the plan fails where a role has not
that boundary. Runs no Terraform.
"""

from collections.abc import Mapping
from typing import Any

from lacre.policy.rendering.aws import AwsKey, AwsRendering, text_of

__all__ = ["render_terraform"]

Json = dict[str, Any]


def render_terraform(rendering: AwsRendering) -> dict[str, str]:
    """Return the files of a Terraform configuration, by their names."""
    regions = sorted({r for key in rendering.keys for r in (key.region, *key.replicas)})
    default = rendering.keys[0].region
    resources: dict[str, Json] = {}
    data: dict[str, Json] = {}
    files = {f"keys/{key.name}.json": text_of(key.policy) for key in rendering.keys}
    for key in rendering.keys:
        if key.made:
            _key(key, resources, default)
        elif key.arn is not None:  # one that is there: only its policy is ours
            held = {"key_id": key.arn, "policy": _policy_of(key)}
            resources.setdefault("aws_kms_key_policy", {})[_label(key.name)] = _placed(held, key, default)  # fmt: skip
    _identities(rendering, resources, data)
    files["boundary.json"] = text_of(rendering.boundary_policy())
    resources.setdefault("aws_iam_policy", {})["boundary"] = {
        "name": "lacre-boundary",
        "policy": '${file("${path.module}/boundary.json")}',
    }
    outputs = {
        f"{_label(key.name)}_arn": {"value": f"${{aws_kms_key.{_label(key.name)}.arn}}", "description": f"The KMS key {key.name}."}
        for key in rendering.keys
        if key.made
    }  # fmt: skip
    told: Json = {
        "//": "Rendered by `lacre policy render --target terraform` from lacre.toml: change that.",
        "terraform": {
            "required_version": ">= 1.11",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": "~> 5.80"}},
        },
        "provider": {"aws": [
            {"region": region} | ({} if region == default else {"alias": region})
            for region in sorted(regions, key=lambda each: (each != default, each))
        ]},
        "data": data,
        "resource": {name: resources[name] for name in sorted(resources)},
        "output": outputs,
    }  # fmt: skip
    files["lacre.tf.json"] = text_of({name: each for name, each in told.items() if each})
    return {name: files[name] for name in sorted(files)}


def _key(key: AwsKey, resources: dict[str, Json], default: str) -> None:
    made: Json = {
        "description": key.about,
        "policy": _policy_of(key),
        "enable_key_rotation": key.rotation is not None,
        "deletion_window_in_days": key.window,
        "multi_region": bool(key.replicas),
        # AWS refuses a policy that its writer could not replace.
        "bypass_policy_lockout_safety_check": False,
        "tags": dict(sorted(key.tags.items())),
    }
    if key.rotation is not None:
        made["rotation_period_in_days"] = key.rotation.days
    label = _label(key.name)
    resources.setdefault("aws_kms_key", {})[label] = _placed(made, key, default)
    for region in key.replicas:
        replica: Json = {
            "provider": f"aws.{region}", "primary_key_arn": f"${{aws_kms_key.{label}.arn}}",
            "description": key.about, "policy": _policy_of(key),
            "deletion_window_in_days": key.window, "bypass_policy_lockout_safety_check": False,
            "tags": dict(sorted(key.tags.items())),
        }  # fmt: skip
        if region == default:
            del replica["provider"]
        resources.setdefault("aws_kms_replica_key", {})[f"{label}-{region}"] = replica
    if key.alias is not None:
        alias = {"name": f"alias/{key.alias}", "target_key_id": f"${{aws_kms_key.{label}.key_id}}"}
        resources.setdefault("aws_kms_alias", {})[label] = _placed(alias, key, default)


def _identities(rendering: AwsRendering, resources: dict[str, Json], data: dict[str, Json]) -> None:
    arns: dict[str, str] = {}
    for key in rendering.keys:
        if key.made:
            arns[key.name] = f"${{aws_kms_key.{_label(key.name)}.arn}}"
        elif key.arn is not None:
            arns[key.name] = key.arn
    for number, name in enumerate(rendering.uses, 1):
        policy = rendering.identity_policy(name, arns)
        if policy is None:
            continue
        label = f"principal-{number}"
        data.setdefault("aws_iam_policy_document", {})[label] = {"statement": [
            {"sid": each["Sid"], "effect": each["Effect"], "actions": each["Action"], "resources": each["Resource"]}
            for each in policy["Statement"]
        ]}  # fmt: skip
        resources.setdefault("aws_iam_policy", {})[label] = {
            "name": f"lacre-{number}",
            "description": f"KMS keys of {name}",
            "policy": f"${{data.aws_iam_policy_document.{label}.json}}",
        }
        for place, arn in enumerate(_attachable(rendering, name), 1):
            kind, _, path = arn.split(":", 5)[5].partition("/")
            who = path.rpartition("/")[2]
            attached = f"{label}-{place}"
            resources.setdefault(f"aws_iam_{kind}_policy_attachment", {})[attached] = {
                kind: who, "policy_arn": f"${{aws_iam_policy.{label}.arn}}",
            }  # fmt: skip
            if rendering.boundary is not None and kind == "role":
                data.setdefault("aws_iam_role", {})[attached] = _bounded(who, rendering.boundary)


def _bounded(role: str, boundary: str) -> Json:
    return {
        "name": role,
        "lifecycle": {"postcondition": [{
            "condition": f'${{self.permissions_boundary == "{boundary}"}}',
            "error_message": f"The role {role} has not the permission boundary {boundary}.",
        }]},
    }  # fmt: skip


def _attachable(rendering: AwsRendering, name: str) -> list[str]:
    # A role of another account is that account's to attach to.
    held: Mapping[str, tuple[str, ...]] = rendering.principals
    return [arn for arn in sorted(held.get(name, ())) if arn.split(":")[4] == rendering.account]


def _policy_of(key: AwsKey) -> str:
    return f'${{file("${{path.module}}/keys/{key.name}.json")}}'


def _placed(resource: Json, key: AwsKey, default: str) -> Json:
    return resource if key.region == default else {"provider": f"aws.{key.region}"} | resource


def _label(name: str) -> str:
    # Names of Terraform have letters, digits, dashes and underscores, where those of lacre may have dots.
    return name.replace("_", "__").replace(".", "_")
