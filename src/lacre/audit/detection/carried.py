# SPDX-License-Identifier: Apache-2.0
"""
Findings that are made elsewhere, by reconciliation and verification, under rules of their own.

Does not make them: a rule that carries has its severity, what it means and what to do.
"""

import datetime as dt
from collections.abc import Mapping, Sequence

from lacre.audit.detection.finding import Finding, fingerprint
from lacre.audit.detection.rule import How, Rule
from lacre.audit.detection.rules import RULES
from lacre.errors import MisuseError

__all__ = ["carried"]


def carried(
    rule_id: str,
    *,
    first: dt.datetime,
    last: dt.datetime,
    principal: str = "",
    group: Sequence[str] = (),
    summary: str = "",
    facts: Mapping[str, object] | None = None,
    evidence: Sequence[tuple[int, int]] = (),
    rules: Mapping[str, Rule] = RULES,
) -> Finding | None:
    """
    Return the finding of rule *rule_id*, one of those that carry; None where *rules* has it off, or exempts *principal*.

    Args:
        group: what tells it from other findings of the rule.
        summary: what was found, in one sentence; the rule's own without one.
    """
    rule = rules.get(rule_id)
    if rule is None or rule.how is not How.CARRIED:
        raise MisuseError(f"{rule_id!r} is no rule that carries findings made elsewhere")
    if rule.asleep or principal in rule.exempt:
        return None
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        principal=principal,
        fingerprint=fingerprint(rule.id, *(group or (principal,))),
        first=first,
        last=last,
        summary=summary or rule.says.format(principal=principal),
        facts={"title": rule.title, "threshold": rule.threshold, **(facts or {})},
        evidence=tuple(evidence),
    )
