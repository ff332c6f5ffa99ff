"""A snapshot's body with something of everything, made of numbers, for the tests of reports."""

import datetime as dt
from typing import Any

from lacre.audit.controls.manual import MANUAL, manual_facts
from lacre.audit.controls.registry import registry_digest
from lacre.audit.controls.snapshot import FORMAT, Snapshot
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.policy.report import ReportSettings

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
IDENTITY = Identity("svc:audit", bytes(range(64)))
SIGNER, VERIFIER = IdentitySigner(IDENTITY), verifier_of(IDENTITY.public)


def body(**changed: Any) -> dict[str, Any]:
    """Return the body; *changed* members are these instead."""
    since = dt.datetime(2026, 8, 24, tzinfo=dt.UTC)
    days = [_day(since.date() + dt.timedelta(days=i), i) for i in range(90)]
    entries = sum(sum(day[1:]) for day in days)
    denied, failed, masked = (sum(day[i] for day in days) for i in (3, 4, 2))
    made: dict[str, Any] = {
        "format": FORMAT, "app": "shop", "env": "prod", "service": "customers", "code": "0.1.0",
        "made": "2026-11-22T12:00:00Z", "by": {"name": "svc:audit", "key": SIGNER.key_id.hex()},
        "period": {"since": "2026-08-24T00:00:00Z", "until": "2026-11-22T12:00:00Z", "days": 90},
        "definition": {"registry": registry_digest(), **ReportSettings().definition()},
        "policy": {
            "sha256": "ab" * 32, "in_use": ["cd" * 32], "purposes": 6, "mode": "bounded",
            "classes": [
                {"class": "banking", "mask": "last4", "searchable": True, "rights": {"app": ["decrypt", "encrypt", "search"], "support": ["mask"]}},
                {"class": "pii", "mask": "hidden", "searchable": True, "rights": {"app": ["decrypt", "encrypt", "search"], "support": ["mask"]}},
            ],
        },
        "columns": [
            _column("customers", "email", "pii", "encrypted"), _column("customers", "cpf", "pii", "encrypted"),
            _column("customers", "phone", "pii", "dual", deadline="2027-02-01", excused=True), _column("accounts", "iban", "banking", "encrypted"),
        ],
        "coverage": [
            _covered("customers", "email", "pii", 201_340, 0), _covered("customers", "cpf", "pii", 198_022, 1_204),
            _covered("accounts", "iban", "banking", 61_220, 22_870),
        ],
        "keys": {
            "states": [["branch", "active", 8], ["branch", "decrypt_only", 4], ["data", "active", 8], ["data", "decrypt_only", 11], ["index", "active", 6], ["subject", "active", 182_331], ["subject", "destroyed", 41]],
            "ages": [["under 30 days", 4, 0], ["30 to 90 days", 6, 0], ["90 to 180 days", 5, 0], ["180 to 365 days", 6, 0], ["over 365 days", 0, 1]],
            "periods": {"all": 22, "kept": 21},
            "late": [{"class": "banking", "kind": "data", "version": 2, "by": "2026-11-12", "days": 10}],
            "due": {"overdue": 1, "waiting": 0, "soon": 3}, "created": 2, "rotated": 5, "destroyed": 1,
        },
        "rules": [{"rule": name, "on": name != "outside-hours", "why": "the night shift is regular" if name == "outside-hours" else ""} for name in ("bulk-access", "many-fields", "own-baseline", "outside-hours", "failure-burst")],
        "alerts": [_alert(i) for i in range(9)],
        "accesses": {
            "events": entries + 41_000, "entries": entries, "values": entries * 2, "principals": 30, "searches": entries // 12,
            "denied": denied, "failed": failed, "masked": masked, "unlisted": 212,
            "fields": [[f"main.{place}", class_, entries // n, 2 * entries // n] for n, (place, class_) in enumerate((("customers.email", "pii"), ("customers.phone", "pii"), ("customers.cpf", "pii"), ("accounts.iban", "banking"), ("cards.number", "payment"), ("accounts.holder", "banking")), 3)],
            "days": days, "actions": [["look", entries - 4000], ["search", 3000], ["encrypt", 1000]],
            "statuses": [["compliant", entries - denied - failed], ["prevented", denied], ["failed", failed]],
            "classes": [["pii", entries * 6 // 10], ["banking", entries * 3 // 10], ["payment", entries // 10]],
            "purposes": [["ticket", entries // 2], ["kyc", entries // 4], ["checkout", entries // 4]],
        },
        "log": {
            "entries": 312_118, "newest": "2026-11-22T11:59:58.000001Z",
            "shards": [
                {"shard": f"2026-{month:02}", "state": "open" if month == 11 else "closed", "hold": month == 8, "entries": n, "signed": n, "root": "5e" * 32, "anchored": n if month < 11 else n - 1_500}
                for month, n in ((8, 40_118), (9, 95_000), (10, 101_000), (11, 76_000))
            ],
            "verification": {"sound": True, "verified": 312_118, "findings": []},
        },
        "anchors": [{"anchor": "s3:evidence", "shard": "2026-11", "size": 74_500, "at": "2026-11-22T06:00:00.000000Z"}],
        "drills": {"last": "2026-06-02", "days": 173},
        "erasures": {
            "certified": 12, "open": 1, "overdue": 0, "late": 0, "held": 2, "irrecoverable": 9,
            "certificates": [{"certificate": f"{i:02x}" * 32, "shredded": f"2026-10-{i + 1:02}", "verdict": "irrecoverable" if i < 9 else "pending", "irrecoverable": f"2026-11-{i + 1:02}" if i < 9 else None, "days": 31 if i < 9 else None} for i in range(12)],
        },
        "grants": None, "secrets": None, "reconciliation": None, "drift": None,
        "history": [],
        "manual": manual_facts(MANUAL, {each.name: (NOW - dt.timedelta(days=60 * i), "ee" * 32) for i, each in enumerate(MANUAL[:5], 1)}, now=NOW),
    }  # fmt: skip
    return made | changed


def snapshot(**changed: Any) -> Snapshot:
    """Return the snapshot of that body."""
    return Snapshot.of(body(**changed))


def _day(date: dt.date, i: int) -> list[Any]:
    weekday = date.weekday() < 5
    base = (2_100 + 37 * (i * 7 % 11) + i * 6) if weekday else 260 + 9 * (i % 5)
    return [date.isoformat(), base, base // 32, base // 74 + (210 if i == 71 else 0), 1 + (i % 13 == 0) * 9]  # fmt: skip


def _column(
    table: str, column: str, class_: str, state: str, *, deadline: str | None = None, excused: bool = False
) -> dict[str, Any]:  # fmt: skip
    return {"store": "main", "table": table, "column": column, "class": class_, "state": state, "deadline": deadline, "overdue": False, "excused": excused}  # fmt: skip


def _covered(table: str, column: str, class_: str, active: int, older: int) -> dict[str, Any]:
    return {
        "table": table, "column": column, "class": class_, "values": active + older, "active": active,
        "older": older, "compromised": 0, "unreadable": 0, "plaintext": 0,
    }  # fmt: skip


def _alert(i: int) -> dict[str, Any]:
    raised = f"2026-11-{20 - 2 * i:02}T0{i}:12:00Z"
    return {
        "rule": ("bulk-access", "own-baseline", "failure-burst")[i % 3], "severity": ("high", "medium", "low")[i % 3],
        "times": 1 + i, "state": "open" if i < 2 else "acknowledged", "raised": raised, "first": raised, "last": raised,
        "acknowledged": None if i < 2 else raised, "late": i == 4, "evidence": [[202611, 100 * i + n] for n in range(6)],
    }  # fmt: skip
