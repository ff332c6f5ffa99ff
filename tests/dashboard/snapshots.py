# SPDX-License-Identifier: Apache-2.0
"""A snapshot's body, made of numbers: what the report page is a function of."""

import datetime as dt
from typing import Any

from lacre.audit.controls.manual import MANUAL, manual_facts
from lacre.audit.controls.registry import registry_digest
from lacre.audit.controls.scoring import definition_digest
from lacre.audit.controls.snapshot import FORMAT
from lacre.policy.report import ReportSettings

__all__ = ["body"]

_DONE = MANUAL[:5]
_SCORES = (548, 561, 603, 640, 655, 702, 731)


def body(app: str, now: dt.datetime) -> dict[str, Any]:
    """Return the body of a snapshot of *app*, of the 90 days before *now*."""
    states = {"email": "encrypted", "cpf": "encrypted", "address": "encrypted", "phone": "dual"}
    made: dict[str, Any] = {
        "format": FORMAT, "app": app, "env": "test", "service": app, "code": "4f2c1ab",
        "made": now.isoformat().replace("+00:00", "Z"), "by": {"name": "svc:audit", "key": "00000000"},
        "period": {"since": "2026-08-24T00:00:00Z", "until": "2026-11-22T00:00:00Z", "days": 90},
        "definition": {"registry": registry_digest(), **ReportSettings().definition()},
        "policy": {"sha256": "ab" * 32, "in_use": ["ab" * 32], "purposes": 7, "mode": "bounded", "classes": []},
        "columns": [
            {"store": "main", "table": "customers", "column": name, "class": "pii", "state": state, "deadline": "2026-12-05", "overdue": False, "excused": state == "dual"}
            for name, state in states.items()
        ],
        "coverage": [{"table": "customers", "column": "email", "class": "pii", "values": 201_340, "active": 198_022, "older": 3_318, "compromised": 0, "unreadable": 0, "plaintext": 0}],
        "keys": {
            "states": [], "ages": [], "periods": {"all": 8, "kept": 7}, "due": {"overdue": 1, "waiting": 0, "soon": 2},
            "late": [{"class": "payment", "kind": "data", "version": 1, "by": "2026-11-16", "days": 6}],
            "created": 2, "rotated": 2, "destroyed": 0,
        },
        "rules": [{"rule": name, "on": True, "why": ""} for name in ("bulk-access", "many-fields", "own-baseline")],
        "alerts": [],
        "accesses": {
            "events": 41_000, "entries": 38_000, "values": 61_000, "principals": 30, "searches": 3_000, "denied": 410, "failed": 3,
            "masked": 900, "unlisted": 0, "fields": [], "days": [], "actions": [["look", 35_000], ["search", 3_000]],
            "statuses": [["compliant", 37_587], ["prevented", 410], ["failed", 3]], "classes": [], "purposes": [],
        },
        "log": {
            "entries": 33_013, "newest": "2026-11-22T14:59:49.000001Z",
            "shards": [{"shard": "2026-11", "state": "open", "hold": False, "entries": 33_013, "signed": 33_013, "root": "5e" * 32, "anchored": 32_000}],
            "verification": {"sound": True, "verified": 33_013, "findings": []},
        },
        "anchors": [{"anchor": "s3:evidence", "shard": "2026-11", "size": 32_000, "at": "2026-11-22T06:00:00.000000Z"}],
        "drills": {"last": "2026-06-02", "days": 173},
        "erasures": {"certified": 4, "open": 0, "overdue": 0, "late": 0, "held": 1, "irrecoverable": 4, "certificates": []},
        "grants": None, "secrets": None, "reconciliation": None, "drift": None, "history": [],
        "manual": manual_facts(MANUAL, {each.name: (now - dt.timedelta(days=60 * n), "ee" * 32) for n, each in enumerate(_DONE, 1)}, now=now),
    }  # fmt: skip
    definition = definition_digest(made)
    made["history"] = [
        {"snapshot": f"{n:02x}" * 32, "until": f"2026-{n + 4:02}-22T00:00:00Z", "definition": definition, "tenths": tenths, "status": "GATES HOLD"}
        for n, tenths in enumerate(_SCORES)
    ]  # fmt: skip
    return made
