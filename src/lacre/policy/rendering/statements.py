# SPDX-License-Identifier: Apache-2.0
"""
Statements of AWS key policies: who administers, who uses, and what is denied to everybody.

An allowing statement names its principals, its actions and the wrap context that it is for; never
``kms:*``, and only a denial is for everybody. Implements ``spec/key-services.md``, section 4.2. Does
not know which key is for what (`lacre.policy.rendering.aws`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "Allowed",
    "Json",
    "administration",
    "break_glass",
    "context_of",
    "denials",
    "denials_of_context",
    "looking",
    "partition_of",
    "through_services",
]

Json = dict[str, Any]

PAIRS: Final = ("app", "class", "env", "kind", "lacre-key", "lacre-row", "service", "tenant")
_PINNED: Final = ("app", "class", "env", "kind", "service")
_PAIR: Final = "kms:EncryptionContext:"
_NAMES: Final = "kms:EncryptionContextKeys"
_USING: Final = (
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)
_ADMINISTERING: Final = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:ReplicateKey",
    "kms:RevokeGrant",
    "kms:RotateKeyOnDemand",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)
_LOOKING: Final = (
    "kms:DescribeKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListKeyRotations",
    "kms:ListResourceTags",
)
# What KMS lets another account do at all, of looking.
_FROM_ELSEWHERE: Final = ("kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListGrants")

# What each AWS service asks of KMS in the name of whoever calls it.
_OF_SERVICES: Final = {
    "dynamodb": ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
    "ec2": ("kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
}  # fmt: skip
_MOSTLY: Final = ("kms:Decrypt", "kms:GenerateDataKey")
# These go on through grants that they take for themselves.
_GRANTED: Final = {"backup", "dynamodb", "ec2", "elasticache", "kafka", "lambda", "rds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What some principals may do with a key. *who* are ARNs of roles and users."""

    sid: str
    who: tuple[str, ...]
    actions: tuple[str, ...]
    condition: Mapping[str, Any] = field(default_factory=dict)

    def statement(self) -> Json:
        """Return the statement of the key policy."""
        return _allow(self.sid, {"AWS": sorted(self.who)}, self.actions, self.condition)


def partition_of(region: str) -> tuple[str, str]:
    """Return the partition of *region*, and the domain of its services."""
    if region.startswith("cn-"):
        return "aws-cn", "amazonaws.com.cn"
    return ("aws-us-gov" if region.startswith("us-gov-") else "aws"), "amazonaws.com"


def context_of(pairs: Mapping[str, str], *, until: str | None = None, same_key: bool = False) -> Json:  # fmt: skip
    """
    Return the condition that a call has exactly the wrap context of *pairs*.

    Pairs that every key has and *pairs* leaves out, the tenant among them, may have any value; none
    may be missing, and none may be there besides. Before *until*; with *same_key* re-encryption may
    not change the key.
    """
    names = PAIRS if "kind" in pairs else tuple(sorted(pairs))
    condition: Json = {
        "ForAllValues:StringEquals": {_NAMES: list(names)},
        "StringEquals": {_PAIR + name: pairs[name] for name in sorted(pairs)},
    }
    if loose := [name for name in names if name not in pairs]:
        condition["Null"] = {_PAIR + name: "false" for name in loose}
    if same_key:
        condition["Bool"] = {"kms:ReEncryptOnSameKey": "true"}
    if until is not None:
        condition["DateLessThan"] = {"aws:CurrentTime": until}
    return condition


def break_glass(root: str, *, mfa: bool) -> Json:
    """
    Return the last way in: the account's root may replace the policy, and nothing else.

    The condition keeps the statement from handing the key over to identity policies, as a statement
    for an account does.
    """
    condition: Json = {"ArnEquals": {"aws:PrincipalArn": root}}
    if mfa:
        condition["Bool"] = {"aws:MultiFactorAuthPresent": "true"}
    actions = (*_LOOKING, "kms:PutKeyPolicy")
    return _allow("BreakGlass", {"AWS": root}, actions, condition)


def administration(who: tuple[str, ...], window: int) -> list[Json]:
    """Return what administrators may, and that using the key is denied to them whatever else says."""
    if not who:
        return []
    after = {"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": str(window)}}  # fmt: skip
    principals = {"AWS": sorted(who)}
    return [
        _allow("Administer", principals, _ADMINISTERING),
        _allow("AdministerDeletion", principals, ("kms:ScheduleKeyDeletion",), after),
        _deny("AdministratorsDoNotUse", principals, (*_USING, "kms:CreateGrant")),
    ]


def looking(auditors: tuple[str, ...], partition: str, security_account: str | None) -> list[Json]:
    """Return what auditors may, and the security account: read settings."""
    told = [_allow("Audit", {"AWS": sorted(auditors)}, _LOOKING)] if auditors else []
    if security_account is not None:
        root = f"arn:{partition}:iam::{security_account}:root"
        told.append(_allow("SecurityAccountLooks", {"AWS": root}, _FROM_ELSEWHERE, _called_from(security_account)))  # fmt: skip
    return told


def denials(accounts: Iterable[str], *, direct: bool) -> list[Json]:
    """
    Return what stands against identity policies and grants: no other account, no grant between people.

    *direct* leaves alone what comes through an AWS service, whose own principals go on by grants.
    """
    outside: Json = {
        "Bool": {"aws:PrincipalIsAWSService": "false"},
        "StringNotEquals": {"aws:PrincipalAccount": sorted(set(accounts))},
    }
    if direct:
        outside["Null"] = {"kms:ViaService": "true"}
    people = {"Bool": {"kms:GrantIsForAWSResource": "false"}}
    return [
        _deny("DenyGrantsBetweenPeople", {"AWS": "*"}, ("kms:CreateGrant",), people),
        _deny("DenyOtherAccounts", {"AWS": "*"}, (*_USING, "kms:CreateGrant"), outside),
    ]


def denials_of_context(
    pairs: Mapping[str, str], present: Iterable[str] = (), *, who: tuple[str, ...] = ()
) -> list[Json]:
    """
    Return the denials of calls without *pairs* or without the names *present*.

    `StringNotEquals` is met where the pair is missing, too. To everybody; or to *who* alone where AWS
    services use the key too, under contexts of their own.
    """
    principal: Json = {"AWS": sorted(who) if who else "*"}
    only: Json = {"Null": {"kms:ViaService": "true"}} if who else {}
    told = []
    for number, name in enumerate(sorted(pairs), 1):
        condition = {"StringNotEquals": {_PAIR + name: pairs[name]}} | only
        told.append(_deny(f"DenyOther{_camel(name)}{number}", principal, _USING, condition))
    for name in sorted(present):
        condition = {"Null": {_PAIR + name: "true"}}
        told.append(_deny(f"DenyWithout{_camel(name)}", principal, _USING, condition))
    return told


def through_services(
    services: Iterable[str], encrypts: Iterable[str], *, region: str, account: str,
    logs_account: str | None,
) -> list[Json]:  # fmt: skip
    """
    Return what AWS services may do with a key for what they store, each in statements of its own.

    In the name of callers of this account whose identity policies allow it, and through that service
    alone; CloudWatch Logs and CloudTrail call by themselves, for this account's log groups and
    trails.
    """
    partition, domain = partition_of(region)
    root = {"AWS": f"arn:{partition}:iam::{account}:root"}
    told: list[Json] = []
    objects = [part for arn in sorted(encrypts) if ":s3:::" in arn for part in (arn, f"{arn}/*")]
    for service in sorted(set(services)):
        if service == "logs":
            groups = {"ArnLike": {_PAIR + "aws:logs:arn": f"arn:{partition}:logs:{region}:{account}:log-group:*"}}  # fmt: skip
            told.append(_allow("ServiceLogs", {"Service": f"logs.{region}.{domain}"}, (*_OF_SERVICES["dynamodb"][:3], "kms:ReEncryptFrom", "kms:ReEncryptTo"), groups))  # fmt: skip
            continue
        if service == "cloudtrail":
            trails = f"arn:{partition}:cloudtrail:*:{account}:trail/*"
            ours = {"StringEquals": {"aws:SourceAccount": account}}
            trail = ours | {"StringLike": {_PAIR + "aws:cloudtrail:arn": trails, "aws:SourceArn": trails}}  # fmt: skip
            told += [
                _allow("ServiceCloudtrail", {"Service": "cloudtrail.amazonaws.com"}, ("kms:GenerateDataKey",), trail),
                _allow("ServiceCloudtrailDescribes", {"Service": "cloudtrail.amazonaws.com"}, ("kms:DescribeKey",), ours),
            ]  # fmt: skip
            continue
        condition = _called_from(account, via=f"{service}.{region}.{domain}")
        if service == "s3" and objects:
            condition["ArnLike"] = {_PAIR + "aws:s3:arn": objects}
        sid = f"Service{_camel(service)}"
        told.append(_allow(sid, root, _OF_SERVICES.get(service, _MOSTLY), condition))
        described = _called_from(account, via=f"{service}.{region}.{domain}")
        told.append(_allow(f"{sid}Describes", root, ("kms:DescribeKey",), described))
        if service in _GRANTED:
            grants = {**described, "Bool": {"kms:GrantIsForAWSResource": "true"}}
            told.append(_allow(f"{sid}Grants", root, ("kms:CreateGrant",), grants))
    if logs_account is not None:
        theirs = {"AWS": f"arn:{partition}:iam::{logs_account}:root"}
        read = _called_from(logs_account, via=f"s3.{region}.{domain}")
        if objects:
            read["ArnLike"] = {_PAIR + "aws:s3:arn": objects}
        told += [
            _allow("LogsAccountReads", theirs, ("kms:Decrypt",), read),
            _allow("LogsAccountLooks", theirs, ("kms:DescribeKey",), _called_from(logs_account)),
        ]
    return told


def _called_from(account: str, *, via: str | None = None) -> Json:
    tests = {"kms:CallerAccount": account}
    return {"StringEquals": tests if via is None else tests | {"kms:ViaService": via}}


def _camel(text: str) -> str:
    # A Sid has letters and digits only.
    return "".join(part.capitalize() for part in text.replace("_", "-").replace(".", "-").replace(":", "-").split("-"))  # fmt: skip


def _allow(sid: str, who: Json, actions: Iterable[str], condition: Mapping[str, Any] | None = None) -> Json:  # fmt: skip
    return _statement("Allow", sid, who, actions, condition)


def _deny(sid: str, who: Json, actions: Iterable[str], condition: Mapping[str, Any] | None = None) -> Json:  # fmt: skip
    return _statement("Deny", sid, who, actions, condition)


def _statement(
    effect: str, sid: str, who: Json, actions: Iterable[str], condition: Mapping[str, Any] | None
) -> Json:
    told: Json = {"Sid": sid, "Effect": effect, "Principal": who, "Action": sorted(set(actions)), "Resource": "*"}  # fmt: skip
    return told | ({"Condition": dict(condition)} if condition else {})
