"""What evidence says of a row, and what it keeps to itself."""

import uuid

import pytest

from lacre.audit.events import surrogates
from lacre.fields.rows import row_text

ID = uuid.UUID("12345678-1234-4123-8123-123456789abc")


@pytest.mark.parametrize("row", [42, 0, -7, 52998224725, ID, "42", "999999", ID.hex, str(ID)])
def test_a_surrogate_row_id_is_named(row: object) -> None:
    """Integers, UUIDs and short numbers: they identify a row to an operator, and nobody else."""
    assert surrogates([row_text(row)]) == [row_text(row)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        "52998224725",  # a CPF as a text key
        "529.982.247-25",
        "4111111111111111",
        "19791231",
        "ana@example.org",
        "Ana",
        "1234567",
        ("ana@example.org", 1),
        (1, 2),
        "\u0661\u0662",
        "42\n",
    ],
)
def test_a_text_row_id_that_may_name_a_person_is_not(row: object) -> None:
    """A document, card or telephone number used as a text key does not reach the log."""
    assert surrogates([row_text(row)]) == []  # type: ignore[arg-type]
