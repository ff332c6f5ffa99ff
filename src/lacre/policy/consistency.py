# SPDX-License-Identifier: Apache-2.0
"""
What must be true of `lacre.toml` as a whole: what it names is there, and stays where data may be.

Each check raises ValueError with the sentence a person needs; a file that fails one is not loaded
at all. What may be true and should not be is `lacre.policy.lints`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from lacre.policy.model import PolicyFile

__all__ = ["Inconsistent", "check_governance", "region_of"]

Place = tuple[str, ...]

_LOCAL = {"127.0.0.1", "::1", "localhost"}
_AWS_HOST = re.compile(r"[a-z0-9.-]+\.([a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2})\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")  # fmt: skip


class Inconsistent(ValueError):
    """A setting, at *path*, that cannot stand beside the rest of the file."""

    def __init__(self, path: tuple[str, ...], sentence: str) -> None:
        self.path = path
        super().__init__(sentence)


def region_of(kms_key: str) -> str | None:
    """Return the region that the URI of an AWS key names; None of any other."""
    return kms_key.split("/")[2] if kms_key.startswith("aws-kms://") else None


def check_governance(file: PolicyFile) -> None:
    """
    Check what tables say of one another.

    Raises:
        Inconsistent: something is named that is not there, or is where it may not be.
    """
    if file.environments and file.env not in file.environments:
        raise Inconsistent(("env",), f"there is no [environments.{file.env}]")
    _check_roles(file)
    _check_purposes(file)
    _check_principals(file)
    _check_columns(file)
    _check_grants(file)
    _check_residency(file)
    _check_account(file)


def _check_roles(file: PolicyFile) -> None:
    if not file.roles:
        return  # roles are what rights name
    used: dict[Place, Iterable[str]]
    used = {
        ("classes", name): {*each.rights, *each.on_grant} for name, each in file.classes.items()
    }
    used |= {("principals", name): each.roles for name, each in file.principals.items()}
    _all_there(used, file.roles, "role", "[roles.{}]")


def _check_purposes(file: PolicyFile) -> None:
    if file.purposes is None:
        return
    used: dict[Place, Iterable[str]]
    used = {("classes", name): each.purposes or () for name, each in file.classes.items()}
    used |= {("roles", name): each.purposes or () for name, each in file.roles.items()}
    _all_there(used, file.purposes, "purpose", "purposes")


def _check_principals(file: PolicyFile) -> None:
    used: dict[Place, Iterable[str]] = {
        ("governance", "administrators"): file.governance.administrators,
        ("governance", "auditors"): file.governance.auditors,
    }
    for name, key in file.keys.items():
        used["keys", name] = (*key.users, *(key.administrators or ()))
    for name, department in file.departments.items():
        used["departments", name] = (
            *department.readers, *department.producers, *(department.administrators or ()),
        )  # fmt: skip
    for name, class_ in file.classes.items():
        used["classes", name] = class_.administrators or ()
    _all_there(used, file.principals, "principal", '[principals."{}"]')


def _check_columns(file: PolicyFile) -> None:
    owner: dict[str, str] = {}
    for name, class_ in file.classes.items():
        for column in sorted(class_.columns or ()):
            if owner.setdefault(column, name) != name:
                raise Inconsistent(
                    ("classes", name, "columns"), f"{column} is in class {owner[column]} already"
                )
    for column, target in file.columns.items():
        scope = file.classes[target.class_].columns if target.class_ in file.classes else None
        if scope is not None and column not in scope:
            raise Inconsistent(
                ("columns", column), f"classes.{target.class_}.columns does not name it"
            )
        if owner.get(column, target.class_) != target.class_:
            raise Inconsistent(("columns", column), f"it is in class {owner[column]}")


def _check_grants(file: PolicyFile) -> None:
    for name, class_ in file.classes.items():
        if class_.on_grant and len(file.approvers) < 2:
            raise Inconsistent(
                ("classes", name, "on_grant"), "grants take two approvers: [approvers.NAME]"
            )
        if class_.break_glass and file.grants.break_glass is None:
            raise Inconsistent(("classes", name, "break_glass"), "it takes [grants.break_glass]")
    if file.grants.break_glass is not None and not any(
        each.break_glass for each in file.approvers.values()
    ):
        raise Inconsistent(
            ("grants", "break_glass"), "it takes an approver with break_glass = true"
        )
    if len({each.identity for each in file.approvers.values()}) < len(file.approvers):
        raise Inconsistent(
            ("approvers",), "two of them have the same identity, which is one approver"
        )


def _check_residency(file: PolicyFile) -> None:
    allowed = set(file.residency.regions) if file.residency is not None else None
    environment = file.environments.get(file.env)
    if environment is not None and environment.regions:
        if allowed is not None and (outside := sorted({*environment.regions} - allowed)):
            raise Inconsistent(
                ("environments", file.env, "regions"), f"{outside[0]} is not in [residency]"
            )
        allowed = set(environment.regions)
    if allowed is None:
        return
    for where, region in _regions(file):
        if region not in allowed:
            raise Inconsistent(
                where, f"it is in {region}, and data may be in {', '.join(sorted(allowed))} only"
            )
    hosts = _LOCAL | set(file.residency.hosts if file.residency is not None else ())
    for where, address in _endpoints(file):
        host = (urlsplit(address).hostname or "").lower()
        found = _AWS_HOST.fullmatch(host)
        if host not in hosts and (found is None or found[1] not in allowed):
            raise Inconsistent(where, f"{host} is not among residency.hosts")


def _regions(file: PolicyFile) -> Iterator[tuple[Place, str]]:
    named: dict[Place, tuple[str, ...]]
    named = {("classes", name): each.named_keys() for name, each in file.classes.items()}
    named |= {("keys", name): (each.kms_key,) for name, each in file.keys.items()}
    named |= {("departments", name): (each.kms_key,) for name, each in file.departments.items()}
    if file.sealing is not None:
        named["sealing", "kms_key"] = (file.sealing.kms_key,)
    for where, keys in named.items():
        for key in keys:
            if (region := region_of(key)) is not None:
                yield where, region
    if file.aws is not None:
        yield from ((("aws", "regions"), region) for region in file.aws.regions)
        for region, replicas in file.aws.replicas.items():
            yield from ((("aws", "replicas"), each) for each in (region, *replicas))
    for name, store in file.stores.items():
        if store.region is not None:
            yield ("stores", name), store.region
    for name, direct in file.keys.items():
        for arn in direct.encrypts:
            if region := arn.split(":")[3]:
                yield ("keys", name, "encrypts"), region


def _endpoints(file: PolicyFile) -> Iterator[tuple[Place, str]]:
    if file.openbao is not None:
        yield ("openbao", "address"), file.openbao.address
    if file.aws is not None and file.aws.endpoint_url is not None:
        yield ("aws", "endpoint_url"), file.aws.endpoint_url


def _check_account(file: PolicyFile) -> None:
    environment = file.environments.get(file.env)
    if environment is None or environment.account is None:
        return
    named: dict[Place, tuple[str, ...]]
    named = {("classes", name): each.named_keys() for name, each in file.classes.items()}
    named |= {("keys", name): (each.kms_key,) for name, each in file.keys.items()}
    named |= {("departments", name): (each.kms_key,) for name, each in file.departments.items()}
    for where, keys in named.items():
        for key in keys:
            account = key.split("/")[3] if key.startswith("aws-kms://") else ""
            if account.isdecimal() and account != environment.account:
                raise Inconsistent(
                    where,
                    f"it is of account {account}, and {file.env} is account {environment.account}",
                )


def _all_there(
    used: Mapping[Place, Iterable[str]], known: Iterable[str], what: str, where: str
) -> None:
    there = set(known)
    for place, names in used.items():
        for name in sorted(names):
            if name not in there:
                raise Inconsistent(place, f"there is no {what} {name!r}: {where.format(name)}")
