# SPDX-License-Identifier: Apache-2.0
"""
Several sinks as one: every event goes to each of them.

Does not decide which (`lacre.evidence`).
"""

from collections.abc import Sequence
from typing import Protocol, final

from lacre.audit.event import Event
from lacre.audit.governing import KnownPolicy

__all__ = ["Kept", "Several"]


class Kept(Protocol):
    """A sink that knows how fresh its evidence is, and may hold something open."""

    def append(self, events: Sequence[Event]) -> None: ...

    def newest(self) -> float | None:
        """Return the time of the last event, in seconds; None where there is none."""
        ...

    def close(self) -> None:
        """Let go of what is held open. It may be appended to again."""
        ...


@final
class Several:
    """
    Hands events to *sinks*, one after another.

    Where one fails, those before it have the batch already: given again, as the recorder does, it
    goes on with the one that failed.
    """

    def __init__(self, sinks: Sequence[Kept]) -> None:
        self._sinks = tuple(sinks)
        self._batch: list[str] = []
        self._done = 0

    def append(self, events: Sequence[Event]) -> None:
        """Append *events* to each; without any, raise where one could not take some."""
        batch = [event.id for event in events]
        if not batch:
            for sink in self._sinks:
                sink.append(events)
            return
        if batch != self._batch:
            self._batch, self._done = batch, 0
        for sink in self._sinks[self._done :]:
            sink.append(events)
            self._done += 1
        self._batch, self._done = [], 0

    def newest(self) -> float | None:
        """Return the latest that any of them knows."""
        known = [each for sink in self._sinks if (each := sink.newest()) is not None]
        return max(known, default=None)

    def known_policy(self) -> KnownPolicy | None:
        """Return the policy that one of them met last; the last of them that can say it says it."""
        for sink in reversed(self._sinks):
            known = getattr(sink, "known_policy", None)
            found: KnownPolicy | None = None if known is None else known()
            if found is not None:
                return found
        return None

    def close(self) -> None:
        """Close each, whichever fails."""
        self._close(self._sinks)

    def _close(self, sinks: Sequence[Kept]) -> None:
        if sinks:
            try:
                sinks[0].close()
            finally:
                self._close(sinks[1:])
