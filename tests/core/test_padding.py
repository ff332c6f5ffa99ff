# SPDX-License-Identifier: Apache-2.0
"""Padding: what lengths it leaves visible, and that it is removed exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core.padding import pad, padded_length, unpad


def reference(size: int) -> int:
    """The specification's section 8, in floating point where it is exact enough."""
    least = size + 1
    if least <= 256:
        return 32 * math.ceil(least / 32)
    e = math.floor(math.log2(least))
    s = math.floor(math.log2(e)) + 1
    step = 2 ** (e - s)
    return step * math.ceil(least / step)


def test_lengths_are_the_specified_ones() -> None:
    """Every length up to 70,000 and around each power of two is padded as the formula says."""
    sizes = [*range(70_000), *((1 << power) + off for power in range(17, 25) for off in (-2, -1, 0, 1) if (1 << power) + off <= 1 << 24)]  # fmt: skip

    assert all(padded_length(size) == reference(size) for size in sizes)


def test_short_values_show_only_their_step() -> None:
    """Everything up to 31 bytes is padded to 32, and up to 255 to a multiple of 32."""

    assert {padded_length(size) for size in range(32)} == {32}
    assert sorted({padded_length(size) for size in range(256)}) == [
        32,
        64,
        96,
        128,
        160,
        192,
        224,
        256,
    ]


@given(size=st.integers(0, 1 << 24))
def test_there_is_room_and_little_waste(size: int) -> None:
    """The marker always fits, longer is never padded to less, and waste is at most 12 % above 256."""
    padded = padded_length(size)

    assert padded > size
    assert padded <= padded_length(size + 1)
    assert size < 256 or padded <= (size + 1) * 1.12 + 1


@given(plaintext=st.binary(max_size=2000))
def test_unpad_undoes_pad(plaintext: bytes) -> None:
    """Whatever the plaintext ends in comes back."""
    padded = pad(plaintext)

    assert len(padded) == padded_length(len(plaintext))
    assert unpad(padded) == plaintext


@pytest.mark.parametrize(
    "plaintext", [b"", b"\x80", b"\0", b"a\x80\0\0", b"\x80" * 31, b"\0" * 255]
)
def test_content_that_looks_like_padding_survives(plaintext: bytes) -> None:
    """Only the last marker counts."""

    assert unpad(pad(plaintext)) == plaintext


@given(
    padded=st.binary(max_size=600)
    | st.binary(max_size=300).map(lambda data: data + b"\x80" + bytes(40))
)
def test_one_plaintext_has_one_padded_form(padded: bytes) -> None:
    """What unpad accepts is exactly what pad makes."""
    plaintext = unpad(padded)

    assert plaintext is None or pad(plaintext) == padded


@pytest.mark.parametrize("padded", [b"", b"\x80", bytes(32), b"a\x80" + bytes(62), b"a\x80" + bytes(29), b"a\x80" + bytes(29) + b"\x01"])  # fmt: skip
def test_other_paddings_are_refused(padded: bytes) -> None:
    """No marker, another length or a byte after the marker is refused."""

    assert unpad(padded) is None
