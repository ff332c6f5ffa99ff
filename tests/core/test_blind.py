# SPDX-License-Identifier: Apache-2.0
"""Blind index tokens: width, and that no two indexes have anything in common."""

import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core.blind import index_key, token
from lacre._core.derive import PreparedKey
from lacre.errors import MisuseError

ROOT = bytes(range(32))
PLACE: dict[str, Any] = {"store": "main", "table": "customers", "column": "cpf", "index": "cpf", "kind": "exact", "normaliser": "cpf", "part": "", "bits": 96, "version": 1}  # fmt: skip


@given(bits=st.integers(1, 512), normalised=st.binary(max_size=60))
def test_a_token_is_the_leftmost_bits(bits: int, normalised: bytes) -> None:
    """As an integer, the token without its spare bits is the HMAC's leading bits, its key set up or not."""
    whole = int.from_bytes(hmac.digest(ROOT, normalised, "sha512"), "big")
    made = token(ROOT, normalised, bits)
    spare = len(made) * 8 - bits

    assert made == token(PreparedKey(ROOT), normalised, bits)
    assert 0 <= spare < 8
    assert int.from_bytes(made, "big") == whole >> (512 - bits) << spare


@pytest.mark.parametrize(("part", "other"), [("store", "x"), ("table", "x"), ("column", "x"), ("index", "x"), ("kind", "x"), ("normaliser", "x"), ("part", "x"), ("bits", 97), ("version", 2)])  # fmt: skip
def test_every_part_separates_indexes(part: str, other: object) -> None:
    """An index that differs in one part only has another key."""

    assert index_key(ROOT, **PLACE) != index_key(ROOT, **PLACE | {part: other})
    assert index_key(ROOT, **PLACE) != index_key(bytes(32), **PLACE)
    assert len(index_key(ROOT, **PLACE)) == 32


@pytest.mark.parametrize(
    ("key", "bits"), [(ROOT, 0), (ROOT, 513), (ROOT, -1), (ROOT[:31], 96), (ROOT + b"\0", 96)]
)
def test_other_widths_and_keys_are_refused(key: bytes, bits: int) -> None:
    """No token of no bits or more than HMAC has, and none under a key of another length."""

    with pytest.raises(MisuseError):
        token(key, b"x", bits)
