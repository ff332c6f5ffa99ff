# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` says of who acts: roles, principals with their credentials, grants and approvers.

A principal is a name that the application declares with `acting_as`; its credential is what a key
service believes. Both stand here, side by side, so that what the process allows and what the key
service allows are rendered from one line. Decides nothing (`lacre.policy.decisions`).
"""

import datetime as dt
import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lacre.policy.values import Name, Table, span

__all__ = [
    "ApproverSettings",
    "Arn",
    "BreakGlassSettings",
    "Duty",
    "GrantSettings",
    "PrincipalName",
    "PrincipalSettings",
    "RoleSettings",
]

_ARN = re.compile(r"arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:(?:role|user)/[A-Za-z0-9+=,.@_/-]{1,512}")
_PRINCIPAL = re.compile(r"[^\s*]{1,254}\*?")
_LONGEST = dt.timedelta(days=30)  # an approval that nobody renews ends (review.md S7)


def _an_arn(text: str) -> str:
    if not _ARN.fullmatch(text):
        raise ValueError(
            "a credential is the ARN of one role or user, arn:aws:iam::123456789012:role/NAME, without wildcards"
        )
    return text


def _a_principal(text: str) -> str:
    if not _PRINCIPAL.fullmatch(text) or not text.isprintable() or text == "*":
        raise ValueError(
            'a principal is a name without spaces, "svc:billing"; "agent:*" stands for all whose names begin so'
        )
    return text


def _at_most_a_month(value: object) -> dt.timedelta:
    return span(value, most=_LONGEST)


Arn = Annotated[str, AfterValidator(_an_arn)]
PrincipalName = Annotated[str, AfterValidator(_a_principal)]
GrantSpan = Annotated[dt.timedelta, BeforeValidator(_at_most_a_month)]


class Duty(StrEnum):
    """
    What a principal does with KMS keys beside reading and writing data.

    `PROVISION` mints wrapped keys and sees none; `REWRAP` wraps them anew; `MIGRATE` takes them
    from one KMS key to another; `SEAL` ends epochs; `ADMINISTER` makes, rotates and retires KMS
    keys and uses none; `AUDIT` reads their settings.
    """

    PROVISION = "provision"
    REWRAP = "rewrap"
    MIGRATE = "migrate"
    SEAL = "seal"
    ADMINISTER = "administer"
    AUDIT = "audit"


class RoleSettings(Table):
    """
    `[roles.NAME]`: a role, and the only purposes that it may be taken for; any that exists by default.

    Rights are given to roles by classes: `[classes.NAME.rights]`.
    """

    purposes: frozenset[str] | None = None
    about: str = Field(default="", max_length=200)


class PrincipalSettings(Table):
    """
    `[principals."NAME"]`: who may act, as what, and by which credentials the key services know it.

    *aws* are its IAM roles or users, *openbao* the name of its AppRole, *local* its public identity.
    A name that ends with ``*`` stands for many people, who share no credential.
    """

    roles: frozenset[Name] = frozenset()
    duties: frozenset[Duty] = frozenset()
    aws: tuple[Arn, ...] = ()
    openbao: Name | None = None
    local: str | None = None
    about: str = Field(default="", max_length=200)

    @property
    def credentials(self) -> tuple[str, ...]:
        """Every credential, as its key service calls it."""
        return (*self.aws, *(each for each in (self.openbao, self.local) if each))


class ApproverSettings(Table):
    """`[approvers."NAME"]`: a person whose signature approves grants, and the public identity it is checked with."""

    identity: str
    break_glass: bool = False


class BreakGlassSettings(Table):
    """
    `[grants.break_glass]`: grants for an emergency: one approver, who may be nobody else's; short, alerted, reviewed.

    *longest* is at most an hour; *review_within* is when somebody else has to have looked at what was done.
    """

    longest: GrantSpan = dt.timedelta(hours=1)
    review_within: GrantSpan = dt.timedelta(days=3)

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        if self.longest > dt.timedelta(hours=1):
            raise ValueError("longest is at most 1 hour: what takes longer is an ordinary grant")
        return self


class GrantSettings(Table):
    """
    `[grants]`: how long a grant may last, how long its approvals may wait, and how fresh the list is.

    *longest* is of a grant, *approved_within* of a request with its approvals. *age* in seconds is
    the longest a process goes on with a grant that was revoked.
    """

    longest: GrantSpan = dt.timedelta(days=7)
    approved_within: GrantSpan = dt.timedelta(days=1)
    age: float = Field(default=30.0, ge=1, le=600)
    break_glass: BreakGlassSettings | None = None
