# SPDX-License-Identifier: Apache-2.0
"""
The arithmetic of blind indexes: how long a token may be for what a column holds.

Two rules bound a length, each from one side of the same question. The planner of CipherSweet
counts *rows*: a row's tokens, taken together, should be shared by at least 2 rows and at most by
the square root of all of them. The beacon rule of the AWS Database Encryption SDK counts *values*:
a token should stand for at least 2 of the values in use, and there should be more tokens than the
square root of these. A length is safe where both hold.

Works on counts: no value, token or key comes here. Reads no table (`lacre.sqlalchemy.histograms`)
and judges no declaration (`lacre.fields.advice`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, expm1, floor, inf, log1p, log2, sqrt
from typing import Self

__all__ = [
    "EXACT",
    "FEWEST_ROWS",
    "Distribution",
    "Lengths",
    "by_rows",
    "by_values",
    "coincidences",
    "false_positives",
    "shared_out",
]

FEWEST_ROWS = 16  # below it no length hides a row among others
EXACT = 96  # bits, from which tokens never collide by chance in one table
_LONGEST = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """
    How often the values of one index occur, as counts.

    Args:
        rows: rows of the table that hold a value.
        read: how many of them were counted; fewer than *rows* where a sample was taken.
        distinct: different values among those.
        largest: rows of the commonest value among those.
        squares: the sum of the squares of all values' counts.
        once, twice: values counted once, and twice: what a sample says of values it did not meet.
        bits: of the tokens that were counted in the place of values; None where values were.
        per_row: entries that a row has in this index: 1, but for the parts of a value.
    """

    rows: int
    read: int
    distinct: int
    largest: int
    squares: int
    once: int = 0
    twice: int = 0
    bits: int | None = None
    per_row: float = 1.0

    @classmethod
    def of(
        cls,
        counts: Iterable[int],
        *,
        rows: int | None = None,
        bits: int | None = None,
        read: int | None = None,
    ) -> Self:
        """
        Summarise *counts*, one for each different value.

        Args:
            rows: of the whole table, where *counts* are of a sample.
            bits: of the tokens, where those were counted.
            read: rows that were counted, where a row has several entries.
        """
        total = distinct = largest = squares = once = twice = 0
        for count in counts:
            total += count
            distinct += 1
            largest = max(largest, count)
            squares += count * count
            once += count == 1
            twice += count == 2
        seen = total if read is None else read
        return cls(
            rows=seen if rows is None else max(rows, seen),
            read=seen,
            distinct=distinct,
            largest=largest,
            squares=squares,
            once=once,
            twice=twice,
            bits=bits,
            per_row=total / seen if seen else 1.0,
        )

    @property
    def sampled(self) -> bool:
        return self.read < self.rows

    @property
    def values(self) -> float:
        """
        How many different values are in use: counted, and estimated where that is not all.

        Tokens of n bits hide values that share one, so d tokens are taken for the number of
        values that would be expected to fill d of the 2^n. What a sample did not meet is
        estimated from what it met once and twice (Chao 1984, bias-corrected): a lower bound.
        """
        found: float = float(self.distinct)
        if self.bits is not None and self.bits < EXACT:
            places = 2.0**self.bits
            # All places full says nothing more than "at least so many that they fill".
            full = min(found / places, 1 - 0.5 / places)
            found = max(found, log1p(-full) / log1p(-1.0 / places))
        if self.sampled and self.once:
            found += self.once * (self.once - 1) / (2 * (self.twice + 1))
        return min(found, self.rows * self.per_row)

    @property
    def domain_bits(self) -> float:
        """K: the bits that it takes to number the values in use."""
        return log2(max(self.values, 1.0))

    @property
    def share(self) -> float:
        """The part of the rows that holds the commonest value."""
        return self.largest / self.read if self.read else 0.0

    @property
    def hits(self) -> float:
        """How many rows hold the value of a row that was picked at random: what a look-up returns."""
        if not self.read:
            return 0.0
        # Pairs of rows that agree, per row, scaled from the sample to the table.
        pairs = (self.squares - self.read * self.per_row) / self.read
        return 1 + max(pairs, 0.0) * (self.rows - 1) / max(self.read - 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A range of token lengths in bits, both included. Empty where *least* is above *most*."""

    least: int
    most: int

    def __contains__(self, bits: object) -> bool:
        return isinstance(bits, int) and self.least <= bits <= self.most

    def __bool__(self) -> bool:
        return self.least <= self.most

    def __and__(self, other: "Lengths") -> "Lengths":
        return Lengths(least=max(self.least, other.least), most=min(self.most, other.most))


def coincidences(rows: int, bits: float) -> float:
    """Return how many rows share all tokens of a row by chance, which tell *bits* of it together."""
    return float(max(1, rows) / 2.0**bits)


def by_rows(rows: int, *, told: float = 0.0, domain: float = inf) -> Lengths:
    """
    Return the lengths of CipherSweet's planner, for one more index on a table of *rows*.

    Args:
        told: what the other indexes of the table tell of a row together: the sum of min(length, K).
        domain: K of the values of this one. Longer tokens than that tell no more.
    """
    # The shortest that leaves at most 2 rows together, or as few as the domain allows; and the
    # shortest that leaves at most sqrt(rows), which is what a look-up then reads in vain.
    boundary = max(2.0, coincidences(rows, told + min(domain, _LONGEST)))
    most = max(1, ceil(log2(max(1, rows) / boundary) - told))
    least = max(1, ceil(log2(sqrt(max(1, rows))) - told))
    return Lengths(least=min(least, most), most=most)


def by_values(values: float) -> Lengths:
    """Return the lengths of AWS's beacon rule: sqrt(values) < 2^length < values / 2."""
    if values <= 1:
        return Lengths(least=1, most=0)
    return Lengths(least=max(1, floor(log2(values) / 2) + 1), most=ceil(log2(values) - 1) - 1)


def false_positives(found: Distribution, bits: int) -> float:
    """Return how many rows of other values a look-up of a value in use is expected to find."""
    others = max(found.rows - found.hits, 0.0)
    # Entries of a row that each may collide: 1 - (1 - 2^-bits)^entries.
    return others * -expm1(found.per_row * log1p(-(2.0**-bits))) if bits < _LONGEST else 0.0


def shared_out(budget: float, domains: Iterable[float]) -> list[float]:
    """
    Return how many bits each index may tell, so that together they tell no more than *budget*.

    Equal parts; what an index with few values (its K is the part's bound) leaves goes to the others.
    """
    wanted = list(domains)
    parts = [0.0] * len(wanted)
    left, open_ = max(budget, 0.0), sorted(range(len(wanted)), key=lambda each: wanted[each])
    for done, each in enumerate(open_):
        parts[each] = min(wanted[each], left / (len(open_) - done))
        left -= parts[each]
    return parts
