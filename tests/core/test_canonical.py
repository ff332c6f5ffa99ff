# SPDX-License-Identifier: Apache-2.0
"""One byte string for one map."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre._core.canonical import FieldPlace, canonical
from lacre.errors import MisuseError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MAPS = st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=8)


def reference(pairs: dict[str, str]) -> bytes:
    """The specification's section 4, written again by other means."""
    out = bytearray(struct.pack(">H", len(pairs)))
    for key in sorted(pairs, key=lambda key: list(key.encode("utf-8"))):
        for text in (key, pairs[key]):
            out += struct.pack(f">H{len(text.encode())}s", len(text.encode()), text.encode())
    return bytes(out)


def read(data: bytes) -> dict[str, str]:
    """Reads a canonical map back; the library never does."""
    (count,), at = struct.unpack_from(">H", data), 2
    texts = []
    for _ in range(2 * count):
        (size,) = struct.unpack_from(">H", data, at)
        texts.append(data[at + 2 : at + 2 + size].decode())
        at += 2 + size
    assert at == len(data)
    return dict(zip(texts[::2], texts[1::2], strict=True))


@given(pairs=MAPS)
def test_equals_the_reference(pairs: dict[str, str]) -> None:
    """The serialisation is the specified one."""

    assert canonical(pairs) == reference(pairs)


@given(pairs=MAPS)
def test_is_injective(pairs: dict[str, str]) -> None:
    """A map can be read back from its bytes, so no two maps share them."""

    assert read(canonical(pairs)) == pairs


@given(pairs=MAPS, seed=st.integers())
def test_does_not_depend_on_order(pairs: dict[str, str], seed: int) -> None:
    """A map built in another order has the same bytes."""
    items = list(pairs.items())
    random.Random(seed).shuffle(items)

    assert canonical(dict(items)) == canonical(pairs)


@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), row=TEXTS.filter(bool))
def test_a_field_place_is_a_canonical_map(texts: tuple[str, ...], row: str) -> None:
    """`FieldPlace.at` gives the bytes of the six pairs it stands for."""
    parts = dict(zip(("column", "store", "table", "tenant", "type"), texts, strict=True))

    assert FieldPlace(**parts).at(row) == reference(parts | {"row": row})


def test_sorts_by_bytes_not_by_utf_16() -> None:
    """U+FFFF sorts before U+1F600, whose UTF-16 form begins with a lower unit."""
    data = canonical({"\U0001f600": "", "\uffff": ""})

    assert data.index("\uffff".encode()) < data.index("\U0001f600".encode())


def test_the_longest_part_is_65535_bytes() -> None:
    """A length prefix never overflows: one byte more is refused, counted in UTF-8."""

    assert len(canonical({"k": "v" * 0xFFFF})) == 2 + 2 + 1 + 2 + 0xFFFF
    for pairs in ({"k": "v" * 0x10000}, {"k" * 0x10000: "v"}, {"k": "é" * 0x8000}):
        with pytest.raises(MisuseError):
            canonical(pairs)


def test_the_greatest_map_has_65535_pairs() -> None:
    """The count never overflows."""
    pairs = {str(number): "" for number in range(0xFFFF)}

    assert canonical(pairs)[:2] == b"\xff\xff"
    with pytest.raises(MisuseError):
        canonical(pairs | {"one more": ""})


@pytest.mark.parametrize("pairs", [{}, {"a": 1}, {1: "a"}, {"a": True}, {"a": None}, {"a": b"b"}, {"a": []}, {"a": "\ud800"}, {"\udfff": ""}])  # fmt: skip
def test_refuses_what_is_not_a_map_of_strings(pairs: dict[str, str]) -> None:
    """Empty maps, other types and lone surrogates are refused, with one error."""

    with pytest.raises(MisuseError):
        canonical(pairs)


@pytest.mark.parametrize("row", ["", "x" * 0x10000, "\udc80", 7, None, b"7"])
def test_a_place_refuses_what_is_no_row_id_text(row: str) -> None:
    """A row id is never empty, overlong, a lone surrogate or another type."""
    place = FieldPlace(column="c", store="s", table="t", tenant="n", type="str")

    with pytest.raises(MisuseError):
        place.at(row)


def test_a_refused_text_is_not_quoted() -> None:
    """The codec's own error quotes the text; ours neither shows it nor leads to it."""

    with pytest.raises(MisuseError) as caught:
        canonical({"a": "canary\udc80"})

    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
