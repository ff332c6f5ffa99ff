# SPDX-License-Identifier: Apache-2.0
"""Made-up values pass for real ones, and reach nobody."""

import datetime as dt
import enum
import random
from decimal import Decimal
from uuid import UUID

import pytest

from lacre.fields.masks import mask
from lacre.fields.normalisers import normaliser
from lacre.fields.plausible import kind_of, plausible

DRAWN = random.Random(7)


@pytest.mark.parametrize("kind", ["cpf", "cnpj", "card_pan", "email", "phone", "name", "digits"])
def test_values_are_what_normalisers_take(kind: str) -> None:
    """A thousand drawn values of each kind pass the normaliser of that name, check digits and all."""
    rule = normaliser(kind)
    values = [plausible(str, kind, DRAWN) for _ in range(1000)]

    assert all(rule.normalise(value) for value in values)
    assert len(set(values)) > 500


def test_nobody_is_written_to_or_called() -> None:
    """Addresses are at reserved domains, telephone numbers in the range that is kept for drama."""
    mails = {plausible(str, "email", DRAWN).partition("@")[2] for _ in range(200)}
    phones = [plausible(str, "phone", DRAWN) for _ in range(200)]

    assert mails == {"example.com", "example.net", "example.org"}
    assert all(phone.startswith("+447700900") and len(phone) == 13 for phone in phones)


def test_masks_show_of_them_what_they_show_of_others() -> None:
    """A made-up value is masked as a real one is, and not hidden whole, which would tell."""
    for kind, name in (("cpf", "cpf"), ("email", "email"), ("card_pan", "card"), ("name", "name")):
        shown = {str(mask(name)(plausible(str, kind, DRAWN))) for _ in range(50)}
        assert "***" not in shown


def test_each_type_has_its_values() -> None:
    """Numbers, dates, moments, UUIDs, members; of bytes and free text nobody can guess one."""

    class Colour(enum.Enum):
        RED = 1

    for kind in (int, Decimal, dt.date, dt.datetime, bool, UUID, Colour):
        assert type(plausible(kind, None, DRAWN)) is kind
    assert plausible(bytes, None, DRAWN) is None
    assert plausible(str, None, DRAWN) is None
    assert plausible(dt.datetime, None, DRAWN).tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("column", "normalisers", "shown", "kind"),
    [
        ("contact", ("email",), None, "email"),
        ("document", ("exact",), "cpf", "cpf"),
        ("billing_address", (), None, "address"),
        ("mobile_phone", (), None, "phone"),
        ("notes", ("exact",), "hidden", None),
    ],
)
def test_a_column_tells_its_kind(
    column: str, normalisers: tuple[str, ...], shown: str | None, kind: str | None
) -> None:
    """The index says it first, then the mask, then the words of the name."""
    assert kind_of(column, normalisers=normalisers, mask=shown) == kind
