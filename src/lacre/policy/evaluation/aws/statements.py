# SPDX-License-Identifier: Apache-2.0
"""
Policies of AWS read into statements, strictly.

Decides nothing. An element, an effect, an action of KMS or a form that is not known is refused with its name, so that
nothing of a document is passed over.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lacre.errors import PolicyNotUnderstood
from lacre.policy.evaluation.aws.calls import Request
from lacre.policy.evaluation.aws.conditions import Test, all_hold, conditions_of
from lacre.policy.evaluation.aws.known import KMS_ACTIONS
from lacre.policy.evaluation.aws.patterns import glob, resource_like
from lacre.policy.evaluation.aws.principals import Named, Principals, principals_of

__all__ = ["Document", "Statement"]

_ELEMENTS: Final = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
_KMS: Final = frozenset(name.lower() for name in KMS_ACTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    One statement.

    *name* says where it is: ``"key policy/Decrypt"``, by its number where it has no Sid. *principals* is None in a
    policy of an identity, *resources* in a trust policy.
    """

    name: str
    allows: bool
    principals: Principals | None
    actions: tuple[str, ...]
    all_other_actions: bool
    resources: tuple[str, ...] | None
    all_other_resources: bool
    tests: tuple[Test, ...]

    def covers(self, action: str) -> bool:
        """Whether *action* is among what it speaks of."""
        named = any(each == "*" or glob(each, action, any_case=True) for each in self.actions)
        return named != self.all_other_actions

    def named(self, request: Request, *, bounded: bool = False) -> Named:
        """How it names who calls; for a policy of an identity, as whom it is attached to."""
        if self.principals is None:
            return Named.ITSELF
        if self.principals.negated:
            return (
                Named.ITSELF if self.principals.are_others(request, bounded=bounded) else Named.NOT
            )
        return self.principals.named(request)

    def applies(self, request: Request) -> bool:
        """Whether it speaks of *request*, whoever calls."""
        return (
            self.covers(request.action)
            and self._reaches(request.call.resource)
            and all_hold(self.tests, request)
        )

    def _reaches(self, resource: str) -> bool:
        if self.resources is None:
            return True
        named = any(resource_like(each, resource) for each in self.resources)
        return named != self.all_other_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy: *name*, for what is told about it, and its statements."""

    name: str
    statements: tuple[Statement, ...]

    @classmethod
    def read(
        cls, policy: Mapping[str, Any] | str, *, name: str, of_resource: bool = False
    ) -> "Document":
        """
        Read *policy*, JSON or what JSON was read into.

        Args:
            of_resource: it is attached to a resource, so that it says of whom it speaks.

        Raises:
            PolicyNotUnderstood: it holds something that the evaluator does not know.
        """
        told = _parsed(policy, name) if isinstance(policy, str) else policy
        try:
            _only(told, {"Version", "Id", "Statement"}, "element")
            if told.get("Version") != "2012-10-17":
                # The older version, which is the default, knows no variables and compares otherwise.
                raise PolicyNotUnderstood(
                    f"the version {told.get('Version')!r}: it has to be 2012-10-17"
                )
            found = told.get("Statement")
            listed = found if isinstance(found, list) else [found]
            statements = [
                _statement(each, f"{name}/{_called(each, number)}", of_resource=of_resource)
                for number, each in enumerate(listed, 1)
            ]
        except PolicyNotUnderstood as error:
            raise PolicyNotUnderstood(f"{name}: {error}", hint=error.hint) from None
        names = [each.name for each in statements]
        if len(set(names)) != len(names):
            raise PolicyNotUnderstood(f"{name}: two statements have one Sid")
        return cls(name=name, statements=tuple(statements))


def _called(element: object, number: int) -> str:
    sid = element.get("Sid") if isinstance(element, Mapping) else None
    return sid if isinstance(sid, str) and sid else f"statement {number}"


def _statement(element: object, name: str, *, of_resource: bool) -> Statement:
    if not isinstance(element, Mapping):
        raise PolicyNotUnderstood("a statement that is no object")
    _only(element, _ELEMENTS, "element")
    effect = element.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyNotUnderstood(f"the effect {effect!r}")
    other_principals, other_actions, other_resources = (
        _which(element, each) for each in ("Principal", "Action", "Resource")
    )
    principals = None
    if of_resource:
        if other_principals is None:
            raise PolicyNotUnderstood(f"{name} names no principal, in a policy of a resource")
        if other_principals and effect == "Allow":
            raise PolicyNotUnderstood(
                f"{name}: NotPrincipal with Allow, which is everybody else, nobody included"
            )
        principals = principals_of(
            element["NotPrincipal" if other_principals else "Principal"], negated=other_principals
        )
    elif other_principals is not None:
        raise PolicyNotUnderstood(f"{name} names a principal, in a policy that is of one")
    if other_actions is None:
        raise PolicyNotUnderstood(f"{name} names no action")
    if other_resources is None and not of_resource:
        raise PolicyNotUnderstood(f"{name} names no resource")
    return Statement(
        name=name,
        allows=effect == "Allow",
        principals=principals,
        actions=_actions(element["NotAction" if other_actions else "Action"]),
        all_other_actions=other_actions,
        resources=None
        if other_resources is None
        else _texts(element["NotResource" if other_resources else "Resource"], "resource"),
        all_other_resources=bool(other_resources),
        tests=conditions_of(element["Condition"]) if "Condition" in element else (),
    )


def _which(element: Mapping[str, Any], name: str) -> bool | None:
    # Whether it is said by what it is not; None where it is not said.
    there = [each for each in (name, f"Not{name}") if each in element]
    if len(there) == 2:
        raise PolicyNotUnderstood(f"both {name} and Not{name}")
    return there[0] != name if there else None


def _actions(element: object) -> tuple[str, ...]:
    found = _texts(element, "action")
    for each in found:
        if each == "*":
            continue
        if not re.fullmatch(r"[A-Za-z0-9-]+:[A-Za-z0-9*?]+", each):
            raise PolicyNotUnderstood(f"the action {each!r}")
        service = each.split(":")[0].lower()
        if service == "kms" and not any(glob(each, known, any_case=True) for known in _KMS):
            raise PolicyNotUnderstood(f"the action {each!r}: KMS has none of that name")
    return found


def _texts(element: object, what: str) -> tuple[str, ...]:
    listed = element if isinstance(element, list) else [element]
    for each in listed:
        if not isinstance(each, str) or not each or "${" in each:
            raise PolicyNotUnderstood(f"the {what} {each!r}, which is a variable or no name")
    if not listed:
        raise PolicyNotUnderstood(f"an empty list of {what}s")
    return tuple(listed)


def _only(told: Mapping[str, Any], known: set[str], what: str) -> None:
    for name in told:
        if name not in known:
            raise PolicyNotUnderstood(f"the {what} {name!r}")


def _parsed(text: str, name: str) -> Mapping[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise PolicyNotUnderstood(f"{name}: an object that has a name twice")
        return found

    try:
        told = json.loads(text, object_pairs_hook=once)
    except ValueError:
        raise PolicyNotUnderstood(f"{name} is no JSON") from None
    if not isinstance(told, dict):
        raise PolicyNotUnderstood(f"{name} is no object")
    return told
