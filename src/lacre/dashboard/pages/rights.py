# SPDX-License-Identifier: Apache-2.0
"""
Who can read what: what the policy decides for each role, class, right and purpose.

Asks `Policy.decide`, as every look does, so that this page and the run time cannot differ. What a
process could do with the keys it holds is another question (``docs/threat-model.md``).
"""

from dataclasses import dataclass

from lacre.audit.event import Outcome
from lacre.context import Acting
from lacre.dashboard.rendering import Asked, Shown, Unusable
from lacre.dashboard.sources import Sources
from lacre.policy.decisions import Policy
from lacre.policy.model import Right

__all__ = ["show"]

_VERBS = {
    Right.DECRYPT: "read",
    Right.MASK: "masked",
    Right.ENCRYPT: "write",
    Right.SEARCH: "search",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """What one role may do with one class: words, each with the rule it follows from."""

    words: list[tuple[str, str]]
    denied: str


def show(sources: Sources, asked: Asked) -> Shown:
    """Show the matrix for a purpose, and the rules behind one role where it is asked for."""
    policy = sources.policy
    file = policy.file
    roles = sorted({role for declared in file.classes.values() for role in declared.rights})
    purposes = None if file.purposes is None else sorted(file.purposes)
    purpose = asked.text("purpose") or (purposes[0] if purposes else "any purpose")
    if len(purpose) > 255:
        raise Unusable("A purpose is a word or two.")
    role = asked.text("role")
    table = [
        (name, {class_: _cell(policy, name, class_, purpose) for class_ in file.classes})
        for name in [*roles, *([role] if role and role not in roles else []), ""]
    ]
    return Shown(
        template="rights.html",
        context={
            "table": table,
            "classes": file.classes,
            "purposes": purposes,
            "purpose": purpose,
            "asked_purpose": asked.text("purpose") or "",
            "roles": roles,
            "role": role,
            "rules": [] if role is None else _rules(policy, role, purpose),
            "allowed": purposes is None or purpose in purposes,
        },
    )


def _cell(policy: Policy, role: str, class_: str, purpose: str) -> _Cell:
    acting = _acting(role, purpose)
    words = []
    for right in (Right.DECRYPT, Right.ENCRYPT, Right.SEARCH):
        if right is Right.SEARCH and policy.class_(class_).index is None:
            continue
        decision = policy.decide(acting, class_, right)
        if decision.outcome is Outcome.ALLOWED:
            words.append((_VERBS[right], decision.rule))
        elif decision.outcome is Outcome.MASKED:
            words.append((_VERBS[Right.MASK], decision.rule))
    declared = policy.class_(class_)
    denied = f"sees a mask ({declared.mask})" if declared.denied == "mask" else "refused"
    return _Cell(words=words, denied=denied)


def _rules(policy: Policy, role: str, purpose: str) -> list[tuple[str, str, str, str]]:
    acting = _acting(role, purpose)
    return [
        (class_, _VERBS[right], str(decision.outcome), decision.rule)
        for class_ in policy.file.classes
        for right in (Right.DECRYPT, Right.ENCRYPT, Right.SEARCH)
        for decision in [policy.decide(acting, class_, right)]
    ]


def _acting(role: str, purpose: str) -> Acting:
    return Acting("dashboard", frozenset({role} if role else ()), purpose, None)
