# SPDX-License-Identifier: Apache-2.0
"""
`reencrypt` on the tables of one database: survey, estimate, and pass after pass until nothing is left.

Which package reads and writes, the database's URL says. Keeps no memory of its own: what is left
to be done is what the values' own headers say, so a job that was killed goes on by being run again.
Implements ``spec/reencryption.md``.
"""

import datetime as dt
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lacre.audit.event import Event
from lacre.fields.moving import MovingField
from lacre.fields.tables import EncryptedColumn, EncryptedTable
from lacre.jobs import databases
from lacre.jobs.coverage import Aim, Coverage, KeyCatalogue, Standing, coverage_of
from lacre.jobs.indexing import Reindexing
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql import reencryption as postgresql
from lacre.jobs.postgresql.connection import connected, is_postgresql, refusing
from lacre.jobs.postgresql.lag import lag_of
from lacre.jobs.reencryption import Failure, Reencrypting, TableJob, Tally
from lacre.jobs.sqlite import reencryption as sqlite
from lacre.jobs.sqlite.database import opened
from lacre.keys.hierarchy import Scope

__all__ = ["Outcome", "Reindexed", "Sweeper", "TableEstimate"]

_PATIENCE = 30.0  # seconds that rows which somebody else holds are waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEstimate:
    """
    What moving one table will take. *seconds* and *rate* are None where nothing was to be measured;
    *calls* of the key service; *wal* bytes of write-ahead log, where there is one.
    """

    table: str
    rows: int
    values: int
    sample: int
    rate: float | None
    seconds: float | None
    calls: int
    wal: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What this process did to one table, and how its columns stand now."""

    table: str
    rows: int
    moved: int
    suspect: int
    lost_races: int
    passes: int
    failures: tuple[Failure, ...]
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexed:
    """What was done to the indexes of one table: *rows* written, and those whose tokens are *stale* still."""

    table: str
    rows: int
    stale: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeper:
    """
    Moves values of one database.

    Args:
        keys: the key store, asked what became of the keys that values name.
        scope: app, environment and service.
        tenant: whose values are moved in *table*; None: those of every tenant it names.
        record: takes events before they are committed.
        forget: drops cached keys: a pass begins with the keys of its own time.
        before: leave values of keys alone whose next version was made after that.
        connect: to a PostgreSQL database.
    """

    database: str
    fields: Callable[[EncryptedColumn], MovingField]
    keys: KeyCatalogue
    scope: Scope
    tenant: Callable[[EncryptedTable], str | None]
    record: Callable[[Sequence[Event]], None]
    forget: Callable[[], None]
    before: dt.datetime | None = None
    pace: Pace = field(default_factory=Pace)
    connect: Callable[[str], Any] = connected

    def survey(self, table: EncryptedTable) -> list[Coverage]:
        """Count the values of each key in each encrypted column of *table*. Opens none."""
        if is_postgresql(self.database):
            with refusing(str(table)), self.connect(self.database) as connection:
                counts = postgresql.counted(connection, table)
        else:
            with closing(opened(self._path)) as file:
                counts = sqlite.counted(file, table)
        return coverage_of(table, counts, self.keys, scope=self.scope, tenant=self.tenant(table))

    def aims(self, table: EncryptedTable, coverage: Sequence[Coverage]) -> list[Aim]:
        """Return what is to be moved of *table*."""
        by_name = {column.name: column for column in table.columns}
        aims = [
            Aim.of(by_name[covered.column], covered, before=self.before) for covered in coverage
        ]
        return [aim for aim in aims if aim.values]

    def estimate(
        self,
        table: EncryptedTable,
        coverage: Sequence[Coverage],
        *,
        clock: Callable[[], float] = time.perf_counter,
        cache_age: float,
    ) -> TableEstimate:
        """Measure how fast values of *table* are moved on a sample, of which nothing is kept."""
        aims = self.aims(table, coverage)
        values = sum(aim.values for aim in aims)
        rows = max((aim.values for aim in aims), default=0)
        job, sample, taken, wal = self._reencrypting(table, aims, coverage), 0, 0.0, None
        if aims and is_postgresql(self.database):
            with refusing(str(table)), self.connect(self.database) as connection:
                found = postgresql.sampled(connection, job, clock)
                sample, taken, wal = found.rows, found.seconds, found.row_bytes * rows
        elif aims:
            with closing(opened(self._path)) as file:
                sample, taken = sqlite.sampled(file, job, clock)
        rate = None
        if sample and taken > 0:
            rate = sample / taken * min(self.pace.workers, 2)
            rate = min(rate, self.pace.throttle) if self.pace.throttle else rate
        seconds = rows / rate if rate else None
        branches = {
            share.row.parent
            for covered in coverage
            for share in covered.shares
            if share.row is not None and share.standing not in (Standing.ELSEWHERE, Standing.ERASED)
        }
        periods = 1 + math.floor((seconds or 0.0) / cache_age)
        return TableEstimate(
            table=str(table),
            rows=rows,
            values=values,
            sample=sample,
            rate=rate,
            seconds=seconds,
            calls=len(branches) * periods if aims else 0,
            wal=wal,
        )

    def lag(self) -> float | None:
        """Return how far the slowest replica is behind, in seconds; None where none is seen."""
        if not is_postgresql(self.database):
            return None
        with refusing("the database"), self.connect(self.database) as connection:
            return lag_of(connection)

    def run(self, table: EncryptedTable) -> Outcome:
        """
        Pass over *table* until nothing is left that can be moved.

        Rows that somebody else holds are waited for, half a minute at most; what is left after
        that is in the outcome's coverage.
        """
        tally, passes, moved, waited = Tally(), 0, 0, 0.0
        while True:
            self.forget()
            coverage = self.survey(table)
            aims = self.aims(table, coverage)
            left = sum(aim.values for aim in aims)
            if not left or (passes and left <= tally.failures):
                break
            if passes and not moved:
                if waited >= _PATIENCE:
                    break
                self.pace.sleep(1.0)
                waited += 1.0
            tally.forget_failures()
            before = sum(tally.moved.values())
            self._pass(table, aims, coverage, tally)
            moved = sum(tally.moved.values()) - before
            passes += 1
        return Outcome(
            table=str(table),
            rows=tally.rows,
            moved=sum(tally.moved.values()),
            suspect=sum(tally.suspect.values()),
            lost_races=tally.lost_races,
            passes=passes,
            failures=tuple(tally.listed(table)),
            coverage=tuple(coverage),
        )

    def _pass(
        self,
        table: EncryptedTable,
        aims: Sequence[Aim],
        coverage: Sequence[Coverage],
        tally: Tally,
    ) -> None:
        job = self._reencrypting(table, aims, coverage)
        with refusing(str(table)) if is_postgresql(self.database) else nullcontext():
            self._passes(job, tally, total=max(aim.values for aim in aims)).run()

    def _passes(
        self, job: TableJob, tally: Tally, *, total: int
    ) -> postgresql.Passes | sqlite.Passes:
        if not is_postgresql(self.database):
            return sqlite.Passes(job, self.pace, self._path, tally=tally, total=total)
        connect = partial(self.connect, self.database)
        return postgresql.Passes(job, self.pace, connect, tally=tally, total=total)

    def reindex(self, table: EncryptedTable, *, write: bool = True) -> Reindexed:
        """
        Fill the index columns of *table* as a write of today would, and read all of them again.

        Of rows of `tenant` alone, where it names one.

        Args:
            write: False only counts what is missing, stale or wrong.
        """
        tally, stale, waited = Tally(), 0, 0.0
        with refusing(str(table)) if is_postgresql(self.database) else nullcontext():
            while table.indexed:
                self.forget()
                job = self._reindexing(table)
                before = tally.rows
                tally.forget_failures()
                if write:
                    self._passes(job, tally, total=0).run()
                counted = Tally()
                stale = self._passes(job, counted, total=0).stale()
                if not write or not stale:
                    tally.failed = counted.failed
                    break
                if tally.rows == before:
                    # Somebody holds them, or they hold values that another row holds.
                    if waited >= _PATIENCE:
                        break
                    self.pace.sleep(1.0)
                    waited += 1.0
        return Reindexed(
            table=str(table), rows=tally.rows, stale=stale, failures=tuple(tally.listed(table))
        )

    def _reindexing(self, table: EncryptedTable) -> Reindexing:
        tenant, elsewhere = self.tenant(table), frozenset[bytes]()
        if table.tenant is None:  # whose a row is, the keys of its values say
            elsewhere = frozenset(
                share.key
                for covered in self.survey(table)
                for share in covered.shares
                if share.standing is Standing.ELSEWHERE and share.key is not None
            )
        return Reindexing(
            table, fields=self.fields, record=self.record, tenant=tenant, elsewhere=elsewhere
        )

    def _reencrypting(
        self, table: EncryptedTable, aims: Sequence[Aim], coverage: Sequence[Coverage]
    ) -> Reencrypting:
        suspect = frozenset(
            share.key
            for covered in coverage
            for share in covered.shares
            if share.standing is Standing.COMPROMISED and share.key is not None
        )
        return Reencrypting(
            table,
            aims,
            fields=self.fields,
            record=self.record,
            suspect=suspect,
            tenant=self.tenant(table) if table.tenant is None else None,
        )

    @property
    def _path(self) -> Path:
        return databases.file_of(self.database)
