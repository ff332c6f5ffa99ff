# SPDX-License-Identifier: Apache-2.0
"""
Work behind everybody's back: a few threads that are there only while there is some.

Each piece of work has a name, and one that waits or runs is not taken a second time. Threads are
daemons, so that a key service that hangs does not keep a process from ending; at a normal exit
what runs is waited for, briefly. A child of fork begins without any.

Nothing is reported: whoever gives the work sees to its errors.
"""

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import final

__all__ = ["Background"]

_THREADS = 4
_AT_EXIT = 1.0  # seconds that what runs is waited for


@final
class Background:
    """The work of one cache."""

    def __init__(self) -> None:
        self._start()
        weak, end = weakref.WeakMethod(self._start), weakref.WeakMethod(self.end)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())
        # Before the interpreter takes its threads apart: one in the middle of a C call would
        # come back to nothing.
        atexit.register(lambda: (method := end()) and method(_AT_EXIT))

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Hashable, Callable[[], object]]] = deque()
        self._named: set[Hashable] = set()
        self._threads = 0

    def do(self, name: Hashable, work: Callable[[], object]) -> None:
        """Do *work* soon, unless work of that name waits or runs already. Never raises."""
        with self._changed:
            if name in self._named:
                return
            self._named.add(name)
            self._waiting.append((name, work))
            if self._threads == _THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="lacre-keys-ahead", daemon=True).start()
        except RuntimeError:  # no thread can be had now, or the interpreter ends
            with self._changed:
                self._threads -= 1
                if not self._threads:
                    self._forget()

    def end(self, patience: float) -> bool:
        """Forget what waits, and wait for what runs, *patience* seconds at most. Whether it ended."""
        with self._changed:
            self._forget()
            return self._changed.wait_for(lambda: not self._threads, patience)

    def settle(self, patience: float) -> bool:
        """Wait until everything is done, *patience* seconds at most. Whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._threads, patience)

    def _forget(self) -> None:
        self._named.difference_update(name for name, _ in self._waiting)
        self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                name, work = self._waiting.popleft()
            with suppress(Exception):
                work()
            with self._changed:
                self._named.discard(name)
