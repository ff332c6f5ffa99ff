# SPDX-License-Identifier: Apache-2.0
"""
A call to AWS as its policies see it: who, what, on what, and the condition keys of the request.

Reads no clock: the time of a call is said. Fills in what follows from the rest, and refuses a call that
contradicts itself.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lacre.errors import MisuseError, PolicyNotUnderstood
from lacre.policy.evaluation.aws.known import always_there, has_several

__all__ = ["Call", "Request", "Value", "kms_call"]

Value = str | tuple[str, ...] | None
_WHO: Final = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):(root|(?:user|role)/[\w+=,.@/-]+)")
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")
_ACTION: Final = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")
_ARN: Final = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]*):(\d{12})?:(.+)")
_PAIR: Final = "kms:encryptioncontext:"
_PAIRS: Final = "kms:encryptioncontextkeys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One call.

    *principal* is the ARN of a user, a role (of whom some session calls) or an account's root, or a service's
    name; *action* ``"kms:Decrypt"``; *resource* an ARN, or ``"*"`` for an action that names none. *context* has
    condition keys with their values: a tuple for a key of several, None for one that this request has not.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, Value] = field(default_factory=dict)


def kms_call(
    principal: str,
    operation: str,
    key: str,
    encryption_context: Mapping[str, str] | None = None,
    *,
    at: dt.datetime | None = None,
    **more: Value,
) -> Call:
    """
    Return a call of KMS: ``kms_call(role, "Decrypt", key_arn, {"tenant": "acme"})``.

    Args:
        operation: as in a policy: `ReEncrypt` is two calls, `ReEncryptFrom` with the old key and context and
            `ReEncryptTo` with the new.
        at: the time of the call, with its zone. A policy that speaks of the time asks for it.
        more: further condition keys of KMS, by their names without ``kms:``.
    """
    context: dict[str, Value] = {f"kms:{name}": value for name, value in more.items()}
    for name, value in (encryption_context or {}).items():
        context[f"kms:EncryptionContext:{name}"] = value
    if at is not None:
        if at.tzinfo is None:
            raise MisuseError("the time of a call has a zone")
        context["aws:CurrentTime"] = at.astimezone(dt.UTC).isoformat()
    return Call(principal=principal, action=f"kms:{operation}", resource=key, context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call taken apart. *values* are by lower-case names; *pairs* the encryption context, as it was said."""

    call: Call
    account: str | None  # None for a service
    is_root: bool
    is_role: bool
    service: str  # that the action is of
    owner: str | None  # the account of the resource; of S3's none is named
    values: Mapping[str, Value]
    pairs: Mapping[str, str]

    @property
    def action(self) -> str:
        return self.call.action

    def value(self, key: str) -> Value:
        """
        Return the value or values of a condition key, None where the request has it not.

        Raises:
            PolicyNotUnderstood: every such request has one, and the call does not say which.
        """
        if key not in self.values and always_there(key, self.action.lower()):
            raise PolicyNotUnderstood(
                f"the answer depends on {key}, which the call does not say",
                hint="put it into the context of the call; None where the request has it not",
            )
        return self.values.get(key)


def request_of(call: Call) -> Request:
    """
    Take *call* apart.

    Raises:
        MisuseError: it is none, or contradicts itself.
    """
    who, what = _WHO.fullmatch(call.principal), _ARN.fullmatch(call.resource)
    if who is None and not _SERVICE.fullmatch(call.principal):
        raise MisuseError(
            f"{call.principal!r} is no principal of a call",
            hint="the ARN of a user, a role or an account's root, or a service's name; a session is named by its role",
        )
    if not _ACTION.fullmatch(call.action):
        raise MisuseError(f"{call.action!r} is no action", hint='"kms:Decrypt", without wildcards')
    if call.resource != "*" and (what is None or set(call.resource) & set("*?")):
        raise MisuseError(
            f"{call.resource!r} is no resource of a call", hint='an ARN, or "*" for none'
        )
    values = _values(call)
    pairs = _pairs(call)
    if pairs:
        _derive(values, _PAIRS, tuple(sorted(pairs)))
    owner = what[4] if what is not None else None
    _derive(values, "aws:principalisawsservice", "true" if who is None else "false")
    if who is None:
        _derive(values, "aws:principalservicename", call.principal)
    else:
        kinds = {"root": "Account", "user": "User", "role": "AssumedRole"}
        _derive(values, "aws:principalarn", call.principal)
        _derive(values, "aws:principalaccount", who[2])
        _derive(values, "aws:principaltype", kinds[who[3].split("/")[0]])
        if call.action.startswith("kms:"):
            _derive(values, "kms:calleraccount", who[2])
    if owner is not None:
        _derive(values, "aws:resourceaccount", owner)
    if what is not None and what[3]:
        _derive(values, "aws:requestedregion", what[3])
    return Request(
        call=call, account=who[2] if who else None, is_root=who is not None and who[3] == "root",
        is_role=who is not None and who[3].startswith("role/"), service=call.action.split(":")[0],
        owner=owner, values=values, pairs=pairs,
    )  # fmt: skip


def _values(call: Call) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in call.context.items():
        key = name.lower()
        if key in values:
            # Two pairs of an encryption context may differ by case alone. Which of the two a condition meets is
            # nowhere said.
            raise PolicyNotUnderstood(f"{name!r} is in the call twice, in another case")
        if value is not None and isinstance(value, tuple) != has_several(key) and key.startswith(("aws:", "kms:")):  # fmt: skip
            raise MisuseError(
                f"{name!r} has {'several values' if has_several(key) else 'one value'}"
            )
        if value == "" or (isinstance(value, tuple) and "" in value):
            raise MisuseError(
                f"{name!r} is empty",
                hint="leave it out, or say None: an empty value counts as none",
            )
        values[key] = value
    return values


def _pairs(call: Call) -> dict[str, str]:
    return {
        name[len(_PAIR) :]: value
        for name, value in call.context.items()
        if name.lower().startswith(_PAIR) and isinstance(value, str)
    }


def _derive(values: dict[str, Value], key: str, value: Value) -> None:
    said = values.setdefault(key, value)
    same = sorted(said) == sorted(value) if isinstance(said, tuple) and value is not None else said == value  # fmt: skip
    if not same:
        raise MisuseError(
            f"the call says {key} is {said!r}, and the rest of it that it is {value!r}"
        )
