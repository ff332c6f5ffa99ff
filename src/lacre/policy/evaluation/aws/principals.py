# SPDX-License-Identifier: Apache-2.0
"""
The elements `Principal` and `NotPrincipal` of a resource's policy, and whom they name.

As the page "AWS JSON policy elements: Principal" says. Does not know sessions, federated principals,
canonical users, nor the unique ids that AWS puts in the place of a deleted principal.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lacre.errors import PolicyNotUnderstood
from lacre.policy.evaluation.aws.calls import Request

__all__ = ["Named", "Principals", "principals_of"]

_USER_OR_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(user|role)/[\w+=,.@/-]+")
_ROOT: Final = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):root")


class Named(Enum):
    """How a statement names who calls. What follows from that differs."""

    NOT = 0
    EVERYBODY = 1
    ACCOUNT = 2  # "delegates to the account": its identity policies have to allow too
    ITSELF = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Whom a statement names. *accounts* by number, *names* ARNs and services."""

    everybody: bool
    accounts: frozenset[str]
    names: frozenset[str]
    negated: bool = False

    def named(self, request: Request) -> Named:
        """How they name who calls."""
        who = request.call.principal
        if who in self.names or (request.is_root and request.account in self.accounts):
            return Named.ITSELF
        if request.account is not None and request.account in self.accounts:
            return Named.ACCOUNT
        return Named.EVERYBODY if self.everybody else Named.NOT

    def are_others(self, request: Request, *, bounded: bool) -> bool:
        """
        Whether ``NotPrincipal`` with ``Deny`` denies who calls.

        Raises:
            PolicyNotUnderstood: the documentation leaves it open.
        """
        who = request.call.principal
        if bounded:
            # "will always deny any IAM principal that has a permissions boundary policy attached"
            return True
        if who not in self.names and request.account not in self.accounts:
            return not self.everybody
        listed = who in self.names or request.is_root
        if listed and not request.is_role and (request.account is None or request.account in self.accounts):  # fmt: skip
            return False
        raise PolicyNotUnderstood(
            f"NotPrincipal, about {who}: who is excepted is excepted only with the account, and a role with its session",
            hint="a Deny for everybody, with ArnNotEquals of aws:PrincipalArn",
        )


def principals_of(element: object, *, negated: bool = False) -> Principals:
    """
    Read the element `Principal` or `NotPrincipal`.

    Raises:
        PolicyNotUnderstood: a kind of principal that this module does not know.
    """
    accounts: set[str] = set()
    names: set[str] = set()
    everybody = element == "*"
    if not everybody and (not isinstance(element, Mapping) or not element):
        raise PolicyNotUnderstood(f"the principal {element!r}")
    for kind, given in element.items() if isinstance(element, Mapping) else ():
        if kind not in {"AWS", "Service"}:
            raise PolicyNotUnderstood(f"a principal of the kind {kind!r}")
        listed = given if isinstance(given, list) else [given]
        if not listed:
            raise PolicyNotUnderstood("an empty list of principals")
        for each in listed:
            if not isinstance(each, str):
                raise PolicyNotUnderstood(f"the principal {each!r}")
            root = _ROOT.fullmatch(each)
            if kind == "Service":
                if not re.fullmatch(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?", each):
                    raise PolicyNotUnderstood(f"the service {each!r}")
                names.add(each)
            elif each == "*":
                everybody = True
            elif root or re.fullmatch(r"\d{12}", each):
                accounts.add(root[1] if root else each)
            elif _USER_OR_ROLE.fullmatch(each):
                names.add(each)
            else:
                raise PolicyNotUnderstood(f"the principal {each!r}")
    return Principals(
        everybody=everybody, accounts=frozenset(accounts), names=frozenset(names), negated=negated
    )
