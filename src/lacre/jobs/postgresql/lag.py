# SPDX-License-Identifier: Apache-2.0
"""
Replicas that fall behind a job: watched, and waited for.

Implements ``spec/protect-postgresql.md``, section "Fill". Only the primary knows its replicas, and
shows them to superusers and members of `pg_monitor`. A replica that is not connected is not seen.

The view's own `replay_lag` is the delay of what was replayed last: of a replica that stopped it
says nothing new. So a job also notes where the log stood, and when, and asks whether that was
replayed since.
"""

import threading
from collections import deque
from typing import Any

from lacre.errors import ConfigurationError
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.connection import run

__all__ = ["Replicas", "lag_of"]

_BETWEEN = 1.0  # seconds between two questions
_NOTES = 3600  # where the log stood: an hour of it

_ASK = """SELECT extract(epoch FROM max(replay_lag))::float8,
  (SELECT (pg_current_wal_lsn() - '0/0')::int8), (min(replay_lsn) - '0/0')::int8
FROM pg_stat_replication"""


def lag_of(connection: Any) -> float | None:
    """Return how many seconds the slowest replica was behind when last seen; None where none is seen."""
    row = run(connection, _ASK).fetchone()
    return None if row[0] is None else float(row[0])


class Replicas:
    """Holds a job back while a replica is further behind than its pace allows."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._asked: float | None = None
        self._notes: deque[tuple[float, int]] = deque(maxlen=_NOTES)
        self.waited = 0.0

    def wait(self, connection: Any) -> None:
        """
        Return when no replica is too far behind. Outside a transaction: a pause holds nothing.

        Raises:
            ConfigurationError: the role may not see replicas, so they cannot be waited for.
        """
        if self._pace.max_lag is None:
            return
        with self._lock:
            now = self._pace.clock()
            if self._asked is not None and now - self._asked < _BETWEEN:
                return
            if self._asked is None:
                _may_see(connection)
            while self._behind(connection) > self._pace.max_lag:
                self._pace.sleep(_BETWEEN)
                self.waited += _BETWEEN
            self._asked = self._pace.clock()

    def _behind(self, connection: Any) -> float:
        now = self._pace.clock()
        measured, written, replayed = run(connection, _ASK).fetchone()
        if replayed is None:
            self._notes.clear()
            return 0.0
        while self._notes and self._notes[0][1] <= replayed:
            self._notes.popleft()
        waiting = now - self._notes[0][0] if self._notes else 0.0
        if written > replayed:
            self._notes.append((now, written))
            return max(waiting, measured or 0.0)
        # Everything is replayed: what the view measured last is over.
        return 0.0


def _may_see(connection: Any) -> None:
    asked = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"
    if not run(connection, asked).fetchone()[0]:
        raise ConfigurationError(
            "this role may not see replicas, so the job cannot wait for them",
            hint="GRANT pg_monitor to it, or leave out --max-lag",
        )
