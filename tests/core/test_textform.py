# SPDX-License-Identifier: Apache-2.0
"""Text and JSON: other spellings of a value, one to one."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core.textform import (
    from_json,
    from_json_text,
    from_text,
    to_json,
    to_json_text,
    to_text,
)
from lacre.errors import Tampered

VALUES = st.builds(lambda flags, rest: b"\xc1\x01" + bytes([flags]) + rest, st.integers(0, 1), st.binary(min_size=88, max_size=300))  # fmt: skip
VALUE = b"\xc1\x01\x00" + bytes(range(88))
# What seed 000 of the sources calls EncryptedField.
SEVEN = ["encryptedData", "encryptedKey", "iv", "authTag", "algorithm", "keyId", "context"]


@given(value=VALUES)
def test_each_form_is_one_to_one(value: bytes) -> None:
    """Every value, opened or not, comes back from both forms, and its form from it."""
    text, form = to_text(value), to_json(value)

    assert from_text(text) == value
    assert from_json(form) == value
    assert from_json_text(to_json_text(value)) == value
    assert to_json(from_json(form)) == form


@given(
    text=st.text("ABCDwxyz0189-_+/= \n", min_size=120, max_size=130).map(lambda text: "wQEA" + text)
)
def test_a_text_that_is_read_is_the_one_that_is_written(text: str) -> None:
    """No two texts are one value."""
    try:
        value = from_text(text)
    except Tampered:
        return

    assert to_text(value) == text


def test_members_and_order_are_those_of_the_source() -> None:
    """The JSON form has exactly the seven members of the sources' EncryptedField, of its types."""
    form = to_json(VALUE)

    assert list(form) == SEVEN
    assert form["algorithm"] == "lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT"
    assert (
        to_json(b"\xc1\x01\x01" + VALUE[3:])["algorithm"]
        == "lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT-PADDED"
    )
    assert {name: type(item) for name, item in form.items()} == dict.fromkeys(SEVEN, str) | {
        "context": dict
    }


@pytest.mark.parametrize("bad", [None, 7, b"wQEA", ["a"], {}, "", object()])
def test_other_types_are_tampered(bad: object) -> None:
    """A driver that hands over something else than text is told the same as for a bad text."""

    for read in (from_text, from_json_text):
        with pytest.raises(Tampered):
            read(bad)
    with pytest.raises(Tampered):
        from_json(bad)


@pytest.mark.parametrize("member", SEVEN)
@pytest.mark.parametrize("bad", [None, 7, True, 1.5, "", "?", "\u00e9", [], ["x"], {"x": 1}, b"x"])
def test_every_member_is_strict(member: str, bad: Any) -> None:
    """No member takes another type or an impossible text."""
    form = to_json(VALUE)
    altered = form | {member: bad}

    if altered == form:
        assert from_json(altered) == VALUE
    else:
        with pytest.raises(Tampered):
            from_json(altered)


def test_any_mapping_serves() -> None:
    """A JSON column may come as any mapping; only its members count."""

    assert from_json(MappingProxyType(to_json(VALUE))) == VALUE


def test_what_is_not_a_value_has_no_form() -> None:
    """Plaintext is never dressed up as a value."""

    for write in (to_text, to_json, to_json_text):
        with pytest.raises(Tampered):
            write(b"ana@example.org" * 10)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"keyId":' + "1" * 5000 + "}", " " * (32 * 1024 * 1024 + 1), "\ud800"])  # fmt: skip
def test_hostile_json_is_tampered(text: str) -> None:
    """Depth, digits and length end in the one refusal, not in an error of the parser."""

    with pytest.raises(Tampered):
        from_json_text(text)
