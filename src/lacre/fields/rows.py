# SPDX-License-Identifier: Apache-2.0
"""
Row ids as text: what binds a value to its row.

Implements ``spec/field-format.md``, section "Row ids". An integer's or a UUID's text is marked as a
surrogate, which evidence may name. Does not know whether an id can be
reused; whoever declares the table does (`lacre.sqlalchemy` refuses ids that can).
"""

import json
from collections.abc import Sequence
from uuid import UUID

from lacre.audit.event import Surrogate
from lacre.errors import InvalidValue

__all__ = ["RowId", "row_text"]


RowId = str | int | UUID | Sequence["str | int | UUID"]


def row_text(row: RowId) -> str:
    """
    Return the text of *row*: a UUID as 32 lower-case hex digits, an int as shortest decimal, a
    string as it is, a composite id as a JSON array of those texts.

    Raises:
        InvalidValue: another type, an empty string, or an empty composite.
    """
    if type(row) is Surrogate:
        return row
    if type(row) is str:
        if not row:
            raise InvalidValue("a row id is not empty")
        return row
    if isinstance(row, UUID):
        return Surrogate(row.hex)
    if type(row) is int:
        return Surrogate(row)
    if isinstance(row, tuple | list) and row:
        return json.dumps(
            [row_text(part) for part in row], separators=(",", ":"), ensure_ascii=False
        )
    raise InvalidValue(
        f"a row id is a str, int, UUID or tuple of these, this one is a {type(row).__name__}",
        hint="flush or assign the primary key first",
    )
