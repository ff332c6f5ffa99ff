# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` means for AWS: a policy for each KMS key, and for each principal what it may call.

The key policy decides: nothing in it hands the key over to identity policies but the statements for
AWS services. Those are rendered too, with exact ARNs, so that a role has no other key of any account,
and a boundary that keeps roles from administering. Renders rights that hold by themselves: what only
a grant gives is not among them. Calls nothing; the statements are `lacre.policy.rendering.statements`.
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lacre.errors import ConfigurationError
from lacre.keys.kms_keys import expanded, is_alias, scheme_of
from lacre.policy.model import ClassPolicy, PolicyFile, Right
from lacre.policy.principals import Duty
from lacre.policy.rendering.statements import (
    Allowed,
    Json,
    administration,
    break_glass,
    context_of,
    denials,
    denials_of_context,
    looking,
    partition_of,
    through_services,
)

__all__ = ["AwsKey", "AwsRendering", "render_aws"]

_LONGEST_KEY_POLICY: Final = 32 * 1024
_LONGEST_IDENTITY_POLICY: Final = 6144
_WINDOW: Final = 30
_VERSION: Final = "2012-10-17"

_ADMINISTERED_BY_NONE: Final = (
    "kms:CancelKeyDeletion", "kms:CreateGrant", "kms:CreateKey", "kms:DeleteAlias", "kms:DisableKey",
    "kms:DisableKeyRotation", "kms:ImportKeyMaterial", "kms:PutKeyPolicy", "kms:ReplicateKey",
    "kms:RevokeGrant", "kms:ScheduleKeyDeletion", "kms:UpdateAlias", "kms:UpdatePrimaryRegion",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKey:
    """
    A KMS key and its policy. *name* is what it is for: ``pii-fields``, ``department-finance``.

    *kms_key* is its URI, pinned where `lacre.lock` knows it. *made* says that it is one to be created;
    the keys of epochs and those that a move leaves behind are not.
    """

    name: str
    kms_key: str
    alias: str | None
    about: str
    policy: Mapping[str, Any]
    rotation: dt.timedelta | None
    window: int
    replicas: tuple[str, ...]
    tags: Mapping[str, str]
    made: bool = True

    @property
    def region(self) -> str:
        return self.kms_key.split("/")[2]

    @property
    def arn(self) -> str | None:
        """The key's ARN; None of an alias that nobody pinned."""
        if is_alias(self.kms_key):
            return None
        _, _, region, account, _, id_ = self.kms_key.split("/")
        return f"arn:{partition_of(region)[0]}:kms:{region}:{account}:key/{id_}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsRendering:
    """
    What AWS has to have.

    *uses* says of each principal, by its name in `lacre.toml`, which keys it may call with which
    actions; *administer* are the ARNs of those whom the boundary does not hold back.
    """

    account: str
    keys: tuple[AwsKey, ...]
    uses: Mapping[str, Mapping[tuple[str, ...], tuple[str, ...]]]
    administer: tuple[str, ...]
    principals: Mapping[str, tuple[str, ...]]
    boundary: str | None = None

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The keys that no identity policy can name yet."""
        return tuple(key.name for key in self.keys if key.arn is None)

    def identity_policy(self, principal: str, arns: Mapping[str, str] | None = None) -> Json | None:
        """
        Return what *principal*'s role may call, on exactly its keys; None while one has no ARN.

        Args:
            arns: of keys by their names, for example references of Terraform; by default the pinned.
        """
        known = dict(arns) if arns is not None else {k.name: k.arn for k in self.keys if k.arn}
        statements = []
        for number, (actions, names) in enumerate(sorted(self.uses[principal].items()), 1):
            if not all(name in known for name in names):
                return None
            statements.append({
                "Sid": f"Keys{number}", "Effect": "Allow", "Action": list(actions),
                "Resource": sorted({known[name] for name in names}),
            })  # fmt: skip
        policy = {"Version": _VERSION, "Statement": statements}
        return _fits(policy, _LONGEST_IDENTITY_POLICY, f"the identity policy of {principal}")

    def boundary_policy(self) -> Json:
        """Return a permission boundary: it gives nothing, and denies administering keys to all but administrators."""
        held: Json = {
            "Sid": "DenyAdministeringKeys", "Effect": "Deny",
            "Action": list(_ADMINISTERED_BY_NONE), "Resource": "*",
        }  # fmt: skip
        if self.administer:
            held["Condition"] = {"ArnNotEquals": {"aws:PrincipalArn": list(self.administer)}}
        rest = {"Sid": "WhatIdentityPoliciesAllow", "Effect": "Allow", "Action": "*", "Resource": "*"}  # fmt: skip
        return {"Version": _VERSION, "Statement": [rest, held]}

    def service_control_policy(self) -> Json:
        """Return the denials for an organisation: nobody but administrators ends, opens or stops rotating a key."""
        ending = ["kms:DeleteAlias", "kms:DeleteImportedKeyMaterial", "kms:DisableKey", "kms:DisableKeyRotation", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:UpdateAlias"]  # fmt: skip
        but = [*self.administer, f"arn:{self._partition}:iam::{self.account}:root"]
        return {"Version": _VERSION, "Statement": [
            {"Sid": "DenyEndingAndOpeningKeys", "Effect": "Deny", "Action": ending, "Resource": "*",
             "Condition": {"ArnNotEquals": {"aws:PrincipalArn": sorted(but)}}},
            {"Sid": "DenyBypassOfTheLockoutCheck", "Effect": "Deny",
             "Action": ["kms:CreateKey", "kms:PutKeyPolicy"], "Resource": "*",
             "Condition": {"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}},
        ]}  # fmt: skip

    @property
    def _partition(self) -> str:
        return partition_of(self.keys[0].region)[0]

    def files(self) -> dict[str, str]:
        """Return each document by the name of its file."""
        found = {f"keys/{key.name}.json": dict(key.policy) for key in self.keys}
        for name in self.uses:
            if (policy := self.identity_policy(name)) is not None:
                found[f"identities/{_file(name)}.json"] = policy
        found["boundary.json"] = self.boundary_policy()
        found["service-control-policy.json"] = self.service_control_policy()
        return {name: text_of(found[name]) for name in sorted(found)}

    def to_json(self) -> Json:
        """Return the same as data."""
        return {
            "target": "aws",
            "account": self.account,
            "keys": [
                {
                    "name": key.name, "kms_key": key.kms_key, "alias": key.alias,
                    "rotation_days": None if key.rotation is None else key.rotation.days,
                    "deletion_window_days": key.window, "replicas": list(key.replicas),
                    "tags": dict(sorted(key.tags.items())), "made": key.made, "policy": key.policy,
                }
                for key in self.keys
            ],
            "identities": {name: self.identity_policy(name) for name in self.uses},
            "boundary": {"attached": self.boundary, "policy": self.boundary_policy()},
            "service_control_policy": self.service_control_policy(),
            "unpinned": list(self.unpinned),
        }  # fmt: skip


def render_aws(
    file: PolicyFile, *, pins: Mapping[str, str] | None = None, tenant: str | None = None
) -> AwsRendering:
    """
    Return what *file* needs of AWS.

    Args:
        pins: what `lacre.lock` says aliases stand for.
        tenant: pin the keys of classes to this one; otherwise to none.

    Raises:
        ConfigurationError: no KMS key is there, one is for two things, its account is not said, or a
            policy is longer than AWS takes.
    """
    if tenant is not None and not 1 <= len(tenant) <= 255:
        raise ConfigurationError("a tenant is a name of 1 to 255 characters")
    return _Plan(file, dict(pins or {}), tenant).rendering()


def text_of(document: Mapping[str, Any]) -> str:
    """Return *document* as the text of a file, the same for the same document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


class _Use:
    """What one key is for: a class's fields or index, epochs, direct use, a department."""

    def __init__(self, what: str, name: str, uri: str, *, old: bool = False) -> None:
        self.what, self.name, self.uri, self.old = what, name, uri, old


class _Plan:
    def __init__(self, file: PolicyFile, pins: Mapping[str, str], tenant: str | None) -> None:
        self.file, self.pins, self.tenant = file, pins, tenant
        self.by_key: dict[str, list[_Use]] = defaultdict(list)
        for use in self._uses():
            if scheme_of(use.uri) == "aws-kms":
                self.by_key[pins.get(use.uri, use.uri)].append(use)
        if not self.by_key:
            raise ConfigurationError(
                "no KMS key of lacre.toml is in AWS",
                hint='kms_keys = "aws-kms://REGION/alias/NAME-{class}-{use}", and an [aws] table',
            )
        for uri, uses in self.by_key.items():
            if len({"class" if use.what in {"fields", "index"} else use.name for use in uses}) > 1:
                raise ConfigurationError(
                    f"{uri} is for {' and '.join(sorted(use.name for use in uses))}",
                    hint="a KMS key has one use: what may use it for one could for the other",
                )

    @cached_property
    def account(self) -> str:
        environment = self.file.environments.get(self.file.env)
        if environment is not None and environment.account is not None:
            return environment.account
        for uri in self.by_key:
            if not is_alias(uri):
                return uri.split("/")[3]
        raise ConfigurationError(
            "lacre.toml does not say in which account the KMS keys are",
            hint=f'[environments.{self.file.env}] account = "123456789012"',
        )

    def _uses(self) -> Iterator[_Use]:
        file = self.file
        for name, declared in sorted(file.classes.items()):
            kinds = (("fields", declared.fields), ("index", declared.index))
            for use, uri in kinds:
                if uri is None:
                    continue
                yield _Use(use, f"{name}-{use}", uri)
                if file.move is not None:
                    before = expanded(file.move.from_, class_=name, use=use)
                    if self.pins.get(before, before) != self.pins.get(uri, uri):
                        yield _Use(use, f"{name}-{use}-before", before, old=True)
        if file.sealing is not None:
            yield _Use("epochs", "epochs", file.sealing.kms_key)
        for name, key in sorted(file.keys.items()):
            yield _Use("key", f"key-{name}", key.kms_key)
        for name, department in sorted(file.departments.items()):
            yield _Use("department", f"department-{name}", department.kms_key)

    def rendering(self) -> AwsRendering:
        keys, called = [], defaultdict[str, dict[tuple[str, ...], set[str]]](lambda: defaultdict(set))  # fmt: skip
        for uri, uses in self.by_key.items():
            name = uses[0].name
            given: list[tuple[str, Allowed]] = []
            for use in uses:
                given += self._allowed(use)
            for who, allowed in given:
                called[who][tuple(sorted(allowed.actions))].add(name)
            keys.append(self._key(name, uri, uses, given))
        by_arn = {name: p.aws for name, p in sorted(self.file.principals.items()) if p.aws}
        return AwsRendering(
            account=self.account,
            keys=tuple(sorted(keys, key=lambda key: key.name)),
            uses={
                name: {actions: tuple(sorted(names)) for actions, names in sorted(called[name].items())}
                for name in sorted(called)
            },
            administer=tuple(sorted(self._arns(self._everybody_administering()))),
            principals=by_arn,
            boundary=self.file.governance.boundary,
        )  # fmt: skip

    def _key(self, name: str, uri: str, uses: list[_Use], given: list[tuple[str, Allowed]]) -> AwsKey:  # fmt: skip
        file, first, region = self.file, uses[0], uri.split("/")[2]
        partition, _ = partition_of(region)
        environment = file.environments.get(file.env)
        security = None if environment is None else environment.security_account
        window = self._window(first)
        root = f"arn:{partition}:iam::{self.account}:root"
        statements = [
            break_glass(root, mfa=file.governance.mfa),
            *administration(self._arns(self._administrators(uses)), window),
            *looking(self._arns(self._auditors()), partition, security),
            *(each.statement() for each in _merged(given)),
        ]
        statements += self._services(first, region) + self._denied(uses)
        users = {arn.split(":")[4] for _, each in given for arn in each.who}
        logs = environment.logs_account if environment is not None and self._of_logs(first) else None  # fmt: skip
        statements += denials({self.account, *users, *({logs} if logs else ())}, direct=first.what == "key")  # fmt: skip
        policy = {"Version": _VERSION, "Id": f"lacre:{file.app}:{file.env}:{name}", "Statement": statements}  # fmt: skip
        alias = next((use.uri for use in uses if is_alias(use.uri)), None)
        replicas = file.aws.replicas.get(region, ()) if file.aws and first.what in {"fields", "index"} else ()  # fmt: skip
        return AwsKey(
            name=name, kms_key=uri, alias=None if alias is None else alias.split("/", 3)[3],
            about=f"{name} of {file.service} of {file.app}, {file.env}",
            policy=_fits(policy, _LONGEST_KEY_POLICY, f"the policy of {name}"),
            rotation=self._rotation(first), window=window, replicas=tuple(replicas),
            tags={"app": file.app, "env": file.env, "lacre-key": name, **file.governance.tags},
            made=not (all(use.old for use in uses) or first.what == "epochs"),
        )  # fmt: skip

    def _allowed(self, use: _Use) -> list[tuple[str, Allowed]]:
        """Who may do what with the key of *use*: a principal's name, and its statement."""
        if use.what in {"fields", "index"}:
            return list(self._of_class(use))
        if use.what == "epochs":
            return list(self._of_epochs())
        if use.what == "key":
            key = self.file.keys[use.name.removeprefix("key-")]
            return list(self._using(key.users, "Use", ("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"), context_of(key.context)))  # fmt: skip
        name = use.name.removeprefix("department-")
        department = self.file.departments[name]
        pairs = {"kms:EncryptionContext:" + k: v for k, v in self._department_pairs(name).items()}
        return [
            *self._using(department.producers, "Produce", ("kms:GenerateDataKey",), {"StringEquals": pairs}),
            *self._using(department.readers, "Read", ("kms:Decrypt",), {"StringEquals": pairs}),
        ]  # fmt: skip

    def _of_class(self, use: _Use) -> Iterator[tuple[str, Allowed]]:
        file = self.file
        class_ = use.name.removesuffix("-before").removesuffix(f"-{use.what}")
        kind = "index" if use.what == "index" else "branch"
        pairs = {"app": file.app, "class": class_, "env": file.env, "kind": kind, "service": file.service}  # fmt: skip
        if self.tenant is not None:
            pairs["tenant"] = self.tenant
        end = None
        if file.move is not None:
            # `until` is a day on which it still holds.
            end = f"{file.move.until + dt.timedelta(days=1)}T00:00:00Z"
        needed = {Right.ENCRYPT, Right.SEARCH} if kind == "index" else {Right.ENCRYPT, Right.DECRYPT}  # fmt: skip
        # The names of classes are other than Sids may be, so a number tells those of one key apart.
        mark = kind.capitalize() + ("Before" if use.old else "") + str(sorted(file.classes).index(class_) + 1)  # fmt: skip
        standing = context_of(pairs, until=end if use.old else None)
        yield from self._using(self._holders(file.classes[class_], needed), f"Unwrap{mark}", ("kms:Decrypt",), standing)  # fmt: skip
        if not use.old:
            yield from self._using(self._with(Duty.PROVISION), f"Mint{mark}", ("kms:GenerateDataKeyWithoutPlaintext",), context_of(pairs))  # fmt: skip
            same = context_of(pairs, same_key=True)
            yield from self._using(self._with(Duty.REWRAP), f"Rewrap{mark}", ("kms:ReEncryptFrom", "kms:ReEncryptTo"), same)  # fmt: skip
        if file.move is not None and (actions := self._moving(use, class_)):
            yield from self._using(self._with(Duty.MIGRATE), f"Move{mark}", actions, context_of(pairs, until=end))  # fmt: skip

    def _moving(self, use: _Use, class_: str) -> tuple[str, ...]:
        """What takes keys from the old KMS key to the present one, at this end of it."""
        assert self.file.move is not None
        declared = self.file.classes[class_]
        now = declared.index if use.what == "index" else declared.fields
        before = expanded(self.file.move.from_, class_=class_, use=use.what)
        if now is None or self.pins.get(now, now) == self.pins.get(before, before):
            return ()
        if scheme_of(now) == scheme_of(before) and now.split("/")[2] == before.split("/")[2]:
            return ("kms:ReEncryptFrom",) if use.old else ("kms:ReEncryptTo",)
        # From another region or key service KMS cannot take it: unwrapped there, wrapped here.
        return ("kms:Decrypt",) if use.old else ("kms:Encrypt",)

    def _of_epochs(self) -> Iterator[tuple[str, Allowed]]:
        file = self.file
        assert file.sealing is not None
        pairs = {"app": file.app, "class": "-", "env": file.env, "kind": "seal", "service": file.service, "tenant": "-"}  # fmt: skip
        context = context_of(pairs)
        reading = {
            name
            for class_ in file.sealing.classes
            for name in self._holders(file.classes[class_], {Right.ENCRYPT, Right.DECRYPT})
        }
        sealing = self._with(Duty.SEAL)
        yield from self._using({*reading, *sealing}, "Unwrap", ("kms:Decrypt",), context)
        yield from self._using(sealing, "Seal", ("kms:GenerateDataKeyWithoutPlaintext",), context)
        window = {"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": str(self._window(_Use("epochs", "", "")))}}  # fmt: skip
        yield from self._using(sealing, "EndEpoch", ("kms:ScheduleKeyDeletion",), window)

    def _using(self, who: Iterable[str], sid: str, actions: tuple[str, ...], condition: Json) -> Iterator[tuple[str, Allowed]]:  # fmt: skip
        for name in sorted({*who}):
            if arns := self.file.principals[name].aws:
                yield name, Allowed(sid=sid, who=arns, actions=actions, condition=condition)
                yield name, Allowed(sid="Describe", who=arns, actions=("kms:DescribeKey",))

    def _holders(self, declared: ClassPolicy, needed: set[Right]) -> list[str]:
        return [
            name
            for name, principal in self.file.principals.items()
            if any(needed & declared.rights.get(role, frozenset()) for role in principal.roles)
        ]

    def _with(self, duty: Duty) -> list[str]:
        return [name for name, each in self.file.principals.items() if duty in each.duties]

    def _administrators(self, uses: list[_Use]) -> set[str]:
        file, found = self.file, set[str]()
        for use in uses:
            declared: tuple[str, ...] | None = None
            if use.what == "key":
                declared = file.keys[use.name.removeprefix("key-")].administrators
            elif use.what == "department":
                declared = file.departments[use.name.removeprefix("department-")].administrators
            elif use.what != "epochs":
                class_ = use.name.removesuffix("-before").removesuffix(f"-{use.what}")
                declared = file.classes[class_].administrators
            found |= {*file.governance.administrators} if declared is None else {*declared}
        # The duty is for every key that names nobody.
        return found or {*self._with(Duty.ADMINISTER)}

    def _everybody_administering(self) -> set[str]:
        named = {*self.file.governance.administrators, *self._with(Duty.ADMINISTER)}
        tables = (self.file.keys, self.file.departments, self.file.classes)
        return named.union(*(each.administrators or () for table in tables for each in table.values()))  # fmt: skip

    def _auditors(self) -> set[str]:
        return {*self.file.governance.auditors, *self._with(Duty.AUDIT)}

    def _arns(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({arn for name in names for arn in self.file.principals[name].aws}))

    def _of_logs(self, use: _Use) -> bool:
        return use.what == "key" and self.file.keys[use.name.removeprefix("key-")].purpose == "logs"

    def _services(self, use: _Use, region: str) -> list[Json]:
        if use.what != "key":
            return []
        key = self.file.keys[use.name.removeprefix("key-")]
        environment = self.file.environments.get(self.file.env)
        logs = environment.logs_account if environment is not None and self._of_logs(use) else None
        return through_services(key.services, key.encrypts, region=region, account=self.account, logs_account=logs)  # fmt: skip

    def _denied(self, uses: list[_Use]) -> list[Json]:
        first, file = uses[0], self.file
        if first.what == "key":
            key = file.keys[first.name.removeprefix("key-")]
            users = self._arns(key.users)
            return denials_of_context(key.context, who=users) if users else []
        if first.what == "department":
            return denials_of_context(self._department_pairs(first.name.removeprefix("department-")))  # fmt: skip
        pairs = {"app": file.app, "env": file.env}
        return denials_of_context(pairs, ("lacre-key", "lacre-row", "tenant"))

    def _department_pairs(self, name: str) -> dict[str, str]:
        # One pair for each department of an audience, because a message has one context for all.
        return {"app": self.file.app, "env": self.file.env, f"for-{name}": "1"}

    def _rotation(self, use: _Use) -> dt.timedelta | None:
        if use.what == "key":
            return self.file.keys[use.name.removeprefix("key-")].rotates_after(self.file.governance)
        # An epoch's key ends with it, and is not rotated.
        return None if use.what == "epochs" else self.file.governance.rotation

    def _window(self, use: _Use) -> int:
        if use.what == "epochs" and self.file.sealing is not None and self.file.sealing.waiting:
            return self.file.sealing.waiting.days
        window = self.file.governance.deletion_window
        if use.what == "key":
            window = self.file.keys[use.name.removeprefix("key-")].waits(self.file.governance)
        return _WINDOW if window is None else window.days


def _merged(given: Iterable[tuple[str, Allowed]]) -> list[Allowed]:
    """One statement for all who may do the same."""
    who: dict[str, set[str]] = defaultdict(set)
    found: dict[str, Allowed] = {}
    for _, each in given:
        who[each.sid] |= {*each.who}
        found.setdefault(each.sid, each)
    return [
        Allowed(sid=sid, who=tuple(sorted(who[sid])), actions=each.actions, condition=each.condition)
        for sid, each in sorted(found.items())
    ]  # fmt: skip


def _fits(policy: Json, longest: int, what: str) -> Json:
    size = len(json.dumps(policy, separators=(",", ":")).encode())
    if size > longest:
        raise ConfigurationError(
            f"{what} has {size} bytes, and AWS takes {longest}",
            hint="fewer classes or principals for one key: a class may have KMS keys of its own",
        )
    return policy


def _file(principal: str) -> str:
    # A principal's name has any letters; a file's has few, and two names must not be one.
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else f"%{ord(c):02x}" for c in principal)  # fmt: skip
