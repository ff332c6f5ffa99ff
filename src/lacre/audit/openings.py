# SPDX-License-Identifier: Apache-2.0
"""
Openings: in mode `strict`, what has to be recorded before a key is handed to whoever looks.

An opening says who may look, as what, why, for which tenant, at which columns, how often at most
and until when. It is with the sink before the first look that draws on it; when it is spent, over,
or its block has ended, no look draws on it any more and another is needed. A closing says how many
looks were drawn, once those are recorded. So of a process that is killed the openings are left
that have no closing: nobody knows which looks those were, but whose they were, at what, and how
many at most.

Does not decide and records no look (`lacre.audit.recorder`).
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import final

from lacre.audit.entries import moment
from lacre.audit.event import Event, new_id, who
from lacre.audit.keeping import LookingClosed, LookingOpened
from lacre.audit.recorder import Recorder
from lacre.context import Acting

__all__ = ["Limits", "Openings"]

_QUIET = (
    0.5  # seconds that an opening is over before its closing: a look that was drawn is on its way
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one opening: how many *looks* at most, and for how many *seconds*."""

    looks: int = 10_000
    seconds: float = 60.0


@final
class _Opening:
    """One opening that was recorded."""

    __slots__ = ("acting", "bound", "closed_at", "drawn", "id", "tenant", "until")

    def __init__(self, acting: Acting, tenant: str, *, bound: int, until: float) -> None:
        self.id = new_id()
        self.acting = acting
        self.tenant = tenant
        self.bound = bound
        self.until = until
        self.drawn = 0
        self.closed_at: float | None = None  # when it was found to be over, on the process's clock


class Openings:
    """
    The openings of one application.

    Args:
        recorder: takes them, and asks for the closings in each of its drains.
        limits: of each opening.
        clock: seconds since the epoch.
    """

    def __init__(
        self, recorder: Recorder, *, limits: Limits, clock: Callable[[], float] = time.time
    ) -> None:
        self._recorder = recorder
        recorder.close_with(self.closings)
        self._limits = limits
        self._clock = clock
        self._start()
        weak = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _start(self) -> None:
        # Also in a child of fork: its parent's openings are its parent's to close.
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._all: dict[str, _Opening] = {}

    def drawn(self, acting: Acting, tenant: str, column: str, looks: int = 1) -> bool:
        """Draw *looks* at *column* on an opening, without I/O; False where there is none for them."""
        held: _Opening | None = acting.decisions.get((Openings, tenant, column))
        if held is None:
            return False
        with self._lock:
            # Ended here and not before: an acting that is over has no decisions.
            if (
                held.closed_at is not None
                or acting.ended
                or held.drawn + looks > held.bound
                or self._clock() >= held.until
            ):
                return False
            held.drawn += looks
        return True

    def draw(self, acting: Acting, tenant: str, column: str, looks: int = 1) -> None:
        """
        Draw *looks* at *column*, opening for them first where need be.

        Raises:
            EvidenceUnavailable: the opening cannot be recorded. Nothing may be looked at.
        """
        while not self.drawn(acting, tenant, column, looks):
            self.ensure(acting, tenant, [column], looks=looks)

    def ensure(
        self, acting: Acting, tenant: str, columns: Collection[str], *, looks: int = 0
    ) -> None:
        """
        Open for *columns* unless each has an opening with room: half of the limit, or *looks*.

        Raises:
            EvidenceUnavailable: it cannot be recorded.
        """
        if not self.missing(acting, tenant, columns, looks=looks):
            return
        with self._opening:
            missing = self.missing(acting, tenant, columns, looks=looks)
            if missing:
                self._open(acting, tenant, missing, looks)

    def missing(
        self, acting: Acting, tenant: str, columns: Collection[str], *, looks: int = 0
    ) -> list[str]:
        """Return those of *columns* that have no opening with room."""
        room = looks or max(1, self._limits.looks // 2)
        now = self._clock()
        found = []
        for column in columns:
            held: _Opening | None = acting.decisions.get((Openings, tenant, column))
            if (
                held is None
                or held.closed_at is not None
                or held.bound - held.drawn < room
                or now >= held.until
            ):
                found.append(column)
        return found

    def _open(self, acting: Acting, tenant: str, columns: Sequence[str], looks: int) -> None:
        now = self._clock()
        until = now + self._limits.seconds
        opening = _Opening(acting, tenant, bound=max(self._limits.looks, looks), until=until)
        event = LookingOpened(
            **who(acting, time=now, tenant=tenant),
            opening=opening.id,
            columns=tuple(sorted(columns)),
            bound=opening.bound,
            until=moment(until),
        )
        self._recorder.write([event])
        self._recorder.watch()
        with self._lock:
            self._all[opening.id] = opening
        for column in columns:
            acting.decisions[Openings, tenant, column] = opening

    def closings(self, *, last: bool = False) -> list[Event]:
        """
        Return the closings of what is over, to be recorded after every look so far; each once.

        Args:
            last: close every opening: the process ends.
        """
        now, clock = time.monotonic(), self._clock()
        with self._lock:
            for each in self._all.values():
                over = (
                    last
                    or each.acting.ended
                    or each.drawn >= each.bound
                    or clock >= each.until
                    or self._replaced(each)
                )
                if over and each.closed_at is None:
                    each.closed_at = now
            done = [
                each
                for each in self._all.values()
                if each.closed_at is not None and (last or now - each.closed_at >= _QUIET)
            ]
            for each in done:
                del self._all[each.id]
        return [
            LookingClosed(
                **who(each.acting, time=clock, tenant=each.tenant),
                opening=each.id,
                looks=each.drawn,
            )
            for each in done
        ]

    def _replaced(self, opening: _Opening) -> bool:
        # A later one took its place for every column: nobody finds it any more.
        return opening not in tuple(opening.acting.decisions.values())

    @property
    def open(self) -> int:
        """How many openings have no closing yet."""
        return len(self._all)
