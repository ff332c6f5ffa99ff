# SPDX-License-Identifier: Apache-2.0
"""Indexes in parts without an ORM: their tokens, their re-check, and what they refuse."""

import pytest

from lacre import ConfigurationError, ContainsIndex, Lacre, PrefixIndex, UnsupportedQuery
from lacre.fields.stored import IndexTokens

CANARY = "Zebulon Canarywood"


def test_tokens_find_and_the_recheck_decides(lacre: Lacre) -> None:
    """A row that holds every token of an entry is a candidate; the plaintext says whether it is a hit."""
    index = ContainsIndex("name")
    box = lacre.field("pii", table="people", column="name", index=[index, PrefixIndex("name")])
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        stored = box.prepare(CANARY, row="1")
        contains, prefix = (IndexTokens(found) for found in stored.tokens)
        asked, always = map(IndexTokens, box.search_tokens("canary", index="contains"))
        [begins] = map(IndexTokens, box.search_tokens("ZEBU", index="prefix"))

        assert {*asked.numbers} <= {*contains.numbers}
        assert {*begins.numbers} <= {*prefix.numbers}
        assert not {*always.numbers} & {*contains.numbers}
        assert box.recheck([("1", stored.value)], index, "canary") == [True]
        assert box.recheck([("1", stored.value)], index, "canary", question="startswith") == [False]
        with pytest.raises(UnsupportedQuery):
            box.search_tokens("x", index="prefix", question="contains")
        for shown in (repr(stored), str(stored.tokens), repr(index)):
            assert "canary" not in shown.lower()
            assert str(asked.numbers[0]) not in shown


@pytest.mark.parametrize("length", [0, 1, 2, 14, 15, 30, 46, 62])
def test_the_number_of_tokens_tells_a_range(lacre: Lacre, length: int) -> None:
    """It is a multiple of 16 up to 64, in no order of the text, and another set each time."""
    box = lacre.field("pii", table="people", column="name", index=ContainsIndex("name"))
    text = "".join(chr(0x4E00 + n) for n in range(length))
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        first, again = (IndexTokens(box.prepare(text, row="1").tokens[0]) for _ in range(2))

    assert len(first.numbers) in (16, 32, 48, 64)
    assert len(first.numbers) == max(-(-length // 16), 1) * 16
    assert list(first.numbers) == sorted({*first.numbers})
    assert first != again or len(first.numbers) == length


@pytest.mark.parametrize(
    "name", ["cpf", "cnpj", "in_pan", "aadhaar", "card_pan", "phone", "phone:BR", "digits", "email"]
)
def test_what_is_not_indexed_in_parts(name: str) -> None:
    """Numbers are few enough to be tried out by their parts; others have no parts."""
    with pytest.raises(ConfigurationError):
        ContainsIndex(name)
    if name != "digits":
        with pytest.raises(ConfigurationError):
            PrefixIndex(name)


def test_wrong_lengths_and_bits_are_refused() -> None:
    """Each setting says what it takes."""
    for lengths in ((), (0,), (4, 3), (3, 3)):
        with pytest.raises(ConfigurationError):
            PrefixIndex("name", lengths=lengths)
    for bits in (8, 17, 32):
        with pytest.raises(ConfigurationError):
            ContainsIndex("name", bits=bits)
    with pytest.raises(ConfigurationError):
        PrefixIndex("name", bits=33)
