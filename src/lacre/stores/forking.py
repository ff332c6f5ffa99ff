# SPDX-License-Identifier: Apache-2.0
"""
A fork while nobody is at a database.

SQLite remembers in a process's memory which locks of a file its threads hold. A child of a fork
inherits the memory and not the locks: forked within another thread's transaction it would wait for
that thread, which it has not, for ever. So a fork waits until transactions of other threads are
over. Does not open, share or close connections.
"""

import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

__all__ = ["Uses"]

_LONGEST = 10.0  # seconds that a fork waits: longer than a transaction takes, shorter than for ever


@final
class Uses:
    """Who is at a database. One for each, kept as long as it."""

    def __init__(self) -> None:
        self._start()
        hooks = (self._before, self._in_parent, self._start)
        before, parent, child = (weakref.WeakMethod(hook) for hook in hooks)
        os.register_at_fork(
            before=lambda: (method := before()) and method(),
            after_in_parent=lambda: (method := parent()) and method(),
            after_in_child=lambda: (method := child()) and method(),
        )

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._busy: Counter[int] = Counter()
        self._forking = 0

    @contextmanager
    def use(self) -> Iterator[None]:
        """Be at the database for the block. May be nested."""
        me = threading.get_ident()
        with self._changed:
            if not self._busy[me]:
                self._changed.wait_for(lambda: not self._forking, _LONGEST)
            self._busy[me] += 1
        try:
            yield
        finally:
            with self._changed:
                # A child begins with nobody, whoever forked it within the block.
                if self._busy[me] > 0:
                    self._busy[me] -= 1
                if not self._busy[me]:
                    del self._busy[me]
                self._changed.notify_all()

    def _before(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: set(self._busy) <= {me}, _LONGEST)

    def _in_parent(self) -> None:
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()
