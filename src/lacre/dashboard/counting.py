# SPDX-License-Identifier: Apache-2.0
"""
Counts that take long, made beside the pages: a page shows the last ones, and of when they are.

To count the values of a table is to read all of it. Knows neither tables nor keys: what counts is
given.
"""

import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, final

from lacre.jobs.coverage import Coverage

__all__ = ["Counted", "Counting"]

_log = logging.getLogger("lacre.dashboard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The coverage of columns as it was at a moment."""

    when: dt.datetime
    found: tuple[Coverage, ...]


@final
class Counting:
    """
    Counts once, and every *every* seconds again, in a thread of its own inside the ``with`` block.

    What cannot be counted leaves the last figures as they are, with their time.
    """

    def __init__(self, count: Callable[[], Sequence[Coverage]], *, every: float) -> None:
        self._count = count
        self._every = every
        self._last: Counted | None = None
        self._failed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lacre-counting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @property
    def last(self) -> Counted | None:
        """What was counted last; None until then."""
        return self._last

    @property
    def failed(self) -> bool:
        """Whether the last count could not be made."""
        return self._failed

    def count(self) -> None:
        """Count now."""
        try:
            found = tuple(self._count())
        except Exception as error:  # noqa: BLE001  the database's own, whose text may quote anything
            self._failed = True
            _log.warning("the values could not be counted: %s", type(error).__name__)
            return
        self._last, self._failed = Counted(when=dt.datetime.now(dt.UTC), found=found), False

    def _run(self) -> None:
        while not self._ended.is_set():
            self.count()
            self._ended.wait(self._every)
