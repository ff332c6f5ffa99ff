# SPDX-License-Identifier: Apache-2.0
"""
The report as JSON: for programs, and byte for byte the same of one snapshot.

Has the fields of the source document's compliance report by their names: `period`,
`totalAccesses`, `uniqueUsers`, `fieldAccessCounts`, `suspiciousActivities`, `complianceScore`.
"""

import json
from typing import Any

from lacre.audit.controls.definition import Standing
from lacre.audit.controls.scoring import Assessed, Assessment
from lacre.audit.controls.snapshot import Snapshot

__all__ = ["structured", "written"]


def structured(snapshot: Snapshot, judged: Assessment) -> dict[str, Any]:
    """Return the report of *snapshot* as JSON's types."""
    body = snapshot.body
    accesses = body["accesses"] or {"entries": 0, "values": 0, "principals": 0, "fields": [], "denied": 0, "failed": 0, "masked": 0, "searches": 0}  # fmt: skip
    worst = judged.worst
    return {
        "report": "lacre-compliance-report-1",
        "statement": "evidence for the controls it names; not a statement that anybody complies with anything",
        "application": {name: body[name] for name in ("app", "env", "service")},
        "period": {"since": body["period"]["since"], "until": body["period"]["until"]},
        "totalAccesses": accesses["entries"],
        "uniqueUsers": accesses["principals"],
        "fieldAccessCounts": {field[0]: field[2] for field in accesses["fields"]},
        "suspiciousActivities": body["alerts"] or [],
        "complianceScore": judged.tenths / 10,
        "uncappedScore": judged.uncapped / 10,
        "status": judged.status,
        "gatesFailed": [{"control": each.control.id, "why": each.finding.gate} for each in judged.gates],
        "worstControl": worst.control.id,
        "notAssessed": [
            {"control": each.control.id, "why": each.finding.why}
            for each in judged.of(Standing.NOT_ASSESSED)
        ],
        "controls": [_control(each) for each in judged.controls],
        "trend": {
            "change": None if judged.change is None else judged.change / 10,
            "past": [
                {
                    "snapshot": past.snapshot,
                    "until": past.until,
                    "score": past.tenths / 10,
                    "status": past.status,
                    "comparable": past.comparable,
                }
                for past in judged.history
            ],
        },
        "definition": {"sha256": judged.definition, **body["definition"]},
        "snapshot": {
            "sha256": snapshot.sha256,
            "made": body["made"],
            "by": body["by"],
            "lacre": body["code"],
        },
        "evidence": body,
    }  # fmt: skip


def _control(each: Assessed) -> dict[str, Any]:
    control, finding = each.control, each.finding
    return {
        "id": control.id,
        "title": control.title,
        "standing": str(finding.standing),
        "passed": finding.passed,
        "assessed": finding.assessed,
        "share": None if each.tenths is None else each.tenths / 10,
        "weight": each.weight,
        "why": finding.why,
        "gate": {"text": control.gate, "counts": each.gated, "failed": finding.gate}
        if control.gate
        else None,
        "numerator": control.numerator,
        "denominator": control.denominator,
        "window": control.window,
        "shownBy": control.evidence,
        "evidenceFor": {str(regime): list(clauses) for regime, clauses in control.clauses.items()},
    }


def written(snapshot: Snapshot, judged: Assessment) -> str:
    """Return the same as text: sorted, ASCII, so that one snapshot has one report."""
    return json.dumps(structured(snapshot, judged), indent=1, sort_keys=True) + "\n"
