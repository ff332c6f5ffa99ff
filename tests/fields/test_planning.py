# SPDX-License-Identifier: Apache-2.0
"""The planner's arithmetic: published numbers, and what real tokens do."""

import math
import os
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core.blind import token
from lacre.fields.planning import (
    Distribution,
    Lengths,
    by_rows,
    by_values,
    coincidences,
    false_positives,
    shared_out,
)


@pytest.mark.parametrize(
    ("bits", "expected"), [(16, 15.26), (20, 0.954), (24, 0.0596), (32, 2.33e-4)]
)
def test_false_positives_of_a_million_different_rows(bits: int, expected: float) -> None:
    """(R - 1) / 2^L: 15.3 rows at 16 bits, 0.95 at 20, 0.06 at 24, 2.3e-4 at 32."""
    found = Distribution.of([1] * 1_000_000)

    assert false_positives(found, bits) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(
    ("rows", "least", "most"), [(50_000, 8, 15), (1_000_000, 10, 19), (100_000_000, 14, 26)]
)
def test_the_rule_by_rows_is_ciphersweet_s(rows: int, least: int, most: int) -> None:
    """The ranges are those that CipherSweet's planner gives for these populations."""
    assert by_rows(rows) == Lengths(least=least, most=most)


def test_what_other_indexes_tell_is_taken_off() -> None:
    """An index of 4 bits on the table leaves 4 to 11 of the 8 to 15 bits."""
    assert by_rows(50_000, told=4) == Lengths(least=4, most=11)


@given(rows=st.integers(min_value=16, max_value=10**10), told=st.integers(0, 20))
def test_the_rule_by_rows_says_what_it_means(rows: int, told: int) -> None:
    """At the longest length at most 2 rows coincide, at one bit less more than 2."""
    most = by_rows(rows, told=told).most

    assert coincidences(rows, most + told) <= 2 or most == 1
    assert most == 1 or coincidences(rows, most - 1 + told) > 2


def test_few_values_bound_the_length() -> None:
    """Of 32 values no token tells more than 5 bits, so longer ones are not asked for."""
    assert by_rows(1_000_000, domain=5).most == 5


@given(st.integers(min_value=20, max_value=10**9))
def test_the_rule_by_values_says_what_it_means(values: int) -> None:
    """More tokens than the root of the values, and at least two values for each token."""
    lengths = by_values(values)

    for bits in range(max(1, lengths.least), lengths.most + 1):
        assert math.sqrt(values) < 2**bits < values / 2
    assert 2.0 ** (lengths.most + 1) >= values / 2
    assert 2.0 ** (lengths.least - 1) <= math.sqrt(values)


def _tokens(values: list[int], bits: int, key: bytes) -> list[bytes]:
    return [token(key, str(value).encode(), bits) for value in values]


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_real_tokens_collide_as_predicted(bits: int) -> None:
    """Rows of other values that look-ups really find agree with the prediction, on skewed values."""
    draw = Random(11)
    values = [int(4_000 * draw.random() ** 3) for _ in range(20_000)]
    found = Distribution.of(Counter(values).values())
    measured, keys = 0.0, 12
    for number in range(keys):
        tokens = _tokens(values, bits, bytes([number]) * 32)
        with_token, with_value = Counter(tokens), Counter(values)
        asked = list(dict.fromkeys(values))
        of = dict(zip(values, tokens, strict=True))
        # A look-up asks for the value of a row: each value as often as it occurs.
        reads = sum(with_value[v] * (with_token[of[v]] - with_value[v]) for v in asked)
        measured += reads / len(values) / keys

    assert measured == pytest.approx(false_positives(found, bits), rel=0.15)


def test_values_behind_short_tokens_are_estimated() -> None:
    """50,000 values behind tokens of 16 bits are counted as 50,000, not as the tokens they fill."""
    key = os.urandom(32)
    counts = Counter(_tokens(list(range(50_000)), 16, key))

    assert len(counts) < 36_000
    assert Distribution.of(counts.values(), bits=16).values == pytest.approx(50_000, rel=0.03)


def test_values_that_a_sample_missed_are_estimated() -> None:
    """A tenth of the rows shows half of the values; the estimate is nearer to all of them than the count."""
    draw = Random(7)
    values = [draw.randrange(5_000) for _ in range(40_000)]
    sample = Counter(draw.sample(values, 4_000))
    found = Distribution.of(sample.values(), rows=40_000)

    assert found.sampled
    assert len(sample) < 3_000
    assert found.values == pytest.approx(5_000, rel=0.1)


def test_hits_of_a_sample_are_scaled_to_the_table() -> None:
    """A look-up in the table returns as many rows as the table holds of a value, not the sample."""
    draw = Random(3)
    values = [n % 1_000 for n in range(100_000)]
    found = Distribution.of(Counter(draw.sample(values, 20_000)).values(), rows=100_000)

    assert found.hits == pytest.approx(100, rel=0.05)


def test_nothing_is_no_error() -> None:
    """An empty table has no values, no share and no false positives."""
    found = Distribution.of([])

    assert (found.values, found.share, found.hits, found.domain_bits) == (0, 0, 0, 0)
    assert false_positives(found, 8) == 0


@given(
    budget=st.floats(0, 60),
    domains=st.lists(st.floats(0, 40), min_size=1, max_size=8),
)
def test_what_may_be_told_is_shared_out(budget: float, domains: list[float]) -> None:
    """No index gets more than its own bits, all together no more than there are, and none are wasted."""
    parts = shared_out(budget, domains)

    assert all(part <= domain + 1e-9 for part, domain in zip(parts, domains, strict=True))
    assert sum(parts) == pytest.approx(min(budget, sum(domains)))
