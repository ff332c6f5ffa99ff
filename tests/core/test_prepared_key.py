# SPDX-License-Identifier: Apache-2.0
"""A prepared key derives what its bytes derive, and shows nothing of them."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core import field
from lacre._core.derive import FIELD, LABELS, WRAP, PreparedKey, expand
from lacre.errors import MisuseError, Tampered

KEY, KEY_ID, SALT, CONTEXT = bytes(range(32)), bytes(range(16)), bytes(range(24)), b"place"


@given(key=st.binary(min_size=32, max_size=32), label=st.sampled_from(LABELS), info=st.binary(max_size=400), size=st.integers(1, 64))  # fmt: skip
def test_it_derives_what_its_bytes_derive(key: bytes, label: bytes, info: bytes, size: int) -> None:
    """Twice, because the first derivation must leave nothing behind for the second."""
    prepared = PreparedKey(key)

    assert [expand(prepared, label, info, size) for _ in range(2)] == [
        expand(key, label, info, size)
    ] * 2


def test_values_do_not_tell_which_form_the_key_had() -> None:
    """What is encrypted with either form of a key opens with the other, under the same label only."""
    prepared = PreparedKey(KEY)
    made = field.encrypt(prepared, KEY_ID, CONTEXT, b"x", salt=SALT, padded=True)

    assert made == field.encrypt(KEY, KEY_ID, CONTEXT, b"x", salt=SALT, padded=True)
    assert field.decrypt(prepared, made, CONTEXT) == b"x"
    with pytest.raises(Tampered):
        field.decrypt(prepared, made, CONTEXT, label=WRAP)


def test_threads_share_one() -> None:
    """Derivations that run at the same time do not mix."""
    prepared = PreparedKey(KEY)

    def derived(number: int) -> bytes:
        return expand(prepared, FIELD, number.to_bytes(4, "big") * 5000, 64)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(derived, range(400)))

    assert found == [
        expand(KEY, FIELD, number.to_bytes(4, "big") * 5000, 64) for number in range(400)
    ]


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64, 128, 129])
def test_other_key_lengths_are_refused(size: int) -> None:
    """HMAC would take a key of any length, and `K` and `K || 00` as one: this does not."""

    with pytest.raises(MisuseError):
        PreparedKey(bytes(size))


@pytest.mark.parametrize(("label", "length"), [(bytes(15), 64), (FIELD, 0), (FIELD, 65)])
def test_the_other_rules_of_expand_hold_for_it(label: bytes, length: int) -> None:
    """Labels and lengths are refused as they are with the key's bytes."""

    with pytest.raises(MisuseError):
        expand(PreparedKey(KEY), label, b"", length)


def test_it_does_not_print_pickle_or_copy() -> None:
    """Its hidden states are as secret as the key."""
    prepared = PreparedKey(KEY)

    assert repr(prepared) == str(prepared) == "PreparedKey(32 bytes)"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(MisuseError):
            leave(prepared)
