# SPDX-License-Identifier: Apache-2.0
"""
Calls of a remote key service: attempts with full jitter under a total deadline, and a breaker.

Full jitter: a pause is drawn between zero and a bound that doubles ("Exponential Backoff And
Jitter", AWS Architecture Blog, 2015), so that processes that failed together do not return together.
The breaker opens after several operations that got no answer; while it is open operations fail at
once, then one goes through as a probe. Any answer closes it, a denial too.

Knows no key service: the caller says what may be tried again by raising `TryAgain`. Retries no
denial and no answer about a key. Sets no time-out of a socket; whoever makes the attempt does.
"""

import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, final

from lacre.errors import KeyServiceUnreachable

__all__ = ["CallLimits", "Calls", "TryAgain"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds, upper bounds of a draw
_FAILURES = 3  # operations in a row without an answer that open the breaker
_FIRST_REST, _LONGEST_REST = 1.0, 15.0  # seconds it stays open


class TryAgain(Exception):  # never leaves this package
    """
    No answer, or one that says "later". *reason* is in fixed words, never the service's.

    *after* is the pause the service asked for, in seconds.
    """

    def __init__(self, reason: str, *, after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The longest an operation takes with all its attempts, and the longest single one, in seconds."""

    deadline: float = 2.0
    attempt: float = 1.0


@final
class Calls:
    """
    The calls of one process to one endpoint.

    Args:
        where: the endpoint, for messages.
        clock: seconds that never go back.
        draw: between 0 and 1.
    """

    def __init__(
        self,
        where: str,
        limits: CallLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._where = where
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        # The lock may be held by a thread that does not exist in a child of fork.
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = _FIRST_REST
        self._opens_at = 0.0  # while the breaker is open: when a probe may go
        self._probe_ends = 0.0  # while one is under way: when it counts as lost

    @property
    def resting(self) -> bool:
        """Whether the breaker is open: after failures, and until an operation got an answer."""
        return self._failures >= _FAILURES

    def __call__(self, attempt: Callable[[], T]) -> T:
        """
        Return what *attempt* does, tried again while it raises `TryAgain` and time is left.

        Raises:
            KeyServiceUnreachable: no answer within the deadline, or the breaker is open.
        """
        probe = self._admit()
        reason = ""
        try:
            answer = self._attempts(attempt, once=probe)
        except TryAgain as last:
            reason = last.reason
        except BaseException:
            # Whatever else it is, somebody answered; or the caller was interrupted.
            self._answered(probe)
            raise
        else:
            self._answered(probe)
            return answer
        self._failed(probe)
        raise KeyServiceUnreachable(
            f"{self._where} {reason} (tried for up to {self._limits.deadline:g} s)",
            hint="cached keys serve until they expire; bring the key service back",
        )

    def _attempts(self, attempt: Callable[[], T], *, once: bool) -> T:
        ends = self._clock() + self._limits.deadline
        bound = _FIRST_PAUSE
        while True:
            try:
                return attempt()
            except TryAgain as failed:
                pause = max(failed.after, self._draw() * bound)
                bound = min(2 * bound, _LONGEST_PAUSE)
                # Another attempt begins only if it can end in time.
                if once or self._clock() + pause + self._limits.attempt > ends:
                    raise
                self._sleep(pause)

    def _admit(self) -> bool:
        with self._lock:
            if self._failures < _FAILURES:
                return False
            now = self._clock()
            if now >= max(self._opens_at, self._probe_ends):
                # One that hangs, or whose thread was interrupted before it began, never reports
                # back: it must not keep the breaker open for ever.
                self._probe_ends = now + self._limits.deadline
                return True
        raise KeyServiceUnreachable(
            f"{self._where} did not answer lately and is not asked for a moment",
            hint="cached keys serve until they expire; bring the key service back",
        )

    def _answered(self, probe: bool) -> None:
        with self._lock:
            self._failures = 0
            self._rest = _FIRST_REST
            if probe:
                self._probe_ends = 0.0

    def _failed(self, probe: bool) -> None:
        with self._lock:
            self._failures += 1
            if probe:
                self._probe_ends = 0.0
                self._rest = min(2 * self._rest, _LONGEST_REST)
            if self._failures >= _FAILURES:
                # Jitter only lengthens: probes of many processes spread out.
                self._opens_at = self._clock() + self._rest * (1 + 0.2 * self._draw())
