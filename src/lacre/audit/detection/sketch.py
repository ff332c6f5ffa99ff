# SPDX-License-Identifier: Apache-2.0
"""
Counting what is different, in bounded memory, and remembering where it was seen.

`Distinct` counts exactly up to `EXACT` and estimates beyond: the k smallest of uniform hashes say
how many there are (Bar-Yossef et al., 2002), with a standard error of one in the square root of k,
5 %. `Trail` keeps the first and the last positions. Neither reads a clock or draws randomness; the
hashes are given.
"""

import math
from collections.abc import Iterable, Sequence
from heapq import heapify, heappushpop
from typing import Any, final

__all__ = ["EXACT", "SHOWN", "Distinct", "Trail"]

EXACT = 400  # different things counted exactly; the standard error beyond is 5 %
SHOWN = 10  # positions kept from the beginning, and as many from the end

_WHOLE = 1 << 64


@final
class Distinct:
    """How many different hashes of 64 bits were added."""

    __slots__ = ("_bound", "_held", "_largest")

    def __init__(self, held: Iterable[int] = ()) -> None:
        self._held = set(held)
        self._largest: list[int] = []  # a heap of what is held, negated, once it is full
        self._bound = _WHOLE
        if len(self._held) >= EXACT:
            self._fill()

    def _fill(self) -> None:
        self._largest = [-each for each in self._held]
        heapify(self._largest)
        self._bound = -self._largest[0]

    def add(self, items: Iterable[int]) -> None:
        held = self._held
        for item in items:
            if item < self._bound and item not in held:
                held.add(item)
                if self._largest:
                    held.discard(-heappushpop(self._largest, -item))
                    self._bound = -self._largest[0]
                elif len(held) == EXACT:
                    self._fill()

    def count(self) -> int:
        """Return how many there were: exactly up to `EXACT` - 1, an estimate beyond."""
        if len(self._held) < EXACT:
            return len(self._held)
        return round((EXACT - 1) * _WHOLE / self._bound)

    def kept(self) -> list[int]:
        return sorted(self._held)

    @classmethod
    def of_all(cls, several: "Iterable[Distinct]") -> "Distinct":
        """Return the count of what was added to any of *several*."""
        union: set[int] = set().union(*(each.kept() for each in several))
        # The smallest of all are among the smallest of each: nothing is lost by having kept no more.
        return cls(sorted(union)[:EXACT])


@final
class Trail:
    """Where, when and how often something was seen."""

    __slots__ = ("events", "first", "heads", "last", "late", "tails")

    def __init__(self) -> None:
        self.heads: list[tuple[int, int]] = []
        self.tails: list[tuple[int, int]] = []
        self.events = 0
        self.late = 0
        self.first = math.inf
        self.last = -math.inf

    def add(self, position: tuple[int, int], time: float, late: bool) -> None:
        self.events += 1
        self.late += late
        if time < self.first:
            self.first = time
        if time > self.last:
            self.last = time
        if len(self.heads) < SHOWN:
            self.heads.append(position)
            return
        self.tails.append(position)
        if len(self.tails) > SHOWN:
            del self.tails[0]

    def join(self, other: "Trail") -> None:
        """Add what *other* saw, later than this."""
        self.events += other.events
        self.late += other.late
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        seen = self.heads + self.tails + other.heads + other.tails
        self.heads, self.tails = seen[:SHOWN], seen[SHOWN:][-SHOWN:]

    def positions(self) -> tuple[tuple[int, int], ...]:
        return (*self.heads, *self.tails)

    def kept(self) -> list[Any]:
        return [self.heads, self.tails, self.events, self.late, self.first, self.last]

    @classmethod
    def again(cls, kept: Sequence[Any]) -> "Trail":
        trail = cls()
        heads, tails, trail.events, trail.late, trail.first, trail.last = kept
        trail.heads = [(shard, seq) for shard, seq in heads]
        trail.tails = [(shard, seq) for shard, seq in tails]
        return trail
