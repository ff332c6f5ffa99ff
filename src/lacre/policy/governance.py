# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` says beside classes: environments, residency, departments, and KMS keys that
AWS services and applications use directly, with those who administer and those who use them apart.

Decides nothing and renders nothing (`lacre.policy.lints`, `lacre.policy.rendering`).
"""

import datetime as dt
import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lacre.policy.principals import PrincipalName
from lacre.policy.values import KmsKey, Period, Region, Table

__all__ = [
    "Account",
    "DepartmentSettings",
    "EnvironmentSettings",
    "GovernanceSettings",
    "KeyPurpose",
    "KmsKeySettings",
    "ResidencySettings",
]

_BOUNDARY = re.compile(r"arn:aws(?:-[a-z]+)*:iam::(?:[0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+")
_ENCRYPTED = re.compile(
    r"arn:aws(?:-[a-z]+)*:[a-z0-9-]+:(?:[a-z0-9-]*):(?:[0-9]{12})?:[^\s*?]{1,512}"
)
_PAIR = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,62}")


def _an_account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise ValueError("an account is its twelve digits, as text")
    return text


def _a_boundary(text: str) -> str:
    if not _BOUNDARY.fullmatch(text):
        raise ValueError("a permission boundary is the ARN of a policy, without wildcards")
    return text


def _a_resource(text: str) -> str:
    if not _ENCRYPTED.fullmatch(text):
        raise ValueError(
            "what is encrypted is named by its ARN, without wildcards: arn:aws:s3:::documents"
        )
    return text


def _a_window(value: dt.timedelta | None) -> dt.timedelta | None:
    if value is not None and not 7 <= value.days <= 30:
        raise ValueError("AWS deletes a KMS key 7 to 30 days after it is asked to")
    return value


def _a_rotation(value: dt.timedelta | None) -> dt.timedelta | None:
    if value is not None and not 90 <= value.days <= 2560:
        raise ValueError("AWS rotates a KMS key every 90 to 2560 days")
    return value


def _pairs(context: dict[str, str]) -> dict[str, str]:
    # Eight at most, in lower case: grants compare names without regard to case, decryption with it.
    if len(context) > 8 or not all(
        _PAIR.fullmatch(name) and 1 <= len(value) <= 384 and value.isprintable()
        for name, value in context.items()
    ):
        raise ValueError("at most eight pairs, names in lower case, values of 1 to 384 characters")
    if any(name.startswith(("aws", "lacre-")) for name in context):
        raise ValueError("names that begin with aws or lacre- are taken")
    return context


Account = Annotated[str, AfterValidator(_an_account)]
Resource = Annotated[str, AfterValidator(_a_resource)]
Window = Annotated[Period, AfterValidator(_a_window)]
Rotation = Annotated[Period, AfterValidator(_a_rotation)]
Context = Annotated[dict[str, str], AfterValidator(_pairs)]

# AWS services that use a KMS key for their own encryption at rest.
Service = Literal[
    "backup",
    "cloudtrail",
    "dynamodb",
    "ec2",
    "elasticache",
    "kafka",
    "lambda",
    "logs",
    "rds",
    "s3",
    "secretsmanager",
    "sns",
    "sqs",
]


class KeyPurpose(StrEnum):
    """What a KMS key is for; one has one purpose."""

    DATA = "data"
    LOGS = "logs"
    SECRETS = "secrets"
    AUDIT = "audit"


class EnvironmentSettings(Table):
    """
    `[environments.NAME]`: where an environment is. `env` is one of them, where there are any.

    *account* is its AWS account; *security_account* reads the settings of its KMS keys,
    *logs_account* reads what is encrypted under those for logs. *regions* are the only ones that
    it may use, where they are fewer than `[residency]` allows.
    """

    account: Account | None = None
    security_account: Account | None = None
    logs_account: Account | None = None
    regions: tuple[Region, ...] = ()


class ResidencySettings(Table):
    """
    `[residency]`: the only *regions* in which a KMS key, a replica or an endpoint may be, and the only *hosts*.

    *hosts* are those of an OpenBao server or another endpoint, whose names tell no region; without
    them such endpoints are refused.
    """

    regions: tuple[Region, ...] = Field(min_length=1)
    hosts: tuple[str, ...] = ()


class GovernanceSettings(Table):
    """
    `[governance]`: what holds for every KMS key that says nothing else.

    *administrators* make, rotate and retire KMS keys and can use none; *auditors* read their
    settings. *rotation* and *deletion_window* are of AWS keys; *boundary* is the permission
    boundary that rendered roles must have. *mfa* asks for it of the account's root, which is the
    last way in.
    """

    administrators: tuple[PrincipalName, ...] = ()
    auditors: tuple[PrincipalName, ...] = ()
    rotation: Rotation = dt.timedelta(days=365)
    deletion_window: Window = None
    boundary: Annotated[str, AfterValidator(_a_boundary)] | None = None
    mfa: bool = True
    tags: dict[str, str] = Field(default_factory=dict)


class KmsKeySettings(Table):
    """
    `[keys.NAME]`: a KMS key that is used directly: by AWS services for what they store, or by the application.

    *services* use it for what *encrypts* names, through themselves alone. *users* are principals
    that encrypt and decrypt with it, only ever with the pairs of *context*. What is left out is
    `[governance]`'s.
    """

    kms_key: KmsKey
    purpose: KeyPurpose
    services: tuple[Service, ...] = ()
    users: tuple[PrincipalName, ...] = ()
    context: Context = Field(default_factory=dict)
    encrypts: tuple[Resource, ...] = ()
    administrators: tuple[PrincipalName, ...] | None = None
    rotation: Rotation = None
    deletion_window: Window = None
    about: str = Field(default="", max_length=200)

    def rotates_after(self, governance: GovernanceSettings) -> dt.timedelta | None:
        """Return after how long it is rotated; None: never."""
        # "never" and nothing are both None, and mean different things.
        return self.rotation if "rotation" in self.model_fields_set else governance.rotation

    def waits(self, governance: GovernanceSettings) -> dt.timedelta | None:
        """Return how long AWS waits before it deletes the key; None: nobody said."""
        return self.deletion_window or governance.deletion_window

    @model_validator(mode="after")
    def _is_bound(self) -> Self:
        if self.users and not self.context:
            raise ValueError("context: pairs, because users may never call without any")
        return self


class DepartmentSettings(Table):
    """
    `[departments.NAME]`: a department, its KMS key, who writes events for it and who reads them.

    *producers* can only generate data keys, *readers* only unwrap them: neither can do the other's part.
    """

    kms_key: KmsKey
    readers: tuple[PrincipalName, ...] = ()
    producers: tuple[PrincipalName, ...] = ()
    administrators: tuple[PrincipalName, ...] | None = None
    about: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _parts_differ(self) -> Self:
        if both := sorted({*self.readers} & {*self.producers}):
            raise ValueError(
                f"{', '.join(both)} both writes and reads: whoever generates data keys must not unwrap them"
            )
        return self
