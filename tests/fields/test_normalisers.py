# SPDX-License-Identifier: Apache-2.0
"""The normalisers do what `docs/reference/normalisers.md` says, and their refusals tell nothing."""

import re
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.errors import ConfigurationError, InvalidValue
from lacre.fields.normalisers import normaliser

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "normalisers.md"
NAMES = [
    "digits",
    "cpf",
    "cnpj",
    "in_pan",
    "aadhaar",
    "ifsc",
    "routing_number",
    "card_pan",
    "email",
    "phone",
    "phone:BR",
    "phone:US",
    "phone:AR",
    "name",
    "exact",
]
_ROW = re.compile(r"\| `([^`]+)` \| `([^`]*)` \| (?:`([^`]*)`|\*(refused)\*) \|")
EXAMPLES = _ROW.findall(PAGE.read_text(encoding="utf-8"))


def _cpf(nine: str) -> str:
    first = sum((10 - i) * int(digit) for i, digit in enumerate(nine)) * 10 % 11 % 10
    second = sum((11 - i) * int(digit) for i, digit in enumerate(f"{nine}{first}")) * 10 % 11 % 10
    return f"{nine}{first}{second}"


# Random text is nearly always refused, so half of what is drawn looks like something.
_LIKELY = st.one_of(
    st.from_regex(r"\+[1-9][0-9 ()-]{6,16}(;ext=[0-9]{1,4})?", fullmatch=True),
    st.from_regex(r"[0-9]{7,13}", fullmatch=True),
    st.from_regex(r"[0-9]{9}", fullmatch=True).map(_cpf),
    st.from_regex(r"[A-Za-z]{4}0[A-Za-z0-9]{6}", fullmatch=True),
    st.from_regex(r"\w{1,8}@\w{1,8}\.\w{2,4}", fullmatch=True),
    st.sampled_from([value for _, value, _, _ in EXAMPLES]),
)
ANY = st.one_of(_LIKELY, st.text())


@pytest.mark.parametrize(("name", "value", "normal", "refused"), EXAMPLES)
def test_examples_on_the_page_are_true(name: str, value: str, normal: str, refused: str) -> None:
    """Each row of the page's examples is what the code does."""
    rule = normaliser(name)

    if refused:
        with pytest.raises(InvalidValue):
            rule.normalise(value)
    else:
        assert rule.normalise(value) == normal


def test_the_page_has_every_normaliser() -> None:
    """The page explains each normaliser and has an accepted example of it."""
    with pytest.raises(ConfigurationError) as unknown:
        normaliser("zip")
    listed = unknown.value.hint.removeprefix("normalisers: ").split(", ")
    page = PAGE.read_text(encoding="utf-8")

    assert len(listed) == 13
    for name in listed:
        assert f"\n| `{name}` | " in page
        assert any(row[0].split(":")[0] == name.split(":")[0] and not row[3] for row in EXAMPLES)


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        # The examples in python-stdnum's and phonenumbers' own documentation.
        ("cpf", "23100299900", None),
        ("cpf", "390.533.447=0", None),
        ("cpf", "000.000.000-00", None),
        ("cpf", "５２９．９８２．２４７－２５", "52998224725"),
        ("cpf", "\u202a529.982.247-25\u202c", "52998224725"),
        ("cnpj", "12. ABC.345 /01DE–35", "12ABC34501DE35"),
        ("cnpj", "16.727.230/0001=97", None),
        ("cnpj", "12ABC34501DE36", None),
        ("in_pan", "ACUPA7085R", "ACUPA7085R"),
        ("in_pan", "ACUPA7085RR", None),
        ("in_pan", "ABMPA32111", None),
        ("in_pan", "ACUPA0000R", None),
        ("in_pan", "aapp v8261k", "AAPPV8261K"),
        ("in_pan", "acupa7085ſ", None),
        ("aadhaar", "234123412346", "234123412346"),
        ("aadhaar", "234123412347", None),
        ("aadhaar", "123412341234", None),
        ("aadhaar", "643343121", None),
        ("aadhaar", "२३४१ २३४१ २३४६", "234123412346"),
        ("routing_number", "111000025", "111000025"),
        ("routing_number", "11100002", None),
        ("routing_number", "11100002B", None),
        ("card_pan", "78949", None),  # right by Luhn, too short for a card
        ("card_pan", "3782 822463 10005", "378282246310005"),
        ("card_pan", "0" * 16, None),
        ("phone", "+442083661177", "+442083661177"),
        ("phone:US", "650 253 2222", "+16502532222"),
        ("phone:US", "253-2222", None),
        ("phone", "+39 06 6988 3712", "+390669883712"),
        ("phone:AR", "011 15-3456-7890", "+5491134567890"),
        ("phone", "+120012301", None),
        ("phone", "+386005514397", None),  # read again, its second zero would be a trunk prefix
        ("digits", "", None),
        ("digits", " - ", None),
        ("digits", "x² 1", None),
    ],
)
def test_published_examples(name: str, value: str, normal: str | None) -> None:
    """What the libraries publish as valid and invalid is accepted and refused here."""
    rule = normaliser(name)

    if normal is None:
        with pytest.raises(InvalidValue):
            rule.normalise(value)
    else:
        assert rule.normalise(value) == normal


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ana",
        "@b.c",
        "a@",
        "a@@b.c",
        "a@b.",
        "a@.b",
        "a@b..c",
        "a@-b.c",
        "a@b_c.d",
        "a b@c.d",
        "a\u200b@b.c",
        "a\n@b.c",
        "a\u2028b@c.d",
        '"a b"@c.d',
        "a@[127.0.0.1]",
        "a" * 65 + "@b.c",
        "a@" + "b" * 64 + ".c",
        "a@" + "b." * 140 + "c",
    ],
)
def test_what_is_no_address_is_refused(value: str) -> None:
    """Text that no mail system takes for an address has no normal form."""
    with pytest.raises(InvalidValue):
        normaliser("email").normalise(value)


def test_email_folds_neither_dots_nor_tags() -> None:
    """Addresses that differ in a dot or a tag are different addresses."""
    norm = normaliser("email").normalise

    assert (
        len(
            {
                norm("ana.souza@example.org"),
                norm("anasouza@example.org"),
                norm("ana.souza+x@example.org"),
            }
        )
        == 3
    )


def test_email_is_folded_until_nothing_changes() -> None:
    """Case folding that leaves a text outside its normal form is followed by another round."""
    norm = normaliser("email").normalise
    once = norm("\u1f9f\u0340@example.org")

    assert once == "\u1f27\u1f76@example.org"
    assert norm(once) == once


def test_email_domain_has_one_spelling() -> None:
    """A domain in its own script, its ASCII form, its full-width form: one address."""
    norm = normaliser("email").normalise

    assert {
        norm("a@münchen.de"),
        norm("A@XN--MNCHEN-3YA.de"),
        norm("a@mu\u0308nchen.de"),
        norm(" a＠ＭÜＮＣＨＥＮ。de "),
    } == {"a@xn--mnchen-3ya.de"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("José", "Jose\u0301", True),
        ("José", "jose", True),
        ("MÜLLER", "muller", True),
        ("Straße", "STRASSE", True),
        ("محمّد", "محمد", True),
        ("辻\U000e0100", "辻", True),
        ("Ana\u00a0 Souza\n", "ana souza", True),
        ("Ana Souza", "AnaSouza", False),
        ("राम", "रीम", False),
        ("ガタ", "カタ", False),
        ("Łukasz", "Lukasz", False),
        ("ดำ", "ดุ", False),
    ],
)
def test_names_that_are_one(one: str, other: str, same: bool) -> None:
    """Accents, case and spacing do not distinguish names; vowel signs, voicing and letters do."""
    norm = normaliser("name").normalise

    assert (norm(one) == norm(other)) is same


@pytest.mark.parametrize(
    "value", ["", " ", "Jose\u0301", "José", "ﬁ", "0", "\U0001f98a", "x" * 10_000]
)
def test_exact_changes_nothing(value: str) -> None:
    """`exact` is the identity, NFC and NFD included."""
    assert normaliser("exact").normalise(value) == value


@pytest.mark.parametrize("name", NAMES)
@given(value=ANY)
def test_twice_is_once(name: str, value: str) -> None:
    """A normal form is its own normal form, and can be encoded."""
    rule = normaliser(name)
    try:
        normal = rule.normalise(value)
    except InvalidValue:
        return

    assert rule.normalise(normal) == normal
    assert normal.encode().decode() == normal


def test_twice_is_once_for_every_character() -> None:
    """No single code point has a normal name that would change again."""
    norm = normaliser("name").normalise
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]

    assert [char for char in characters if norm(norm(char)) != norm(char)] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("exact", "name")])
@given(value=st.one_of(_LIKELY, st.text(min_size=5)).filter(lambda value: len(value.strip()) >= 5))
def test_a_refusal_keeps_nothing_of_the_value(name: str, value: str) -> None:
    """Neither the message, the printed traceback nor a chained exception holds the value."""
    rule = normaliser(name)
    try:
        rule.normalise(value)
    except InvalidValue as error:
        refusal = error
    else:
        return

    assert refusal.__cause__ is None
    assert refusal.__context__ is None
    assert value not in str(refusal) + refusal.hint + repr(refusal.args)
    assert value not in "".join(traceback.format_exception(refusal))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["\ud800", "a\udfff@b.c", "529.982.247-25\ud83d"])
def test_lone_surrogates_are_refused(name: str, value: str) -> None:
    """No normaliser lets through text that cannot be encoded."""
    with pytest.raises(InvalidValue):
        normaliser(name).normalise(value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [52998224725, b"52998224725", None, True])
def test_only_text_is_normalised(name: str, value: object) -> None:
    """A value that is not text is refused, not turned into text."""
    with pytest.raises(InvalidValue):
        normaliser(name).normalise(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "exact"])
def test_long_text_is_refused(name: str) -> None:
    """Text past 4096 characters never reaches the quadratic part of Unicode normalisation."""
    with pytest.raises(InvalidValue, match="at most 4096"):
        normaliser(name).normalise("1" * 4097)


@pytest.mark.parametrize(
    "name", ["", "CPF", "cpf:BR", "email:", "zip", "phone:", "phone:br", "phone:XX", "phone:BRA"]
)
def test_unknown_names(name: str) -> None:
    """A name or region that is not one is a configuration error with the way out."""
    with pytest.raises(ConfigurationError) as refused:
        normaliser(name)

    assert "phone" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cpf", "stdnum.br.cpf"),
        ("cnpj", "stdnum.br.cnpj"),
        ("in_pan", "stdnum.in_.pan"),
        ("aadhaar", "stdnum.in_.aadhaar"),
        ("routing_number", "stdnum.us.rtn"),
        ("card_pan", "stdnum.luhn"),
        ("phone", "phonenumbers"),
        ("phone:BR", "phonenumbers"),
    ],
)
def test_a_missing_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    """Without the optional package, declaring the normaliser fails with the install line."""
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(ConfigurationError) as refused:
        normaliser.__wrapped__(name)

    assert refused.value.hint == "pip install 'lacre[search]'"


def test_sensitive_kinds() -> None:
    """Values whose whole domain can be tried out are marked as such."""
    marked = {name: normaliser(name).sensitive for name in NAMES}

    assert {name: kind for name, kind in marked.items() if kind} == {
        "cpf": "government_id",
        "in_pan": "government_id",
        "aadhaar": "government_id",
        "card_pan": "card",
    }


def test_identity_and_equality() -> None:
    """A normaliser is its name and version, and nothing in its repr is an address."""
    rule = normaliser("phone:BR")

    assert rule.identity == "phone:BR/1"
    assert rule == normaliser("phone:BR")
    assert rule != normaliser("phone:US")
    assert repr(rule) == "Normaliser(name='phone:BR', version=1, sensitive=None)"
