# SPDX-License-Identifier: Apache-2.0
"""An evidence log's tables in a database of the tests' own, and findings to raise there."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lacre.audit.detection.finding import Finding, Severity, fingerprint
from lacre.audit.entries import Entry
from lacre.stores.log.schema import INBOX, metadata

__all__ = ["Kept", "entries", "finding", "kept_in"]

FIRST = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Kept:
    """Connections to the tables."""

    engine: sa.Engine
    writer: sa.Engine


def _begins_alone(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _plain(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


@contextmanager
def kept_in(url: sa.URL | Path) -> Iterator[Kept]:
    """The tables, new, in a file of SQLite or a database of PostgreSQL."""
    engine = sa.create_engine(f"sqlite:///{url}" if isinstance(url, Path) else url)
    if isinstance(url, Path):
        sa.event.listen(engine, "connect", _plain)
        sa.event.listen(engine, "begin", _begins_alone)
    metadata.create_all(engine)
    yield Kept(engine, engine)
    engine.dispose()


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


def entries(kept: Kept) -> list[Entry]:
    """What waits for the sequencer, in order."""
    with kept.engine.connect() as connection:
        rows = connection.execute(sa.select(INBOX.c.entry).order_by(INBOX.c.position))
        return [Entry.read(bytes(line)) for line in rows.scalars()]
