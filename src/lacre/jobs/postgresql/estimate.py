# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 - SQL is built of quoted names; every value is a parameter
"""
How long a job will take, and how much it will write: from a sample, measured before it starts.

Implements ``spec/protect-postgresql.md``, section "What remains elsewhere" (sizes) and the duration beside
them. The sample is read, encrypted, written into a temporary table, and thrown away.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lacre.jobs.columns import PlannedColumn
from lacre.jobs.conversion import Encrypting, ProtectedField
from lacre.jobs.postgresql.catalogue import Catalogue
from lacre.jobs.postgresql.connection import connected, quoted, run, transaction
from lacre.jobs.postgresql.lag import lag_of
from lacre.jobs.postgresql.plan import Plan
from lacre.jobs.postgresql.sizes import Sizes
from lacre.jobs.postgresql.values import form_of, read_as
from lacre.jobs.sources import NO_SOURCES, Sources, form_from

__all__ = ["Estimate", "estimated"]

_SAMPLE = 500
_WRITES = 2.5  # an UPDATE beside an INSERT without WAL or indexes, near enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Figures before the start. *seconds* of the fill alone; *lag* of the slowest replica, where one is seen."""

    rows: int
    sample: int
    rate: float | None
    seconds: float | None
    sizes: Sizes
    lag: float | None

    def record(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "sample": self.sample,
            "rows_per_second": self.rate,
            "seconds": self.seconds,
            "replica_lag": self.lag,
            "bytes": self.sizes.record(),
        }

    def sentences(self) -> list[str]:
        sizes = self.sizes
        free = (
            "free disk cannot be seen from here"
            if sizes.free is None
            else f"{_mb(sizes.free)} are free"
        )
        told = [
            f"the table takes {_mb(sizes.total)} with its indexes; its rows grow by about {_mb(sizes.growth)}, and it may take {_mb(sizes.peak)} until vacuum",
            f"about {_mb(sizes.wal)} of write-ahead log; {_mb(sizes.needed)} should be free while this runs, {free}",
        ]
        if self.seconds is not None and self.rate is not None:
            told.append(
                f"about {self.seconds:,.0f} s to fill at {self.rate:,.0f} rows/s, as {self.sample} rows show, and as long again to verify"
            )
        told.append(
            "no replica is seen from here (pg_monitor shows them)"
            if self.lag is None
            else f"the slowest replica is {self.lag:.1f} s behind"
        )
        return told


def estimated(
    database: str,
    decided: Plan,
    fields: Callable[[PlannedColumn], ProtectedField],
    *,
    workers: int = 1,
    throttle: float | None = None,
    sources: Sources = NO_SOURCES,
    connect: Callable[[str], Any] = connected,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Measure a sample of what *decided* says; nothing of it is kept."""
    with connect(database) as connection:
        lag = lag_of(connection)
        sample, seconds = _measured(connection, decided, fields, sources, clock)
    rate = None
    if sample and seconds > 0:
        # A second thread fills the pauses of the first; more find one interpreter busy.
        rate = sample / seconds * min(workers, 2)
        rate = min(rate, throttle) if throttle else rate
    return Estimate(
        rows=decided.rows,
        sample=sample,
        rate=rate,
        seconds=decided.rows / rate if rate else None,
        sizes=decided.sizes,
        lag=lag,
    )


def _measured(
    connection: Any,
    decided: Plan,
    fields: Callable[[PlannedColumn], ProtectedField],
    sources: Sources,
    clock: Callable[[], float],
) -> tuple[int, float]:
    catalogue = Catalogue(connection, f"{decided.schema}.{decided.table}")
    conversion = Encrypting(
        decided.columns,
        {column.name: fields(column) for column in decided.columns},
        form_from(sources, lambda column: form_of(catalogue.column(column.name), column)),
        record=lambda _events: None,  # thrown away
    )
    wanted = ", ".join(read_as(quoted(name), catalogue.column(name)) for name in conversion.sources)
    targets = range(len(conversion.targets))
    with transaction(connection):
        columns = ", ".join(f"c{at} pg_catalog.bytea" for at in targets)
        run(connection, f"CREATE TEMPORARY TABLE lacre_sample ({columns}) ON COMMIT DROP")
        began = clock()
        page = run(
            connection, f"SELECT {wanted} FROM {catalogue.sql} LIMIT %s", (_SAMPLE,), binary=True
        ).fetchall()
        if not page:
            return 0, 0.0
        made = conversion.convert([(f"{at:032x}", row) for at, row in enumerate(page)])
        read = clock()
        arrays = ", ".join("%b::bytea[]" for _ in targets)
        run(
            connection,
            f"INSERT INTO pg_temp.lacre_sample SELECT * FROM unnest({arrays})",
            [list(column) for column in zip(*made, strict=True)],
        )
        return len(page), read - began + (clock() - read) * _WRITES


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
