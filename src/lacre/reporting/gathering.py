# SPDX-License-Identifier: Apache-2.0
"""
Gathering: the facts of a deployment, as the body of a snapshot.

Counts and dates: no value, nobody's name, no pseudonym. Reads the policy, the key store, the log
and the certificates; opens no key and changes nothing. Implements ``spec/evidence-snapshot.md``,
section 2. Does not judge (`lacre.audit.controls`), sign or render.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from lacre.audit.controls.manual import manual_facts
from lacre.audit.controls.registry import registry_digest
from lacre.audit.controls.snapshot import FORMAT
from lacre.audit.leaves import shard_name
from lacre.errors import LacreError, MisuseError
from lacre.evidence import stamp_of
from lacre.jobs.certificates import read_certificate
from lacre.jobs.coverage import Coverage
from lacre.kms.local import PublicIdentity
from lacre.policy.model import PolicyFile
from lacre.reporting.accesses import access_facts
from lacre.reporting.deeds import (
    alert_facts,
    anchor_facts,
    done_controls,
    drill_facts,
    erasure_facts,
    policies_in_use,
    reconciliation_facts,
)
from lacre.reporting.states import column_facts, coverage_facts, key_facts
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.counting import sizes
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader
from lacre.stores.sql import SQLKeyStore

__all__ = ["Period", "Sources", "gather"]

_CERTIFICATES = 50_000  # files that are read at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What a report is about: from *since*, a midnight in UTC, to *until*."""

    since: dt.datetime
    until: dt.datetime

    @classmethod
    def of(cls, now: dt.datetime, length: dt.timedelta, until: dt.date | None = None) -> "Period":
        """
        Return the *length* before the end of the day *until*; without one, before *now*.

        Raises:
            MisuseError: the day is not over.
        """
        end = now
        if until is not None:
            end = dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), dt.UTC)
            if end > now:
                raise MisuseError(
                    f"{until} is not over: a report of it would be another tomorrow",
                    hint="leave --until out for a report until now",
                )
        since = (end - length).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(since=since, until=end)

    @property
    def days(self) -> int:
        return (self.until - self.since).days


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """
    Where facts are.

    *log* is None where evidence is kept as lines only. *verification* and
    *rules* are what the verifier and the detection said, None where nobody asked.
    """

    policy: PolicyFile
    config: Path
    store: SQLKeyStore
    log: AuditLog | None = None
    coverage: Sequence[Coverage] | None = None
    verification: Mapping[str, object] | None = None
    rules: Sequence[Mapping[str, object]] | None = None
    history: Sequence[Mapping[str, object]] = field(default=())

    @property
    def base(self) -> Path:
        return self.config.resolve().parent


def gather(
    sources: Sources, period: Period, *, by: Mapping[str, str], now: dt.datetime
) -> dict[str, Any]:
    """
    Return the body of a snapshot of *sources* as they are *now*, for *period*.

    Args:
        by: the name and the key id of whoever will sign it.

    Raises:
        EvidenceUnavailable: the log does not answer.
    """
    policy, report = sources.policy, sources.policy.report
    body: dict[str, Any] = {
        "format": FORMAT,
        "app": policy.app,
        "env": policy.env,
        "service": policy.service,
        "code": metadata.version("lacre"),
        "made": _text(now),
        "by": dict(by),
        "period": {
            "since": _text(period.since),
            "until": _text(period.until),
            "days": period.days,
        },
        "definition": {"registry": registry_digest(), **report.definition()},
        "policy": _policy(sources),
        "columns": column_facts(sources.store, policy, now=now),
        "coverage": None if sources.coverage is None else coverage_facts(sources.coverage),
        "keys": key_facts(sources.store, policy, since=period.since, now=now),
        "rules": None if sources.rules is None else [dict(each) for each in sources.rules],
        "history": [dict(each) for each in sources.history],
        # What no release keeps yet: rooms of their own will count them.
        "drift": None,
        "grants": None,
        "secrets": None,
    }
    return body | _of_log(sources, period, now)


def _of_log(sources: Sources, period: Period, now: dt.datetime) -> dict[str, Any]:
    report, log = sources.policy.report, sources.log
    if log is None:
        return {
            "log": None,
            "accesses": None,
            "alerts": None,
            "anchors": [],
            "reconciliation": None,
            "drills": {"last": None, "days": None},
            "erasures": _NO_ERASURES,
            "manual": manual_facts(report.manual_controls(), {}, now=now),
        }
    reader = LogReader(log)
    anchors = anchor_facts(reader)
    policy = _policy(sources)
    policy["in_use"] = policies_in_use(reader, period.since, period.until)
    return {
        "policy": policy,
        "log": _log(sources, log, reader, anchors),
        "accesses": access_facts(log, period.since, period.until, sources.policy.purposes),
        "alerts": alert_facts(
            AlertStore(log, stamp=stamp_of(sources.policy)),
            period.since,
            period.until,
            now=now,
            within=report.alerts_within,
        ),
        "anchors": anchors,
        "reconciliation": reconciliation_facts(reader, period.since, period.until),
        "drills": drill_facts(reader, now),
        "erasures": erasure_facts(
            reader,
            period.since,
            period.until,
            now=now,
            within=report.erasure_within,
            certificates=_certificates(sources),
        ),
        "manual": manual_facts(report.manual_controls(), done_controls(reader), now=now),
    }


_NO_ERASURES: Mapping[str, object] = {
    "certified": 0, "open": 0, "overdue": 0, "late": 0, "held": 0, "irrecoverable": 0, "certificates": [],
}  # fmt: skip


def _policy(sources: Sources) -> dict[str, Any]:
    policy = sources.policy
    return {
        "sha256": hashlib.sha256(sources.config.read_bytes()).hexdigest(),
        "in_use": [],
        "purposes": None if policy.purposes is None else len(policy.purposes),
        "mode": policy.audit.mode,
        "classes": [
            {
                "class": name,
                "mask": each.mask,
                "searchable": each.index is not None,
                "rights": {
                    role: sorted(str(right) for right in rights)
                    for role, rights in sorted(each.rights.items())
                },
            }
            for name, each in sorted(policy.classes.items())
        ],
    }


def _log(
    sources: Sources, log: AuditLog, reader: LogReader, anchors: Sequence[Mapping[str, object]]
) -> dict[str, Any]:
    held = sizes(log)
    shards: list[dict[str, Any]] = []
    for each in reader.shards():
        head, name = reader.checkpoint(each.shard), shard_name(each.shard)
        size = held.get(each.shard, 0)
        anchored = [
            n for one in anchors if one["shard"] == name and isinstance(n := one["size"], int)
        ]
        shards.append(
            {
                "shard": name,
                "state": each.state,
                "hold": each.hold is not None,
                "entries": size,
                "signed": 0 if head is None else head.size,
                "root": "" if head is None else head.root.hex(),
                "anchored": min(max(anchored, default=0), size),
            }
        )
    newest = reader.newest()
    return {
        "entries": sum(held.values()),
        "shards": shards,
        "newest": None if newest is None else str(newest.entry.members["time"]),
        "verification": _copied(sources.verification),
    }


def _certificates(sources: Sources) -> dict[str, dict[str, Any]]:
    # The newest of each subject, of those that an operator signed.
    directory = sources.base / sources.policy.erasure.certificates
    signers = [PublicIdentity.from_text(line) for line in sources.policy.local.signers]
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.json"))[:_CERTIFICATES]:
        try:
            data = path.read_bytes()
            body = read_certificate(data, signers=signers)
        except (LacreError, OSError):
            continue  # nobody's word
        if body.get("kind") != "subject":
            continue
        known = found.get(str(body["subject"]))
        if known is None or str(known.get("issued_at", "")) <= str(body.get("issued_at", "")):
            found[str(body["subject"])] = body | {"sha256": hashlib.sha256(data).hexdigest()}
    return found


def _copied(facts: Mapping[str, object] | None) -> dict[str, object] | None:
    return None if facts is None else dict(facts)


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
