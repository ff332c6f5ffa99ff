# SPDX-License-Identifier: Apache-2.0
"""
Row ids as text: what binds a value to its row.

Implements ``spec/field-format.md``, section "Row ids". Does not know whether an id can be
reused; whoever declares the table does (`lacre.sqlalchemy` refuses ids that can).
"""

import json
from collections.abc import Sequence
from uuid import UUID

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
    if type(row) is str:
        if not row:
            raise InvalidValue("a row id is not empty")
        return row
    if type(row) is UUID or isinstance(row, UUID):
        return row.hex
    if type(row) is int:
        return str(row)
    if isinstance(row, tuple | list) and row:
        return json.dumps(
            [row_text(part) for part in row], separators=(",", ":"), ensure_ascii=False
        )
    raise InvalidValue(
        f"a row id is a str, int, UUID or tuple of these, this one is a {type(row).__name__}",
        hint="flush or assign the primary key first",
    )
