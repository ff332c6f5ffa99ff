# SPDX-License-Identifier: Apache-2.0
"""Masks show what they promise and no more, whatever they are given."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.errors import ConfigurationError
from lacre.fields.masks import mask
from lacre.sensitive import Mask

NAMES = ["hidden", "last4", "cpf", "card", "email", "phone", "name", "year"]
VALUES = st.one_of(
    st.text(),
    st.text(st.sampled_from("0123456789 .-+()ab"), max_size=40),
    st.integers(),
    st.binary(),
    st.booleans(),
    st.none(),
    st.dates(),
    st.datetimes(),
    st.decimals(),
    st.uuids(),
    st.lists(st.text()),
)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("last4", "0012.3456-7890", "***7890"),
        ("last4", 123456789012, "***9012"),
        ("last4", "12345678901", "***"),  # four of eleven is more than a third
        ("cpf", "529.982.247-25", "***.***.247-**"),
        ("cpf", "52998224725", "***.***.247-**"),
        ("cpf", 52998224725, "***.***.247-**"),
        ("cpf", "529.982.247-2", "***"),
        ("cpf", "52998224725x", "***"),
        ("card", "4111 1111 1111 1234", "**** 1234"),
        ("card", 4111111111111234, "**** 1234"),
        ("card", "41111111111", "***"),
        ("card", "4" * 20, "***"),
        ("card", "4111 1111 1111 1234 ana", "***"),
        ("email", "ana@example.org", "a***@example.org"),
        ("email", "ana.souza+news@mail.example.co.uk", "a***@mail.example.co.uk"),
        ("email", "jo@example.org", "***@example.org"),
        ("email", "ana@münchen.example", "a***@münchen.example"),
        ("email", "p@ssw0rd", "***"),
        ("email", "ana", "***"),
        ("email", "Ana <ana@example.org>", "***"),
        ("email", "call ana@example.org", "***"),
        ("phone", "+55 (11) 98765-4321", "***21"),
        ("phone", "112", "***"),
        ("phone", "ask Ana on 5551234", "***"),
        ("name", "Ana Beatriz Souza", "A. B. S."),
        ("name", "E\u0301lodie D'Arc", "É. D."),
        ("name", "Élodie 🦊 Durand", "É. D."),
        ("name", "Li Wei", "***"),
        ("name", "田中", "***"),
        ("name", "the whole of a long note typed here", "***"),
        ("name", "🦊", "***"),
        ("year", dt.date(1984, 5, 12), "1984"),
        ("year", dt.datetime(984, 5, 12, 1, 2), "0984"),
        ("year", "1984-05-12", "1984"),
        ("year", "1984-05-12T01:02:03+02:00", "1984"),
        ("year", "1984-05-12 Ana", "***"),
        ("year", "19840512", "***"),
        ("year", 19840512, "***"),
    ],
)
def test_what_is_shown(name: str, value: object, shown: str) -> None:
    """Each mask shows its part of a value of its kind, and nothing of another."""
    assert str(mask(name)(value)) == shown


@given(value=VALUES)
def test_hidden_is_one_constant(value: object) -> None:
    """`hidden` is the same for every value, so it tells nothing at all."""
    assert mask("hidden")(value) is mask("hidden")("")
    assert str(mask("hidden")(value)) == "***"


@pytest.mark.parametrize("name", NAMES)
@given(value=VALUES)
def test_a_mask_is_total(name: str, value: object) -> None:
    """Whatever the value, there is a mask and no error."""
    assert type(mask(name)(value)) is Mask


@pytest.mark.parametrize("name", ["last4", "cpf", "card", "phone", "name"])
@given(value=st.one_of(st.text(), st.text(st.sampled_from("0123456789 .-+abÉ田"), max_size=40)))
def test_at_most_a_third_is_shown(name: str, value: str) -> None:
    """No more than a third of the letters and digits of a value are in its mask."""
    shown = sum(map(str.isalnum, str(mask(name)(value))))

    assert 3 * shown <= sum(map(str.isalnum, value))


@pytest.mark.parametrize("name", ["last4", "cpf", "card", "email", "phone", "name"])
@pytest.mark.parametrize(
    "value",
    [
        b"4111111111111234",
        True,
        None,
        Decimal(4111111111111234),
        dt.date(1984, 5, 12),
        uuid.UUID(int=7),
        ["4111111111111234"],
        1 << 3000,
        "1" * 5000,
        "",
    ],
)
def test_values_that_are_no_text_are_hidden(name: str, value: object) -> None:
    """Bytes, dates, collections and monstrous numbers show nothing."""
    assert str(mask(name)(value)) == "***"


def test_unknown_names() -> None:
    """A mask that does not exist is a configuration error that lists those that do."""
    with pytest.raises(ConfigurationError) as refused:
        mask("first6")

    assert refused.value.hint == "masks: " + ", ".join(NAMES)
