# SPDX-License-Identifier: Apache-2.0
"""
What reads another library's values for a command, and what that asks of a key service: said before it is asked.

The old formats draw a data key for each value, so no two of them share a call, and nothing is kept
to save one. Decides and moves nothing.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lacre.cli.operator import Operator
from lacre.cli.terminal import say
from lacre.fields.scheme import Scheme
from lacre.jobs import databases
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.postgresql.connection import is_postgresql
from lacre.jobs.sources import Source, SourceReader, Sources

__all__ = ["Timed", "foretell", "lasting", "sources_of"]

_SAMPLE = 20  # values after which a call's time is told


def sources_of(operator: Operator, store: str, name: str) -> Sources:
    """Return what reads columns by the legacy reader *name*, opened once, each value recorded."""
    from lacre.legacy.opening import open_reader
    from lacre.legacy.reading import RecordedReader

    lacre = operator.lacre
    today = lacre.deadlines.now()[0].date()
    reader = open_reader(lacre.policy.file, name, base=operator.base, day=today)

    def source(asked: Source) -> SourceReader:
        scheme = Scheme(
            class_=asked.class_,
            store=store,
            table=asked.table,
            column=asked.column,
            python_type=reader.python_type,
        )
        return RecordedReader(lacre.field_of(scheme), reader)

    return source


def foretell(
    database: str, table: str, requests: Sequence[ColumnRequest], sources: Sources
) -> Sources:
    """
    Say how often a key service is asked for a plan of *requests*; nothing where none is.

    Returns:
        *sources*, which say after a few values how long the plan takes.
    """
    calls = max(sources(Source(table, each.name, each.class_, each.reader)).calls for each in requests)  # fmt: skip
    if not calls:
        return sources
    values = databases.values_in(database, table, requests)
    # To fill and to verify; a table of SQLite is planned again before that.
    again = 2 if is_postgresql(database) else 3
    say(f"this plan asks the key service {calls * values:,} times or more, one call after another; moving asks {again} times as many again")  # fmt: skip
    left = [values]

    def told(seconds: float) -> None:
        if left:
            say(f"a value takes {seconds * 1000:,.0f} ms: some {lasting(seconds * left.pop())} for this plan")  # fmt: skip

    return lambda asked: Timed(sources(asked), told)


def lasting(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class Timed:
    """A reader that tells, once it read a few values, how long one took."""

    def __init__(
        self,
        reader: SourceReader,
        told: Callable[[float], None],
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader = reader
        self._told = told
        self._clock = clock
        self._seconds = 0.0
        self._count = 0
        self.name = reader.name
        self.python_type = reader.python_type
        self.calls = reader.calls
        self.authenticated = reader.authenticated

    def found(self, stored: object) -> tuple[Any, str]:
        """As the reader's own."""
        began = self._clock()
        try:
            return self._reader.found(stored)
        finally:
            self._seconds += self._clock() - began
            self._count += 1
            if self._count == _SAMPLE:
                self._told(self._seconds / self._count)
