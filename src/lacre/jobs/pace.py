# SPDX-License-Identifier: Apache-2.0
"""How fast a job works, and how far it is. Knows no database, and prints nothing."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pace", "Progress", "Reporter"]

_THROTTLED = ("fill", "reencrypt")  # the phases that write


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a phase is. *rate* is rows per second, *remaining* seconds; None while unknown."""

    phase: str
    done: int
    total: int
    rate: float | None
    remaining: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    How fast to work.

    Args:
        batch: rows a transaction. Small batches keep other writers' waits short.
        throttle: rows a second at most.
        workers: how many threads fill and verify. PostgreSQL only: SQLite has one writer.
        max_lag: seconds that a replica may be behind before the fill waits for it. PostgreSQL only.
        progress: called after every batch.
    """

    batch: int = 500
    throttle: float | None = None
    workers: int = 1
    max_lag: float | None = None
    progress: Callable[[Progress], None] | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Reporter:
    """
    Counts the rows of one phase, tells how far it is, and holds a fill back to the pace's throttle.

    May be called by several threads.
    """

    def __init__(self, pace: Pace, phase: str, *, total: int, done: int) -> None:
        self._pace = pace
        self._phase = phase
        self._total = total
        self._done = done
        self._worked = 0
        self._began = pace.clock()
        self._lock = threading.Lock()

    def __call__(self, count: int) -> None:
        pace = self._pace
        with self._lock:
            self._worked += count
            worked, elapsed = self._worked, pace.clock() - self._began
            rate = worked / elapsed if elapsed > 0 and worked else None
            if pace.progress is not None:
                left = max(0, self._total - self._done - worked)
                pace.progress(
                    Progress(
                        phase=self._phase,
                        done=min(self._done + worked, self._total),
                        total=self._total,
                        rate=rate,
                        remaining=left / rate if rate else None,
                    )
                )
        if pace.throttle and self._phase in _THROTTLED:
            ahead = worked / pace.throttle - elapsed
            if ahead > 0:
                pace.sleep(ahead)
