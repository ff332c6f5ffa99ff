# SPDX-License-Identifier: Apache-2.0
import pytest

from lacre.kms.local import text


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1, "b":2}',
        b'{"b":2,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":1.0e0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\xc3\xa9"}',
        b'{"a":NaN}',
        b'{"a":1}\n',
        b' {"a":1}',
        b"",
        b"{" * 5000,
        b"[" * 100_000,
    ],
)
def test_one_spelling(line: bytes) -> None:
    """JSON that is spelt in any other way than `dump` spells it is refused."""
    with pytest.raises(ValueError, match="JSON"):
        text.load(line)


def test_round_trip() -> None:
    """What `dump` writes `load` reads, escapes and all."""
    value = {"a": [1, "é\n", None, True], "b": {"c": {}}}

    assert text.load(text.dump(value)) == value
    assert text.dump({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}'


@pytest.mark.parametrize(
    "spelling", ["AAF", "AAE=", "AA E", "AA/+", "AAEA", "AA", "", None, 7, "AAÉ"]
)
def test_base64url_has_one_spelling(spelling: object) -> None:
    """Stray bits, padding, white space, the other alphabet and other lengths are refused."""
    assert text.from_base64url("AAE", 2) == b"\0\1"
    with pytest.raises(ValueError):
        text.from_base64url(spelling, 2)


@pytest.mark.parametrize("spelling", ["00FF", "00 ff", "00f", "00ff00", "", None, 255])
def test_hex_has_one_spelling(spelling: object) -> None:
    """Upper case, spaces and other lengths are refused."""
    assert text.from_hex("00ff", 2) == b"\0\xff"
    with pytest.raises(ValueError):
        text.from_hex(spelling, 2)


@pytest.mark.parametrize("value", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, [], "ab", None])
def test_members_are_exact(value: object) -> None:
    """A missing or an unknown member is refused, and so is what is not an object."""
    assert text.members({"a": 1, "b": 2}, frozenset("ab")) == {"a": 1, "b": 2}
    with pytest.raises(ValueError):
        text.members(value, frozenset("ab"))
