# SPDX-License-Identifier: Apache-2.0
"""An evidence log's tables in a database of the tests' own, and findings to raise there."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from lacre.audit.detection.finding import Finding, Severity, fingerprint
from lacre.audit.entries import Entry
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import INBOX

__all__ = ["entries", "finding", "kept_in"]

FIRST = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)


@contextmanager
def kept_in(url: str | Path) -> Iterator[AuditLog]:
    """An evidence log, new, in a file of SQLite or a database of PostgreSQL."""
    log = AuditLog(f"sqlite:///{url}" if isinstance(url, Path) else url)
    log.upgrade()
    yield log
    log.close()


def finding(
    rule: str = "bulk-access",
    *,
    principal: str = "svc:thief",
    severity: Severity = Severity.HIGH,
    evidence: Sequence[tuple[int, int]] = ((202611, 1),),
    summary: str = "500 rows in an hour",
    **facts: object,
) -> Finding:
    """A finding about *principal*."""
    return Finding(
        rule=rule,
        severity=severity,
        principal=principal,
        fingerprint=fingerprint(rule, principal),
        first=FIRST,
        last=FIRST + dt.timedelta(minutes=len(evidence)),
        summary=summary,
        facts={"threshold": 100, "found": 500, **facts},
        evidence=tuple(evidence),
    )


def entries(kept: AuditLog) -> list[Entry]:
    """What waits for the sequencer, in order."""
    with kept.reading() as connection:
        rows = connection.execute(sa.select(INBOX.c.entry).order_by(INBOX.c.position))
        return [Entry.read(bytes(line)) for line in rows.scalars()]
