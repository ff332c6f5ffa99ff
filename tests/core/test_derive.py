# SPDX-License-Identifier: Apache-2.0
"""The derivation of everything from stored keys."""

import itertools

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from lacre._core import derive, field
from lacre._core.derive import LABELS, expand
from lacre.errors import MisuseError, Tampered

KEY, KEY_ID, SALT, CONTEXT = bytes(range(32)), bytes(range(16)), bytes(range(24)), b"place"


@given(key=st.binary(min_size=32, max_size=32), label=st.sampled_from(LABELS), info=st.binary(max_size=400), size=st.integers(1, 64))  # fmt: skip
def test_expand_is_hkdf_expand(key: bytes, label: bytes, info: bytes, size: int) -> None:
    """One HMAC equals the library's HKDF-Expand-SHA-512 of label and info."""
    wanted = HKDFExpand(SHA512(), size, label + info).derive(key)

    assert expand(key, label, info, size) == wanted


def test_labels_are_the_specified_ones() -> None:
    """The labels are 16 bytes each and differ, so no one is a prefix of another."""
    names = ["field", "wrap", "index", "state", "check", "name"]

    assert [label.rstrip(b"\0").decode() for label in LABELS] == [
        f"lacre/1/{name}" for name in names
    ]
    assert all(len(label) == 16 for label in LABELS)
    assert len(set(LABELS)) == len(LABELS)
    assert {getattr(derive, name.upper()) for name in names} == set(LABELS)


@pytest.mark.parametrize(("made", "read"), [*itertools.permutations(LABELS, 2)])
def test_what_is_made_for_one_use_is_refused_for_another(made: bytes, read: bytes) -> None:
    """A value made with one label does not open with any other, and does with its own."""
    value = field.encrypt(KEY, KEY_ID, CONTEXT, b"x", salt=SALT, padded=False, label=made)

    assert field.decrypt(KEY, value, CONTEXT, label=made) == b"x"
    with pytest.raises(Tampered):
        field.decrypt(KEY, value, CONTEXT, label=read)


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64, 128, 129])
def test_other_key_lengths_are_refused(size: int) -> None:
    """HMAC would take a key of any length, and `K` and `K || 00` as one: expand does not."""

    with pytest.raises(MisuseError):
        expand(bytes(size), LABELS[0], b"", 32)


@pytest.mark.parametrize("label", [b"", b"lacre/1/field", bytes(15), bytes(17)])
def test_other_label_lengths_are_refused(label: bytes) -> None:
    """A label of another length would let label and info run into one another."""

    with pytest.raises(MisuseError):
        expand(KEY, label, b"", 32)


@pytest.mark.parametrize("length", [-1, 0, 65])
def test_other_output_lengths_are_refused(length: int) -> None:
    """More than one block would not be HKDF-Expand, and none would be no key."""

    with pytest.raises(MisuseError):
        expand(KEY, LABELS[0], b"", length)
