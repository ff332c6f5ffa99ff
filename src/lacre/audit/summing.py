# SPDX-License-Identifier: Apache-2.0
"""
What leaves add up to: the sums by the hour, and whom leaves are about, as fingerprints that can be compared.

A log of years has millions of sums. Those of an hour are therefore one number here: each sum, times
a hash of what it is of, under a secret that is drawn for one verification. Whoever wrote the sums
does not know it, so no other sums give that number but by a chance of one in 2**128. Implements
``spec/evidence-log.md``, sections 3 and 8.1. Reads no database.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

from lacre._core.merkle import TILE
from lacre.audit.leaves import Drawn

__all__ = ["HOUR", "Sums", "Tally", "add_hours", "tally_key", "touched_part", "weighed"]

HOUR = 3_600_000_000
_SHORT = 512  # bytes of one column of a tally
_MODULUS = 2**256

Tally = tuple[int, str, str, str, str, str, str]


def tally_key(drawn: Drawn) -> Tally:
    """Return what an entry is counted under: cut where an index of PostgreSQL would not take it."""
    return (
        drawn.time // HOUR * HOUR,
        _short(drawn.principal),
        drawn.action,
        drawn.status,
        _short(drawn.class_),
        _short(drawn.place),
        _short(drawn.purpose),
    )


def weighed(secret: bytes, texts: Iterable[str], events: int, count: int) -> int:
    """Return what a sum of *events* and *count* of *texts* adds to the fingerprint of its hour."""
    # No text of lacre's has a NUL in it; one that has makes more parts than there are columns.
    said = "\0".join(texts).encode("utf-8", "surrogatepass")
    hashed = hashlib.blake2b(said, key=secret, digest_size=32).digest()
    # Both are of 64 bits, so together they are nought only where both are.
    return int.from_bytes(hashed) * (events + (count << 64)) % _MODULUS


def add_hours(to: dict[int, int], more: Iterable[tuple[int, int]]) -> None:
    """Add the fingerprints *more*, each of an hour, to those of *to*."""
    for hour, number in more:
        to[hour] = (to.get(hour, 0) + number) % _MODULUS


def touched_part(lines: Iterable[tuple[int, str]]) -> bytes:
    """Return the hash of what the leaves of one tile are about: *lines* are (seq, resource), sorted."""
    text = "".join(f"{seq} {len(resource)} {resource}\n" for seq, resource in lines)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@final
@dataclass(slots=True)
class Sums:
    """
    What leaves, taken in their order, add up to.

    *hours* are fingerprints of sums, *parts* hashes of what is touched, by the number of the tile.
    """

    secret: bytes
    hours: dict[int, int] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)
    _counts: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    _lines: list[tuple[int, str]] = field(default_factory=list)
    _part: int = 0

    def take(self, seq: int, key: Tally, count: int, touched: Iterable[str]) -> None:
        """Take one leaf; the texts of *key* may be longer than a tally's."""
        self.add(key, 1, count)
        for resource in touched:
            self.touch(seq, resource)

    def add(self, key: Tally, events: int, count: int) -> None:
        """Count *events* under *key*, and what they count together."""
        sums = self._counts.get(key)
        if sums is None:
            self._counts[key] = [events, count]
        else:
            sums[0] += events
            sums[1] += count

    def touch(self, seq: int, resource: str) -> None:
        """Take one of what a leaf is about."""
        if seq // TILE != self._part:
            self._end_part()
            self._part = seq // TILE
        self._lines.append((seq, resource))

    def end(self) -> None:
        """Take no more: what is left is put into fingerprints."""
        self._end_part()
        add_hours(
            self.hours,
            (
                (key[0], weighed(self.secret, map(_short, key[1:]), events, count))
                for key, (events, count) in self._counts.items()
            ),
        )
        self._counts = {}

    def _end_part(self) -> None:
        if self._lines:
            self.parts[self._part] = touched_part(sorted(self._lines))
            self._lines = []


def _short(text: str) -> str:
    # 256 characters of ASCII are 256 bytes, and of others up to 1024; of all columns together 2704 will do.
    if text.isascii():
        return text
    return text.encode()[:_SHORT].decode(errors="ignore")
