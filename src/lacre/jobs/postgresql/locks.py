# SPDX-License-Identifier: Apache-2.0
"""
Locks that others feel: each asked for with a limit, given back in time, measured and reported.

Implements ``spec/protect-postgresql.md``, section "Locks". Row locks of a fill are not counted
here: they last as long as a batch.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lacre.errors import MisuseError
from lacre.jobs.postgresql.connection import run, transaction

__all__ = ["LockTaken", "Locks", "coordinating", "require_coordinating"]

_CLASS = 0x6C616372  # "lacr", the first half of the key of the jobs' advisory locks
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTaken:
    """One lock: how long it was waited for, and held, in seconds, and at which try it was had."""

    step: str
    mode: str
    waited: float
    held: float
    tries: int

    def __str__(self) -> str:
        tries = f", at try {self.tries}" if self.tries > 1 else ""
        return f"{self.step}: {self.mode}, waited {self.waited * 1000:,.0f} ms, held {self.held * 1000:,.0f} ms{tries}"


class Locks:
    """
    Takes locks on one table, and remembers them.

    Args:
        limit: seconds that a lock that stops others is waited for; all who come after wait with it.
        hold: seconds after which the server ends what a transaction does that has one.
        tries: how often it is asked for.
    """

    def __init__(
        self,
        connection: Any,
        relation: str,
        *,
        limit: float = 1.0,
        hold: float = 10.0,
        tries: int = 60,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._relation = relation
        self._limit = f"{max(1, round(limit * 1000))}ms"
        self._hold = f"{max(1, round((limit + hold) * 1000))}ms"
        self._tries = tries
        self._clock = clock
        self._sleep = sleep
        self.taken: list[LockTaken] = []

    @contextmanager
    def exclusive(self, step: str) -> Iterator[None]:
        """
        Run a transaction under ACCESS EXCLUSIVE.

        Raises:
            MisuseError: others hold the table for too long; they are named.
        """
        asking = f"LOCK TABLE {self._relation} IN ACCESS EXCLUSIVE MODE"
        with self._transaction(step, asking) as (waited, tries):
            had = self._clock()
            yield
        # After the commit, which is when it is given back.
        held = self._clock() - had
        self.taken.append(
            LockTaken(step=step, mode="ACCESS EXCLUSIVE", waited=waited, held=held, tries=tries)
        )

    @contextmanager
    def _transaction(self, step: str, asking: str) -> Iterator[tuple[float, int]]:
        import psycopg

        for attempt in range(1, self._tries + 1):
            settings = {
                "lock_timeout": self._limit,
                # Of a partitioned table the lock is one for each partition: together no longer either.
                "statement_timeout": self._limit,
                "idle_in_transaction_session_timeout": self._hold,
            }
            asked = self._clock()
            entered = False
            try:
                with transaction(self._connection, **settings):
                    run(self._connection, asking)
                    entered = True
                    run(
                        self._connection,
                        "SELECT pg_catalog.set_config('statement_timeout', %s, true)",
                        (self._hold,),
                    )
                    yield self._clock() - asked, attempt
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.QueryCanceled,
            ):
                if entered:
                    raise
            else:
                return
            # Longer each time, and by chance, so that two who wait for one another do not meet again.
            self._sleep(min(_LONGEST_PAUSE, 0.1 * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
        raise MisuseError(
            f"{step}: the table is in use all the time, {self._tries} times in a row{self._holders()}",
            hint="end what holds it, or ask at a quieter time: run the same command again",
        )

    def _holders(self) -> str:
        rows = run(
            self._connection,
            "SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'no name'), "
            "extract(epoch FROM clock_timestamp() - a.xact_start)::int "
            "FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
            "WHERE l.relation = %s::regclass AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() LIMIT 5",
            (self._relation.replace("%%", "%"),),
        ).fetchall()
        return "".join(
            f"; process {pid} ({name}) is {age or 0} s in its transaction"
            if pid is not None
            else "; a prepared transaction (pg_prepared_xacts) waits for its COMMIT"
            for pid, name, age in rows
        )

    def bounded(self, step: str, mode: str, statement: str) -> None:
        """
        Execute a statement that only changes the catalogue, and takes a lock of *mode* that stops others.

        Raises:
            MisuseError: as `exclusive`.
        """
        with self._transaction(step, statement) as (waited, tries):
            pass
        self.taken.append(LockTaken(step=step, mode=mode, waited=waited, held=0.0, tries=tries))

    @contextmanager
    def shared(self, step: str) -> Iterator[None]:
        """Measure a statement that takes SHARE UPDATE EXCLUSIVE, which stops no reader and no writer."""
        began = self._clock()
        yield
        held = self._clock() - began
        self.taken.append(
            LockTaken(step=step, mode="SHARE UPDATE EXCLUSIVE", waited=0.0, held=held, tries=1)
        )


def coordinating(connection: Any, oid: int) -> bool:
    """Become the one process that changes the table's definition; False where another is it."""
    key = oid - (1 << 32) if oid >= 1 << 31 else oid  # of an advisory lock: two signed integers
    row = run(connection, "SELECT pg_try_advisory_lock(%s::int, %s::int)", (_CLASS, key)).fetchone()
    return bool(row[0])


def require_coordinating(
    connection: Any,
    oid: int,
    table: str,
    *,
    tries: int = 15,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Raise unless this process is the one. The session of one that was killed a moment ago is waited for.

    Raises:
        MisuseError
    """
    for attempt in range(tries):
        if coordinating(connection, oid):
            return
        if attempt < tries - 1:
            sleep(0.2)
    raise MisuseError(
        f"another process is at work on {table}",
        hint="wait for it, or run the same command with --join to fill rows beside it",
    )
