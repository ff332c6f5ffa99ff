# SPDX-License-Identifier: Apache-2.0
"""
Who can read what: what the policy decides for each principal, class, right and purpose.

The same matrix as `lacre policy matrix`, asked of `Policy.decide`, as every look is, so that this
page and the run time cannot differ. What a process could do with the keys it holds is another
question (``docs/threat-model.md``).
"""

from dataclasses import dataclass

from lacre.context import Acting
from lacre.dashboard.rendering import Asked, Shown, Unusable
from lacre.dashboard.sources import Sources
from lacre.policy.access import ANY_PURPOSE, Access, Cell, matrix, strangers
from lacre.policy.decisions import Policy
from lacre.policy.model import Right

__all__ = ["show"]

_VERBS = {Right.DECRYPT: "read", Right.ENCRYPT: "write", Right.SEARCH: "search"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What is written into one cell: words, each with the rule it follows from, or why there is none."""

    words: list[tuple[str, str]]
    denied: str


def show(sources: Sources, asked: Asked) -> Shown:
    """Show the matrix for a purpose, and the rules behind one row where it is asked for."""
    policy = sources.policy
    file = policy.file
    purposes = None if file.purposes is None else sorted(file.purposes)
    purpose = asked.text("purpose") or (purposes[0] if purposes else ANY_PURPOSE)
    if len(purpose) > 255:
        raise Unusable("A purpose is a word or two.")
    rows = matrix(policy, purpose)
    who = asked.text("who")
    row = next((each for each in rows if each.who == who), None)
    return Shown(
        template="rights.html",
        context={
            "table": [
                (each.who, {name: _cell(policy, name, cell) for name, cell in each.cells.items()})
                for each in (*rows, strangers(policy, purpose))
            ],
            "classes": file.classes,
            "purposes": purposes,
            "purpose": purpose,
            "asked_purpose": asked.text("purpose") or "",
            "people": bool(file.principals),
            "names": [each.who for each in rows],
            "who": who if row is not None else "",
            "rules": [] if row is None else _rules(policy, row, purpose),
            "allowed": purposes is None or purpose in purposes,
        },
    )


def _cell(policy: Policy, class_: str, cell: Cell) -> _Shown:
    declared = policy.class_(class_)
    words = [(_VERBS[right], rule) for right, rule in cell.rights.items()]
    words += [("masked", cell.masked)] if cell.masked else []
    words += [("by grant", str(right)) for right in cell.by_grant]
    denied = f"sees a mask ({declared.mask})" if declared.denied == "mask" else "refused"
    return _Shown(words=words, denied=denied)


def _rules(policy: Policy, row: Access, purpose: str) -> list[tuple[str, str, str, str]]:
    acting = Acting(row.who, frozenset(row.roles), purpose, None)
    return [
        (class_, verb, str(decision.outcome), decision.rule)
        for class_ in policy.file.classes
        for right, verb in _VERBS.items()
        for decision in [policy.decide(acting, class_, right)]
    ]
