# SPDX-License-Identifier: Apache-2.0
"""
Replicas that fall behind a job: watched, and waited for.

Implements ``spec/protect-postgresql.md``, section "Fill". Only the primary knows its replicas, and
shows their lag to superusers and members of `pg_monitor`.
"""

import threading
from typing import Any

from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.connection import run

__all__ = ["Replicas", "lag_of"]

_BETWEEN = 1.0  # seconds between two questions


def lag_of(connection: Any) -> float | None:
    """Return how many seconds the slowest replica is behind; None where none is seen."""
    row = run(
        connection,
        "SELECT extract(epoch FROM max(replay_lag))::float8 FROM pg_stat_replication",
    ).fetchone()
    return None if row[0] is None else float(row[0])


class Replicas:
    """Holds a job back while a replica is further behind than its pace allows."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._asked: float | None = None
        self.waited = 0.0

    def wait(self, connection: Any) -> None:
        """Return when no replica is too far behind. Outside a transaction: a pause holds nothing."""
        if self._pace.max_lag is None:
            return
        with self._lock:
            now = self._pace.clock()
            if self._asked is not None and now - self._asked < _BETWEEN:
                return
            while (lag_of(connection) or 0.0) > self._pace.max_lag:
                self._pace.sleep(_BETWEEN)
                self.waited += _BETWEEN
            self._asked = self._pace.clock()
